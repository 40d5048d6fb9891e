//! Moves: between strided, clipped and blocked places, converting types on the way.

use tarsia_tensor::DType;

use super::matrix::{Blocks, Run};
use super::nest::{Array, MAX_RANK, Nest, Plane};
use super::operand::Clip;
use super::wide::{self, PIECE, Width, with_wide};
use crate::cpu::{Isa, moves, vector};

mod fast;

/// One end of a move.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// A strided array, inside of its buffer.
    Strided(Array),
    /// A strided array that may leave its buffer.
    Clipped(Array, &'a Clip, &'a [i64]),
    /// A box of a blocked matrix, which has two axes.
    Blocked(Array, Blocks),
}

impl End<'_> {
    /// The array, without its form.
    pub fn array(&self) -> &Array {
        match self {
            End::Strided(array) | End::Clipped(array, ..) | End::Blocked(array, _) => array,
        }
    }

    /// This end with the axes of the other, if it is a strided matrix and the other has more or fewer axes.
    fn with_axes_of(self, other: &End, rows: usize) -> Self {
        match (self, other.array()) {
            (End::Strided(matrix), other) if matrix.rank == 2 && other.rank != 2 => {
                matrix.unfolded(other.shape(), rows).map_or(self, End::Strided)
            }
            _ => self,
        }
    }
}

/// `dst = src`; where one end is a matrix and the other has more than two axes, the first `rows` axes of the other are the matrix's rows.
///
/// # Errors
/// The sizes, if they do not fit each other.
///
/// # Safety
/// Strided ends and blocked matrices lie inside of their memory (clipped ones need not), and the two do not overlap
/// unless they are the same array.
pub unsafe fn copy(isa: Isa, dst: &End, src: &End, rows: usize) -> Result<(), String> {
    let (dst, src) = (&dst.with_axes_of(src, rows), &src.with_axes_of(dst, rows));
    if let (End::Strided(to), End::Strided(from)) = (dst, src) {
        // SAFETY: the caller's contract.
        return unsafe { copy_strided(isa, to, from) };
    }
    let walk = Walk::new(dst, src, rows)?;
    // SAFETY: the caller's contract; `Walk::new` checked that the sizes fit.
    unsafe {
        if fast::copy(isa, dst, src, walk.rows) {
            return Ok(());
        }
        walk.run();
        if let End::Blocked(array, blocks) = dst {
            pad(array, blocks);
        }
    }
    Ok(())
}

/// A strided copy, plane by plane.
///
/// # Safety
/// Both arrays lie inside of their memory.
unsafe fn copy_strided(isa: Isa, to: &Array, from: &Array) -> Result<(), String> {
    let nest = Nest::of([to, from]).map_err(|_| mismatch(to.shape(), from.shape()))?;
    let bits = to.dtype.bits();
    if to.dtype == from.dtype
        && bits >= 8
        && let Some((at, axes, rank)) = nest.axes()
    {
        let (source, target) = (from.address(at[1]), to.address(at[0]));
        if source == target && axes[..rank].iter().all(|axis| axis.src == axis.dst) {
            return Ok(());
        }
        // SAFETY: positions of a nest are those of the arrays.
        if unsafe { moves::copy(isa, bits / 8, &axes[..rank], source, target) }.is_ok() {
            return Ok(());
        }
    }
    // SAFETY: positions of a nest are those of the arrays.
    nest.planes(|plane| unsafe { copy_plane(isa, to, from, &plane) });
    Ok(())
}

/// Copies one plane.
///
/// # Safety
/// Its elements are inside of both arrays.
pub unsafe fn copy_plane(isa: Isa, to: &Array, from: &Array, plane: &Plane<2>) {
    if to.dtype != from.dtype
        && let Some((area, d, [_, s])) = plane.area([to, from])
        // SAFETY: the caller's contract.
        && unsafe { vector::cast(isa, from.dtype, to.dtype, true, area, d, s) }.is_ok()
    {
        return;
    }
    for r in 0..plane.size[0] {
        let [d, s] = plane.row_at(r);
        let (d, s) = (Run { at: d, stride: plane.col[0], len: 0 }, Run { at: s, stride: plane.col[1], len: 0 });
        // SAFETY: the caller's contract.
        unsafe { move_run(to, d, from, s, plane.size[1]) };
    }
}

fn mismatch(to: &[usize], from: &[usize]) -> String {
    format!("the destination is {to:?} but the source is {from:?}")
}

/// Moves `len` elements.
///
/// # Safety
/// The elements are accessible.
unsafe fn move_run(to: &Array, d: Run, from: &Array, s: Run, len: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        if to.dtype != from.dtype || to.dtype.bits() < 8 {
            return convert_run(to, d, from, s, len);
        }
        let (d_to, s_from) = (to.address(d.at), from.address(s.at));
        match to.dtype.bits() {
            8 => move_plain::<u8>(d_to, d.stride, s_from, s.stride, len),
            16 => move_plain::<u16>(d_to, d.stride, s_from, s.stride, len),
            32 => move_plain::<u32>(d_to, d.stride, s_from, s.stride, len),
            _ => move_plain::<u64>(d_to, d.stride, s_from, s.stride, len),
        }
    }
}

#[inline(always)]
unsafe fn move_plain<T: Copy>(to: *mut u8, to_stride: isize, from: *const u8, from_stride: isize, len: usize) {
    let (to, from) = (to.cast::<T>(), from.cast::<T>());
    // SAFETY: the caller's contract; `copy` allows the same array on both sides.
    unsafe {
        match (to_stride, from_stride) {
            (1, 1) => std::ptr::copy(from, to, len),
            (1, 0) if len > 0 => std::slice::from_raw_parts_mut(to, len).fill(*from),
            (1, _) => (0..len as isize).for_each(|i| *to.offset(i) = *from.offset(i * from_stride)),
            (_, 1) => (0..len as isize).for_each(|i| *to.offset(i * to_stride) = *from.offset(i)),
            _ => (0..len as isize).for_each(|i| *to.offset(i * to_stride) = *from.offset(i * from_stride)),
        }
    }
}

unsafe fn convert_run(to: &Array, d: Run, from: &Array, s: Run, len: usize) {
    with_wide!(Width::of(from.dtype), W => {
        let mut piece = [W::default(); PIECE];
        for first in (0..len).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(len - first)];
            // SAFETY: the caller's contract.
            unsafe {
                wide::load(from.dtype, from.base, s.at + s.stride * first as isize, s.stride, piece);
                wide::store(to.dtype, to.base, d.at + d.stride * first as isize, d.stride, piece);
            }
        }
    });
}

/// Writes one encoded value to `len` elements.
///
/// # Safety
/// The elements are accessible.
pub unsafe fn fill_run(to: &Array, d: Run, value: u64, len: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let address = to.address(d.at);
        match to.dtype.bits() {
            8 => fill_plain(address, d.stride, value as u8, len),
            16 => fill_plain(address.cast(), d.stride, value as u16, len),
            32 => fill_plain(address.cast(), d.stride, value as u32, len),
            64 => fill_plain(address.cast(), d.stride, value, len),
            bits => {
                let each = |i| wide::store_bits(bits, to.base, d.at + d.stride * i, value as u8);
                (0..len as isize).for_each(each);
            }
        }
    }
}

unsafe fn fill_plain<T: Copy>(to: *mut T, stride: isize, value: T, len: usize) {
    // SAFETY: the caller's contract.
    unsafe { (0..len as isize).for_each(|i| *to.offset(i * stride) = value) }
}

/// Zeros behind the last row and column of a box, up to the end of its blocks.
///
/// # Safety
/// The matrix lies inside of its memory.
unsafe fn pad(array: &Array, blocks: &Blocks) {
    let size = [array.size[0], array.size[1]];
    let [rows, columns] = blocks.padding(size);
    let one = |row, column| Run { at: blocks.position(row, column), stride: 1, len: 1 };
    for row in 0..rows {
        let from = if row < size[0] { size[1] } else { 0 };
        for column in from..columns {
            // SAFETY: a box inside of the matrix rounded up to blocks is inside of its memory.
            unsafe { fill_run(array, one(row, column), 0, 1) };
        }
    }
}

/// A copy whose ends are not both strided: run by run along the innermost axis.
struct Walk<'a> {
    dst: &'a End<'a>,
    src: &'a End<'a>,
    rank: usize,
    size: [usize; MAX_RANK],
    rows: usize,
}

/// Elements at equal distances, or elements outside of a buffer.
enum Piece {
    Inside(Run),
    Outside(usize),
}

impl<'a> Walk<'a> {
    fn new(dst: &'a End<'a>, src: &'a End<'a>, rows: usize) -> Result<Walk<'a>, String> {
        let shape_of = match (dst, src) {
            (End::Blocked(..), End::Blocked(..)) => dst,
            (End::Blocked(..), _) => src,
            _ => dst,
        };
        let array = shape_of.array();
        let rows = if array.rank == 2 && matches!(shape_of, End::Blocked(..)) { 1 } else { rows.min(array.rank) };
        let fits = |end: &End| match end {
            End::Blocked(box_, _) => {
                let product = |sizes: &[usize]| sizes.iter().product::<usize>();
                box_.size[0] == product(&array.shape()[..rows]) && box_.size[1] == product(&array.shape()[rows..])
            }
            _ => {
                let other = end.array();
                other.rank == array.rank
                    && (0..array.rank).all(|i| other.size[i] == array.size[i] || other.size[i] == 1)
            }
        };
        if !fits(dst) || !fits(src) {
            return Err(mismatch(dst.array().shape(), src.array().shape()));
        }
        Ok(Walk { dst, src, rank: array.rank, size: array.size, rows })
    }

    /// # Safety
    /// As for [`copy`].
    unsafe fn run(&self) {
        let last = self.rank.saturating_sub(1);
        if self.size[..self.rank].contains(&0) {
            return;
        }
        let len = if self.rank == 0 { 1 } else { self.size[last] };
        let mut index = [0usize; MAX_RANK];
        loop {
            // SAFETY: the caller's contract.
            unsafe { self.line(&index, len) };
            let mut axis = last;
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                if index[axis] < self.size[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    }

    unsafe fn line(&self, index: &[usize; MAX_RANK], len: usize) {
        let (to, from) = (self.dst.array(), self.src.array());
        let mut at = 0;
        while at < len {
            let (d, s) = (self.piece(self.dst, index, at, len - at), self.piece(self.src, index, at, len - at));
            let count = d.len().min(s.len());
            // SAFETY: pieces are inside of their memory.
            unsafe {
                match (d, s) {
                    (Piece::Inside(d), Piece::Inside(s)) => move_run(to, d, from, s, count),
                    (Piece::Inside(d), Piece::Outside(_)) => self.fill(d, count),
                    (Piece::Outside(_), _) => {}
                }
            }
            at += count;
        }
    }

    unsafe fn fill(&self, d: Run, count: usize) {
        let (End::Clipped(from, clip, _), to) = (self.src, self.dst.array()) else { return };
        let source = Array::single((&raw const clip.fill).cast_mut().cast(), from.dtype, 0);
        // SAFETY: the value is one element that repeats.
        unsafe { move_run(to, d, &source, Run { at: 0, stride: 0, len: 1 }, count) };
    }

    /// The elements of one end from `at` on along the innermost axis, at the place `index` of the outer axes.
    fn piece(&self, end: &End, index: &[usize; MAX_RANK], at: usize, len: usize) -> Piece {
        let last = self.rank.saturating_sub(1);
        match end {
            End::Strided(array) => Piece::Inside(strided_run(array, &index[..last], at, len)),
            End::Clipped(array, clip, registers) => {
                let visible = visible(clip, registers, &index[..last], array, last, at, len);
                match visible {
                    Ok(len) => Piece::Inside(strided_run(array, &index[..last], at, len)),
                    Err(len) => Piece::Outside(len),
                }
            }
            End::Blocked(_, blocks) => {
                let flat = |axes: std::ops::Range<usize>| {
                    axes.fold(0, |sum, i| sum * self.size[i] + if i == last { at } else { index[i] })
                };
                let (row, column) = (flat(0..self.rows), flat(self.rows..self.rank));
                let axis = usize::from(self.rows < self.rank);
                Piece::Inside(blocks.run(row, column, axis, len))
            }
        }
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Inside(run) => run.len,
            Piece::Outside(len) => *len,
        }
    }
}

fn strided_run(array: &Array, index: &[usize], at: usize, len: usize) -> Run {
    let step = |axis: usize| if array.size[axis] == 1 { 0 } else { array.stride[axis] };
    let start = index.iter().enumerate().map(|(axis, &i)| i as isize * step(axis)).sum::<isize>() + array.at;
    let stride = if array.rank == 0 { 0 } else { step(array.rank - 1) };
    Run { at: start + at as isize * stride, stride, len }
}

/// How many elements from `at` on are inside (`Ok`) or outside (`Err`) of the buffer.
fn visible(
    clip: &Clip,
    registers: &[i64],
    index: &[usize],
    array: &Array,
    last: usize,
    at: usize,
    len: usize,
) -> Result<usize, usize> {
    let r = |register| registers[register as usize];
    let (mut from, mut to) = (0i64, len as i64);
    for axis in &clip.axes {
        let (mut start, mut step) = (r(axis.start), 0i64);
        for &(view, by) in &axis.steps {
            // An axis of size 1 repeats.
            let by = if array.size[view] == 1 { 0 } else { r(by) };
            if view < index.len() {
                start = start.wrapping_add(by.wrapping_mul(index[view] as i64));
            } else if view == last {
                step = step.wrapping_add(by);
            }
        }
        let start = start.wrapping_add(step.wrapping_mul(at as i64));
        let (low, high) = inside(start, step, r(axis.extent));
        (from, to) = (from.max(low), to.min(high));
    }
    if from >= to {
        Err(len)
    } else if from > 0 {
        Err(from as usize)
    } else {
        Ok(to as usize)
    }
}

/// The `i` from the first to the one behind the last with `0 <= start + i * step < extent`, for `i >= 0`.
fn inside(start: i64, step: i64, extent: i64) -> (i64, i64) {
    // The numbers of steps until a distance is covered, rounded up.
    let steps = |distance: i64, step: i64| if distance <= 0 { 0 } else { (distance - 1) / step + 1 };
    match step.signum() {
        0 if (0..extent).contains(&start) => (0, i64::MAX),
        0 => (0, 0),
        1 => (steps(start.saturating_neg(), step), steps(extent.saturating_sub(start), step)),
        _ => {
            let back = step.saturating_neg();
            (steps(start.saturating_sub(extent.saturating_sub(1)), back), steps(start.saturating_add(1), back))
        }
    }
}

/// The bits of a number in an element type of at most 64 bits.
pub fn encode(dtype: DType, value: f64) -> u64 {
    let mut bits = 0u64;
    let address = (&raw mut bits).cast::<u8>();
    // SAFETY: one element of at most 8 bytes; the machine is little-endian.
    unsafe {
        match Width::of(dtype) {
            // Whole numbers that f64 holds are exact; infinities saturate to the type's limits.
            Width::I64 => {
                let (low, high) = wide::limits::<i64>(dtype);
                wide::store(dtype, address, 0, 1, &[(value as i64).clamp(low, high)]);
            }
            Width::U64 if value >= 0.0 && dtype != DType::Bool => {
                let (low, high) = wide::limits::<u64>(dtype);
                wide::store(dtype, address, 0, 1, &[(value as u64).clamp(low, high)]);
            }
            _ => wide::store(dtype, address, 0, 1, &[value]),
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_parts_are_those_inside() {
        for start in -6..8 {
            for step in -3..4 {
                for extent in 0..7 {
                    let (low, high) = inside(start, step, extent);
                    for i in 0..20 {
                        let expected = (0..extent).contains(&(start + i * step));
                        assert_eq!((low..high).contains(&i), expected, "{start} + {i} * {step} in {extent}");
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_encode_to_their_types() {
        assert_eq!(encode(DType::F32, 1.5), u64::from(1.5f32.to_bits()));
        assert_eq!(encode(DType::I8, -1.0), 0xff);
        assert_eq!(encode(DType::I32, f64::NEG_INFINITY), u64::from(i32::MIN as u32));
        assert_eq!(encode(DType::U8, 300.0), 255);
        assert_eq!(encode(DType::Bool, 2.0), 1);
    }
}
