//! Products of any plain element type, from operands at any strides or in panels; for correctness more than for speed.
//!
//! `f64` and integers accumulate in their own type, integers wrapping.

use super::super::number::{Number, with_number};
use super::super::vector::NoKernel;
use super::{Extents, Isa, Out};
use tarsia_tensor::DType;

/// An operand: element `(row, col)` at `data + row / block_rows * block_row + row % block_rows * row_stride + …`, likewise
/// for the column. A dense operand has blocks of one row and one column.
#[derive(Clone, Copy, Debug)]
pub struct Blocked {
    /// Element (0, 0).
    pub data: *const u8,
    /// Rows and columns of a block; not 0.
    pub block: [usize; 2],
    /// Elements from block to block, down and across.
    pub outer: [usize; 2],
    /// Elements from row to row and from column to column inside a block.
    pub inner: [usize; 2],
}

impl Blocked {
    /// A dense operand with these distances between rows and between columns.
    pub fn dense(data: *const u8, row: usize, col: usize) -> Blocked {
        Blocked { data, block: [1, 1], outer: [row, col], inner: [0, 0] }
    }

    #[inline(always)]
    fn offset(&self, axis: usize, index: usize) -> usize {
        index / self.block[axis] * self.outer[axis] + index % self.block[axis] * self.inner[axis]
    }
}

/// `C (+)= A · B` of any type with arithmetic, accumulated in that type.
///
/// # Errors
/// If elements of `dtype` are narrow floats, booleans or strings: those are packed or converted first.
///
/// # Safety
/// This machine has `isa`; the operands are readable over their extents, `out` is writable over `[m, n]` and overlaps
/// neither; all is aligned.
pub unsafe fn mmad_plain(
    isa: Isa,
    dtype: DType,
    extents: Extents,
    a: Blocked,
    b: Blocked,
    out: Out<u8>,
) -> Result<(), NoKernel> {
    if dtype == DType::Bool {
        return Err(NoKernel::of("mmad", dtype));
    }
    // SAFETY: the caller's contract.
    unsafe {
        with_number!(dtype, T => {
            let out = Out { data: out.data.cast::<T>(), stride: out.stride, accumulate: out.accumulate };
            product::<T>(isa, extents, a, b, out);
        }, _ => return Err(NoKernel::of("mmad", dtype)));
    }
    Ok(())
}

/// Columns of the result kept at a time.
const COLUMNS: usize = 64;

unsafe fn product<T: Number>(isa: Isa, extents: Extents, a: Blocked, b: Blocked, out: Out<T>) {
    let Extents { m, n, k } = extents;
    for j in (0..n).step_by(COLUMNS) {
        let cols = COLUMNS.min(n - j);
        let mut at = [0usize; COLUMNS];
        for (c, at) in at.iter_mut().enumerate().take(cols) {
            *at = b.offset(1, j + c);
        }
        let contiguous = at[..cols].windows(2).all(|pair| pair[1] == pair[0] + 1);
        for i in 0..m {
            let mut sums = [T::ZERO; COLUMNS];
            // SAFETY: the caller's contract.
            unsafe {
                for p in 0..k {
                    let x = *a.data.cast::<T>().add(a.offset(0, i) + a.offset(1, p));
                    let row = b.data.cast::<T>().add(b.offset(0, p));
                    if contiguous {
                        let row = std::slice::from_raw_parts(row.add(at[0]), cols);
                        add_scaled(isa, &mut sums[..cols], x, row);
                    } else {
                        for c in 0..cols {
                            sums[c] = sums[c].add(x.mul(*row.add(at[c])));
                        }
                    }
                }
                let to = std::slice::from_raw_parts_mut(out.data.add(i * out.stride + j), cols);
                for (c, &sum) in to.iter_mut().zip(&sums) {
                    *c = if out.accumulate { c.add(sum) } else { sum };
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn add_scaled<T: Number>(isa: Isa, sums: &mut [T], x: T, row: &[T]) {
    #[inline(always)]
    fn body<T: Number>(sums: &mut [T], x: T, row: &[T]) {
        for (sum, &y) in sums.iter_mut().zip(row) {
            *sum = sum.add(x.mul(y));
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<T: Number>(sums: &mut [T], x: T, row: &[T]) {
        body(sums, x, row)
    }
    match isa {
        // SAFETY: this machine has the level.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => unsafe { avx2(sums, x, row) },
        _ => body(sums, x, row),
    }
}
