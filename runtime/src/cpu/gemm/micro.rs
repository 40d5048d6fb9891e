//! The innermost product: a block of `C` in registers, one step of `K` at a time.

#[cfg(target_arch = "x86_64")]
use super::super::simd::{Avx2, Avx512};
use super::super::simd::{Portable, Simd};
use super::MR;
use half::{bf16, f16};

/// Most rows of a block whose `A` is not in a panel: more row pointers do not fit into the scalar registers.
pub(super) const STRIDED_ROWS: usize = 6;

/// Bytes that a product with few rows reads ahead of `B`.
const AHEAD: usize = 4096;

/// A block of the product: `n` columns (at most the level's block) and the rows given apart.
#[derive(Clone, Copy)]
pub(super) struct Block<B> {
    pub k: usize,
    pub a: *const f32,
    pub a_row: usize,
    pub a_col: usize,
    pub b: *const B,
    pub b_row: usize,
    /// Whether `B` may be read beyond `n`, to the end of its panel.
    pub padded: bool,
    pub c: *mut f32,
    pub c_row: usize,
    pub n: usize,
}

/// An element type in which `B` is kept.
pub(crate) trait Stored: Copy + 'static {
    /// Loads `LANES` elements.
    unsafe fn load<S: Simd>(p: *const Self) -> S::F;
    /// Loads the first `n < LANES` elements; the others read as zero.
    unsafe fn load_n<S: Simd>(p: *const Self, n: usize) -> S::F;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const f32) -> S::F {
        // SAFETY: the caller's contract.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn load_n<S: Simd>(p: *const f32, n: usize) -> S::F {
        // SAFETY: the caller's contract.
        unsafe { S::load_n(p, n) }
    }
}

/// Loads through `S::$load`; a part by way of a copy.
macro_rules! stored_in_16_bits {
    ($($ty:ty: $load:ident),*) => {$(
        impl Stored for $ty {
            #[inline(always)]
            unsafe fn load<S: Simd>(p: *const $ty) -> S::F {
                // SAFETY: the caller's contract.
                unsafe { S::$load(p.cast()) }
            }
            #[inline(always)]
            unsafe fn load_n<S: Simd>(p: *const $ty, n: usize) -> S::F {
                let mut part = [0u16; 16];
                // SAFETY: `n` elements are readable, and fewer than `LANES`, at most 16.
                unsafe {
                    std::ptr::copy_nonoverlapping(p.cast(), part.as_mut_ptr(), n);
                    S::$load(part.as_ptr())
                }
            }
        }
    )*};
}
stored_in_16_bits!(bf16: load_bf16, f16: load_f16);

/// A level's register block and its compiled products.
pub(super) trait Level: Simd {
    /// Most rows of a block.
    const ROWS: usize;
    /// Vectors in a row of a block.
    const VECTORS: usize;
    /// [`product`] compiled for this level.
    unsafe fn product<B: Stored, const R: usize, const V: usize, const P: bool, const W: bool>(
        block: &Block<B>,
        accumulate: bool,
    );
}

macro_rules! level {
    ($level:ident, $rows:expr, $vectors:expr $(, $features:literal)?) => {
        impl Level for $level {
            const ROWS: usize = $rows;
            const VECTORS: usize = $vectors;
            #[inline(always)]
            unsafe fn product<B: Stored, const R: usize, const V: usize, const P: bool, const W: bool>(
                block: &Block<B>,
                accumulate: bool,
            ) {
                $(#[target_feature(enable = $features)])?
                #[inline(never)]
                unsafe fn compiled<B: Stored, const R: usize, const V: usize, const P: bool, const W: bool>(
                    block: &Block<B>,
                    accumulate: bool,
                ) {
                    // SAFETY: the caller's contract.
                    unsafe { product::<$level, B, R, V, P, W>(block, accumulate) }
                }
                // SAFETY: the caller's contract; this machine has the level.
                unsafe { compiled::<B, R, V, P, W>(block, accumulate) }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
level!(Avx512, 12, 2, "avx2,fma,f16c,bmi1,bmi2,avx512f,avx512bw,avx512dq,avx512vl");
#[cfg(target_arch = "x86_64")]
level!(Avx2, 6, 2, "avx2,fma,f16c,bmi1,bmi2");
level!(Portable, 4, 1);

/// The product of a block of `rows` rows: `packed` if `A` is in a panel, `whole` if all lanes of `B` may be read.
#[inline(always)]
pub(super) unsafe fn run<S: Level, B: Stored>(
    block: &Block<B>,
    rows: usize,
    packed: bool,
    whole: bool,
    accumulate: bool,
) {
    let narrow = S::VECTORS == 1 || block.n <= S::LANES;
    macro_rules! by_rows {
        ($vectors:literal, $packed:literal, $whole:literal: $($r:literal)*) => {
            match rows {
                // SAFETY: the caller's contract.
                $($r if $r <= S::ROWS => unsafe {
                    S::product::<B, $r, $vectors, $packed, $whole>(block, accumulate)
                },)*
                _ => debug_assert!(false, "a block of {rows} rows"),
            }
        };
    }
    match (narrow, packed, whole) {
        (true, true, _) => by_rows!(1, true, true: 1 2 3 4 5 6 7 8 9 10 11 12),
        (false, true, _) => by_rows!(2, true, true: 1 2 3 4 5 6 7 8 9 10 11 12),
        (true, false, true) => by_rows!(1, false, true: 1 2 3 4 5 6),
        (false, false, true) => by_rows!(2, false, true: 1 2 3 4 5 6),
        (true, false, false) => by_rows!(1, false, false: 1 2 3 4 5 6),
        (false, false, false) => by_rows!(2, false, false: 1 2 3 4 5 6),
    }
}

/// `C (+)= A · B` for `R` rows and `V` vectors. `PACKED`: `A` is in a panel. `WHOLE`: all lanes of `B` may be read.
#[inline(always)]
unsafe fn product<S: Simd, B: Stored, const R: usize, const V: usize, const PACKED: bool, const WHOLE: bool>(
    block: &Block<B>,
    accumulate: bool,
) {
    let Block { k, a, b, b_row, c, c_row, n, .. } = *block;
    let (a_row, a_col) = if PACKED { (1, MR) } else { (block.a_row, block.a_col) };
    // Few rows do not keep the adders busy: separate sums for every second or fourth step of K.
    let unroll = if R == 1 {
        4
    } else if R <= 3 {
        2
    } else {
        1
    };
    let mut sums = [[[S::zero(); V]; R]; 4];
    // SAFETY: the caller's contract: `A` holds R rows and k columns, `B` k rows of n (or all) columns, `C` R rows of n.
    unsafe {
        let mut p = 0;
        if R >= 6 {
            for i in 0..R {
                S::prefetch(c.add(i * c_row).cast());
                S::prefetch(c.wrapping_add(i * c_row + V * S::LANES - 1).cast());
            }
        }
        while unroll > 1 && p + unroll <= k {
            for u in 0..unroll {
                if WHOLE {
                    let ahead = b.wrapping_add((p + u) * b_row).cast::<u8>().wrapping_add(AHEAD);
                    S::prefetch(ahead);
                    if V * S::LANES * size_of::<B>() > 64 {
                        S::prefetch(ahead.wrapping_add(64));
                    }
                }
                step::<S, B, R, V, WHOLE>(a.add((p + u) * a_col), a_row, b.add((p + u) * b_row), n, &mut sums[u]);
            }
            p += unroll;
        }
        while p < k {
            step::<S, B, R, V, WHOLE>(a.add(p * a_col), a_row, b.add(p * b_row), n, &mut sums[0]);
            p += 1;
        }
        for i in 0..R {
            for j in 0..V {
                let mut sum = sums[0][i][j];
                if unroll > 1 {
                    sum = S::add(sum, sums[1][i][j]);
                }
                if unroll > 2 {
                    sum = S::add(sum, S::add(sums[2][i][j], sums[3][i][j]));
                }
                put::<S>(c.add(i * c_row + j * S::LANES), n.saturating_sub(j * S::LANES), sum, accumulate);
            }
        }
    }
}

/// One step of `K`: the outer product of a column of `A` and a row of `B`.
#[inline(always)]
unsafe fn step<S: Simd, B: Stored, const R: usize, const V: usize, const WHOLE: bool>(
    a: *const f32,
    a_row: usize,
    b: *const B,
    n: usize,
    sums: &mut [[S::F; V]; R],
) {
    let mut row = [S::zero(); V];
    // SAFETY: the caller's contract.
    unsafe {
        for (j, v) in row.iter_mut().enumerate() {
            // Only the last vector of a row can be a part.
            *v = if WHOLE || j + 1 < V {
                B::load::<S>(b.add(j * S::LANES))
            } else {
                B::load_n::<S>(b.add(j * S::LANES), n - j * S::LANES)
            };
        }
        for i in 0..R {
            let x = S::splat(*a.add(i * a_row));
            for j in 0..V {
                sums[i][j] = S::fma(x, row[j], sums[i][j]);
            }
        }
    }
}

/// Stores (or adds) the first `n` lanes.
#[inline(always)]
unsafe fn put<S: Simd>(c: *mut f32, n: usize, v: S::F, accumulate: bool) {
    // SAFETY: the caller's contract.
    unsafe {
        if n >= S::LANES {
            S::store(c, if accumulate { S::add(S::load(c), v) } else { v });
        } else {
            S::store_n(c, n, if accumulate { S::add(S::load_n(c, n), v) } else { v });
        }
    }
}
