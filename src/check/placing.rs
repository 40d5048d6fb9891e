//! Where a graph's nodes run: kernels by kind, host functions with the reason.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tarsia_graph::{Graph, Kind, NodeId, Op, kernel::classify};
use tarsia_tensor::DType;
use tarsia_tile::{Program, Step};

/// A host function that a model calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostWork {
    /// Its name.
    pub function: String,
    /// Why no kernel does it.
    pub reason: &'static str,
    /// The nodes of the model that call it; empty of a program, which no longer says.
    pub nodes: Vec<String>,
    /// How many calls there are; those in the bodies of loops and branches count once.
    pub count: usize,
}

/// Counts the kernels of a graph of kernels, sub-graphs included.
pub(super) fn kernels(graph: &Graph, counts: &mut BTreeMap<String, usize>) {
    for id in graph.node_ids() {
        let kind = match &graph[id].op {
            Op::Kernel { body } => classify(body).map_or("other", |(kind, _)| kind.name()),
            // A view of what is stored.
            Op::Reshape { .. } | Op::Constant { .. } | Op::Input { .. } | Op::Host { .. } => continue,
            op if op.kind() == Kind::Control => {
                op.subgraphs().into_iter().for_each(|body| kernels(body, counts));
                op.name()
            }
            _ => "other",
        };
        *counts.entry(kind.to_owned()).or_insert(0) += 1;
    }
}

/// The host functions of a graph of kernels, sub-graphs included.
pub(super) fn host(graph: &Graph) -> Vec<HostWork> {
    let mut found: BTreeMap<(String, &'static str), (BTreeSet<String>, usize)> = BTreeMap::new();
    find_host(graph, &mut found);
    let work = found.into_iter().map(|((function, reason), (nodes, count))| {
        let nodes = nodes.into_iter().collect();
        HostWork { function, reason, nodes, count }
    });
    work.collect()
}

fn find_host(graph: &Graph, found: &mut BTreeMap<(String, &'static str), (BTreeSet<String>, usize)>) {
    for id in graph.node_ids() {
        match &graph[id].op {
            Op::Host { function, .. } => {
                let (nodes, count) = found.entry((function.clone(), reason(graph, id))).or_default();
                nodes.extend(graph[id].origin.names().map(str::to_owned));
                *count += 1;
            }
            Op::Kernel { .. } => {}
            op => op.subgraphs().into_iter().for_each(|body| find_host(body, found)),
        }
    }
}

/// Why a node runs on the host.
fn reason(graph: &Graph, id: NodeId) -> &'static str {
    let node = &graph[id];
    let operands = graph.operands(id);
    let types = || operands.iter().map(|&value| graph.ty(value));
    if types().chain(&node.types).any(|ty| ty.dtype == DType::String) {
        return "it handles strings";
    }
    let (mut given, mut told) = (BTreeSet::new(), BTreeSet::new());
    types().flat_map(|ty| &ty.shape).for_each(|dim| dim.collect_symbols(&mut given));
    node.types.iter().flat_map(|ty| &ty.shape).for_each(|dim| dim.collect_symbols(&mut told));
    if told.is_subset(&given) { NO_KERNEL } else { "the data decide the shape of its result" }
}

const NO_KERNEL: &str = "no kernel computes it";

/// Counts kernels and host functions of a program, bodies of loops and branches included.
pub(super) fn steps(program: &Program, kernels: &mut BTreeMap<String, usize>, host: &mut Vec<HostWork>) {
    for step in &program.steps {
        let name = match step {
            Step::Launch { .. } => "launch",
            Step::Host { function, .. } => {
                match host.iter_mut().find(|work| work.function == *function) {
                    Some(work) => work.count += 1,
                    None => host.push(HostWork {
                        function: function.clone(),
                        reason: "the program calls it",
                        nodes: Vec::new(),
                        count: 1,
                    }),
                }
                continue;
            }
            Step::If { then_branch, else_branch, .. } => {
                steps(then_branch, kernels, host);
                steps(else_branch, kernels, host);
                "if"
            }
            Step::Loop(step) => {
                steps(&step.body, kernels, host);
                "loop"
            }
            Step::Scan(step) => {
                steps(&step.body, kernels, host);
                "scan_loop"
            }
        };
        *kernels.entry(name.to_owned()).or_insert(0) += 1;
    }
}

/// How many constants a graph has, and their bytes; sub-graphs included.
pub(super) fn constants(graph: &Graph) -> (usize, u64) {
    let (mut count, mut bytes) = (0, 0u64);
    for id in graph.node_ids() {
        if let Op::Constant { value } = &graph[id].op {
            let size = value.dtype().bytes_of(value.count()).unwrap_or(usize::MAX);
            (count, bytes) = (count + 1, bytes.saturating_add(size as u64));
        }
        for body in graph[id].op.subgraphs() {
            let inner = constants(body);
            (count, bytes) = (count + inner.0, bytes.saturating_add(inner.1));
        }
    }
    (count, bytes)
}
