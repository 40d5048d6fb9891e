//! What the vector templates of the vendor's library do, as instructions.
//!
//! Learned by executing the compiled templates on a host, with functions that print in the place of the hardware's instructions, for
//! a few shapes each. One-dimensional templates are one instruction that counts elements. An operand that repeats along the last axis
//! is spread into blocks of 32 bytes first. A sum (or the like) along the last axis halves the rows until one repeat of 256 bytes is
//! left, each step behind a barrier, and then reduces one repeat a row.

use tarsia_tensor::{BinaryFn, Dim, ReduceFn};
use tarsia_tile::Opcode;

use super::{
    draft::{Item, Writer},
    value::Array,
};

/// Bytes of one repeat of a vector instruction.
const REPEAT: i64 = 256;

/// Elements of a 32-byte block.
fn block(array: &Array) -> i64 {
    32 / array.element_bytes()
}

/// A function of two arrays of which one may repeat along an axis.
pub(super) fn binary(
    out: &mut Writer,
    function: BinaryFn,
    [a, b, dst]: [&Array; 3],
    scratch: Option<&Array>,
) -> Result<(), String> {
    let sides = [a, b].map(|side| spread(out, side, dst, scratch));
    let [a, b] = sides;
    out.binary(function, dst, &a?, &b?);
    Ok(())
}

/// The operand, spread into blocks in the scratch array if it repeats along the last axis.
fn spread(out: &mut Writer, side: &Array, dst: &Array, scratch: Option<&Array>) -> Result<Array, String> {
    let (Some(columns), Some(wanted)) = (side.sizes.last(), dst.sizes.last()) else { return Ok(side.clone()) };
    if !columns.is(1) || wanted.is(1) || side.sizes.len() < 2 {
        return Ok(side.clone());
    }
    let scratch = scratch.ok_or("an operand that repeats along the last axis needs a temporary buffer")?;
    let rows = side.sizes[0].clone();
    let width = block(side);
    let blocks = Array {
        dtype: side.dtype,
        sizes: vec![rows, Dim::Const(width)],
        strides: vec![Dim::Const(width), Dim::ONE],
        ..scratch.clone()
    };
    out.op(Opcode::Binary(BinaryFn::Max), vec![(&blocks).into()], vec![side.into(), side.into()]);
    out.barrier(Some("v"));
    Ok(blocks.columns(0, 1))
}

/// A reduction along the last of two axes; `pair` combines two elements.
pub(super) fn reduce_rows(
    out: &mut Writer,
    (function, pair): (ReduceFn, BinaryFn),
    [src, dst]: [&Array; 2],
    scratch: &Array,
) -> Result<(), String> {
    let src = src.matrix().ok_or("the reduced array has more than two axes")?;
    let mut dst = dst.matrix().ok_or("the result has more than two axes")?;
    let one_column = dst.sizes[1].is(1);
    if !one_column {
        dst.sizes.swap(0, 1);
        dst.strides.swap(0, 1);
    }
    let width = src.sizes[1].as_const().ok_or("the length of the reduced axis is not known")?;
    out.set("v", "s", Dim::Const(7));
    out.wait("v", "s", Dim::Const(7));
    let lanes = REPEAT / src.element_bytes();
    let rest = if width > lanes { fold(out, pair, &src, scratch, width, lanes) } else { src };
    out.barrier(Some("v"));
    let op = Opcode::Reduce { function, axis: 1, accumulate: false };
    out.op(op, vec![(&dst).into()], vec![(&rest).into()]);
    Ok(())
}

/// Combines halves (or, where the width is no power of two, pieces) of every row until one repeat is left.
fn fold(out: &mut Writer, pair: BinaryFn, src: &Array, scratch: &Array, width: i64, lanes: i64) -> Array {
    let below = 1i64 << width.ilog2();
    let piece = if below > lanes { below / 2 } else { below };
    let sums = Array {
        dtype: src.dtype,
        sizes: vec![src.sizes[0].clone(), Dim::Const(piece)],
        strides: vec![Dim::Const(piece), Dim::ONE],
        ..scratch.clone()
    };
    out.barrier(Some("v"));
    let first = src.columns(0, piece);
    let mut at = piece;
    if below > lanes {
        out.binary(pair, &sums, &first, &src.columns(piece, piece));
        at += piece;
    } else {
        out.op(Opcode::Copy { rows: 1 }, vec![(&sums).into()], vec![(&first).into()]);
    }
    while at < width {
        let count = piece.min(width - at);
        out.barrier(Some("v"));
        let part = sums.columns(0, count);
        out.binary(pair, &part, &src.columns(at, count), &part);
        at += count;
    }
    let mut left = piece;
    while left > lanes {
        left /= 2;
        out.barrier(Some("v"));
        out.binary(pair, &sums.columns(0, left), &sums.columns(0, left), &sums.columns(left, left));
    }
    sums.columns(0, left)
}

/// A matrix turned around: one instruction.
pub(super) fn transpose(out: &mut Writer, src: &Array, dst: &Array) -> Result<(), String> {
    let mut turned = src.matrix().ok_or("more than two axes are transposed")?;
    turned.sizes.swap(0, 1);
    turned.strides.swap(0, 1);
    out.copy(Item::Array(dst.clone()), Item::Array(turned));
    Ok(())
}
