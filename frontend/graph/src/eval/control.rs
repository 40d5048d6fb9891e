//! Sub-graphs: branches, loops, kernels, and composites by their expansion.

use std::sync::Arc;

use tarsia_tensor::{
    Bindings, DType, Shape, Tensor,
    arrange::{Places, concat},
};

use super::{Fault, Meter, evaluate};
use crate::{Graph, Op, Origin, Type, composite::expand};

pub(super) fn apply(op: &Op, x: &[Tensor], bindings: &Bindings, meter: &Meter) -> Result<Vec<Tensor>, Fault> {
    let (low, _) = op.arity();
    if x.len() < low {
        return Err(Fault::NoOperand);
    }
    let scope = Scope { bindings, meter };
    match op {
        Op::If { then_branch, else_branch, .. } => {
            let branch = if truth(&x[0])? { then_branch } else { else_branch };
            scope.run(branch, &x[1..])
        }
        Op::Loop { body, carried, types } => scope.repeat(body, *carried, types, x),
        Op::ScanLoop { body, states, input_axes, input_reverse, output_axes, output_reverse, types } => {
            let scan = Scan { states: *states, input_axes, input_reverse, output_axes, output_reverse };
            scope.scan(body, &scan, types, x)
        }
        Op::Kernel { body } => scope.run(body, x),
        _ => Err(Fault::NoOperand),
    }
}

/// The value of a composite's expansion on these operands.
pub(super) fn composite(
    op: &Op,
    x: &[Tensor],
    types: &[Type],
    bindings: &Bindings,
    meter: &Meter,
) -> Result<Vec<Tensor>, Fault> {
    let mut graph = Graph::new(op.name());
    let operands: Vec<_> = x.iter().map(|tensor| graph.add_input("x", Type::of(tensor))).collect();
    let result = expand(&mut graph, op, &operands, &Origin::default())?.ok_or(Fault::NoOperand)?;
    graph.add_output("y", result);
    let results = Scope { bindings, meter }.run(&graph, x)?;
    match (results.as_slice(), types) {
        ([tensor], [ty]) if Type::of(tensor) == *ty => Ok(results),
        ([tensor], [ty]) => Err(Fault::Result { expected: ty.to_string(), found: Type::of(tensor).to_string() }),
        _ => Err(Fault::ResultCount { expected: types.len(), found: results.len() }),
    }
}

/// What a sub-graph sees of its surroundings.
struct Scope<'a> {
    bindings: &'a Bindings,
    meter: &'a Meter,
}

/// The attributes of a scan loop.
struct Scan<'a> {
    states: usize,
    input_axes: &'a [usize],
    input_reverse: &'a [bool],
    output_axes: &'a [usize],
    output_reverse: &'a [bool],
}

impl Scope<'_> {
    fn run(&self, body: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, Fault> {
        Ok(evaluate(body, inputs, self.bindings, self.meter, &mut |_, _| {})?)
    }

    fn repeat(&self, body: &Arc<Graph>, carried: usize, types: &[Type], x: &[Tensor]) -> Result<Vec<Tensor>, Fault> {
        let trips = x[0].numbers()?.to_i64().first().copied().ok_or(Fault::NoOperand)?;
        let mut going = truth(&x[1])?;
        let mut values = x.get(2..2 + carried).ok_or(Fault::NoOperand)?.to_vec();
        let captured = &x[2 + carried..];
        let scanned = types.len().checked_sub(carried).ok_or(Fault::NoOperand)?;
        let mut stacks = vec![Vec::new(); scanned];
        let mut trip = 0;
        while going && trip < trips {
            self.meter.iterate()?;
            let step = [Tensor::scalar(trip), boolean(going)?];
            let inputs: Vec<Tensor> = step.into_iter().chain(values).chain(captured.iter().cloned()).collect();
            let mut results = self.run(body, &inputs)?.into_iter();
            going = truth(&results.next().ok_or(Fault::NoOperand)?)?;
            values = results.by_ref().take(carried).collect();
            self.push(&mut stacks, results)?;
            trip += 1;
        }
        let stacked = stacks.iter().zip(&types[carried..]).map(|(slices, ty)| self.stack(slices, 0, false, ty));
        let stacked = stacked.collect::<Result<Vec<_>, _>>()?;
        self.release(&stacks);
        Ok(values.into_iter().chain(stacked).collect())
    }

    fn scan(&self, body: &Arc<Graph>, scan: &Scan, types: &[Type], x: &[Tensor]) -> Result<Vec<Tensor>, Fault> {
        let inputs = scan.input_axes.len();
        let mut states = x.get(..scan.states).ok_or(Fault::NoOperand)?.to_vec();
        let scanned = x.get(scan.states..scan.states + inputs).ok_or(Fault::NoOperand)?;
        let captured = &x[scan.states + inputs..];
        let length = scan_length(scanned, scan.input_axes)?;
        let outputs = types.len().checked_sub(scan.states).ok_or(Fault::NoOperand)?;
        if scan.input_reverse.len() != inputs
            || scan.output_axes.len() != outputs
            || scan.output_reverse.len() != outputs
        {
            return Err(Fault::Op("axes and directions are not as many as scanned values".to_owned()));
        }
        let mut stacks = vec![Vec::new(); outputs];
        for step in 0..length {
            self.meter.iterate()?;
            let slices = scanned
                .iter()
                .zip(scan.input_axes.iter().zip(scan.input_reverse))
                .map(|(x, (&axis, &reverse))| element_of(x, axis, if reverse { length - 1 - step } else { step }));
            let slices = slices.collect::<Result<Vec<_>, _>>()?;
            let arguments: Vec<Tensor> = states.into_iter().chain(slices).chain(captured.iter().cloned()).collect();
            let mut results = self.run(body, &arguments)?.into_iter();
            states = results.by_ref().take(scan.states).collect();
            self.push(&mut stacks, results)?;
        }
        let directions = scan.output_axes.iter().zip(scan.output_reverse);
        let stacked = stacks.iter().zip(directions).zip(&types[scan.states..]);
        let stacked = stacked.map(|((slices, (&axis, &reverse)), ty)| self.stack(slices, axis, reverse, ty));
        let stacked = stacked.collect::<Result<Vec<_>, _>>()?;
        self.release(&stacks);
        Ok(states.into_iter().chain(stacked).collect())
    }

    /// Keeps the scanned results of one iteration.
    fn push(&self, stacks: &mut [Vec<Tensor>], results: impl Iterator<Item = Tensor>) -> Result<(), Fault> {
        let results: Vec<Tensor> = results.collect();
        if results.len() != stacks.len() {
            return Err(Fault::ResultCount { expected: stacks.len(), found: results.len() });
        }
        self.meter.keep(&results);
        self.meter.check(&[])?;
        stacks.iter_mut().zip(results).for_each(|(stack, tensor)| stack.push(tensor));
        if self.meter.room() == 0 {
            return Err(Fault::TooLarge { shapes: Vec::new(), limit: self.meter.options.elements });
        }
        Ok(())
    }

    fn release(&self, stacks: &[Vec<Tensor>]) {
        stacks.iter().flatten().for_each(|tensor| self.meter.release(tensor));
    }

    /// Slices joined along a new axis. Without slices the sizes are the declared ones, 0 where nothing is known.
    fn stack(&self, slices: &[Tensor], axis: usize, reverse: bool, ty: &Type) -> Result<Tensor, Fault> {
        let Some(first) = slices.first() else { return self.empty(axis, ty) };
        if axis > first.shape().len() {
            return Err(Fault::Size(format!("there is no axis {axis} to stack along")));
        }
        if let Some(other) = slices.iter().find(|slice| slice.shape() != first.shape()) {
            let (a, b) = (first.shape(), other.shape());
            return Err(Fault::Size(format!("slices of shape {a:?} and {b:?} cannot be stacked")));
        }
        let mut shape: Shape = first.shape().into();
        shape.insert(axis, 1);
        let mut parts = slices.iter().map(|slice| slice.reshaped(&shape)).collect::<Result<Vec<_>, _>>()?;
        if reverse {
            parts.reverse();
        }
        Ok(concat(axis, &parts.iter().collect::<Vec<_>>())?)
    }

    fn empty(&self, axis: usize, ty: &Type) -> Result<Tensor, Fault> {
        let sizes = ty.shape.iter().enumerate();
        let shape: Shape =
            sizes.map(|(i, dim)| if i == axis { 0 } else { self.bindings.size(dim).unwrap_or(0) }).collect();
        Ok(Tensor::empty(ty.dtype, &shape)?)
    }
}

fn truth(x: &Tensor) -> Result<bool, Fault> {
    match x.numbers()?.to_i64().as_slice() {
        [value] => Ok(*value != 0),
        values => Err(Fault::Size(format!("a condition has {} elements instead of 1", values.len()))),
    }
}

fn boolean(value: bool) -> Result<Tensor, Fault> {
    Ok(Tensor::new(DType::Bool, &[], vec![u8::from(value)].into())?)
}

/// The common size of the scanned axes.
fn scan_length(scanned: &[Tensor], axes: &[usize]) -> Result<usize, Fault> {
    let mut sizes = scanned.iter().zip(axes).map(|(tensor, &axis)| {
        let size = tensor.shape().get(axis).copied();
        size.ok_or_else(|| Fault::Size(format!("there is no axis {axis} to scan")))
    });
    let first = sizes.next().ok_or_else(|| Fault::Op("nothing is scanned".to_owned()))??;
    for size in sizes {
        if size? != first {
            return Err(Fault::Size("the scanned axes differ in size".to_owned()));
        }
    }
    Ok(first)
}

/// The slice at `index` of `axis`, which disappears.
fn element_of(x: &Tensor, axis: usize, index: usize) -> Result<Tensor, Fault> {
    let own = tarsia_tensor::arrange::strides(x.shape());
    let mut shape: Shape = x.shape().into();
    shape.remove(axis);
    let others = own.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, &stride)| stride as isize);
    Ok(x.rearranged(&shape, Places::new(&shape, others, (index * own[axis]) as isize))?)
}
