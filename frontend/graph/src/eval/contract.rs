//! Contraction: operands are brought to `[batch, rows, summed]` and `[batch, columns, summed]`, and each result element is one
//! contiguous dot product.

use tarsia_tensor::{DType, Numbers, Overflow, Tensor, arrange::Places};

use super::Fault;
use crate::{Contraction, Op};

pub(super) fn apply(op: &Op, x: &[Tensor], shape: &[usize]) -> Result<Tensor, Fault> {
    let Op::Contract { spec, dtype } = op else { return Err(Fault::NoOperand) };
    let (a, b) = (x[0].numbers()?, x[1].numbers()?);
    let arranged = |numbers: &Numbers, letters: &[u8], tensor: &Tensor, order: [&[u8]; 3]| {
        let perm = order.concat().iter().filter_map(|l| letters.iter().position(|x| x == l)).collect::<Vec<_>>();
        numbers.take(Places::permuted(tensor.shape(), &perm))
    };
    let (batch, rows, columns, summed) = (spec.batch(), spec.rows(), spec.columns(), spec.summed());
    let a = arranged(&a, &spec.lhs, &x[0], [&batch, &rows, &summed]);
    let b = arranged(&b, &spec.rhs, &x[1], [&batch, &columns, &summed]);
    let extent = |letters: &[u8]| letters.iter().map(|&l| size_of(spec, l, x)).product::<usize>();
    let sizes = [extent(&batch), extent(&rows), extent(&columns), extent(&summed)];
    let product = if matches!(a, Numbers::Float(_)) || matches!(b, Numbers::Float(_)) {
        Numbers::Float(dots(&a.to_f64(), &b.to_f64(), sizes))
    } else {
        Numbers::Int(dots(&a.to_i64(), &b.to_i64(), sizes))
    };
    // The products stand in the order batch, rows, columns; the result has its own.
    let made: Vec<u8> = [&batch[..], &rows, &columns].concat();
    let made_shape: Vec<usize> = made.iter().map(|&l| size_of(spec, l, x)).collect();
    let perm: Vec<usize> = spec.out.iter().filter_map(|l| made.iter().position(|m| m == l)).collect();
    let product = product.take(Places::permuted(&made_shape, &perm));
    as_type(&product, *dtype, shape)
}

fn size_of(spec: &Contraction, letter: u8, x: &[Tensor]) -> usize {
    let find = |letters: &[u8], tensor: &Tensor| letters.iter().position(|&l| l == letter).map(|i| tensor.shape()[i]);
    find(&spec.lhs, &x[0]).or_else(|| find(&spec.rhs, &x[1])).unwrap_or(1)
}

/// `result[batch, row, column] = Σ a[batch, row, s]·b[batch, column, s]`.
fn dots<T: Scalar>(a: &[T], b: &[T], [batch, rows, columns, summed]: [usize; 4]) -> Vec<T> {
    let mut results = Vec::with_capacity(batch * rows * columns);
    for i in 0..batch {
        for row in 0..rows {
            let left = &a[(i * rows + row) * summed..][..summed];
            results.extend((0..columns).map(|column| T::dot(left, &b[(i * columns + column) * summed..][..summed])));
        }
    }
    results
}

/// Numbers that are multiplied and added up.
pub(super) trait Scalar: Copy + Default {
    /// Σ aᵢ·bᵢ.
    fn dot(a: &[Self], b: &[Self]) -> Self;
}

impl Scalar for f64 {
    /// Eight partial sums, so that the loop becomes vector instructions.
    fn dot(a: &[f64], b: &[f64]) -> f64 {
        let mut sums = [0.0; 8];
        let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
        let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
        for (x, y) in a_chunks.zip(b_chunks) {
            for lane in 0..8 {
                sums[lane] += x[lane] * y[lane];
            }
        }
        sums.iter().sum::<f64>() + rest
    }
}

impl Scalar for i64 {
    fn dot(a: &[i64], b: &[i64]) -> i64 {
        a.iter().zip(b).fold(0, |sum, (x, y)| sum.wrapping_add(x.wrapping_mul(*y)))
    }
}

/// Numbers of any class as a tensor of `dtype`.
pub(super) fn as_type(numbers: &Numbers, dtype: DType, shape: &[usize]) -> Result<Tensor, Fault> {
    if !dtype.is_numeric() {
        return Err(Fault::Unsupported(dtype));
    }
    Ok(Tensor::new(dtype, shape, numbers.encode(dtype, Overflow::Special).into())?)
}
