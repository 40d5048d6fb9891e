//! Decoders: attention with grouped heads over a cache of keys and values, and the embeddings of positions.

use tarsia_graph::{BinaryFn, Op, Real, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    attention::{Scores, Stage, attended, length, placed},
    cache::Codes,
    masks::joined,
    row,
};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, Stop, invalid, unsupported},
    ops::{
        Importer::{One, Values},
        Rows,
        attention::{Heads, head_count, joined_heads, scale, split_heads},
        transformer::turned_in_part,
    },
};

pub(super) const ROWS: Rows = &[
    row("GatedRelativePositionBias", One(gated_position_bias)),
    row("GemmaRotaryEmbedding", Values(gemma_rotary)),
    row("GroupQueryAttention", Values(group_query)),
    row("RelativePositionBias", One(position_bias)),
    row("RotaryEmbedding", One(rotary)),
];

/// Rows of a cache of cosines or sines, `[…, heads axis, …, half]`, at positions `[batch, length]`.
fn rows(ctx: &mut Ctx<'_, '_>, cache: Value, positions: Value, heads_axis: usize) -> Outcome<Value> {
    let rows = ctx.add(Op::Gather { axis: 0 }, &[cache, positions])?;
    ctx.unsqueeze(rows, heads_axis)
}

fn rotary<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, positions) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let (cos, sin) = (ctx.value(node, 2)?, ctx.value(node, 3)?);
    let given = ctx.shape(x);
    let turned = ctx.size(cos, 1)? * Dim::Const(2);
    let (split, heads_axis, length) = match given.as_slice() {
        [_, _, length, _] => (x, 1, length.clone()),
        [batch, length, joined] => {
            let count = match node.attr_int_or("num_heads", 0)? {
                0 => joined.floor_div(&turned),
                count if count > 0 => Dim::Const(count),
                count => return Err(invalid(format!("`num_heads` is {count}"))),
            };
            let size = joined.floor_div(&count);
            (ctx.reshape(x, &[batch.clone(), length.clone(), count, size])?, 2, length.clone())
        }
        shape => return Err(invalid(format!("its input has {} axes, not 3 or 4", shape.len()))),
    };
    let positions = ctx.cast(positions, DType::I64)?;
    // One position is that of the first element.
    let positions = if ctx.rank(positions) == 2 {
        positions
    } else {
        let first = ctx.reshape(positions, &[Dim::ONE, Dim::ONE])?;
        let own = ctx.iota(DType::I64, &[Dim::ONE, length], 1)?;
        ctx.binary(BinaryFn::Add, first, own)?
    };
    let caches = [rows(ctx, cos, positions, heads_axis)?, rows(ctx, sin, positions, heads_axis)?];
    let y = turned_in_part(ctx, split, &turned, caches, node.attr_bool_or("interleaved", false)?)?;
    let y = match node.attr_f32_or("scale", 1.0)? {
        1.0 => y,
        scale => ctx.with_scalar(BinaryFn::Mul, y, scale.into())?,
    };
    ctx.reshape(y, &given)
}

/// `x·cos + rotated·sin` for queries and keys, with cosine and sine of the given angles.
fn gemma_rotary<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let angles = ctx.value(node, 0)?;
    let angles = ctx.unsqueeze(angles, 1)?;
    let (sin, cos) = (ctx.unary(UnaryFn::Sin, angles)?, ctx.unary(UnaryFn::Cos, angles)?);
    let mut turned = |x: usize| -> Outcome<Value> {
        let (x, rotated) = (ctx.value(node, x)?, ctx.value(node, x + 1)?);
        let dtype = ctx.dtype(x);
        let (cos, sin) = (ctx.cast(cos, dtype)?, ctx.cast(sin, dtype)?);
        let (a, b) = (ctx.binary(BinaryFn::Mul, x, cos)?, ctx.binary(BinaryFn::Mul, rotated, sin)?);
        ctx.binary(BinaryFn::Add, a, b)
    };
    Ok(vec![turned(1)?, turned(3)?])
}

/// Where a step of a decoder stands.
pub(super) struct Step {
    /// How many elements each batch has before the new ones: `[batch, 1]`, or one for all.
    pub before: Value,
    /// How many it has with them: `[batch, 1]`.
    pub total: Value,
}

impl Step {
    /// With so many elements in all, `[batch, 1]`: all new elements are the first ones where there are as many as the most that any batch
    /// has.
    pub fn of(ctx: &mut Ctx<'_, '_>, total: Value, most: Value, new: &Dim) -> Outcome<Step> {
        let zero = ctx.scalar(DType::I64, 0.0);
        let length = ctx.dim_scalar(new, DType::I64)?;
        let before = ctx.binary(BinaryFn::Sub, total, length)?;
        let first = ctx.binary(BinaryFn::Eq, most, length)?;
        Ok(Step { before: ctx.select(first, zero, before)?, total })
    }
}

fn group_query<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    refuse(ctx, node)?;
    let mut heads = grouped_operands(ctx, node)?;
    let past = match (ctx.value_opt(node, 3)?, ctx.value_opt(node, 4)?) {
        (Some(k), Some(v)) if !ctx.size(k, 2)?.is(0) => Some(roomy(ctx, node, k, v)?),
        _ => None,
    };
    let step = step(ctx, node, past.is_some(), &heads)?;
    if node.attr_bool_or("do_rotary", false)? {
        turn(ctx, node, &mut heads, &step, [Some(7), Some(8), Some(9)])?;
    }
    let (k_codes, v_codes) =
        (Codes::of(ctx, node, "k_quant_type", 3, 12)?, Codes::of(ctx, node, "v_quant_type", 4, 13)?);
    let (mut k, mut v) = (k_codes.of_numbers(ctx, heads.k)?, v_codes.of_numbers(ctx, heads.v)?);
    if let Some(past) = past {
        k = remembered(ctx, past.k, k, &past.capacity, &step)?;
        v = remembered(ctx, past.v, v, &past.capacity, &step)?;
    }
    let dtype = ctx.dtype(heads.q);
    (heads.k, heads.v) = (k_codes.numbers(ctx, k, dtype)?, v_codes.numbers(ctx, v, dtype)?);
    let mask = visible(ctx, node, &heads, &step)?;
    let bias = match ctx.value_opt(node, 10)? {
        Some(bias) => Some(lengthened(ctx, bias, heads.k)?),
        None => None,
    };
    let sink = match ctx.value_opt(node, 11)? {
        Some(sink) => Some(sink),
        None if node.attr_int_or("smooth_softmax", -1)? == 1 => {
            let (zero, count) = (ctx.scalar_like(heads.q, 0.0), ctx.size(heads.q, 1)?);
            Some(ctx.broadcast(zero, &[count])?)
        }
        None => None,
    };
    let wanted = match node.attr_int_or("qk_output", 0)? {
        1 if node.output(3).is_some() => Some(Stage::Logits),
        2 if node.output(3).is_some() => Some(Stage::Weights),
        _ => None,
    };
    let mask = joined(ctx, &[Some(mask), bias])?;
    let cap = node.attr_f32_or("softcap", 0.0)?.into();
    let (y, shown) = attended(ctx, &heads, &Scores { mask, cap, sink, wanted })?;
    Ok([joined_heads(ctx, y)?, k, v].into_iter().chain(shown).collect())
}

/// Refuses forms that no import has.
fn refuse<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>) -> Outcome<()> {
    if node.attr_bool_or("sliding_window_cache", false)? || ctx.item(node, 16).is_some() {
        return Err(unsupported("a cache that forgets, or chunks with lengths of their own"));
    }
    Ok(())
}

/// Query, key and value, which may be packed into one, normalised by head where there are weights for that.
pub(super) fn grouped_operands<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Heads> {
    let (queries, keys) = (head_count(node, "num_heads")?, head_count(node, "kv_num_heads")?);
    let q = ctx.value(node, 0)?;
    let (q, k, v) = match (ctx.value_opt(node, 1)?, ctx.value_opt(node, 2)?) {
        (Some(k), Some(v)) => (q, k, v),
        _ => {
            let size = ctx.size(q, 2)?.floor_div(&(queries.clone() + Dim::Const(2) * keys.clone()));
            let (wide, narrow) = (queries.clone() * size.clone(), keys.clone() * size);
            let k = ctx.slice_axis(q, 2, wide.clone(), narrow.clone(), 1)?;
            let v = ctx.slice_axis(q, 2, wide.clone() + narrow.clone(), narrow, 1)?;
            (ctx.slice_axis(q, 2, Dim::ZERO, wide, 1)?, k, v)
        }
    };
    let (mut q, mut k, v) = (split_heads(ctx, q, &queries)?, split_heads(ctx, k, &keys)?, split_heads(ctx, v, &keys)?);
    let usual = node.attr_f32_or("qk_norm_epsilon", 1e-6)?;
    for (x, weight, epsilon) in [(&mut q, 14, "q_norm_epsilon"), (&mut k, 15, "k_norm_epsilon")] {
        if let Some(weight) = ctx.value_opt(node, weight)? {
            let epsilon = Real(node.attr_f32_or(epsilon, usual)?.into());
            *x = ctx.add(Op::RmsNorm { axis: 3, epsilon }, &[*x, weight])?;
        }
    }
    let scale = scale(ctx, node, q)?;
    Ok(Heads { q, k, v, scale })
}

/// Keys and values of the past, and how many there are with the new ones.
struct Past {
    k: Value,
    v: Value,
    capacity: Dim,
}

/// The past, in a buffer that has room for the new ones: run-time data may say how large.
fn roomy<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, k: Value, v: Value) -> Outcome<Past> {
    let room = ctx.size(k, 2)?;
    if let Some(total) = ctx.known(node, 6).and_then(|known| known.only().cloned()) {
        return Ok(Past { k, v, capacity: room.maximum(&total) });
    }
    let total = length(ctx, node, 6)?.ok_or(Stop::Fault(Fault::MissingInput(6)))?;
    let room = ctx.dim_scalar(&room, DType::I64)?;
    let missing = ctx.binary(BinaryFn::Sub, total, room)?;
    let missing = ctx.with_scalar(BinaryFn::Max, missing, 0.0)?;
    let missing = ctx.reshape(missing, &[Dim::ONE])?;
    let (before, last) = (ctx.ints(&[0; 6])?, ctx.ints(&[0])?);
    let amounts = ctx.concat(&[before, missing, last], 0)?;
    let capacity = ctx.fresh("kept");
    let mut padded = |x: Value| -> Outcome<Value> {
        let mut ty = ctx.ty(x).clone();
        ty.shape[2] = capacity.clone();
        let zero = ctx.scalar_like(x, 0.0);
        let op = Op::Host { function: "pad".into(), ints: vec![0], reals: Vec::new(), types: vec![ty] };
        ctx.add(op, &[x, amounts, zero])
    };
    let (k, v) = (padded(k)?, padded(v)?);
    Ok(Past { k, v, capacity })
}

/// The lengths before and after.
fn step<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, follows: bool, heads: &Heads) -> Outcome<Step> {
    let (batch, new) = (ctx.size(heads.q, 0)?, ctx.size(heads.q, 2)?);
    let totals = ctx.value(node, 5)?;
    let totals = ctx.cast(totals, DType::I64)?;
    let totals = ctx.reshape(totals, &[batch, Dim::ONE])?;
    let total = ctx.with_scalar(BinaryFn::Add, totals, 1.0)?;
    if !follows {
        return Ok(Step { before: ctx.scalar(DType::I64, 0.0), total });
    }
    let most = length(ctx, node, 6)?.ok_or(Stop::Fault(Fault::MissingInput(6)))?;
    Step::of(ctx, total, most, &new)
}

/// Turns queries and keys by the angles of their positions: the inputs of cosines, sines and positions.
pub(super) fn turn<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    heads: &mut Heads,
    step: &Step,
    [cos, sin, positions]: [Option<usize>; 3],
) -> Outcome<()> {
    let mut input = |input: Option<usize>| match input {
        Some(input) => ctx.value_opt(node, input),
        None => Ok(None),
    };
    let (Some(cos), Some(sin), positions) = (input(cos)?, input(sin)?, input(positions)?) else {
        return Err(invalid("`do_rotary` without cosines and sines"));
    };
    let positions = match positions {
        Some(positions) => ctx.cast(positions, DType::I64)?,
        None => {
            let length = ctx.size(heads.q, 2)?;
            let own = ctx.iota(DType::I64, &[Dim::ONE, length], 1)?;
            ctx.binary(BinaryFn::Add, own, step.before)?
        }
    };
    let turned = ctx.size(cos, 1)? * Dim::Const(2);
    let caches = [rows(ctx, cos, positions, 1)?, rows(ctx, sin, positions, 1)?];
    let interleaved = node.attr_bool_or("rotary_interleaved", false)?;
    heads.q = turned_in_part(ctx, heads.q, &turned, caches, interleaved)?;
    heads.k = turned_in_part(ctx, heads.k, &turned, caches, interleaved)?;
    Ok(())
}

/// The past and the new ones after it, in the buffer of the past where that has room for them.
pub(super) fn remembered(
    ctx: &mut Ctx<'_, '_>,
    past: Value,
    new: Value,
    capacity: &Dim,
    step: &Step,
) -> Outcome<Value> {
    let (room, length) = (ctx.size(past, 2)?, ctx.size(new, 2)?);
    if ctx.size(new, 0)?.is(1) && *capacity == room + length {
        return ctx.concat(&[past, new], 2);
    }
    let batch = ctx.size(step.before, 0)?;
    let start = ctx.reshape(step.before, &[batch, Dim::ONE, Dim::ONE, Dim::ONE])?;
    placed(ctx, past, new, start, capacity)
}

/// The additive mask `[batch, 1, queries, keys]` of the keys that a query sees: those up to it, not too far back.
fn visible<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, heads: &Heads, step: &Step) -> Outcome<Value> {
    let (queries, keys) = (ctx.size(heads.q, 2)?, ctx.size(heads.k, 2)?);
    let at = ctx.iota(DType::I64, &[Dim::ONE, Dim::ONE, Dim::ONE, keys], 3)?;
    let column = |ctx: &mut Ctx<'a, '_>, x: Value| -> Outcome<Value> {
        if ctx.rank(x) == 0 {
            return Ok(x);
        }
        let batch = ctx.size(x, 0)?;
        ctx.reshape(x, &[batch, Dim::ONE, Dim::ONE, Dim::ONE])
    };
    let seen = if node.attr_bool_or("causal", true)? {
        let before = column(ctx, step.before)?;
        let own = ctx.iota(DType::I64, &[Dim::ONE, Dim::ONE, queries, Dim::ONE], 2)?;
        let own = ctx.binary(BinaryFn::Add, own, before)?;
        let mut seen = ctx.binary(BinaryFn::Le, at, own)?;
        let window = node.attr_int_or("local_window_size", -1)?;
        if window > 0 {
            let distance = ctx.binary(BinaryFn::Sub, own, at)?;
            let near = ctx.with_scalar(BinaryFn::Lt, distance, window as f64)?;
            seen = ctx.binary(BinaryFn::And, seen, near)?;
        }
        seen
    } else {
        let total = column(ctx, step.total)?;
        ctx.binary(BinaryFn::Lt, at, total)?
    };
    let (open, closed) = (ctx.scalar(DType::F32, 0.0), ctx.scalar(DType::F32, f64::NEG_INFINITY));
    ctx.select(seen, open, closed)
}

/// A bias for the largest length as one for all keys of a buffer.
fn lengthened(ctx: &mut Ctx<'_, '_>, bias: Value, keys: Value) -> Outcome<Value> {
    let zero = ctx.scalar_like(bias, 0.0);
    let rank = ctx.rank(bias);
    let last = rank.checked_sub(1).ok_or_else(|| invalid("its bias has no axes"))?;
    let mut high = vec![Dim::ZERO; rank];
    high[last] = ctx.size(keys, 2)? - ctx.size(bias, last)?;
    ctx.pad(bias, zero, vec![Dim::ZERO; rank], high)
}

/// T5's bias of the distance between query and key, by buckets: half of them one distance each, the others ever wider ones.
fn position_bias<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let table = ctx.value(node, 0)?;
    let known = |input: usize| ctx.known(node, input).and_then(|known| known.only().cloned());
    let (Some(queries), Some(keys)) = (known(1), known(2)) else {
        return Err(unsupported("lengths that run-time data give"));
    };
    let both = node.attr_bool_or("is_bidirectional", false)?;
    let most = node.attr_int("max_distance")? as f64;
    let all = ctx.size(table, 0)?.as_const().filter(|&count| count > 1);
    let all = all.ok_or_else(|| unsupported("a table whose size is not known"))?;
    let buckets = if both { all / 2 } else { all };
    let exact = (buckets / 2) as f64;
    let shape = [queries, keys];
    let (own, at) = (ctx.iota(DType::I64, &shape, 0)?, ctx.iota(DType::I64, &shape, 1)?);
    let relative = ctx.binary(BinaryFn::Sub, at, own)?;
    let distance = if both {
        ctx.unary(UnaryFn::Abs, relative)?
    } else {
        let behind = ctx.with_scalar(BinaryFn::Min, relative, 0.0)?;
        ctx.unary(UnaryFn::Neg, behind)?
    };
    let wide = ctx.cast(distance, DType::F32)?;
    let ratio = ctx.with_scalar(BinaryFn::Div, wide, exact)?;
    let ratio = ctx.with_scalar(BinaryFn::Max, ratio, 1.0)?;
    let log = ctx.unary(UnaryFn::Log, ratio)?;
    let log = ctx.with_scalar(BinaryFn::Div, log, f64::from(((most / exact) as f32).ln()))?;
    let far = ctx.with_scalar(BinaryFn::Mul, log, buckets as f64 - exact)?;
    let far = ctx.cast(far, DType::I64)?;
    let far = ctx.with_scalar(BinaryFn::Add, far, exact)?;
    let far = ctx.with_scalar(BinaryFn::Min, far, (buckets - 1) as f64)?;
    let near = ctx.with_scalar(BinaryFn::Lt, distance, exact)?;
    let mut bucket = ctx.select(near, distance, far)?;
    if both {
        let ahead = ctx.with_scalar(BinaryFn::Gt, relative, 0.0)?;
        let ahead = ctx.cast(ahead, DType::I64)?;
        let ahead = ctx.with_scalar(BinaryFn::Mul, ahead, buckets as f64)?;
        bucket = ctx.binary(BinaryFn::Add, bucket, ahead)?;
    }
    let bias = ctx.add(Op::Gather { axis: 0 }, &[table, bucket])?;
    let bias = ctx.transpose(bias, &[2, 0, 1])?;
    ctx.unsqueeze(bias, 0)
}

/// A bias of positions with a gate that the queries decide.
fn gated_position_bias<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    if ctx.item(node, 6).is_some() {
        return Err(unsupported("`token_offset`; unpack the tokens before this node"));
    }
    let (q, bias, positions) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let (weight, gate_bias, eco) = (ctx.value(node, 3)?, ctx.value(node, 4)?, ctx.value(node, 5)?);
    let q = ctx.binary(BinaryFn::Add, q, bias)?;
    let q = split_heads(ctx, q, &head_count(node, "num_heads")?)?;
    let gates = ctx.contract("bhsd,dg->bhsg", q, weight)?;
    let gates = ctx.binary(BinaryFn::Add, gates, gate_bias)?;
    let mut shape = ctx.shape(gates);
    let width = shape[3].floor_div(&Dim::Const(2));
    shape.truncate(3);
    shape.extend([Dim::Const(2), width]);
    let gates = ctx.reshape(gates, &shape)?;
    let gates = ctx.reduce(tarsia_graph::ReduceFn::Sum, gates, &[4])?;
    let gates = ctx.squeeze(gates, &[4])?;
    let gates = ctx.unary(UnaryFn::Sigmoid, gates)?;
    let update = ctx.slice_axis(gates, 3, Dim::ZERO, Dim::ONE, 1)?;
    let reset = ctx.slice_axis(gates, 3, Dim::ONE, Dim::ONE, 1)?;
    let inner = ctx.binary(BinaryFn::Mul, reset, eco)?;
    let inner = ctx.with_scalar(BinaryFn::Sub, inner, 1.0)?;
    let gate = ctx.binary(BinaryFn::Mul, update, inner)?;
    let gate = ctx.with_scalar(BinaryFn::Add, gate, 2.0)?;
    ctx.binary(BinaryFn::Mul, gate, positions)
}
