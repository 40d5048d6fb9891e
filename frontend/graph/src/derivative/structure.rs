//! Derivatives of ops that move elements: adjoints move back, and meet by addition.

use tarsia_tensor::Dim;

use super::{Adjoints, Step, Stop, filled, mul, unbroadcast};
use crate::{BinaryFn, Op, ReduceFn, ScatterFn, Value, composite::Builder};

pub(super) fn rearranged(b: &mut Builder, step: &Step) -> Adjoints {
    let (x, adjoint) = (step.operands[0], step.adjoint()?);
    let found = match step.op {
        Op::Transpose { perm } => {
            let mut back = vec![0; perm.len()];
            perm.iter().enumerate().for_each(|(to, &from)| back[from] = to);
            b.add(Op::Transpose { perm: back }, &[adjoint])?
        }
        Op::Broadcast { .. } => unbroadcast(b, adjoint, x)?,
        _ => {
            let shape = b.graph.ty(x).shape.clone();
            b.reshape(adjoint, &shape)?
        }
    };
    Ok(vec![Some(found)])
}

/// Zeros where nothing was taken from. An axis that was read backwards is turned first.
pub(super) fn slice(b: &mut Builder, starts: &[Dim], sizes: &[Dim], steps: &[i64], step: &Step) -> Adjoints {
    let (x, mut adjoint) = (step.operands[0], step.adjoint()?);
    let shape = b.graph.ty(x).shape.clone();
    let (mut low, mut high, mut interior) = (Vec::new(), Vec::new(), Vec::new());
    for axis in 0..shape.len() {
        let reach = (sizes[axis].clone() - Dim::ONE) * Dim::Const(steps[axis]);
        let (first, last) = (starts[axis].clone(), starts[axis].clone() + reach);
        let (first, last) = if steps[axis] > 0 { (first, last) } else { (last, first) };
        if steps[axis] < 0 {
            let end = sizes[axis].clone() - Dim::ONE;
            adjoint = b.slice_axis(adjoint, axis, end, sizes[axis].clone(), -1)?;
        }
        // Nothing was taken of an axis without elements: all of it is filled.
        let nothing = sizes[axis].is(0);
        low.push(if nothing { Dim::ZERO } else { first });
        high.push(if nothing { shape[axis].clone() } else { shape[axis].clone() - Dim::ONE - last });
        interior.push(usize::try_from(steps[axis].unsigned_abs()).unwrap_or(1).saturating_sub(1));
    }
    let zero = b.scalar(b.graph.ty(adjoint).dtype, 0.0);
    Ok(vec![Some(b.add(Op::Pad { low, high, interior }, &[adjoint, zero])?)])
}

/// What is not the operand's is the filling's.
pub(super) fn pad(b: &mut Builder, low: &[Dim], interior: &[usize], step: &Step) -> Adjoints {
    let (x, fill, adjoint) = (step.operands[0], step.operands[1], step.adjoint()?);
    let sizes = b.graph.ty(x).shape.clone();
    let steps: Vec<i64> = interior.iter().map(|&gap| gap as i64 + 1).collect();
    let own = b.add(Op::Slice { starts: low.to_vec(), sizes, steps }, &[adjoint])?;
    let total = |b: &mut Builder, value: Value| -> Result<Value, Stop> {
        let axes: Vec<usize> = (0..b.graph.ty(value).rank()).collect();
        let sum = if axes.is_empty() { value } else { b.reduce(ReduceFn::Sum, value, &axes)? };
        let shape = b.graph.ty(fill).shape.clone();
        Ok(b.reshape(sum, &shape)?)
    };
    let (all, kept) = (total(b, adjoint)?, total(b, own)?);
    Ok(vec![Some(own), Some(b.binary(BinaryFn::Sub, all, kept)?)])
}

pub(super) fn concat(b: &mut Builder, axis: usize, step: &Step) -> Adjoints {
    let adjoint = step.adjoint()?;
    let mut start = Dim::ZERO;
    let mut found = Vec::with_capacity(step.operands.len());
    for &operand in step.operands {
        let size = b.graph.ty(operand).shape[axis].clone();
        found.push(Some(b.slice_axis(adjoint, axis, start.clone(), size.clone(), 1)?));
        start = start + size;
    }
    Ok(found)
}

fn zeros(b: &mut Builder, like: Value) -> Result<Value, Stop> {
    let origin = b.origin.clone();
    Ok(filled(b.graph, like, 0.0, &origin)?)
}

/// Slices added up where they were read.
pub(super) fn gather(b: &mut Builder, axis: usize, step: &Step) -> Adjoints {
    let (x, indices, adjoint) = (step.operands[0], step.operands[1], step.adjoint()?);
    let (rank, many) = (b.graph.ty(x).rank(), b.graph.ty(indices).rank());
    // The axes of the indices to the front, as one.
    let total = rank - 1 + many;
    let front: Vec<usize> = (axis..axis + many).chain(0..axis).chain(axis + many..total).collect();
    let moved = b.add(Op::Transpose { perm: front }, &[adjoint])?;
    let count = b.graph.ty(indices).count();
    let mut shape = vec![count.clone()];
    shape.extend_from_slice(&b.graph.ty(moved).shape[many..]);
    let updates = b.reshape(moved, &shape)?;
    let rows = b.reshape(indices, &[count])?;
    let to_front: Vec<usize> = std::iter::once(axis).chain((0..rank).filter(|&other| other != axis)).collect();
    let all = zeros(b, x)?;
    let all = b.add(Op::Transpose { perm: to_front.clone() }, &[all])?;
    let sum = b.add(Op::ScatterRows { function: ScatterFn::Add }, &[all, rows, updates])?;
    let mut back = vec![0; rank];
    to_front.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    Ok(vec![Some(b.add(Op::Transpose { perm: back }, &[sum])?), None])
}

pub(super) fn take_along(b: &mut Builder, axis: usize, step: &Step) -> Adjoints {
    let (x, indices, adjoint) = (step.operands[0], step.operands[1], step.adjoint()?);
    let all = zeros(b, x)?;
    let op = Op::ScatterAlong { function: ScatterFn::Add, axis };
    Ok(vec![Some(b.add(op, &[all, indices, adjoint])?), None])
}

/// How an update meets what is there, as an op, and the op that reads what came of it.
struct Scatter<'a> {
    op: &'a dyn Fn(ScatterFn) -> Op,
    read: Op,
}

pub(super) fn scatter_rows(b: &mut Builder, function: ScatterFn, step: &Step) -> Adjoints {
    let scatter = Scatter { op: &|function| Op::ScatterRows { function }, read: Op::Gather { axis: 0 } };
    scatter.adjoints(b, function, step)
}

pub(super) fn scatter_along(b: &mut Builder, function: ScatterFn, axis: usize, step: &Step) -> Adjoints {
    let scatter = Scatter { op: &|function| Op::ScatterAlong { function, axis }, read: Op::TakeAlong { axis } };
    scatter.adjoints(b, function, step)
}

impl Scatter<'_> {
    /// Of elements that are set the last one to a place counts; this takes places to differ.
    fn adjoints(&self, b: &mut Builder, function: ScatterFn, step: &Step) -> Adjoints {
        let (indices, updates, adjoint) = (step.operands[1], step.operands[2], step.adjoint()?);
        let (own, theirs) = match function {
            ScatterFn::Add => (adjoint, self.read(b, adjoint, indices)?),
            ScatterFn::Set => {
                let none = zeros(b, updates)?;
                let own = b.add((self.op)(function), &[adjoint, indices, none])?;
                (own, self.read(b, adjoint, indices)?)
            }
            ScatterFn::Mul => self.product(b, step, adjoint)?,
            ScatterFn::Min | ScatterFn::Max => self.extreme(b, step, adjoint)?,
        };
        Ok(vec![Some(own), None, Some(theirs)])
    }

    fn read(&self, b: &mut Builder, x: Value, indices: Value) -> Result<Value, Stop> {
        Ok(b.add(self.read.clone(), &[x, indices])?)
    }

    /// Each factor gets the product of the others: 0 where another update is 0, else that of all that are not 0 over its own.
    fn product(&self, b: &mut Builder, step: &Step, adjoint: Value) -> Result<(Value, Value), Stop> {
        let (x, indices, updates) = (step.operands[0], step.operands[1], step.operands[2]);
        let (origin, dtype) = (b.origin.clone(), b.graph.ty(x).dtype);
        let (ones, none) = (filled(b.graph, x, 1.0, &origin)?, zeros(b, x)?);
        let (zero, one) = (b.scalar(dtype, 0.0), b.scalar(dtype, 1.0));
        let is_zero = b.binary(BinaryFn::Eq, updates, zero)?;
        let counted = b.cast(is_zero, dtype)?;
        let safe = b.add(Op::Select {}, &[is_zero, one, updates])?;
        let factors = b.add((self.op)(ScatterFn::Mul), &[ones, indices, safe])?;
        let count = b.add((self.op)(ScatterFn::Add), &[none, indices, counted])?;
        let (all, count_there) = (self.read(b, factors, indices)?, self.read(b, count, indices)?);
        let others = b.binary(BinaryFn::Div, all, safe)?;
        let more = b.binary(BinaryFn::Gt, count_there, counted)?;
        let others = b.add(Op::Select {}, &[more, zero, others])?;
        let outer = mul(b, adjoint, x)?;
        let outer = self.read(b, outer, indices)?;
        let vanishes = b.binary(BinaryFn::Gt, count, zero)?;
        let factors = b.add(Op::Select {}, &[vanishes, zero, factors])?;
        Ok((mul(b, adjoint, factors)?, mul(b, outer, others)?))
    }

    /// Those that are the extreme share its adjoint.
    fn extreme(&self, b: &mut Builder, step: &Step, adjoint: Value) -> Result<(Value, Value), Stop> {
        let (x, indices, updates, y) = (step.operands[0], step.operands[1], step.operands[2], step.results[0]);
        let dtype = b.graph.ty(x).dtype;
        let result = self.read(b, y, indices)?;
        let (own, theirs) = (b.binary(BinaryFn::Eq, x, y)?, b.binary(BinaryFn::Eq, updates, result)?);
        let (own, theirs) = (b.cast(own, dtype)?, b.cast(theirs, dtype)?);
        let count = b.add((self.op)(ScatterFn::Add), &[own, indices, theirs])?;
        let share = b.binary(BinaryFn::Div, adjoint, count)?;
        let shares = self.read(b, share, indices)?;
        Ok((mul(b, own, share)?, mul(b, theirs, shares)?))
    }
}

/// Values go back to where the indices, the second result, say that they come from.
pub(super) fn sorted(b: &mut Builder, axis: usize, step: &Step) -> Adjoints {
    let (x, indices, adjoint) = (step.operands[0], step.results[1], step.adjoint()?);
    let all = zeros(b, x)?;
    let op = Op::ScatterAlong { function: ScatterFn::Add, axis };
    Ok(vec![Some(b.add(op, &[all, indices, adjoint])?)])
}
