//! Matrix products.

use half::{bf16, f16};
use tarsia_tensor::DType;
use tarsia_tile::{Fractal, Order};

use super::function::Number;
use super::matrix::{Blocks, Matrix, MatrixForm};
use super::wide::{self, PIECE, Width, with_wide};
use crate::cpu::Isa;
use crate::cpu::gemm::{self, Extents, Lhs, Out, Rhs};

/// The panels that the CPU's matrix kernel reads its left operand from.
pub const LEFT: Fractal = Fractal { outer: Order::Z, inner: Order::N, block: [gemm::MR, 1] };
/// The panels that the CPU's matrix kernel reads its right operand from.
pub const RIGHT: Fractal = Fractal { outer: Order::N, inner: Order::Z, block: [1, gemm::NR] };

/// `dst (+)= a · b`.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The matrices lie inside of their memory; `dst` overlaps neither of the others.
pub unsafe fn mmad(isa: Isa, accumulate: bool, dst: &Matrix, a: &Matrix, b: &Matrix) -> Result<(), String> {
    let ([m, n], [am, k], [bk, bn]) = (dst.size, a.size, b.size);
    if (m, k, n) != (am, bk, bn) {
        return Err(format!("a matrix {:?} times a matrix {:?} is not {:?}", a.size, b.size, dst.size));
    }
    // SAFETY: the caller's contract.
    unsafe {
        if !product(isa, accumulate, dst, a, b) {
            with_wide!(Width::of(dst.dtype), W => slow::<W>(accumulate, dst, a, b));
        }
    }
    Ok(())
}

/// The product on the matrix kernels, if they take these operands.
unsafe fn product(isa: Isa, accumulate: bool, dst: &Matrix, a: &Matrix, b: &Matrix) -> bool {
    let MatrixForm::Strided { at, row, col: 1 } = dst.form else { return false };
    let (DType::F32, DType::F32, Ok(stride)) = (dst.dtype, a.dtype, usize::try_from(row)) else { return false };
    let Some(left) = left(a) else { return false };
    let extents = Extents { m: dst.size[0], n: dst.size[1], k: a.size[1] };
    let out = Out { data: dst.base.cast::<f32>().wrapping_offset(at), stride, accumulate };
    // SAFETY: the caller's contract; panels hold all rows of the whole matrix, padded to whole panels.
    unsafe {
        match b.dtype {
            DType::F32 => right(b).map(|b| gemm::mmad_f32(isa, extents, left, b, out)),
            DType::BF16 => right::<bf16>(b).map(|b| gemm::mmad_bf16(isa, extents, left, b, out)),
            DType::F16 => right::<f16>(b).map(|b| gemm::mmad_f16(isa, extents, left, b, out)),
            _ => None,
        }
    }
    .is_some()
}

fn left(a: &Matrix) -> Option<Lhs> {
    let base = a.base.cast_const().cast::<f32>();
    match &a.form {
        MatrixForm::Strided { at, row, col } => {
            let (row, col) = (usize::try_from(*row).ok()?, usize::try_from(*col).ok()?);
            Some(Lhs::Strided { data: base.wrapping_offset(*at), row, col })
        }
        MatrixForm::Blocked(blocks) => {
            let (at, step) = panels(blocks, &LEFT, 0)?;
            Some(Lhs::Panels { data: base.wrapping_offset(at), step })
        }
    }
}

fn right<T>(b: &Matrix) -> Option<Rhs<T>> {
    let base = b.base.cast_const().cast::<T>();
    match &b.form {
        MatrixForm::Strided { at, row, col: 1 } => {
            Some(Rhs::Rows { data: base.wrapping_offset(*at), stride: usize::try_from(*row).ok()? })
        }
        MatrixForm::Strided { .. } => None,
        MatrixForm::Blocked(blocks) => {
            let (at, step) = panels(blocks, &RIGHT, 1)?;
            Some(Rhs::Panels { data: base.wrapping_offset(at), step })
        }
    }
}

/// Position of the first panel and distance of panels across `axis`, if the blocks are those of `kind` and the box starts a panel.
pub fn panels(blocks: &Blocks, kind: &Fractal, axis: usize) -> Option<(isize, usize)> {
    let width = kind.block[axis];
    if blocks.fractal != *kind || !blocks.first[axis].is_multiple_of(width) {
        return None;
    }
    let step = blocks.whole[1 - axis].checked_mul(width)?;
    let at = blocks.first[axis] / width * step + blocks.first[1 - axis] * width;
    Some((blocks.at + at as isize, step))
}

/// Row by row of `a`, piece by piece of the columns of `b`.
unsafe fn slow<W: Number>(accumulate: bool, dst: &Matrix, a: &Matrix, b: &Matrix) {
    let ([m, n], k) = (dst.size, a.size[1]);
    let (mut sum, mut row) = ([W::default(); PIECE], [W::default(); PIECE]);
    for i in 0..m {
        for j in (0..n).step_by(PIECE) {
            let width = PIECE.min(n - j);
            // SAFETY: the caller's contract.
            unsafe {
                sum[..width].fill(W::default());
                if accumulate {
                    load_row(dst, i, j, &mut sum[..width]);
                }
                for p in 0..k {
                    let mut factor = [W::default()];
                    load_row(a, i, p, &mut factor);
                    load_row(b, p, j, &mut row[..width]);
                    for (sum, x) in sum[..width].iter_mut().zip(&row) {
                        *sum = sum.add(factor[0].mul(*x));
                    }
                }
                store_row(dst, i, j, &sum[..width]);
            }
        }
    }
}

unsafe fn load_row<W: Number>(matrix: &Matrix, row: usize, column: usize, out: &mut [W]) {
    let mut done = 0;
    while done < out.len() {
        let run = matrix.row_run(row, column + done, out.len() - done);
        // SAFETY: the caller's contract.
        unsafe { wide::load(matrix.dtype, matrix.base, run.at, run.stride, &mut out[done..done + run.len]) };
        done += run.len;
    }
}

unsafe fn store_row<W: Number>(matrix: &Matrix, row: usize, column: usize, values: &[W]) {
    let mut done = 0;
    while done < values.len() {
        let run = matrix.row_run(row, column + done, values.len() - done);
        // SAFETY: the caller's contract.
        unsafe { wide::store(matrix.dtype, matrix.base, run.at, run.stride, &values[done..done + run.len]) };
        done += run.len;
    }
}
