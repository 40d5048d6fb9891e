//! Reads and writes at computed indices.

use tarsia_tensor::{
    Numbers, ScatterFn, Tensor,
    arrange::{Places, assemble, strides},
};

use super::{Fault, pointwise::extreme};
use crate::Op;

pub(super) fn apply(op: &Op, x: &[Tensor], shape: &[usize]) -> Result<Tensor, Fault> {
    match op {
        Op::Gather { axis } => gather(&x[0], &x[1], *axis, shape),
        Op::TakeAlong { axis } => {
            let places = along(&x[0], &x[1], *axis)?;
            Ok(x[0].rearranged(shape, places.into_iter())?)
        }
        Op::ScatterRows { function } => {
            let inner: usize = shape[1..].iter().product();
            let rows = indices(&x[1], shape[0])?;
            let places = rows.iter().flat_map(|row| (0..inner).map(move |i| row * inner + i)).collect();
            scatter(*function, &x[0], &x[2], places)
        }
        Op::ScatterAlong { function, axis } => {
            if x[1].shape() != x[2].shape() {
                let (indices, updates) = (x[1].shape(), x[2].shape());
                return Err(Fault::Size(format!("indices {indices:?} and updates {updates:?} differ in shape")));
            }
            scatter(*function, &x[0], &x[2], along(&x[0], &x[1], *axis)?)
        }
        _ => Err(Fault::NoOperand),
    }
}

/// The indices, all below `size`.
fn indices(tensor: &Tensor, size: usize) -> Result<Vec<usize>, Fault> {
    let inside = |(place, index): (usize, i64)| {
        let found = usize::try_from(index).ok().filter(|&index| index < size);
        found.ok_or(Fault::Index { index, place, size })
    };
    tensor.numbers()?.to_i64().into_iter().enumerate().map(inside).collect()
}

fn gather(x: &Tensor, at: &Tensor, axis: usize, shape: &[usize]) -> Result<Tensor, Fault> {
    let size = x.shape()[axis];
    let chosen = indices(at, size)?;
    let outer: usize = x.shape()[..axis].iter().product();
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let chosen = &chosen;
    let places = (0..outer)
        .flat_map(|o| chosen.iter().flat_map(move |&index| (0..inner).map(move |i| (o * size + index) * inner + i)));
    Ok(x.rearranged(shape, places)?)
}

/// The place in `x` of each element of `at`: its own coordinates, but the index on `axis`.
fn along(x: &Tensor, at: &Tensor, axis: usize) -> Result<Vec<usize>, Fault> {
    let fits = x.shape().iter().zip(at.shape()).enumerate().all(|(i, (size, count))| i == axis || count <= size);
    if !fits {
        return Err(Fault::Size(format!("indices {:?} reach beyond {:?} along another axis", at.shape(), x.shape())));
    }
    let own = strides(x.shape());
    let others = own.iter().enumerate().map(|(i, &stride)| if i == axis { 0 } else { stride as isize });
    let chosen = indices(at, x.shape()[axis])?;
    Ok(Places::new(at.shape(), others, 0).zip(chosen).map(|(place, index)| place + index * own[axis]).collect())
}

/// Updates meet the operand in order; arithmetic is done in 64 bits and rounds at the end.
fn scatter(function: ScatterFn, x: &Tensor, updates: &Tensor, places: Vec<usize>) -> Result<Tensor, Fault> {
    if function == ScatterFn::Set {
        let mut source: Vec<(usize, usize)> = (0..x.count()).map(|i| (0, i)).collect();
        places.iter().enumerate().for_each(|(update, &place)| source[place] = (1, update));
        return Ok(assemble(&[x, updates], x.shape(), source.into_iter())?);
    }
    let mut numbers = x.numbers()?;
    match (&mut numbers, updates.numbers()?) {
        (Numbers::Float(v), Numbers::Float(u)) => places.iter().zip(u).for_each(|(&at, update)| {
            v[at] = match function {
                ScatterFn::Add => v[at] + update,
                ScatterFn::Mul => v[at] * update,
                ScatterFn::Min | ScatterFn::Max => extreme(v[at], update, function == ScatterFn::Max),
                ScatterFn::Set => update,
            }
        }),
        (Numbers::Int(v), Numbers::Int(u)) => places.iter().zip(u).for_each(|(&at, update)| {
            v[at] = match function {
                ScatterFn::Add => v[at].wrapping_add(update),
                ScatterFn::Mul => v[at].wrapping_mul(update),
                ScatterFn::Min => v[at].min(update),
                ScatterFn::Max => v[at].max(update),
                ScatterFn::Set => update,
            }
        }),
        (Numbers::Uint(v), Numbers::Uint(u)) => places.iter().zip(u).for_each(|(&at, update)| {
            v[at] = match function {
                ScatterFn::Add => v[at].wrapping_add(update),
                ScatterFn::Mul => v[at].wrapping_mul(update),
                ScatterFn::Min => v[at].min(update),
                ScatterFn::Max => v[at].max(update),
                ScatterFn::Set => update,
            }
        }),
        _ => return Err(Fault::Unsupported(updates.dtype())),
    }
    Ok(Tensor::from_numbers(x.dtype(), x.shape(), &numbers)?)
}
