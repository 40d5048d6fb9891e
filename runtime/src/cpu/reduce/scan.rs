//! Cumulative reductions along an axis.

use super::{Lengths, Slices, folded, identity};
use crate::cpu::isa::Isa;
use crate::cpu::number::{Number, with_number};
use crate::cpu::vector::{Area, Dst, NoKernel, PIECE, Room, Src, binary, cast, fill, widens};
use tarsia_tensor::{DType, ReduceFn};

/// How a scan proceeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanForm {
    /// Leave the element itself out.
    pub exclusive: bool,
    /// From the end.
    pub reverse: bool,
}

/// `dst[o, i, j] = function over all i' up to i of src[o, i', j]`, beginning with `initial[o, j]` where given.
///
/// # Errors
/// If there is no such reduction of `dtype`.
///
/// # Safety
/// This machine has `isa`; `src` and `dst` are accessible over `lengths` and are the same or do not overlap; `initial` is
/// readable over `[outer, inner]` and apart from `dst`.
pub unsafe fn scan(
    isa: Isa,
    function: ReduceFn,
    form: ScanForm,
    dtype: DType,
    lengths: Lengths,
    dst: Slices<*mut u8>,
    src: Slices<*const u8>,
    initial: Option<Slices<*const u8>>,
) -> Result<(), NoKernel> {
    let missing = || NoKernel::of(function, dtype);
    folded(function, dtype).ok_or_else(missing)?;
    // SAFETY: the caller's contract.
    unsafe {
        if widens(dtype) {
            pieces::<f32>(isa, function, form, dtype, lengths, dst, src, initial);
        } else {
            with_number!(dtype, T => {
                if lengths.inner == 1 {
                    line::<T>(function, form, dtype, lengths, dst, src, initial);
                } else {
                    pieces::<T>(isa, function, form, dtype, lengths, dst, src, initial);
                }
            }, _ => return Err(missing()));
        }
    }
    Ok(())
}

/// Step `i` of `n` in the order of the scan.
fn step_at(form: ScanForm, i: usize, n: usize) -> usize {
    if form.reverse { n - 1 - i } else { i }
}

/// A single line of a plain type.
unsafe fn line<T: Number>(
    function: ReduceFn,
    form: ScanForm,
    dtype: DType,
    lengths: Lengths,
    dst: Slices<*mut u8>,
    src: Slices<*const u8>,
    initial: Option<Slices<*const u8>>,
) {
    // Logic on `bool` is minimum and maximum of bytes.
    let fold = match function {
        ReduceFn::Sum if dtype == DType::Bool => T::max,
        ReduceFn::Prod if dtype == DType::Bool => T::min,
        ReduceFn::Prod => T::mul,
        ReduceFn::Min => T::min,
        ReduceFn::Max => T::max,
        _ => T::add,
    };
    for o in 0..lengths.outer {
        // SAFETY: the caller's contract.
        unsafe {
            let (from, to) = (src.data.cast::<T>().add(o * src.outer), dst.data.cast::<T>().add(o * dst.outer));
            let mut sum = match initial {
                Some(initial) => *initial.data.cast::<T>().add(o * initial.outer),
                None => identity::<T>(function, dtype),
            };
            for i in 0..lengths.n {
                let i = step_at(form, i, lengths.n);
                let next = fold(sum, *from.add(i * src.step));
                *to.add(i * dst.step) = if form.exclusive { sum } else { next };
                sum = next;
            }
        }
    }
}

/// Many neighbours (or narrow floats, computed with as `T` = `f32`): step by step over a piece of them.
unsafe fn pieces<T: Number>(
    isa: Isa,
    function: ReduceFn,
    form: ScanForm,
    dtype: DType,
    lengths: Lengths,
    dst: Slices<*mut u8>,
    src: Slices<*const u8>,
    initial: Option<Slices<*const u8>>,
) {
    let Some(fold) = folded(function, dtype) else { return };
    let compute = if widens(dtype) { DType::F32 } else { dtype };
    let bytes = dtype.bits() / 8;
    let (mut sums, mut element) = (Room::new(), Room::new());
    let (sums, element) = (sums.data(), element.data());
    let (in_sums, in_element) = (Src { data: sums, row: 0, col: 1 }, Src { data: element, row: 0, col: 1 });
    for o in 0..lengths.outer {
        for j in (0..lengths.inner).step_by(PIECE) {
            let area = Area { rows: 1, cols: PIECE.min(lengths.inner - j) };
            // SAFETY: the caller's contract; rooms hold a piece; the types convert and have the function.
            unsafe {
                let read = |from: *const u8, to: *mut u8| {
                    let from = Src { data: from, row: 0, col: 1 };
                    let _ = cast(isa, dtype, compute, false, area, Dst { data: to, row: 0 }, from);
                };
                match initial {
                    Some(initial) => read(initial.data.add((o * initial.outer + j) * bytes), sums),
                    None => {
                        let start = identity::<T>(function, dtype);
                        fill(size_of::<T>(), area, Dst { data: sums, row: 0 }, (&raw const start).cast());
                    }
                }
                for i in 0..lengths.n {
                    let i = step_at(form, i, lengths.n);
                    read(src.data.add((o * src.outer + i * src.step + j) * bytes), element);
                    let to = Dst { data: dst.data.add((o * dst.outer + i * dst.step + j) * bytes), row: 0 };
                    if form.exclusive {
                        let _ = cast(isa, compute, dtype, false, area, to, in_sums);
                    }
                    let _ = binary(isa, fold, compute, area, Dst { data: sums, row: 0 }, in_sums, in_element);
                    if !form.exclusive {
                        let _ = cast(isa, compute, dtype, false, area, to, in_sums);
                    }
                }
            }
        }
    }
}
