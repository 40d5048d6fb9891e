//! Reductions and running reductions along an axis.

use tarsia_tensor::{ArgReduceFn, DType, ReduceFn};

use super::function;
use super::nest::{Array, Nest, Plane};
use super::vector::{get, put};
use super::wide::{self, PIECE, Wide, Width, with_wide};
use crate::cpu::Isa;
use crate::cpu::reduce::{self as kernels, ArgResult, Lengths, ScanForm, Slices};

/// `dst (∘)= function over axis of src`.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn reduce(
    isa: Isa,
    function: ReduceFn,
    axis: usize,
    accumulate: bool,
    dst: &Array,
    src: &Array,
) -> Result<(), String> {
    let nest = lines(axis, [dst, src])?;
    check_reduced(dst, axis)?;
    let line = Line { stride: src.stride[axis], len: src.size[axis] };
    let plain = dst.dtype == src.dtype;
    with_wide!(Width::of(dst.dtype), W => {
        nest.planes(|plane| split(plane, line, |plane| {
            // SAFETY: the caller's contract.
            if plain && unsafe { reduce_slices(isa, function, accumulate, dst, src, line, &plane) } {
                return;
            }
            // SAFETY: the caller's contract.
            unsafe {
                if plane.size[1] == 1 || line.stride == 1 {
                    for r in 0..plane.size[0] {
                        for c in 0..plane.size[1] as isize {
                            let at = plane.row_at(r);
                            let (d, s) = (at[0] + c * plane.col[0], at[1] + c * plane.col[1]);
                            reduce_line::<W>(function, accumulate, dst, d, src, s, line);
                        }
                    }
                } else {
                    super::vector::pieces(&plane, |at, col, n| {
                        reduce_lines::<W>(function, accumulate, (dst, at[0], col[0]), (src, at[1], col[1]), line, n);
                    });
                }
            }
        }));
    });
    Ok(())
}

/// A plane as slices `[outer, n, inner]` with neighbours inside, as the kernels take it: per array the distance of slices.
fn slices<const N: usize>(plane: &Plane<N>, line: Line) -> Option<(Lengths, [usize; N], usize)> {
    let step = usize::try_from(line.stride).ok().or((line.len <= 1).then_some(0))?;
    let [rows, cols] = plane.size;
    let distances = |by: &[isize; N]| -> Option<[usize; N]> {
        let mut distances = [0; N];
        for (distance, &by) in distances.iter_mut().zip(by) {
            *distance = usize::try_from(by).ok()?;
        }
        Some(distances)
    };
    if cols > 1 && plane.col.iter().all(|&by| by == 1) && (rows > 1 || line.stride != 1) {
        return Some((Lengths { outer: rows, n: line.len, inner: cols }, distances(&plane.row)?, step));
    }
    if rows == 1 {
        return Some((Lengths { outer: cols, n: line.len, inner: 1 }, distances(&plane.col)?, step));
    }
    None
}

/// Calls `f` with the plane, or row by row where [`slices`] takes only one.
fn split<const N: usize>(plane: Plane<N>, line: Line, mut f: impl FnMut(Plane<N>)) {
    let neighbours = plane.size[1] > 1 && plane.col.iter().all(|&by| by == 1);
    if plane.size[0] == 1 || (neighbours && line.stride != 1) {
        return f(plane);
    }
    for r in 0..plane.size[0] {
        f(Plane { at: plane.row_at(r), size: [1, plane.size[1]], ..plane });
    }
}

/// On the kernels, if they take this plane.
unsafe fn reduce_slices(
    isa: Isa,
    function: ReduceFn,
    accumulate: bool,
    dst: &Array,
    src: &Array,
    line: Line,
    plane: &Plane<2>,
) -> bool {
    let Some((lengths, [to, from], step)) = slices(plane, line) else { return false };
    let (Some(d), Some(s)) = (dst.place(plane.at[0]), src.place(plane.at[1])) else { return false };
    let (d, s) = (Slices { data: d, outer: to, step: 0 }, Slices { data: s.cast_const(), outer: from, step });
    // SAFETY: the caller's contract.
    unsafe { kernels::reduce(isa, function, src.dtype, lengths, d, s, accumulate) }.is_ok()
}

/// Elements along the axis of a reduction.
#[derive(Clone, Copy)]
struct Line {
    stride: isize,
    len: usize,
}

/// One line to one element; sums of floats are accumulated in double precision.
unsafe fn reduce_line<W: Wide>(
    function: ReduceFn,
    accumulate: bool,
    dst: &Array,
    d: isize,
    src: &Array,
    s: isize,
    line: Line,
) {
    let mut held = [identity::<W>(function, dst)];
    let mut piece = [W::default(); PIECE];
    let is_float = dst.dtype.is_float();
    let mut sum = 0f64;
    // SAFETY: the caller's contract.
    unsafe {
        if accumulate {
            get(dst, d, 0, &mut held);
        }
        for first in (0..line.len).step_by(PIECE) {
            let n = PIECE.min(line.len - first);
            get(src, s + line.stride * first as isize, line.stride, &mut piece[..n]);
            if is_float && function == ReduceFn::Sum {
                sum += piece[..n].iter().map(|x| x.to_f64()).sum::<f64>();
                continue;
            }
            held[0] = piece[..n].iter().copied().fold(held[0], function::of_reduction(function));
        }
        if is_float && function == ReduceFn::Sum {
            held[0] = W::from_f64(held[0].to_f64() + sum);
        }
        put(dst, d, 1, &held);
    }
}

/// Many neighbouring lines at once.
unsafe fn reduce_lines<W: Wide>(
    function: ReduceFn,
    accumulate: bool,
    (dst, d, d_stride): (&Array, isize, isize),
    (src, s, s_stride): (&Array, isize, isize),
    line: Line,
    n: usize,
) {
    let mut held = [identity::<W>(function, dst); PIECE];
    let mut piece = [W::default(); PIECE];
    // SAFETY: the caller's contract.
    unsafe {
        if accumulate {
            get(dst, d, d_stride, &mut held[..n]);
        }
        for i in 0..line.len as isize {
            get(src, s + line.stride * i, s_stride, &mut piece[..n]);
            function::fold(function::of_reduction(function), &mut held[..n], &piece[..n]);
        }
        put(dst, d, d_stride, &held[..n]);
    }
}

/// What a reduction starts from.
fn identity<W: Wide>(function: ReduceFn, dst: &Array) -> W {
    match function {
        ReduceFn::Sum | ReduceFn::Mean => W::default(),
        ReduceFn::Prod => W::from_i64(1),
        ReduceFn::Min => wide::limits::<W>(dst.dtype).1,
        ReduceFn::Max => wide::limits::<W>(dst.dtype).0,
    }
}

/// How an extreme value is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Extreme {
    /// Smallest or largest.
    pub function: ArgReduceFn,
    /// The axis.
    pub axis: usize,
    /// The last among equals.
    pub last: bool,
    /// Compare with what the destinations hold.
    pub accumulate: bool,
    /// Added to indices.
    pub base: i64,
}

/// `value = extreme of src`, `index = its place + base`. NaN is more extreme than any number.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn arg_reduce(isa: Isa, how: Extreme, value: &Array, index: &Array, src: &Array) -> Result<(), String> {
    let nest = lines(how.axis, [value, index, src])?;
    check_reduced(value, how.axis)?;
    check_reduced(index, how.axis)?;
    let line = Line { stride: src.stride[how.axis], len: src.size[how.axis] };
    let plain = value.dtype == src.dtype && index.dtype == DType::I64 && (how.accumulate || line.len > 0);
    with_wide!(Width::of(src.dtype), W => {
        nest.planes(|plane| split(plane, line, |plane| {
            // SAFETY: the caller's contract.
            if plain && unsafe { arg_slices(isa, how, value, index, src, line, &plane) } {
                return;
            }
            for r in 0..plane.size[0] {
                for c in 0..plane.size[1] as isize {
                    let at: [isize; 3] = std::array::from_fn(|i| plane.row_at(r)[i] + c * plane.col[i]);
                    // SAFETY: the caller's contract.
                    unsafe { arg_line::<W>(how, (value, at[0]), (index, at[1]), (src, at[2]), line) };
                }
            }
        }));
    });
    Ok(())
}

/// On the kernels, if they take this plane.
unsafe fn arg_slices(
    isa: Isa,
    how: Extreme,
    value: &Array,
    index: &Array,
    src: &Array,
    line: Line,
    plane: &Plane<3>,
) -> bool {
    let Some((lengths, [v, i, s], step)) = slices(plane, line) else { return false };
    let Some(data) = src.place(plane.at[2]) else { return false };
    let (values, indices) = (value.address(plane.at[0]), index.address(plane.at[1]).cast());
    let result = ArgResult { values, values_outer: v, indices, indices_outer: i };
    let source = Slices { data: data.cast_const(), outer: s, step };
    let Extreme { function, last, accumulate, base, .. } = how;
    // SAFETY: the caller's contract.
    unsafe { kernels::arg_reduce(isa, function, last, src.dtype, lengths, result, source, base, accumulate) }.is_ok()
}

unsafe fn arg_line<W: Wide>(
    how: Extreme,
    (value, v): (&Array, isize),
    (index, i): (&Array, isize),
    (src, s): (&Array, isize),
    line: Line,
) {
    let better = |new: W, old: W| {
        if old.is_nan() || new.is_nan() {
            return new.is_nan() && (!old.is_nan() || how.last);
        }
        match how.function {
            ArgReduceFn::Min => new < old || (how.last && new == old),
            ArgReduceFn::Max => new > old || (how.last && new == old),
        }
    };
    let (mut best, mut place) = (W::default(), None);
    let mut piece = [W::default(); PIECE];
    // SAFETY: the caller's contract.
    unsafe {
        if how.accumulate {
            let (mut held, mut at) = ([W::default()], [0i64]);
            get(value, v, 0, &mut held);
            get(index, i, 0, &mut at);
            (best, place) = (held[0], Some(at[0]));
        }
        for first in (0..line.len).step_by(PIECE) {
            let n = PIECE.min(line.len - first);
            get(src, s + line.stride * first as isize, line.stride, &mut piece[..n]);
            for (k, &x) in piece[..n].iter().enumerate() {
                if place.is_none() || better(x, best) {
                    (best, place) = (x, Some(how.base.wrapping_add((first + k) as i64)));
                }
            }
        }
        if let Some(place) = place {
            put(value, v, 1, &[best]);
            put(index, i, 1, &[place]);
        }
    }
}

/// How a running reduction goes.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Which.
    pub function: ReduceFn,
    /// The axis.
    pub axis: usize,
    /// Leave the element itself out.
    pub exclusive: bool,
    /// From the end.
    pub reverse: bool,
}

/// `dst[…, i, …] = first ∘ src[…, 0, …] ∘ … ∘ src[…, i, …]`; `first` has size 1 along the axis.
///
/// # Errors
/// Sizes that do not fit.
///
/// # Safety
/// The arrays lie inside of their memory.
pub unsafe fn scan(isa: Isa, how: Running, dst: &Array, src: &Array, first: &Array) -> Result<(), String> {
    let nest = lines(how.axis, [dst, src, first])?;
    if dst.size[how.axis] != src.size[how.axis] {
        return Err(format!("the destination is {:?} but the source is {:?}", dst.shape(), src.shape()));
    }
    let strides = (dst.stride[how.axis], src.stride[how.axis]);
    let len = src.size[how.axis];
    let plain = dst.dtype == src.dtype && first.dtype == src.dtype;
    let line = Line { stride: strides.1, len };
    with_wide!(Width::of(dst.dtype), W => nest.planes(|plane| split(plane, line, |plane| {
        // SAFETY: the caller's contract.
        if plain && unsafe { scan_slices(isa, how, dst, src, first, &plane) } {
            return;
        }
        super::vector::pieces(&plane, |at, col, n| {
            let (mut held, mut piece) = ([W::default(); PIECE], [W::default(); PIECE]);
            // SAFETY: the caller's contract.
            unsafe {
                get(first, at[2], col[2], &mut held[..n]);
                for i in 0..len {
                    let i = if how.reverse { len - 1 - i } else { i } as isize;
                    get(src, at[1] + i * strides.1, col[1], &mut piece[..n]);
                    let d = at[0] + i * strides.0;
                    if how.exclusive {
                        put(dst, d, col[0], &held[..n]);
                    }
                    function::fold::<W>(function::of_reduction(how.function), &mut held[..n], &piece[..n]);
                    if !how.exclusive {
                        put(dst, d, col[0], &held[..n]);
                    }
                }
            }
        });
    })));
    Ok(())
}

/// On the kernels, if they take this plane.
unsafe fn scan_slices(isa: Isa, how: Running, dst: &Array, src: &Array, first: &Array, plane: &Plane<3>) -> bool {
    let line = Line { stride: src.stride[how.axis], len: src.size[how.axis] };
    let Ok(to_step) = usize::try_from(dst.stride[how.axis]) else { return false };
    let Some((lengths, [d, s, f], step)) = slices(plane, line) else { return false };
    let places = (dst.place(plane.at[0]), src.place(plane.at[1]), first.place(plane.at[2]));
    let (Some(to), Some(from), Some(start)) = places else { return false };
    let to = Slices { data: to, outer: d, step: to_step };
    let from = Slices { data: from.cast_const(), outer: s, step };
    let start = Slices { data: start.cast_const(), outer: f, step: 0 };
    let form = ScanForm { exclusive: how.exclusive, reverse: how.reverse };
    // SAFETY: the caller's contract.
    unsafe { kernels::scan(isa, how.function, form, src.dtype, lengths, to, from, Some(start)) }.is_ok()
}

/// The axes besides the reduced one.
fn lines<const N: usize>(axis: usize, arrays: [&Array; N]) -> Result<Nest<N>, String> {
    if arrays.iter().any(|array| axis >= array.rank) {
        return Err(format!("there is no axis {axis}"));
    }
    let fits = Nest::without(axis, arrays);
    fits.map_err(|axis| {
        let shapes: Vec<String> = arrays.iter().map(|array| format!("{:?}", array.shape())).collect();
        format!("the operands have the sizes {}, which do not fit on axis {axis}", shapes.join(", "))
    })
}

fn check_reduced(dst: &Array, axis: usize) -> Result<(), String> {
    if dst.size[axis] == 1 {
        Ok(())
    } else {
        Err(format!("the destination {:?} is not reduced on axis {axis}", dst.shape()))
    }
}
