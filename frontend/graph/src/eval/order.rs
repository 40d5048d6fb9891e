//! Sorting and selection.

use tarsia_tensor::{Tensor, order::sorted};

use super::Fault;
use crate::Op;

/// Values and indices.
pub(super) fn apply(op: &Op, x: &[Tensor], shape: &[usize]) -> Result<Vec<Tensor>, Fault> {
    let (axis, descending) = match op {
        Op::Sort { axis, descending } => (*axis, *descending),
        Op::TopK { axis, largest, .. } => (*axis, *largest),
        _ => return Err(Fault::NoOperand),
    };
    let (values, indices) = sorted(&x[0], axis, descending, shape[axis])?;
    Ok(vec![values, indices])
}
