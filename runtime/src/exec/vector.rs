//! Point-wise instructions: on the vector kernels where elements lie as those want them, else piece by piece.

use tarsia_tensor::{BinaryFn, DType, UnaryFn};

use super::function;
use super::nest::{Array, Nest, Plane};
use super::wide::{self, PIECE, Wide, Width, with_wide};
use crate::cpu::Isa;
use crate::cpu::number::Number;
use crate::cpu::vector::{self as kernels, Area, Dst, NoKernel};

/// `dst = function(a)`.
///
/// # Errors
/// Sizes that do not fit, a function that the type does not have.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn unary(isa: Isa, function: UnaryFn, dst: &Array, a: &Array) -> Result<(), String> {
    let nest = nest([dst, a])?;
    let (dtype, result) = if function.is_predicate() { (a.dtype, DType::Bool) } else { (dst.dtype, dst.dtype) };
    let plain = a.dtype == dtype && dst.dtype == result;
    let mut outcome = Ok(());
    nest.planes(|plane| {
        if let (true, Some((area, d, [_, x]))) = (plain, plane.area([dst, a]))
            // SAFETY: the caller's contract.
            && unsafe { kernels::unary(isa, function, dtype, area, d, x) }.is_ok()
        {
            return;
        }
        with_wide!(Width::of(dtype), W => pieces(&plane.with_long_columns(), |at, col, n| {
            let mut x = [W::default(); PIECE];
            // SAFETY: the caller's contract.
            unsafe {
                get(a, at[1], col[1], &mut x[..n]);
                outcome = function::unary(isa, function, &mut x[..n]);
                put(dst, at[0], col[0], &x[..n]);
            }
        }));
    });
    outcome.map_err(|unknown: NoKernel| unknown.to_string())
}

/// `dst = function(a, b)`.
///
/// # Errors
/// Sizes that do not fit, a function that the type does not have.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn binary(isa: Isa, function: BinaryFn, dst: &Array, a: &Array, b: &Array) -> Result<(), String> {
    let nest = nest([dst, a, b])?;
    let (dtype, result) = if function.is_comparison() { (a.dtype, DType::Bool) } else { (dst.dtype, dst.dtype) };
    let plain = a.dtype == dtype && b.dtype == dtype && dst.dtype == result;
    let mut outcome = Ok(());
    nest.planes(|plane| {
        if let (true, Some((area, d, [_, x, y]))) = (plain, plane.area([dst, a, b]))
            // SAFETY: the caller's contract.
            && unsafe { kernels::binary(isa, function, dtype, area, d, x, y) }.is_ok()
        {
            return;
        }
        with_wide!(Width::of(dtype), W => pieces(&plane.with_long_columns(), |at, col, n| {
            let (mut x, mut y) = ([W::default(); PIECE], [W::default(); PIECE]);
            // SAFETY: the caller's contract.
            unsafe {
                get(a, at[1], col[1], &mut x[..n]);
                get(b, at[2], col[2], &mut y[..n]);
                outcome = function::binary(isa, function, &mut x[..n], &y[..n]);
                put(dst, at[0], col[0], &x[..n]);
            }
        }));
    });
    outcome.map_err(|unknown: NoKernel| unknown.to_string())
}

/// `dst = condition ? a : b`.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn select(isa: Isa, dst: &Array, condition: &Array, a: &Array, b: &Array) -> Result<(), String> {
    let nest = nest([dst, condition, a, b])?;
    let dtype = dst.dtype;
    let plain = a.dtype == dtype && b.dtype == dtype && condition.dtype == DType::Bool;
    nest.planes(|plane| {
        if let (true, Some((area, d, [_, c, x, y]))) = (plain, plane.area([dst, condition, a, b]))
            // SAFETY: the caller's contract.
            && unsafe { kernels::select(isa, dtype, area, d, c, x, y) }.is_ok()
        {
            return;
        }
        with_wide!(Width::of(dtype), W => pieces(&plane.with_long_columns(), |at, col, n| {
            let mut truth = [0u64; PIECE];
            let (mut x, mut y) = ([W::default(); PIECE], [W::default(); PIECE]);
            // SAFETY: the caller's contract.
            unsafe {
                get(condition, at[1], col[1], &mut truth[..n]);
                get(a, at[2], col[2], &mut x[..n]);
                get(b, at[3], col[3], &mut y[..n]);
                for i in 0..n {
                    x[i] = if truth[i] != 0 { x[i] } else { y[i] };
                }
                put(dst, at[0], col[0], &x[..n]);
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
pub unsafe fn mul_add(isa: Isa, dst: &Array, a: &Array, b: &Array, c: &Array) -> Result<(), String> {
    let nest = nest([dst, a, b, c])?;
    let dtype = dst.dtype;
    // Other types may not have the destination as summand.
    let plain = [a, b, c].iter().all(|source| source.dtype == dtype) && dtype == DType::F32;
    nest.planes(|plane| {
        if let (true, Some((area, d, [_, x, y, z]))) = (plain, plane.area([dst, a, b, c]))
            // SAFETY: the caller's contract.
            && unsafe { kernels::mul_add(isa, dtype, area, d, x, y, z) }.is_ok()
        {
            return;
        }
        with_wide!(Width::of(dtype), W => pieces(&plane.with_long_columns(), |at, col, n| {
            let (mut x, mut y) = ([W::default(); PIECE], [W::default(); PIECE]);
            // SAFETY: the caller's contract.
            unsafe {
                get(a, at[1], col[1], &mut x[..n]);
                get(b, at[2], col[2], &mut y[..n]);
                function::fold(W::mul, &mut x[..n], &y[..n]);
                get(c, at[3], col[3], &mut y[..n]);
                function::fold(W::add, &mut x[..n], &y[..n]);
                put(dst, at[0], col[0], &x[..n]);
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
    if let (1, 1, Some(data)) = (dst.rank, dst.stride[0], dst.place(dst.at)) {
        let (area, d) = (Area { rows: 1, cols: dst.size[0] }, Dst { data, row: 0 });
        // SAFETY: the caller's contract.
        if unsafe { kernels::iota(dst.dtype, area, d, start, 0, step) }.is_ok() {
            return;
        }
    }
    // SAFETY: the caller's contract.
    unsafe { number_all(dst, |index, _| start.wrapping_add(step.wrapping_mul(index[axis] as i64))) };
}

/// Element `index` of a stream of random numbers.
fn random_number(dtype: DType, normal: bool, seed: i64, index: u64) -> f64 {
    if normal { tarsia_tensor::rng::normal(seed, index) } else { tarsia_tensor::rng::uniform(dtype, seed, index) }
}

/// Random numbers of a stream: element `start + row-major index`.
///
/// # Safety
/// The array lies inside of its memory.
pub unsafe fn random(dst: &Array, normal: bool, seed: i64, start: i64) {
    let each = |_: &[usize], i: usize| random_number(dst.dtype, normal, seed, (start as u64).wrapping_add(i as u64));
    // SAFETY: the caller's contract.
    unsafe { number_all(dst, each) };
}

/// Random numbers of a stream: the elements that an array of the same shape (or one that broadcasts) names.
///
/// # Errors
/// If the shapes do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn random_at(dst: &Array, places: &Array, normal: bool, seed: i64) -> Result<(), String> {
    let fits = |axis: usize| places.size[axis] == dst.size[axis] || places.size[axis] == 1;
    if places.rank != dst.rank || !(0..dst.rank).all(fits) {
        return Err("positions of random numbers have another shape".to_owned());
    }
    let each = |index: &[usize], _: usize| {
        let step = |axis: usize| if places.size[axis] == 1 { 0 } else { index[axis] as isize * places.stride[axis] };
        let at = places.at + (0..places.rank).map(step).sum::<isize>();
        let mut place = [0i64];
        // SAFETY: the index is inside of the array.
        unsafe { wide::load(places.dtype, places.base, at, 1, &mut place) };
        random_number(dst.dtype, normal, seed, place[0] as u64)
    };
    // SAFETY: the caller's contract.
    unsafe { number_all(dst, each) };
    Ok(())
}

/// Writes `f(index, row-major index)` to every element.
unsafe fn number_all<W: Wide>(dst: &Array, f: impl Fn(&[usize], usize) -> W) {
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

/// Calls `f` with the positions and distances of at most [`PIECE`] columns at a time, and their number.
pub fn pieces<const N: usize>(plane: &Plane<N>, mut f: impl FnMut([isize; N], [isize; N], usize)) {
    for r in 0..plane.size[0] {
        let row = plane.row_at(r);
        for c in (0..plane.size[1]).step_by(PIECE) {
            let n = PIECE.min(plane.size[1] - c);
            f(std::array::from_fn(|i| row[i] + plane.col[i] * c as isize), plane.col, n);
        }
    }
}

/// Reads elements widened.
///
/// # Safety
/// They are inside of the array.
#[inline(always)]
pub unsafe fn get<W: Wide>(array: &Array, at: isize, stride: isize, out: &mut [W]) {
    // SAFETY: the caller's contract.
    unsafe { wide::load(array.dtype, array.base, at, stride, out) }
}

/// Writes widened elements.
///
/// # Safety
/// They are inside of the array.
#[inline(always)]
pub unsafe fn put<W: Wide>(array: &Array, at: isize, stride: isize, values: &[W]) {
    // SAFETY: the caller's contract.
    unsafe { wide::store(array.dtype, array.base, at, stride, values) }
}
