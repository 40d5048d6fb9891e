//! The index of an extreme element along an axis.

use super::{Lengths, Slices};
use crate::cpu::isa::Isa;
use crate::cpu::number::{Number, with_number};
use crate::cpu::vector::{Area, Dst, NoKernel, Room, Src, cast, widens};
use tarsia_tensor::{ArgReduceFn, DType};

/// Where the extremes `[outer, inner]` and their indices go; distances in elements.
#[derive(Clone, Copy, Debug)]
pub struct ArgResult {
    /// The first extreme value.
    pub values: *mut u8,
    /// From slice to slice of the values.
    pub values_outer: usize,
    /// The first index.
    pub indices: *mut i64,
    /// From slice to slice of the indices.
    pub indices_outer: usize,
}

/// The extreme of `src[o, i, j]` over `i` and its index plus `offset`: the first, or the `last`, among equals; a NaN wins.
///
/// With `accumulate`, what the result holds comes before the source. Without, `n` must not be 0.
///
/// # Errors
/// If elements of `dtype` have no order.
///
/// # Safety
/// This machine has `isa`; `src` is readable over `lengths`, the result accessible over `[outer, inner]`, apart from it.
pub unsafe fn arg_reduce(
    isa: Isa,
    function: ArgReduceFn,
    last: bool,
    dtype: DType,
    lengths: Lengths,
    dst: ArgResult,
    src: Slices<*const u8>,
    offset: i64,
    accumulate: bool,
) -> Result<(), NoKernel> {
    let form = Form { largest: function == ArgReduceFn::Max, last, offset, accumulate };
    // SAFETY: the caller's contract.
    unsafe {
        if widens(dtype) {
            widened(isa, form, dtype, lengths, dst, src);
            return Ok(());
        }
        with_number!(dtype, T => plain::<T>(form, lengths, dst, src), _ => {
            return Err(NoKernel::of(function, dtype));
        });
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Form {
    largest: bool,
    last: bool,
    offset: i64,
    accumulate: bool,
}

impl Form {
    /// Whether `new`, which comes later, takes the place of `old`.
    fn replaces<T: Number>(self, new: T, old: T) -> bool {
        if old.is_nan() {
            return self.last && new.is_nan();
        }
        let beyond = if self.largest { new > old } else { new < old };
        beyond || new.is_nan() || (self.last && new == old)
    }
}

unsafe fn plain<T: Number>(form: Form, lengths: Lengths, dst: ArgResult, src: Slices<*const u8>) {
    for o in 0..lengths.outer {
        for j in 0..lengths.inner {
            // SAFETY: the caller's contract.
            unsafe {
                let from = src.data.cast::<T>().add(o * src.outer + j);
                let value = dst.values.cast::<T>().add(o * dst.values_outer + j);
                let index = dst.indices.add(o * dst.indices_outer + j);
                let (mut best, mut at) = if form.accumulate { (*value, *index) } else { (*from, form.offset) };
                for i in usize::from(!form.accumulate)..lengths.n {
                    let x = *from.add(i * src.step);
                    if form.replaces(x, best) {
                        (best, at) = (x, form.offset + i as i64);
                    }
                }
                (*value, *index) = (best, at);
            }
        }
    }
}

/// Narrow floats: element by element in `f32`, which keeps their order.
unsafe fn widened(isa: Isa, form: Form, dtype: DType, lengths: Lengths, dst: ArgResult, src: Slices<*const u8>) {
    let bytes = dtype.bits() / 8;
    let mut room = Room::new();
    let piece = room.data();
    let one = Area { rows: 1, cols: 1 };
    for o in 0..lengths.outer {
        for j in 0..lengths.inner {
            // SAFETY: the caller's contract; the room holds two elements of f32.
            unsafe {
                let widen = |from: *const u8, slot: usize| {
                    let to = Dst { data: piece.add(4 * slot), row: 0 };
                    let _ = cast(isa, dtype, DType::F32, false, one, to, Src { data: from, row: 0, col: 1 });
                };
                let value = dst.values.add((o * dst.values_outer + j) * bytes);
                let index = dst.indices.add(o * dst.indices_outer + j);
                if form.accumulate {
                    widen(value, 0);
                }
                let best = ArgResult { values: piece, values_outer: 0, indices: index, indices_outer: 0 };
                for i in 0..lengths.n {
                    widen(src.data.add((o * src.outer + i * src.step + j) * bytes), 1);
                    let source = Slices { data: piece.add(4).cast_const(), outer: 0, step: 1 };
                    let accumulate = form.accumulate || i > 0;
                    let form = Form { offset: form.offset + i as i64, accumulate, ..form };
                    plain::<f32>(form, Lengths { outer: 1, n: 1, inner: 1 }, best, source);
                }
                let from = Src { data: piece, row: 0, col: 1 };
                let _ = cast(isa, DType::F32, dtype, false, one, Dst { data: value, row: 0 }, from);
            }
        }
    }
}
