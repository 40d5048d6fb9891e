//! All passes: from the graph as it was exported to the graph of kernels.

use tarsia_graph::Graph;

use crate::{
    PassError, Report,
    cover::{self, ByKernels, CostModel, Decisions, cover},
    optimise::{self, optimise},
    region::Sizes,
    saturate::Limits,
};

/// How the passes work.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Limits of saturation per region.
    pub limits: Limits,
    /// How large regions are.
    pub sizes: Sizes,
    /// What the cover may do.
    pub cover: cover::Options,
    /// Saturate every region, also those that are equal to an earlier one.
    pub without_reuse: bool,
}

/// Simplifies, saturates region by region, chooses terms by the time of kernels, and covers the whole.
///
/// # Errors
/// If a pass has a defect.
pub fn compile(
    graph: &Graph,
    model: &dyn CostModel,
    settings: &Settings,
) -> Result<(Graph, Report, Decisions), PassError> {
    let extract = ByKernels { model, options: &settings.cover };
    let options = optimise::Options {
        limits: settings.limits,
        sizes: settings.sizes,
        extract: &extract,
        reuse: !settings.without_reuse,
        ..optimise::Options::default()
    };
    let (graph, report) = optimise(graph, &options)?;
    let (kernels, decisions) = cover(&graph, model, &settings.cover)?;
    Ok((kernels, report, decisions))
}
