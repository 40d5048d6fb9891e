//! Matrix products.

use half::{bf16, f16};
use tarsia_tensor::DType;
use tarsia_tile::{Fractal, Order};

use super::matrix::{Blocks, Matrix, MatrixForm};
use super::wide::{self, PIECE, Wide, Width, with_wide};
use crate::cpu::Isa;
use crate::cpu::gemm::{self, Blocked, BytePanels, Extents, Lhs, Out, Rhs, RowMajor};

/// The panels that the CPU's matrix kernel reads its left operand from.
pub const LEFT: Fractal = Fractal { outer: Order::Z, inner: Order::N, block: [gemm::MR, 1] };
/// The panels that the CPU's matrix kernel reads its right operand from.
pub const RIGHT: Fractal = Fractal { outer: Order::N, inner: Order::Z, block: [1, gemm::NR] };

/// Panels of bytes of the left operand: four steps of the depth lie side by side.
pub const BYTES_LEFT: Fractal = Fractal { outer: Order::Z, inner: Order::Z, block: [gemm::MR, gemm::GROUP] };
/// Panels of bytes of the right operand.
pub const BYTES_RIGHT: Fractal = Fractal { outer: Order::N, inner: Order::N, block: [gemm::GROUP, gemm::NR] };

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
    let MatrixForm::Strided { at, row, col } = dst.form else { return false };
    let (true, Ok(stride)) = (col == 1 || dst.size[1] <= 1, usize::try_from(row)) else { return false };
    let extents = Extents { m: dst.size[0], n: dst.size[1], k: a.size[1] };
    let data = dst.base.wrapping_offset(at * (dst.dtype.bits() / 8) as isize);
    let out = Out { data, stride, accumulate };
    // SAFETY: the caller's contract; panels hold all rows of the whole matrix, padded to whole panels.
    unsafe {
        match (dst.dtype, a.dtype, b.dtype) {
            (DType::F32, DType::F32, DType::F32 | DType::BF16 | DType::F16) => floats(isa, extents, a, b, out),
            (DType::I32, DType::I8 | DType::U8, DType::I8 | DType::U8) => bytes(isa, extents, a, b, out),
            (dtype, x, y) if dtype == x && dtype == y => plain(isa, dtype, extents, a, b, out),
            _ => None,
        }
    }
    .is_some()
}

unsafe fn floats(isa: Isa, extents: Extents, a: &Matrix, b: &Matrix, out: Out<u8>) -> Option<()> {
    let out = Out { data: out.data.cast::<f32>(), stride: out.stride, accumulate: out.accumulate };
    // SAFETY: the caller's contract.
    unsafe {
        if let (Some(x), Some(y)) = (rows_along_depth::<f32>(a, 0), rows_along_depth::<u8>(b, 1)) {
            let y_f32 = RowMajor { data: y.data.cast::<f32>(), stride: y.stride };
            match b.dtype {
                DType::F32 => gemm::mmad_dot_f32(isa, extents, x, y_f32, out),
                DType::BF16 => {
                    gemm::mmad_dot_bf16(isa, extents, x, RowMajor { data: y.data.cast(), stride: y.stride }, out);
                }
                _ => gemm::mmad_dot_f16(isa, extents, x, RowMajor { data: y.data.cast(), stride: y.stride }, out),
            }
            return Some(());
        }
        let left = left(a)?;
        match b.dtype {
            DType::F32 => gemm::mmad_f32(isa, extents, left, right(b)?, out),
            DType::BF16 => gemm::mmad_bf16(isa, extents, left, right::<bf16>(b)?, out),
            _ => gemm::mmad_f16(isa, extents, left, right::<f16>(b)?, out),
        }
    }
    Some(())
}

/// A strided operand whose depth is innermost (axis 1 of the left operand, 0 of the right one) and not its other axis too.
fn rows_along_depth<T>(matrix: &Matrix, depth_axis: usize) -> Option<RowMajor<T>> {
    let MatrixForm::Strided { at, row, col } = matrix.form else { return None };
    let (depth, other) = if depth_axis == 0 { (col, row) } else { (row, col) };
    if depth != 1 || (other == 1 && matrix.size[0] != 1 && matrix.size[1] != 1) {
        return None;
    }
    let data = matrix.base.wrapping_offset(at * (matrix.dtype.bits() / 8) as isize);
    Some(RowMajor { data: data.cast_const().cast(), stride: usize::try_from(other).ok()? })
}

unsafe fn bytes(isa: Isa, extents: Extents, a: &Matrix, b: &Matrix, out: Out<u8>) -> Option<()> {
    let operand = |matrix: &Matrix, kind: &Fractal, across: usize| {
        let MatrixForm::Blocked(blocks) = &matrix.form else { return None };
        let (at, step) = grouped_panels(blocks, kind, across)?;
        let data = matrix.base.cast_const().wrapping_offset(at);
        Some(BytePanels { data, step, signed: matrix.dtype == DType::I8 })
    };
    let (a, b) = (operand(a, &BYTES_LEFT, 0)?, operand(b, &BYTES_RIGHT, 1)?);
    let out = Out { data: out.data.cast::<i32>(), stride: out.stride, accumulate: out.accumulate };
    // SAFETY: the caller's contract.
    unsafe { gemm::mmad_bytes(isa, extents, a, b, out) };
    Some(())
}

unsafe fn plain(isa: Isa, dtype: DType, extents: Extents, a: &Matrix, b: &Matrix, out: Out<u8>) -> Option<()> {
    let (a, b) = (blocked(a)?, blocked(b)?);
    // SAFETY: the caller's contract.
    unsafe { gemm::mmad_plain(isa, dtype, extents, a, b, out) }.ok()
}

fn blocked(matrix: &Matrix) -> Option<Blocked> {
    let bytes = (matrix.dtype.bits() / 8) as isize;
    let address = |at: isize| matrix.base.cast_const().wrapping_offset(at * bytes);
    match &matrix.form {
        MatrixForm::Strided { at, row, col } => {
            Some(Blocked::dense(address(*at), usize::try_from(*row).ok()?, usize::try_from(*col).ok()?))
        }
        MatrixForm::Blocked(blocks) => {
            let [r, c] = blocks.fractal.block;
            let starts_block = blocks.first[0].is_multiple_of(r) && blocks.first[1].is_multiple_of(c);
            let inner = if blocks.fractal.inner == Order::Z { [c, 1] } else { [1, r] };
            let outer = [0, 1].map(|axis| blocks.block_distance(axis) as usize);
            starts_block.then(|| Blocked { data: address(blocks.position(0, 0)), block: [r, c], outer, inner })
        }
    }
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

/// As [`panels`] for panels of bytes, whose depth goes in groups.
pub fn grouped_panels(blocks: &Blocks, kind: &Fractal, axis: usize) -> Option<(isize, usize)> {
    let (width, group) = (kind.block[axis], kind.block[1 - axis]);
    let starts_panel = blocks.first[axis].is_multiple_of(width) && blocks.first[1 - axis].is_multiple_of(group);
    if blocks.fractal != *kind || !starts_panel {
        return None;
    }
    let step = blocks.whole[1 - axis].next_multiple_of(group).checked_mul(width)?;
    let at = blocks.first[axis] / width * step + blocks.first[1 - axis] * width;
    Some((blocks.at + at as isize, step))
}

/// Row by row of `a`, piece by piece of the columns of `b`.
unsafe fn slow<W: Wide>(accumulate: bool, dst: &Matrix, a: &Matrix, b: &Matrix) {
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

unsafe fn load_row<W: Wide>(matrix: &Matrix, row: usize, column: usize, out: &mut [W]) {
    let mut done = 0;
    while done < out.len() {
        let run = matrix.row_run(row, column + done, out.len() - done);
        // SAFETY: the caller's contract.
        unsafe { wide::load(matrix.dtype, matrix.base, run.at, run.stride, &mut out[done..done + run.len]) };
        done += run.len;
    }
}

unsafe fn store_row<W: Wide>(matrix: &Matrix, row: usize, column: usize, values: &[W]) {
    let mut done = 0;
    while done < values.len() {
        let run = matrix.row_run(row, column + done, values.len() - done);
        // SAFETY: the caller's contract.
        unsafe { wide::store(matrix.dtype, matrix.base, run.at, run.stride, &values[done..done + run.len]) };
        done += run.len;
    }
}
