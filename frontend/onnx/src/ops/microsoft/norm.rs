//! Normalisation with what is added before it: residuals, biases, embeddings.

use tarsia_graph::{BinaryFn, Op, Real, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{quantised::stands_for, row};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, axis_of, invalid},
    ops::{
        Importer::{One, Values},
        Row, Rows,
        convolution::per_channel,
        normalisation::{inverse_deviation, moments, normalised},
    },
};

pub(super) const ROWS: Rows = &[
    row("BranchwiseRMSNorm", One(branchwise_rms_norm)),
    row("EmbedLayerNormalization", Values(embed)),
    row("GatedRMSNorm", One(gated_rms_norm)),
    row("GroupNorm", One(group_norm)),
    row("QEmbedLayerNormalization", Values(quantised_embed)),
    row("SimplifiedLayerNormalization", Values(simplified)),
    // onnxruntime writes it into ONNX's own domain.
    Row::new("SimplifiedLayerNormalization", 1, Values(simplified)),
    row("SkipGroupNorm", Values(skip_group_norm)),
    row("SkipLayerNormalization", Values(skip_layer_norm)),
    row("SkipSimplifiedLayerNormalization", Values(skip_rms_norm)),
];

/// `Σ inputs`, those that are there.
fn sum<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, inputs: &[usize]) -> Outcome<Value> {
    let mut y = ctx.value(node, 0)?;
    for &input in inputs {
        if let Some(x) = ctx.value_opt(node, input)? {
            y = ctx.binary(BinaryFn::Add, y, x)?;
        }
    }
    Ok(y)
}

fn last_axis(ctx: &Ctx<'_, '_>, x: Value) -> Outcome<usize> {
    ctx.rank(x).checked_sub(1).ok_or_else(|| invalid("its input has no axes"))
}

/// The layer normalisation of the last axis.
fn layer_norm(ctx: &mut Ctx<'_, '_>, x: Value, scale: Value, bias: Option<Value>, epsilon: f32) -> Outcome<Value> {
    let axis = last_axis(ctx, x)?;
    let bias = match bias {
        Some(bias) => bias,
        None => ctx.scalar_like(x, 0.0),
    };
    ctx.add(Op::LayerNorm { axis, epsilon: Real(epsilon.into()) }, &[x, scale, bias])
}

/// The result, the mean and the inverse deviation, and what was normalised.
fn skip_layer_norm<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = sum(ctx, node, &[1, 4])?;
    let (scale, bias) = (ctx.value(node, 2)?, ctx.value_opt(node, 3)?);
    let epsilon = node.attr_f32_or("epsilon", 1e-12)?;
    let y = layer_norm(ctx, x, scale, bias, epsilon)?;
    with_statistics(ctx, node, y, x, epsilon, true)
}

fn skip_rms_norm<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = sum(ctx, node, &[1, 3])?;
    let scale = ctx.value(node, 2)?;
    let epsilon = node.attr_f32_or("epsilon", 1e-12)?;
    let axis = last_axis(ctx, x)?;
    let y = ctx.add(Op::RmsNorm { axis, epsilon: Real(epsilon.into()) }, &[x, scale])?;
    with_statistics(ctx, node, y, x, epsilon, false)
}

/// A result with the statistics that training keeps, where the node wants them, and what was normalised.
fn with_statistics<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    y: Value,
    x: Value,
    epsilon: f32,
    centred: bool,
) -> Outcome<Vec<Value>> {
    if node.output(1).is_none() && node.output(2).is_none() {
        return Ok(vec![y, y, y, x]);
    }
    let (axis, wide) = (last_axis(ctx, x)?, ctx.widen(x)?);
    let (mean, variance) = if centred {
        moments(ctx, wide, &[axis])?
    } else {
        let square = ctx.binary(BinaryFn::Mul, wide, wide)?;
        let mean = ctx.reduce(ReduceFn::Mean, wide, &[axis])?;
        (mean, ctx.reduce(ReduceFn::Mean, square, &[axis])?)
    };
    Ok(vec![y, mean, inverse_deviation(ctx, variance, epsilon)?, x])
}

/// Normalisation by the mean square, and the factor.
fn simplified<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let (x, scale) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let axis = axis_of(node.attr_int_or("axis", -1)?, ctx.rank(x))?;
    let epsilon = node.attr_f32_or("epsilon", 1e-5)?;
    let own = ctx.dtype(scale);
    let x = ctx.cast(x, own)?;
    let y = ctx.add(Op::RmsNorm { axis, epsilon: Real(epsilon.into()) }, &[x, scale])?;
    if node.output(1).is_none() {
        return Ok(vec![y]);
    }
    let wide = ctx.widen(x)?;
    let square = ctx.binary(BinaryFn::Mul, wide, wide)?;
    let axes: Vec<usize> = (axis..ctx.rank(x)).collect();
    let mean = ctx.reduce(ReduceFn::Mean, square, &axes)?;
    Ok(vec![y, inverse_deviation(ctx, mean, epsilon)?])
}

/// Rows of as many elements as the scale has, each divided by its root mean square, then gated.
fn gated_rms_norm<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, scale, gate) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let (dtype, shape) = (ctx.dtype(x), ctx.shape(x));
    let size = ctx.ty(scale).count();
    let x = ctx.cast(x, DType::F32)?;
    let y = grouped_rms_norm(ctx, x, &size, Some(scale), node.attr_f32_or("epsilon", 1e-5)?)?;
    let y = ctx.reshape(y, &shape)?;
    let gate = ctx.cast(gate, DType::F32)?;
    let gate = match node.attr_str_or("activation", "silu")? {
        "silu" | "swish" => ctx.add(Op::Silu {}, &[gate])?,
        "sigmoid" => ctx.unary(UnaryFn::Sigmoid, gate)?,
        other => return Err(invalid(format!("`activation` is `{other}`"))),
    };
    let y = ctx.binary(BinaryFn::Mul, y, gate)?;
    ctx.cast(y, dtype)
}

/// The last axis in groups of `size`: `[…, groups, size]`, divided by the root mean square of each and scaled.
fn grouped_rms_norm(ctx: &mut Ctx<'_, '_>, x: Value, size: &Dim, scale: Option<Value>, epsilon: f32) -> Outcome<Value> {
    let mut shape = ctx.shape(x);
    let last = shape.pop().ok_or_else(|| invalid("its input has no axes"))?;
    shape.extend([last.floor_div(size), size.clone()]);
    let x = ctx.reshape(x, &shape)?;
    let scale = match scale {
        Some(scale) => ctx.cast(scale, DType::F32)?,
        None => ctx.scalar(DType::F32, 1.0),
    };
    let axis = shape.len() - 1;
    let (one, epsilon) = (ctx.scalar(DType::F32, 1.0), Real(epsilon.into()));
    if ctx.rank(scale) < 2 {
        return ctx.add(Op::RmsNorm { axis, epsilon }, &[x, scale]);
    }
    let y = ctx.add(Op::RmsNorm { axis, epsilon }, &[x, one])?;
    ctx.binary(BinaryFn::Mul, y, scale)
}

/// One normalisation per branch, the last axis but one or a part of the last.
fn branchwise_rms_norm<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, scale) = (ctx.value(node, 0)?, ctx.value_opt(node, 1)?);
    let (dtype, shape) = (ctx.dtype(x), ctx.shape(x));
    let last = shape.last().ok_or_else(|| invalid("its input has no axes"))?;
    let (branches, size) = match node.attr_int_or("num_branches", 0)? {
        0 => (shape.iter().rev().nth(1).cloned().unwrap_or(Dim::ONE), last.clone()),
        count if count > 0 => (Dim::Const(count), last.floor_div(&Dim::Const(count))),
        count => return Err(invalid(format!("`num_branches` is {count}"))),
    };
    let scale = match scale {
        // One per element of all branches, or of one.
        Some(scale) if ctx.ty(scale).count() != size => Some(ctx.reshape(scale, &[branches.clone(), size.clone()])?),
        other => other,
    };
    let x = ctx.cast(x, DType::F32)?;
    let x = if *last == size && shape.len() > 1 {
        let flat = [&shape[..shape.len() - 2], &[branches * size.clone()]].concat();
        ctx.reshape(x, &flat)?
    } else {
        x
    };
    let y = grouped_rms_norm(ctx, x, &size, scale, node.attr_f32_or("epsilon", 1e-5)?)?;
    let y = ctx.reshape(y, &shape)?;
    ctx.cast(y, dtype)
}

fn group_norm<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    grouped(ctx, node, x)
}

/// The groups of channels of a sum, and the sum.
fn skip_group_norm<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let (x, mut skip, bias) = (ctx.value(node, 0)?, ctx.value(node, 3)?, ctx.value_opt(node, 4)?);
    let last = node.attr_bool_or("channels_last", true)?;
    if let Ok([batch, channels]) = <[Dim; 2]>::try_from(ctx.shape(skip)) {
        let ones = [Dim::ONE, Dim::ONE];
        let shape = if last { [&[batch][..], &ones, &[channels]] } else { [&[batch, channels][..], &ones, &[]] };
        skip = ctx.reshape(skip, &shape.concat())?;
    }
    let mut sum = ctx.binary(BinaryFn::Add, x, skip)?;
    if let Some(bias) = bias {
        sum = if last { ctx.binary(BinaryFn::Add, sum, bias)? } else { per_channel(ctx, BinaryFn::Add, sum, bias)? };
    }
    Ok(vec![grouped(ctx, node, sum)?, sum])
}

/// Groups of channels normalised, scaled, and perhaps a SiLU of that.
fn grouped<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    let (scale, bias) = (ctx.value(node, 1)?, ctx.value(node, 2)?);
    let (dtype, rank) = (ctx.dtype(x), ctx.rank(x));
    let groups = node.attr_int("groups")?;
    if rank < 3 || groups < 1 {
        return Err(invalid(format!("{groups} groups of an input with {rank} axes")));
    }
    let last = node.attr_bool_or("channels_last", true)?;
    let to_first: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let to_last: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let x = if last { ctx.transpose(x, &to_first)? } else { x };
    let shape = ctx.shape(x);
    let groups = Dim::Const(groups);
    let inner = Dim::product(&shape[2..]) * shape[1].floor_div(&groups);
    let x = ctx.reshape(x, &[shape[0].clone(), groups, inner])?;
    let x = ctx.cast(x, DType::F32)?;
    let y = normalised(ctx, x, &[2], node.attr_f32_or("epsilon", 1e-5)?)?;
    let y = ctx.reshape(y, &shape)?;
    let (scale, bias) = (ctx.cast(scale, DType::F32)?, ctx.cast(bias, DType::F32)?);
    let y = per_channel(ctx, BinaryFn::Mul, y, scale)?;
    let mut y = per_channel(ctx, BinaryFn::Add, y, bias)?;
    if node.attr_int_or("activation", 0)? == 1 {
        y = ctx.add(Op::Silu {}, &[y])?;
    }
    let y = ctx.cast(y, dtype)?;
    if last { ctx.transpose(y, &to_last) } else { Ok(y) }
}

/// Tables of words, positions and segments.
struct Tables {
    words: Value,
    positions: Value,
    segments: Option<Value>,
    scale: Value,
    bias: Value,
}

fn embed<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let tables = Tables {
        words: ctx.value(node, 2)?,
        positions: ctx.value(node, 3)?,
        segments: ctx.value_opt(node, 4)?,
        scale: ctx.value(node, 5)?,
        bias: ctx.value(node, 6)?,
    };
    let places = ctx.value_opt(node, 8)?;
    embedded(ctx, node, &tables, 7, places)
}

fn quantised_embed<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let mut table = |codes: usize, scale: usize, zero: usize| -> Outcome<Option<Value>> {
        let Some(codes) = ctx.value_opt(node, codes)? else { return Ok(None) };
        let (scale, zero) = (ctx.value(node, scale)?, ctx.value_opt(node, zero)?);
        stands_for(ctx, codes, scale, zero).map(Some)
    };
    let needed = |table: Option<Value>, input| table.ok_or(crate::import::Stop::Fault(Fault::MissingInput(input)));
    let tables = Tables {
        words: needed(table(2, 8, 13)?, 2)?,
        positions: needed(table(3, 9, 14)?, 3)?,
        segments: table(4, 10, 15)?,
        scale: needed(table(5, 11, 16)?, 5)?,
        bias: needed(table(6, 12, 17)?, 6)?,
    };
    embedded(ctx, node, &tables, 7, None)
}

/// The normalised sum of the rows, the number of words that the mask keeps, and the sum.
fn embedded<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    tables: &Tables,
    mask: usize,
    places: Option<Value>,
) -> Outcome<Vec<Value>> {
    let (ids, segments, mask) = (ctx.value(node, 0)?, ctx.value_opt(node, 1)?, ctx.value_opt(node, mask)?);
    let Ok([batch, length]) = <[Dim; 2]>::try_from(ctx.shape(ids)) else {
        return Err(invalid("its ids have not 2 axes"));
    };
    let mut rows = |table: Value, ids: Value| -> Outcome<Value> {
        let size = ctx.size(table, 0)?;
        let ids = ctx.indices(ids, &size)?;
        ctx.add(Op::Gather { axis: 0 }, &[table, ids])
    };
    let words = rows(tables.words, ids)?;
    let positions = match places {
        Some(places) => rows(tables.positions, places)?,
        None => ctx.slice_axis(tables.positions, 0, Dim::ZERO, length, 1)?,
    };
    let mut sum = ctx.binary(BinaryFn::Add, words, positions)?;
    if let (Some(table), Some(segments)) = (tables.segments, segments) {
        let size = ctx.size(table, 0)?;
        let segments = ctx.indices(segments, &size)?;
        let rows = ctx.add(Op::Gather { axis: 0 }, &[table, segments])?;
        sum = ctx.binary(BinaryFn::Add, sum, rows)?;
    }
    let y = layer_norm(ctx, sum, tables.scale, Some(tables.bias), node.attr_f32_or("epsilon", 1e-12)?)?;
    let kept = match mask {
        Some(mask) => {
            let kept = ctx.with_scalar(BinaryFn::Eq, mask, 1.0)?;
            let kept = ctx.cast(kept, DType::I32)?;
            let count = ctx.reduce(ReduceFn::Sum, kept, &[1])?;
            ctx.reshape(count, &[batch])?
        }
        None => {
            let zero = ctx.scalar(DType::I32, 0.0);
            ctx.broadcast(zero, &[batch])?
        }
    };
    Ok(vec![y, kept, sum])
}
