//! Covering: from a graph of core ops to a graph of kernels, by technology mapping as in logic synthesis.
//!
//! ```text
//! Graph ─prepare─► network of classes ─cut─► a few best cones per class ─select─► stored values ─build─► Graph of kernels
//! ```
//!
//! A kernel is a *cone*: a value and what is computed inside to get it, down to values that are stored. Each class keeps its
//! priority cuts, the few cones with the least area flow (time of the cone and of what it reads, each value shared among its
//! users). The selection then minimises the exact total, in which stored values count once and values inside several kernels
//! count in each. What a kernel can be is `tarsia_graph::kernel::legal`; what it costs is the caller's [`CostModel`].
//!
//! In the result every computing node is `Op::Kernel`, besides inputs, constants, reshapes (other names for stored values),
//! control and host ops (with their sub-graphs covered) and what handles strings.

mod build;
mod cone;
mod cut;
mod decision;
mod extract;
mod network;
mod prepare;
mod select;
mod work;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use tarsia_graph::{Graph, KernelKind};
use tarsia_tensor::Dim;

pub use decision::{Candidate, Decision, Decisions, Refused, Uncovered};
pub use extract::ByKernels;
pub use tarsia_graph::kernel::legal;
pub use work::{CostModel, CutWork, Rates};

use crate::PassError;
use cut::Cutter;
use network::Network;
use select::Selection;

/// What the cover may do, and how hard it tries.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Kinds of kernel that the target has.
    pub kinds: BTreeSet<KernelKind>,
    /// Representative values of symbols by name, for costs.
    pub hints: BTreeMap<String, i64>,
    /// Representative value of symbols without a hint.
    pub default_size: i64,
    /// Cuts that a class keeps.
    pub cuts: usize,
    /// Cones that are considered at a time while a cut is put together.
    pub beam: usize,
    /// Most ops in a kernel.
    pub body: usize,
    /// Rounds of improvement.
    pub rounds: usize,
    /// Refused cones that are remembered for each value.
    pub refusals: usize,
}

impl Default for Options {
    fn default() -> Options {
        use KernelKind::{Attention, Contract, Conv, Index, Map, Order, Routed, Rows, Window};
        Options {
            kinds: [Map, Rows, Contract, Conv, Window, Attention, Routed, Index, Order].into(),
            hints: BTreeMap::new(),
            default_size: 64,
            cuts: 6,
            beam: 12,
            body: 64,
            rounds: 4,
            refusals: 4,
        }
    }
}

impl Options {
    /// The representative value of a size.
    pub(crate) fn size(&self, dim: &Dim) -> f64 {
        let hint = |name: &str| self.hints.get(name).copied().unwrap_or(self.default_size);
        dim.eval(&|symbol| Some(hint(symbol.name()))).unwrap_or(self.default_size) as f64
    }
}

/// Covers a graph with kernels.
///
/// # Errors
/// If a rewritten node does not type-check, which is a defect.
pub fn cover(graph: &Graph, model: &dyn CostModel, options: &Options) -> Result<(Graph, Decisions), PassError> {
    let prepared = prepare::prepare(graph, options).map_err(PassError::in_pass("cover"))?;
    let network = Network::of(&prepared, options);
    let cuts = Cutter::new(&network, model, options).all();
    let selection = Selection::new(&network, &cuts, options.rounds);
    build::build(&prepared, &network, selection, model, options)
}
