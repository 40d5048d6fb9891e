//! Topological order of things that depend on one another, and the values that a graph takes from those around it.

use std::{cmp::Reverse, collections::BinaryHeap};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::schema::{GraphProto, NodeProto};

/// Cycles reported at most: the search for each walks the whole rest.
const MAX_CYCLES: usize = 16;

/// An order in which everything comes after what it depends on, as near to the given order as that allows.
pub(crate) struct Sorted {
    /// All indices; those on cycles stand where their cycle was broken.
    pub order: Vec<usize>,
    /// The cycles found, each in the direction of dependence; empty if there is an order.
    pub cycles: Vec<Vec<usize>>,
}

/// Sorts items, each given by the items it depends on.
pub(crate) fn sort(dependencies: &[Vec<usize>]) -> Sorted {
    let mut dependents = vec![Vec::new(); dependencies.len()];
    for (item, needed) in dependencies.iter().enumerate() {
        for &other in needed {
            dependents[other].push(item);
        }
    }
    let mut waiting: Vec<usize> = dependencies.iter().map(Vec::len).collect();
    let mut done = vec![false; dependencies.len()];
    let mut ready: BinaryHeap<Reverse<usize>> = (0..waiting.len()).filter(|&i| waiting[i] == 0).map(Reverse).collect();
    let mut sorted = Sorted { order: Vec::with_capacity(waiting.len()), cycles: Vec::new() };
    let mut first_left = 0;
    loop {
        while let Some(Reverse(item)) = ready.pop() {
            if std::mem::replace(&mut done[item], true) {
                continue;
            }
            sorted.order.push(item);
            for &dependent in &dependents[item] {
                waiting[dependent] -= 1;
                if waiting[dependent] == 0 {
                    ready.push(Reverse(dependent));
                }
            }
        }
        while done.get(first_left) == Some(&true) {
            first_left += 1;
        }
        if first_left == done.len() || sorted.cycles.len() == MAX_CYCLES {
            return sorted;
        }
        let cycle = cycle_behind(first_left, dependencies, &done);
        ready.extend(cycle.iter().map(|&item| Reverse(item)));
        sorted.cycles.push(cycle);
    }
}

/// A cycle reached by going from an item that is left to one of its dependencies that is left, and so on.
fn cycle_behind(start: usize, dependencies: &[Vec<usize>], done: &[bool]) -> Vec<usize> {
    let mut step_of = FxHashMap::default();
    let mut path = Vec::new();
    let mut at = start;
    loop {
        if let Some(&step) = step_of.get(&at) {
            let mut cycle = path.split_off(step);
            cycle.reverse();
            return cycle;
        }
        step_of.insert(at, path.len());
        path.push(at);
        // What is left waits for something that is left.
        match dependencies[at].iter().copied().find(|&other| !done[other]) {
            Some(next) => at = next,
            None => return path,
        }
    }
}

/// For each node of a list, the nodes of the list that define what it uses.
pub(crate) fn dependencies(nodes: &[NodeProto]) -> Vec<Vec<usize>> {
    let mut definer = FxHashMap::default();
    for (index, node) in nodes.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            definer.entry(name.as_str()).or_insert(index);
        }
    }
    let one = |node| {
        let mut used = Vec::new();
        uses(node, &mut used);
        let mut needed: Vec<usize> = used.iter().filter_map(|name| definer.get(name).copied()).collect();
        needed.sort_unstable();
        needed.dedup();
        needed
    };
    nodes.iter().map(one).collect()
}

/// Names that a node uses: its inputs, and what its sub-graphs take from around them.
fn uses<'a>(node: &'a NodeProto, used: &mut Vec<&'a str>) {
    used.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
    for attribute in &node.attribute {
        for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
            used.extend(captures(graph));
        }
    }
}

/// Names that a graph uses and does not define, in order of first use.
pub(crate) fn captures(graph: &GraphProto) -> Vec<&str> {
    let mut used = Vec::new();
    graph.node.iter().for_each(|node| uses(node, &mut used));
    used.extend(graph.output.iter().map(|value| value.name.as_str()).filter(|name| !name.is_empty()));
    let values = graph.input.iter().map(|value| value.name.as_str());
    let constants = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let sparse = graph.sparse_initializer.iter().map(crate::sparse::name);
    let results = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let mut known: FxHashSet<&str> = values.chain(constants).chain(sparse).chain(results).collect();
    used.retain(|&name| known.insert(name));
    used
}
