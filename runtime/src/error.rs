//! What can go wrong when a program is bound or run.

use tarsia_tensor::{Absent, BindError, DType, TensorError, host::HostError};
use tarsia_tile::PlanError;
use thiserror::Error;

use crate::cpu::IsaError;

/// Why a program cannot be bound or run.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RunError {
    /// The number of inputs is wrong.
    #[error("the program takes {expected} inputs ({names}), but {found} were given")]
    InputCount {
        /// How many it takes.
        expected: usize,
        /// Their names.
        names: String,
        /// How many were given.
        found: usize,
    },
    /// An input has another element type.
    #[error("the input `{name}` must be {expected}, but {found} was given")]
    InputType {
        /// Its name.
        name: String,
        /// Its element type.
        expected: DType,
        /// The type given.
        found: DType,
    },
    /// An input has another number of axes.
    #[error("the input `{name}` must have the shape [{expected}], but {found:?} was given")]
    InputRank {
        /// Its name.
        name: String,
        /// Its shape.
        expected: String,
        /// The shape given.
        found: Vec<usize>,
    },
    /// An input has another size on an axis.
    #[error("axis {axis} of the input `{name}` must be `{expected}`, but has {found} elements: {reason}")]
    InputSize {
        /// Its name.
        name: String,
        /// The axis.
        axis: usize,
        /// The expression of its size.
        expected: String,
        /// The size given.
        found: usize,
        /// What contradicts it.
        reason: String,
    },
    /// The bytes given for an input or output are not as many as its shape needs.
    #[error("`{name}` takes {expected} bytes, but {found} were given")]
    Bytes {
        /// Name of the input or output.
        name: String,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A loop goes on and on.
    #[error("the loop of step {step} has not ended after {limit} iterations; raise the limit if that is meant")]
    Iterations {
        /// Position of the step.
        step: usize,
        /// The limit.
        limit: u64,
    },
    /// A size of the program cannot be computed.
    #[error("{place}: {error}")]
    Size {
        /// Where the size occurs.
        place: String,
        /// Why.
        error: BindError,
    },
    /// Memory cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// More memory than allowed, or than there is.
    #[error(
        "running the program takes {needed} bytes, more than the limit of {limit}; raise the limit or use smaller inputs"
    )]
    Memory {
        /// Bytes needed.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The data of a constant are not there.
    #[error(
        "the program cannot be run, because it was compiled from the shapes of its weights: {absent} (constant `{constant}`); \
         compile the model with its weights"
    )]
    Absent {
        /// Name of its buffer.
        constant: String,
        /// What is missing.
        absent: Absent,
    },
    /// The program is not what the verifier accepts.
    #[error("the program is not valid: {place}: {reason}")]
    Malformed {
        /// Which kernel, step or buffer.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A kernel failed, for instance because an index is out of range.
    #[error("the kernel `{kernel}`, which computes {origin}, failed: {reason}")]
    Kernel {
        /// Its name.
        kernel: String,
        /// The model's nodes.
        origin: String,
        /// What happened.
        reason: String,
    },
    /// The sizes of the inputs do not fit together.
    #[error("the sizes of the inputs do not fit together in {origin}: {reason}; the sizes are {sizes}")]
    Sizes {
        /// The model's nodes.
        origin: String,
        /// The rule that is broken.
        reason: String,
        /// All sizes by name.
        sizes: String,
    },
    /// A host function failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A loop, scan or branch cannot go on.
    #[error("step {step}: {reason}")]
    Control {
        /// Which step.
        step: usize,
        /// What happened.
        reason: String,
    },
    /// A result cannot be made into a tensor.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The instruction set cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
}
