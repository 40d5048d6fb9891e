//! What can go wrong in a pass.

use tarsia_graph::GraphError;
use thiserror::Error;

/// Why a pass gave up. All of these are defects of the compiler: a pass takes any verified graph.
#[derive(Debug, Error)]
pub enum PassError {
    /// A rewritten node does not type-check.
    #[error("{pass}: {source}")]
    Graph {
        /// The pass.
        pass: &'static str,
        /// What the graph says.
        source: GraphError,
    },
    /// An op cannot be expressed in the e-graph.
    #[error("`{0}` cannot stand in an e-graph")]
    Inexpressible(&'static str),
    /// A class has no node that can be extracted.
    #[error("no finite term for the e-class of {0}")]
    NoTerm(String),
    /// An e-node does not make an op.
    #[error("the e-node `{0}` is not an op")]
    NotAnOp(String),
}

impl PassError {
    /// Wraps a graph error with the name of the pass.
    pub fn in_pass(pass: &'static str) -> impl Fn(GraphError) -> PassError {
        move |source| PassError::Graph { pass, source }
    }
}
