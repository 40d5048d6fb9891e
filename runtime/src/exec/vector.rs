//! Point-wise instructions.

use tarsia_tensor::{BinaryFn, UnaryFn};

use super::function::{self, Number};
use super::nest::{Array, Nest, Plane};
use super::wide::{self, PIECE, Width, with_wide};
use crate::cpu::Isa;

/// `dst = function(a)`.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn unary(_isa: Isa, function: UnaryFn, dst: &Array, a: &Array) -> Result<(), String> {
    let mut nest = nest([dst, a])?;
    nest.prefer_long_columns();
    let dtype = if function.is_predicate() { a.dtype } else { dst.dtype };
    with_wide!(Width::of(dtype), W => {
        nest.planes(|plane| pieces(&plane, |at, n| {
            let mut x = [W::default(); PIECE];
            // SAFETY: the caller's contract.
            unsafe {
                get(a, at[1], plane.col[1], &mut x[..n]);
                function::unary(function, dtype, &mut x[..n]);
                put(dst, at[0], plane.col[0], &x[..n]);
            }
        }));
    });
    Ok(())
}

/// `dst = function(a, b)`.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn binary(_isa: Isa, function: BinaryFn, dst: &Array, a: &Array, b: &Array) -> Result<(), String> {
    let mut nest = nest([dst, a, b])?;
    nest.prefer_long_columns();
    let dtype = if function.is_comparison() { a.dtype } else { dst.dtype };
    with_wide!(Width::of(dtype), W => {
        nest.planes(|plane| pieces(&plane, |at, n| {
            let (mut x, mut y) = ([W::default(); PIECE], [W::default(); PIECE]);
            // SAFETY: the caller's contract.
            unsafe {
                get(a, at[1], plane.col[1], &mut x[..n]);
                get(b, at[2], plane.col[2], &mut y[..n]);
                function::binary(function, dtype, &mut x[..n], &y[..n]);
                put(dst, at[0], plane.col[0], &x[..n]);
            }
        }));
    });
    Ok(())
}

/// `dst = condition ? a : b`.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn select(_isa: Isa, dst: &Array, condition: &Array, a: &Array, b: &Array) -> Result<(), String> {
    let mut nest = nest([dst, condition, a, b])?;
    nest.prefer_long_columns();
    with_wide!(Width::of(dst.dtype), W => {
        nest.planes(|plane| pieces(&plane, |at, n| {
            let mut truth = [0u64; PIECE];
            let (mut x, mut y) = ([W::default(); PIECE], [W::default(); PIECE]);
            // SAFETY: the caller's contract.
            unsafe {
                get(condition, at[1], plane.col[1], &mut truth[..n]);
                get(a, at[2], plane.col[2], &mut x[..n]);
                get(b, at[3], plane.col[3], &mut y[..n]);
                for i in 0..n {
                    x[i] = if truth[i] != 0 { x[i] } else { y[i] };
                }
                put(dst, at[0], plane.col[0], &x[..n]);
            }
        }));
    });
    Ok(())
}

/// `dst = a · b + c`.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn mul_add(_isa: Isa, dst: &Array, a: &Array, b: &Array, c: &Array) -> Result<(), String> {
    let mut nest = nest([dst, a, b, c])?;
    nest.prefer_long_columns();
    with_wide!(Width::of(dst.dtype), W => {
        nest.planes(|plane| pieces(&plane, |at, n| {
            let (mut x, mut y) = ([W::default(); PIECE], [W::default(); PIECE]);
            // SAFETY: the caller's contract.
            unsafe {
                get(a, at[1], plane.col[1], &mut x[..n]);
                get(b, at[2], plane.col[2], &mut y[..n]);
                function::binary(BinaryFn::Mul, dst.dtype, &mut x[..n], &y[..n]);
                get(c, at[3], plane.col[3], &mut y[..n]);
                function::binary(BinaryFn::Add, dst.dtype, &mut x[..n], &y[..n]);
                put(dst, at[0], plane.col[0], &x[..n]);
            }
        }));
    });
    Ok(())
}

/// `dst[i…] = start + step · i[axis]`.
///
/// # Safety
/// The array lies inside of its memory.
pub unsafe fn iota(dst: &Array, axis: usize, start: i64, step: i64) {
    // SAFETY: the caller's contract.
    unsafe { number_all(dst, |index, _| start.wrapping_add(step.wrapping_mul(index[axis] as i64))) };
}

/// Random numbers of a stream: element `start + row-major index`.
///
/// # Safety
/// The array lies inside of its memory.
pub unsafe fn random(dst: &Array, normal: bool, seed: i64, start: i64) {
    let each = |_: &[usize], i: usize| {
        let index = (start as u64).wrapping_add(i as u64);
        if normal {
            tarsia_tensor::rng::normal(seed, index)
        } else {
            tarsia_tensor::rng::uniform(dst.dtype, seed, index)
        }
    };
    // SAFETY: the caller's contract.
    unsafe { number_all(dst, each) };
}

/// Writes `f(index, row-major index)` to every element.
unsafe fn number_all<W: Number>(dst: &Array, f: impl Fn(&[usize], usize) -> W) {
    let mut index = [0usize; super::nest::MAX_RANK];
    for i in 0..dst.count() {
        let at = dst.at + (0..dst.rank).map(|axis| index[axis] as isize * dst.stride[axis]).sum::<isize>();
        // SAFETY: the index is inside of the array.
        unsafe { wide::store(dst.dtype, dst.base, at, 1, &[f(&index[..dst.rank], i)]) };
        for axis in (0..dst.rank).rev() {
            index[axis] += 1;
            if index[axis] < dst.size[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// The axes of a point-wise instruction, the destination first.
///
/// # Errors
/// The sizes that do not fit.
pub fn nest<const N: usize>(arrays: [&Array; N]) -> Result<Nest<N>, String> {
    Nest::of(arrays).map_err(|axis| {
        let shapes: Vec<String> = arrays.iter().map(|array| format!("{:?}", array.shape())).collect();
        format!("the operands have the sizes {}, which do not fit on axis {axis}", shapes.join(", "))
    })
}

/// Calls `f` with the positions of at most [`PIECE`] columns at a time.
pub fn pieces<const N: usize>(plane: &Plane<N>, mut f: impl FnMut([isize; N], usize)) {
    for r in 0..plane.size[0] {
        let row = plane.row_at(r);
        for c in (0..plane.size[1]).step_by(PIECE) {
            let n = PIECE.min(plane.size[1] - c);
            f(std::array::from_fn(|i| row[i] + plane.col[i] * c as isize), n);
        }
    }
}

/// Reads elements widened.
///
/// # Safety
/// They are inside of the array.
#[inline(always)]
pub unsafe fn get<W: Number>(array: &Array, at: isize, stride: isize, out: &mut [W]) {
    // SAFETY: the caller's contract.
    unsafe { wide::load(array.dtype, array.base, at, stride, out) }
}

/// Writes widened elements.
///
/// # Safety
/// They are inside of the array.
#[inline(always)]
pub unsafe fn put<W: Number>(array: &Array, at: isize, stride: isize, values: &[W]) {
    // SAFETY: the caller's contract.
    unsafe { wide::store(array.dtype, array.base, at, stride, values) }
}
