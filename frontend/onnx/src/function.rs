//! Functions local to the model: found by (domain, name, overload), and checked to end.

use std::collections::BTreeMap;

use crate::{
    opset::{Opsets, canonical},
    order,
    problem::{Fault, Place, Problem, Problems},
    schema::{FunctionProto, GraphProto, NodeProto},
};

/// Calls may nest this deep; what puts functions in place of their calls may recurse.
const MAX_CALL_DEPTH: u32 = 100;

/// Lookup of the functions of a model.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    /// Indices of the functions, sorted by [`key`].
    sorted: Vec<usize>,
    /// Operator sets of each function, in file order.
    pub opsets: Vec<Opsets>,
}

type Key<'a> = (&'a str, &'a str, &'a str);

fn key(function: &FunctionProto) -> Key<'_> {
    (canonical(&function.domain), &function.name, &function.overload)
}

/// The name of a function as it is shown.
pub(crate) fn label(function: &FunctionProto) -> String {
    let overload = if function.overload.is_empty() { String::new() } else { format!(":{}", function.overload) };
    format!("{}::{}{overload}", crate::opset::shown(canonical(&function.domain)), function.name)
}

impl Functions {
    pub(crate) fn new(functions: &[FunctionProto]) -> Functions {
        let mut sorted: Vec<usize> = (0..functions.len()).collect();
        sorted.sort_by_key(|&i| functions.get(i).map(key));
        Functions { sorted, opsets: functions.iter().map(|f| Opsets::new(&f.opset_import)).collect() }
    }

    /// The function that a node calls, if it calls one.
    pub(crate) fn callee(&self, functions: &[FunctionProto], node: &NodeProto) -> Option<usize> {
        let wanted: Key = (canonical(&node.domain), &node.op_type, &node.overload);
        let found = self.sorted.binary_search_by(|&i| functions.get(i).map(key).cmp(&Some(wanted))).ok()?;
        self.sorted.get(found).copied()
    }

    /// Reports functions of the same name, recursion, and growth beyond `max_nodes` when calls are replaced by bodies.
    pub(crate) fn check(
        &self,
        functions: &[FunctionProto],
        graph: &GraphProto,
        max_nodes: u64,
        problems: &mut Problems,
    ) {
        let mut push = |fault| problems.push(Problem::new(Place::default(), fault));
        for pair in self.sorted.windows(2) {
            if let [Some(one), Some(other)] = [functions.get(pair[0]), functions.get(pair[1])]
                && key(one) == key(other)
            {
                push(Fault::Invalid(format!("function {} is defined more than once", label(one))));
            }
        }
        let calls: Vec<Calls> = functions.iter().map(|f| self.calls(functions, &f.node)).collect();
        let dependencies: Vec<Vec<usize>> = calls.iter().map(|c| c.callees.keys().copied().collect()).collect();
        let sorted = order::sort(&dependencies);
        for cycle in &sorted.cycles {
            let names = cycle.iter().chain(cycle.first()).filter_map(|&i| functions.get(i)).map(label).collect();
            push(Fault::RecursiveFunctions(names));
        }
        if !sorted.cycles.is_empty() {
            return;
        }
        let mut grown: Vec<(u64, u32)> = vec![(0, 0); functions.len()];
        for i in sorted.order {
            grown[i] = calls[i].grown(&grown);
        }
        let (nodes, depth) = self.calls(functions, &graph.node).grown(&grown);
        if nodes > max_nodes {
            push(Fault::TooManyNodes { nodes, limit: max_nodes });
        }
        if depth > MAX_CALL_DEPTH + 1 {
            push(Fault::Invalid(format!("functions call one another more than {MAX_CALL_DEPTH} deep")));
        }
    }

    fn calls(&self, functions: &[FunctionProto], nodes: &[NodeProto]) -> Calls {
        let mut calls = Calls::default();
        visit(nodes, &mut |node| match self.callee(functions, node) {
            Some(callee) => *calls.callees.entry(callee).or_insert(0) += 1,
            None => calls.nodes += 1,
        });
        calls
    }
}

/// What a body holds.
#[derive(Default)]
struct Calls {
    nodes: u64,
    callees: BTreeMap<usize, u64>,
}

impl Calls {
    /// Nodes, and depth of calls, once the callees are put in place, whose own are given.
    fn grown(&self, of: &[(u64, u32)]) -> (u64, u32) {
        let start = (self.nodes, 0);
        let (nodes, depth) = self.callees.iter().fold(start, |(nodes, depth), (&callee, &times)| {
            let (inner, below) = of.get(callee).copied().unwrap_or_default();
            (nodes.saturating_add(inner.max(1).saturating_mul(times)), depth.max(below))
        });
        (nodes, depth.saturating_add(1))
    }
}

/// Visits nodes and those of their sub-graphs.
fn visit(nodes: &[NodeProto], see: &mut dyn FnMut(&NodeProto)) {
    for node in nodes {
        see(node);
        for attribute in &node.attribute {
            for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
                visit(&graph.node, see);
            }
        }
    }
}
