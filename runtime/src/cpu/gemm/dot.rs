//! Products whose operands both have `K` innermost: dot products of rows.

use super::super::simd::{Simd, assert_available, simd_kernel};
use super::{Extents, Isa, Out, Stored};
use half::{bf16, f16};

/// A row-major matrix.
#[derive(Clone, Copy, Debug)]
pub struct RowMajor<T> {
    /// Element (0, 0).
    pub data: *const T,
    /// Elements from row to row.
    pub stride: usize,
}

/// `C[M, N] (+)= A[M, K] · Bᵀ` with `B` row-major `[N, K]`. For few rows of `A`; with many, packing pays.
///
/// # Safety
/// This machine has `isa`; the operands are readable over their extents, `out` is writable over `[m, n]` and overlaps
/// neither.
pub unsafe fn mmad_dot_f32(isa: Isa, extents: Extents, a: RowMajor<f32>, b: RowMajor<f32>, out: Out<f32>) {
    assert_available(isa);
    // SAFETY: the caller's contract.
    unsafe { mmad_dot(isa, extents, a, b, out) }
}

/// As [`mmad_dot_f32`], with `B` in bfloat16.
///
/// # Safety
/// As for [`mmad_dot_f32`].
pub unsafe fn mmad_dot_bf16(isa: Isa, extents: Extents, a: RowMajor<f32>, b: RowMajor<bf16>, out: Out<f32>) {
    assert_available(isa);
    // SAFETY: the caller's contract.
    unsafe { mmad_dot(isa, extents, a, b, out) }
}

/// As [`mmad_dot_f32`], with `B` in half precision.
///
/// # Safety
/// As for [`mmad_dot_f32`].
pub unsafe fn mmad_dot_f16(isa: Isa, extents: Extents, a: RowMajor<f32>, b: RowMajor<f16>, out: Out<f32>) {
    assert_available(isa);
    // SAFETY: the caller's contract.
    unsafe { mmad_dot(isa, extents, a, b, out) }
}

simd_kernel! {
    fn mmad_dot<S, B: Stored>(extents: Extents, a: RowMajor<f32>, b: RowMajor<B>, out: Out<f32>) {
        let Extents { m, n, k } = extents;
        let mut j = 0;
        while j < n {
            let cols = if n - j >= 4 { 4 } else { 1 };
            let mut i = 0;
            while i < m {
                let rows = if m - i >= 4 && cols == 4 { 4 } else { 1 };
                // SAFETY: `i < m`, `j < n`, and the block ends inside both.
                unsafe {
                    let a = RowMajor { data: a.data.add(i * a.stride), ..a };
                    let b = RowMajor { data: b.data.add(j * b.stride), ..b };
                    let out = Out { data: out.data.add(i * out.stride + j), ..out };
                    match (rows, cols) {
                        (4, 4) => dots::<S, B, 4, 4, 1>(k, a, b, out),
                        (_, 4) => dots::<S, B, 1, 4, 2>(k, a, b, out),
                        _ => dots::<S, B, 1, 1, 4>(k, a, b, out),
                    }
                }
                i += rows;
            }
            j += cols;
        }
    }
}

/// `R * C` dot products with `U` sums each.
#[inline(always)]
unsafe fn dots<S: Simd, B: Stored, const R: usize, const C: usize, const U: usize>(
    k: usize,
    a: RowMajor<f32>,
    b: RowMajor<B>,
    out: Out<f32>,
) {
    let mut sums = [[[S::zero(); C]; R]; U];
    // SAFETY: the caller's contract: R rows of `A` and C rows of `B` of k elements, R rows of C results.
    unsafe {
        let mut p = 0;
        while p + U * S::LANES <= k {
            for (u, sums) in sums.iter_mut().enumerate() {
                let at = p + u * S::LANES;
                let mut x = [S::zero(); R];
                for (i, x) in x.iter_mut().enumerate() {
                    *x = S::load(a.data.add(i * a.stride + at));
                }
                for j in 0..C {
                    let y = B::load::<S>(b.data.add(j * b.stride + at));
                    for i in 0..R {
                        sums[i][j] = S::fma(x[i], y, sums[i][j]);
                    }
                }
            }
            p += U * S::LANES;
        }
        while p < k {
            let part = (k - p).min(S::LANES);
            for j in 0..C {
                let y = load_part::<S, B>(b.data.add(j * b.stride + p), part);
                for i in 0..R {
                    let x = load_part::<S, f32>(a.data.add(i * a.stride + p), part);
                    sums[0][i][j] = S::fma(x, y, sums[0][i][j]);
                }
            }
            p += part;
        }
        for i in 0..R {
            for j in 0..C {
                let mut sum = sums[0][i][j];
                for more in &sums[1..] {
                    sum = S::add(sum, more[i][j]);
                }
                let c = out.data.add(i * out.stride + j);
                *c = if out.accumulate { *c + S::sum(sum) } else { S::sum(sum) };
            }
        }
    }
}

/// Loads the first `n <= LANES` elements.
#[inline(always)]
unsafe fn load_part<S: Simd, B: Stored>(p: *const B, n: usize) -> S::F {
    // SAFETY: the caller's contract.
    unsafe { if n == S::LANES { B::load::<S>(p) } else { B::load_n::<S>(p, n) } }
}
