//! Which rules led from the nodes of a model to the terms that were chosen, read off egg's explanations.

use std::rc::Rc;

use egg::{Id, Language, TreeTerm};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use tarsia_graph::{Graph, Origin};

use crate::{extract::Choice, facts::Egraph, language::Enode, saturate::Saturated};

/// How some nodes became other ops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Derivation {
    /// The ops that they became, operands before users.
    pub ops: Vec<String>,
    /// The names of the nodes.
    pub origin: Vec<String>,
    /// The steps between, in order.
    pub steps: Vec<Step>,
}

/// One application of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Step {
    /// The rule, or the law of the experts' passes.
    pub rule: String,
    /// Whether it was read from right to left.
    pub backwards: bool,
}

/// A derivation in a region, where origins are numbers.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub ops: Vec<String>,
    pub origin: Origin,
    pub steps: Vec<Step>,
}

/// One derivation for each value of the region that is now computed by other ops; what is chosen below it as far as the next
/// such value belongs to it.
pub(crate) fn derivations(saturated: &mut Saturated, choice: &Choice, region: &Graph) -> Vec<Local> {
    let order = order(saturated, choice);
    let egraph = &mut saturated.egraph;
    let mut originals: FxHashMap<Id, Id> = FxHashMap::default();
    for &id in &saturated.originals {
        originals.entry(egraph.find(id)).or_insert(id);
    }
    let mut terms: FxHashMap<Id, Id> = FxHashMap::default();
    for &class in &order {
        let node =
            choice[&class].clone().map_children(|child| terms.get(&egraph.find(child)).copied().unwrap_or(child));
        terms.insert(class, egraph.add_uncanonical(node));
    }
    let mut found = Vec::new();
    for &class in &order {
        let Some(&original) = originals.get(&class).filter(|original| **original != terms[&class]) else { continue };
        let explanation = egraph.explain_id_equivalence(original, terms[&class]);
        let is_border = |id: Id| id != class && originals.contains_key(&id) && choice.contains_key(&id);
        let mut steps = Steps { egraph, is_border: &is_border, seen: FxHashSet::default(), steps: Vec::new() };
        steps.collect(&explanation.explanation_trees);
        let steps = steps.steps;
        if !steps.is_empty() {
            let (ops, origin) = inside(egraph, choice, class, &is_border, region);
            found.push(Local { ops, origin, steps });
        }
    }
    found
}

/// The chosen classes, operands before users.
fn order(saturated: &Saturated, choice: &Choice) -> Vec<Id> {
    let egraph = &saturated.egraph;
    let (mut order, mut seen) = (Vec::with_capacity(choice.len()), FxHashSet::default());
    let mut stack: Vec<(Id, bool)> = saturated.roots.iter().rev().map(|&id| (egraph.find(id), false)).collect();
    while let Some((id, finished)) = stack.pop() {
        if finished {
            order.push(id);
        } else if seen.insert(id) {
            stack.push((id, true));
            stack.extend(operands(egraph, choice, id).into_iter().rev().map(|child| (child, false)));
        }
    }
    order
}

fn operands(egraph: &Egraph, choice: &Choice, class: Id) -> Vec<Id> {
    let children = choice.get(&class).map(Enode::children).unwrap_or_default();
    children.iter().map(|&id| egraph.find(id)).filter(|id| choice.contains_key(id)).collect()
}

/// The ops chosen at and below a class up to the border, and where they come from.
fn inside(
    egraph: &Egraph,
    choice: &Choice,
    class: Id,
    is_border: &dyn Fn(Id) -> bool,
    region: &Graph,
) -> (Vec<String>, Origin) {
    let (mut ops, mut origin) = (Vec::new(), Origin::default());
    let (mut stack, mut seen) = (vec![class], FxHashSet::default());
    let names: Vec<&Origin> = region.node_ids().map(|id| &region[id].origin).collect();
    while let Some(id) = stack.pop() {
        if is_border(id) || !seen.insert(id) {
            continue;
        }
        ops.extend(choice[&id].op().map(|name| name.name().to_owned()));
        let of_class = egraph[id].data.origins.iter().filter_map(|index| names.get(index));
        origin = of_class.fold(origin, |all, more| all.merge(more));
        stack.extend(operands(egraph, choice, id));
    }
    ops.reverse();
    (ops, origin)
}

struct Steps<'a> {
    egraph: &'a Egraph,
    is_border: &'a dyn Fn(Id) -> bool,
    /// Terms that were seen: proofs share theirs.
    seen: FxHashSet<*const TreeTerm<Enode>>,
    steps: Vec<Step>,
}

impl Steps<'_> {
    /// The steps of a proof, in order; those of operands beyond the border belong to other derivations.
    fn collect(&mut self, proof: &[Rc<TreeTerm<Enode>>]) {
        for term in proof {
            if !self.seen.insert(Rc::as_ptr(term)) {
                continue;
            }
            for (rule, backwards) in [(term.forward_rule, false), (term.backward_rule, true)] {
                self.steps.extend(rule.map(|rule| Step { rule: rule.to_string(), backwards }));
            }
            for child in &term.child_proofs {
                let class = child.first().and_then(|first| self.egraph.lookup(first.node.clone()));
                if !class.is_some_and(self.is_border) {
                    self.collect(child);
                }
            }
        }
    }
}
