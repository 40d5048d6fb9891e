//! Where messages come from: a mapped file, a gzip file, a stream or bytes in memory, decoded without copying bulk data.
//!
//! What is not mapped is read into memory within a limit, whatever its length says. A file that is no ONNX message gets an error
//! that says what it is instead.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use prost::Message;
use tarsia_tensor::mapped;
use thiserror::Error;

use crate::{
    Limits, Problems,
    format::{self, Format},
    layout,
    schema::ModelProto,
    text::{self, TextError},
    weights::WeightError,
    wire::{self, Layout, WireError, WireFault},
};

/// Bytes of a file, and where they came from.
#[derive(Clone, Debug)]
pub struct Source {
    label: String,
    folder: Option<PathBuf>,
    bytes: Bytes,
}

/// Why a model could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be opened.
    #[error("{file}: {error}")]
    Open {
        /// The file.
        file: String,
        /// What the system says.
        error: io::Error,
    },
    /// The stream or compressed file ends with an error.
    #[error("{file}: {what}: {error}")]
    Read {
        /// The file.
        file: String,
        /// What was being done.
        what: &'static str,
        /// What went wrong.
        error: io::Error,
    },
    /// What is read into memory is too long.
    #[error("{file}: {what} passes {limit} bytes, the limit of what is read into memory; {remedy}")]
    TooLong {
        /// The file.
        file: String,
        /// What is too long.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// There is nothing in the file.
    #[error("{file}: the file is empty")]
    Empty {
        /// The file.
        file: String,
    },
    /// The file is of another kind.
    #[error("{file}: not an ONNX model but {}; {}", format.name, format.remedy)]
    OtherFormat {
        /// The file.
        file: String,
        /// What it is.
        format: Format,
    },
    /// The file ends too early.
    #[error("{file}: the file is cut short, {error}")]
    Truncated {
        /// The file.
        file: String,
        /// Where.
        error: WireError,
    },
    /// The file is not the wire form of the message asked for.
    #[error("{file}: not {expected}, or a damaged one: {error}")]
    Malformed {
        /// The file.
        file: String,
        /// What was asked for.
        expected: &'static str,
        /// Where and what.
        error: WireError,
    },
    /// The file is a model in ONNX's textual syntax, or should be.
    #[error("{file}: {error}")]
    Text {
        /// The file.
        file: String,
        /// Where and what.
        error: TextError,
    },
    /// The decoder refuses what the walk over the wire form accepted.
    #[error("{file}: {error}")]
    Decode {
        /// The file.
        file: String,
        /// What the decoder says.
        error: prost::DecodeError,
    },
    /// The message has no graph.
    #[error("{file}: not an ONNX model: it has no graph (is it cut short, or a tensor or another protobuf message?)")]
    NoGraph {
        /// The file.
        file: String,
    },
    /// The model decodes, but is not right. All that is wrong with it is listed.
    #[error("{file}: {problems}")]
    Model {
        /// The file.
        file: String,
        /// What is wrong.
        problems: Problems,
    },
    /// A tensor in a file of its own is not right.
    #[error("{file}: {error}")]
    Weight {
        /// The file.
        file: String,
        /// What is wrong.
        error: WeightError,
    },
}

/// How a gzip file begins.
const GZIP: &[u8] = b"\x1f\x8b";

/// All that a reader gives; nothing if that is more than `limit` bytes.
fn read_within(reader: impl Read, limit: u64) -> io::Result<Option<Bytes>> {
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then(|| bytes.into()))
}

impl Source {
    /// Maps a file; one that is compressed by gzip is unpacked. Its folder is where external data may lie.
    ///
    /// # Errors
    /// If it cannot be opened, is not a regular file, is empty, or cannot be unpacked within the limits.
    pub fn open(path: &Path, limits: &Limits) -> Result<Source, ReadError> {
        let label = path.display().to_string();
        let bytes = mapped::map(path).map_err(|error| ReadError::Open { file: label.clone(), error })?;
        let folder = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        Source { label, folder: folder.map(Path::to_path_buf), bytes }.unpacked(limits)
    }

    /// Reads a stream to its end, and unpacks it if it is compressed by gzip. There is no folder: external data is refused.
    ///
    /// # Errors
    /// If it cannot be read, is empty, or passes the limits.
    pub fn from_reader(label: &str, reader: impl Read, limits: &Limits) -> Result<Source, ReadError> {
        let label = label.to_string();
        let failed = |error| ReadError::Read { file: label.clone(), what: "reading", error };
        let remedy = "write it to a file, which is mapped, and give that";
        let limit = limits.max_read_bytes();
        let bytes = read_within(reader, limit).map_err(failed)?;
        let bytes =
            bytes.ok_or_else(|| ReadError::TooLong { file: label.clone(), what: "the input", limit, remedy })?;
        Source { label, folder: None, bytes }.unpacked(limits)
    }

    fn unpacked(mut self, limits: &Limits) -> Result<Source, ReadError> {
        if self.bytes.starts_with(GZIP) {
            let file = || self.label.clone();
            let (limit, remedy) = (limits.max_read_bytes(), "unpack it to a file, which is mapped, and give that");
            let unpacked = read_within(MultiGzDecoder::new(&*self.bytes), limit).map_err(|error| ReadError::Read {
                file: file(),
                what: "unpacking the gzip file",
                error,
            })?;
            let what = "the gzip file unpacked";
            self.bytes = unpacked.ok_or_else(|| ReadError::TooLong { file: file(), what, limit, remedy })?;
        }
        if self.bytes.is_empty() {
            return Err(ReadError::Empty { file: self.label });
        }
        Ok(self)
    }

    /// Bytes in memory, as they are. `folder` is where external data may lie; without one, external data is refused.
    pub fn from_bytes(bytes: Bytes, folder: Option<&Path>) -> Source {
        Source { label: "model in memory".to_string(), folder: folder.map(Path::to_path_buf), bytes }
    }

    /// What messages call this source.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The folder in which external data may lie.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Decodes a model, or parses a textual one; the raw data of a binary one are views of this source.
    ///
    /// # Errors
    /// If this is no model, or a truncated or damaged one, or its messages exceed the limit.
    pub fn model(&self, limits: &Limits) -> Result<ModelProto, ReadError> {
        if text::recognise(&self.bytes) {
            return text::parse(&self.bytes, limits)
                .map_err(|error| ReadError::Text { file: self.label.clone(), error });
        }
        let model: ModelProto = self.decode("an ONNX model", &layout::MODEL, limits)?;
        if model.graph.is_none() {
            return Err(match format::recognise(&self.bytes) {
                Some(format) => ReadError::OtherFormat { file: self.label.clone(), format },
                None => ReadError::NoGraph { file: self.label.clone() },
            });
        }
        Ok(model)
    }

    pub(crate) fn decode<M: Message + Default>(
        &self,
        expected: &'static str,
        layout: &'static Layout,
        limits: &Limits,
    ) -> Result<M, ReadError> {
        let file = || self.label.clone();
        if self.bytes.is_empty() {
            return Err(ReadError::Empty { file: file() });
        }
        wire::scan(&self.bytes, layout, limits.max_structure_bytes).map_err(|error| self.explain(expected, error))?;
        M::decode(self.bytes.clone()).map_err(|error| ReadError::Decode { file: file(), error })
    }

    /// Another format, if the bytes look like one; else a cut file, if the field that passes its end is a known one.
    fn explain(&self, expected: &'static str, error: WireError) -> ReadError {
        let file = self.label.clone();
        match format::recognise(&self.bytes) {
            Some(format) => ReadError::OtherFormat { file, format },
            None if matches!(error.fault, WireFault::Truncated { .. }) && !error.path.is_empty() => {
                ReadError::Truncated { file, error }
            }
            None => ReadError::Malformed { file, expected, error },
        }
    }
}
