//! Why an evaluation fails.

use tarsia_tensor::{BindError, DType, Shape, TensorError, host::HostError};
use thiserror::Error;

use crate::{Graph, GraphError, NodeId, TypeError};

/// Why a graph cannot be evaluated.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum EvalError {
    /// The number of inputs is wrong.
    #[error("the graph has {expected} inputs, but {found} were given")]
    InputCount {
        /// Declared inputs.
        expected: usize,
        /// Tensors given.
        found: usize,
    },
    /// An input has another element type or rank than declared.
    #[error("the input `{name}` must be {expected}, but {found} was given")]
    Input {
        /// Name of the input.
        name: String,
        /// Declared type.
        expected: String,
        /// Type of the tensor.
        found: String,
    },
    /// A size of an input contradicts its declaration or the sizes of other inputs.
    #[error("the input `{name}` does not fit: {error}")]
    Bind {
        /// Name of the input, or `all`.
        name: String,
        /// The contradiction.
        error: BindError,
    },
    /// The graph is not valid; the verifier says more.
    #[error("the output `{0}` has no value")]
    Output(String),
    /// A node fails.
    #[error("%{} = {op}{}: {fault}", node.index(), from(origin))]
    Node {
        /// The node.
        node: NodeId,
        /// Its op.
        op: &'static str,
        /// The model's nodes that it comes from.
        origin: Vec<String>,
        /// What happened.
        fault: Box<Fault>,
    },
}

/// Why an op cannot be computed.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Fault {
    /// Operands do not fit the op.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A size has no value or contradicts another.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Data cannot be made into a tensor.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A host function fails.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A sub-graph fails.
    #[error("in its body: {0}")]
    Body(Box<EvalError>),
    /// An expansion does not fit its operands.
    #[error("its expansion does not fit: {0}")]
    Expansion(Box<GraphError>),
    /// An index leaves its axis.
    #[error("index {index} at element {place} is not in 0..{size}")]
    Index {
        /// The index.
        index: i64,
        /// Its position in the indices, row-major.
        place: usize,
        /// The size of the indexed axis.
        size: usize,
    },
    /// Sizes do not fit in a way that the shape rule does not see.
    #[error("{0}")]
    Size(String),
    /// An attribute is not valid.
    #[error("{0}")]
    Op(String),
    /// The operation is not defined for this element type.
    #[error("it is not defined for {0}")]
    Unsupported(DType),
    /// An operand does not exist.
    #[error("an operand does not exist")]
    NoOperand,
    /// The number of results is not that of the declared types.
    #[error("it has {found} results instead of {expected}")]
    ResultCount {
        /// Declared results.
        expected: usize,
        /// Results made.
        found: usize,
    },
    /// A result has another type than declared.
    #[error("its result should be {expected}, but is {found}")]
    Result {
        /// Declared type.
        expected: String,
        /// Type of the result.
        found: String,
    },
    /// The results would be too large.
    #[error("results of shape {shapes:?} exceed the limit of {limit} elements; raise the limit if they are meant")]
    TooLarge {
        /// Result shapes.
        shapes: Vec<Shape>,
        /// The limit.
        limit: usize,
    },
    /// Too many loop iterations.
    #[error("more than {0} loop iterations; raise the limit if they are meant")]
    TooLong(u64),
}

impl EvalError {
    /// A fault of a node of `graph`.
    pub(super) fn at(graph: &Graph, node: NodeId, fault: Fault) -> EvalError {
        let origin = graph[node].origin.names().map(str::to_owned).collect();
        EvalError::Node { node, op: graph[node].op.name(), origin, fault: Box::new(fault) }
    }
}

impl From<tarsia_tensor::EvalError> for Fault {
    fn from(error: tarsia_tensor::EvalError) -> Fault {
        Fault::Bind(error.into())
    }
}

impl From<EvalError> for Fault {
    fn from(error: EvalError) -> Fault {
        Fault::Body(Box::new(error))
    }
}

impl From<GraphError> for Fault {
    fn from(error: GraphError) -> Fault {
        Fault::Expansion(Box::new(error))
    }
}

fn from(origin: &[String]) -> String {
    if origin.is_empty() { String::new() } else { format!(" (from {})", origin.join(", ")) }
}
