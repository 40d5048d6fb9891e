//! Where a machine multiplies channels, images between kernels are stored with their channels innermost.
//!
//! ```text
//! x : [n, c, h, w] ──conv──► y : [n, m, h, w]        x : [n, h, w, c] ──[transpose, conv, transpose]──► y : [n, h, w, m]
//! ```
//! Inside kernels nothing changes: a movement only changes how memory is walked. Images that a convolution wants so are stored so, and
//! with them every image that is computed from them or with them, or into them, kernel by kernel, so that kernels move
//! between one order and the other only at inputs and results of the graph, and where a kernel of another kind takes part.

use std::{collections::BTreeSet, sync::Arc};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, KernelKind, NodeId, Op, Origin, Type, Value, classify};

use crate::PassError;

/// What convolutions like.
#[derive(Clone, Copy)]
pub struct Liking<'a> {
    /// Whether a convolution, with its image's type and its weights' type, is better off with the image's channels innermost.
    pub wants: &'a dyn Fn(&Op, &Type, &Type) -> bool,
    /// Whether an image, so many times the size of what is read of it, is worth a kernel that brings it into the other order.
    pub worth: &'a dyn Fn(&Type, usize) -> bool,
}

/// Rewrites a graph of kernels.
///
/// # Errors
/// If a rewritten node does not type-check, which is a defect.
pub fn channels_last(graph: &Graph, liking: Liking<'_>) -> Result<Graph, PassError> {
    let chosen = chosen(graph, liking.wants);
    rebuild(graph, &chosen, liking).map_err(PassError::in_pass("channels_last"))
}

/// The values that are to be stored with their channels innermost.
fn chosen(graph: &Graph, wants: &dyn Fn(&Op, &Type, &Type) -> bool) -> BTreeSet<Value> {
    let kernels: Vec<(NodeId, &Graph)> = graph.node_ids().filter_map(|id| Some((id, body(graph, id)?))).collect();
    let kinds: FxHashMap<NodeId, KernelKind> =
        kernels.iter().filter_map(|(id, body)| Some((*id, classify(body).ok()?.0))).collect();
    let follows = |id: &NodeId| {
        let kind = kinds.get(id);
        let walks = |kind: &KernelKind| {
            use KernelKind::{Contract, Conv, Map, Rows, Window};
            matches!(kind, Map | Rows | Contract | Conv | Window)
        };
        kind.is_some_and(walks) && body(graph, *id).is_some_and(keeps_axes)
    };
    let may = |value: &Value| {
        let users = graph.users(value.node);
        let mut mine = users.iter().filter(|(_, edge)| edge.output == value.output);
        is_image(graph.ty(*value))
            && follows(&value.node)
            && mine.all(|(user, _)| follows(user))
            && !graph.outputs().iter().any(|output| output.value == *value)
    };
    let mut open: Vec<Value> = Vec::new();
    for (id, body) in &kernels {
        let operands = graph.operands(*id);
        let images = body.node_ids().filter_map(|node| image_of(body, node, wants));
        open.extend(images.filter_map(|index| operands.get(index).copied()));
    }
    let mut found = BTreeSet::new();
    while let Some(value) = open.pop() {
        if !may(&value) || !found.insert(value) {
            continue;
        }
        let users = graph.users(value.node).into_iter().filter(|(_, edge)| edge.output == value.output);
        for kernel in users.map(|(user, _)| user).chain([value.node]) {
            let results = (0..graph[kernel].types.len()).map(|i| Value { node: kernel, output: i as u32 });
            // A convolution's image has another shape than its result.
            let slides = matches!(kinds.get(&kernel), Some(KernelKind::Conv | KernelKind::Window));
            let ty = graph.ty(value);
            let joins = |other: &Value| {
                let other = graph.ty(*other);
                other.rank() == ty.rank()
                    && (slides || other.shape.iter().zip(&ty.shape).all(|(a, b)| a == b || a.is(1) || b.is(1)))
            };
            let apart = body(graph, kernel).map(grouped_weights).unwrap_or_default();
            let operands = graph.operands(kernel).into_iter().enumerate().filter(|(index, _)| !apart.contains(index));
            open.extend(operands.map(|(_, value)| value).chain(results).filter(joins));
        }
    }
    found
}

fn body(graph: &Graph, id: NodeId) -> Option<&Graph> {
    match &graph[id].op {
        Op::Kernel { body } => Some(body),
        _ => None,
    }
}

/// Whether a kernel keeps the axes of images: no reshape joins or cuts them.
fn keeps_axes(body: &Graph) -> bool {
    let reshapes = body.node_ids().filter(|&id| matches!(body[id].op, Op::Reshape { .. }));
    reshapes.into_iter().all(|id| body.ty(body.operands(id)[0]).rank() < 3 && body[id].types[0].rank() < 5)
}

/// How often the convolutions of a kernel read an element of their image.
fn times(body: &Graph) -> usize {
    let windows = body.node_ids().filter(|&id| matches!(body[id].op, Op::Conv { .. }));
    let places = |id: NodeId| {
        let weights = body.ty(body.operands(id)[1]);
        weights.shape[2..].iter().map(|size| size.as_usize().unwrap_or(1)).product::<usize>()
    };
    windows.map(places).max().unwrap_or(1)
}

/// Batch, channels, and at least one axis of an image.
fn is_image(ty: &Type) -> bool {
    ty.rank() >= 3 && ty.shape[1].as_usize().is_some()
}

/// The number of the body's input that is the image of a convolution which wants its channels innermost.
fn image_of(body: &Graph, node: NodeId, wants: &dyn Fn(&Op, &Type, &Type) -> bool) -> Option<usize> {
    let op = &body[node].op;
    let (Op::Conv { .. }, operands) = (op, body.operands(node)) else { return None };
    let Op::Input { index, .. } = body[operands[0].node].op else { return None };
    wants(op, body.ty(operands[0]), body.ty(operands[1])).then_some(index)
}

/// The numbers of a body's inputs that are weights of convolutions in groups: their channels are not those of an image.
fn grouped_weights(body: &Graph) -> Vec<usize> {
    let weights = body.node_ids().filter_map(|id| match body[id].op {
        Op::Conv { groups, .. } if groups > 1 => match body[body.operands(id)[1].node].op {
            Op::Input { index, .. } => Some(index),
            _ => None,
        },
        _ => None,
    });
    weights.collect()
}

/// The permutation from channels second to channels innermost, or back.
fn order(rank: usize, back: bool) -> Vec<usize> {
    match back {
        false => [0].into_iter().chain(2..rank).chain([1]).collect(),
        true => [0, rank - 1].into_iter().chain(1..rank - 1).collect(),
    }
}

fn rebuild(graph: &Graph, chosen: &BTreeSet<Value>, liking: Liking<'_>) -> Result<Graph, GraphError> {
    let mut turning = Turning {
        graph,
        chosen,
        liking,
        copy: Graph::new(&graph.name),
        place: FxHashMap::default(),
        turned: FxHashMap::default(),
    };
    for (name, id) in graph.inputs() {
        let value = Value::from(*id);
        let input = turning.copy.add_input(name, graph.ty(value).clone());
        turning.place.insert(value, input);
    }
    for id in graph.node_ids().filter(|&id| !matches!(graph[id].op, Op::Input { .. })) {
        turning.node(id)?;
    }
    for output in graph.outputs() {
        turning.copy.add_output(&output.name, turning.place[&output.value]);
    }
    Ok(turning.copy)
}

struct Turning<'a> {
    graph: &'a Graph,
    chosen: &'a BTreeSet<Value>,
    liking: Liking<'a>,
    copy: Graph,
    place: FxHashMap<Value, Value>,
    /// Copies with channels innermost of values that are not stored so.
    turned: FxHashMap<Value, Value>,
}

impl Turning<'_> {
    fn node(&mut self, id: NodeId) -> Result<(), GraphError> {
        let node = &self.graph[id];
        let operands = self.graph.operands(id);
        let results: Vec<Value> = (0..node.types.len()).map(|i| Value { node: id, output: i as u32 }).collect();
        let moved: SmallVec<[Value; 4]> = operands.iter().map(|value| self.place[value]).collect();
        let Op::Kernel { body } = &node.op else {
            let new = self.copy.add(node.op.clone(), &moved, node.origin.clone())?;
            self.place.extend(results.iter().map(|&value| (value, Value { node: new, ..value })));
            return Ok(());
        };
        let images: Vec<usize> = body.node_ids().filter_map(|node| image_of(body, node, self.liking.wants)).collect();
        let mut moved = moved;
        let mut read: Vec<bool> = operands.iter().map(|value| self.chosen.contains(value)).collect();
        for &index in &images {
            let value = operands[index];
            let ty = self.graph.ty(value);
            if !read[index] && is_image(ty) && (self.liking.worth)(ty, times(body)) {
                moved[index] = self.turned(value, &node.origin)?;
                read[index] = true;
            }
        }
        let like = |value: &Value| {
            let ty = self.graph.ty(*value);
            images.iter().any(|&index| self.graph.ty(operands[index]).rank() == ty.rank())
                && is_image(ty)
                && (self.liking.worth)(ty, 1)
        };
        let stored: Vec<bool> = results.iter().map(|value| self.chosen.contains(value) || like(value)).collect();
        let kernel = Op::Kernel { body: Arc::new(turned(body, &read, &stored, &node.origin)?) };
        let new = self.copy.add(kernel, &moved, node.origin.clone())?;
        for (&value, stored) in results.iter().zip(stored) {
            let mut result = Value { node: new, ..value };
            if stored && !self.chosen.contains(&value) {
                let perm = order(self.graph.ty(value).rank(), true);
                self.turned.insert(value, result);
                result = transposed(&mut self.copy, result, perm, &node.origin)?;
            }
            self.place.insert(value, result);
        }
        Ok(())
    }

    /// A copy of a value with its channels innermost.
    fn turned(&mut self, value: Value, origin: &Origin) -> Result<Value, GraphError> {
        if let Some(known) = self.turned.get(&value) {
            return Ok(*known);
        }
        let perm = order(self.graph.ty(value).rank(), false);
        let turned = transposed(&mut self.copy, self.place[&value], perm, origin)?;
        self.turned.insert(value, turned);
        Ok(turned)
    }
}

/// A kernel of its own that permutes a value.
fn transposed(graph: &mut Graph, value: Value, perm: Vec<usize>, origin: &Origin) -> Result<Value, GraphError> {
    let mut body = Graph::new("");
    let input = body.add_input("x0", graph.ty(value).clone());
    let result = body.add(Op::Transpose { perm }, &[input], origin.clone())?;
    body.add_output("y0", result.into());
    graph.add(Op::Kernel { body: Arc::new(body) }, &[value], origin.clone()).map(Value::from)
}

/// A kernel that reads and stores some of its values with their channels innermost.
fn turned(body: &Graph, read: &[bool], stored: &[bool], origin: &Origin) -> Result<Graph, GraphError> {
    let mut copy = Graph::new(&body.name);
    let mut place: FxHashMap<NodeId, NodeId> = FxHashMap::default();
    let permuted = |ty: &Type| {
        let shape: Vec<_> = order(ty.rank(), false).into_iter().map(|axis| ty.shape[axis].clone()).collect();
        Type::new(ty.dtype, shape)
    };
    for (index, (name, id)) in body.inputs().iter().enumerate() {
        let ty = body.ty(Value::from(*id));
        let turned = read.get(index).copied().unwrap_or(false);
        let input = copy.add_input(name, if turned { permuted(ty) } else { ty.clone() });
        let value = match turned {
            true => copy.add(Op::Transpose { perm: order(ty.rank(), true) }, &[input], origin.clone())?,
            false => input.node,
        };
        place.insert(*id, value);
    }
    for id in body.node_ids() {
        if place.contains_key(&id) {
            continue;
        }
        let moved: SmallVec<[Value; 4]> =
            body.operands(id).iter().map(|value| Value { node: place[&value.node], output: value.output }).collect();
        place.insert(id, copy.add(body[id].op.clone(), &moved, body[id].origin.clone())?);
    }
    for (index, output) in body.outputs().iter().enumerate() {
        let value = Value { node: place[&output.value.node], output: output.value.output };
        let value = match stored.get(index) {
            Some(true) => {
                let perm = order(body.ty(output.value).rank(), false);
                copy.add(Op::Transpose { perm }, &[value], origin.clone())?.into()
            }
            _ => value,
        };
        copy.add_output(&output.name, value);
    }
    Ok(copy)
}
