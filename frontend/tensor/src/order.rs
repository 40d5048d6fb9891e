//! The order of elements: NaN equals itself and is larger than everything.

use std::cmp::Ordering;

use crate::{DType, Numbers, Tensor, TensorError, arrange::Lanes};

/// The order of two elements.
///
/// # Panics
/// If a place is out of range.
pub fn compare(numbers: &Numbers, a: usize, b: usize) -> Ordering {
    match numbers {
        Numbers::Float(v) => v[a].partial_cmp(&v[b]).unwrap_or_else(|| v[a].is_nan().cmp(&v[b].is_nan())),
        Numbers::Int(v) => v[a].cmp(&v[b]),
        Numbers::Uint(v) => v[a].cmp(&v[b]),
    }
}

/// The first `count` elements along `axis` in ascending or descending order, and their indices (i64); the lower index first
/// among equals.
///
/// # Errors
/// If the axis is out of range or shorter than `count`, or the elements have no order.
pub fn sorted(x: &Tensor, axis: usize, descending: bool, count: usize) -> Result<(Tensor, Tensor), TensorError> {
    let found = x.shape().get(axis).copied().unwrap_or(0);
    if axis >= x.shape().len() || count > found {
        return Err(TensorError::Arrangement(format!("{count} of {found} elements along axis {axis} cannot be taken")));
    }
    let mut shape = x.shape().to_vec();
    shape[axis] = count;
    let (from, to) = (Lanes::new(x.shape(), axis), Lanes::new(&shape, axis));
    let numbers = x.numbers()?;
    let mut places = vec![0; shape.iter().product()];
    let mut indices = vec![0i64; places.len()];
    for lane in 0..to.count() {
        let mut order: Vec<usize> = (0..from.len).collect();
        // The sort is stable, so that among equals the lower index comes first.
        order.sort_by(|&a, &b| {
            let order = compare(&numbers, from.place(lane, a), from.place(lane, b));
            if descending { order.reverse() } else { order }
        });
        for (rank, &index) in order.iter().take(count).enumerate() {
            let at = to.place(lane, rank);
            places[at] = from.place(lane, index);
            indices[at] = index as i64;
        }
    }
    let values = x.rearranged(&shape, places.into_iter())?;
    Ok((values, Tensor::from_numbers(DType::I64, &shape, &Numbers::Int(indices))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_largest_and_ties_keep_their_order() {
        let x = Tensor::from_slice(&[5], &[1f32, f32::NAN, 0.0, 1.0, -0.0]).unwrap();
        let indices = |descending| sorted(&x, 0, descending, 5).unwrap().1.numbers().unwrap().to_i64();
        assert_eq!(indices(false), [2, 4, 0, 3, 1]);
        assert_eq!(indices(true), [1, 0, 3, 2, 4]);
        assert!(sorted(&x, 0, true, 6).is_err());
        assert!(sorted(&x, 1, true, 0).is_err());
    }
}
