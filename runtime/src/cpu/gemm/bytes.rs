//! Products of 8-bit integers with 32-bit sums, exact for every combination of signs.
//!
//! Panels group `K` by four: `A` is `[ceil(K / 4)][MR][4]`, `B` is `[ceil(K / 4)][NR][4]`, the rest of the last group zero.
//! The dot-product instruction multiplies unsigned by signed bytes. Where both operands have the same sign, `A` is
//! shifted by 128 on the fly (its top bit flipped) and `±128 Σ B` taken out of the result, one more dot product per column.

use super::super::simd::assert_available;
use super::{Extents, Isa, MR, NR, Out};

/// Steps of `K` in a group.
pub const GROUP: usize = 4;

/// Panels of bytes.
#[derive(Clone, Copy, Debug)]
pub struct BytePanels {
    /// The first panel.
    pub data: *const u8,
    /// Bytes from panel to panel, at least `ceil(K / 4) * 4` times the width.
    pub step: usize,
    /// Whether the bytes are `i8` rather than `u8`.
    pub signed: bool,
}

/// `C (+)= A · B` in wrapping `i32`, from panels of [`MR`] rows and [`NR`] columns with `K` grouped by four.
///
/// # Safety
/// This machine has `isa`; the panels are readable over `ceil(k / 4)` groups, `out` is writable over `[m, n]` and overlaps
/// neither; `data` of both is aligned to 4.
pub unsafe fn mmad_bytes(isa: Isa, extents: Extents, a: BytePanels, b: BytePanels, out: Out<i32>) {
    assert_available(isa);
    let Extents { m, n, k } = extents;
    for i in (0..m).step_by(MR) {
        for j in (0..n).step_by(NR) {
            let mut sums = [[0i32; NR]; MR];
            // SAFETY: `i < m` and `j < n` start a panel, whose padding is readable.
            unsafe {
                let (pa, pb) = (a.data.add(i / MR * a.step), b.data.add(j / NR * b.step));
                let groups = k.div_ceil(GROUP);
                let signs = (a.signed, b.signed);
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => x86::block_avx512(groups, pa, pb, signs, &mut sums),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => x86::block_avx2(groups, pa, pb, signs, &mut sums),
                    _ => block(groups, pa, pb, signs, &mut sums),
                }
                let c = out.data.add(i * out.stride + j);
                store(&sums, MR.min(m - i), NR.min(n - j), Out { data: c, ..out });
            }
        }
    }
}

unsafe fn store(sums: &[[i32; NR]; MR], rows: usize, cols: usize, out: Out<i32>) {
    for (r, row) in sums.iter().take(rows).enumerate() {
        // SAFETY: the caller's contract.
        let to = unsafe { std::slice::from_raw_parts_mut(out.data.add(r * out.stride), cols) };
        for (c, &sum) in to.iter_mut().zip(row) {
            *c = if out.accumulate { c.wrapping_add(sum) } else { sum };
        }
    }
}

/// One panel of each, plainly.
unsafe fn block(groups: usize, a: *const u8, b: *const u8, signs: (bool, bool), sums: &mut [[i32; NR]; MR]) {
    let widen = |x: u8, signed: bool| if signed { i32::from(x as i8) } else { i32::from(x) };
    for g in 0..groups {
        for u in 0..GROUP {
            for r in 0..MR {
                // SAFETY: the caller's contract.
                let x = widen(unsafe { *a.add((g * MR + r) * GROUP + u) }, signs.0);
                for c in 0..NR {
                    // SAFETY: as above.
                    let y = widen(unsafe { *b.add((g * NR + c) * GROUP + u) }, signs.1);
                    sums[r][c] = sums[r][c].wrapping_add(x * y);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GROUP, MR, NR};
    use std::arch::x86_64::*;

    /// # Safety
    /// As for `block`, and this machine has AVX-512 with VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn block_avx512(
        groups: usize,
        a: *const u8,
        b: *const u8,
        signs: (bool, bool),
        sums: &mut [[i32; NR]; MR],
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            match signs {
                (false, true) => dots::<false, true>(groups, a, b, sums),
                (true, true) => dots::<true, true>(groups, a, b, sums),
                (true, false) => dots::<false, false>(groups, a, b, sums),
                (false, false) => dots::<true, false>(groups, a, b, sums),
            }
        }
    }

    /// `FLIP`: shift `A` by 128. `SIGNED`: `B` is the signed operand of the instruction, else `A`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn dots<const FLIP: bool, const SIGNED: bool>(
        groups: usize,
        a: *const u8,
        b: *const u8,
        sums: &mut [[i32; NR]; MR],
    ) {
        let mut acc = [[_mm512_setzero_si512(); 2]; MR];
        let mut columns = [_mm512_setzero_si512(); 2];
        let (ones, top) = (_mm512_set1_epi8(1), i32::from_ne_bytes([0x80; 4]));
        for g in 0..groups {
            // SAFETY: the caller's contract: whole groups are readable.
            unsafe {
                let row = b.add(g * NR * GROUP);
                let y = [_mm512_loadu_si512(row.cast()), _mm512_loadu_si512(row.add(64).cast())];
                if FLIP {
                    for j in 0..2 {
                        columns[j] = if SIGNED {
                            _mm512_dpbusd_epi32(columns[j], ones, y[j])
                        } else {
                            _mm512_dpbusd_epi32(columns[j], y[j], ones)
                        };
                    }
                }
                let group = a.add(g * MR * GROUP).cast::<i32>();
                for r in 0..MR {
                    let word = group.add(r).read_unaligned();
                    let x = _mm512_set1_epi32(if FLIP { word ^ top } else { word });
                    for j in 0..2 {
                        acc[r][j] = if SIGNED {
                            _mm512_dpbusd_epi32(acc[r][j], x, y[j])
                        } else {
                            _mm512_dpbusd_epi32(acc[r][j], y[j], x)
                        };
                    }
                }
            }
        }
        for r in 0..MR {
            for j in 0..2 {
                // With B signed A was raised by 128, with B unsigned it was lowered.
                let shift = _mm512_slli_epi32::<7>(columns[j]);
                let sum = match (FLIP, SIGNED) {
                    (false, _) => acc[r][j],
                    (true, true) => _mm512_sub_epi32(acc[r][j], shift),
                    (true, false) => _mm512_add_epi32(acc[r][j], shift),
                };
                // SAFETY: two vectors of 16 fill a row of NR = 32.
                unsafe { _mm512_storeu_si512(sums[r].as_mut_ptr().add(16 * j).cast(), sum) };
            }
        }
    }

    /// # Safety
    /// As for `block`, and this machine has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn block_avx2(
        groups: usize,
        a: *const u8,
        b: *const u8,
        signs: (bool, bool),
        sums: &mut [[i32; NR]; MR],
    ) {
        for rows in (0..MR).step_by(3) {
            for cols in (0..NR).step_by(8) {
                // SAFETY: the caller's contract.
                unsafe { words(groups, a, b, signs, rows, cols, sums) };
            }
        }
    }

    /// Three rows of eight columns: bytes widen to 16 bits, whose pairwise products cannot overflow 32.
    #[target_feature(enable = "avx2")]
    unsafe fn words(
        groups: usize,
        a: *const u8,
        b: *const u8,
        signs: (bool, bool),
        rows: usize,
        cols: usize,
        sums: &mut [[i32; NR]; MR],
    ) {
        let widen = |x: __m128i, signed: bool| if signed { _mm256_cvtepi8_epi16(x) } else { _mm256_cvtepu8_epi16(x) };
        // Sums of two products each: columns 0..4 and 4..8.
        let mut acc = [[_mm256_setzero_si256(); 2]; 3];
        for g in 0..groups {
            // SAFETY: the caller's contract: whole groups are readable.
            unsafe {
                let from = b.add((g * NR + cols) * GROUP).cast::<__m128i>();
                let y = [widen(_mm_loadu_si128(from), signs.1), widen(_mm_loadu_si128(from.add(1)), signs.1)];
                for r in 0..3 {
                    let word = a.add((g * MR + rows + r) * GROUP).cast::<i32>().read_unaligned();
                    let x = widen(_mm_set1_epi32(word), signs.0);
                    for j in 0..2 {
                        acc[r][j] = _mm256_add_epi32(acc[r][j], _mm256_madd_epi16(x, y[j]));
                    }
                }
            }
        }
        for r in 0..3 {
            let pairs = _mm256_hadd_epi32(acc[r][0], acc[r][1]);
            // The halves' columns come as 0 1 4 5 | 2 3 6 7.
            let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            // SAFETY: eight columns from `cols` on are inside the row.
            unsafe { _mm256_storeu_si256(sums[rows + r].as_mut_ptr().add(cols).cast(), ordered) };
        }
    }
}
