//! Equality saturation of one region: apply every rule to every class until nothing is new or a limit is reached.
//!
//! Limits are on iterations and e-nodes, never on time, so that a result can be reproduced. A match is tried once: what was
//! applied or refused is remembered. A rule that matches too often in one iteration rests for the next ones.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use egg::Id;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use serde::Serialize;
use tarsia_graph::Graph;

use crate::{
    PassError, convert,
    facts::Egraph,
    language::OpName,
    pattern::Found,
    rule::{Miss, Rule},
};

/// Limits of saturation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Iterations per region.
    pub iterations: usize,
    /// E-nodes per region, attributes included.
    pub nodes: usize,
    /// Matches of one rule in one iteration before it rests.
    pub matches: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { iterations: 24, nodes: 20_000, matches: 512 }
    }
}

/// Why saturation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// No rule has anything new to say.
    Saturated,
    /// The limit of iterations.
    Iterations,
    /// The limit of e-nodes.
    Nodes,
}

/// What happened in one region.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// Why it stopped.
    pub stop: Stop,
    /// Iterations run.
    pub iterations: usize,
    /// E-nodes at the end, attributes included.
    pub nodes: usize,
    /// E-classes at the end.
    pub classes: usize,
    /// How often each rule was applied.
    pub applied: BTreeMap<String, usize>,
    /// How often a match of a rule was not applied, by reason.
    pub missed: BTreeMap<String, BTreeMap<&'static str, usize>>,
}

/// A saturated region.
pub struct Saturated {
    /// The e-graph.
    pub egraph: Egraph,
    /// The class of each output of the region.
    pub roots: Vec<Id>,
    /// The classes of the region's values as they were loaded, in the order of nodes.
    pub originals: Vec<Id>,
    /// What happened.
    pub health: Health,
}

/// Saturates a region with rules. `fixed` tells which inputs are constants; `explain` keeps egg's explanations.
///
/// # Errors
/// If the region has an op that is not in the language.
pub fn saturate(
    region: &Graph,
    fixed: &[bool],
    rules: &[Rule],
    limits: &Limits,
    explain: bool,
) -> Result<Saturated, PassError> {
    let convert::Loaded { egraph, roots, values: originals } = convert::load(region, fixed, explain)?;
    let mut run = Run {
        egraph,
        rules,
        limits,
        tried: FxHashSet::default(),
        rest: vec![0; rules.len()],
        applied: BTreeMap::new(),
        missed: BTreeMap::new(),
    };
    let (stop, iterations) = run.run();
    let applied =
        run.applied.into_iter().filter(|(_, n)| *n > 0).map(|(rule, n)| (rules[rule].name.clone(), n)).collect();
    let mut missed: BTreeMap<String, BTreeMap<&'static str, usize>> = BTreeMap::new();
    for ((rule, Miss(reason)), n) in run.missed {
        *missed.entry(rules[rule].name.clone()).or_default().entry(reason).or_default() += n;
    }
    let (nodes, classes) = (run.egraph.total_size(), run.egraph.number_of_classes());
    let health = Health { stop, iterations, nodes, classes, applied, missed };
    let roots = roots.into_iter().map(|id| run.egraph.find(id)).collect();
    Ok(Saturated { egraph: run.egraph, roots, originals, health })
}

struct Run<'a> {
    egraph: Egraph,
    rules: &'a [Rule],
    limits: &'a Limits,
    tried: FxHashSet<u64>,
    /// Iterations for which each rule still rests.
    rest: Vec<usize>,
    applied: BTreeMap<usize, usize>,
    missed: BTreeMap<(usize, Miss), usize>,
}

impl Run<'_> {
    fn run(&mut self) -> (Stop, usize) {
        for iteration in 0..self.limits.iterations {
            let before = self.egraph.total_size();
            let mut changed = false;
            let found = self.search();
            let resting = self.rest.iter().any(|&n| n > 0);
            if found.is_empty() && !resting {
                return (Stop::Saturated, iteration);
            }
            for (rule, class, found) in found {
                changed |= self.apply(rule, class, &found);
                if self.egraph.total_size() > self.limits.nodes {
                    self.egraph.rebuild();
                    return (Stop::Nodes, iteration + 1);
                }
            }
            self.egraph.rebuild();
            changed |= self.egraph.total_size() != before;
            if !changed && !resting {
                return (Stop::Saturated, iteration + 1);
            }
        }
        (Stop::Iterations, self.limits.iterations)
    }

    /// All matches that were not tried yet.
    fn search(&mut self) -> Vec<(usize, Id, Found)> {
        let mut by_op: FxHashMap<OpName, Vec<Id>> = FxHashMap::default();
        let mut ids: Vec<Id> = self.egraph.classes().map(|class| class.id).collect();
        ids.sort_unstable();
        for &id in &ids {
            for node in &self.egraph[id].nodes {
                if let Some(name) = node.op() {
                    let classes = by_op.entry(name).or_default();
                    if classes.last() != Some(&id) {
                        classes.push(id);
                    }
                }
            }
        }
        let mut all = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            if self.rest[number] > 0 {
                self.rest[number] -= 1;
                continue;
            }
            let Some(classes) = rule.left.root().and_then(|name| by_op.get(&name)) else { continue };
            let mut matches = 0;
            for &class in classes {
                for found in rule.left.search(&self.egraph, class, rule.variables.len()) {
                    if self.tried.insert(self.key(number, class, &found)) {
                        matches += 1;
                        all.push((number, class, found));
                    }
                }
            }
            if matches > self.limits.matches {
                const REST: usize = 2;
                self.rest[number] = REST;
            }
        }
        all
    }

    /// What tells a match from others: the classes and what is known of the values of the variables.
    fn key(&self, rule: usize, class: Id, found: &Found) -> u64 {
        let mut hasher = FxHasher::default();
        (rule, class).hash(&mut hasher);
        for id in found.bindings.iter().flatten() {
            let data = &self.egraph[*id].data;
            (*id, data.splat.is_some(), data.fixed, data.non_negative, data.doubled).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether something was learnt.
    fn apply(&mut self, number: usize, class: Id, found: &Found) -> bool {
        let rule = &self.rules[number];
        let root = self.egraph.find(class);
        let result = rule.apply(&mut self.egraph, root, found);
        self.egraph.analysis.current = Default::default();
        match result {
            Ok(built) => {
                // An explanation is between terms, so it has to start from the one that matched.
                let explained = self.egraph.are_explanations_enabled();
                let matched =
                    if explained { rule.left.instance(&mut self.egraph, root, &found.bindings) } else { None };
                let learnt = self.egraph.union_trusted(matched.unwrap_or(root), built, rule.name.as_str());
                *self.applied.entry(number).or_default() += usize::from(learnt);
                learnt
            }
            Err(miss) => {
                *self.missed.entry((number, miss)).or_default() += 1;
                false
            }
        }
    }
}
