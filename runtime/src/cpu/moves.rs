//! Moves: copies between strided arrays of up to [`RANK`] axes, with transposition or with fill where an index is out of range.
//!
//! Elements are 1, 2, 4 or 8 bytes wide; strides are in elements and may be zero (sources) or negative.

use super::isa::Isa;
use super::simd::simd_kernel;

mod filled;
pub(crate) use filled::in_range;
pub use filled::{SourceAxis, copy_filled};

/// The most axes that a move handles.
pub const RANK: usize = 8;

/// A move that cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// Too many axes.
    #[error("a copy over {0} axes; the CPU moves at most {RANK}")]
    Rank(usize),
    /// Elements of another width.
    #[error("elements of {0} bytes; the CPU moves 1, 2, 4 or 8")]
    Width(usize),
}

/// One axis of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Axis {
    /// Elements along it.
    pub len: usize,
    /// Source elements from one to the next.
    pub src: isize,
    /// Destination elements from one to the next.
    pub dst: isize,
}

/// Copies `dst[Σ i·dst] = src[Σ i·src]` for all indices.
///
/// # Errors
/// If there are too many axes or the width is not one of those above; nothing is written then.
///
/// # Safety
/// This machine has `isa`; all elements addressed are accessible and aligned; source and destination do not overlap.
pub unsafe fn copy(isa: Isa, bytes: usize, axes: &[Axis], src: *const u8, dst: *mut u8) -> Result<(), MoveError> {
    let (axes, rank) = simplify(axes)?;
    let axes = &axes[..rank];
    if axes.iter().any(|axis| axis.len == 0) {
        return check_width(bytes);
    }
    // SAFETY: the caller's contract.
    unsafe {
        match bytes {
            1 => nest::<u8>(isa, axes, src.cast(), dst.cast()),
            2 => nest::<u16>(isa, axes, src.cast(), dst.cast()),
            4 => nest::<u32>(isa, axes, src.cast(), dst.cast()),
            8 => nest::<u64>(isa, axes, src.cast(), dst.cast()),
            _ => return Err(MoveError::Width(bytes)),
        }
    }
    Ok(())
}

fn check_width(bytes: usize) -> Result<(), MoveError> {
    if matches!(bytes, 1 | 2 | 4 | 8) { Ok(()) } else { Err(MoveError::Width(bytes)) }
}

/// The axes without those of one element, those of far destinations first, neighbours joined where memory allows.
fn simplify(axes: &[Axis]) -> Result<([Axis; RANK], usize), MoveError> {
    let mut kept = [Axis::default(); RANK];
    let mut rank = 0;
    for &axis in axes.iter().filter(|axis| axis.len != 1) {
        *kept.get_mut(rank).ok_or(MoveError::Rank(axes.len()))? = axis;
        rank += 1;
    }
    // Insertion keeps the given order among equals.
    for i in 1..rank {
        let mut j = i;
        while j > 0 && kept[j - 1].dst.unsigned_abs() < kept[j].dst.unsigned_abs() {
            kept.swap(j - 1, j);
            j -= 1;
        }
    }
    let mut joined = 0;
    for i in 1..rank {
        let (outer, inner) = (kept[joined], kept[i]);
        let len = inner.len as isize;
        if outer.src == inner.src * len && outer.dst == inner.dst * len {
            kept[joined] = Axis { len: outer.len * inner.len, ..inner };
        } else {
            joined += 1;
            kept[joined] = inner;
        }
    }
    Ok((kept, if rank == 0 { 0 } else { joined + 1 }))
}

/// Runs the innermost one or two axes for every index of the others.
unsafe fn nest<T: Copy>(isa: Isa, axes: &[Axis], src: *const T, dst: *mut T) {
    // SAFETY: the caller's contract.
    unsafe {
        let Some((&last, outer)) = axes.split_last() else {
            *dst = *src;
            return;
        };
        if last.dst == 1 && last.src != 1 {
            // Reading is contiguous along another axis: transpose block by block.
            if let Some(other) = outer.iter().position(|axis| axis.src == 1) {
                let across = outer[other];
                let mut rest = [Axis::default(); RANK];
                let others = outer.iter().enumerate().filter(|(i, _)| *i != other).map(|(_, axis)| *axis);
                others.zip(&mut rest).for_each(|(axis, slot)| *slot = axis);
                let rest = &rest[..outer.len() - 1];
                return for_each_index(rest, |s, d| transpose(isa, across, last, src.offset(s), dst.offset(d)));
            }
        }
        for_each_index(outer, |s, d| run(isa, last, src.offset(s), dst.offset(d)));
    }
}

/// Calls `body(source offset, destination offset)` for every index of `axes`, the last fastest.
#[inline(always)]
fn for_each_index(axes: &[Axis], mut body: impl FnMut(isize, isize)) {
    let mut index = [0usize; RANK];
    let (mut s, mut d) = (0isize, 0isize);
    loop {
        body(s, d);
        let mut axis = axes.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            let Axis { len, src, dst } = axes[axis];
            index[axis] += 1;
            (s, d) = (s + src, d + dst);
            if index[axis] < len {
                break;
            }
            index[axis] = 0;
            (s, d) = (s - src * len as isize, d - dst * len as isize);
        }
    }
}

/// One axis.
#[inline(always)]
unsafe fn run<T: Copy>(isa: Isa, axis: Axis, src: *const T, dst: *mut T) {
    // SAFETY: the caller's contract.
    unsafe {
        match (axis.src, axis.dst) {
            (1, 1) => copy_bytes(isa, axis.len * size_of::<T>(), src.cast(), dst.cast()),
            (0, 1) => std::slice::from_raw_parts_mut(dst, axis.len).fill(*src),
            (2, 1) if size_of::<T>() == 4 => evens(isa, axis.len, src.cast(), dst.cast()),
            (s, d) => {
                for i in 0..axis.len as isize {
                    *dst.offset(i * d) = *src.offset(i * s);
                }
            }
        }
    }
}

simd_kernel! {
    /// Copies bytes in whole vectors; the last one overlaps the one before.
    pub(crate) fn copy_bytes<S>(bytes: usize, src: *const u8, dst: *mut u8) {
        let width = 4 * S::LANES;
        // SAFETY: the caller's contract; vectors of f32 carry any bits.
        unsafe {
            if bytes < width {
                // Short rows are many: no call for each.
                let (words, whole) = (bytes / 4, bytes / 4 * 4);
                S::store_n(dst.cast(), words, S::load_n(src.cast(), words));
                for i in whole..bytes {
                    *dst.add(i) = *src.add(i);
                }
                return;
            }
            if bytes > 1 << 16 {
                return std::ptr::copy_nonoverlapping(src, dst, bytes);
            }
            let mut i = 0;
            while i + width <= bytes {
                S::store(dst.add(i).cast(), S::load(src.add(i).cast()));
                i += width;
            }
            if i < bytes {
                let last = bytes - width;
                S::store(dst.add(last).cast(), S::load(src.add(last).cast()));
            }
        }
    }
}

simd_kernel! {
    /// Copies every second element.
    fn evens<S>(len: usize, src: *const f32, dst: *mut f32) {
        let mut i = 0;
        // SAFETY: the caller's contract.
        unsafe {
            while i + S::LANES <= len {
                S::store(dst.add(i), S::load_even(src.add(2 * i)));
                i += S::LANES;
            }
            while i < len {
                dst.add(i).cast::<u32>().write(src.add(2 * i).cast::<u32>().read());
                i += 1;
            }
        }
    }
}

/// Two axes: the source is contiguous along `across`, the destination along `along`. Blocks keep both in L1.
unsafe fn transpose<T: Copy>(isa: Isa, across: Axis, along: Axis, src: *const T, dst: *mut T) {
    const BLOCK: usize = 16;
    let _ = isa;
    // SAFETY: the caller's contract; a block ends inside both axes.
    unsafe {
        for a in (0..across.len).step_by(BLOCK) {
            let width = BLOCK.min(across.len - a);
            for b in (0..along.len).step_by(BLOCK) {
                let height = BLOCK.min(along.len - b);
                let from = src.offset(a as isize + b as isize * along.src);
                let to = dst.offset(a as isize * across.dst + b as isize);
                if size_of::<T>() == 4 && width == BLOCK && height == BLOCK {
                    transpose_block(from.cast(), along.src, to.cast(), across.dst);
                    continue;
                }
                for i in 0..width as isize {
                    for j in 0..height as isize {
                        *to.offset(i * across.dst + j) = *from.offset(i + j * along.src);
                    }
                }
            }
        }
    }
}

/// A whole block of four-byte elements, four by four.
#[inline(always)]
unsafe fn transpose_block(from: *const f32, from_row: isize, to: *mut f32, to_row: isize) {
    for i in (0..16).step_by(4) {
        for j in (0..16).step_by(4) {
            // SAFETY: the caller's contract.
            unsafe {
                let (from, to) = (from.offset(i + j * from_row), to.offset(i * to_row + j));
                super::pack::transpose4(from, from_row, to, to_row);
            }
        }
    }
}
