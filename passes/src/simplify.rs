//! Clean-up of a graph: what no output needs is dropped, equal nodes are shared, constants folded, needless movement
//! removed, branches whose condition is known inlined; in sub-graphs too. The result's nodes stand in the order of a
//! depth-first walk from the outputs, so that equal layers list their nodes in the same order.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, NodeId, Op, Value};
use tarsia_tensor::Numbers;

use crate::{
    PassError,
    emit::{Emitter, Folding},
};

/// Simplifies a graph.
///
/// # Errors
/// If a rewritten node does not type-check, which is a defect.
pub fn simplify(graph: &Graph, folding: Folding) -> Result<Graph, PassError> {
    rebuild(graph, folding).map_err(PassError::in_pass("simplify"))
}

fn rebuild(graph: &Graph, folding: Folding) -> Result<Graph, GraphError> {
    let (mut emitter, inputs) = Emitter::new(graph, folding);
    let mut done: FxHashMap<Value, Value> = FxHashMap::default();
    for ((_, id), value) in graph.inputs().iter().zip(inputs) {
        done.insert((*id).into(), value);
    }
    for id in walk(graph) {
        let node = &graph[id];
        if matches!(node.op, Op::Input { .. }) {
            continue;
        }
        let operands: SmallVec<[Value; 4]> = graph.operands(id).iter().map(|value| done[value]).collect();
        let results = copy_node(&mut emitter, graph, id, &operands, folding)?;
        for (output, value) in results.into_iter().enumerate() {
            done.insert(Value { node: id, output: output as u32 }, value);
        }
    }
    for output in graph.outputs() {
        emitter.graph.add_output(&output.name, done[&output.value]);
    }
    Ok(ordered(&emitter.graph))
}

fn copy_node(
    emitter: &mut Emitter,
    graph: &Graph,
    id: NodeId,
    operands: &[Value],
    folding: Folding,
) -> Result<SmallVec<[Value; 1]>, GraphError> {
    let node = &graph[id];
    if let Op::Constant { value } = &node.op {
        return Ok(SmallVec::from_iter([emitter.constant(value.clone(), &node.origin)]));
    }
    if let Op::If { then_branch, else_branch, .. } = &node.op
        && let Some(taken) = condition(emitter, operands)
    {
        let branch = rebuild(if taken { then_branch } else { else_branch }, folding)?;
        let results = inline(emitter, &branch, &operands[1..])?;
        // Branches may differ in shape; a result that is not of the declared type stays inside its If.
        if results.iter().zip(&node.types).all(|(value, ty)| emitter.ty(*value) == ty) {
            return Ok(results);
        }
    }
    let op = with_subgraphs(&node.op, &mut |sub| rebuild(sub, folding))?;
    emitter.emit_all(op, operands, &node.origin)
}

fn condition(emitter: &Emitter, operands: &[Value]) -> Option<bool> {
    match emitter.graph.constant(*operands.first()?)?.numbers().ok()? {
        Numbers::Uint(values) => values.first().map(|&x| x != 0),
        _ => None,
    }
}

/// Adds the nodes of `body` with its inputs replaced by `operands`; gives its results.
///
/// # Errors
/// If the operands do not fit.
pub fn inline(emitter: &mut Emitter, body: &Graph, operands: &[Value]) -> Result<SmallVec<[Value; 1]>, GraphError> {
    let mut done: FxHashMap<Value, Value> = FxHashMap::default();
    for ((_, id), &value) in body.inputs().iter().zip(operands) {
        done.insert((*id).into(), value);
    }
    for id in walk(body) {
        let node = &body[id];
        if matches!(node.op, Op::Input { .. }) {
            continue;
        }
        let operands: SmallVec<[Value; 4]> = body.operands(id).iter().map(|value| done[value]).collect();
        let results = match &node.op {
            Op::Constant { value } => SmallVec::from_iter([emitter.constant(value.clone(), &node.origin)]),
            op => emitter.emit_all(op.clone(), &operands, &node.origin)?,
        };
        for (output, value) in results.into_iter().enumerate() {
            done.insert(Value { node: id, output: output as u32 }, value);
        }
    }
    Ok(body.outputs().iter().map(|output| done[&output.value]).collect())
}

/// The op with its sub-graphs replaced. Kernel bodies stay: they are what lowering reads.
///
/// # Errors
/// Whatever `replace` gives.
pub fn with_subgraphs<E>(op: &Op, replace: &mut dyn FnMut(&Graph) -> Result<Graph, E>) -> Result<Op, E> {
    let mut op = op.clone();
    match &mut op {
        Op::If { then_branch, else_branch, .. } => {
            *then_branch = Arc::new(replace(then_branch)?);
            *else_branch = Arc::new(replace(else_branch)?);
        }
        Op::Loop { body, .. } | Op::ScanLoop { body, .. } => *body = Arc::new(replace(body)?),
        _ => {}
    }
    Ok(op)
}

/// The nodes that outputs need, operands before users, in the order of a depth-first walk from the outputs. A node that tells
/// a size comes before those that use the size.
pub fn walk(graph: &Graph) -> Vec<NodeId> {
    let tellers = graph.tellers();
    let mut seen = vec![false; graph.node_count()];
    let mut order = Vec::new();
    for output in graph.outputs() {
        let mut stack = vec![(output.value.node, false)];
        while let Some((id, finished)) = stack.pop() {
            if finished {
                order.push(id);
            } else if !std::mem::replace(&mut seen[id.index()], true) {
                stack.push((id, true));
                stack.extend(graph.operands(id).iter().rev().map(|value| (value.node, false)));
                if !tellers.is_empty() {
                    let told = graph[id].symbols();
                    let told = told.iter().filter_map(|symbol| tellers.get(symbol)).filter(|&&teller| teller != id);
                    stack.extend(told.map(|&teller| (teller, false)));
                }
            }
        }
    }
    order
}

/// A copy with only the nodes that outputs need (and all inputs), in the order of [`walk`].
pub fn ordered(graph: &Graph) -> Graph {
    let mut copy = Graph::new(&graph.name);
    let mut place: FxHashMap<NodeId, NodeId> = FxHashMap::default();
    for (name, id) in graph.inputs() {
        place.insert(*id, copy.add_input(name, graph.ty(Value::from(*id)).clone()).node);
    }
    let moved =
        |place: &FxHashMap<NodeId, NodeId>, value: &Value| Value { node: place[&value.node], output: value.output };
    for id in walk(graph) {
        if place.contains_key(&id) {
            continue;
        }
        let node = &graph[id];
        let operands: SmallVec<[Value; 4]> = graph.operands(id).iter().map(|value| moved(&place, value)).collect();
        // The operands' types are what they were, so the op still fits them.
        if let Ok(new) = copy.add(node.op.clone(), &operands, node.origin.clone()) {
            place.insert(id, new);
        }
    }
    for output in graph.outputs() {
        copy.add_output(&output.name, moved(&place, &output.value));
    }
    copy
}
