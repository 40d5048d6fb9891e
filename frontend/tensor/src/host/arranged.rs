//! Moving elements that no kernel moves: texts and whole values.

use super::{Call, HostError};
use crate::{
    Shape, Tensor,
    arrange::{Places, assemble, concat, strides},
};

/// An operand's elements as places below `size`.
fn places(call: &Call, operand: usize, size: usize) -> Result<Vec<usize>, HostError> {
    let place = |index: i64| usize::try_from(index).ok().filter(|&index| index < size);
    let found = call.integers(operand)?.into_iter();
    found.map(|index| place(index).ok_or_else(|| call.fault(format!("index {index} is not in 0..{size}")))).collect()
}

/// Whole slices along an axis.
pub(super) fn gather(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (x, at) = (&call.operands[0], &call.operands[1]);
    let axis = call.axis(0, x.shape().len())?;
    let size = x.shape()[axis];
    let chosen = places(call, 1, size)?;
    let shape: Shape = [&x.shape()[..axis], at.shape(), &x.shape()[axis + 1..]].concat().into();
    call.within_limit(&shape)?;
    let outer: usize = x.shape()[..axis].iter().product();
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let chosen = &chosen;
    let found = (0..outer)
        .flat_map(|o| chosen.iter().flat_map(move |&index| (0..inner).map(move |i| (o * size + index) * inner + i)));
    call.made(x.rearranged(&shape, found))
}

/// The places of the first operand that the second one names along an axis.
fn along(call: &Call) -> Result<Vec<usize>, HostError> {
    let (x, at) = (&call.operands[0], &call.operands[1]);
    let axis = call.axis(0, x.shape().len())?;
    let pairs = || x.shape().iter().zip(at.shape()).enumerate();
    if at.shape().len() != x.shape().len() || !pairs().all(|(i, (size, count))| i == axis || count <= size) {
        return Err(call.fault(format!("indices {:?} do not fit {:?}", at.shape(), x.shape())));
    }
    let own = strides(x.shape());
    let others = own.iter().enumerate().map(|(i, &stride)| if i == axis { 0 } else { stride as isize });
    let chosen = places(call, 1, x.shape()[axis])?;
    Ok(Places::new(at.shape(), others, 0).zip(chosen).map(|(place, index)| place + index * own[axis]).collect())
}

/// Single elements along an axis.
pub(super) fn take_along(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let found = along(call)?;
    call.made(call.operands[0].rearranged(call.operands[1].shape(), found.into_iter()))
}

/// The first operand with elements of the third one in place of its own.
fn replaced(call: &Call, places: impl Iterator<Item = usize>) -> Result<Vec<Tensor>, HostError> {
    let (x, updates) = (&call.operands[0], &call.operands[2]);
    let mut chosen: Vec<(usize, usize)> = (0..x.count()).map(|place| (0, place)).collect();
    for (update, place) in places.enumerate() {
        chosen[place] = (1, update);
    }
    call.made(assemble(&[x, updates], x.shape(), chosen.into_iter()))
}

/// Whole slices of the first axis replaced, the last one where several are for one place.
pub(super) fn scatter_rows(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (x, at, updates) = (&call.operands[0], &call.operands[1], &call.operands[2]);
    let [rows, rest @ ..] = x.shape() else { return Err(call.fault("its first operand has no axes")) };
    if at.shape().len() != 1 || *updates.shape() != [at.shape(), rest].concat()[..] {
        return Err(call.fault(format!("updates {:?} at {:?} of {:?}", updates.shape(), at.shape(), x.shape())));
    }
    let inner: usize = rest.iter().product();
    let chosen = places(call, 1, *rows)?;
    replaced(call, chosen.iter().flat_map(|&row| (0..inner).map(move |i| row * inner + i)))
}

/// Single elements along an axis replaced, the last one where several are for one place.
pub(super) fn scatter_along(call: &Call) -> Result<Vec<Tensor>, HostError> {
    if call.operands[1].shape() != call.operands[2].shape() {
        return Err(call.fault("its updates are not as many as its indices"));
    }
    let found = along(call)?;
    replaced(call, found.into_iter())
}

pub(super) fn transpose(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let perm = call.axes(call.ints, x.shape().len())?;
    if perm.len() != x.shape().len() {
        return Err(call.fault(format!("{perm:?} is no permutation of {} axes", x.shape().len())));
    }
    let shape: Shape = perm.iter().map(|&axis| x.shape()[axis]).collect();
    call.made(x.rearranged(&shape, Places::permuted(x.shape(), &perm)))
}

/// Of each axis so many elements from a first one by a step.
pub(super) fn strided(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let (starts, shape) = (call.integers(1)?, call.sizes(&call.integers(2)?)?);
    let rank = x.shape().len();
    if [starts.len(), shape.len(), call.ints.len()] != [rank; 3] {
        return Err(call.fault(format!("starts, sizes and steps are not those of {rank} axes")));
    }
    let (own, mut first) = (strides(x.shape()), 0isize);
    let mut signed = Vec::with_capacity(rank);
    for axis in 0..rank {
        let (start, step, count) = (starts[axis], call.ints[axis], shape[axis] as i64);
        let last = (count - 1).checked_mul(step).and_then(|reach| reach.checked_add(start));
        let inside = |at: i64| (0..x.shape()[axis] as i64).contains(&at);
        if count > 0 && !(inside(start) && last.is_some_and(inside)) {
            return Err(
                call.fault(format!("{count} elements from {start} by {step} leave an axis of {}", x.shape()[axis]))
            );
        }
        first += start as isize * own[axis] as isize;
        signed.push(step as isize * own[axis] as isize);
    }
    call.made(x.rearranged(&shape, Places::new(&shape, signed, first)))
}

pub(super) fn joined(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let first = call.operands[0].shape();
    let axis = call.axis(0, first.len())?;
    let fits = |tensor: &Tensor| {
        let pairs = || tensor.shape().iter().zip(first).enumerate();
        tensor.shape().len() == first.len() && pairs().all(|(i, (a, b))| i == axis || a == b)
    };
    match call.operands.iter().find(|tensor| !fits(tensor)) {
        Some(other) => Err(call.fault(format!("{other:?} cannot be joined to {:?}", call.operands[0]))),
        None => call.made(concat(axis, &call.operands.iter().collect::<Vec<_>>())),
    }
}

/// `condition ? a : b` with broadcasting.
pub(super) fn select(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let rank = call.operands.iter().map(|tensor| tensor.shape().len()).max().unwrap_or(0);
    let mut shape: Shape = std::iter::repeat_n(1, rank).collect();
    for tensor in call.operands {
        let skip = rank - tensor.shape().len();
        for (own, &size) in shape[skip..].iter_mut().zip(tensor.shape()) {
            match (*own, size) {
                (1, size) => *own = size,
                (own, size) if own == size || size == 1 => {}
                (own, size) => return Err(call.fault(format!("sizes {own} and {size} do not broadcast"))),
            }
        }
    }
    call.within_limit(&shape)?;
    let condition = call.integers(0)?;
    let visit = |at: usize| Places::broadcast(call.operands[at].shape(), &shape);
    let chosen = visit(0).zip(visit(1)).zip(visit(2));
    let chosen = chosen.map(|((c, a), b)| if condition[c] != 0 { (0, a) } else { (1, b) });
    call.made(assemble(&[&call.operands[1], &call.operands[2]], &shape, chosen))
}
