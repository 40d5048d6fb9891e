//! Derivatives of reductions and running reductions.

use tarsia_tensor::{DType, Dim};

use super::{Adjoints, Step, Stop, mul};
use crate::{BinaryFn, Op, ReduceFn, Value, composite::Builder};

/// A value under the shape of another one that it broadcasts to.
fn spread(b: &mut Builder, value: Value, like: Value) -> Result<Value, Stop> {
    let shape = b.graph.ty(like).shape.clone();
    if b.graph.ty(value).shape == shape { Ok(value) } else { Ok(b.add(Op::Broadcast { shape }, &[value])?) }
}

pub(super) fn reduce(b: &mut Builder, function: ReduceFn, axes: &[usize], step: &Step) -> Adjoints {
    let (x, y, adjoint) = (step.operands[0], step.results[0], step.adjoint()?);
    let found = match function {
        ReduceFn::Sum => adjoint,
        ReduceFn::Mean => {
            let shape = &b.graph.ty(x).shape;
            let count = Dim::product(&axes.iter().map(|&axis| shape[axis].clone()).collect::<Vec<_>>());
            let count = size(b, &count, x)?;
            b.binary(BinaryFn::Div, adjoint, count)?
        }
        ReduceFn::Min | ReduceFn::Max => {
            let hit = b.binary(BinaryFn::Eq, x, y)?;
            let dtype = b.graph.ty(x).dtype;
            let hit = b.cast(hit, dtype)?;
            let count = b.reduce(ReduceFn::Sum, hit, axes)?;
            let share = b.binary(BinaryFn::Div, adjoint, count)?;
            mul(b, hit, share)?
        }
        ReduceFn::Prod => {
            let others = others(b, x, axes)?;
            mul(b, others, adjoint)?
        }
    };
    Ok(vec![Some(spread(b, found, x)?)])
}

/// A size as a scalar of the type of a value.
fn size(b: &mut Builder, size: &Dim, like: Value) -> Result<Value, Stop> {
    let dtype = b.graph.ty(like).dtype;
    if let Some(size) = size.as_const() {
        return Ok(b.scalar(dtype, size as f64));
    }
    let size = b.add(Op::Size { dim: size.clone() }, &[])?;
    Ok(b.add(Op::Cast { dtype, saturate: true }, &[size])?)
}

/// For each element the product of all others along the axes: of those before it and those after it.
fn others(b: &mut Builder, x: Value, axes: &[usize]) -> Result<Value, Stop> {
    let shape = b.graph.ty(x).shape.clone();
    let kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
    let perm: Vec<usize> = kept.iter().chain(axes).copied().collect();
    let moved = b.add(Op::Transpose { perm: perm.clone() }, &[x])?;
    let moved_shape = b.graph.ty(moved).shape.clone();
    let mut flat = moved_shape[..kept.len()].to_vec();
    flat.push(Dim::product(&moved_shape[kept.len()..]));
    let flat = b.reshape(moved, &flat)?;
    let scan = |reverse| Op::Scan { function: ReduceFn::Prod, axis: kept.len(), exclusive: true, reverse };
    let (before, after) = (b.add(scan(false), &[flat])?, b.add(scan(true), &[flat])?);
    let product = mul(b, before, after)?;
    let product = b.reshape(product, &moved_shape)?;
    let mut back = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    Ok(b.add(Op::Transpose { perm: back }, &[product])?)
}

/// A running sum's adjoint runs the other way. So does a running product's, each term of which is divided by the element: that has no
/// zeros.
pub(super) fn scan(
    b: &mut Builder,
    function: ReduceFn,
    axis: usize,
    exclusive: bool,
    reverse: bool,
    step: &Step,
) -> Adjoints {
    let (x, y, adjoint) = (step.operands[0], step.results[0], step.adjoint()?);
    let back = Op::Scan { function: ReduceFn::Sum, axis, exclusive, reverse: !reverse };
    match function {
        ReduceFn::Sum => Ok(vec![Some(b.add(back, &[adjoint])?)]),
        ReduceFn::Prod => {
            let terms = mul(b, adjoint, y)?;
            let sum = b.add(back, &[terms])?;
            Ok(vec![Some(b.binary(BinaryFn::Div, sum, x)?)])
        }
        // The element that a running extreme comes from is the last one that is equal to it.
        ReduceFn::Min | ReduceFn::Max => running_extreme(b, axis, exclusive, reverse, step),
        ReduceFn::Mean => Err(Stop::Missing("a running mean is no op")),
    }
}

/// Each element gets the adjoints of the results that are it: from itself, where it is a new extreme, up to the next one.
fn running_extreme(b: &mut Builder, axis: usize, exclusive: bool, reverse: bool, step: &Step) -> Adjoints {
    let (x, mut y, mut adjoint) = (step.operands[0], step.results[0], step.adjoint()?);
    if exclusive {
        // The result is that of the element before.
        let Op::Scan { function, .. } = *step.op else { return Err(Stop::Missing("it is no running extreme")) };
        y = b.add(Op::Scan { function, axis, exclusive: false, reverse }, &[x])?;
        adjoint = shifted(b, adjoint, axis, reverse)?;
    }
    let dtype = b.graph.ty(x).dtype;
    let shape = b.graph.ty(x).shape.clone();
    // The place of the last new extreme so far, counted in the direction of the scan.
    let fresh = b.binary(BinaryFn::Eq, x, y)?;
    let places = b.add(Op::Iota { dtype: DType::I64, shape: shape.clone(), axis }, &[])?;
    let places = if reverse {
        let last = shape[axis].clone() - Dim::ONE;
        let last = b.add(Op::Size { dim: last }, &[])?;
        b.binary(BinaryFn::Sub, last, places)?
    } else {
        places
    };
    let first = b.scalar(DType::I64, 0.0);
    let own = b.add(Op::Select {}, &[fresh, places, first])?;
    let from = b.add(Op::Scan { function: ReduceFn::Max, axis, exclusive: false, reverse }, &[own])?;
    let from = if reverse {
        let last = b.add(Op::Size { dim: shape[axis].clone() - Dim::ONE }, &[])?;
        b.binary(BinaryFn::Sub, last, from)?
    } else {
        from
    };
    let zero = b.scalar(dtype, 0.0);
    let zeros = b.add(Op::Broadcast { shape }, &[zero])?;
    let op = Op::ScatterAlong { function: crate::ScatterFn::Add, axis };
    Ok(vec![Some(b.add(op, &[zeros, from, adjoint])?)])
}

/// The elements of an axis one place earlier in the direction of a scan, with a 0 as the last one.
fn shifted(b: &mut Builder, x: Value, axis: usize, reverse: bool) -> Result<Value, Stop> {
    let (dtype, shape) = (b.graph.ty(x).dtype, b.graph.ty(x).shape.clone());
    if shape[axis].is(0) {
        return Ok(x);
    }
    let start = if reverse { Dim::ZERO } else { Dim::ONE };
    let part = b.slice_axis(x, axis, start, shape[axis].clone() - Dim::ONE, 1)?;
    let (mut low, mut high) = (vec![Dim::ZERO; shape.len()], vec![Dim::ZERO; shape.len()]);
    if reverse {
        low[axis] = Dim::ONE
    } else {
        high[axis] = Dim::ONE
    }
    let zero = b.scalar(dtype, 0.0);
    Ok(b.add(Op::Pad { low, high, interior: vec![0; shape.len()] }, &[part, zero])?)
}
