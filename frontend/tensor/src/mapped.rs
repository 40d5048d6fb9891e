//! Files as shared bytes: memory-mapped, never copied.
//!
//! A part of a map that is not needed for a while can be given back to the system with [`release`]: a compiler that reads
//! weights once, to rearrange them, holds them in memory once.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use memmap2::{Mmap, UncheckedAdvice};

/// All maps that are alive, by address.
static MAPS: Mutex<BTreeMap<usize, Weak<Mmap>>> = Mutex::new(BTreeMap::new());

/// A map's owner among its bytes.
struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        maps().remove(&(self.0.as_ptr() as usize));
    }
}

fn maps() -> MutexGuard<'static, BTreeMap<usize, Weak<Mmap>>> {
    MAPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Maps a regular file. Its pages are read when they are touched; the map lives as long as any part of the result.
///
/// # Errors
/// If the file cannot be opened or mapped, or is not a regular file (opening a pipe would wait for ever).
pub fn map(path: &Path) -> io::Result<Bytes> {
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
    let map = Arc::new(unsafe { Mmap::map(&file) }?);
    maps().insert(map.as_ptr() as usize, Arc::downgrade(&map));
    Ok(Bytes::from_owner(Owner(map)))
}

/// Gives the memory behind `bytes` back to the system if they are part of a mapped file; they are read again from the file
/// (or what the system keeps of it) when they are next touched. Other bytes are left alone.
pub fn release(bytes: &[u8]) {
    let start = bytes.as_ptr() as usize;
    let found = maps().range(..=start).next_back().and_then(|(&first, map)| Some((first, map.upgrade()?)));
    let Some((first, map)) = found else { return };
    let offset = start - first;
    if bytes.is_empty() || offset.checked_add(bytes.len()).is_none_or(|end| end > map.len()) {
        return;
    }
    // SAFETY: the pages are of a private read-only map of a file, so that dropping them loses nothing. Advice that the system
    // refuses changes nothing either.
    let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_bytes_read_the_same() {
        let path = std::env::temp_dir().join(format!("tarsia-mapped-{}", std::process::id()));
        let content: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        fs::write(&path, &content).expect("the temporary folder is writable");
        let bytes = map(&path).expect("a regular file");
        for part in [0..bytes.len(), 5000..50_001, 99_999..100_000, 7..7] {
            assert_eq!(bytes[..], content[..]);
            release(&bytes[part]);
        }
        assert_eq!(bytes[..], content[..]);
        release(&content);
        assert_eq!(content[1000], (1000 % 251) as u8, "memory that is no map is left alone");
        let first = bytes.as_ptr() as usize;
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(part[..], content[10..20]);
        assert!(maps().contains_key(&first));
        drop(part);
        assert!(!maps().contains_key(&first));
        fs::remove_file(&path).expect("it was written here");
        assert!(map(&std::env::temp_dir()).is_err(), "a folder is no file");
    }
}
