//! Derivatives of branches and of loops over slices: the same control over graphs that give adjoints.

use std::sync::Arc;

use tarsia_tensor::{DType, Dim};

use super::{Adjoints, DerivativeError, Step, Stop, accumulate, copy_between, filled, pulled_back};
use crate::{Graph, Op, Origin, Type, Value, composite::Builder};

/// A body with the adjoints of its results as further inputs, giving the adjoints of the inputs `wanted` instead of its results.
fn adjoint_body(body: &Graph, given: &[bool], wanted: &[usize], origin: &Origin) -> Result<Graph, Stop> {
    let mut graph = Graph::new(&body.name);
    let mut copies = std::collections::BTreeMap::new();
    let mut inputs = Vec::with_capacity(body.inputs().len());
    for (name, id) in body.inputs() {
        let input = graph.add_input(name, body[*id].types[0].clone());
        copies.insert(Value::from(*id), input);
        inputs.push(input);
    }
    let mut seeds = Vec::new();
    for (index, output) in body.outputs().iter().enumerate().filter(|(index, _)| given[*index]) {
        seeds.push((index, graph.add_input(&format!("given{index}"), body.ty(output.value).clone())));
    }
    let first = graph.node_count();
    for id in body.node_ids().filter(|id| !matches!(body[*id].op, Op::Input { .. })) {
        let operands: Vec<Value> = body.operands(id).iter().map(|operand| copies[operand]).collect();
        let copy = graph.add(body[id].op.clone(), &operands, body[id].origin.clone())?;
        for output in 0..body[id].types.len() as u32 {
            copies.insert(Value { node: id, output }, Value { node: copy, output });
        }
    }
    // Composites and windows become their expansions.
    let mut expanded: std::collections::BTreeMap<Value, Value> = inputs.iter().map(|&input| (input, input)).collect();
    for output in body.outputs() {
        let value = copies[&output.value];
        copy_between(&mut graph, value, &mut expanded, origin).map_err(inner)?;
    }
    let result = |index: usize| {
        let value = copies[&body.outputs()[index].value];
        expanded.get(&value).copied().unwrap_or(value)
    };
    let seeds: Vec<(Value, Value)> = seeds.into_iter().map(|(index, seed)| (result(index), seed)).collect();
    let xs: Vec<Value> = wanted.iter().map(|&index| inputs[index]).collect();
    let found = pulled_back(&mut graph, first, &xs, &seeds, origin).map_err(inner)?;
    for (index, (adjoint, &x)) in found.into_iter().zip(&xs).enumerate() {
        let value = match adjoint {
            Some(value) => value,
            None => filled(&mut graph, x, 0.0, origin)?,
        };
        graph.add_output(&format!("adjoint{index}"), value);
    }
    Ok(graph.without_dead_nodes())
}

/// An error inside of a body.
fn inner(error: DerivativeError) -> Stop {
    match error {
        DerivativeError::Graph(error) => Stop::Graph(error),
        DerivativeError::Missing { .. } => Stop::Missing("an op of its body has none"),
    }
}

fn floats(b: &Builder, values: &[Value]) -> Vec<usize> {
    (0..values.len()).filter(|&at| b.graph.ty(values[at]).dtype.is_float()).collect()
}

pub(super) fn branch(b: &mut Builder, then_branch: &Graph, else_branch: &Graph, step: &Step) -> Adjoints {
    let given: Vec<bool> = step.adjoints.iter().map(Option::is_some).collect();
    let wanted = floats(b, &step.operands[1..]);
    let origin = b.origin.clone();
    let (then_branch, else_branch) =
        (adjoint_body(then_branch, &given, &wanted, &origin)?, adjoint_body(else_branch, &given, &wanted, &origin)?);
    let types: Vec<Type> = wanted.iter().map(|&at| b.graph.ty(step.operands[at + 1]).clone()).collect();
    let mut found = vec![None; step.operands.len()];
    if types.is_empty() {
        return Ok(found);
    }
    let op = Op::If { then_branch: Arc::new(then_branch), else_branch: Arc::new(else_branch), types };
    let operands: Vec<Value> = step.operands.iter().copied().chain(step.adjoints.iter().flatten().copied()).collect();
    let node = b.graph.add(op, &operands, origin)?;
    for (output, &at) in wanted.iter().enumerate() {
        found[at + 1] = Some(Value { node, output: output as u32 });
    }
    Ok(found)
}

/// The loop runs again and keeps its states, then backwards:
///
/// ```text
/// states of the backward loop: adjoints of the states, sums of the adjoints of the captured values
/// slices:                      the kept states, the scanned inputs, the adjoints of the scanned results, all in opposite order
/// results:                     adjoints of the scanned inputs
/// ```
pub(super) fn scan_loop(b: &mut Builder, step: &Step) -> Adjoints {
    let Op::ScanLoop { body, states, input_axes, input_reverse, output_axes, output_reverse, types } = step.op else {
        return Err(Stop::Missing("it is no loop over slices"));
    };
    let (states, scanned) = (*states, input_axes.len());
    // States that are no floats are kept for the way back, and have no adjoints.
    let moving: Vec<usize> = floats(b, &step.operands[..states]);
    let changes = (0..states).any(|at| body.ty(body.outputs()[at].value) != b.graph.ty(step.operands[at]));
    if changes {
        return Err(Stop::Missing("a state that changes its shape"));
    }
    let captured = &step.operands[states + scanned..];
    let length = b.graph.ty(step.operands[states]).shape.get(input_axes[0]).cloned();
    let length = length.ok_or(Stop::Missing("it scans nothing"))?;
    let kept = kept_states(b, step, &length)?;
    // The body takes (states, slices, captured, adjoints of states and of scanned results).
    let results: Vec<bool> = step.results.iter().map(|value| b.graph.ty(*value).dtype.is_float()).collect();
    let wanted: Vec<usize> = floats(b, step.operands);
    let origin = b.origin.clone();
    let inner = adjoint_body(body, &results, &wanted, &origin)?;
    let sums: Vec<usize> = wanted.iter().copied().filter(|&at| at >= states + scanned).collect();
    let slices: Vec<usize> = wanted.iter().copied().filter(|&at| (states..states + scanned).contains(&at)).collect();
    let backward = backward_body(&inner, body, [states, moving.len(), scanned], &sums, &origin)?;

    let adjoint_of = |b: &mut Builder, at: usize| match step.adjoints[at] {
        Some(adjoint) => Ok(adjoint),
        None => filled(b.graph, step.results[at], 0.0, &origin),
    };
    let mut operands = Vec::new();
    for &at in &moving {
        operands.push(adjoint_of(b, at)?);
    }
    for &at in &sums {
        operands.push(filled(b.graph, step.operands[at], 0.0, &origin)?);
    }
    let mut op_types: Vec<Type> = operands.iter().map(|&value| b.graph.ty(value).clone()).collect();
    let count = operands.len();
    let (mut axes, mut reverse) = (vec![0; states], vec![true; states]);
    operands.extend(kept);
    for at in 0..scanned {
        operands.push(step.operands[states + at]);
        axes.push(input_axes[at]);
        reverse.push(!input_reverse[at]);
    }
    for at in (states..types.len()).filter(|&at| results[at]) {
        operands.push(adjoint_of(b, at)?);
        axes.push(output_axes[at - states]);
        reverse.push(!output_reverse[at - states]);
    }
    operands.extend(captured);
    op_types.extend(slices.iter().map(|&at| b.graph.ty(step.operands[at]).clone()));
    let op = Op::ScanLoop {
        body: Arc::new(backward),
        states: count,
        input_axes: axes,
        input_reverse: reverse,
        output_axes: slices.iter().map(|&at| input_axes[at - states]).collect(),
        output_reverse: slices.iter().map(|&at| !input_reverse[at - states]).collect(),
        types: op_types,
    };
    let node = b.graph.add(op, &operands, origin)?;
    let order: Vec<usize> = moving.into_iter().chain(sums).chain(slices).collect();
    let mut found = vec![None; step.operands.len()];
    for (output, at) in order.into_iter().enumerate() {
        found[at] = Some(Value { node, output: output as u32 });
    }
    Ok(found)
}

/// The loop runs again and says how many iterations there are: then it is one over their numbers.
pub(super) fn counted_loop(b: &mut Builder, body: &Graph, carried: usize, types: &[Type], step: &Step) -> Adjoints {
    let stacked = types.len() - carried;
    let length = match types.get(carried).and_then(|ty| ty.shape.first()) {
        Some(length) => length.clone(),
        None => Dim::symbol(&format!("gradient_iterations_{}", b.graph.node_count())),
    };
    let mut counting = body.clone();
    let Some((_, number)) = counting.inputs().first().cloned() else {
        return Err(Stop::Missing("its body takes no number"));
    };
    counting.add_output("number", number.into());
    let numbers = Type::new(DType::I64, [length.clone()]);
    let types: Vec<Type> = types.iter().cloned().chain([numbers]).collect();
    let op = Op::Loop { body: Arc::new(counting), carried, types: types.clone() };
    let node = b.graph.add(op, step.operands, b.origin.clone())?;
    let numbers = Value { node, output: (types.len() - 1) as u32 };
    let op = Op::ScanLoop {
        body: Arc::new(over_numbers(body, carried)?),
        states: carried,
        input_axes: vec![0],
        input_reverse: vec![false],
        output_axes: vec![0; stacked],
        output_reverse: vec![false; stacked],
        types: types[..carried + stacked].to_vec(),
    };
    let (initial, captured) = step.operands[2..].split_at(carried);
    let operands: Vec<Value> = initial.iter().copied().chain([numbers]).chain(captured.iter().copied()).collect();
    let mut found = scan_loop(b, &Step { op: &op, operands: &operands, ..*step })?;
    found.remove(carried);
    Ok([None, None].into_iter().chain(found).collect())
}

/// The body of a loop as that of one over numbers: from (number, condition, carried, captured) and (condition, carried, stacked) to
/// (carried, number, captured) and (carried, stacked), where the condition holds.
fn over_numbers(body: &Graph, carried: usize) -> Result<Graph, Stop> {
    let mut graph = Graph::new(&body.name);
    let mut copies = std::collections::BTreeMap::new();
    let (own, captured) = body.inputs().split_at((2 + carried).min(body.inputs().len()));
    let number = own.first().ok_or(Stop::Missing("its body takes no number"))?;
    for (name, id) in own.iter().skip(2).chain([number]).chain(captured) {
        copies.insert(Value::from(*id), graph.add_input(name, body[*id].types[0].clone()));
    }
    if let Some((_, condition)) = own.get(1) {
        let going = Builder { graph: &mut graph, origin: &Origin::default() }.scalar(DType::Bool, 1.0);
        copies.insert(Value::from(*condition), going);
    }
    for id in body.node_ids().filter(|id| !matches!(body[*id].op, Op::Input { .. })) {
        let operands: Vec<Value> = body.operands(id).iter().map(|operand| copies[operand]).collect();
        let copy = graph.add(body[id].op.clone(), &operands, body[id].origin.clone())?;
        for output in 0..body[id].types.len() as u32 {
            copies.insert(Value { node: id, output }, Value { node: copy, output });
        }
    }
    for output in body.outputs().iter().skip(1) {
        graph.add_output(&output.name, copies[&output.value]);
    }
    Ok(graph)
}

/// The states before each iteration, stacked along axis 0.
fn kept_states(b: &mut Builder, step: &Step, length: &Dim) -> Result<Vec<Value>, Stop> {
    let Op::ScanLoop { body, states, input_axes, input_reverse, output_axes, output_reverse, types } = step.op else {
        return Ok(Vec::new());
    };
    let mut forward = Graph::clone(body);
    let own: Vec<Value> = forward.inputs()[..*states].iter().map(|(_, id)| Value::from(*id)).collect();
    for (at, &value) in own.iter().enumerate() {
        forward.add_output(&format!("kept{at}"), value);
    }
    let mut types = types.clone();
    for &state in &step.operands[..*states] {
        let mut ty = b.graph.ty(state).clone();
        ty.shape.insert(0, length.clone());
        types.push(ty);
    }
    let op = Op::ScanLoop {
        body: Arc::new(forward),
        states: *states,
        input_axes: input_axes.clone(),
        input_reverse: input_reverse.clone(),
        output_axes: output_axes.iter().copied().chain(std::iter::repeat_n(0, *states)).collect(),
        output_reverse: output_reverse.iter().copied().chain(std::iter::repeat_n(false, *states)).collect(),
        types,
    };
    let node = b.graph.add(op, step.operands, b.origin.clone())?;
    let first = step.results.len();
    Ok((first..first + states).map(|output| Value { node, output: output as u32 }).collect())
}

/// The body of the backward loop: (adjoints of states, sums, kept states, slices, adjoints of scanned results, captured) to (adjoints
/// of states, sums, adjoints of slices), where `counts` are how many states there are, how many have adjoints, and how many slices.
fn backward_body(
    inner: &Graph,
    body: &Graph,
    counts: [usize; 3],
    sums: &[usize],
    origin: &Origin,
) -> Result<Graph, Stop> {
    let [states, moving, scanned] = counts;
    let own = body.inputs().len();
    let types: Vec<Type> = inner.inputs().iter().map(|(_, id)| inner[*id].types[0].clone()).collect();
    let mut graph = Graph::new("backward");
    let add = |graph: &mut Graph, index: usize| {
        let name = format!("x{}", graph.inputs().len());
        graph.add_input(&name, types[index].clone())
    };
    let state_adjoints: Vec<Value> = (0..moving).map(|at| add(&mut graph, own + at)).collect();
    let before: Vec<Value> = sums.iter().map(|&at| add(&mut graph, at)).collect();
    let kept: Vec<Value> = (0..states + scanned).map(|at| add(&mut graph, at)).collect();
    let result_adjoints: Vec<Value> = (own + moving..types.len()).map(|at| add(&mut graph, at)).collect();
    let captured: Vec<Value> = (states + scanned..own).map(|at| add(&mut graph, at)).collect();
    let arguments: Vec<Value> = kept.into_iter().chain(captured).chain(state_adjoints).chain(result_adjoints).collect();
    let mut copies = std::collections::BTreeMap::new();
    for ((_, id), &argument) in inner.inputs().iter().zip(&arguments) {
        copies.insert(Value::from(*id), argument);
    }
    for id in inner.node_ids().filter(|id| !matches!(inner[*id].op, Op::Input { .. })) {
        let operands: Vec<Value> = inner.operands(id).iter().map(|operand| copies[operand]).collect();
        let copy = graph.add(inner[id].op.clone(), &operands, inner[id].origin.clone())?;
        for output in 0..inner[id].types.len() as u32 {
            copies.insert(Value { node: id, output }, Value { node: copy, output });
        }
    }
    let adjoints: Vec<Value> = inner.outputs().iter().map(|output| copies[&output.value]).collect();
    // They are in the order of the body's inputs: states, slices, captured.
    let (to_states, rest) = adjoints.split_at(moving);
    let (to_slices, to_captured) = rest.split_at(rest.len() - sums.len());
    for (at, &value) in to_states.iter().enumerate() {
        graph.add_output(&format!("state{at}"), value);
    }
    for (at, (&sum, &more)) in before.iter().zip(to_captured).enumerate() {
        let mut total = std::collections::BTreeMap::from([(sum, sum)]);
        accumulate(&mut graph, &mut total, sum, more, origin)?;
        graph.add_output(&format!("sum{at}"), total[&sum]);
    }
    for (at, &value) in to_slices.iter().enumerate() {
        graph.add_output(&format!("slice{at}"), value);
    }
    Ok(graph)
}
