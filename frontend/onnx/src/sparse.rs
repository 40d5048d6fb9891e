//! Sparse tensors of the file, made dense.

use bytes::Bytes;
use tarsia_tensor::{DType, Shape, Tensor};

use crate::{
    external::ExternalFiles,
    schema::{SparseTensorProto, TensorProto},
    weights::{self, Declared, WeightError, WeightFault},
};

/// Name of a sparse tensor: that of its values.
pub(crate) fn name(proto: &SparseTensorProto) -> &str {
    proto.values.as_ref().map_or("", |values| &values.name)
}

/// The dense tensor: the values at their places, zero or the empty string elsewhere.
pub(crate) fn read(proto: &SparseTensorProto, files: &ExternalFiles, limit: u64) -> Result<Tensor, WeightError> {
    build(proto, files, limit).map_err(|fault| WeightError { tensor: name(proto).to_string(), fault: Box::new(fault) })
}

/// All checks of [`read`] but those on single indices. Returns the bytes that the dense tensor takes.
pub(crate) fn check(proto: &SparseTensorProto, files: &ExternalFiles, limit: u64) -> Result<u64, WeightError> {
    let checked = parts(proto, limit).and_then(|(declared, values, indices)| {
        weights::check(values, files, limit).map_err(|e| *e.fault)?;
        weights::check(indices, files, limit).map_err(|e| *e.fault)?;
        Ok(declared.bytes as u64)
    });
    checked.map_err(|fault| WeightError { tensor: name(proto).to_string(), fault: Box::new(fault) })
}

fn parts(proto: &SparseTensorProto, limit: u64) -> Result<(Declared, &TensorProto, &TensorProto), WeightFault> {
    let missing = |what: &str| WeightFault::Sparse(format!("it has no {what}"));
    let values = proto.values.as_deref().ok_or_else(|| missing("values"))?;
    let indices = proto.indices.as_deref().ok_or_else(|| missing("indices"))?;
    let declared = weights::declare(&proto.dims, values.data_type, limit)?;
    // The one element type in which zero bytes are not zero, and which has no zero at all.
    if declared.dtype == DType::F8E8M0 {
        return Err(WeightFault::Sparse(format!("{} has no zero", declared.dtype)));
    }
    Ok((declared, values, indices))
}

fn build(proto: &SparseTensorProto, files: &ExternalFiles, limit: u64) -> Result<Tensor, WeightFault> {
    let (declared, values, indices) = parts(proto, limit)?;
    let values = weights::build(values, files, limit)?;
    let indices = weights::build(indices, files, limit)?;
    let absent = |error: tarsia_tensor::TensorError| WeightFault::Sparse(error.to_string());
    [&values, &indices].into_iter().try_for_each(Tensor::present).map_err(absent)?;
    let places = places(&declared, &values, &indices)?;
    if let Some(strings) = values.strings() {
        let mut dense = zeros(declared.count, Bytes::new())?;
        for (&place, string) in places.iter().zip(strings) {
            if let Some(slot) = dense.get_mut(place) {
                *slot = string.clone();
            }
        }
        return weights::finish(&declared, Tensor::from_strings(&declared.shape, dense));
    }
    let mut dense = zeros(declared.bytes, 0u8)?;
    for (from, &place) in places.iter().enumerate() {
        copy_element(declared.dtype.bits(), values.bytes(), from, &mut dense, place);
    }
    weights::finish(&declared, Tensor::new(declared.dtype, &declared.shape, dense.into()))
}

fn zeros<T: Clone>(count: usize, zero: T) -> Result<Vec<T>, WeightFault> {
    let mut dense = Vec::new();
    let refused = |_| WeightFault::Sparse(format!("the system has no memory for {count} dense elements"));
    dense.try_reserve_exact(count).map_err(refused)?;
    dense.resize(count, zero);
    Ok(dense)
}

/// Copies element `from` of packed `source` to element `to` of packed `target`, whose bits there are zero.
fn copy_element(bits: usize, source: &[u8], from: usize, target: &mut [u8], to: usize) {
    if bits >= 8 {
        let width = bits / 8;
        let source = source.chunks_exact(width).nth(from);
        if let (Some(source), Some(target)) = (source, target.chunks_exact_mut(width).nth(to)) {
            target.copy_from_slice(source);
        }
        return;
    }
    let per_byte = 8 / bits;
    let mask = (1u8 << bits) - 1;
    let element = source.get(from / per_byte).map_or(0, |byte| (byte >> (from % per_byte * bits)) & mask);
    if let Some(byte) = target.get_mut(to / per_byte) {
        *byte |= element << (to % per_byte * bits);
    }
}

/// The linear place of each value, from either form of the indices; ascending, without duplicates, inside the shape.
fn places(declared: &Declared, values: &Tensor, indices: &Tensor) -> Result<Vec<usize>, WeightFault> {
    let wrong = |text: String| Err(WeightFault::Sparse(text));
    let (shape, rank) = (&declared.shape, declared.shape.len());
    let &[count] = values.shape() else {
        return wrong(format!("its values have shape {:?}, not [NNZ]", values.shape()));
    };
    let Some(numbers) = indices.as_slice::<i64>() else {
        return wrong(format!("its indices are {}, not {}", indices.dtype(), DType::I64));
    };
    let places: Result<Vec<usize>, WeightFault> = match indices.shape() {
        &[n] if n == count => numbers.iter().map(|&i| linear(&[declared.count].into_iter().collect(), &[i])).collect(),
        &[n, r] if n == count && r == rank && rank > 0 => {
            numbers.chunks_exact(rank).map(|at| linear(shape, at)).collect()
        }
        &[n, 0] if n == count && rank == 0 => Ok(vec![0; n]),
        other => return wrong(format!("its indices have shape {other:?}, not [{count}] or [{count}, {rank}]")),
    };
    let places = places?;
    match places.windows(2).position(|pair| pair[0] >= pair[1]) {
        Some(at) => wrong(format!("indices {at} and {} are not ascending", at + 1)),
        None => Ok(places),
    }
}

fn linear(shape: &Shape, index: &[i64]) -> Result<usize, WeightFault> {
    let step = |place: usize, (&size, &i): (&usize, &i64)| {
        let i = usize::try_from(i).ok().filter(|&i| i < size)?;
        place.checked_mul(size)?.checked_add(i)
    };
    let place = shape.iter().zip(index).try_fold(0usize, step);
    place.ok_or_else(|| WeightFault::Sparse(format!("index {index:?} is outside the shape {shape:?}")))
}
