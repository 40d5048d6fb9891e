//! Which graphs are kernels: the shapes of body that code generation can turn into one tile kernel.
//!
//! A body has an *anchor* (the one op that is neither point-wise nor a movement) or none, and around it point-wise ops and
//! movements whose indices stay affine. Covering asks [`classify`] whether a cut is legal, lowering asks it what to generate.
//!
//! | kind | anchor | before it | after it |
//! |---|---|---|---|
//! | `map` | none | | |
//! | `rows` | reductions, scans of one set of axes; softmax, norms | map | map |
//! | `contract` | one contraction | movements, conversions | map |
//! | `conv` | one convolution | | map without movements |
//! | `window` | one pooling | | map without movements |
//! | `attention` | one attention | movements; the mask: map | |
//! | `routed` | one routed contraction | | map without movements |
//! | `index` | one gather or scatter | | map without movements |
//! | `order` | one sort or selection | | |

mod legal;
mod trace;

use std::fmt;

pub use legal::{expanded, legal, moves_operand};
pub use trace::{JOINED, Trace};

use crate::{Graph, Kind, NodeId, Op};

/// What code generation does with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KernelKind {
    /// Element by element.
    Map,
    /// Map and reductions along the same axes.
    Rows,
    /// Matrix product with prologue and epilogue.
    Contract,
    /// Convolution with epilogue.
    Conv,
    /// Pooling with epilogue.
    Window,
    /// Scores, softmax and weighted sum without storing the scores.
    Attention,
    /// Matrix products that choose their weights.
    Routed,
    /// Gather or scatter.
    Index,
    /// Sort or selection.
    Order,
}

impl KernelKind {
    /// The name in texts.
    pub fn name(self) -> &'static str {
        match self {
            KernelKind::Map => "map",
            KernelKind::Rows => "rows",
            KernelKind::Contract => "contract",
            KernelKind::Conv => "conv",
            KernelKind::Window => "window",
            KernelKind::Attention => "attention",
            KernelKind::Routed => "routed",
            KernelKind::Index => "index",
            KernelKind::Order => "order",
        }
    }

    /// The kind that an op anchors; `None` for ops that are no anchor.
    pub fn anchored_by(op: &Op) -> Option<KernelKind> {
        Some(match op {
            Op::Reduce { .. } | Op::ArgReduce { .. } | Op::Scan { .. } => KernelKind::Rows,
            Op::Softmax { .. } | Op::LayerNorm { .. } | Op::RmsNorm { .. } => KernelKind::Rows,
            Op::Contract { .. } => KernelKind::Contract,
            Op::Conv { .. } => KernelKind::Conv,
            Op::WindowReduce { .. } => KernelKind::Window,
            Op::Attention { .. } => KernelKind::Attention,
            Op::Routed { .. } => KernelKind::Routed,
            Op::Gather { .. } | Op::TakeAlong { .. } | Op::ScatterRows { .. } | Op::ScatterAlong { .. } => {
                KernelKind::Index
            }
            Op::Sort { .. } | Op::TopK { .. } => KernelKind::Order,
            _ => return None,
        })
    }
}

impl fmt::Display for KernelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind of kernel that `body` is, and its anchors.
///
/// # Errors
/// Why it is none, in words.
pub fn classify(body: &Graph) -> Result<(KernelKind, Vec<NodeId>), String> {
    let mut found: Option<KernelKind> = None;
    let mut anchors = Vec::new();
    for id in body.node_ids() {
        let op = &body[id].op;
        if let Some(kind) = KernelKind::anchored_by(op) {
            match found {
                None => found = Some(kind),
                Some(KernelKind::Rows) if kind == KernelKind::Rows => {}
                Some(other) => return Err(format!("a {other} and a {kind} cannot share a kernel")),
            }
            anchors.push(id);
        } else if matches!(op.kind(), Kind::Control | Kind::Host) {
            return Err(format!("`{}` is no part of a kernel", op.name()));
        }
    }
    Ok((found.unwrap_or(KernelKind::Map), anchors))
}
