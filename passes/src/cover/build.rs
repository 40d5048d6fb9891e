//! The graph of kernels of a selection, with the decisions behind it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tarsia_graph::{Graph, GraphError, NodeId, Op, Origin, Value};

use super::{
    Candidate, CostModel, Decision, Decisions, Options, Refused, Uncovered, cover,
    cut::{Cut, Form},
    network::{Alternative, Network, Pin, Role},
    select::Selection,
};
use crate::PassError;

/// Builds the graph of kernels. Equal kernels share one body.
pub(crate) fn build(
    graph: &Graph,
    network: &Network,
    selection: Selection,
    model: &dyn CostModel,
    options: &Options,
) -> Result<(Graph, Decisions), PassError> {
    let mut builder = Builder {
        network,
        model,
        options,
        selection,
        result: Graph::new(&graph.name),
        place: vec![None; network.classes.len()],
        bodies: FxHashMap::default(),
        decisions: Decisions::default(),
    };
    builder.decisions.time = builder.selection.total();
    for (name, id) in graph.inputs() {
        let input = builder.result.add_input(name, graph.ty(Value::from(*id)).clone());
        builder.place[id.index()] = Some(input.node);
    }
    for class in 0..network.classes.len() as u32 {
        if builder.selection.is_stored(class) && builder.place[class as usize].is_none() {
            builder.class(class)?;
        }
    }
    for (name, pin) in &network.outputs {
        let value = builder.value(*pin)?;
        builder.result.add_output(name, value);
    }
    Ok((builder.result, builder.decisions))
}

struct Builder<'a> {
    network: &'a Network,
    model: &'a dyn CostModel,
    options: &'a Options,
    selection: Selection<'a>,
    result: Graph,
    place: Vec<Option<NodeId>>,
    bodies: FxHashMap<u128, Arc<Graph>>,
    decisions: Decisions,
}

impl Builder<'_> {
    /// The stored value of a pin; classes are stored in order, so that it is there.
    fn value(&self, pin: Pin) -> Result<Value, PassError> {
        match self.place[pin.class as usize] {
            Some(node) => Ok(Value { node, output: pin.output }),
            None => Err(PassError::NoTerm(format!("value {}", pin.class))),
        }
    }

    fn values(&self, pins: &[Pin]) -> Result<SmallVec<[Value; 4]>, PassError> {
        pins.iter().map(|&pin| self.value(pin)).collect()
    }

    fn add(&mut self, class: u32, op: Op, operands: &[Value], origin: Origin) -> Result<NodeId, PassError> {
        let node = self.result.add(op, operands, origin).map_err(PassError::in_pass("cover"))?;
        self.place[class as usize] = Some(node);
        Ok(node)
    }

    fn class(&mut self, class: u32) -> Result<(), PassError> {
        let network = self.network;
        let Some(cut) = self.selection.cut(class) else {
            let alternatives = &network.classes[class as usize].alternatives;
            let plain = alternatives.first().ok_or_else(|| PassError::NoTerm(format!("value {class}")))?;
            return self.plain(class, plain);
        };
        match cut.form {
            Form::Alias => {
                let (_, reshape) = cut.cone.members(network).next().ok_or_else(|| PassError::NoTerm("alias".into()))?;
                let operands = self.values(&reshape.operands)?;
                self.add(class, reshape.op.clone(), &operands, reshape.origin.clone())?;
            }
            Form::Kernel(kind) => {
                let body = self.body(cut).map_err(PassError::in_pass("cover"))?;
                let operands = self.values(&cut.cone.operands(network))?;
                let node = self.add(class, Op::Kernel { body }, &operands, cut.cone.origin(network))?;
                let decision = self.decision(class, node, kind.name());
                self.decisions.kernels.push(decision);
            }
        }
        Ok(())
    }

    /// The body of a cut; the one that stands already, if there is an equal one.
    fn body(&mut self, cut: &Cut) -> Result<Arc<Graph>, GraphError> {
        let body = cut.cone.body(self.network)?;
        match self.bodies.get(&cut.key) {
            Some(known) if **known == body => Ok(known.clone()),
            _ => {
                let body = Arc::new(body);
                self.bodies.insert(cut.key, body.clone());
                Ok(body)
            }
        }
    }

    /// A node that is no kernel: constants, control and host ops, strings.
    fn plain(&mut self, class: u32, member: &Alternative) -> Result<(), PassError> {
        let operands = self.values(&member.operands)?;
        let (op, inner) = self.with_covered_subgraphs(&member.op)?;
        let node = self.add(class, op, &operands, member.origin.clone())?;
        if !inner.is_empty() {
            self.decisions.subgraphs.push((node.index() as u32, inner));
        }
        if self.network.classes[class as usize].role == Role::Compute {
            let refusals = &self.selection.cuts[class as usize].refusals;
            let reason = refusals.first().map_or_else(|| "no kernel holds it".to_owned(), |r| r.reason.to_string());
            let op = member.op.name().to_owned();
            self.decisions.uncovered.push(Uncovered { node: node.index() as u32, op, reason });
        }
        Ok(())
    }

    fn with_covered_subgraphs(&self, op: &Op) -> Result<(Op, Vec<Decisions>), PassError> {
        let mut op = op.clone();
        let mut inner = Vec::new();
        let mut replace = |graph: &mut Arc<Graph>| -> Result<(), PassError> {
            let (covered, decisions) = cover(graph, self.model, self.options)?;
            *graph = Arc::new(covered);
            inner.push(decisions);
            Ok(())
        };
        match &mut op {
            Op::If { then_branch, else_branch, .. } => {
                replace(then_branch)?;
                replace(else_branch)?;
            }
            Op::Loop { body, .. } | Op::ScanLoop { body, .. } => replace(body)?,
            _ => {}
        }
        Ok((op, inner))
    }

    fn decision(&mut self, class: u32, node: NodeId, kind: &str) -> Decision {
        let cuts = &self.selection.cuts[class as usize];
        let chosen = self.selection.chosen[class as usize];
        let difference: Vec<f64> = (0..cuts.cuts.len())
            .map(|place| if place == chosen { 0.0 } else { self.selection.difference(class, place) })
            .collect();
        let candidate = |place: usize| self.candidate(&cuts.cuts[place], difference[place]);
        let mut lost: Vec<Candidate> = (0..cuts.cuts.len()).filter(|&place| place != chosen).map(candidate).collect();
        lost.sort_by(|a, b| a.difference.total_cmp(&b.difference));
        let refused = cuts.refusals.iter().map(|refusal| {
            let classes = refusal.inner.iter().map(|&(class, alternative)| self.network.get(class, alternative));
            let (ops, origin) = names(classes);
            Refused { ops, origin, reason: refusal.reason.to_string() }
        });
        let refused = refused.collect();
        Decision { node: node.index() as u32, kind: kind.to_owned(), chosen: candidate(chosen), lost, refused }
    }

    fn candidate(&self, cut: &Cut, difference: f64) -> Candidate {
        let kind = match cut.form {
            Form::Alias => "alias",
            Form::Kernel(kind) => kind.name(),
        };
        let (ops, origin) = names(cut.cone.members(self.network).map(|(_, member)| member));
        let operands = cut.cone.operands(self.network).len();
        Candidate { kind: kind.to_owned(), ops, origin, operands, time: cut.time, difference }
    }
}

fn names<'a>(members: impl Iterator<Item = &'a Alternative>) -> (Vec<String>, Vec<String>) {
    let (mut ops, mut origin) = (Vec::new(), Origin::default());
    for member in members {
        ops.push(member.op.name().to_owned());
        origin = origin.merge(&member.origin);
    }
    (ops, origin.names().map(str::to_owned).collect())
}
