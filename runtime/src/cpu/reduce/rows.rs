//! Reductions of contiguous rows.

use super::{Lengths, Slices, folded, identity};
use crate::cpu::isa::Isa;
use crate::cpu::number::Number;
use crate::cpu::simd::{Simd, simd_kernel};
use tarsia_tensor::{BinaryFn, DType, ReduceFn};

/// Rows of a plain type.
///
/// # Safety
/// As for [`super::reduce`]; the axis is contiguous and `inner` is 1.
pub(super) unsafe fn reduce<T: Number>(
    isa: Isa,
    function: ReduceFn,
    dtype: DType,
    lengths: Lengths,
    dst: Slices<*mut u8>,
    src: Slices<*const u8>,
    accumulate: bool,
) {
    for o in 0..lengths.outer {
        // SAFETY: the caller's contract.
        unsafe {
            let row = src.data.cast::<T>().add(o * src.outer);
            let to = dst.data.cast::<T>().add(o * dst.outer);
            let start = if accumulate { *to } else { identity::<T>(function, dtype) };
            if dtype == DType::F32 {
                let row = row.cast::<f32>();
                let value = match function {
                    ReduceFn::Prod => float_row::<Prod>(isa, row, lengths.n),
                    ReduceFn::Min => float_row::<Min>(isa, row, lengths.n),
                    ReduceFn::Max => float_row::<Max>(isa, row, lengths.n),
                    _ => long_sum(isa, row, lengths.n),
                };
                let to = to.cast::<f32>();
                *to = if accumulate { apply(function, *to, value) } else { value };
            } else {
                *to = plain_row(isa, folded(function, dtype), start, row, lengths.n);
            }
        }
    }
}

/// A sum by blocks, so that no lane adds up more than a few hundred numbers.
unsafe fn long_sum(isa: Isa, row: *const f32, n: usize) -> f32 {
    const BLOCK: usize = 4096;
    if n <= BLOCK {
        // SAFETY: the caller's contract.
        return unsafe { float_row::<Sum>(isa, row, n) };
    }
    let blocks = (0..n).step_by(BLOCK);
    // SAFETY: each block is inside the row.
    let sums = blocks.map(|i| f64::from(unsafe { float_row::<Sum>(isa, row.add(i), BLOCK.min(n - i)) }));
    sums.sum::<f64>() as f32
}

fn apply(function: ReduceFn, a: f32, b: f32) -> f32 {
    match function {
        ReduceFn::Prod => a * b,
        ReduceFn::Min => Number::min(a, b),
        ReduceFn::Max => Number::max(a, b),
        _ => a + b,
    }
}

/// Folds a row of a plain type, in eight lanes. Logic on `bool` is minimum and maximum of bytes.
unsafe fn plain_row<T: Number>(isa: Isa, fold: Option<BinaryFn>, start: T, row: *const T, n: usize) -> T {
    #[inline(always)]
    fn body<T: Number>(fold: Option<BinaryFn>, start: T, row: &[T]) -> T {
        match fold {
            Some(BinaryFn::Mul) => lanes(start, T::ONE, row, T::mul),
            Some(BinaryFn::Min | BinaryFn::And) => lanes(start, start, row, T::min),
            Some(BinaryFn::Max | BinaryFn::Or) => lanes(start, start, row, T::max),
            _ => lanes(start, T::ZERO, row, T::add),
        }
    }
    #[inline(always)]
    fn lanes<T: Number>(start: T, neutral: T, row: &[T], f: impl Fn(T, T) -> T) -> T {
        let mut sums = [neutral; 8];
        let pieces = row.chunks_exact(8);
        let rest = pieces.remainder();
        for piece in pieces {
            for i in 0..8 {
                sums[i] = f(sums[i], piece[i]);
            }
        }
        sums.iter().chain(rest).fold(start, |a, &b| f(a, b))
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
    unsafe fn avx2<T: Number>(fold: Option<BinaryFn>, start: T, row: &[T]) -> T {
        body(fold, start, row)
    }
    // SAFETY: the caller's contract: an aligned row of n elements.
    let row = unsafe { std::slice::from_raw_parts(row, n) };
    match isa {
        // SAFETY: this machine has the level.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => unsafe { avx2(fold, start, row) },
        _ => body(fold, start, row),
    }
}

/// A reduction of `f32`.
trait Fold {
    const IDENTITY: f32;
    fn vectors<S: Simd>(a: S::F, b: S::F) -> S::F;
    fn numbers(a: f32, b: f32) -> f32;
}

struct Sum;
struct Prod;
struct Min;
struct Max;

macro_rules! folds {
    ($($name:ident $identity:expr, |$s:ident, $a:ident, $b:ident| $vectors:expr, $numbers:expr;)*) => {$(
        impl Fold for $name {
            const IDENTITY: f32 = $identity;
            #[inline(always)]
            fn vectors<$s: Simd>($a: $s::F, $b: $s::F) -> $s::F {
                $vectors
            }
            #[inline(always)]
            fn numbers($a: f32, $b: f32) -> f32 {
                $numbers
            }
        }
    )*};
}
folds! {
    Sum 0.0, |S, a, b| S::add(a, b), a + b;
    Prod 1.0, |S, a, b| S::mul(a, b), a * b;
    Min f32::INFINITY, |S, a, b| S::select(S::is_nan(a), a, S::min(a, b)), Number::min(a, b);
    Max f32::NEG_INFINITY, |S, a, b| S::select(S::is_nan(a), a, S::max(a, b)), Number::max(a, b);
}

simd_kernel! {
    fn float_row<S, F: Fold>(row: *const f32, n: usize) -> f32 {
        let mut sums = [S::splat(F::IDENTITY); 4];
        let mut lanes = [F::IDENTITY; 16];
        // SAFETY: the caller's contract; no level has more than 16 lanes.
        unsafe {
            let mut i = 0;
            while i + 4 * S::LANES <= n {
                for u in 0..4 {
                    sums[u] = F::vectors::<S>(sums[u], S::load(row.add(i + u * S::LANES)));
                }
                i += 4 * S::LANES;
            }
            while i + S::LANES <= n {
                sums[0] = F::vectors::<S>(sums[0], S::load(row.add(i)));
                i += S::LANES;
            }
            if i < n {
                std::ptr::copy_nonoverlapping(row.add(i), lanes.as_mut_ptr(), n - i);
                sums[1] = F::vectors::<S>(sums[1], S::load(lanes.as_ptr()));
            }
            let sum = F::vectors::<S>(F::vectors::<S>(sums[0], sums[1]), F::vectors::<S>(sums[2], sums[3]));
            S::store(lanes.as_mut_ptr(), sum);
        }
        let mut width = S::LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] = F::numbers(lanes[i], lanes[i + width]);
            }
            width /= 2;
        }
        lanes[0]
    }
}

simd_kernel! {
    /// `to[j] += Σ from[i * step + j]` for `cols` neighbours and `n` steps, four vectors at a time.
    pub(super) fn add_steps<S>(cols: usize, n: usize, from: *const f32, step: usize, to: *mut f32) {
        let mut j = 0;
        // SAFETY: the caller's contract.
        unsafe {
            while j + 4 * S::LANES <= cols {
                let mut sums = [S::zero(); 4];
                for i in 0..n {
                    for u in 0..4 {
                        sums[u] = S::add(sums[u], S::load(from.add(i * step + j + u * S::LANES)));
                    }
                }
                for u in 0..4 {
                    let to = to.add(j + u * S::LANES);
                    S::store(to, S::add(S::load(to), sums[u]));
                }
                j += 4 * S::LANES;
            }
            while j < cols {
                let part = (cols - j).min(S::LANES);
                let load = |p: *const f32| if part == S::LANES { S::load(p) } else { S::load_n(p, part) };
                let mut sum = S::zero();
                for i in 0..n {
                    sum = S::add(sum, load(from.add(i * step + j)));
                }
                let to = to.add(j);
                let sum = S::add(load(to), sum);
                if part == S::LANES { S::store(to, sum) } else { S::store_n(to, part, sum) }
                j += part;
            }
        }
    }
}
