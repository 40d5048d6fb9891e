//! Tensor data in files beside the model: found, checked and mapped once each.
//!
//! A location is relative, has no `..`, and after all links are followed still lies in the model's folder. So a model from an
//! untrusted place cannot make the compiler read the user's other files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use tarsia_tensor::{Absent, Content, mapped};
use thiserror::Error;

use crate::{Weights, schema::StringStringEntryProto};

/// The external files of one model.
#[derive(Debug)]
pub(crate) struct ExternalFiles {
    folder: Option<PathBuf>,
    weights: Weights,
    maps: Mutex<BTreeMap<PathBuf, Bytes>>,
}

/// Why external data could not be had.
#[derive(Debug, Error)]
pub enum ExternalFault {
    /// The model was given as bytes, or on standard input.
    #[error("its data is in `{location}`, but the model was not read from a file, so there is no folder to look in")]
    NoFolder {
        /// The location in the model.
        location: String,
    },
    /// No location is given.
    #[error("its data is external, but no location is given")]
    NoLocation,
    /// The location is absolute, has `..`, or is empty.
    #[error("its data is in `{location}`, which is not a path inside the model's folder")]
    NotInside {
        /// The location in the model.
        location: String,
    },
    /// The location leads out of the folder through a symbolic link.
    #[error(
        "its data is in `{location}`, a link that leads out of the model's folder; put the file itself beside the model"
    )]
    LeadsOut {
        /// The location in the model.
        location: String,
    },
    /// The file cannot be opened.
    #[error("its data is in `{location}`: {error}")]
    Open {
        /// The location in the model.
        location: String,
        /// What the system says.
        error: io::Error,
    },
    /// Offset or length is not a number, or a key is given twice.
    #[error("its external data has {key} `{value}`, {reason}")]
    BadEntry {
        /// `offset` or `length`.
        key: String,
        /// The value in the model.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The length in the model is not what type and shape need.
    #[error("its external data declares {found} bytes, but its type and shape need {expected}")]
    Length {
        /// Bytes that type and shape need.
        expected: u64,
        /// Bytes that the model declares.
        found: u64,
    },
    /// The data lies beyond the end of the file.
    #[error("its data is bytes {offset} to {end} of `{location}`, which has {size} bytes")]
    Beyond {
        /// The location in the model.
        location: String,
        /// First byte.
        offset: u64,
        /// One past the last byte.
        end: u64,
        /// Size of the file.
        size: u64,
    },
}

impl ExternalFault {
    /// Whether there is no such file, or nowhere to look for it.
    fn is_absence(&self) -> bool {
        match self {
            ExternalFault::NoFolder { .. } => true,
            ExternalFault::Open { error, .. } => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

impl ExternalFiles {
    pub(crate) fn new(folder: Option<&Path>, weights: Weights) -> ExternalFiles {
        ExternalFiles { folder: folder.map(Path::to_path_buf), weights, maps: Mutex::default() }
    }

    /// The `expected` bytes that the entries of a tensor point at, a view of the mapped file. Where data may be absent and there
    /// is no such file, they are.
    pub(crate) fn view(&self, entries: &[StringStringEntryProto], expected: usize) -> Result<Content, ExternalFault> {
        let location = entry(entries, "location")?.ok_or(ExternalFault::NoLocation)?;
        let offset = number(entries, "offset")?.unwrap_or(0);
        if let Some(found) = number(entries, "length")?.filter(|&n| n != expected as u64) {
            return Err(ExternalFault::Length { expected: expected as u64, found });
        }
        let file = match self.file(location) {
            Err(fault) if self.weights == Weights::Shapes && fault.is_absence() => {
                let origin = format!("{location} at {offset}").into();
                return Ok(Content::Absent(Absent { origin, bytes: expected }));
            }
            file => file?,
        };
        let beyond = |end| ExternalFault::Beyond { location: location.into(), offset, end, size: file.len() as u64 };
        let end = offset.checked_add(expected as u64).ok_or_else(|| beyond(u64::MAX))?;
        match (usize::try_from(offset), usize::try_from(end)) {
            (Ok(from), Ok(to)) if to <= file.len() => Ok(file.slice(from..to).into()),
            _ => Err(beyond(end)),
        }
    }

    fn file(&self, location: &str) -> Result<Bytes, ExternalFault> {
        let plain =
            Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || location.contains('\0') || !plain {
            return Err(ExternalFault::NotInside { location: location.into() });
        }
        let folder = self.folder.as_ref().ok_or_else(|| ExternalFault::NoFolder { location: location.into() })?;
        let open = |error| ExternalFault::Open { location: location.into(), error };
        let path = fs::canonicalize(folder.join(location)).map_err(open)?;
        if !path.starts_with(fs::canonicalize(folder).map_err(open)?) {
            return Err(ExternalFault::LeadsOut { location: location.into() });
        }
        // A panic elsewhere cannot leave the table half-written: an entry is inserted whole.
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = maps.get(&path) {
            return Ok(bytes.clone());
        }
        let bytes = mapped::map(&path).map_err(open)?;
        maps.insert(path, bytes.clone());
        Ok(bytes)
    }
}

fn entry<'a>(entries: &'a [StringStringEntryProto], key: &str) -> Result<Option<&'a str>, ExternalFault> {
    let mut found = entries.iter().filter(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let first = found.next();
    match found.next() {
        Some(value) => Err(ExternalFault::BadEntry { key: key.into(), value: value.into(), reason: "given twice" }),
        None => Ok(first),
    }
}

fn number(entries: &[StringStringEntryProto], key: &str) -> Result<Option<u64>, ExternalFault> {
    let reason = "not a number of bytes";
    let parse = |value: &str| {
        value.trim().parse().map_err(|_| ExternalFault::BadEntry { key: key.into(), value: value.into(), reason })
    };
    entry(entries, key)?.map(parse).transpose()
}
