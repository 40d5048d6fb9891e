//! Routing: the cheapest chain of data paths between two spaces that offers the transforms asked for.

use std::collections::BTreeMap;

use petgraph::{algo::astar, graph::DiGraph};
use thiserror::Error;

use super::{Machine, Path, Transform};

/// More transforms than this are not asked for at once.
pub const MAX_TRANSFORMS: usize = 8;

/// Why there is no route.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{machine} has no data path from `{from}` to `{to}`{}", if needed.is_empty() { String::new() } else { format!(" that offers {needed}") })]
pub struct RouteError {
    machine: String,
    from: String,
    to: String,
    needed: String,
}

impl Machine {
    /// The data paths by which `bytes` get from one space to another with every transform in `needed` done on the way,
    /// each by the first path that offers it. Empty if nothing is to be done. Deterministic: the cheapest, then the
    /// shortest, then the one whose paths come first in the file.
    ///
    /// # Errors
    /// If no chain of paths does it.
    pub fn route(&self, from: &str, to: &str, needed: &[Transform], bytes: usize) -> Result<Vec<&Path>, RouteError> {
        let mut wanted = needed.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let states = self.route_graph(&wanted, bytes);
        let goal = (to.to_owned(), 0);
        let found = states.nodes.get(&(from.to_owned(), full(&wanted))).and_then(|&start| {
            let done = |node| states.graph[node] == goal;
            astar(&states.graph, start, done, |edge| edge.weight().1, |_| 0.0)
        });
        let (_, nodes) = found.ok_or_else(|| RouteError {
            machine: self.name.clone(),
            from: from.to_owned(),
            to: to.to_owned(),
            needed: wanted.iter().map(|t| t.name()).collect::<Vec<_>>().join(", "),
        })?;
        Ok(nodes.windows(2).filter_map(|pair| states.best(pair[0], pair[1]).map(|path| &self.paths[path])).collect())
    }

    /// A node for every space and every set of transforms still needed.
    fn route_graph(&self, wanted: &[Transform], bytes: usize) -> States {
        let mut states = States { graph: DiGraph::new(), nodes: BTreeMap::new() };
        for space in &self.spaces {
            for missing in 0..=full(wanted) {
                let state = (space.name.clone(), missing);
                let node = states.graph.add_node(state.clone());
                states.nodes.insert(state, node);
            }
        }
        for (index, path) in self.paths.iter().enumerate() {
            let offered = wanted.iter().enumerate().filter(|(_, t)| path.transforms.contains(t));
            let offered = offered.fold(0usize, |set, (bit, _)| set | 1 << bit);
            // The small addend prefers fewer hops among equal costs.
            let cost = self.path_cycles(path, bytes) + 1e-6;
            for missing in 0..=full(wanted) {
                let ends = (
                    states.nodes.get(&(path.from.clone(), missing)),
                    states.nodes.get(&(path.to.clone(), missing & !offered)),
                );
                if let (Some(&a), Some(&b)) = ends {
                    states.graph.add_edge(a, b, (index, cost));
                }
            }
        }
        states
    }
}

fn full(wanted: &[Transform]) -> usize {
    (1usize << wanted.len().min(MAX_TRANSFORMS)) - 1
}

struct States {
    graph: DiGraph<(String, usize), (usize, f64)>,
    nodes: BTreeMap<(String, usize), petgraph::graph::NodeIndex>,
}

impl States {
    /// The cheapest path between two states, the first of equals.
    fn best(&self, a: petgraph::graph::NodeIndex, b: petgraph::graph::NodeIndex) -> Option<usize> {
        let edges = self.graph.edges_connecting(a, b).map(|edge| *edge.weight());
        edges.min_by(|x, y| x.1.total_cmp(&y.1).then(x.0.cmp(&y.0))).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use petgraph::visit::EdgeRef;

    #[test]
    fn states_link_only_forward() {
        let machine = Machine::builtin("twopipe").unwrap();
        let states = machine.route_graph(&[Transform::Layout, Transform::Pad], 64);
        for edge in states.graph.edge_references() {
            let (a, b) = (states.graph[edge.source()].1, states.graph[edge.target()].1);
            assert_eq!(b & !a, 0, "a transform that was done is needed again");
        }
    }
}
