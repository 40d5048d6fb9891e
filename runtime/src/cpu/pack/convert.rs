//! Packing half-precision sources into `f32` panels.
//!
//! A strip of the source is widened row by row into a buffer on the stack, which is then packed as `f32`.

use super::*;
use crate::cpu::gemm::Stored;

/// Steps of `K` widened at a time: with 32 lanes a buffer of 8 KiB.
const STRIP: usize = 64;

macro_rules! widening {
    ($($(#[$doc:meta])* $name:ident: $ty:ty, $width:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As for [`pack_a_f32`], with the panel's width.
        pub unsafe fn $name(isa: Isa, source: Source<$ty>, panels: Panels<f32>) {
            assert_available(isa);
            // SAFETY: the caller's contract.
            unsafe { widen::<$ty, { $width }>(isa, source, panels) }
        }
    )*};
}
widening! {
    /// Packs bfloat16 `A` into `f32` panels of [`MR`] rows.
    pack_a_bf16: bf16, MR;
    /// Packs half-precision `A` into `f32` panels of [`MR`] rows.
    pack_a_f16: f16, MR;
    /// Packs bfloat16 `B` into `f32` panels of [`NR`] columns.
    pack_b_bf16: bf16, NR;
    /// Packs half-precision `B` into `f32` panels of [`NR`] columns.
    pack_b_f16: f16, NR;
}

unsafe fn widen<T: Stored, const W: usize>(isa: Isa, source: Source<T>, panels: Panels<f32>) {
    let mut strip = [0f32; STRIP * NR];
    // SAFETY: the caller's contract; the strip holds W rows of STRIP, or STRIP rows of W.
    unsafe {
        for_each_panel::<T, f32, W>(source, panels, |s, n, panel| {
            for p in (0..s.k).step_by(STRIP) {
                let k = STRIP.min(s.k - p);
                let from = s.data.add(p * s.k_stride);
                let strip = strip.as_mut_ptr();
                let part = if s.k_stride == 1 {
                    widen_rows::<T>(isa, from, n, k, s.outer_stride, 1, strip, STRIP);
                    Source { data: strip.cast_const(), outer: n, k, outer_stride: STRIP, k_stride: 1 }
                } else {
                    widen_rows::<T>(isa, from, k, n, s.k_stride, s.outer_stride, strip, W);
                    Source { data: strip.cast_const(), outer: n, k, outer_stride: 1, k_stride: W }
                };
                pack::<W>(isa, part, Panels { data: panel.add(p * W), step: 0 });
            }
        });
    }
}

simd_kernel! {
    /// Widens `rows` rows of `n` elements, `col` apart, to rows of `f32`.
    fn widen_rows<S, T: Stored>(
        from: *const T, rows: usize, n: usize, row: usize, col: usize, to: *mut f32, to_row: usize,
    ) {
        // SAFETY: the caller's contract; the element-wise path loads one lane at a time.
        unsafe {
            for i in 0..rows {
                let (from, to) = (from.add(i * row), to.add(i * to_row));
                let mut j = 0;
                while col == 1 && j + S::LANES <= n {
                    S::store(to.add(j), T::load::<S>(from.add(j)));
                    j += S::LANES;
                }
                if col == 1 && j < n {
                    S::store_n(to.add(j), n - j, T::load_n::<S>(from.add(j), n - j));
                    j = n;
                }
                while j < n {
                    S::store_n(to.add(j), 1, T::load_n::<S>(from.add(j * col), 1));
                    j += 1;
                }
            }
        }
    }
}
