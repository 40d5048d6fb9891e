//! Movement ops: every result element is an operand's element.

use tarsia_tensor::{
    Dim, Tensor,
    arrange::{Places, assemble, concat, mapped, strides},
};

use super::Fault;
use crate::Op;

pub(super) fn apply(op: &Op, x: &[Tensor], shape: &[usize]) -> Result<Tensor, Fault> {
    let operand = &x[0];
    match op {
        Op::Reshape { .. } => Ok(operand.reshaped(shape)?),
        Op::Transpose { perm } => Ok(operand.rearranged(shape, Places::permuted(operand.shape(), perm))?),
        Op::Broadcast { .. } => Ok(operand.rearranged(shape, Places::broadcast(operand.shape(), shape))?),
        Op::Slice { starts, steps, .. } => slice(operand, starts, steps, shape),
        Op::Pad { low, interior, .. } => pad(operand, &x[1], low, interior, shape),
        Op::Concat { axis } => Ok(concat(*axis, &x.iter().collect::<Vec<_>>())?),
        _ => Err(Fault::NoOperand),
    }
}

fn known(dim: &Dim) -> Result<i64, Fault> {
    dim.as_const().ok_or_else(|| Fault::Size(format!("the size {dim} is not known")))
}

/// The shape rule has checked that first and last element are inside.
fn slice(x: &Tensor, starts: &[Dim], steps: &[i64], shape: &[usize]) -> Result<Tensor, Fault> {
    let own = strides(x.shape());
    let mut start = 0isize;
    for (dim, &stride) in starts.iter().zip(&own) {
        start = start.wrapping_add((known(dim)? as isize).wrapping_mul(stride as isize));
    }
    let steps = steps.iter().zip(&own).map(|(&step, &stride)| (step as isize).wrapping_mul(stride as isize));
    Ok(x.rearranged(shape, Places::new(shape, steps, start))?)
}

fn pad(x: &Tensor, value: &Tensor, low: &[Dim], interior: &[usize], shape: &[usize]) -> Result<Tensor, Fault> {
    if value.count() != 1 {
        return Err(Fault::Size(format!("the padding value has {} elements instead of 1", value.count())));
    }
    let mut maps = Vec::with_capacity(shape.len());
    for axis in 0..shape.len() {
        let low = known(&low[axis])?;
        let low = usize::try_from(low).map_err(|_| Fault::Size(format!("{low} elements of padding")))?;
        let step = interior[axis] + 1;
        let source = |i: usize| {
            let inside = i.checked_sub(low)?;
            (inside % step == 0 && inside / step < x.shape()[axis]).then_some(inside / step)
        };
        maps.push((0..shape[axis]).map(source).collect::<Vec<_>>());
    }
    let places = mapped(x.shape(), &maps).map(|place| place.map_or((1, 0), |place| (0, place)));
    Ok(assemble(&[x, value], shape, places)?)
}
