//! Host functions that follow ONNX operators whose shape operand is only known at run time.

use super::{Call, HostError};
use crate::{
    Numbers, Shape, Tensor,
    arrange::{Places, assemble, mapped},
};

pub(super) fn range(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let dtype = call.operands[0].dtype();
    if call.operands.iter().any(|tensor| tensor.dtype() != dtype || tensor.count() != 1) {
        return Err(call.fault("start, limit and delta must be one element of one type each"));
    }
    let numbers = match call.operands[0].numbers().map_err(|error| call.tensor_error(error))? {
        Numbers::Float(_) => {
            let (start, limit, delta) = (call.floats(0)?[0], call.floats(1)?[0], call.floats(2)?[0]);
            let count = ((limit - start) / delta).ceil().max(0.0);
            if !count.is_finite() {
                return Err(call.fault(format!("there is no range from {start} to {limit} by {delta}")));
            }
            call.sizes(&[count as i64])?;
            Numbers::Float((0..count as u64).map(|i| start + i as f64 * delta).collect())
        }
        _ => {
            let (start, limit, delta) = (call.integers(0)?[0], call.integers(1)?[0], call.integers(2)?[0]);
            if delta == 0 {
                return Err(call.fault("the step of a range is 0"));
            }
            let (distance, step) = (i128::from(limit) - i128::from(start), i128::from(delta));
            let count =
                if (distance > 0) == (step > 0) { distance.unsigned_abs().div_ceil(step.unsigned_abs()) } else { 0 };
            call.sizes(&[i64::try_from(count).unwrap_or(i64::MAX)])?;
            Numbers::Int((0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(delta))).collect())
        }
    };
    call.made(Tensor::from_numbers(dtype, &[numbers.len()], &numbers))
}

pub(super) fn reshape(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let mut sizes = call.integers(1)?;
    for (axis, size) in sizes.iter_mut().enumerate() {
        if *size == 0 && !call.flag(0) {
            let own = x.shape().get(axis).ok_or_else(|| call.fault(format!("there is no size {axis} to keep")))?;
            *size = *own as i64;
        }
    }
    let open: Vec<usize> = (0..sizes.len()).filter(|&axis| sizes[axis] == -1).collect();
    match open.as_slice() {
        [] => {}
        [axis] => {
            let others = sizes.iter().enumerate().filter(|(i, _)| i != axis).map(|(_, &size)| size);
            let product = others.into_iter().try_fold(1i64, i64::checked_mul).filter(|&product| product > 0);
            sizes[*axis] = match product {
                Some(product) => x.count() as i64 / product,
                // With an empty axis beside it the open size could be anything.
                None if x.count() == 0 => 0,
                None => return Err(call.fault(format!("the shape {sizes:?} leaves no size open"))),
            };
        }
        _ => return Err(call.fault(format!("the shape {sizes:?} has several open sizes"))),
    }
    call.made(x.reshaped(&call.sizes(&sizes)?))
}

pub(super) fn broadcast(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let target = call.sizes(&call.integers(1)?)?;
    let rank = target.len().max(x.shape().len());
    let at = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let sizes = (0..rank).map(|i| match (at(x.shape(), i), at(&target, i)) {
        (a, b) if a == b || b == 1 => Ok(a),
        (1, b) => Ok(b),
        (a, b) => Err(call.fault(format!("sizes {a} and {b} of axis {i} do not broadcast"))),
    });
    let shape: Shape = sizes.collect::<Result<_, _>>()?;
    call.within_limit(&shape)?;
    call.made(x.rearranged(&shape, Places::broadcast(x.shape(), &shape)))
}

/// Follows ONNX: indices count from the end where negative, and are clamped to the axis.
pub(super) fn slice(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let (starts, ends) = (call.integers(1)?, call.integers(2)?);
    let count = starts.len();
    let axes = call.optional_integers(3)?.unwrap_or_else(|| (0..count as i64).collect());
    let axes = call.axes(&axes, x.shape().len())?;
    let steps = call.optional_integers(4)?.unwrap_or_else(|| vec![1; count]);
    if ends.len() != count || axes.len() != count || steps.len() != count {
        return Err(call.fault("starts, ends, axes and steps differ in length"));
    }
    let mut maps: Vec<Vec<Option<usize>>> = x.shape().iter().map(|&size| (0..size).map(Some).collect()).collect();
    for (i, &axis) in axes.iter().enumerate() {
        let size = x.shape()[axis] as i64;
        let from_end = |index: i64| if index < 0 { index.saturating_add(size) } else { index };
        let step = steps[i];
        maps[axis] = match step {
            0 => return Err(call.fault("a step is 0")),
            1.. => {
                let (start, end) = (from_end(starts[i]).clamp(0, size), from_end(ends[i]).clamp(0, size));
                (start..end).step_by(step as usize).map(|at| Some(at as usize)).collect()
            }
            _ => {
                let (start, end) = (from_end(starts[i]).clamp(-1, size - 1), from_end(ends[i]).clamp(-1, size - 1));
                let step = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
                (end + 1..start + 1).rev().step_by(step).map(|at| Some(at as usize)).collect()
            }
        };
    }
    let shape: Shape = maps.iter().map(Vec::len).collect();
    call.made(x.rearranged(&shape, mapped(x.shape(), &maps).flatten()))
}

pub(super) fn pad(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let pads = call.integers(1)?;
    let axes = call.optional_integers(3)?.unwrap_or_else(|| (0..x.shape().len() as i64).collect());
    let axes = call.axes(&axes, x.shape().len())?;
    if pads.len() != axes.len() * 2 {
        return Err(call.fault(format!("{} amounts of padding are given for {} axes", pads.len(), axes.len())));
    }
    let mode = call.ints.first().copied().unwrap_or(0);
    let mut low = vec![0i64; x.shape().len()];
    let mut sizes: Vec<i64> = x.shape().iter().map(|&size| size as i64).collect();
    for (i, &axis) in axes.iter().enumerate() {
        low[axis] = pads[i];
        sizes[axis] = sizes[axis].saturating_add(pads[i]).saturating_add(pads[i + axes.len()]);
    }
    let shape = call.sizes(&sizes)?;
    let mut maps = Vec::with_capacity(shape.len());
    for axis in 0..shape.len() {
        let size = x.shape()[axis] as i64;
        if mode != 0 && size == 0 && shape[axis] > 0 {
            return Err(call.fault(format!("axis {axis} is empty: there is nothing to pad it with")));
        }
        let source = |i: usize| padded_place((i as i64).saturating_sub(low[axis]), size, mode);
        maps.push((0..shape[axis]).map(source).collect::<Vec<_>>());
    }
    if !(0..=3).contains(&mode) {
        return Err(call.fault(format!("there is no padding mode {mode}")));
    }
    let zero;
    let value = match call.operands.get(2) {
        Some(value) if value.count() == 1 => value,
        Some(value) => return Err(call.fault(format!("the padding value has {} elements", value.count()))),
        None => {
            let numbers = Numbers::Int(vec![0]).cast(crate::DType::I64, x.dtype(), crate::Overflow::Special);
            zero = Tensor::from_numbers(x.dtype(), &[], &numbers).map_err(|error| call.tensor_error(error))?;
            &zero
        }
    };
    let places = mapped(x.shape(), &maps).map(|place| place.map_or((1, 0), |place| (0, place)));
    call.made(assemble(&[x, value], &shape, places))
}

/// Which element of an axis stands at position `at`, counted from its first element.
fn padded_place(at: i64, size: i64, mode: i64) -> Option<usize> {
    let inside = match mode {
        1 if size == 1 => 0,
        1 => {
            let at = at.rem_euclid(2 * (size - 1));
            at.min(2 * (size - 1) - at)
        }
        2 => at.clamp(0, size - 1),
        3 => at.rem_euclid(size),
        _ => at,
    };
    usize::try_from(inside).ok().filter(|_| inside < size)
}

pub(super) fn tile(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let repeats = call.integers(1)?;
    if repeats.len() != x.shape().len() {
        return Err(call.fault(format!("{} repeats are given for {} axes", repeats.len(), x.shape().len())));
    }
    let sizes: Vec<i64> =
        x.shape().iter().zip(&repeats).map(|(&size, &times)| (size as i64).saturating_mul(times)).collect();
    let shape = call.sizes(&sizes)?;
    let maps: Vec<Vec<Option<usize>>> =
        shape.iter().zip(x.shape()).map(|(&size, &own)| (0..size).map(|i| Some(i % own)).collect()).collect();
    call.made(x.rearranged(&shape, mapped(x.shape(), &maps).flatten()))
}

pub(super) fn constant_of_shape(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let shape = call.sizes(&call.integers(0)?)?;
    let value = &call.operands[1];
    if value.count() != 1 {
        return Err(call.fault(format!("the value has {} elements instead of 1", value.count())));
    }
    call.made(value.rearranged(&shape, Places::new(&shape, shape.iter().map(|_| 0), 0)))
}

pub(super) fn one_hot(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (indices, depth) = (call.integers(0)?, call.only(&call.integers(1)?, "the depth")?);
    if call.operands[2].count() != 2 {
        return Err(call.fault("the values are not off and on"));
    }
    let rank = call.operands[0].shape().len();
    let axis = call.axis(0, rank + 1)?;
    let mut sizes: Vec<i64> = call.operands[0].shape().iter().map(|&size| size as i64).collect();
    sizes.insert(axis, depth);
    let shape = call.sizes(&sizes)?;
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let wanted = |index: i64| if index < 0 { index.saturating_add(depth) } else { index };
    let indices = &indices;
    let places = (0..outer).flat_map(|o| {
        (0..depth).flat_map(move |d| (0..inner).map(move |i| usize::from(wanted(indices[o * inner + i]) == d)))
    });
    call.made(call.operands[2].rearranged(&shape, places))
}

pub(super) fn split(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let axis = call.axis(0, x.shape().len())?;
    let sizes = call.integers(1)?;
    let total = sizes.iter().try_fold(0i64, |sum, &size| sum.checked_add(size).filter(|_| size >= 0));
    if total != Some(x.shape()[axis] as i64) {
        return Err(call.fault(format!("parts of sizes {sizes:?} do not fill an axis of {}", x.shape()[axis])));
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(sizes.len());
    for &size in &sizes {
        let size = size as usize;
        let mut maps: Vec<Vec<Option<usize>>> = x.shape().iter().map(|&own| (0..own).map(Some).collect()).collect();
        maps[axis] = (start..start + size).map(Some).collect();
        let shape: Shape = maps.iter().map(Vec::len).collect();
        let part = x.rearranged(&shape, mapped(x.shape(), &maps).flatten());
        parts.push(part.map_err(|error| call.tensor_error(error))?);
        start += size;
    }
    Ok(parts)
}
