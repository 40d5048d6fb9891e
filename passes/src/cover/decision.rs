//! Why the kernels are what they are: the chosen cut of each, the candidates that lost, and the cones that are no kernels.

use serde::{Deserialize, Serialize};

/// Everything that was decided about a graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decisions {
    /// One per kernel, in node order.
    pub kernels: Vec<Decision>,
    /// Nodes that no kernel can hold.
    pub uncovered: Vec<Uncovered>,
    /// Sum of the kernels' times in seconds, sub-graphs apart.
    pub time: f64,
    /// Decisions about the sub-graphs of a control node.
    pub subgraphs: Vec<(u32, Vec<Decisions>)>,
}

/// Why one kernel is what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The kernel's node in the graph of kernels.
    pub node: u32,
    /// Its kind.
    pub kind: String,
    /// What was chosen.
    pub chosen: Candidate,
    /// What lost, best first.
    pub lost: Vec<Candidate>,
    /// Larger cones that are no kernels.
    pub refused: Vec<Refused>,
}

/// A cut that was considered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its kind, or `alias` for a reshape of a stored value.
    pub kind: String,
    /// What it computes, operands before users: op names.
    pub ops: Vec<String>,
    /// The model's nodes behind that.
    pub origin: Vec<String>,
    /// How many values it reads.
    pub operands: usize,
    /// Seconds by itself.
    pub time: f64,
    /// Seconds that the whole graph would take more with it; 0 for the chosen one.
    pub difference: f64,
}

/// A cone that is no kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Op names, operands before users.
    pub ops: Vec<String>,
    /// The model's nodes behind them.
    pub origin: Vec<String>,
    /// Why.
    pub reason: String,
}

/// A node that stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uncovered {
    /// The node in the graph of kernels.
    pub node: u32,
    /// Its op.
    pub op: String,
    /// Why no kernel holds it.
    pub reason: String,
}
