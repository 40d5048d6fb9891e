//! Derivatives: what a small change of values does to another one, as more nodes of the graph (reverse mode).
//!
//! ```text
//! xs ─► copies of the nodes from xs to y, composites and windows as their expansions ─► y
//! adjoint of y = 1 ─► per node, last first: the adjoints of its operands from that of its results (`pullback`) ─► adjoints of xs
//! ```
//!
//! Every op has one row in [`pullback`]: a rule, or nothing (its result does not change with its operands, or only in steps), or an
//! error. Where a function has a corner the derivative is one of its sides; equal extremes share theirs.

mod contract;
mod control;
mod pointwise;
mod reduce;
mod structure;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{
    BinaryFn, Graph, GraphError, Kind, NodeId, Op, Origin, ReduceFn, Type, Value,
    composite::{Builder, expand},
};

/// Why there is no derivative.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum DerivativeError {
    /// An op has none, as far as is known here.
    #[error("`{op}` (of {origin}) has no derivative: {reason}")]
    Missing {
        /// The op.
        op: &'static str,
        /// The model's nodes that it comes from.
        origin: String,
        /// Why.
        reason: String,
    },
    /// A rule does not fit the operands.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// Why a row has no rule for its operands.
enum Stop {
    Missing(&'static str),
    Graph(GraphError),
}

impl From<GraphError> for Stop {
    fn from(error: GraphError) -> Stop {
        Stop::Graph(error)
    }
}

/// The adjoints of a node's operands; `None` where the result does not depend on the operand.
type Adjoints = Result<Vec<Option<Value>>, Stop>;

/// A node with the adjoints of its results, of which at least one is known.
struct Step<'a> {
    op: &'a Op,
    operands: &'a [Value],
    results: &'a [Value],
    adjoints: &'a [Option<Value>],
}

impl Step<'_> {
    fn adjoint(&self) -> Result<Value, Stop> {
        self.adjoints.first().copied().flatten().ok_or(Stop::Missing("only its first result has one"))
    }
}

/// Adds to `graph` the derivatives of the sum of y's elements by each of `xs`, of the shapes of `xs`: zeros where y does not depend
/// on it. The derivatives are those where `values` are in place of `xs`.
///
/// # Errors
/// If an op between `xs` and y has no derivative.
pub fn gradients(
    graph: &mut Graph,
    y: Value,
    xs: &[Value],
    values: &[Value],
    origin: &Origin,
) -> Result<Vec<Value>, DerivativeError> {
    let first = graph.node_count();
    let mut copies: BTreeMap<Value, Value> = xs.iter().copied().zip(values.iter().copied()).collect();
    copy_between(graph, y, &mut copies, origin)?;
    let y = copies.get(&y).copied().unwrap_or(y);
    let seed = filled(graph, y, 1.0, origin)?;
    let adjoints = pulled_back(graph, first, values, &[(y, seed)], origin)?;
    let zero = |(adjoint, &x): (Option<Value>, &Value)| match adjoint {
        Some(adjoint) => Ok(adjoint),
        None => Ok(filled(graph, x, 0.0, origin)?),
    };
    adjoints.into_iter().zip(values).map(zero).collect()
}

/// Copies the nodes that depend on what is in `copies` already and that y needs, with composites and windows as their expansions.
fn copy_between(
    graph: &mut Graph,
    y: Value,
    copies: &mut BTreeMap<Value, Value>,
    origin: &Origin,
) -> Result<(), DerivativeError> {
    let ids: Vec<NodeId> = graph.node_ids().collect();
    let mut needed = vec![false; ids.len()];
    needed[y.node.index()] = true;
    for &id in ids.iter().rev().filter(|id| id.index() <= y.node.index()) {
        let is_copied = |output| copies.contains_key(&Value { node: id, output });
        if (0..graph[id].types.len() as u32).all(is_copied) {
            needed[id.index()] = false;
        }
        if needed[id.index()] {
            graph.operands(id).iter().for_each(|operand| needed[operand.node.index()] = true);
        }
    }
    for id in ids.into_iter().filter(|id| needed[id.index()]) {
        let operands = graph.operands(id);
        if !operands.iter().any(|operand| copies.contains_key(operand)) {
            continue;
        }
        let operands: Vec<Value> = operands.iter().map(|v| copies.get(v).copied().unwrap_or(*v)).collect();
        let (op, count) = (graph[id].op.clone(), graph[id].types.len() as u32);
        let origin = graph[id].origin.merge(origin);
        let copy = match expand(graph, &op, &operands, &origin)? {
            Some(value) => value.node,
            None => match window::expanded(graph, &op, &operands, &origin) {
                Ok(Some(value)) => value.node,
                Ok(None) => graph.add(op, &operands, origin)?,
                Err(stop) => return Err(explained(&op, &origin, stop)),
            },
        };
        for output in 0..count {
            copies.entry(Value { node: id, output }).or_insert(Value { node: copy, output });
        }
    }
    Ok(())
}

fn explained(op: &Op, origin: &Origin, stop: Stop) -> DerivativeError {
    match stop {
        Stop::Graph(error) => error.into(),
        Stop::Missing(reason) => {
            let origin = origin.names().collect::<Vec<_>>().join(", ");
            DerivativeError::Missing { op: op.name(), origin, reason: reason.to_owned() }
        }
    }
}

/// The adjoints of `xs` given those of `seeds`, through the nodes from number `first` on.
fn pulled_back(
    graph: &mut Graph,
    first: usize,
    xs: &[Value],
    seeds: &[(Value, Value)],
    origin: &Origin,
) -> Result<Vec<Option<Value>>, DerivativeError> {
    let tape: Vec<NodeId> = graph.node_ids().skip(first).collect();
    let mut active: Vec<bool> = vec![false; graph.node_count()];
    let is_x = |value: &Value| xs.contains(value);
    for &id in &tape {
        active[id.index()] = graph.operands(id).iter().any(|v| is_x(v) || active[v.node.index()]);
    }
    let mut adjoints: BTreeMap<Value, Value> = BTreeMap::new();
    for &(value, seed) in seeds {
        accumulate(graph, &mut adjoints, value, seed, origin)?;
    }
    for &id in tape.iter().rev().filter(|id| active[id.index()]) {
        let results: Vec<Value> = (0..graph[id].types.len() as u32).map(|output| Value { node: id, output }).collect();
        let of_results: Vec<Option<Value>> = results.iter().map(|value| adjoints.get(value).copied()).collect();
        if of_results.iter().all(Option::is_none) {
            continue;
        }
        let (op, operands) = (graph[id].op.clone(), graph.operands(id));
        let origin = graph[id].origin.merge(origin);
        let step = Step { op: &op, operands: &operands, results: &results, adjoints: &of_results };
        let mut builder = Builder { graph, origin: &origin };
        let found = pullback(&mut builder, &step).map_err(|stop| explained(&op, &origin, stop))?;
        for (&operand, adjoint) in operands.iter().zip(found) {
            let wanted = is_x(&operand) || active.get(operand.node.index()).is_some_and(|&active| active);
            if let Some(adjoint) = adjoint.filter(|_| wanted && graph.ty(operand).dtype.is_float()) {
                accumulate(graph, &mut adjoints, operand, adjoint, &origin)?;
            }
        }
    }
    Ok(xs.iter().map(|x| adjoints.get(x).copied()).collect())
}

fn accumulate(
    graph: &mut Graph,
    adjoints: &mut BTreeMap<Value, Value>,
    value: Value,
    more: Value,
    origin: &Origin,
) -> Result<(), GraphError> {
    let sum = match adjoints.get(&value) {
        Some(&before) => graph.add(Op::Binary(BinaryFn::Add), &[before, more], origin.clone())?.into(),
        None => more,
    };
    adjoints.insert(value, sum);
    Ok(())
}

/// A value of the type of another one, all of whose elements are equal.
fn filled(graph: &mut Graph, like: Value, element: f64, origin: &Origin) -> Result<Value, GraphError> {
    let Type { dtype, shape } = graph.ty(like).clone();
    let mut builder = Builder { graph, origin };
    let scalar = builder.scalar(dtype, element);
    if shape.is_empty() { Ok(scalar) } else { builder.add(Op::Broadcast { shape }, &[scalar]) }
}

/// The table: for each op, the adjoints of its operands.
fn pullback(b: &mut Builder, step: &Step) -> Adjoints {
    match step.op {
        Op::Unary(function) => pointwise::unary(b, *function, step),
        Op::Binary(function) => pointwise::binary(b, *function, step),
        Op::Select {} => pointwise::select(b, step),
        Op::Cast { .. } => pointwise::cast(b, step),
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } => structure::rearranged(b, step),
        Op::Slice { starts, sizes, steps } => structure::slice(b, starts, sizes, steps, step),
        Op::Pad { low, interior, .. } => structure::pad(b, low, interior, step),
        Op::Concat { axis } => structure::concat(b, *axis, step),
        Op::Reduce { function, axes } => reduce::reduce(b, *function, axes, step),
        Op::Scan { function, axis, exclusive, reverse } => {
            reduce::scan(b, *function, *axis, *exclusive, *reverse, step)
        }
        Op::Contract { spec, .. } => contract::contract(b, spec, step),
        Op::Gather { axis } => structure::gather(b, *axis, step),
        Op::TakeAlong { axis } => structure::take_along(b, *axis, step),
        Op::ScatterRows { function } => structure::scatter_rows(b, *function, step),
        Op::ScatterAlong { function, axis } => structure::scatter_along(b, *function, *axis, step),
        Op::Sort { axis, .. } | Op::TopK { axis, .. } => structure::sorted(b, *axis, step),
        Op::If { then_branch, else_branch, .. } => control::branch(b, then_branch, else_branch, step),
        Op::ScanLoop { .. } => control::scan_loop(b, step),
        Op::Loop { body, carried, types } => control::counted_loop(b, body, *carried, types, step),
        Op::Host { .. } => Err(Stop::Missing("it runs on the host")),
        Op::Kernel { .. } => Err(Stop::Missing("derivatives are taken before kernels are made")),
        Op::Conv { .. } | Op::WindowReduce { .. } => Err(Stop::Missing("its windows have no expansion")),
        // No operands, or results that are no numbers that change little by little.
        Op::Input { .. }
        | Op::Constant { .. }
        | Op::Iota { .. }
        | Op::Size { .. }
        | Op::Random { .. }
        | Op::ArgReduce { .. } => Ok(vec![None; step.operands.len()]),
        op => {
            debug_assert_eq!(op.kind(), Kind::Composite);
            Err(Stop::Missing("it is no primitive"))
        }
    }
}

/// An adjoint under the broadcast shape of an operand summed to the operand's own.
fn unbroadcast(b: &mut Builder, adjoint: Value, operand: Value) -> Result<Value, Stop> {
    let (from, to) = (b.graph.ty(adjoint).shape.clone(), b.graph.ty(operand).shape.clone());
    let new = from.len().saturating_sub(to.len());
    let stretched = |axis: &usize| match axis.checked_sub(new) {
        None => true,
        Some(own) => to[own].is(1) && !from[*axis].is(1),
    };
    let axes: Vec<usize> = (0..from.len()).filter(stretched).collect();
    let sum = if axes.is_empty() { adjoint } else { b.reduce(ReduceFn::Sum, adjoint, &axes)? };
    Ok(b.reshape(sum, &to)?)
}

/// `a ∘ b`.
fn mul(b: &mut Builder, x: Value, y: Value) -> Result<Value, Stop> {
    Ok(b.binary(BinaryFn::Mul, x, y)?)
}
