//! Host functions on whole values: sequences, optional values (sequences of none or one) and maps.
//!
//! A sequence is a tensor of values with one axis. A map is a scalar of values, whose only element is the sequence of its keys and
//! its values.

use super::{Call, HostError};
use crate::{
    DType, Numbers, Shape, Tensor,
    arrange::{concat, mapped},
};

pub(super) fn sequence(call: &Call) -> Result<Vec<Tensor>, HostError> {
    sequence_of(call, call.operands.to_vec())
}

fn sequence_of(call: &Call, values: Vec<Tensor>) -> Result<Vec<Tensor>, HostError> {
    call.within_limit(&[values.len()])?;
    call.made(Tensor::from_values(&[values.len()], values))
}

/// The elements of the first operand.
fn elements<'a>(call: &'a Call, operand: usize) -> Result<&'a [Tensor], HostError> {
    call.operands[operand].values().ok_or_else(|| call.fault("its operand is no sequence"))
}

/// The place that operand `at` names among `places` places of a sequence, negative ones counted from `from`; the default if it is
/// not there.
fn place(call: &Call, at: usize, from: usize, places: usize, default: usize) -> Result<usize, HostError> {
    let Some(given) = call.optional_integers(at)? else { return Ok(default) };
    let given = call.only(&given, "the place")?;
    let place = if given < 0 { given.saturating_add(from as i64) } else { given };
    let inside = usize::try_from(place).ok().filter(|&place| place < places);
    inside.ok_or_else(|| call.fault(format!("there is no place {given} in a sequence of {from}")))
}

pub(super) fn at(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let values = elements(call, 0)?;
    if values.is_empty() {
        return Err(call.fault("an empty sequence, or an optional value that is not there, has no element"));
    }
    let place = place(call, 1, values.len(), values.len(), 0)?;
    Ok(vec![values[place].clone()])
}

pub(super) fn insert(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (values, new) = (elements(call, 0)?, &call.operands[1]);
    if let Some(other) = values.first().filter(|first| first.dtype() != new.dtype()) {
        return Err(call.fault(format!("a {} for a sequence of {}", new.dtype(), other.dtype())));
    }
    let place = place(call, 2, values.len(), values.len() + 1, values.len())?;
    let mut values = values.to_vec();
    values.insert(place, new.clone());
    sequence_of(call, values)
}

pub(super) fn erase(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let mut values = elements(call, 0)?.to_vec();
    let last = values.len().checked_sub(1).ok_or_else(|| call.fault("the sequence is empty"))?;
    values.remove(place(call, 1, values.len(), values.len(), last)?);
    sequence_of(call, values)
}

/// All elements along one axis, or along a new one.
pub(super) fn joined(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let values = elements(call, 0)?;
    let first = values.first().ok_or_else(|| call.fault("an empty sequence cannot be joined"))?;
    let new = call.flag(1);
    let axis = call.axes(&[call.int(0)?], first.shape().len() + usize::from(new))?[0];
    let shape = |tensor: &Tensor| {
        let mut shape: Shape = tensor.shape().into();
        if new {
            shape.insert(axis.min(shape.len()), 1);
        }
        shape
    };
    let parts = values.iter().map(|tensor| tensor.reshaped(&shape(tensor))).collect::<Result<Vec<_>, _>>();
    let parts = parts.map_err(|error| call.tensor_error(error))?;
    let mut whole = shape(first);
    for part in &parts[1..] {
        let fits = part.shape().len() == whole.len() && part.dtype() == first.dtype();
        let fits = fits && part.shape().iter().zip(parts[0].shape()).enumerate().all(|(i, (a, b))| i == axis || a == b);
        if !fits {
            return Err(call.fault(format!("{part:?} cannot be joined to {:?}", parts[0])));
        }
        whole[axis] = whole[axis].saturating_add(part.shape()[axis]);
    }
    call.within_limit(&whole)?;
    call.made(concat(axis, &parts.iter().collect::<Vec<_>>()))
}

/// Parts along an axis: of given sizes, of one size (the last may be smaller), or single elements.
pub(super) fn parts(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let x = &call.operands[0];
    let axis = call.axis(0, x.shape().len())?;
    let total = x.shape()[axis];
    let sizes: Vec<usize> = match call.operands.get(1) {
        Some(sizes) if !sizes.shape().is_empty() => call.sizes(&call.integers(1)?)?.to_vec(),
        scalar => {
            let size = scalar.map_or(Ok(1), |_| call.only(&call.integers(1)?, "the size of the parts"))?;
            let size = usize::try_from(size).ok().filter(|&size| size > 0);
            let size = size.ok_or_else(|| call.fault("the size of the parts is not positive"))?;
            (0..total.div_ceil(size)).map(|part| size.min(total - part * size)).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)) != Some(total) {
        return Err(call.fault(format!("parts of sizes {sizes:?} do not fill an axis of {total}")));
    }
    let mut values = Vec::with_capacity(sizes.len());
    let mut start = 0;
    for size in sizes {
        let mut maps: Vec<Vec<Option<usize>>> = x.shape().iter().map(|&own| (0..own).map(Some).collect()).collect();
        maps[axis] = (start..start + size).map(Some).collect();
        let mut shape: Shape = maps.iter().map(Vec::len).collect();
        if !call.flag(1) {
            shape.remove(axis);
        }
        let part = x.rearranged(&shape, mapped(x.shape(), &maps).flatten());
        values.push(part.map_err(|error| call.tensor_error(error))?);
        start += size;
    }
    sequence_of(call, values)
}

/// A map of keys and as many values.
pub(super) fn map(call: &Call) -> Result<Vec<Tensor>, HostError> {
    map_of(call, call.operands[0].clone(), call.operands[1].clone()).map(|map| vec![map])
}

fn map_of(call: &Call, keys: Tensor, values: Tensor) -> Result<Tensor, HostError> {
    if keys.count() != values.count() {
        return Err(call.fault(format!("{} keys for {} values", keys.count(), values.count())));
    }
    let pair = Tensor::from_values(&[2], vec![keys, values]);
    let map = pair.and_then(|pair| Tensor::from_values(&[], vec![pair]));
    map.map_err(|error| call.tensor_error(error))
}

/// A row of `x` for each map of a sequence, its columns under `keys`.
pub(super) fn zip_map(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let (x, keys) = (&call.operands[0], &call.operands[1]);
    let columns = x.shape().last().copied().unwrap_or(1);
    if columns != keys.count() {
        return Err(call.fault(format!("{columns} columns for {} class labels", keys.count())));
    }
    let rows = x.count().checked_div(columns).unwrap_or(0);
    let row = |row: usize| {
        let values = x.rearranged(&[columns], row * columns..(row + 1) * columns);
        map_of(call, keys.clone(), values.map_err(|error| call.tensor_error(error))?)
    };
    sequence_of(call, (0..rows).map(row).collect::<Result<_, _>>()?)
}

pub(super) fn map_parts(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let pair = elements(call, 0)?.first().and_then(Tensor::values);
    match pair {
        Some([keys, values]) if keys.shape().len() == 1 && values.shape().len() == 1 => {
            Ok(vec![keys.clone(), values.clone()])
        }
        _ => Err(call.fault("its operand is no map from numbers or texts to numbers or texts")),
    }
}

/// The values of a map whose keys are columns, zeros (or empty texts) elsewhere: `[1, columns]`. Without a given number of columns
/// the values stand in the order of their keys.
pub(super) fn map_row(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let mut parts = map_parts(call)?;
    if call.flag(1) && parts[1].dtype().is_numeric() {
        let numbers = parts[1].numbers().map_err(|error| call.tensor_error(error))?.to_f64();
        let texts = numbers.iter().map(|number| format!("{number:.6}").into()).collect();
        parts[1] = Tensor::from_strings(&[numbers.len()], texts).map_err(|error| call.tensor_error(error))?;
    }
    let keys = parts[0].numbers().map_err(|error| call.tensor_error(error))?.to_i64();
    let columns = call.int(0)?;
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&i| keys[i]);
    let sources: Vec<(usize, usize)> = match usize::try_from(columns) {
        Err(_) => order.into_iter().map(|i| (0, i)).collect(),
        Ok(columns) => {
            call.within_limit(&[columns])?;
            let mut row = vec![(1, 0); columns];
            for (i, &key) in keys.iter().enumerate() {
                if let Some(place) = usize::try_from(key).ok().and_then(|key| row.get_mut(key)) {
                    *place = (0, i);
                }
            }
            row
        }
    };
    let zero = match parts[1].dtype() {
        DType::String => Tensor::from_strings(&[], vec![bytes::Bytes::new()]),
        dtype => {
            Tensor::from_numbers(dtype, &[], &Numbers::Int(vec![0]).cast(DType::I64, dtype, crate::Overflow::Special))
        }
    };
    let zero = zero.map_err(|error| call.tensor_error(error))?;
    call.made(crate::arrange::assemble(&[&parts[1], &zero], &[1, sources.len()], sources.into_iter()))
}
