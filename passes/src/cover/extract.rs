//! Covering as extraction: each e-class keeps its priority cuts over all its e-nodes, so that the rules supply the choices
//! and the kernels' times decide. What comes out is a plain graph, whose cover is found anew across the borders of regions.
//!
//! Cuts need operands before users. Classes are put in the order of the e-graph's strongly connected components; inside one,
//! in the order in which their cheapest terms are found, and e-nodes that look back there are left out, so that no choice
//! can be cyclic.

use std::{cmp::Reverse, collections::BinaryHeap};

use egg::{Id, Language};
use petgraph::{algo::tarjan_scc, graph::DiGraph};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_graph::{Attr, Origin, Type};

use super::{
    CostModel, Options,
    cut::Cutter,
    network::{Network, Pin, Role},
    select::Selection,
};
use crate::{
    PassError,
    extract::{Choice, Extract, Greedy, op_cost},
    facts::{Egraph, op_of},
    language::{Enode, Head},
    saturate::Saturated,
};

/// Extraction by the cost of kernels.
pub struct ByKernels<'a> {
    /// What kernels cost.
    pub model: &'a dyn CostModel,
    /// How kernels are found.
    pub options: &'a Options,
}

impl Extract for ByKernels<'_> {
    fn choose(&self, saturated: &Saturated) -> Result<Choice, PassError> {
        let greedy = Greedy.choose(saturated)?;
        let plain = self.cover(Terms::chosen(saturated, &greedy), saturated, &FxHashMap::default())?;
        // How often a value is used decides what it seems to cost. Alternatives that are not taken use nothing, so the
        // numbers come from the best choice so far.
        let (mut users, mut best, mut choice) = (plain.users, plain.time, greedy);
        for _ in 0..ROUNDS {
            let found = self.cover(Terms::new(saturated), saturated, &users)?;
            if found.time >= best * (1.0 - LEAST) {
                break;
            }
            (users, best, choice) = (found.users, found.time, found.choice);
        }
        Ok(choice)
    }
}

/// How often a choice may be replaced by a better one.
const ROUNDS: usize = 3;

/// A choice that is better by less than this is as good.
const LEAST: f64 = 1e-6;

/// A cover of some of the terms.
struct Found {
    choice: Choice,
    /// Seconds.
    time: f64,
    /// How many kernels and outputs use each class that is computed.
    users: FxHashMap<Id, u32>,
}

impl ByKernels<'_> {
    /// The best cover of these terms when classes are used as often as `users` tells; once, if it does not. Without any
    /// numbers they are counted.
    fn cover(&self, terms: Terms, saturated: &Saturated, users: &FxHashMap<Id, u32>) -> Result<Found, PassError> {
        let (mut network, places) = terms.network(saturated, self.options)?;
        if !users.is_empty() {
            places.class.iter().for_each(|(id, &class)| {
                network.classes[class as usize].users = users.get(id).copied().unwrap_or(1);
            });
        }
        let cuts = Cutter::new(&network, self.model, self.options).all();
        let selection = Selection::new(&network, &cuts, self.options.rounds);
        let choice = complete(saturated, &places, &alternatives(&network, &selection))?;
        let uses = selection.uses();
        let users = places.class.iter().map(|(&id, &class)| (id, uses[class as usize])).filter(|(_, uses)| *uses > 0);
        Ok(Found { choice, time: selection.total(), users: users.collect() })
    }
}

/// The alternative that the selection takes of each class that it computes.
fn alternatives(network: &Network, selection: &Selection) -> Vec<Option<u16>> {
    let mut chosen: Vec<Option<u16>> = vec![None; network.classes.len()];
    let stored = |&class: &u32| selection.is_stored(class);
    for class in (0..network.classes.len() as u32).rev().filter(stored) {
        // A class that is stored is computed by its own kernel; others by the first that has it inside.
        match selection.cut(class) {
            Some(cut) => {
                for &(inner, alternative) in &cut.cone.inner {
                    let place = &mut chosen[inner as usize];
                    if inner == class || place.is_none() {
                        *place = Some(alternative);
                    }
                }
            }
            None => chosen[class as usize] = chosen[class as usize].or(Some(0)),
        }
    }
    chosen
}

/// The choice for everything that the roots need. What the cover does not decide (constant expressions, what only a displaced
/// alternative needs) is chosen as the static extraction does, or first of all.
fn complete(saturated: &Saturated, places: &Places, chosen: &[Option<u16>]) -> Result<Choice, PassError> {
    let egraph = &saturated.egraph;
    let mut choice = Choice::default();
    let mut stack: Vec<Id> = saturated.roots.iter().map(|&id| egraph.find(id)).collect();
    while let Some(id) = stack.pop() {
        if choice.contains_key(&id) {
            continue;
        }
        let class = places.class.get(&id).ok_or_else(|| PassError::NoTerm(id.to_string()))?;
        let nodes = &places.nodes[*class as usize];
        let place = usize::from(chosen[*class as usize].unwrap_or(0));
        let node = nodes.get(place).ok_or_else(|| PassError::NoTerm(id.to_string()))?.clone();
        stack.extend(node.children().iter().map(|&c| egraph.find(c)).filter(|&c| egraph[c].data.attr.is_none()));
        choice.insert(id, node);
    }
    Ok(choice)
}

/// Where e-classes are in the network, and the e-nodes behind its alternatives.
struct Places {
    class: FxHashMap<Id, u32>,
    nodes: Vec<Vec<Enode>>,
}

/// The classes that the roots can need, operands before users, with the e-nodes that keep that order.
struct Terms<'a> {
    egraph: &'a Egraph,
    order: Vec<Id>,
    nodes: FxHashMap<Id, Vec<&'a Enode>>,
}

impl<'a> Terms<'a> {
    fn new(saturated: &'a Saturated) -> Terms<'a> {
        let egraph = &saturated.egraph;
        let ids = reachable(saturated);
        let place: FxHashMap<Id, usize> = ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let mut uses: DiGraph<(), ()> = DiGraph::with_capacity(ids.len(), ids.len() * 3);
        let vertices: Vec<_> = ids.iter().map(|_| uses.add_node(())).collect();
        for (i, &id) in ids.iter().enumerate() {
            for child in egraph[id].nodes.iter().flat_map(|node| children(egraph, node)) {
                uses.add_edge(vertices[i], vertices[place[&child]], ());
            }
        }
        // Tarjan gives components in reverse topological order of the edges: operands first.
        let mut terms = Terms { egraph, order: Vec::with_capacity(ids.len()), nodes: FxHashMap::default() };
        let mut rank: FxHashMap<Id, usize> = FxHashMap::default();
        for component in tarjan_scc(&uses) {
            let mut members: Vec<Id> = component.into_iter().map(|vertex| ids[vertex.index()]).collect();
            members.sort_unstable();
            for id in in_order_of_cost(egraph, &members, &rank) {
                rank.insert(id, terms.order.len());
                terms.order.push(id);
                let ready =
                    |node: &&Enode| children(egraph, node).all(|child| child != id && rank.contains_key(&child));
                terms.nodes.insert(id, egraph[id].nodes.iter().filter(ready).collect());
            }
        }
        terms
    }

    /// Only the terms of a choice.
    fn chosen(saturated: &'a Saturated, choice: &'a Choice) -> Terms<'a> {
        let egraph = &saturated.egraph;
        let mut terms = Terms { egraph, order: Vec::with_capacity(choice.len()), nodes: FxHashMap::default() };
        let mut stack: Vec<(Id, bool)> = saturated.roots.iter().rev().map(|&id| (egraph.find(id), false)).collect();
        while let Some((id, finished)) = stack.pop() {
            let Some(node) = choice.get(&id).filter(|_| !terms.nodes.contains_key(&id)) else { continue };
            if finished {
                terms.order.push(id);
                terms.nodes.insert(id, vec![node]);
            } else {
                stack.push((id, true));
                stack.extend(children(egraph, node).map(|child| (child, false)));
            }
        }
        terms
    }

    fn network(self, saturated: &Saturated, options: &Options) -> Result<(Network, Places), PassError> {
        let egraph = self.egraph;
        let mut network = Network::default();
        let mut places = Places { class: FxHashMap::default(), nodes: Vec::new() };
        let mut pins: FxHashMap<Id, Pin> = FxHashMap::default();
        let mut greedy: Option<Choice> = None;
        for &id in &self.order {
            let data = &egraph[id].data;
            let class = network.classes.len() as u32;
            places.class.insert(id, class);
            let mut nodes: Vec<Enode> = self.nodes[&id].iter().map(|&node| node.clone()).collect();
            let get = nodes.iter().position(|node| node.is("get"));
            let leaf = nodes.iter().position(|node| matches!(node.head, Head::Input(_) | Head::Constant(_)));
            let role = role(egraph, id, &nodes);
            if let Some(at) = leaf.or(get) {
                nodes.swap(0, at);
                nodes.truncate(1);
            } else if role == Role::Stored && nodes.len() > 1 {
                let known = match &mut greedy {
                    Some(known) => known,
                    none => none.insert(Greedy.choose(saturated)?),
                };
                let best = known.get(&id).and_then(|best| nodes.iter().position(|node| node == best));
                nodes.swap(0, best.unwrap_or(0));
                nodes.truncate(1);
            }
            let pin = get.and_then(|_| projection(egraph, &nodes[0], &pins)).unwrap_or(Pin { class, output: 0 });
            pins.insert(id, pin);
            let types: SmallVec<[Type; 1]> = data.types.clone();
            network.push(types, if get.is_some() { Role::Stored } else { role }, options);
            if get.is_none() && !nodes.iter().any(|node| matches!(node.head, Head::Input(_))) {
                let mut kept = Vec::with_capacity(nodes.len());
                for node in nodes {
                    let Some(op) = op_of(egraph, &node) else { continue };
                    let operands: SmallVec<[Pin; 4]> = children(egraph, &node).map(|child| pins[&child]).collect();
                    let operands = if role == Role::Compute { operands } else { SmallVec::new() };
                    network.alternative(class, op, operands, Origin::default());
                    kept.push(node);
                }
                nodes = kept;
            }
            places.nodes.push(nodes);
        }
        for (i, &root) in saturated.roots.iter().enumerate() {
            let pin = pins.get(&egraph.find(root)).ok_or_else(|| PassError::NoTerm(root.to_string()))?;
            network.outputs.push((format!("y{i}"), *pin));
        }
        network.count_users();
        Ok((network, places))
    }
}

/// The operand classes of an e-node.
fn children<'a>(egraph: &'a Egraph, node: &'a Enode) -> impl Iterator<Item = Id> + 'a {
    node.children().iter().map(|&id| egraph.find(id)).filter(|&id| egraph[id].data.attr.is_none())
}

/// The value behind a projection.
fn projection(egraph: &Egraph, node: &Enode, pins: &FxHashMap<Id, Pin>) -> Option<Pin> {
    let index = node.children.first().and_then(|&id| egraph[id].data.attr.as_ref())?;
    let Attr::Int(output) = index.value() else { return None };
    let tuple = children(egraph, node).next()?;
    Some(Pin { class: pins.get(&tuple)?.class, output: u32::try_from(*output).ok()? })
}

fn role(egraph: &Egraph, id: Id, nodes: &[Enode]) -> Role {
    let data = &egraph[id].data;
    let constant = nodes.iter().any(|node| matches!(node.head, Head::Constant(_)));
    if constant && data.constant.as_ref().is_some_and(|tensor| tensor.count() == 1) {
        Role::Immediate
    } else if constant || data.fixed || nodes.iter().any(|node| matches!(node.head, Head::Input(_))) {
        // What depends on constants alone is there when the program starts.
        Role::Stored
    } else {
        Role::Compute
    }
}

/// The classes that the roots can need, ascending.
fn reachable(saturated: &Saturated) -> Vec<Id> {
    let egraph = &saturated.egraph;
    let mut seen: rustc_hash::FxHashSet<Id> = rustc_hash::FxHashSet::default();
    let mut stack: Vec<Id> = saturated.roots.iter().map(|&id| egraph.find(id)).collect();
    while let Some(id) = stack.pop() {
        if seen.insert(id) {
            stack.extend(egraph[id].nodes.iter().flat_map(|node| children(egraph, node)));
        }
    }
    let mut ids: Vec<Id> = seen.into_iter().collect();
    ids.sort_unstable();
    ids
}

/// A total order of costs.
struct Cost(f64);

impl PartialEq for Cost {
    fn eq(&self, other: &Cost) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cost {}

impl PartialOrd for Cost {
    fn partial_cmp(&self, other: &Cost) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cost {
    fn cmp(&self, other: &Cost) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The members of a component in the order in which their cheapest terms are complete; those with `rank` are before all of them.
fn in_order_of_cost(egraph: &Egraph, members: &[Id], rank: &FxHashMap<Id, usize>) -> Vec<Id> {
    if let [_] = members {
        return members.to_vec();
    }
    let inside: FxHashMap<Id, usize> = members.iter().enumerate().map(|(i, &id)| (id, i)).collect();
    let mut waiting: Vec<Vec<(usize, usize)>> = vec![Vec::new(); members.len()];
    let mut open: Vec<Vec<(usize, f64)>> = Vec::with_capacity(members.len());
    let mut queue: BinaryHeap<Reverse<(Cost, usize)>> = BinaryHeap::new();
    for (i, &id) in members.iter().enumerate() {
        let mut nodes = Vec::new();
        for (n, node) in egraph[id].nodes.iter().enumerate() {
            let mut within: SmallVec<[usize; 4]> = children(egraph, node)
                .filter(|child| !rank.contains_key(child))
                .filter_map(|c| inside.get(&c).copied())
                .collect();
            within.sort_unstable();
            within.dedup();
            let cost = static_cost(egraph, node);
            if within.is_empty() {
                queue.push(Reverse((Cost(cost), i)));
            }
            within.iter().for_each(|&child| waiting[child].push((i, n)));
            nodes.push((within.len(), cost));
        }
        open.push(nodes);
    }
    let mut done = vec![false; members.len()];
    let mut order = Vec::with_capacity(members.len());
    while let Some(Reverse((Cost(cost), i))) = queue.pop() {
        if std::mem::replace(&mut done[i], true) {
            continue;
        }
        order.push(members[i]);
        for &(user, n) in &waiting[i] {
            let (missing, total) = &mut open[user][n];
            *missing -= 1;
            *total += cost;
            if *missing == 0 && !done[user] {
                queue.push(Reverse((Cost(*total), user)));
            }
        }
    }
    order
}

fn static_cost(egraph: &Egraph, node: &Enode) -> f64 {
    let Some(op) = op_of(egraph, node) else { return 0.0 };
    let operands: Vec<&Type> = children(egraph, node).filter_map(|id| egraph[id].data.ty()).collect();
    let Some(class) = egraph.lookup(node.clone()) else { return 0.0 };
    op_cost(&op, &operands, &egraph[class].data.types)
}
