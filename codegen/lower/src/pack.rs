//! Constant data in the form that kernels read.

use std::collections::BTreeMap;

use bytes::Bytes;
use tarsia_tensor::{DType, Numbers, Overflow, Tensor};
use tarsia_tile::{Layout, Param};

use crate::{builder::Packing, nest::stored_dtype};

/// Packed constants of a whole program and its sub-programs, so that none is packed twice.
#[derive(Default)]
pub(crate) struct Pool {
    packed: BTreeMap<(usize, usize, String), Bytes>,
}

impl Pool {
    /// The packing of `tensor` for a parameter.
    pub fn pack(&mut self, tensor: &Tensor, packing: &Packing, param: &Param) -> Result<Bytes, String> {
        let what = format!("{:?} {:?} {:?} {:?}", packing.rows, packing.columns, packing.base, param.layout);
        let key = (tensor.bytes().as_ptr() as usize, tensor.bytes().len(), what);
        if let Some(bytes) = self.packed.get(&key) {
            return Ok(bytes.clone());
        }
        let bytes = pack(tensor, packing, param)?;
        self.packed.insert(key, bytes.clone());
        Ok(bytes)
    }
}

/// The bytes of a constant as device memory holds them.
pub(crate) fn stored_bytes(tensor: &Tensor) -> Bytes {
    let dtype = tensor.dtype();
    match (stored_dtype(dtype) == dtype, tensor.numbers()) {
        (false, Ok(numbers)) => numbers.encode(stored_dtype(dtype), Overflow::Special).into(),
        _ => tensor.bytes().clone(),
    }
}

fn pack(tensor: &Tensor, packing: &Packing, param: &Param) -> Result<Bytes, String> {
    let Layout::Fractal(fractal) = param.layout else { return Err("a packed constant is a fractal".into()) };
    let (rows, columns) = (offsets(&packing.rows), offsets(&packing.columns));
    let (height, width) = (rows.len(), columns.len());
    let elements = param.layout.elements(&[height, width]).ok_or("a packed constant is too large")?;
    let source = floats(tensor)?;
    let mut packed = vec![0f32; elements];
    for (row, down) in rows.iter().enumerate() {
        for (column, across) in columns.iter().enumerate() {
            let at = usize::try_from(packing.base + down + across)
                .map_err(|_| "a packed constant starts before its data")?;
            let value = *source.get(at).ok_or("a packed constant reaches beyond its data")?;
            packed[fractal.position(height, width, row, column)] = value;
        }
    }
    Ok(packed.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into())
}

/// The offset of every index of nested axes, in row-major order.
fn offsets(axes: &[(usize, i64)]) -> Vec<i64> {
    axes.iter().fold(vec![0], |outer, &(size, stride)| {
        outer.iter().flat_map(|at| (0..size as i64).map(move |i| at + i * stride)).collect()
    })
}

fn floats(tensor: &Tensor) -> Result<std::borrow::Cow<'_, [f32]>, String> {
    if tensor.dtype() == DType::F32 {
        return tensor.as_slice::<f32>().ok_or_else(|| "no floats".to_owned());
    }
    match tensor.numbers() {
        Ok(Numbers::Float(values)) => Ok(values.iter().map(|&x| x as f32).collect()),
        _ => Err("a packed constant must be of floats".into()),
    }
}
