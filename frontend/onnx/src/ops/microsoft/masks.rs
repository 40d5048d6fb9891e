//! Which keys a query sees, as masks that are added to the scores.

use tarsia_graph::{BinaryFn, Value};
use tarsia_tensor::{DType, Dim};

use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
    ops::attention::Heads,
};

/// `0` where a key is seen, else `filter`.
pub(super) fn additive(ctx: &mut Ctx<'_, '_>, seen: Value, filter: f64) -> Outcome<Value> {
    let (open, closed) = (ctx.scalar(DType::F32, 0.0), ctx.scalar(DType::F32, filter));
    ctx.select(seen, open, closed)
}

/// The sum of additive masks, those that are there.
pub(super) fn joined(ctx: &mut Ctx<'_, '_>, masks: &[Option<Value>]) -> Outcome<Option<Value>> {
    let mut all = None;
    for mask in masks.iter().flatten() {
        let mask = ctx.cast(*mask, DType::F32)?;
        all = Some(match all {
            Some(all) => ctx.binary(BinaryFn::Add, all, mask)?,
            None => mask,
        });
    }
    Ok(all)
}

/// The additive mask of keys that are padding: the number of keys, their ends and starts, or what is not 0 for the keys that are
/// seen, by batch, query and key.
pub(super) fn padding<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    input: usize,
    heads: &Heads,
) -> Outcome<Option<Value>> {
    let Some(mask) = ctx.value_opt(node, input)? else { return Ok(None) };
    let filter = f64::from(node.attr_f32_or("mask_filter_value", -10000.0)?);
    let (shape, batch) = (ctx.shape(mask), ctx.size(heads.q, 0)?);
    let (queries, keys) = (ctx.size(heads.q, 2)?, ctx.size(heads.k, 2)?);
    let seen = match shape.as_slice() {
        [count] => {
            let mask = ctx.cast(mask, DType::I64)?;
            let at = ctx.iota(DType::I64, &[Dim::ONE, Dim::ONE, Dim::ONE, keys], 3)?;
            let column = [batch.clone(), Dim::ONE, Dim::ONE, Dim::ONE];
            let ends = ctx.slice_axis(mask, 0, Dim::ZERO, batch.clone(), 1)?;
            let ends = ctx.reshape(ends, &column)?;
            let mut seen = ctx.binary(BinaryFn::Lt, at, ends)?;
            if *count == Dim::Const(2) * batch.clone() && *count != batch {
                let starts = ctx.slice_axis(mask, 0, batch.clone(), batch, 1)?;
                let starts = ctx.reshape(starts, &column)?;
                let after = ctx.binary(BinaryFn::Ge, at, starts)?;
                seen = ctx.binary(BinaryFn::And, seen, after)?;
            }
            seen
        }
        [batch, keys] => {
            let mask = ctx.reshape(mask, &[batch.clone(), Dim::ONE, Dim::ONE, keys.clone()])?;
            ctx.with_scalar(BinaryFn::Ne, mask, 0.0)?
        }
        [_, _, _] => {
            let mask = ctx.unsqueeze(mask, 1)?;
            ctx.with_scalar(BinaryFn::Ne, mask, 0.0)?
        }
        [_, _, _, _] => {
            let mask = ctx.slice_axis(mask, 2, keys.clone() - queries.clone(), queries, 1)?;
            let mask = ctx.slice_axis(mask, 3, Dim::ZERO, keys, 1)?;
            ctx.with_scalar(BinaryFn::Ne, mask, 0.0)?
        }
        shape => return Err(invalid(format!("its mask has {} axes", shape.len()))),
    };
    additive(ctx, seen, filter).map(Some)
}

/// The mask that hides from each query the keys after it, where the last query meets the last key.
pub(super) fn causal<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    heads: &Heads,
    past: Option<Value>,
) -> Outcome<Option<Value>> {
    if !node.attr_bool_or("unidirectional", false)? {
        return Ok(None);
    }
    let (queries, keys) = (ctx.size(heads.q, 2)?, ctx.size(heads.k, 2)?);
    let before = match past {
        Some(past) => past,
        None => ctx.dim_scalar(&(keys.clone() - queries.clone()), DType::I64)?,
    };
    let own = ctx.iota(DType::I64, &[queries, Dim::ONE], 0)?;
    let own = ctx.binary(BinaryFn::Add, own, before)?;
    let at = ctx.iota(DType::I64, &[Dim::ONE, keys], 1)?;
    let seen = ctx.binary(BinaryFn::Le, at, own)?;
    additive(ctx, seen, f64::NEG_INFINITY).map(Some)
}
