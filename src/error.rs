//! What can go wrong between a model file and its results.

use std::path::PathBuf;

use tarsia_graph::GraphError;
use tarsia_lower::LowerError;
use tarsia_onnx::{ImportError, ReadError};
use tarsia_runtime::RunError;
use tarsia_sim::SimError;
use thiserror::Error;

use crate::tensors::FileError;

/// An error of compiling or running a model. Errors of the user's files and arguments and errors of Tarsia itself have
/// different exit codes: see [`Error::is_internal`].
#[derive(Debug, Error)]
pub enum Error {
    /// The model file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The model has operators, attributes or types that cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A tensor file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be read or written.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A dump that does not parse or verify.
    #[error("{}: {reason}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// Arguments that do not fit the model.
    #[error("{0}")]
    Usage(String),
    /// The run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The simulation failed.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// The reference evaluation failed.
    #[error(transparent)]
    Eval(#[from] tarsia_graph::eval::EvalError),
    /// Rewriting or covering failed.
    #[error("internal error in {phase}: {reason}")]
    Pass {
        /// The phase.
        phase: &'static str,
        /// What failed.
        reason: String,
    },
    /// Some nodes have no tile program.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Lower(Vec<LowerError>),
    /// A graph cannot be built.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Results are not what they should be.
    #[error("{0}")]
    Mismatch(String),
}

impl Error {
    /// Whether Tarsia is at fault (exit code 1) rather than the user's input (exit code 2).
    pub fn is_internal(&self) -> bool {
        match self {
            Error::Lower(errors) => errors.iter().any(|error| !error.asked),
            Error::Pass { .. } | Error::Graph(_) | Error::Mismatch(_) => true,
            _ => false,
        }
    }
}
