//! Files as shared bytes: memory-mapped, never copied.

use std::{fs, io, path::Path};

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a regular file. Its pages are read when they are touched; the map lives as long as any part of the result.
///
/// # Errors
/// If the file cannot be opened or mapped, or is not a regular file (opening a pipe would wait for ever).
pub(crate) fn map(path: &Path) -> io::Result<Bytes> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = fs::File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private to this process and read only, so nothing here writes through it. Another process that changes
    // the file could change what is read, which then decodes to something else or fails a check, because every use goes through
    // bounds taken from the map's own length; one that shortens the file makes access fault. No mapping can exclude that:
    // it is the documented condition of use that model files are not modified while they are in use.
    let map = unsafe { Mmap::map(&file) }?;
    Ok(Bytes::from_owner(map))
}
