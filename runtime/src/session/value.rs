//! Values that enter a program: borrowed bytes or shared tensors.

use smallvec::SmallVec;
use tarsia_tensor::{DType, Shape, Tensor, element_count};

use crate::error::RunError;

/// An argument of a program. The memory behind `data` outlives the run.
#[derive(Clone, Debug)]
pub struct Arg {
    /// Element type.
    pub dtype: DType,
    /// Sizes of the axes.
    pub shape: Shape,
    /// The first byte; any address for strings.
    pub data: *const u8,
    /// The tensor, where there is one: kept alive, and passed on without copying.
    pub tensor: Option<Tensor>,
}

// SAFETY: an argument is only read.
unsafe impl Send for Arg {}
// SAFETY: as above.
unsafe impl Sync for Arg {}

impl Arg {
    /// A tensor.
    pub fn from_tensor(tensor: &Tensor) -> Arg {
        let (dtype, data) = (tensor.dtype(), tensor.bytes().as_ptr());
        Arg { dtype, shape: tensor.shape().into(), data, tensor: Some(tensor.clone()) }
    }

    /// A shape whose data follow.
    pub fn shape(dtype: DType, shape: &[usize]) -> Arg {
        Arg { dtype, shape: shape.into(), data: std::ptr::null(), tensor: None }
    }

    /// Bytes that type and shape take.
    pub fn expected_bytes(&self) -> Option<usize> {
        self.dtype.bytes_of(element_count(&self.shape)?)
    }

    /// The value as a tensor, copied if it is not one.
    ///
    /// # Errors
    /// If sizes overflow.
    pub fn to_tensor(&self) -> Result<Tensor, RunError> {
        if let Some(tensor) = &self.tensor {
            return Ok(tensor.reshaped(&self.shape)?);
        }
        let bytes = self.expected_bytes().unwrap_or(0);
        // SAFETY: the argument's memory has as many bytes as type and shape take.
        let data = if bytes == 0 { &[] } else { unsafe { std::slice::from_raw_parts(self.data, bytes) } };
        Ok(Tensor::new(self.dtype, &self.shape, bytes::Bytes::copy_from_slice(data))?)
    }

    /// Whether elements lie at multiples of their size.
    pub fn is_aligned(&self) -> bool {
        is_aligned(self.dtype, self.data)
    }
}

/// Whether elements at this address lie at multiples of their size.
pub fn is_aligned(dtype: DType, data: *const u8) -> bool {
    (data as usize).is_multiple_of((dtype.bits() / 8).max(1))
}

/// Slice `index` of a tensor along `axis`, without that axis.
///
/// # Errors
/// If the axis or index does not exist.
pub fn slice(tensor: &Tensor, axis: usize, index: usize) -> Result<Tensor, RunError> {
    let shape = tensor.shape();
    let mut rest: SmallVec<[usize; 6]> = shape.into();
    rest.remove(axis);
    let inner: usize = shape[axis + 1..].iter().product();
    let (size, outer) = (shape[axis], shape[..axis].iter().product::<usize>());
    let bits = tensor.dtype().bits();
    if outer == 1 && bits > 0 && (inner * bits).is_multiple_of(8) {
        let bytes = inner * bits / 8;
        let data = tensor.bytes().slice(index * bytes..(index + 1) * bytes);
        return Ok(Tensor::new(tensor.dtype(), &rest, data)?);
    }
    let places = (0..outer).flat_map(|o| (0..inner).map(move |i| (o * size + index) * inner + i));
    Ok(tensor.rearranged(&rest, places)?)
}

/// Tensors of one shape stacked along a new axis.
///
/// # Errors
/// If shapes or types differ.
pub fn stack(tensors: &[Tensor], axis: usize) -> Result<Tensor, RunError> {
    let mut parts = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let mut shape: Shape = tensor.shape().into();
        shape.insert(axis.min(shape.len()), 1);
        parts.push(tensor.reshaped(&shape)?);
    }
    let parts: Vec<&Tensor> = parts.iter().collect();
    Ok(tarsia_tensor::arrange::concat(axis, &parts)?)
}
