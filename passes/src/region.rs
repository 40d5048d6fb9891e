//! Cutting a graph into regions that are optimised on their own, and putting the results back.
//!
//! ```text
//! nodes in order ──► intervals between ops that no e-graph takes ──► regions of bounded size, cut where few values cross
//! ```
//!
//! An interval of a topological order is convex, so the regions form no cycle. A region is a graph of its own: what it
//! reads from outside are its inputs, weights among them, so that the layers of a model give *equal* regions; each
//! different one is optimised once. A node's origin in a region is its number there, and is translated back.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, Kind, NodeId, Op, Origin, Value};
use tarsia_tensor::Tensor;

use crate::language::{Attribute, is_expressible};

/// How large regions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// No cut before this many nodes.
    pub low: usize,
    /// A cut at this many nodes at the latest.
    pub high: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { low: 24, high: 320 }
    }
}

/// A part of a graph.
#[derive(Clone, Debug)]
pub enum Part {
    /// Nodes that are optimised together, in order.
    Region(Vec<NodeId>),
    /// A node that no e-graph takes.
    Single(NodeId),
}

/// A region as a graph of its own.
pub struct Cutout {
    /// The graph; its inputs are named `x0, x1 …` and `w2 …` for constants, its nodes' origins are their numbers.
    pub graph: Graph,
    /// The values of the whole graph that the inputs stand for.
    pub inputs: Vec<Value>,
    /// Which inputs are constants.
    pub fixed: Vec<bool>,
    /// The values of the whole graph that the outputs stand for.
    pub outputs: Vec<Value>,
    /// The origins of the region's nodes, by number.
    pub origins: Vec<Origin>,
}

/// The parts of a graph, in an order in which they can be computed. Inputs and constants belong to no part.
pub fn parts(graph: &Graph, sizes: &Sizes) -> Vec<Part> {
    let crossing = crossings(graph);
    let mut parts = Vec::new();
    let mut run: Vec<NodeId> = Vec::new();
    for id in graph.node_ids() {
        match &graph[id].op {
            Op::Input { .. } | Op::Constant { .. } => {}
            op if is_expressible(op) => run.push(id),
            _ => {
                split(graph, &crossing, std::mem::take(&mut run), sizes, &mut parts);
                parts.push(Part::Single(id));
            }
        }
    }
    split(graph, &crossing, run, sizes, &mut parts);
    parts
}

/// For each node, how many computed values are alive just after it.
fn crossings(graph: &Graph) -> Vec<usize> {
    let mut change = vec![0isize; graph.node_count() + 1];
    for id in graph.node_ids() {
        if matches!(graph[id].op, Op::Input { .. } | Op::Constant { .. }) {
            continue;
        }
        if let Some((last, _)) = graph.users(id).last() {
            change[id.index()] += 1;
            change[last.index()] -= 1;
        }
    }
    let mut alive = 0;
    change
        .into_iter()
        .map(|step| {
            alive += step;
            alive as usize
        })
        .collect()
}

fn split(graph: &Graph, crossing: &[usize], run: Vec<NodeId>, sizes: &Sizes, parts: &mut Vec<Part>) {
    /// A cut is where no place this near has fewer values alive.
    const NEAR: usize = 24;
    let mut rest = run.as_slice();
    while rest.len() > sizes.low + sizes.low {
        let alive = |end: usize| crossing[rest[end - 1].index()];
        let candidates = sizes.low..rest.len().min(sizes.high);
        let is_low = |end: usize| {
            let near = end.saturating_sub(NEAR).max(1)..(end + NEAR).min(rest.len());
            near.into_iter().all(|other| alive(end) <= alive(other))
        };
        // A value that several read is stored anyway, and an op that starts a kernel needs no value of the region inside it.
        let is_clean = |end: usize| {
            let starts = rest.get(end).is_some_and(|&id| matches!(graph[id].op.kind(), Kind::Contract | Kind::Window));
            starts || graph.users(rest[end - 1]).len() > 1
        };
        let clean = candidates.clone().find(|&end| is_low(end) && is_clean(end));
        let Some(end) = clean.or_else(|| candidates.min_by_key(|&end| (alive(end), !is_clean(end)))) else { break };
        let (head, tail) = rest.split_at(end);
        parts.push(Part::Region(head.to_vec()));
        rest = tail;
    }
    if !rest.is_empty() {
        parts.push(Part::Region(rest.to_vec()));
    }
}

/// Constants that belong to a region by content: scalars and short integer lists. Others are its inputs, so that layers
/// with different weights are equal.
fn is_content(tensor: &Tensor) -> bool {
    tensor.count() <= 1 || !tensor.dtype().is_float() && tensor.count() <= crate::facts::SMALL
}

/// Whether a node only looks at its operand: regions look for themselves, so that their rules see through it.
fn is_view(graph: &Graph, id: NodeId) -> bool {
    match &graph[id].op {
        Op::Concat { .. } => matches!(graph.operands(id).as_slice(), [a, b] if a == b),
        op => op.kind() == Kind::Movement && !matches!(op, Op::Pad { .. }),
    }
}

/// The nodes of a region with the views through which it looks outside, in order, and the values that it reads from outside.
fn with_views(graph: &Graph, nodes: &[NodeId]) -> (Vec<NodeId>, Vec<Value>) {
    /// Longer chains of views are read as they are.
    const VIEWS: usize = 6;
    let mut inside: FxHashSet<NodeId> = nodes.iter().copied().collect();
    let (mut order, mut outside, mut seen) = (Vec::new(), Vec::new(), FxHashSet::default());
    for &id in nodes {
        for value in graph.operands(id) {
            let (mut at, mut chain) = (value, Vec::new());
            while !inside.contains(&at.node) && is_view(graph, at.node) && chain.len() < VIEWS {
                chain.push(at.node);
                at = graph.operands(at.node)[0];
            }
            if !inside.contains(&at.node) && seen.insert(at) {
                outside.push(at);
            }
            inside.extend(chain.iter().copied());
            order.extend(chain.into_iter().rev());
        }
        order.push(id);
    }
    (order, outside)
}

/// The values that some part reads from another, and the results of the graph.
pub fn wanted(graph: &Graph, parts: &[Part]) -> FxHashSet<Value> {
    let mut wanted: FxHashSet<Value> = graph.outputs().iter().map(|output| output.value).collect();
    for part in parts {
        match part {
            Part::Single(id) => wanted.extend(graph.operands(*id)),
            Part::Region(nodes) => wanted.extend(with_views(graph, nodes).1),
        }
    }
    wanted
}

/// The region of these nodes as a graph, which gives the values that are [`wanted`].
///
/// # Errors
/// Never for nodes of a verified graph.
pub fn cut(graph: &Graph, nodes: &[NodeId], wanted: &FxHashSet<Value>) -> Result<Cutout, GraphError> {
    let mut cutout = Cutout {
        graph: Graph::new("region"),
        inputs: Vec::new(),
        fixed: Vec::new(),
        outputs: Vec::new(),
        origins: Vec::new(),
    };
    let mut place: FxHashMap<Value, Value> = FxHashMap::default();
    for id in with_views(graph, nodes).0 {
        for value in graph.operands(id) {
            if place.contains_key(&value) {
                continue;
            }
            let constant = graph.constant(value);
            let local = match constant {
                Some(tensor) if is_content(tensor) => {
                    cutout.origins.push(graph[value.node].origin.clone());
                    let number = Origin::of(&(cutout.origins.len() - 1).to_string());
                    cutout.graph.add_constant(tensor.clone(), number)
                }
                _ => {
                    let name = format!("{}{}", if constant.is_some() { 'w' } else { 'x' }, cutout.inputs.len());
                    cutout.inputs.push(value);
                    cutout.fixed.push(constant.is_some());
                    cutout.origins.push(Origin::default());
                    cutout.graph.add_input(&name, graph.ty(value).clone())
                }
            };
            place.insert(value, local);
        }
        let operands: SmallVec<[Value; 4]> = graph.operands(id).iter().map(|value| place[value]).collect();
        cutout.origins.push(graph[id].origin.clone());
        let number = Origin::of(&(cutout.origins.len() - 1).to_string());
        let local = cutout.graph.add(graph[id].op.clone(), &operands, number)?;
        for output in 0..graph[id].types.len() as u32 {
            place.insert(Value { node: id, output }, Value { node: local, output });
        }
    }
    for &id in nodes {
        for output in 0..graph[id].types.len() as u32 {
            let value = Value { node: id, output };
            if wanted.contains(&value) {
                let name = format!("y{}", cutout.outputs.len());
                cutout.graph.add_output(&name, place[&value]);
                cutout.outputs.push(value);
            }
        }
    }
    Ok(cutout)
}

impl Cutout {
    /// A hash of the structure: equal regions have equal ones.
    pub fn hash(&self) -> u64 {
        let mut hasher = FxHasher::default();
        for id in self.graph.node_ids() {
            let node = &self.graph[id];
            node.op.name().hash(&mut hasher);
            node.types.hash(&mut hasher);
            self.graph.operands(id).hash(&mut hasher);
            for (_, attr) in node.op.attrs() {
                Attribute::from(attr).hash(&mut hasher);
            }
        }
        self.graph.outputs().iter().for_each(|output| output.value.hash(&mut hasher));
        hasher.finish()
    }

    /// The origin that an origin by numbers stands for.
    pub fn translate(&self, numbers: &Origin) -> Origin {
        let known = |name: &str| self.origins.get(name.parse::<usize>().ok()?);
        numbers.names().filter_map(known).fold(Origin::default(), |all, origin| all.merge(origin))
    }
}
