//! Choosing one term of each class.
//!
//! [`Extract`] is the interface: it sees the saturated e-graph with its roots and facts, and chooses a node for every class
//! that the roots need. [`Greedy`] is a static choice by bytes moved and numbers computed, counting shared classes once;
//! covering replaces it by a choice with the cost of kernels.

use egg::{Id, Language};
use rustc_hash::FxHashMap;
use tarsia_graph::{Kind, Op, Type};
use tarsia_tensor::{Dim, Symbol};

use crate::{
    PassError,
    facts::{Egraph, op_of},
    language::Enode,
    saturate::Saturated,
};

/// The chosen node of each class, by canonical class.
pub type Choice = FxHashMap<Id, Enode>;

/// Chooses terms.
pub trait Extract {
    /// Chooses a node for every class that the roots need; following the choice from a root must not lead back to it.
    ///
    /// # Errors
    /// If a root has no finite term.
    fn choose(&self, saturated: &Saturated) -> Result<Choice, PassError>;
}

/// Extraction by a static cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Greedy;

impl Extract for Greedy {
    fn choose(&self, saturated: &Saturated) -> Result<Choice, PassError> {
        let table = Table::new(&saturated.egraph);
        let shared = table.shared();
        let choice = if table.is_acyclic(&shared, saturated) { shared } else { table.tree() };
        table.choice(&choice, saturated)
    }
}

/// The classes and their candidate nodes, densely numbered.
struct Table<'a> {
    egraph: &'a Egraph,
    ids: Vec<Id>,
    nodes: Vec<Vec<Candidate<'a>>>,
}

struct Candidate<'a> {
    node: &'a Enode,
    children: Vec<usize>,
    cost: f64,
}

impl<'a> Table<'a> {
    fn new(egraph: &'a Egraph) -> Table<'a> {
        let mut ids: Vec<Id> =
            egraph.classes().filter(|class| class.data.attr.is_none()).map(|class| class.id).collect();
        ids.sort_unstable();
        let place: FxHashMap<Id, usize> = ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let candidate = |node: &'a Enode| {
            let children = node.children().iter().filter_map(|&id| place.get(&egraph.find(id)).copied()).collect();
            Candidate { node, children, cost: node_cost(egraph, node) }
        };
        let nodes = ids.iter().map(|&id| egraph[id].nodes.iter().map(candidate).collect()).collect();
        Table { egraph, ids, nodes }
    }

    /// The best node of each class when a class that several need is paid once.
    fn shared(&self) -> Vec<Option<usize>> {
        /// Choices settle in about as many rounds as rewriting went deep; one that swings is cut off.
        const ROUNDS: usize = 64;
        let mut state = Shared::new(self.ids.len());
        let mut dirty = vec![true; self.ids.len()];
        for _ in 0..ROUNDS {
            let mut next = vec![false; self.ids.len()];
            let mut changed = false;
            for class in 0..self.ids.len() {
                let touched = |c: &Candidate| c.children.iter().any(|&child| dirty[child] || next[child]);
                if (dirty[class] || self.nodes[class].iter().any(touched)) && state.improve(class, &self.nodes[class]) {
                    (next[class], changed) = (true, true);
                }
            }
            if !changed {
                break;
            }
            dirty = next;
        }
        state.best
    }

    /// The best node of each class when every use is paid: always finite.
    fn tree(&self) -> Vec<Option<usize>> {
        let mut best: Vec<Option<usize>> = vec![None; self.ids.len()];
        let mut total = vec![f64::INFINITY; self.ids.len()];
        loop {
            let mut changed = false;
            for class in 0..self.ids.len() {
                for (n, candidate) in self.nodes[class].iter().enumerate() {
                    let sum = candidate.cost + candidate.children.iter().map(|&child| total[child]).sum::<f64>();
                    if sum < total[class] {
                        (best[class], total[class], changed) = (Some(n), sum, true);
                    }
                }
            }
            if !changed {
                return best;
            }
        }
    }

    fn is_acyclic(&self, best: &[Option<usize>], saturated: &Saturated) -> bool {
        let (mut state, mut stack) = (vec![0u8; best.len()], Vec::new());
        for &root in &saturated.roots {
            stack.extend(self.ids.binary_search(&self.egraph.find(root)).ok().map(|i| (i, false)));
            while let Some((class, finished)) = stack.pop() {
                if finished {
                    state[class] = 2;
                } else if state[class] == 0 {
                    state[class] = 1;
                    stack.push((class, true));
                    let Some(n) = best[class] else { return false };
                    for &child in &self.nodes[class][n].children {
                        if state[child] == 1 {
                            return false;
                        }
                        stack.push((child, false));
                    }
                }
            }
        }
        true
    }

    fn choice(&self, best: &[Option<usize>], saturated: &Saturated) -> Result<Choice, PassError> {
        let mut choice = Choice::default();
        let mut stack: Vec<Id> = saturated.roots.iter().map(|&id| self.egraph.find(id)).collect();
        while let Some(id) = stack.pop() {
            if choice.contains_key(&id) {
                continue;
            }
            let class = self.ids.binary_search(&id).map_err(|_| PassError::NoTerm(id.to_string()))?;
            let n = best[class].ok_or_else(|| PassError::NoTerm(self.nodes[class][0].node.to_string()))?;
            let candidate = &self.nodes[class][n];
            choice.insert(id, candidate.node.clone());
            stack.extend(candidate.children.iter().map(|&child| self.ids[child]));
        }
        Ok(choice)
    }
}

/// The best node of each class so far, with the set of classes that it needs.
struct Shared {
    best: Vec<Option<usize>>,
    sets: Vec<Vec<u64>>,
    /// The cost of each class's best node alone.
    own: Vec<f64>,
}

impl Shared {
    fn new(count: usize) -> Shared {
        Shared { best: vec![None; count], sets: vec![vec![0; count.div_ceil(64)]; count], own: vec![0.0; count] }
    }

    /// Chooses again among the nodes of a class; whether anything changed.
    fn improve(&mut self, class: usize, nodes: &[Candidate]) -> bool {
        let mut found: Option<(f64, usize, Vec<u64>)> = None;
        for (n, candidate) in nodes.iter().enumerate() {
            let Some(set) = self.union(class, &candidate.children) else { continue };
            let sum = candidate.cost + self.sum(&set);
            // The node that was chosen stays if it is as good.
            let margin = if self.best[class] == Some(n) { 1.0 + 1e-9 } else { 1.0 - 1e-9 };
            if found.as_ref().is_none_or(|(best, ..)| sum < best * margin) {
                found = Some((sum, n, set));
            }
        }
        let Some((_, n, mut set)) = found else { return false };
        set[class / 64] |= 1 << (class % 64);
        let changed = self.best[class] != Some(n) || self.sets[class] != set;
        (self.best[class], self.own[class], self.sets[class]) = (Some(n), nodes[n].cost, set);
        changed
    }

    /// The classes that the children need; `None` if one has no term yet or needs `class`.
    fn union(&self, class: usize, children: &[usize]) -> Option<Vec<u64>> {
        let mut set = vec![0; self.own.len().div_ceil(64)];
        for &child in children {
            self.best[child]?;
            set.iter_mut().zip(&self.sets[child]).for_each(|(a, b): (&mut u64, &u64)| *a |= b);
        }
        (set[class / 64] >> (class % 64) & 1 == 0).then_some(set)
    }

    fn sum(&self, set: &[u64]) -> f64 {
        let mut sum = 0.0;
        for (i, &word) in set.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                sum += self.own[i * 64 + word.trailing_zeros() as usize];
                word &= word - 1;
            }
        }
        sum
    }
}

/// The cost of a choice.
pub fn choice_cost(egraph: &Egraph, choice: &Choice) -> f64 {
    let mut costs: Vec<f64> = choice.values().map(|node| node_cost(egraph, node)).collect();
    costs.sort_unstable_by(f64::total_cmp);
    costs.iter().sum()
}

/// The static cost of an e-node.
pub fn node_cost(egraph: &Egraph, node: &Enode) -> f64 {
    let Some(op) = op_of(egraph, node) else { return 0.0 };
    let operands: Vec<&Type> = node.children().iter().filter_map(|&id| egraph[id].data.ty()).collect();
    let Some(class) = egraph.lookup(node.clone()) else { return 0.0 };
    let facts = &egraph[class].data;
    let cost = op_cost(&op, &operands, &facts.types);
    // What depends on constants alone is computed once, at compile time.
    if facts.fixed { cost * 1e-4 } else { cost }
}

/// A static estimate of what an op costs: numbers moved and computed, and a little for being there at all.
pub fn op_cost(op: &Op, operands: &[&Type], results: &[Type]) -> f64 {
    const LAUNCH: f64 = 8.0;
    let out: f64 = results.iter().map(count).sum();
    let read: f64 = operands.iter().map(|ty| count(ty)).sum();
    let work = match op {
        Op::Constant { .. } | Op::Input { .. } => return 0.0,
        Op::Reshape { .. } => return 1.0,
        Op::Broadcast { .. } => 0.25 * out,
        Op::Slice { .. } => 0.5 * out,
        Op::Unary(_) => 1.5 * out,
        Op::Contract { spec, .. } => products(spec, operands) / 16.0 + out + read,
        Op::Routed { spec, .. } => routed_products(spec, operands) / 16.0 + out,
        Op::Conv { groups, .. } => {
            let window = operands.get(1).map_or(1.0, |w| count(w) / size(&w.shape[0]).max(1.0));
            out * window / 16.0 / (*groups as f64).max(1.0).sqrt() + out + read
        }
        Op::Attention { .. } => attention_work(operands) + read + out,
        Op::Gather { .. } => 2.0 * out,
        Op::Softmax { .. } => 6.0 * out,
        Op::Transpose { .. } => out,
        Op::Gelu { .. } | Op::Silu {} => 2.0 * out,
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::Rotary { .. } => 2.0 * out,
        Op::Sort { .. } | Op::TopK { .. } => 8.0 * read,
        _ if op.kind() == Kind::Pointwise => out,
        _ if op.kind() == Kind::Movement => 2.0 * out,
        _ => read + out,
    };
    LAUNCH + work
}

fn products(spec: &tarsia_graph::Contraction, operands: &[&Type]) -> f64 {
    let letters = |term: &[u8], ty: Option<&&Type>| -> Vec<(u8, f64)> {
        term.iter().copied().zip(ty.into_iter().flat_map(|ty| &ty.shape).map(size)).collect()
    };
    let left = letters(&spec.lhs, operands.first());
    let right = letters(&spec.rhs, operands.get(1));
    let extra = right.iter().filter(|(l, _)| !spec.lhs.contains(l));
    left.iter().chain(extra).map(|(_, n)| n).product()
}

fn routed_products(spec: &tarsia_graph::Contraction, operands: &[&Type]) -> f64 {
    let [x, weights, ids] = operands else { return f64::INFINITY };
    let shape: Vec<Dim> = ids.shape.iter().chain(weights.shape.get(1..).unwrap_or_default()).cloned().collect();
    products(spec, &[x, &Type::new(weights.dtype, shape)])
}

fn attention_work(operands: &[&Type]) -> f64 {
    let [q, k, v, ..] = operands else { return f64::INFINITY };
    let scores = size(&q.shape[0]) * size(&q.shape[1]) * size(&q.shape[2]) * size(&k.shape[2]);
    scores * (size(&k.shape[3]) + size(&v.shape[3])) / 16.0 + 0.25 * scores
}

fn count(ty: &Type) -> f64 {
    ty.shape.iter().map(size).product()
}

/// A size, with a plausible value for each unknown symbol.
fn size(dim: &Dim) -> f64 {
    const UNKNOWN: i64 = 32;
    dim.eval(&|_: &Symbol| Some(UNKNOWN)).map_or(f64::INFINITY, |value| value.max(1) as f64)
}
