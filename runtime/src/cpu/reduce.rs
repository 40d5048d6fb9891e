//! Reductions and cumulative scans along one axis.
//!
//! The source is seen as `[outer, n, inner]`: `outer` slices any distance apart, `n` steps any distance apart, `inner`
//! neighbours. The axis of `n` is reduced. `f32` sums run in several lanes and are added up by halves; narrow floats are
//! computed with in `f32` and rounded at the end. `bool` sums are "any", products "all".

use super::isa::Isa;
use super::number::{Number, with_number};
use super::vector::{Area, Dst, NoKernel, PIECE, Room, Src, binary, cast, fill, widens};
use tarsia_tensor::{BinaryFn, DType, ReduceFn};

mod arg;
mod rows;
mod scan;

pub use arg::{ArgResult, arg_reduce};
pub use scan::{ScanForm, scan};

/// A source `[outer, n, inner]`, or a result `[outer, 1, inner]` whose `step` has no meaning; distances in elements.
#[derive(Clone, Copy, Debug)]
pub struct Slices<P> {
    /// The first element.
    pub data: P,
    /// From slice to slice.
    pub outer: usize,
    /// From step to step of the axis.
    pub step: usize,
}

/// The extents of a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Slices.
    pub outer: usize,
    /// The reduced axis.
    pub n: usize,
    /// Neighbours.
    pub inner: usize,
}

/// The point-wise function that a reduction repeats; `None` for the mean.
pub(crate) fn folded(function: ReduceFn, dtype: DType) -> Option<BinaryFn> {
    Some(match (function, dtype) {
        (ReduceFn::Sum, DType::Bool) => BinaryFn::Or,
        (ReduceFn::Prod, DType::Bool) => BinaryFn::And,
        (ReduceFn::Sum, _) => BinaryFn::Add,
        (ReduceFn::Prod, _) => BinaryFn::Mul,
        (ReduceFn::Min, _) => BinaryFn::Min,
        (ReduceFn::Max, _) => BinaryFn::Max,
        (ReduceFn::Mean, _) => return None,
    })
}

/// The value that a reduction of nothing has.
pub(crate) fn identity<T: Number>(function: ReduceFn, dtype: DType) -> T {
    match function {
        ReduceFn::Sum | ReduceFn::Mean => T::ZERO,
        ReduceFn::Prod => T::ONE,
        ReduceFn::Min if dtype == DType::Bool => T::ONE,
        ReduceFn::Max if dtype == DType::Bool => T::ZERO,
        ReduceFn::Min => T::HIGHEST,
        ReduceFn::Max => T::LOWEST,
    }
}

/// `dst[o, j] = function over i of src[o, i, j]`, combined with what `dst` holds if `accumulate`.
///
/// # Errors
/// If there is no such reduction of `dtype` (the mean is none: it is a sum and a division).
///
/// # Safety
/// This machine has `isa`; `src` is readable over `lengths`, `dst` accessible over `[outer, inner]`, apart from it; both
/// are aligned to their elements.
pub unsafe fn reduce(
    isa: Isa,
    function: ReduceFn,
    dtype: DType,
    lengths: Lengths,
    dst: Slices<*mut u8>,
    src: Slices<*const u8>,
    accumulate: bool,
) -> Result<(), NoKernel> {
    let missing = || NoKernel::of(function, dtype);
    let fold = folded(function, dtype).ok_or_else(missing)?;
    let along = lengths.inner == 1 && (src.step == 1 || lengths.n <= 1);
    let compute = if widens(dtype) { DType::F32 } else { dtype };
    // SAFETY: the caller's contract.
    unsafe {
        with_number!(compute, T => {
            let start = identity::<T>(function, dtype);
            match (compute == dtype, along) {
                (true, true) => rows::reduce::<T>(isa, function, dtype, lengths, dst, src, accumulate),
                (true, false) => columns::<T>(isa, fold, dtype, lengths, dst, src, accumulate, start),
                _ => widened(isa, function, dtype, lengths, dst, src, accumulate),
            }
        }, _ => return Err(missing()));
    }
    Ok(())
}

/// Neighbour by neighbour: the point-wise function of the result and every step.
unsafe fn columns<T: Number>(
    isa: Isa,
    fold: BinaryFn,
    dtype: DType,
    lengths: Lengths,
    dst: Slices<*mut u8>,
    src: Slices<*const u8>,
    accumulate: bool,
    start: T,
) {
    let bytes = size_of::<T>();
    for o in 0..lengths.outer {
        // Blocks of neighbours stay in L1 over all steps.
        for j in (0..lengths.inner).step_by(PIECE) {
            let area = Area { rows: 1, cols: PIECE.min(lengths.inner - j) };
            // SAFETY: the caller's contract; every plain type has the functions of `folded`.
            unsafe {
                let to = Dst { data: dst.data.add((o * dst.outer + j) * bytes), row: 0 };
                if !accumulate {
                    fill(bytes, area, to, (&raw const start).cast());
                }
                if fold == BinaryFn::Add && dtype == DType::F32 {
                    let from = src.data.cast::<f32>().add(o * src.outer + j);
                    rows::add_steps(isa, area.cols, lengths.n, from, src.step, to.data.cast());
                    continue;
                }
                let sum = Src { data: to.data, row: 0, col: 1 };
                for i in 0..lengths.n {
                    let from = src.data.add((o * src.outer + i * src.step + j) * bytes);
                    let _ = binary(isa, fold, dtype, area, to, sum, Src { data: from, row: 0, col: 1 });
                }
            }
        }
    }
}

/// Narrow floats: pieces of the source are widened, the sums are `f32` until the end.
unsafe fn widened(
    isa: Isa,
    function: ReduceFn,
    dtype: DType,
    lengths: Lengths,
    dst: Slices<*mut u8>,
    src: Slices<*const u8>,
    accumulate: bool,
) {
    let bytes = dtype.bits() / 8;
    let along = lengths.inner == 1 && src.step == 1;
    let (mut sums, mut piece) = (Room::new(), Room::new());
    let (sums, piece) = (sums.data(), piece.data());
    let whole = |data: *mut u8| Slices { data, outer: 0, step: 1 };
    for o in 0..lengths.outer {
        for j in (0..lengths.inner).step_by(PIECE) {
            let cols = PIECE.min(lengths.inner - j);
            let area = Area { rows: 1, cols };
            // SAFETY: the caller's contract; rooms hold a piece of f32; f32 has every reduction but the mean.
            unsafe {
                let to = dst.data.add((o * dst.outer + j) * bytes);
                if accumulate {
                    let from = Src { data: to, row: 0, col: 1 };
                    let _ = cast(isa, dtype, DType::F32, false, area, Dst { data: sums, row: 0 }, from);
                }
                let steps = if along { PIECE } else { 1 };
                for i in (0..lengths.n.max(1)).step_by(steps) {
                    let n = steps.min(lengths.n - i.min(lengths.n));
                    let from = src.data.add((o * src.outer + i * src.step + j) * bytes);
                    let read = Area { rows: 1, cols: if along { n } else { cols * n } };
                    let from = Src { data: from, row: 0, col: 1 };
                    let _ = cast(isa, dtype, DType::F32, false, read, Dst { data: piece, row: 0 }, from);
                    let part = Lengths { outer: 1, n, inner: cols };
                    let source = Slices { data: piece.cast_const(), outer: 0, step: cols };
                    let _ = reduce(isa, function, DType::F32, part, whole(sums), source, accumulate || i > 0);
                }
                let from = Src { data: sums, row: 0, col: 1 };
                let _ = cast(isa, DType::F32, dtype, false, area, Dst { data: to, row: 0 }, from);
            }
        }
    }
}
