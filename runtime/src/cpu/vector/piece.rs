//! Instructions carried out piece by piece: operands are brought into contiguous runs of one type, the result away.

use super::{Area, Dst, Src, cast, flatten, number};
use crate::cpu::isa::Isa;
use std::mem::MaybeUninit;
use tarsia_tensor::{BinaryFn, DType, MiniFloat, UnaryFn};

/// Elements of a piece.
pub(crate) const PIECE: usize = 256;

/// Room for a piece of any element type.
#[repr(align(64))]
pub(crate) struct Room(MaybeUninit<[u64; PIECE]>);

impl Room {
    /// Room with nothing in it yet.
    #[inline(always)]
    pub const fn new() -> Room {
        Room(MaybeUninit::uninit())
    }

    /// Its first byte.
    pub fn data(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// How a piece is computed.
pub(super) enum Piece {
    /// `(out, a, b, n)`: n contiguous elements each, aligned, `out` apart from the operands. `b` is unused by functions of one.
    Direct(unsafe fn(*mut u8, *const u8, *const u8, usize)),
    /// In another type: `f32` for narrower floats, `f64` for integers.
    Through(DType, Function),
}

/// A function to run on another type instead.
#[derive(Clone, Copy)]
pub(super) enum Function {
    /// Of one operand.
    Unary(UnaryFn),
    /// Of two operands.
    Binary(BinaryFn),
}

/// Whether values of this type are computed with in `f32`.
pub(crate) fn widens(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16) || (MiniFloat::of(dtype).is_some() && dtype.bits() == 8)
}

/// The piece of a function of one operand.
pub(super) fn unary(isa: Isa, function: UnaryFn, dtype: DType) -> Option<Piece> {
    if widens(dtype) {
        return (function != UnaryFn::BitNot).then_some(Piece::Through(DType::F32, Function::Unary(function)));
    }
    if dtype == DType::F32 {
        return number::unary(isa, function, dtype).or_else(|| float_only(function));
    }
    number::unary(isa, function, dtype).or_else(|| {
        let through = dtype.is_integer() && dtype.bits() >= 8 && number::unary(isa, function, DType::F64).is_some();
        through.then_some(Piece::Through(DType::F64, Function::Unary(function)))
    })
}

/// Functions of `f32` that `super::float` computes before any piece is asked for; never run.
fn float_only(function: UnaryFn) -> Option<Piece> {
    (function != UnaryFn::BitNot).then_some(Piece::Through(DType::F32, Function::Unary(function)))
}

/// The piece of a function of two operands.
pub(super) fn binary(isa: Isa, function: BinaryFn, dtype: DType) -> Option<Piece> {
    if widens(dtype) {
        number::binary(isa, function, DType::F32)?;
        return Some(Piece::Through(DType::F32, Function::Binary(function)));
    }
    number::binary(isa, function, dtype).or_else(|| {
        let through = dtype.is_integer() && dtype.bits() >= 8 && function == BinaryFn::Atan2;
        through.then_some(Piece::Through(DType::F64, Function::Binary(function)))
    })
}

/// Runs `piece` over an area: sources of type `dtype`, results of type `result`.
///
/// # Safety
/// The operands are accessible over `area` and overlap only as [`super`] says.
pub(super) unsafe fn run<const N: usize>(
    isa: Isa,
    piece: &Piece,
    dtype: DType,
    result: DType,
    area: Area,
    dst: Dst,
    sources: [Src; N],
) {
    let (area, dst, sources) = flatten(area, dst, sources);
    let (from_bytes, to_bytes) = (dtype.bits() / 8, result.bits() / 8);
    let overlaps = sources.iter().any(|s| s.data == dst.data.cast_const());
    let mut rooms = [const { Room::new() }; N];
    let mut out = Room::new();
    for r in 0..area.rows {
        for c in (0..area.cols).step_by(PIECE) {
            let n = PIECE.min(area.cols - c);
            // SAFETY: `c + n <= cols`; rooms hold PIECE elements of up to 8 bytes.
            unsafe {
                let mut operands = [std::ptr::null::<u8>(); 2];
                for (i, source) in sources.iter().enumerate() {
                    let at = (r as isize * source.row + c as isize * source.col) * from_bytes as isize;
                    let at = source.data.offset(at);
                    operands[i] = if source.col == 1 || n == 1 {
                        at
                    } else {
                        let room = rooms[i].data();
                        repeat(at, from_bytes, room, n);
                        room.cast_const()
                    };
                }
                let to = dst.data.offset((r as isize * dst.row + c as isize) * to_bytes as isize);
                let direct = if overlaps { out.data() } else { to };
                compute(isa, piece, dtype, result, direct, operands, n);
                if overlaps {
                    std::ptr::copy_nonoverlapping(direct, to, n * to_bytes);
                }
            }
        }
    }
}

unsafe fn compute(isa: Isa, piece: &Piece, dtype: DType, result: DType, out: *mut u8, ab: [*const u8; 2], n: usize) {
    let (via, function) = match piece {
        // SAFETY: the piece's contract holds: contiguous operands, the result apart.
        Piece::Direct(f) => return unsafe { f(out, ab[0], ab[1], n) },
        Piece::Through(via, function) => (*via, *function),
    };
    let (mut x, mut y, mut z) = (Room::new(), Room::new(), Room::new());
    let area = Area { rows: 1, cols: n };
    let src = |data: *const u8| Src { data, row: 0, col: 1 };
    let dst = |data: *mut u8| Dst { data, row: 0 };
    let (x, y, z) = (x.data(), y.data(), z.data());
    // SAFETY: the rooms hold n elements of any type; `via` has every function that gets here (see `unary`, `binary`).
    unsafe {
        let _ = cast(isa, dtype, via, false, area, dst(x), src(ab[0]));
        let is_bool = match function {
            Function::Unary(f) => {
                let _ = super::unary(isa, f, via, area, dst(z), src(x));
                f.is_predicate()
            }
            Function::Binary(f) => {
                let _ = cast(isa, dtype, via, false, area, dst(y), src(ab[1]));
                let _ = super::binary(isa, f, via, area, dst(z), src(x), src(y));
                f.is_comparison()
            }
        };
        let computed = if is_bool { DType::Bool } else { via };
        let _ = cast(isa, computed, result, false, area, dst(out), src(z));
    }
}

/// Fills `n` elements of `bytes` bytes with the one at `from`.
pub(super) unsafe fn repeat(from: *const u8, bytes: usize, to: *mut u8, n: usize) {
    // SAFETY: the caller's contract; elements are aligned.
    unsafe {
        match bytes {
            1 => std::slice::from_raw_parts_mut(to, n).fill(*from),
            2 => std::slice::from_raw_parts_mut(to.cast::<u16>(), n).fill(*from.cast()),
            4 => std::slice::from_raw_parts_mut(to.cast::<u32>(), n).fill(*from.cast()),
            _ => std::slice::from_raw_parts_mut(to.cast::<u64>(), n).fill(*from.cast()),
        }
    }
}
