//! The compiled file, `model.tarsia`: a program and its constants, mapped into memory and verified before it is given out.
//!
//! ```text
//! 0   magic `TARSIA\r\n`              8 bytes
//! 8   version, checksum of the header  2 × u32, little-endian
//! 16  bytes of the header, of the file 2 × u64
//! 32  header: the program (protobuf), without data
//! …   constants, each at a multiple of 64 bytes from the first such multiple behind the header
//! ```
//! Constants stay in the map: loading touches the header only. The checksum covers the header; data are not read at load.

mod decode;
mod encode;
mod schema;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message;
use tarsia_tensor::Absent;
use thiserror::Error;

use crate::{
    Machine, Program,
    machine::MachineError,
    verify::{self, Faults, Stage},
};

/// How a compiled file begins.
pub const MAGIC: [u8; 8] = *b"TARSIA\r\n";
/// Version of the format; files of another one are refused.
pub const VERSION: u32 = 1;
/// Bytes before the header.
const PREFIX: usize = 32;
/// Constants start at multiples of this.
const ALIGNMENT: usize = 64;

/// What a file may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest header in bytes. In memory it takes up to a hundred times as much.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { header_bytes: 64 << 20 }
    }
}

/// Why a file cannot be written or read.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// The operating system says no.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A constant's data are not there.
    #[error(
        "{0}: a model that was compiled from the shapes of its weights cannot be saved; compile it with its weights"
    )]
    Absent(Absent),
    /// Some other kind of file.
    #[error("this is not a compiled model: it does not begin with `TARSIA`")]
    Magic,
    /// Written by another version.
    #[error("the file has format version {found}, this program reads version {VERSION}: compile the model again")]
    Version {
        /// The file's.
        found: u32,
    },
    /// Cut off, or something was appended.
    #[error("the file is damaged: it should have {expected} bytes and has {found}")]
    Length {
        /// Bytes that it says it has.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The header is not what was written.
    #[error("the file is damaged: the checksum of its header is {found:08x}, not {expected:08x}")]
    Checksum {
        /// As written in the file.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// The header is larger than allowed.
    #[error("the file's header has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// The header does not describe a program.
    #[error("the file is damaged: {0}")]
    Malformed(String),
    /// The program's machine is not known.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The program breaks rules.
    #[error("the file's program cannot be run: {0}")]
    Faults(#[from] Box<Faults>),
}

/// Writes a program. The file appears as a whole or not at all.
///
/// # Errors
/// If the file cannot be written, or the program is nested too deeply for the format.
pub fn save(program: &Program, path: &Path) -> Result<(), ArtifactError> {
    let io = |error| ArtifactError::Io { path: path.to_owned(), error };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = write_file(program, &temporary).and_then(|()| std::fs::rename(&temporary, path).map_err(io));
    if written.is_err() {
        // Whatever is left of it is of no use; that it cannot be removed is no further news.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn write_file(program: &Program, path: &Path) -> Result<(), ArtifactError> {
    let io = |error| ArtifactError::Io { path: path.to_owned(), error };
    let file = File::create(path).map_err(io)?;
    let mut out = BufWriter::new(file);
    write(program, &mut out).map_err(|error| match error {
        ArtifactError::Io { error, .. } => io(error),
        other => other,
    })?;
    let file = out.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)
}

/// Writes a program to anything.
///
/// # Errors
/// As [`save`].
pub fn write(program: &Program, out: &mut dyn Write) -> Result<(), ArtifactError> {
    let io = |error| ArtifactError::Io { path: PathBuf::new(), error };
    if let Some(absent) = program.missing() {
        return Err(ArtifactError::Absent(absent.clone()));
    }
    let (header, constants) = encode::encode(program);
    let header = header.encode_to_vec();
    // Protobuf readers limit nesting: what could not be read back is not written.
    schema::File::decode(header.as_slice()).map_err(|error| ArtifactError::Malformed(error.to_string()))?;
    let start = (PREFIX + header.len()).next_multiple_of(ALIGNMENT);
    let end = constants.last().map_or(start, |(offset, data)| start + offset + data.len());
    out.write_all(&MAGIC).map_err(io)?;
    out.write_all(&VERSION.to_le_bytes()).map_err(io)?;
    out.write_all(&crc32fast::hash(&header).to_le_bytes()).map_err(io)?;
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    out.write_all(&(end as u64).to_le_bytes()).map_err(io)?;
    out.write_all(&header).map_err(io)?;
    let mut at = PREFIX + header.len();
    for (offset, data) in constants {
        const ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];
        let gap = start + offset - at;
        out.write_all(&ZEROS[..gap]).map_err(io)?;
        out.write_all(&data).map_err(io)?;
        at = start + offset + data.len();
    }
    if at < start {
        out.write_all(&[0; ALIGNMENT][..start - at]).map_err(io)?;
    }
    out.flush().map_err(io)
}

/// Reads a program for one of the built-in machines; its constants are views of the mapped file.
///
/// # Errors
/// If the file cannot be read, is damaged, asks for more than the limits, or its program breaks the rules of its machine.
pub fn load(path: &Path, limits: &Limits) -> Result<Program, ArtifactError> {
    let program = read(map(path)?, limits)?;
    let machine = Machine::builtin(&program.target)?;
    verified(program, &machine)
}

/// Reads a program from the bytes of a file, for a machine that is given, or for a built-in one of another name.
///
/// # Errors
/// As [`load`].
pub fn read_for(file: Bytes, limits: &Limits, machine: &Machine) -> Result<Program, ArtifactError> {
    let program = read(file, limits)?;
    if program.target == machine.name {
        return verified(program, machine);
    }
    let machine = Machine::builtin(&program.target)?;
    verified(program, &machine)
}

fn verified(program: Program, machine: &Machine) -> Result<Program, ArtifactError> {
    verify::verify(&program, machine, Stage::Synchronised).map_err(Box::new)?;
    Ok(program)
}

/// The file's bytes, mapped.
fn map(path: &Path) -> Result<Bytes, ArtifactError> {
    tarsia_tensor::mapped::map(path).map_err(|error| ArtifactError::Io { path: path.to_owned(), error })
}

/// Reads a program from the bytes of a file, without verifying it.
///
/// # Errors
/// If the bytes are damaged or ask for more than the limits.
pub fn read(file: Bytes, limits: &Limits) -> Result<Program, ArtifactError> {
    let found = file.len() as u64;
    if !file.starts_with(&MAGIC[..MAGIC.len().min(file.len())]) {
        return Err(ArtifactError::Magic);
    }
    let short = || ArtifactError::Length { expected: PREFIX as u64, found };
    let field =
        |at: usize| file.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or_else(short);
    let long =
        |at: usize| file.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes).ok_or_else(short);
    let version = field(8)?;
    if version != VERSION {
        return Err(ArtifactError::Version { found: version });
    }
    let (checksum, header, expected) = (field(12)?, long(16)?, long(24)?);
    if expected != found {
        return Err(ArtifactError::Length { expected, found });
    }
    let bytes = usize::try_from(header).ok().filter(|bytes| *bytes <= limits.header_bytes);
    let bytes = bytes.ok_or(ArtifactError::TooLarge { bytes: header, limit: limits.header_bytes })?;
    let end = PREFIX.checked_add(bytes).filter(|end| *end <= file.len());
    let end = end.ok_or(ArtifactError::Length { expected: header.saturating_add(PREFIX as u64), found })?;
    let header = &file[PREFIX..end];
    let sum = crc32fast::hash(header);
    if sum != checksum {
        return Err(ArtifactError::Checksum { expected: checksum, found: sum });
    }
    let header = schema::File::decode(header).map_err(|error| ArtifactError::Malformed(error.to_string()))?;
    let data = file.slice(end.next_multiple_of(ALIGNMENT).min(file.len())..);
    decode::decode(&header, data).map_err(ArtifactError::Malformed)
}
