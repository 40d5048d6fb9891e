//! Bodies for lowering: composites without a lowering of their own become their expansion.

use tarsia_graph::{Graph, GraphError, NodeId, Op, Value, composite};

/// The body with every composite but attention and routed contractions expanded.
///
/// # Errors
/// If an expansion does not fit its operands.
pub(crate) fn expand_composites(body: &Graph) -> Result<Graph, GraphError> {
    let kept = |op: &Op| matches!(op, Op::Attention { .. } | Op::Routed { .. });
    expand(body, &|op| !kept(op))
}

/// The body with the composites that `chosen` picks expanded.
pub(crate) fn expand(body: &Graph, chosen: &dyn Fn(&Op) -> bool) -> Result<Graph, GraphError> {
    let mut copy = Graph::new(&body.name);
    let mut place: Vec<Vec<Value>> = Vec::with_capacity(body.node_count());
    let moved = |place: &[Vec<Value>], value: Value| place[value.node.index()][value.output as usize];
    for id in body.node_ids() {
        let node = &body[id];
        let operands: Vec<Value> = body.operands(id).iter().map(|&value| moved(&place, value)).collect();
        let values = match &node.op {
            Op::Input { index, .. } => vec![copy.add_input(&body.inputs()[*index].0, node.types[0].clone())],
            op if chosen(op) => match composite::expand(&mut copy, op, &operands, &node.origin)? {
                Some(value) => vec![value],
                None => results(copy.add(op.clone(), &operands, node.origin.clone())?, node.types.len()),
            },
            op => results(copy.add(op.clone(), &operands, node.origin.clone())?, node.types.len()),
        };
        place.push(values);
    }
    for output in body.outputs() {
        copy.add_output(&output.name, moved(&place, output.value));
    }
    Ok(copy)
}

fn results(id: NodeId, count: usize) -> Vec<Value> {
    (0..count).map(|output| Value { node: id, output: output as u32 }).collect()
}

/// A body that is one node of a graph; its operands are the inputs, small constants come along.
pub(crate) fn single_op_body(graph: &Graph, id: NodeId) -> Graph {
    let mut body = Graph::new(graph[id].op.name());
    let operands: Vec<Value> = graph
        .operands(id)
        .iter()
        .enumerate()
        .map(|(i, &value)| {
            let input = body.add_input(&format!("x{i}"), graph.ty(value).clone());
            match graph.constant(value).filter(|tensor| tensor.count() == 1) {
                Some(tensor) => body.add_constant(tensor.clone(), graph[value.node].origin.clone()),
                None => input,
            }
        })
        .collect();
    if let Ok(node) = body.add(graph[id].op.clone(), &operands, graph[id].origin.clone()) {
        for output in 0..graph[id].types.len() {
            body.add_output(&format!("y{output}"), Value { node, output: output as u32 });
        }
    }
    body
}
