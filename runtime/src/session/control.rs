//! Steps that are no launches: host functions, branches, loops, scans.

use tarsia_tensor::{DType, Shape, Tensor, host};
use tarsia_tile::{BufferId, LoopStep, Port, ScanStep, Step};

use super::compiled::Compiled;
use super::state::{Destination, Machine, State};
use super::value::{Arg, slice, stack};
use crate::error::RunError;

/// The results of a step.
///
/// # Errors
/// If a host function or a nested program fails.
pub fn run(
    state: &mut State,
    compiled: &Compiled,
    at: usize,
    step: &Step,
    machine: &mut Machine,
) -> Result<Vec<Tensor>, RunError> {
    match step {
        Step::Launch { .. } => Err(RunError::Control { step: at, reason: "the kernel is not bound".to_owned() }),
        Step::Host { function, ints, reals, operands, .. } => {
            let operands = tensors(state, compiled, operands)?;
            // Whatever the element type, a result that memory does not hold is not begun.
            let most = host::DEFAULT_LIMIT.min(machine.memory_limit);
            Ok(host::call_within(function, ints, reals, &operands, most)?)
        }
        Step::If { condition, operands, .. } => {
            let args = args(state, compiled, operands)?;
            let branch = usize::from(!truth(state, compiled, *condition, at)?);
            nested(state, compiled, at, branch, &args, machine)
        }
        Step::Loop(step) => repeat(state, compiled, at, step, machine),
        Step::Scan(step) => scan(state, compiled, at, step, machine),
    }
}

fn args(state: &State, compiled: &Compiled, ports: &[Port]) -> Result<Vec<Arg>, RunError> {
    ports.iter().map(|port| state.arg(compiled, port)).collect()
}

fn tensors(state: &State, compiled: &Compiled, ports: &[Port]) -> Result<Vec<Tensor>, RunError> {
    ports.iter().map(|port| state.arg(compiled, port)?.to_tensor()).collect()
}

/// The single element of a buffer.
fn scalar(state: &State, compiled: &Compiled, buffer: BufferId, at: usize) -> Result<i64, RunError> {
    let shape = compiled.program.buffers[buffer.0 as usize].shape.clone();
    let port = Port { name: compiled.program.buffers[buffer.0 as usize].name.clone(), buffer, shape };
    let numbers = state.arg(compiled, &port)?.to_tensor()?.numbers()?;
    let single = RunError::Control { step: at, reason: format!("`{}` must have one element", port.name) };
    if numbers.len() == 1 { Ok(numbers.to_i64()[0]) } else { Err(single) }
}

fn truth(state: &State, compiled: &Compiled, buffer: BufferId, at: usize) -> Result<bool, RunError> {
    Ok(scalar(state, compiled, buffer, at)? != 0)
}

/// Runs program `which` inside of step `at`.
fn nested(
    state: &mut State,
    compiled: &Compiled,
    at: usize,
    which: usize,
    args: &[Arg],
    machine: &mut Machine,
) -> Result<Vec<Tensor>, RunError> {
    let missing = || RunError::Control { step: at, reason: "it has no program".to_owned() };
    let inner = compiled.nested.get(&at).and_then(|programs| programs.get(which)).ok_or_else(missing)?;
    let State { nested, bindings, .. } = state;
    let inner_state = nested.get_mut(&at).and_then(|states| states.get_mut(which)).ok_or_else(missing)?;
    inner_state.bind_inputs(inner, args, Some(bindings), machine)?;
    let mut destination = Destination::fresh(inner.program.outputs.len());
    inner_state.execute(inner, args, &mut destination, machine)?;
    inner_state.take_outputs(inner, args, &mut destination)
}

fn repeat(
    state: &mut State,
    compiled: &Compiled,
    at: usize,
    step: &LoopStep,
    machine: &mut Machine,
) -> Result<Vec<Tensor>, RunError> {
    let trips = scalar(state, compiled, step.trip_count.buffer, at)?;
    let mut goes_on = truth(state, compiled, step.condition.buffer, at)?;
    let mut carried = args(state, compiled, &step.carried)?;
    let captured = args(state, compiled, &step.captured)?;
    let count = carried.len();
    let mut stacked: Vec<Vec<Tensor>> = vec![Vec::new(); step.results.len().saturating_sub(count)];
    let mut iteration = 0i64;
    while goes_on && iteration < trips {
        if iteration.unsigned_abs() >= machine.iteration_limit {
            return Err(RunError::Iterations { step: at, limit: machine.iteration_limit });
        }
        let counter = [Tensor::scalar(iteration), boolean(true)?];
        let all: Vec<Arg> =
            counter.iter().map(Arg::from_tensor).chain(carried).chain(captured.iter().cloned()).collect();
        let mut results = nested(state, compiled, at, 0, &all, machine)?.into_iter();
        goes_on = results.next().is_some_and(|tensor| tensor.bytes().first().is_some_and(|&byte| byte != 0));
        carried = results.by_ref().take(count).map(|tensor| Arg::from_tensor(&tensor)).collect();
        stacked.iter_mut().zip(results).for_each(|(parts, tensor)| parts.push(tensor));
        iteration += 1;
    }
    let mut results = carried.iter().map(Arg::to_tensor).collect::<Result<Vec<_>, _>>()?;
    for (parts, &buffer) in stacked.iter().zip(&step.results[count.min(step.results.len())..]) {
        results.push(stack_or_empty(state, compiled, parts, 0, buffer)?);
    }
    Ok(results)
}

fn scan(
    state: &mut State,
    compiled: &Compiled,
    at: usize,
    step: &ScanStep,
    machine: &mut Machine,
) -> Result<Vec<Tensor>, RunError> {
    let control = |reason: &str| RunError::Control { step: at, reason: reason.to_owned() };
    let mut states = args(state, compiled, &step.states)?;
    let captured = args(state, compiled, &step.captured)?;
    let mut inputs = Vec::with_capacity(step.inputs.len());
    for (port, axis, _) in &step.inputs {
        let tensor = state.arg(compiled, port)?.to_tensor()?;
        if *axis >= tensor.shape().len() {
            return Err(control("a sliced input does not have the axis"));
        }
        inputs.push(tensor);
    }
    let length = inputs.iter().zip(&step.inputs).map(|(tensor, (_, axis, _))| tensor.shape()[*axis]);
    let length = length.reduce(|a, b| if a == b { a } else { usize::MAX }).unwrap_or(0);
    if length == usize::MAX {
        return Err(control("the sliced inputs have different lengths"));
    }
    let count = states.len();
    let mut stacked: Vec<Vec<Tensor>> = vec![Vec::new(); step.outputs.len()];
    for i in 0..length {
        let mut all = states;
        let mut slices = Vec::with_capacity(inputs.len());
        for (tensor, (_, axis, from_end)) in inputs.iter().zip(&step.inputs) {
            slices.push(slice(tensor, *axis, if *from_end { length - 1 - i } else { i })?);
        }
        all.extend(slices.iter().map(Arg::from_tensor));
        all.extend(captured.iter().cloned());
        let mut results = nested(state, compiled, at, 0, &all, machine)?.into_iter();
        states = results.by_ref().take(count).map(|tensor| Arg::from_tensor(&tensor)).collect();
        stacked.iter_mut().zip(results).for_each(|(parts, tensor)| parts.push(tensor));
    }
    let mut results = states.iter().map(Arg::to_tensor).collect::<Result<Vec<_>, _>>()?;
    let buffers = &step.results[count.min(step.results.len())..];
    for ((mut parts, &(axis, from_end)), &buffer) in stacked.into_iter().zip(&step.outputs).zip(buffers) {
        if from_end {
            parts.reverse();
        }
        results.push(stack_or_empty(state, compiled, &parts, axis, buffer)?);
    }
    Ok(results)
}

/// The parts stacked along a new axis; without parts, a tensor of size 0 there whose other sizes are those known.
fn stack_or_empty(
    state: &State,
    compiled: &Compiled,
    parts: &[Tensor],
    axis: usize,
    buffer: BufferId,
) -> Result<Tensor, RunError> {
    if !parts.is_empty() {
        return stack(parts, axis);
    }
    let declared = &compiled.program.buffers[buffer.0 as usize];
    let size = |(i, dim)| if i == axis { 0 } else { state.bindings.size(dim).unwrap_or(0) };
    let shape: Shape = declared.shape.iter().enumerate().map(size).collect();
    Ok(Tensor::empty(declared.dtype, &shape)?)
}

fn boolean(value: bool) -> Result<Tensor, RunError> {
    Ok(Tensor::new(DType::Bool, &[], vec![u8::from(value)].into())?)
}
