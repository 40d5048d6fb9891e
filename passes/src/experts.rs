//! Mixture-of-experts layers, however they were exported, as routed contractions.
//!
//! ```text
//! loop over experts ─unroll─► chain of sums ─roll up─► all experts, dense ─choose─► the chosen experts
//! rows per expert (non-zero) ─mask─►┘                            rows sorted by expert ─unsort─►┘
//! ```
//!
//! All of it rests on one law: Σₑ [ids = e]·f(e) = f(ids). The passes are rewritings of the graph, before saturation: they
//! reach across whole layers, where an e-graph would hold one copy of the layer for each expert.
//!
//! [`rebase`] reads a value at other places (`value[e := ids]`), [`stack`] joins values that differ in a number. What then
//! reads `x·W[ids]` becomes a routed contraction, so that no pass gathers whole matrices.

mod choose;
mod mask;
mod one_hot;
mod rebase;
mod stack;
mod unroll;
mod unsort;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, Op, Origin, Value};

use crate::{
    PassError,
    derivation::{Derivation, Step},
    emit::{Emitter, Folding},
    simplify::{ordered, walk, with_subgraphs},
};

/// The host function that lists where a tensor is not zero.
pub const NON_ZERO: &str = "nonzero";

/// One rewriting law: the value that a node on these operands equals.
type LawFn = fn(&mut Emitter, &Op, &[Value], &Origin) -> Result<Option<SmallVec<[Value; 1]>>, GraphError>;

const LAWS: &[(&str, LawFn)] = &[
    ("unroll-loop", unroll::unroll),
    ("scatter-repeated-rows", mask::scatter_rows),
    ("mask-rows", mask::mask),
    ("roll-up-sum", stack::roll_up),
    ("choose-experts", choose::choose),
    ("unsort-rows", unsort::unsort),
    ("sum-of-segments", unsort::segments),
];

/// What the laws did.
#[derive(Debug, Default)]
pub struct Applied {
    /// How often each law was applied.
    pub laws: BTreeMap<String, usize>,
    /// One for every application.
    pub derivations: Vec<Derivation>,
}

/// Rewrites a graph by the laws until none applies; tells of their applications.
///
/// # Errors
/// If a rewritten node does not type-check, which is a defect.
pub fn route(graph: &Graph, applied: &mut Applied) -> Result<Graph, PassError> {
    /// A model needs one round for each law on the way from its form to the routed one.
    const ROUNDS: usize = 8;
    let mut graph = graph.clone();
    for _ in 0..ROUNDS {
        let before = applied.derivations.len();
        let next = round(&graph, applied).map_err(PassError::in_pass("experts"))?;
        if applied.derivations.len() == before {
            break;
        }
        graph = next;
    }
    Ok(graph)
}

fn round(graph: &Graph, applied: &mut Applied) -> Result<Graph, GraphError> {
    let (mut emitter, inputs) = Emitter::new(graph, Folding::all(64 << 20));
    let mut done: FxHashMap<Value, Value> = FxHashMap::default();
    for ((_, id), value) in graph.inputs().iter().zip(inputs) {
        done.insert((*id).into(), value);
    }
    for id in walk(graph) {
        let node = &graph[id];
        if matches!(node.op, Op::Input { .. }) {
            continue;
        }
        let operands: SmallVec<[Value; 4]> = graph.operands(id).iter().map(|value| done[value]).collect();
        let results = match &node.op {
            Op::Constant { value } => SmallVec::from_iter([emitter.constant(value.clone(), &node.origin)]),
            op => {
                // A sum inside a longer sum is left to the longer one.
                let inner = matches!(op, Op::Binary(tarsia_graph::BinaryFn::Add)) && is_inner_sum(graph, id);
                let found = if inner { None } else { by_law(&mut emitter, op, &operands, &node.origin)? };
                match found {
                    Some((law, results)) if fits(&emitter, &results, &node.types) => {
                        applied.note(law, &emitter, &results, &node.origin);
                        results
                    }
                    _ => {
                        let op = with_subgraphs(op, &mut |sub| Ok::<Graph, GraphError>(sub.clone()))?;
                        emitter.emit_all(op, &operands, &node.origin)?
                    }
                }
            }
        };
        for (output, value) in results.into_iter().enumerate() {
            done.insert(Value { node: id, output: output as u32 }, value);
        }
    }
    for output in graph.outputs() {
        emitter.graph.add_output(&output.name, done[&output.value]);
    }
    Ok(ordered(&emitter.graph))
}

impl Applied {
    fn note(&mut self, law: &str, emitter: &Emitter, results: &[Value], origin: &Origin) {
        *self.laws.entry(law.to_owned()).or_default() += 1;
        let ops = results.iter().map(|&value| emitter.producer(value).0.name().to_owned()).collect();
        let steps = vec![Step { rule: law.to_owned(), backwards: false }];
        self.derivations.push(Derivation { ops, origin: origin.names().map(str::to_owned).collect(), steps });
    }
}

fn is_inner_sum(graph: &Graph, id: tarsia_graph::NodeId) -> bool {
    let users = graph.users(id);
    let add = Op::Binary(tarsia_graph::BinaryFn::Add);
    matches!(users.as_slice(), [(user, _)] if graph[*user].op == add)
        && !graph.outputs().iter().any(|o| o.value.node == id)
}

fn by_law(
    emitter: &mut Emitter,
    op: &Op,
    operands: &[Value],
    origin: &Origin,
) -> Result<Option<(&'static str, SmallVec<[Value; 1]>)>, GraphError> {
    for (name, law) in LAWS {
        if let Some(results) = law(emitter, op, operands, origin)? {
            return Ok(Some((name, results)));
        }
    }
    Ok(None)
}

fn fits(emitter: &Emitter, results: &[Value], types: &[tarsia_graph::Type]) -> bool {
    results.len() == types.len() && results.iter().zip(types).all(|(value, ty)| emitter.ty(*value) == ty)
}

/// One result.
fn one(value: Value) -> SmallVec<[Value; 1]> {
    SmallVec::from_iter([value])
}
