//! Why a graph cannot be lowered.

use tarsia_graph::Origin;
use thiserror::Error;

/// A node that no tile program can be made for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}{reason}", subject(.op, .origin, *.asked))]
pub struct LowerError {
    /// The op or kernel kind.
    pub op: String,
    /// The model's nodes.
    pub origin: Origin,
    /// What stands in the way.
    pub reason: String,
    /// Whether it is not the graph but what was asked for that cannot be done.
    pub asked: bool,
}

fn subject(op: &str, origin: &Origin, asked: bool) -> String {
    let names: Vec<&str> = origin.names().collect();
    match names.is_empty() {
        true if asked => String::new(),
        true => format!("`{op}` (from no node of the model) cannot be lowered: "),
        false => format!("`{op}` (from {}) cannot be lowered: ", names.join(", ")),
    }
}
