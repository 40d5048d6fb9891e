//! Every op by hand-computed cases.

mod arithmetic;
mod composites;
mod control;
mod structure;

use tarsia_tensor::DType;

use super::*;

/// A tensor of f32.
fn f(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

/// A tensor of i64.
fn i(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

/// A tensor of bool.
fn b(shape: &[usize], values: &[u8]) -> Tensor {
    Tensor::new(DType::Bool, shape, values.to_vec().into()).unwrap()
}

/// The only result of an op.
fn one(op: Op, operands: &[Tensor]) -> Tensor {
    let mut results = super::op(&op, operands, &Bindings::new()).unwrap_or_else(|fault| panic!("{op:?}: {fault}"));
    assert_eq!(results.len(), 1);
    results.remove(0)
}

fn fails(op: Op, operands: &[Tensor]) -> String {
    super::op(&op, operands, &Bindings::new()).unwrap_err().to_string()
}

fn dims(sizes: &[i64]) -> Vec<Dim> {
    sizes.iter().map(|&size| Dim::Const(size)).collect()
}

fn close(found: &Tensor, expected: &[f64], tolerance: f64) {
    let found = found.numbers().unwrap().to_f64();
    assert_eq!(found.len(), expected.len());
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance || a == b || a.is_nan() && b.is_nan();
    assert!(found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
}
