//! Packing moves: from a strided source into the panels that the matrix unit reads.
//!
//! A panel of width `W` holds, for each step of `K`, `W` neighbours of the outer dimension (rows of `A`, columns of `B`):
//! `[K][W]`, lanes beyond the outer extent zero. One function serves both operands:
//! * [`pack_a_f32`]: outer = M, `W` = [`MR`]; * [`pack_b_f32`]: outer = N, `W` = [`NR`].
//!
//! Half-precision sources widen to `f32` on the way ([`pack_a_bf16`], …) or keep their format in `B`
//! ([`pack_b_raw`]) to halve what a product with few rows has to read.

use super::gemm::{MR, NR};
use super::isa::Isa;
use super::simd::{Simd, assert_available, simd_kernel};
use half::{bf16, f16};

mod bytes;
mod convert;

mod im2col;
mod view;
mod window;
pub use bytes::{pack_a_bytes, pack_b_bytes, packed_bytes_len};
pub use convert::{pack_a_bf16, pack_a_f16, pack_b_bf16, pack_b_f16};
pub use im2col::{Conv2d, OutputBlock, pack_im2col_f32};
pub use view::{PackError, PackView, PanelForm, pack_view};

/// A matrix to pack, seen as `[outer, k]`.
#[derive(Clone, Copy, Debug)]
pub struct Source<T> {
    /// Element (0, 0).
    pub data: *const T,
    /// Rows of `A`, or columns of `B`.
    pub outer: usize,
    /// The contracted dimension.
    pub k: usize,
    /// Elements from one `outer` to the next.
    pub outer_stride: usize,
    /// Elements from one `k` to the next.
    pub k_stride: usize,
}

/// Where panels go.
#[derive(Clone, Copy, Debug)]
pub struct Panels<T> {
    /// The first panel.
    pub data: *mut T,
    /// Elements from panel to panel, at least `k` times the width.
    pub step: usize,
}

/// The number of elements of the panels of `outer` by `k`, if it fits.
pub fn packed_len(outer: usize, k: usize, width: usize) -> Option<usize> {
    outer.div_ceil(width.max(1)).checked_mul(width)?.checked_mul(k)
}

/// Packs `A` (`outer` = M) into panels of [`MR`] rows.
///
/// # Safety
/// This machine has `isa`; `source` is readable over its extents, `panels` writable over `ceil(outer / MR)` panels of
/// `k * MR` elements; they do not overlap.
pub unsafe fn pack_a_f32(isa: Isa, source: Source<f32>, panels: Panels<f32>) {
    assert_available(isa);
    // SAFETY: the caller's contract.
    unsafe { pack::<MR>(isa, source, panels) }
}

/// Packs `B` (`outer` = N) into panels of [`NR`] columns.
///
/// # Safety
/// As for [`pack_a_f32`], with `NR` for `MR`.
pub unsafe fn pack_b_f32(isa: Isa, source: Source<f32>, panels: Panels<f32>) {
    assert_available(isa);
    // SAFETY: the caller's contract.
    unsafe { pack::<NR>(isa, source, panels) }
}

/// Packs `B` into panels of [`NR`] columns in its own format; padding is all zero bits.
///
/// # Safety
/// As for [`pack_b_f32`].
pub unsafe fn pack_b_raw<T: bytemuck::Pod>(source: Source<T>, panels: Panels<T>) {
    // SAFETY: the caller's contract.
    unsafe { for_each_panel::<T, T, NR>(source, panels, |s, n, p| scatter_panel::<T, NR>(s, n, p)) }
}

unsafe fn pack<const W: usize>(isa: Isa, source: Source<f32>, panels: Panels<f32>) {
    // SAFETY: the caller's contract.
    unsafe {
        for_each_panel::<f32, f32, W>(source, panels, |s, n, panel| {
            if s.outer_stride == 1 {
                copy_panel::<W>(isa, s, n, panel);
            } else if s.k_stride == 1 {
                transpose_panel::<W>(s, n, panel);
            } else {
                scatter_panel::<f32, W>(s, n, panel);
            }
        });
    }
}

/// Calls `panel(source at the panel's first element, lanes in use, panel)` for each panel.
#[inline(always)]
unsafe fn for_each_panel<T, U, const W: usize>(
    source: Source<T>,
    panels: Panels<U>,
    mut panel: impl FnMut(Source<T>, usize, *mut U),
) {
    for i in (0..source.outer).step_by(W) {
        // SAFETY: `i < outer`.
        unsafe {
            let part = Source { data: source.data.add(i * source.outer_stride), ..source };
            panel(part, W.min(source.outer - i), panels.data.add(i / W * panels.step));
        }
    }
}

simd_kernel! {
    /// A panel whose lanes are neighbours in the source: rows are copied.
    fn copy_rows<S>(source: Source<f32>, n: usize, width: usize, panel: *mut f32) {
        // SAFETY: the caller's contract: k rows of n elements; the panel has k rows of `width >= n`.
        unsafe {
            for p in 0..source.k {
                let (from, to) = (source.data.add(p * source.k_stride), panel.add(p * width));
                let mut j = 0;
                while j + S::LANES <= n {
                    S::store(to.add(j), S::load(from.add(j)));
                    j += S::LANES;
                }
                let rest = if j < n { S::load_n(from.add(j), n - j) } else { S::zero() };
                while j < width {
                    // The first vector carries what is left of the row, those after it only zeros.
                    let v = if j < n { rest } else { S::zero() };
                    if j + S::LANES <= width { S::store(to.add(j), v) } else { S::store_n(to.add(j), width - j, v) }
                    j += S::LANES;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn copy_panel<const W: usize>(isa: Isa, source: Source<f32>, n: usize, panel: *mut f32) {
    // SAFETY: the caller's contract.
    unsafe { copy_rows(isa, source, n, W, panel) }
}

/// A panel whose lanes are rows with `k` innermost: transposed four by four.
unsafe fn transpose_panel<const W: usize>(source: Source<f32>, n: usize, panel: *mut f32) {
    let Source { data, k, outer_stride, .. } = source;
    // SAFETY: the caller's contract; `i < n`, `p < k`, and a block ends inside both.
    unsafe {
        let mut i = 0;
        while i + 4 <= n {
            let rows = data.add(i * outer_stride);
            let mut p = 0;
            while p + 4 <= k {
                transpose4(rows.add(p), outer_stride as isize, panel.add(p * W + i), W as isize);
                p += 4;
            }
            while p < k {
                for u in 0..4 {
                    *panel.add(p * W + i + u) = *rows.add(u * outer_stride + p);
                }
                p += 1;
            }
            i += 4;
        }
        for i in i..W {
            for p in 0..k {
                *panel.add(p * W + i) = if i < n { *data.add(i * outer_stride + p) } else { 0.0 };
            }
        }
    }
}

/// Transposes the 4 × 4 block at `from` (rows `row` apart) to `to` (rows `to_row` apart).
#[inline(always)]
pub(super) unsafe fn transpose4(from: *const f32, row: isize, to: *mut f32, to_row: isize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64; both blocks are accessible by the caller's contract.
    unsafe {
        use std::arch::x86_64::*;
        let mut r0 = _mm_loadu_ps(from);
        let mut r1 = _mm_loadu_ps(from.offset(row));
        let mut r2 = _mm_loadu_ps(from.offset(2 * row));
        let mut r3 = _mm_loadu_ps(from.offset(3 * row));
        _MM_TRANSPOSE4_PS(&mut r0, &mut r1, &mut r2, &mut r3);
        _mm_storeu_ps(to, r0);
        _mm_storeu_ps(to.offset(to_row), r1);
        _mm_storeu_ps(to.offset(2 * to_row), r2);
        _mm_storeu_ps(to.offset(3 * to_row), r3);
    }
    #[cfg(not(target_arch = "x86_64"))]
    for i in 0..4 {
        for j in 0..4 {
            // SAFETY: both blocks are accessible by the caller's contract.
            unsafe { *to.offset(j * to_row + i) = *from.offset(i * row + j) };
        }
    }
}

/// A panel from any strides, element by element.
unsafe fn scatter_panel<T: bytemuck::Pod, const W: usize>(source: Source<T>, n: usize, panel: *mut T) {
    let Source { data, k, outer_stride, k_stride, .. } = source;
    for p in 0..k {
        for i in 0..W {
            // SAFETY: `i < n` where the source is read; the panel has k rows of W.
            unsafe {
                let value = if i < n { *data.add(i * outer_stride + p * k_stride) } else { T::zeroed() };
                *panel.add(p * W + i) = value;
            }
        }
    }
}
