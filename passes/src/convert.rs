//! A region's graph into an e-graph, and a choice of terms back into a graph.

use egg::{Id, Language};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_graph::{Attr, Graph, Op, Origin, Value};

use crate::{
    PassError,
    extract::Choice,
    facts::{Egraph, Origins, Outside, Region, op_of},
    language::{Enode, Head, OpName, is_expressible},
    rule::add_op,
    saturate::Saturated,
};

/// A region as an e-graph.
pub struct Loaded {
    /// The e-graph.
    pub egraph: Egraph,
    /// The class of each output.
    pub roots: Vec<Id>,
    /// The class of each value, in the order of nodes.
    pub values: Vec<Id>,
}

/// The e-graph of a region. `fixed` tells which inputs are constants.
///
/// # Errors
/// If the region has an op that is not in the language.
pub fn load(region: &Graph, fixed: &[bool], explain: bool) -> Result<Loaded, PassError> {
    let outside = region.inputs().iter().enumerate().map(|(i, (_, id))| Outside {
        ty: region.ty(Value::from(*id)).clone(),
        fixed: fixed.get(i).copied().unwrap_or(false),
    });
    let analysis = Region { inputs: outside.collect(), current: Origins::default() };
    let mut egraph = Egraph::new(analysis);
    if explain {
        egraph = egraph.with_explanations_enabled();
    }
    let mut classes: FxHashMap<Value, Id> = FxHashMap::default();
    let mut values = Vec::new();
    for (i, (_, id)) in region.inputs().iter().enumerate() {
        let class = egraph.add(Enode::leaf(Head::Input(i as u32)));
        classes.insert((*id).into(), class);
    }
    for id in region.node_ids() {
        let node = &region[id];
        if matches!(node.op, Op::Input { .. }) {
            continue;
        }
        if !is_expressible(&node.op) {
            return Err(PassError::Inexpressible(node.op.name()));
        }
        egraph.analysis.current = Origins::of(id.index());
        let operands: SmallVec<[Id; 4]> = region.operands(id).iter().map(|value| classes[value]).collect();
        let class = add_op(&mut egraph, &node.op, &operands).ok_or(PassError::Inexpressible(node.op.name()))?;
        if let [_] = node.types.as_slice() {
            classes.insert(id.into(), class);
            values.push(class);
            continue;
        }
        for output in 0..node.types.len() {
            let index = egraph.add(Enode::leaf(Head::Attr(Attr::Int(output as i64).into())));
            let get = OpName::find("get").ok_or(PassError::Inexpressible("get"))?;
            let result = egraph.add(Enode { head: Head::Op(get), children: SmallVec::from_slice(&[index, class]) });
            classes.insert(Value { node: id, output: output as u32 }, result);
            values.push(result);
        }
    }
    egraph.analysis.current = Origins::default();
    let roots = region.outputs().iter().map(|output| classes[&output.value]).collect();
    egraph.rebuild();
    Ok(Loaded { egraph, roots, values })
}

/// The graph of the chosen terms, with the inputs and outputs of the region that was loaded.
///
/// # Errors
/// If a chosen node does not type-check, or a class that is needed was not chosen.
pub fn grow(saturated: &Saturated, choice: &Choice, region: &Graph) -> Result<Graph, PassError> {
    let egraph = &saturated.egraph;
    let mut graph = Graph::new(&region.name);
    let inputs: Vec<Value> =
        region.inputs().iter().map(|(name, id)| graph.add_input(name, region.ty(Value::from(*id)).clone())).collect();
    let mut done: FxHashMap<Id, Value> = FxHashMap::default();
    for &root in &saturated.roots {
        let mut stack = vec![egraph.find(root)];
        while let Some(&id) = stack.last() {
            if done.contains_key(&id) {
                stack.pop();
                continue;
            }
            let node = choice.get(&id).ok_or_else(|| PassError::NoTerm(id.to_string()))?;
            let operands = node.children().iter().map(|&c| egraph.find(c)).filter(|&c| egraph[c].data.attr.is_none());
            let missing: Vec<Id> = operands.filter(|child| !done.contains_key(child)).collect();
            if !missing.is_empty() {
                stack.extend(missing.into_iter().rev());
                continue;
            }
            let value = add_node(saturated, &mut graph, &inputs, region, id, node, &done)?;
            done.insert(id, value);
            stack.pop();
        }
    }
    for (output, root) in region.outputs().iter().zip(&saturated.roots) {
        graph.add_output(&output.name, done[&egraph.find(*root)]);
    }
    Ok(graph)
}

fn add_node(
    saturated: &Saturated,
    graph: &mut Graph,
    inputs: &[Value],
    region: &Graph,
    id: Id,
    node: &Enode,
    done: &FxHashMap<Id, Value>,
) -> Result<Value, PassError> {
    let egraph = &saturated.egraph;
    if let Head::Input(index) = node.head {
        return inputs.get(index as usize).copied().ok_or_else(|| PassError::NotAnOp(node.to_string()));
    }
    let operands = node.children.iter().filter_map(|&child| done.get(&egraph.find(child)).copied());
    let operands: SmallVec<[Value; 4]> = operands.collect();
    if node.is("get") {
        let index = node.children.first().and_then(|&child| egraph[child].data.attr.as_ref());
        let (Some(Attr::Int(output)), [tuple]) = (index.map(|a| a.value()), operands.as_slice()) else {
            return Err(PassError::NotAnOp(node.to_string()));
        };
        return Ok(Value { node: tuple.node, output: *output as u32 });
    }
    let op = op_of(egraph, node).ok_or_else(|| PassError::NotAnOp(node.to_string()))?;
    let origin = egraph[id].data.origins.iter().fold(Origin::default(), |origin, index| {
        region.node_ids().nth(index).map_or(origin.clone(), |id| origin.merge(&region[id].origin))
    });
    Ok(graph.add(op, &operands, origin).map_err(PassError::in_pass("extract"))?.into())
}
