//! Pooling that a mask cuts short.

use tarsia_graph::{BinaryFn, Op, Value};
use tarsia_tensor::{DType, Dim};

use super::row;
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
    ops::{Importer::One, Rows, pool},
};

pub(super) const ROWS: Rows = &[row("MaxpoolWithMask", One(max_pool))];

/// Windows have no more elements: each of them is a slice of the operand.
const MOST: usize = 1024;

/// The maxima of windows, each row of which ends before the first element that the mask (one for all channels, `[1, 1, spatial…]`) has 0
/// for; the first element of an image always counts. The lowest number where nothing is left.
fn max_pool<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, mask) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let (shape, own) = (ctx.shape(x), ctx.shape(mask));
    if own.len() != shape.len() || shape.len() < 3 || own[2..] != shape[2..] {
        return Err(invalid(format!("a mask {} for {}", ctx.ty(mask), ctx.ty(x))));
    }
    if !own[..2].iter().all(|size| size.is(1)) {
        return Err(unsupported("a mask that is not one for all images and channels"));
    }
    let (window, _) = pool::window(ctx, node, x)?;
    let elements = window.kernel.iter().product::<usize>();
    if elements > MOST {
        return Err(unsupported(format!("windows of {elements} elements; {MOST} are the most")));
    }
    let lowest = ctx.scalar_like(x, f64::from(f32::MIN));
    let open = with_first(ctx, mask)?;
    let (x, open) = (window.padded(ctx, x, f64::from(f32::MIN))?, window.padded(ctx, open, 1.0)?);
    let (yes, spatial) = (ctx.scalar(DType::I32, 1.0), 2..shape.len());
    let all = |list: &[usize]| [0, 0].iter().chain(list).map(|&size| Dim::from(size)).collect::<Vec<_>>();
    let padded = |ctx: &mut Ctx<'a, '_>, x: Value, fill: Value| ctx.pad(x, fill, all(&window.low), all(&window.high));
    let (x, open) = (padded(ctx, x, lowest)?, padded(ctx, open, yes)?);
    let mut sizes = ctx.shape(x);
    for axis in spatial {
        let room = sizes[axis].clone() - Dim::from(window.kernel[axis - 2]);
        sizes[axis] = room.floor_div(&Dim::from(window.strides[axis - 2])) + Dim::ONE;
    }
    let tap = |ctx: &mut Ctx<'a, '_>, x: Value, at: &[usize]| {
        let mut sizes = sizes.clone();
        sizes[..2].clone_from_slice(&ctx.shape(x)[..2]);
        let steps = [1, 1].into_iter().chain(window.strides.iter().map(|&stride| stride as i64)).collect();
        ctx.add(Op::Slice { starts: all(at), sizes, steps }, &[x])
    };
    let (mut best, mut alive) = (lowest, None);
    for at in places(&window.kernel) {
        if at.last() == Some(&0) {
            alive = None;
        }
        let (value, here) = (tap(ctx, x, &at)?, tap(ctx, open, &at)?);
        let here = ctx.with_scalar(BinaryFn::Ne, here, 0.0)?;
        let counts = match alive {
            Some(alive) => ctx.binary(BinaryFn::And, alive, here)?,
            None => here,
        };
        alive = Some(counts);
        let value = ctx.select(counts, value, lowest)?;
        best = ctx.binary(BinaryFn::Max, best, value)?;
    }
    Ok(best)
}

/// The mask with a 1 for the first element.
fn with_first(ctx: &mut Ctx<'_, '_>, mask: Value) -> Outcome<Value> {
    let shape = ctx.shape(mask);
    let flat = ctx.iota(DType::I32, &[Dim::product(&shape)], 0)?;
    let is_first = ctx.with_scalar(BinaryFn::Eq, flat, 0.0)?;
    let is_first = ctx.reshape(is_first, &shape)?;
    let one = ctx.scalar_like(mask, 1.0);
    ctx.select(is_first, one, mask)
}

/// The places of a window, the last axis counting fastest.
fn places(kernel: &[usize]) -> Vec<Vec<usize>> {
    kernel.iter().fold(vec![Vec::new()], |places, &size| {
        places.iter().flat_map(|place| (0..size).map(move |at| [&place[..], &[at]].concat())).collect()
    })
}
