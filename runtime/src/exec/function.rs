//! The functions of the tile IR on pieces of widened elements: the vector kernels of the type that they were widened to.

use tarsia_tensor::{BinaryFn, ReduceFn, ScatterFn, UnaryFn};

use super::wide::{PIECE, Wide};
use crate::cpu::Isa;
use crate::cpu::number::Number;
use crate::cpu::vector::{self as kernels, Area, Dst, NoKernel, Src};

/// `x = function(x)` for at most [`PIECE`] elements. Truth values are 1 and 0.
///
/// # Errors
/// If the function has no meaning on this type.
pub fn unary<W: Wide>(isa: Isa, function: UnaryFn, x: &mut [W]) -> Result<(), NoKernel> {
    let area = Area { rows: 1, cols: x.len() };
    replace(x, function.is_predicate(), |x, dst| {
        // SAFETY: the source is a slice; the destination is it, or room for as many truth values apart from it.
        unsafe { kernels::unary(isa, function, W::DTYPE, area, dst, source(x)) }
    })
}

/// `a = function(a, b)` for at most [`PIECE`] elements, equally many. Truth values are 1 and 0.
///
/// # Errors
/// If the function has no meaning on this type.
pub fn binary<W: Wide>(isa: Isa, function: BinaryFn, a: &mut [W], b: &[W]) -> Result<(), NoKernel> {
    debug_assert_eq!(a.len(), b.len());
    let area = Area { rows: 1, cols: a.len().min(b.len()) };
    let y = source(b.as_ptr());
    replace(a, function.is_comparison(), |x, dst| {
        // SAFETY: the sources are slices; the destination is the first, or room for as many truth values apart from them.
        unsafe { kernels::binary(isa, function, W::DTYPE, area, dst, source(x), y) }
    })
}

/// Calls `run` with the elements and where its result goes: over the elements, or, if they are truth values, by way of bytes.
fn replace<W: Wide>(
    x: &mut [W],
    truth: bool,
    run: impl FnOnce(*const W, Dst) -> Result<(), NoKernel>,
) -> Result<(), NoKernel> {
    assert!(x.len() <= PIECE);
    let data = x.as_mut_ptr();
    if !truth {
        return run(data, Dst { data: data.cast(), row: 0 });
    }
    let mut truths = [0u8; PIECE];
    run(data, Dst { data: truths.as_mut_ptr(), row: 0 })?;
    x.iter_mut().zip(truths).for_each(|(x, truth)| *x = W::from_u64(truth.into()));
    Ok(())
}

fn source<W>(data: *const W) -> Src {
    Src { data: data.cast(), row: 0, col: 1 }
}

/// The step that a reduction repeats.
pub fn of_reduction<W: Number>(function: ReduceFn) -> fn(W, W) -> W {
    match function {
        ReduceFn::Sum | ReduceFn::Mean => W::add,
        ReduceFn::Prod => W::mul,
        ReduceFn::Min => W::min,
        ReduceFn::Max => W::max,
    }
}

/// How an update meets what is there.
pub fn of_scatter<W: Number>(function: ScatterFn) -> fn(W, W) -> W {
    match function {
        ScatterFn::Set => |_, new| new,
        ScatterFn::Add => W::add,
        ScatterFn::Mul => W::mul,
        ScatterFn::Min => W::min,
        ScatterFn::Max => W::max,
    }
}

/// `held = step(held, piece)`, element by element.
pub fn fold<W: Copy>(step: fn(W, W) -> W, held: &mut [W], piece: &[W]) {
    held.iter_mut().zip(piece).for_each(|(held, &x)| *held = step(*held, x));
}
