//! Vector instructions: point-wise functions on rows of tiles.
//!
//! An operand is seen as `rows × columns` elements with any distances between rows and between columns (0 repeats); distances
//! of columns other than 0 and 1 cost a copy piece by piece. One call covers `[r, c] ∘ [r, c]`, `[r, 1]`, `[1, c]` and scalars. A destination may
//! be the very same tile as a source (same address and strides) of elements as wide; otherwise they do not overlap.
//!
//! Element types: `f32` runs on hand-written vectors ([`float`]); `f64`, integers and `bool` (one byte, 0 or 1) on loops that
//! the compiler vectorises ([`number`]); `f16`, `bf16` and the 8-bit floats widen to `f32` piece by piece. Integers wrap;
//! integer division and remainder by zero give 0; minimum and maximum give NaN if an operand is NaN.

use super::isa::Isa;
use super::moves;
use tarsia_tensor::{BinaryFn, DType, UnaryFn};

mod cast;
mod float;
mod number;
mod piece;
mod ternary;

pub use cast::cast;
pub(crate) use piece::{PIECE, Room, widens};
pub use ternary::{fill, iota, mul_add, select};

/// A source operand: strides in elements.
#[derive(Clone, Copy, Debug)]
pub struct Src {
    /// The first element.
    pub data: *const u8,
    /// From row to row; 0 to repeat.
    pub row: isize,
    /// From column to column; 0 to repeat.
    pub col: isize,
}

/// A destination: columns are neighbours.
#[derive(Clone, Copy, Debug)]
pub struct Dst {
    /// The first element.
    pub data: *mut u8,
    /// Elements from row to row.
    pub row: isize,
}

/// Rows and columns of an instruction's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// An instruction that no kernel computes for an element type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CPU has no kernel for {what} of {dtype}")]
pub struct NoKernel {
    /// The instruction.
    pub what: String,
    /// The element type.
    pub dtype: DType,
}

impl NoKernel {
    pub(crate) fn of(what: impl ToString, dtype: DType) -> NoKernel {
        NoKernel { what: what.to_string(), dtype }
    }
}

/// Whether [`unary`] computes `function` for `dtype`.
pub fn has_unary(function: UnaryFn, dtype: DType) -> bool {
    piece::unary(Isa::Portable, function, dtype).is_some()
}

/// Whether [`binary`] computes `function` for `dtype`.
pub fn has_binary(function: BinaryFn, dtype: DType) -> bool {
    piece::binary(Isa::Portable, function, dtype).is_some()
}

/// `dst = function(a)`; predicates write `bool`.
///
/// # Errors
/// If there is no such function on `dtype`; nothing is written then.
///
/// # Safety
/// This machine has `isa`; the operands are accessible over `area`; overlap only as the module says.
pub unsafe fn unary(isa: Isa, function: UnaryFn, dtype: DType, area: Area, dst: Dst, a: Src) -> Result<(), NoKernel> {
    let result = if function.is_predicate() { DType::Bool } else { dtype };
    // SAFETY: the caller's contract.
    unsafe {
        plain_columns(isa, result, [dtype], area, dst, [a], |area, dst, [a]| {
            plain_unary(isa, function, dtype, area, dst, a)
        })
    }
}

unsafe fn plain_unary(isa: Isa, function: UnaryFn, dtype: DType, area: Area, dst: Dst, a: Src) -> Result<(), NoKernel> {
    if dtype == DType::F32 {
        // SAFETY: the caller's contract.
        if unsafe { float::unary(isa, function, area, dst, a) } {
            return Ok(());
        }
    }
    let piece = piece::unary(isa, function, dtype).ok_or_else(|| NoKernel::of(function, dtype))?;
    let result = if function.is_predicate() { DType::Bool } else { dtype };
    // SAFETY: the caller's contract.
    unsafe { piece::run(isa, &piece, dtype, result, area, dst, [a]) };
    Ok(())
}

/// `dst = function(a, b)`; comparisons write `bool`.
///
/// # Errors
/// If there is no such function on `dtype`; nothing is written then.
///
/// # Safety
/// As for [`unary`].
pub unsafe fn binary(
    isa: Isa,
    function: BinaryFn,
    dtype: DType,
    area: Area,
    dst: Dst,
    a: Src,
    b: Src,
) -> Result<(), NoKernel> {
    let result = if function.is_comparison() { DType::Bool } else { dtype };
    // SAFETY: the caller's contract.
    unsafe {
        plain_columns(isa, result, [dtype; 2], area, dst, [a, b], |area, dst, [a, b]| {
            plain_binary(isa, function, dtype, area, dst, a, b)
        })
    }
}

unsafe fn plain_binary(
    isa: Isa,
    function: BinaryFn,
    dtype: DType,
    area: Area,
    dst: Dst,
    a: Src,
    b: Src,
) -> Result<(), NoKernel> {
    if dtype == DType::F32 {
        // SAFETY: the caller's contract.
        if unsafe { float::binary(isa, function, area, dst, a, b) } {
            return Ok(());
        }
    }
    let piece = piece::binary(isa, function, dtype).ok_or_else(|| NoKernel::of(function, dtype))?;
    let result = if function.is_comparison() { DType::Bool } else { dtype };
    // SAFETY: the caller's contract.
    unsafe { piece::run(isa, &piece, dtype, result, area, dst, [a, b]) };
    Ok(())
}

impl Area {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(self) -> bool {
        self.rows == 0 || self.cols == 0
    }
}

impl Src {
    /// Whether the rows of `area` follow each other like columns, so that they are one long row.
    pub(crate) fn is_flat(&self, area: Area) -> bool {
        (self.col == 1 && self.row == area.cols as isize) || (self.col == 0 && self.row == 0)
    }

    /// Whether columns are neighbours or all the same, as kernels want them.
    pub(crate) fn is_plain(&self) -> bool {
        self.col == 0 || self.col == 1
    }
}

/// The same elements in as few rows as the strides allow.
pub(crate) fn flatten<const N: usize>(area: Area, dst: Dst, sources: [Src; N]) -> (Area, Dst, [Src; N]) {
    if area.rows == 1 {
        return (area, dst, sources);
    }
    if area.cols == 1 && dst.row == 1 {
        let sources = sources.map(|s| Src { col: s.row, ..s });
        return (Area { rows: 1, cols: area.rows }, dst, sources);
    }
    if dst.row == area.cols as isize && sources.iter().all(|s| s.is_flat(area)) {
        return (Area { rows: 1, cols: area.rows * area.cols }, dst, sources);
    }
    (area, dst, sources)
}

/// Calls `run` with the operands in as few rows as possible and columns 0 or 1 apart: piece by piece from copies if need be.
///
/// # Safety
/// The operands, elements of `dtypes`, are readable over `area`, and `dst`, of `result`, is writable.
#[inline(always)]
pub(crate) unsafe fn plain_columns<const N: usize>(
    isa: Isa,
    result: DType,
    dtypes: [DType; N],
    area: Area,
    dst: Dst,
    sources: [Src; N],
    mut run: impl FnMut(Area, Dst, [Src; N]) -> Result<(), NoKernel>,
) -> Result<(), NoKernel> {
    let (area, dst, sources) = flatten(area, dst, sources);
    if sources.iter().all(Src::is_plain) || area.cols == 1 {
        return run(area, dst, sources);
    }
    let mut rooms = [const { Room::new() }; N];
    for r in 0..area.rows {
        for c in (0..area.cols).step_by(PIECE) {
            let part = Area { rows: 1, cols: PIECE.min(area.cols - c) };
            let mut plain = sources;
            for (i, source) in sources.iter().enumerate() {
                let bytes = dtypes[i].bits() / 8;
                // SAFETY: `c + part.cols <= cols`; a room holds a piece of elements of up to 8 bytes.
                unsafe {
                    let at = r as isize * source.row + c as isize * source.col;
                    plain[i].data = source.data.offset(at * bytes as isize);
                    if !source.is_plain() {
                        let axis = moves::Axis { len: part.cols, src: source.col, dst: 1 };
                        let room = rooms[i].data();
                        if moves::copy(isa, bytes, &[axis], plain[i].data, room).is_err() {
                            return Err(NoKernel::of("strided columns", dtypes[i]));
                        }
                        plain[i] = Src { data: room, row: 0, col: 1 };
                    }
                }
            }
            let at = (r as isize * dst.row + c as isize) * (result.bits() / 8) as isize;
            // SAFETY: `c < cols`.
            let to = Dst { data: unsafe { dst.data.offset(at) }, row: 0 };
            run(part, to, plain)?;
        }
    }
    Ok(())
}
