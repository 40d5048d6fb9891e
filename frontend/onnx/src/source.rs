//! Where messages come from: a mapped file or bytes in memory, decoded without copying bulk data.
//!
//! A file that is no ONNX message gets an error that says what it is instead.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message;
use tarsia_tensor::mapped;
use thiserror::Error;

use crate::{
    Limits, Problems,
    format::{self, Format},
    layout,
    schema::ModelProto,
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

impl Source {
    /// Maps a file. Its folder is where external data may lie.
    ///
    /// # Errors
    /// If it cannot be opened, is not a regular file, or is empty.
    pub fn open(path: &Path) -> Result<Source, ReadError> {
        let file = path.display().to_string();
        let bytes = mapped::map(path).map_err(|error| ReadError::Open { file: file.clone(), error })?;
        if bytes.is_empty() {
            return Err(ReadError::Empty { file });
        }
        let folder = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        Ok(Source { label: file, folder: folder.map(Path::to_path_buf), bytes })
    }

    /// Bytes in memory. `folder` is where external data may lie; without one, external data is refused.
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

    /// Decodes a model; its raw data are views of this source.
    ///
    /// # Errors
    /// If this is no model, or a truncated or damaged one, or its messages exceed the limit.
    pub fn model(&self, limits: &Limits) -> Result<ModelProto, ReadError> {
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
