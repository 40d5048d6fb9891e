//! Copies from a window of a source whose indices may be out of range: those elements are filled.

use super::{Axis, MoveError, RANK, check_width, run};
use crate::cpu::isa::Isa;

/// One axis of the source: the index along it is `start + Σ steps[d] · i[d]` over the copy's axes `d`.
#[derive(Clone, Copy, Debug)]
pub struct SourceAxis<'a> {
    /// Elements along it; indices outside are filled.
    pub len: usize,
    /// Elements from one to the next.
    pub stride: isize,
    /// The index at the copy's origin.
    pub start: isize,
    /// How the index grows along each axis of the copy.
    pub steps: &'a [isize],
}

/// Copies `dst[Σ i·strides] = src[…]`, or the element at `fill` where an index is out of range, for all `i` in `lens`.
///
/// # Errors
/// If there are too many axes or elements are not 1, 2, 4 or 8 bytes wide; nothing is written then.
///
/// # Safety
/// This machine has `isa`; `src` is readable over its axes, `dst` writable at all indices, `fill` readable; nothing
/// overlaps. Each `steps` has the length of `lens`, and so has `strides`.
pub unsafe fn copy_filled(
    isa: Isa,
    bytes: usize,
    lens: &[usize],
    strides: &[isize],
    axes: &[SourceAxis<'_>],
    src: *const u8,
    dst: *mut u8,
    fill: *const u8,
) -> Result<(), MoveError> {
    if lens.len() > RANK || axes.len() > RANK {
        return Err(MoveError::Rank(lens.len().max(axes.len())));
    }
    check_width(bytes)?;
    if lens.contains(&0) {
        return Ok(());
    }
    // SAFETY: the caller's contract.
    unsafe {
        match bytes {
            1 => window::<u8>(isa, lens, strides, axes, src.cast(), dst.cast(), *fill.cast()),
            2 => window::<u16>(isa, lens, strides, axes, src.cast(), dst.cast(), *fill.cast()),
            4 => window::<u32>(isa, lens, strides, axes, src.cast(), dst.cast(), *fill.cast()),
            _ => window::<u64>(isa, lens, strides, axes, src.cast(), dst.cast(), *fill.cast()),
        }
    }
    Ok(())
}

unsafe fn window<T: Copy>(
    isa: Isa,
    lens: &[usize],
    strides: &[isize],
    axes: &[SourceAxis<'_>],
    src: *const T,
    dst: *mut T,
    fill: T,
) {
    let inner = lens.len().saturating_sub(1);
    let (len, stride) = (lens.get(inner).copied().unwrap_or(1), strides.get(inner).copied().unwrap_or(1));
    let step = |axis: &SourceAxis<'_>| axis.steps.get(inner).copied().unwrap_or(0);
    let along: isize = axes.iter().map(|axis| axis.stride * step(axis)).sum();
    let (outer, rank) = outer_axes(&lens[..inner], strides, axes);
    // Along an axis whose index is the same in all rows, so are the positions in range.
    let mut always = (0, len as isize);
    let (mut moving, mut count) = ([(0, 0); RANK], 0);
    let mut row = Row { index: [0; RANK], offset: axes.iter().map(|axis| axis.start * axis.stride).sum(), to: 0 };
    for axis in axes {
        if (0..inner).any(|d| lens[d] != 1 && axis.steps[d] != 0) {
            (moving[count], row.index[count]) = ((axis.len as isize, step(axis)), axis.start);
            count += 1;
        } else {
            let (low, high) = in_range(axis.start, step(axis), axis.len as isize, len as isize);
            always = (always.0.max(low), always.1.min(high));
        }
    }
    let mut place = [0usize; RANK];
    loop {
        let (mut first, mut end) = always;
        for (&(size, step), &index) in moving[..count].iter().zip(&row.index) {
            let (low, high) = in_range(index, step, size, len as isize);
            (first, end) = (first.max(low), end.min(high));
        }
        let first = first.min(len as isize);
        let end = end.max(first);
        // SAFETY: positions first..end are in range on every axis; the destination has `len` elements.
        unsafe {
            let to = dst.offset(row.to);
            put::<T>(to, stride, 0..first, fill);
            put::<T>(to, stride, end..len as isize, fill);
            if first < end {
                let axis = Axis { len: (end - first) as usize, src: along, dst: stride };
                run(isa, axis, src.offset(row.offset + first * along), to.offset(first * stride));
            }
        }
        let mut d = rank;
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            place[d] += 1;
            row.advance(&outer[d], 1, count);
            if place[d] < outer[d].len {
                break;
            }
            row.advance(&outer[d], -(place[d] as isize), count);
            place[d] = 0;
        }
    }
}

/// An axis of a copy other than the innermost, and what a step along it moves.
#[derive(Clone, Copy, Default)]
struct Outer {
    len: usize,
    /// By axis of the source that any outer axis moves along: the index.
    index: [isize; RANK],
    /// Elements of the source.
    offset: isize,
    /// Elements of the destination.
    to: isize,
}

/// The axes with more than one place.
fn outer_axes(lens: &[usize], strides: &[isize], axes: &[SourceAxis<'_>]) -> ([Outer; RANK], usize) {
    let (mut outer, mut rank) = ([Outer::default(); RANK], 0);
    let long = || (0..lens.len()).filter(|&d| lens[d] != 1);
    for d in long() {
        let offset = axes.iter().map(|axis| axis.steps[d] * axis.stride).sum();
        let mut index = [0; RANK];
        let moving = axes.iter().filter(|axis| long().any(|d| axis.steps[d] != 0));
        index.iter_mut().zip(moving).for_each(|(index, axis)| *index = axis.steps[d]);
        outer[rank] = Outer { len: lens[d], index, offset, to: strides[d] };
        rank += 1;
    }
    (outer, rank)
}

/// Where a row of a copy begins.
struct Row {
    /// By axis of the source that moves: the index.
    index: [isize; RANK],
    /// Elements from the source's first one.
    offset: isize,
    /// Elements from the destination's first one.
    to: isize,
}

impl Row {
    /// Moves by `places` along an axis; `count` axes of the source move at all.
    #[inline(always)]
    fn advance(&mut self, axis: &Outer, places: isize, count: usize) {
        for (index, by) in self.index[..count].iter_mut().zip(&axis.index) {
            *index += by * places;
        }
        self.offset += axis.offset * places;
        self.to += axis.to * places;
    }
}

/// The positions `low..high` at which `index + position * step` is in `0..len`, out of `0..count`.
#[inline]
pub(crate) fn in_range(index: isize, step: isize, len: isize, count: isize) -> (isize, isize) {
    let (ceil, floor) = (|a: isize, b: isize| a.div_euclid(b) + isize::from(a.rem_euclid(b) != 0), isize::div_euclid);
    match step {
        0 if (0..len).contains(&index) => (0, count),
        0 => (count, count),
        1 => ((-index).max(0), len - index),
        s if s > 0 => (ceil(-index, s).max(0), floor(len - 1 - index, s) + 1),
        s => (ceil(index - len + 1, -s).max(0), floor(index, -s) + 1),
    }
}

unsafe fn put<T: Copy>(to: *mut T, stride: isize, positions: std::ops::Range<isize>, fill: T) {
    for i in positions {
        // SAFETY: the caller's contract.
        unsafe { *to.offset(i * stride) = fill };
    }
}
