//! Tile products on the matrix unit: `C[M, N] (+)= A[M, K] · B[K, N]`, accumulated in `f32`.
//!
//! # Layouts
//! * `C`: row-major `f32`, rows any stride apart.
//! * `A` in panels of [`MR`] rows: `ceil(M / MR)` panels `[K][MR]`, rows beyond `M` zero; or at any two strides.
//! * `B` in panels of [`NR`] columns: `ceil(N / NR)` panels `[K][NR]`, columns beyond `N` zero; or row-major.
//!   Its elements are `f32`, `bf16` or `f16` (widened in registers).
//!
//! Panels may be longer than `K`: the step from one to the next is a parameter, so that a block of `K` of a matrix
//! packed once is addressed by moving the pointer by `k0 * MR` or `k0 * NR`. The widths are the same at every [`Isa`].
//!
//! # Blocking
//! A panel of `A` (`KC * MR * 4` bytes) should stay in L1 while the panels of `B` (`KC * NC * 4` bytes) stream past it from
//! L2. With 32 KiB and 1 MiB: [`KC`] = 256, [`MC`] = 240, [`NC`] = 512, the loops from outside in: `N` by NC, `K` by KC
//! (pack `B`, unless constant), `M` by MC (pack `A`, unless constant), one `mmad`, accumulating after the first block of `K`.
//! Few rows (`M` below [`MR`], the decode step of a language model): leave `A` unpacked, give all of `K` at once;
//! the product then reads `B` once, at memory bandwidth. Where both operands have `K` innermost, use [`mmad_dot_f32`].

use super::isa::Isa;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, assert_available};
use half::{bf16, f16};

mod bytes;
mod dot;
mod micro;
mod plain;

pub use bytes::{BytePanels, GROUP, mmad_bytes};
pub use dot::{RowMajor, mmad_dot_bf16, mmad_dot_f16, mmad_dot_f32};
pub(crate) use micro::Stored;
use micro::{Block, Level};
pub use plain::{Blocked, mmad_plain};

/// Rows of a panel of `A`.
pub const MR: usize = 12;
/// Columns of a panel of `B`.
pub const NR: usize = 32;
/// Recommended rows of `A` packed at a time.
pub const MC: usize = 240;
/// Recommended block of the contracted dimension.
pub const KC: usize = 256;
/// Recommended columns of `B` packed at a time.
pub const NC: usize = 512;

/// Where the left operand `[M, K]` lies.
#[derive(Clone, Copy, Debug)]
pub enum Lhs {
    /// Panels `[K][MR]`, `step` elements from one to the next.
    Panels {
        /// The first panel.
        data: *const f32,
        /// Elements from panel to panel, at least `K * MR`.
        step: usize,
    },
    /// Element `(m, k)` at `data + m * row + k * col`.
    Strided {
        /// Element (0, 0).
        data: *const f32,
        /// Elements from row to row.
        row: usize,
        /// Elements from column to column.
        col: usize,
    },
}

/// Where the right operand `[K, N]` lies.
#[derive(Clone, Copy, Debug)]
pub enum Rhs<T> {
    /// Panels `[K][NR]`, `step` elements from one to the next.
    Panels {
        /// The first panel.
        data: *const T,
        /// Elements from panel to panel, at least `K * NR`.
        step: usize,
    },
    /// Row-major.
    Rows {
        /// Element (0, 0).
        data: *const T,
        /// Elements from row to row.
        stride: usize,
    },
}

/// Where the result `[M, N]` goes: row-major.
#[derive(Clone, Copy, Debug)]
pub struct Out<T> {
    /// Element (0, 0).
    pub data: *mut T,
    /// Elements from row to row.
    pub stride: usize,
    /// Whether to add to what is there; otherwise it is overwritten (and need not be initialised).
    pub accumulate: bool,
}

/// The extents of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// The contracted dimension.
    pub k: usize,
}

/// `C (+)= A · B` with all operands `f32`.
///
/// # Safety
/// This machine has `isa`; the operands are readable over their extents (panels over their padding too), `out` is
/// writable over `[m, n]` and overlaps neither.
pub unsafe fn mmad_f32(isa: Isa, extents: Extents, a: Lhs, b: Rhs<f32>, out: Out<f32>) {
    // SAFETY: the caller's contract.
    unsafe { mmad(isa, extents, a, b, out) }
}

/// `C (+)= A · B` with `B` in bfloat16.
///
/// # Safety
/// As for [`mmad_f32`].
pub unsafe fn mmad_bf16(isa: Isa, extents: Extents, a: Lhs, b: Rhs<bf16>, out: Out<f32>) {
    // SAFETY: the caller's contract.
    unsafe { mmad(isa, extents, a, b, out) }
}

/// `C (+)= A · B` with `B` in half precision.
///
/// # Safety
/// As for [`mmad_f32`].
pub unsafe fn mmad_f16(isa: Isa, extents: Extents, a: Lhs, b: Rhs<f16>, out: Out<f32>) {
    // SAFETY: the caller's contract.
    unsafe { mmad(isa, extents, a, b, out) }
}

unsafe fn mmad<B: Stored>(isa: Isa, extents: Extents, a: Lhs, b: Rhs<B>, out: Out<f32>) {
    assert_available(isa);
    // SAFETY: the caller's contract.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => sweep::<Avx512, B>(extents, a, b, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => sweep::<Avx2, B>(extents, a, b, out),
            _ => sweep::<Portable, B>(extents, a, b, out),
        }
    }
}

/// Panel by panel of `A`, each against all panels of `B`.
unsafe fn sweep<S: Level, B: Stored>(extents: Extents, a: Lhs, b: Rhs<B>, out: Out<f32>) {
    let Extents { m, n, k } = extents;
    for i in (0..m).step_by(MR) {
        for j in (0..n).step_by(NR) {
            // SAFETY: `i < m` and `j < n` start a panel, so all pointers stay inside their operands.
            unsafe {
                let (a, a_row, a_col) = match a {
                    Lhs::Panels { data, step } => (data.add(i / MR * step), 1, MR),
                    Lhs::Strided { data, row, col } => (data.add(i * row), row, col),
                };
                let (b, b_row, padded) = match b {
                    Rhs::Panels { data, step } => (data.add(j / NR * step), NR, true),
                    Rhs::Rows { data, stride } => (data.add(j), stride, false),
                };
                let c = out.data.add(i * out.stride + j);
                let block = Block { k, a, a_row, a_col, b, b_row, padded, c, c_row: out.stride, n: 0 };
                panels::<S, B>(block, MR.min(m - i), NR.min(n - j), out.accumulate);
            }
        }
    }
}

/// One panel of `A` against one of `B`, cut into the blocks that the level's registers hold.
#[inline]
unsafe fn panels<S: Level, B: Stored>(panel: Block<B>, m: usize, n: usize, accumulate: bool) {
    let width = S::VECTORS * S::LANES;
    for j in (0..n).step_by(width) {
        let cols = width.min(n - j);
        let whole = panel.padded || cols == width || cols == S::LANES;
        let packed = whole && panel.a_row == 1 && panel.a_col == MR;
        let height = if packed { S::ROWS } else { S::ROWS.min(micro::STRIDED_ROWS) };
        for i in (0..m).step_by(height) {
            // SAFETY: `i < m`, `j < n`.
            unsafe {
                let block = Block {
                    a: panel.a.add(i * panel.a_row),
                    b: panel.b.add(j),
                    c: panel.c.add(i * panel.c_row + j),
                    n: cols,
                    ..panel
                };
                micro::run::<S, B>(&block, height.min(m - i), packed, whole, accumulate);
            }
        }
    }
}
