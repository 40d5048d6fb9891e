//! Before covering: what no kernel of the target can hold is rewritten. Composites without a kernel become their expansion;
//! padding between elements, or with a value that is not constant, becomes concatenation.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, Kind, NodeId, Op, Origin, Value, composite, kernel};
use tarsia_tensor::Dim;

use super::{Options, network::hash};

/// The graph without dead nodes and with what no kernel can hold rewritten.
pub(crate) fn prepare(graph: &Graph, options: &Options) -> Result<Graph, GraphError> {
    let graph = graph.without_dead_nodes();
    let suspect = |id: &NodeId| matches!(graph[*id].op, Op::Pad { .. }) || graph[*id].op.kind() == Kind::Composite;
    let mut verdicts: FxHashMap<u128, bool> = FxHashMap::default();
    let mut refused: Vec<NodeId> = Vec::new();
    for id in graph.node_ids().filter(suspect) {
        // Attributes and operand types decide, and whether the pad value is constant.
        let operands = graph.operands(id);
        let types: Vec<_> = operands.iter().map(|&value| (graph.ty(value), graph.constant(value).is_some())).collect();
        let key = hash(&(graph[id].op.name(), format!("{:?}", graph[id].op.attrs()), types));
        if !*verdicts.entry(key).or_insert_with(|| fits_alone(&graph, id, options)) {
            refused.push(id);
        }
    }
    if refused.is_empty() { Ok(graph) } else { rewrite(&graph, &refused) }
}

/// Whether the node by itself is a kernel of the target.
fn fits_alone(graph: &Graph, id: NodeId, options: &Options) -> bool {
    let mut body = Graph::new("");
    let mut operands: SmallVec<[Value; 4]> = SmallVec::new();
    for (i, &value) in graph.operands(id).iter().enumerate() {
        let constant = graph.constant(value).filter(|tensor| tensor.count() == 1);
        operands.push(match constant {
            Some(tensor) if !super::network::is_direct(&graph[id].op) => {
                body.add_constant(tensor.clone(), Origin::default())
            }
            _ => body.add_input(&format!("x{i}"), graph.ty(value).clone()),
        });
    }
    let Ok(node) = body.add(graph[id].op.clone(), &operands, Origin::default()) else { return false };
    body.add_output("y", node.into());
    kernel::legal(&body).is_ok_and(|kind| options.kinds.contains(&kind))
}

fn rewrite(graph: &Graph, refused: &[NodeId]) -> Result<Graph, GraphError> {
    let mut copy = Graph::new(&graph.name);
    let mut place: Vec<Value> = Vec::with_capacity(graph.node_count());
    // Inputs are numbered by their place in the list, wherever their nodes stand.
    let inputs: FxHashMap<NodeId, Value> = graph
        .inputs()
        .iter()
        .map(|(name, id)| (*id, copy.add_input(name, graph.ty(Value::from(*id)).clone())))
        .collect();
    for id in graph.node_ids() {
        let node = &graph[id];
        let moved = |value: &Value| Value { output: value.output, ..place[value.node.index()] };
        let operands: SmallVec<[Value; 4]> = graph.operands(id).iter().map(moved).collect();
        let value = match (&node.op, inputs.get(&id)) {
            (_, Some(&input)) => input,
            (Op::Pad { .. }, _) if refused.contains(&id) => pad(&mut copy, graph, id, &operands)?,
            (op, _) if refused.contains(&id) => match composite::expand(&mut copy, op, &operands, &node.origin)? {
                Some(value) => value,
                None => copy.add(op.clone(), &operands, node.origin.clone())?.into(),
            },
            (op, _) => copy.add(op.clone(), &operands, node.origin.clone())?.into(),
        };
        place.push(value);
    }
    for output in graph.outputs() {
        let value = Value { output: output.value.output, ..place[output.value.node.index()] };
        copy.add_output(&output.name, value);
    }
    Ok(copy)
}

/// A pad as concatenations with the broadcast value.
fn pad(copy: &mut Graph, graph: &Graph, id: NodeId, operands: &[Value]) -> Result<Value, GraphError> {
    let node = &graph[id];
    let Op::Pad { low, high, interior } = &node.op else { return Ok(operands[0]) };
    let (origin, fill) = (&node.origin, operands[1]);
    let mut add = |op: Op, operands: &[Value]| copy.add(op, operands, origin.clone()).map(Value::from);
    let mut value = operands[0];
    let mut shape = graph.ty(graph.operands(id)[0]).shape.clone();
    for axis in 0..shape.len() {
        if interior[axis] > 0 {
            let gap = Dim::from(interior[axis]);
            let mut column = shape.clone();
            column.insert(axis + 1, Dim::ONE);
            let rows = add(Op::Reshape { shape: column.clone() }, &[value])?;
            column[axis + 1] = gap.clone();
            let gaps = add(Op::Broadcast { shape: column }, &[fill])?;
            let joined = add(Op::Concat { axis: axis + 1 }, &[rows, gaps])?;
            shape[axis] = shape[axis].clone() * (gap + Dim::ONE);
            let flat = add(Op::Reshape { shape: shape.clone() }, &[joined])?;
            shape[axis] = node.types[0].shape[axis].clone() - low[axis].clone() - high[axis].clone();
            let starts = vec![Dim::ZERO; shape.len()];
            let steps = vec![1; shape.len()];
            value = add(Op::Slice { starts, sizes: shape.clone(), steps }, &[flat])?;
        }
        let mut parts = vec![value];
        for (count, front) in [(&low[axis], true), (&high[axis], false)] {
            if !count.is(0) {
                let mut border = shape.clone();
                border[axis] = count.clone();
                let border = add(Op::Broadcast { shape: border }, &[fill])?;
                parts.insert(if front { 0 } else { parts.len() }, border);
            }
        }
        if parts.len() > 1 {
            value = add(Op::Concat { axis }, &parts)?;
            shape[axis] = shape[axis].clone() + low[axis].clone() + high[axis].clone();
        }
    }
    Ok(value)
}
