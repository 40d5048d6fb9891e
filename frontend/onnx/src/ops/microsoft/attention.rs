//! The attentions that onnxruntime's optimiser writes: heads behind each other in one axis, projections that may be part of the
//! operator, padding masks in several forms.
//!
//! All become `[batch, heads, length, size]` operands and one additive mask for the `attention` op; where scores are capped, joined
//! by a sink, or handed out, the same is spelled out.

use tarsia_graph::{BinaryFn, Op, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    masks::{additive, causal, joined, padding},
    row,
};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, Stop, invalid, unsupported},
    ops::{
        Importer::Values,
        Rows,
        attention::{Heads, capped_scores, head_count, joined_heads, products, scale, split_heads, weighted},
        contract::product,
        quantize::{Quantised, per_column, product_of_quantised},
    },
};

pub(super) const ROWS: Rows = &[
    row("Attention", Values(attention)),
    row("DecoderMaskedMultiHeadAttention", Values(decoder_attention)),
    row("DecoderMaskedSelfAttention", Values(attention)),
    row("MultiHeadAttention", Values(multi_head)),
    row("QAttention", Values(quantised_attention)),
];

/// What attention has beside its heads.
#[derive(Clone, Copy, Default)]
pub(super) struct Scores {
    /// Additive, broadcastable to the scores.
    pub mask: Option<Value>,
    /// The bound of the scores, if it is positive.
    pub cap: f64,
    /// One more score per head `[heads]`, whose weight belongs to no key.
    pub sink: Option<Value>,
    /// Whether the scores are wanted: before the softmax, or as weights.
    pub wanted: Option<Stage>,
}

/// Which scores are handed out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Logits,
    Weights,
}

/// `[batch, heads, queries, size]`, and the scores that are wanted.
pub(super) fn attended(ctx: &mut Ctx<'_, '_>, heads: &Heads, scores: &Scores) -> Outcome<(Value, Option<Value>)> {
    let dtype = ctx.dtype(heads.q);
    if scores.cap <= 0.0 && scores.sink.is_none() && scores.wanted.is_none() {
        let mut operands = vec![heads.q, heads.k, heads.v];
        if let Some(mask) = scores.mask {
            operands.push(ctx.cast(mask, dtype)?);
        }
        return Ok((ctx.attention(heads.scale, operands)?, None));
    }
    let mut logits = products(ctx, heads)?;
    if scores.cap > 0.0 {
        logits = capped_scores(ctx, logits, scores.cap)?;
    }
    if let Some(mask) = scores.mask {
        let mask = ctx.cast(mask, ctx.dtype(logits))?;
        logits = ctx.binary(BinaryFn::Add, logits, mask)?;
    }
    let weights = match scores.sink {
        Some(sink) => with_sink(ctx, logits, sink)?,
        None => ctx.add(Op::Softmax { axis: 3 }, &[logits])?,
    };
    let weights = ctx.cast(weights, dtype)?;
    let shown = match scores.wanted {
        Some(Stage::Logits) => Some(ctx.cast(logits, dtype)?),
        Some(Stage::Weights) => Some(weights),
        None => None,
    };
    Ok((weighted(ctx, weights, heads.v)?, shown))
}

/// The softmax with one more score per head.
fn with_sink(ctx: &mut Ctx<'_, '_>, logits: Value, sink: Value) -> Outcome<Value> {
    let shape = ctx.shape(logits);
    let sink = ctx.cast(sink, ctx.dtype(logits))?;
    let sink = ctx.reshape(sink, &[Dim::ONE, shape[1].clone(), Dim::ONE, Dim::ONE])?;
    let sink = ctx.broadcast(sink, &[shape[0].clone(), shape[1].clone(), shape[2].clone(), Dim::ONE])?;
    let all = ctx.concat(&[logits, sink], 3)?;
    let weights = ctx.add(Op::Softmax { axis: 3 }, &[all])?;
    ctx.slice_axis(weights, 3, Dim::ZERO, shape[3].clone(), 1)
}

/// The keys or values of all steps: the past ones and then the new ones; or a buffer for more, whose elements from `length` on are
/// replaced.
pub(super) fn extended(
    ctx: &mut Ctx<'_, '_>,
    past: Option<Value>,
    new: Value,
    length: Option<Value>,
) -> Outcome<Value> {
    let Some(past) = past else { return Ok(new) };
    match length {
        Some(length) => {
            let capacity = ctx.size(past, 2)?;
            placed(ctx, past, new, length, &capacity)
        }
        None => ctx.concat(&[past, new], 2),
    }
}

/// `[batch, heads, capacity, size]` with the first elements of `past`, from `start` on (one for all, or `[batch, 1, 1, 1]`) those of
/// `new`, and what `past` has after them.
pub(super) fn placed(ctx: &mut Ctx<'_, '_>, past: Value, new: Value, start: Value, capacity: &Dim) -> Outcome<Value> {
    let (shape, room) = (ctx.shape(new), ctx.size(past, 2)?);
    let zero = ctx.scalar_like(past, 0.0);
    let mut high = vec![Dim::ZERO; 4];
    high[2] = (capacity.clone() - room).maximum(&Dim::ZERO);
    let past = ctx.pad(past, zero, vec![Dim::ZERO; 4], high)?;
    let at = ctx.iota(DType::I64, &[Dim::ONE, Dim::ONE, capacity.clone(), Dim::ONE], 2)?;
    let from = ctx.binary(BinaryFn::Sub, at, start)?;
    let last = ctx.dim_scalar(&(shape[2].clone() - Dim::ONE), DType::I64)?;
    let (low, fits) = (ctx.with_scalar(BinaryFn::Ge, from, 0.0)?, ctx.binary(BinaryFn::Le, from, last)?);
    let is_new = ctx.binary(BinaryFn::And, low, fits)?;
    let kept = ctx.binary(BinaryFn::Min, from, last)?;
    let kept = ctx.with_scalar(BinaryFn::Max, kept, 0.0)?;
    let whole = [shape[0].clone(), shape[1].clone(), capacity.clone(), shape[3].clone()];
    let places = ctx.broadcast(kept, &whole)?;
    let new = ctx.add(Op::TakeAlong { axis: 2 }, &[new, places])?;
    ctx.select(is_new, new, past)
}

/// A length that is run-time data, as an i64 scalar.
pub(super) fn length<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, input: usize) -> Outcome<Option<Value>> {
    let Some(length) = ctx.value_opt(node, input)? else { return Ok(None) };
    let length = ctx.cast(length, DType::I64)?;
    ctx.reshape(length, &[]).map(Some)
}

/// Part `index` of an axis that is left out.
pub(super) fn part(ctx: &mut Ctx<'_, '_>, x: Value, axis: usize, index: i64) -> Outcome<Value> {
    let x = ctx.slice_axis(x, axis, Dim::Const(index), Dim::ONE, 1)?;
    ctx.squeeze(x, &[axis])
}

/// Refuses what only beams need.
fn no_beams<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, input: usize) -> Outcome<()> {
    match ctx.item(node, input) {
        Some(_) => Err(unsupported("`cache_indirection`; reorder the past by beam before this node")),
        None => Ok(()),
    }
}

/// The widths of query, key and value in a projection of `whole` columns.
fn widths<'a>(node: &Node<'a>, whole: &Dim) -> Outcome<[Dim; 3]> {
    match node.attr_ints_opt("qkv_hidden_sizes")?.filter(|sizes| !sizes.is_empty()) {
        None => {
            let third = whole.floor_div(&Dim::Const(3));
            Ok([third.clone(), third.clone(), third])
        }
        Some(&[q, k, v]) if q > 0 && k > 0 && v > 0 => Ok([Dim::Const(q), Dim::Const(k), Dim::Const(v)]),
        Some(sizes) => Err(invalid(format!("`qkv_hidden_sizes` is {sizes:?}"))),
    }
}

/// Heads of a projection `[batch, length, widths…]`.
pub(super) fn projected<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Heads> {
    let count = head_count(node, "num_heads")?;
    let whole = ctx.size(x, 2)?;
    let [q, k, v] = widths(node, &whole)?;
    let mut start = Dim::ZERO;
    let mut next = |width: Dim| -> Outcome<Value> {
        let x = ctx.slice_axis(x, 2, start.clone(), width.clone(), 1)?;
        start = start.clone() + width;
        split_heads(ctx, x, &count)
    };
    let (q, k, v) = (next(q)?, next(k)?, next(v)?);
    let scale = scale(ctx, node, q)?;
    Ok(Heads { q, k, v, scale })
}

/// `x·W + b`, the heads of it, and attention over those.
fn attention<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let (x, weights) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let dtype = ctx.dtype(x);
    let mut y = product(ctx, x, weights, dtype)?;
    if let Some(bias) = ctx.value_opt(node, 2)? {
        y = ctx.binary(BinaryFn::Add, y, bias)?;
    }
    no_beams(ctx, node, 8)?;
    let inputs = Inputs { mask: 3, past: 4, bias: Some(5), length: Some(6) };
    of_projection(ctx, node, y, &inputs)
}

/// Where inputs stand.
struct Inputs {
    mask: usize,
    past: usize,
    bias: Option<usize>,
    length: Option<usize>,
}

/// Attention over the heads of a projection and those of the past: the result, and all keys and values.
fn of_projection<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, y: Value, inputs: &Inputs) -> Outcome<Vec<Value>> {
    if node.attr_bool_or("do_rotary", false)? {
        return Err(unsupported("`do_rotary`; use a RotaryEmbedding node"));
    }
    let mut heads = projected(ctx, node, y)?;
    let past = ctx.value_opt(node, inputs.past)?;
    let shared = node.attr_bool_or("past_present_share_buffer", false)?;
    let length = match inputs.length.filter(|_| shared) {
        Some(input) => Some(length(ctx, node, input)?.ok_or(Stop::Fault(Fault::MissingInput(input)))?),
        None => None,
    };
    let (before_k, before_v) = match past {
        Some(past) => (Some(part(ctx, past, 0, 0)?), Some(part(ctx, past, 0, 1)?)),
        None => (None, None),
    };
    heads.k = extended(ctx, before_k, heads.k, length)?;
    heads.v = extended(ctx, before_v, heads.v, length)?;
    let bias = match inputs.bias {
        Some(input) => ctx.value_opt(node, input)?,
        None => None,
    };
    let y = masked(ctx, node, &heads, [Some(inputs.mask), None], bias, length)?.0;
    if node.output(1).is_none() {
        return Ok(vec![y]);
    }
    let (k, v) = (ctx.unsqueeze(heads.k, 0)?, ctx.unsqueeze(heads.v, 0)?);
    Ok(vec![y, ctx.concat(&[k, v], 0)?])
}

/// `[batch, queries, width]` of attention under the masks of a node, and its weights.
fn masked<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    heads: &Heads,
    [mask, weights]: [Option<usize>; 2],
    bias: Option<Value>,
    length: Option<Value>,
) -> Outcome<(Value, Option<Value>)> {
    let padding = match mask {
        Some(input) => padding(ctx, node, input, heads)?,
        None => None,
    };
    let causal = causal(ctx, node, heads, length)?;
    // What lies in a buffer after the new elements is nothing yet.
    let filled = match length {
        Some(length) if causal.is_none() => {
            let (queries, keys) = (ctx.size(heads.q, 2)?, ctx.size(heads.k, 2)?);
            let queries = ctx.dim_scalar(&queries, DType::I64)?;
            let end = ctx.binary(BinaryFn::Add, length, queries)?;
            let at = ctx.iota(DType::I64, &[Dim::ONE, keys], 1)?;
            let seen = ctx.binary(BinaryFn::Lt, at, end)?;
            Some(additive(ctx, seen, f64::NEG_INFINITY)?)
        }
        _ => None,
    };
    let mask = joined(ctx, &[padding, causal, filled, bias])?;
    let wanted = weights.filter(|&output| node.output(output).is_some()).map(|_| Stage::Weights);
    let (y, weights) = attended(ctx, heads, &Scores { mask, wanted, ..Scores::default() })?;
    Ok((joined_heads(ctx, y)?, weights))
}

fn quantised_attention<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let mut operand = |codes: usize, scale: usize, zero: usize| -> Outcome<Quantised> {
        let (codes, scale, zero) = (ctx.value(node, codes)?, ctx.value(node, scale)?, ctx.value_opt(node, zero)?);
        let scale = per_column(ctx, scale)?;
        let zero = zero.map(|zero| per_column(ctx, zero)).transpose()?;
        Ok(Quantised { codes, scale, zero })
    };
    let (x, weights) = (operand(0, 3, 6)?, operand(1, 4, 7)?);
    let y = product_of_quantised(ctx, x, weights, |ctx, x, weights| product(ctx, x, weights, DType::I32))?;
    let bias = ctx.value(node, 2)?;
    let y = ctx.binary(BinaryFn::Add, y, bias)?;
    of_projection(ctx, node, y, &Inputs { mask: 5, past: 8, bias: None, length: None })
}

/// Query, key and value of inputs that may be packed, with the biases of their projections.
fn operands<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, bias: Option<Value>) -> Outcome<Heads> {
    let count = head_count(node, "num_heads")?;
    let (q, k, v) = (ctx.value(node, 0)?, ctx.value_opt(node, 1)?, ctx.value_opt(node, 2)?);
    let mut start = Dim::ZERO;
    let mut biased = |ctx: &mut Ctx<'a, '_>, x: Value| -> Outcome<Value> {
        let (Some(bias), 3) = (bias, ctx.rank(x)) else { return Ok(x) };
        let width = ctx.size(x, 2)?;
        let own = ctx.slice_axis(bias, 0, start.clone(), width.clone(), 1)?;
        start = start.clone() + width;
        ctx.binary(BinaryFn::Add, x, own)
    };
    // Packed: an axis of query, key and value (or of the last two) between the heads and their elements.
    let unpacked = |ctx: &mut Ctx<'a, '_>, x: Value, index: i64| -> Outcome<Value> {
        let x = part(ctx, x, 3, index)?;
        let shape = ctx.shape(x);
        ctx.reshape(x, &[shape[0].clone(), shape[1].clone(), shape[2].clone() * shape[3].clone()])
    };
    let (q, k, v) = match (k, v) {
        _ if ctx.rank(q) == 5 => (unpacked(ctx, q, 0)?, unpacked(ctx, q, 1)?, unpacked(ctx, q, 2)?),
        (Some(kv), None) if ctx.rank(kv) == 5 => (q, unpacked(ctx, kv, 0)?, unpacked(ctx, kv, 1)?),
        (Some(k), Some(v)) => (q, k, v),
        _ => return Err(invalid("key and value are neither there nor packed with the query")),
    };
    let (q, k, v) = (biased(ctx, q)?, biased(ctx, k)?, biased(ctx, v)?);
    let mut heads = |x: Value| if ctx.rank(x) == 4 { Ok(x) } else { split_heads(ctx, x, &count) };
    let (q, k, v) = (heads(q)?, heads(k)?, heads(v)?);
    let scale = scale(ctx, node, q)?;
    Ok(Heads { q, k, v, scale })
}

/// The inputs after query, key and value.
struct Rest {
    bias: usize,
    mask: usize,
    attention_bias: usize,
    past: usize,
    length: usize,
    beams: usize,
}

fn multi_head<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    of_operands(ctx, node, &Rest { bias: 3, mask: 4, attention_bias: 5, past: 6, length: 8, beams: 9 })
}

fn decoder_attention<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    of_operands(ctx, node, &Rest { bias: 10, mask: 3, attention_bias: 4, past: 5, length: 7, beams: 9 })
}

/// The result, all keys and values, and the weights.
fn of_operands<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, rest: &Rest) -> Outcome<Vec<Value>> {
    no_beams(ctx, node, rest.beams)?;
    let bias = ctx.value_opt(node, rest.bias)?;
    let mut heads = operands(ctx, node, bias)?;
    let (past_k, past_v) = (ctx.value_opt(node, rest.past)?, ctx.value_opt(node, rest.past + 1)?);
    // A length says that the past is a buffer for more.
    let length = if past_k.is_some() { length(ctx, node, rest.length)? } else { None };
    heads.k = extended(ctx, past_k, heads.k, length)?;
    heads.v = extended(ctx, past_v, heads.v, length)?;
    let bias = ctx.value_opt(node, rest.attention_bias)?;
    let (y, weights) = masked(ctx, node, &heads, [Some(rest.mask), Some(3)], bias, length)?;
    Ok([y, heads.k, heads.v].into_iter().chain(weights).collect())
}
