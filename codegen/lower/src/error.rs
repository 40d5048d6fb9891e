//! Why a graph cannot be lowered.

use tarsia_graph::Origin;
use thiserror::Error;

/// A node that no tile program can be made for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{op}` (from {}) cannot be lowered: {reason}", names(.origin))]
pub struct LowerError {
    /// The op or kernel kind.
    pub op: String,
    /// The model's nodes.
    pub origin: Origin,
    /// What stands in the way.
    pub reason: String,
}

fn names(origin: &Origin) -> String {
    let names: Vec<&str> = origin.names().collect();
    if names.is_empty() { "no node of the model".to_owned() } else { names.join(", ") }
}
