//! Random numbers of a given seed, as NumPy's `RandomState` draws them: what ONNX's reference evaluation gives.

use super::{Call, HostError};
use crate::{DType, Numbers, Tensor, rng::Twister};

/// f64 of a shape, uniform in [0, 1) or standard normal.
pub(super) fn drawn(call: &Call) -> Result<Vec<Tensor>, HostError> {
    let shape = call.sizes(&call.integers(0)?)?;
    let seed = match call.operands.len() {
        1 => call.int(0)?,
        _ => call.integers(1)?.first().copied().unwrap_or_default(),
    };
    let mut twister = Twister::new(seed as u32);
    let count: usize = shape.iter().product();
    let numbers: Vec<f64> = match call.int(1)? {
        0 => (0..count).map(|_| twister.uniform()).collect(),
        _ => (0..count).map(|_| twister.normal()).collect(),
    };
    call.made(Tensor::from_numbers(DType::F64, &shape, &Numbers::Float(numbers)))
}
