//! Attention of a decoder with time as the first axis: to itself, or to what an encoder gives, with caches.

use tarsia_graph::{BinaryFn, Value};
use tarsia_tensor::Dim;

use super::{
    attention::{Scores, attended, extended},
    masks::additive,
    row,
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
    ops::{
        Importer::Values,
        Rows,
        attention::{Heads, head_count, joined_heads, scale, split_heads},
        contract::product,
    },
};

pub(super) const ROWS: Rows = &[row("DecoderAttention", Values(decoder_attention))];

/// Query `[length, batch, width]`, and keys and values of the same (or of the second input), of the cache, or of both; and the new caches.
fn decoder_attention<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let flag = |input: usize, name: &str| match ctx.known(node, input).and_then(|known| known.only()?.as_const()) {
        Some(flag) => Ok(flag != 0),
        None => Err(unsupported(format!("`{name}` as run-time data"))),
    };
    let (crosses, uses_past) = (flag(8, "static_kv")?, flag(9, "use_past")?);
    let (has_state, has_mask) = (flag(10, "has_layer_state")?, flag(11, "has_key_padding_mask")?);
    let count = head_count(node, "num_heads")?;
    let (x, bias) = (ctx.value(node, 0)?, ctx.value(node, 4)?);
    let Ok([_, _, width]) = <[Dim; 3]>::try_from(ctx.shape(x)) else {
        return Err(invalid("its query has not 3 axes"));
    };
    let projected = |ctx: &mut Ctx<'a, '_>, x: usize, weights: usize, starts: &[i64]| -> Outcome<Vec<Value>> {
        let (x, weights) = (ctx.value(node, x)?, ctx.value(node, weights)?);
        let dtype = ctx.dtype(x);
        let y = product(ctx, x, weights, dtype)?;
        let y = ctx.transpose(y, &[1, 0, 2])?;
        let first = starts.first().copied().unwrap_or_default();
        let part = |ctx: &mut Ctx<'a, '_>, start: &i64| {
            let own = ctx.slice_axis(y, 2, width.clone() * Dim::Const(start - first), width.clone(), 1)?;
            let bias = ctx.slice_axis(bias, 0, width.clone() * Dim::Const(*start), width.clone(), 1)?;
            let own = ctx.binary(BinaryFn::Add, own, bias)?;
            split_heads(ctx, own, &count)
        };
        starts.iter().map(|start| part(ctx, start)).collect()
    };
    let q = projected(ctx, 0, 2, &[0])?[0];
    let cached = has_state && uses_past;
    let mut keys = match (cached, crosses) {
        (true, true) => vec![ctx.value(node, 6)?, ctx.value(node, 7)?],
        (_, crosses) => projected(ctx, usize::from(crosses), 3, &[1, 2])?,
    };
    if cached && !crosses {
        for (key, cache) in keys.iter_mut().zip([6, 7]) {
            let cache = ctx.value(node, cache)?;
            *key = extended(ctx, Some(cache), *key, None)?;
        }
    }
    let (k, v) = (keys[0], keys[1]);
    let mask = if has_mask { Some(padding(ctx, node)?) } else { None };
    let heads = Heads { q, k, v, scale: scale(ctx, node, q)? };
    let (y, _) = attended(ctx, &heads, &Scores { mask, ..Scores::default() })?;
    let y = joined_heads(ctx, y)?;
    Ok(vec![ctx.transpose(y, &[1, 0, 2])?, k, v])
}

/// The additive mask of keys that are padding, `[batch, 1, 1, keys]`.
fn padding<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let is_padding = ctx.value(node, 5)?;
    let Ok([batch, keys]) = <[Dim; 2]>::try_from(ctx.shape(is_padding)) else {
        return Err(invalid("its mask has not 2 axes"));
    };
    let is_padding = ctx.reshape(is_padding, &[batch, Dim::ONE, Dim::ONE, keys])?;
    let seen = ctx.unary(tarsia_graph::UnaryFn::Not, is_padding)?;
    additive(ctx, seen, node.attr_f32_or("mask_filter_value", -10000.0)?.into())
}
