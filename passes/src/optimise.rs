//! The whole of rewriting: simplify, saturate region by region, extract, put together, simplify.

use std::{collections::BTreeMap, rc::Rc};

use rustc_hash::FxHashMap;
use serde::Serialize;
use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, Op, Value};

use crate::{
    PassError, convert,
    derivation::{Derivation, Local, derivations},
    emit::{Emitter, Folding},
    experts,
    extract::{Extract, Greedy, choice_cost},
    region::{self, Cutout, Part, Sizes},
    rule::Rule,
    rules,
    saturate::{Health, Limits, Saturated, Stop, saturate},
    simplify::{ordered, simplify, with_subgraphs},
};

/// How to optimise.
pub struct Options<'a> {
    /// The rules.
    pub rules: &'a [Rule],
    /// Limits per region.
    pub limits: Limits,
    /// How large regions are.
    pub sizes: Sizes,
    /// How terms are chosen.
    pub extract: &'a dyn Extract,
    /// How many bytes of constants folding may make.
    pub constant_bytes: usize,
    /// Saturate each different region once.
    pub reuse: bool,
    /// Keep explanations, and report how the chosen ops were derived.
    pub explain: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            rules: rules::all(),
            limits: Limits::default(),
            sizes: Sizes::default(),
            extract: &Greedy,
            constant_bytes: 256 << 20,
            reuse: true,
            explain: false,
        }
    }
}

/// What happened, for people and snapshots.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Regions in all, sub-graphs included.
    pub regions: usize,
    /// Regions that were equal to an earlier one.
    pub reused: usize,
    /// What happened in each region that was saturated.
    pub saturated: Vec<RegionReport>,
    /// How often each rule was applied, reuse not counted.
    pub applied: BTreeMap<String, usize>,
    /// How often each graph-level law was applied.
    pub laws: BTreeMap<String, usize>,
    /// How the chosen ops were derived, if that was asked for.
    pub derivations: Vec<Derivation>,
}

impl Report {
    /// One line: how many regions there were, how many of them were different, and how many rules met them.
    pub fn summary(&self) -> String {
        let (different, rules) = (self.saturated.len(), self.applied.values().sum::<usize>());
        let limited = self.saturated.iter().filter(|region| region.health.stop != Stop::Saturated).count();
        let limited = if limited > 0 { format!(", {limited} up to a limit") } else { String::new() };
        format!(
            "{} regions, {} equal to another, {different} saturated{limited}; rules applied {rules} times",
            self.regions, self.reused
        )
    }
}

/// What happened in one region.
#[derive(Clone, Debug, Serialize)]
pub struct RegionReport {
    /// How many nodes it had.
    pub size: usize,
    /// Saturation.
    pub health: Health,
    /// Static cost of the terms as they were.
    pub cost_before: f64,
    /// Static cost of the chosen terms.
    pub cost_after: f64,
}

/// Optimises a graph by rewriting.
///
/// # Errors
/// If a pass has a defect.
pub fn optimise(graph: &Graph, options: &Options) -> Result<(Graph, Report), PassError> {
    let mut report = Report::default();
    let mut state = State { options, known: FxHashMap::default() };
    let optimised = state.optimise(graph, &mut report)?;
    for region in &report.saturated {
        for (rule, n) in &region.health.applied {
            *report.applied.entry(rule.clone()).or_default() += n;
        }
    }
    Ok((optimised, report))
}

/// What became of a region.
#[derive(Clone)]
struct Rewritten {
    body: Graph,
    derivations: Rc<[Local]>,
}

struct State<'a, 'o> {
    options: &'a Options<'o>,
    /// Different regions and what became of them, by hash.
    known: FxHashMap<u64, SmallVec<[(Graph, Rewritten); 1]>>,
}

impl State<'_, '_> {
    fn optimise(&mut self, graph: &Graph, report: &mut Report) -> Result<Graph, PassError> {
        let bytes = self.options.constant_bytes;
        let graph = simplify(graph, Folding::small(bytes))?;
        let mut routed = experts::Applied::default();
        let graph = experts::route(&graph, &mut routed)?;
        for (law, n) in routed.laws {
            *report.laws.entry(law).or_default() += n;
        }
        if self.options.explain {
            report.derivations.extend(routed.derivations);
        }
        let graph = simplify(&graph, Folding::small(bytes))?;
        let rewritten = self.rewrite(&graph, report)?;
        simplify(&rewritten, Folding::all(bytes))
    }

    fn rewrite(&mut self, graph: &Graph, report: &mut Report) -> Result<Graph, PassError> {
        let in_pass = PassError::in_pass("saturate");
        let (mut emitter, inputs) = Emitter::new(graph, Folding::all(0));
        let mut done: FxHashMap<Value, Value> = FxHashMap::default();
        for ((_, id), value) in graph.inputs().iter().zip(inputs) {
            done.insert((*id).into(), value);
        }
        for id in graph.node_ids() {
            if let Op::Constant { value } = &graph[id].op {
                done.insert(id.into(), emitter.constant(value.clone(), &graph[id].origin));
            }
        }
        let parts = region::parts(graph, &self.options.sizes);
        let wanted = region::wanted(graph, &parts);
        for part in parts {
            match part {
                Part::Single(id) => {
                    let node = &graph[id];
                    let operands: Vec<Value> = graph.operands(id).iter().map(|value| done[value]).collect();
                    let op = with_subgraphs(&node.op, &mut |sub| self.optimise(sub, report))?;
                    let results = emitter.emit_all(op, &operands, &node.origin).map_err(&in_pass)?;
                    for (output, value) in results.into_iter().enumerate() {
                        done.insert(Value { node: id, output: output as u32 }, value);
                    }
                }
                Part::Region(nodes) => {
                    let cutout = region::cut(graph, &nodes, &wanted).map_err(&in_pass)?;
                    let body = self.region(&cutout, nodes.len(), report)?;
                    report.derivations.extend(body.derivations.iter().map(|local| cutout_derivation(&cutout, local)));
                    put_back(&mut emitter, &cutout, &body.body, &mut done).map_err(&in_pass)?;
                }
            }
        }
        for output in graph.outputs() {
            emitter.graph.add_output(&output.name, done[&output.value]);
        }
        Ok(ordered(&emitter.graph))
    }

    fn region(&mut self, cutout: &Cutout, size: usize, report: &mut Report) -> Result<Rewritten, PassError> {
        report.regions += 1;
        let key = cutout.hash();
        if self.options.reuse
            && let Some((_, body)) = self.known.get(&key).into_iter().flatten().find(|(from, _)| *from == cutout.graph)
        {
            report.reused += 1;
            return Ok(body.clone());
        }
        let options = self.options;
        let mut saturated = saturate(&cutout.graph, &cutout.fixed, options.rules, &options.limits, options.explain)?;
        let choice = options.extract.choose(&saturated)?;
        let body = convert::grow(&saturated, &choice, &cutout.graph)?;
        let cost_after = choice_cost(&saturated.egraph, &choice);
        let derivations =
            if options.explain { derivations(&mut saturated, &choice, &cutout.graph) } else { Vec::new() };
        let body = Rewritten { body, derivations: derivations.into() };
        let Saturated { health, .. } = saturated;
        report.saturated.push(RegionReport { size, health, cost_before: initial_cost(cutout)?, cost_after });
        self.known.entry(key).or_default().push((cutout.graph.clone(), body.clone()));
        Ok(body)
    }
}

/// The static cost of a region as it is.
fn initial_cost(cutout: &Cutout) -> Result<f64, PassError> {
    let convert::Loaded { egraph, roots, values: originals } = convert::load(&cutout.graph, &cutout.fixed, false)?;
    let health = Health {
        stop: Stop::Saturated,
        iterations: 0,
        nodes: 0,
        classes: 0,
        applied: BTreeMap::new(),
        missed: BTreeMap::new(),
    };
    let initial = Saturated { egraph, roots, originals, health };
    let choice = Greedy.choose(&initial)?;
    Ok(choice_cost(&initial.egraph, &choice))
}

/// A derivation with the names of this copy of the region.
fn cutout_derivation(cutout: &Cutout, local: &Local) -> Derivation {
    let origin = cutout.translate(&local.origin).names().map(str::to_owned).collect();
    Derivation { ops: local.ops.clone(), origin, steps: local.steps.clone() }
}

fn put_back(
    emitter: &mut Emitter,
    cutout: &Cutout,
    body: &Graph,
    done: &mut FxHashMap<Value, Value>,
) -> Result<(), GraphError> {
    let mut place: FxHashMap<Value, Value> = FxHashMap::default();
    for ((_, id), value) in body.inputs().iter().zip(&cutout.inputs) {
        place.insert((*id).into(), done[value]);
    }
    for id in body.node_ids() {
        let node = &body[id];
        let origin = cutout.translate(&node.origin);
        let results = match &node.op {
            Op::Input { .. } => continue,
            Op::Constant { value } => SmallVec::from_iter([emitter.constant(value.clone(), &origin)]),
            op => {
                let operands: Vec<Value> = body.operands(id).iter().map(|value| place[value]).collect();
                emitter.emit_all(op.clone(), &operands, &origin)?
            }
        };
        for (output, value) in results.into_iter().enumerate() {
            place.insert(Value { node: id, output: output as u32 }, value);
        }
    }
    for (output, value) in body.outputs().iter().zip(&cutout.outputs) {
        done.insert(*value, place[&output.value]);
    }
    Ok(())
}
