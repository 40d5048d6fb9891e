//! Making a failing graph small.

use std::collections::BTreeSet;

use tarsia_tensor::Tensor;

use crate::{Graph, NodeId, Op, Value, eval};

/// The smallest graph found that still fails, on the same inputs: one output where one is enough, and every node that may be
/// replaced by its value replaced by a constant. Gives the graph itself if it does not fail or cannot be evaluated.
pub fn shrink(graph: &Graph, inputs: &[Tensor], fails: &dyn Fn(&Graph, &[Tensor]) -> bool) -> Graph {
    let mut smallest = graph.clone();
    if !fails(graph, inputs) {
        return smallest;
    }
    for output in 0..graph.outputs().len() {
        if let Some(single) = rebuilt(graph, &[output], &BTreeSet::new(), &[])
            && fails(&single, inputs)
        {
            smallest = single;
            break;
        }
    }
    while let Some(smaller) = smaller(&smallest, inputs, fails) {
        smallest = smaller;
    }
    smallest
}

/// The graph with one more node replaced by its value, the latest that may be.
fn smaller(graph: &Graph, inputs: &[Tensor], fails: &dyn Fn(&Graph, &[Tensor]) -> bool) -> Option<Graph> {
    let values = eval::trace(graph, inputs, &eval::Options::default()).ok()?;
    let outputs: Vec<usize> = (0..graph.outputs().len()).collect();
    graph.node_ids().rev().find_map(|id| {
        if matches!(graph[id].op, Op::Constant { .. } | Op::Input { .. }) {
            return None;
        }
        let candidate = rebuilt(graph, &outputs, &BTreeSet::from([id]), &values)?;
        fails(&candidate, inputs).then_some(candidate)
    })
}

/// A copy with these outputs in which some nodes are constants; `None` if an op does not fit them.
fn rebuilt(graph: &Graph, outputs: &[usize], fixed: &BTreeSet<NodeId>, values: &[Vec<Tensor>]) -> Option<Graph> {
    let mut copy = Graph::new(&graph.name);
    let mut places: Vec<Vec<Value>> = Vec::with_capacity(graph.node_count());
    let mut names = graph.inputs().iter();
    for id in graph.node_ids() {
        let node = &graph[id];
        let place = |values: &[Vec<Value>], value: Value| values[value.node.index()][value.output as usize];
        places.push(match &node.op {
            Op::Input { types, .. } => vec![copy.add_input(&names.next()?.0, types.first()?.clone())],
            _ if fixed.contains(&id) => {
                let tensors = values.get(id.index())?;
                tensors.iter().map(|tensor| copy.add_constant(tensor.clone(), node.origin.clone())).collect()
            }
            op => {
                let operands: Vec<Value> = graph.operands(id).iter().map(|value| place(&places, *value)).collect();
                let new = copy.add(op.clone(), &operands, node.origin.clone()).ok()?;
                (0..node.types.len() as u32).map(|output| Value { node: new, output }).collect()
            }
        });
    }
    for &output in outputs {
        let output = &graph.outputs()[output];
        copy.add_output(&output.name, places[output.value.node.index()][output.value.output as usize]);
    }
    Some(copy.without_dead_nodes())
}
