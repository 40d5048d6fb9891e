//! Normalisation over batches, channels and layers. Statistics of f16 and bf16 are taken in f32.

use tarsia_graph::{BinaryFn, Op, Real, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    Importer::{One, Values},
    Row, Rows,
    convolution::per_channel,
};
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[
    Row::new("BatchNormalization", 6, Values(batch_normalization)),
    Row::new("GroupNormalization", 18, One(group_normalization)),
    Row::new("InstanceNormalization", 6, One(instance_normalization)),
    Row::new("LRN", 1, One(local_response)),
    // onnxruntime writes it into models of older versions too.
    Row::new("LayerNormalization", 1, Values(layer_normalization)),
    Row::new("LpNormalization", 1, One(lp_normalization)),
    Row::new("MeanVarianceNormalization", 9, One(mean_variance)),
];

/// Mean and variance over axes, which stay with size 1.
pub(super) fn moments(ctx: &mut Ctx<'_, '_>, x: Value, axes: &[usize]) -> Outcome<(Value, Value)> {
    let mean = ctx.reduce(ReduceFn::Mean, x, axes)?;
    let centred = ctx.binary(BinaryFn::Sub, x, mean)?;
    let square = ctx.binary(BinaryFn::Mul, centred, centred)?;
    Ok((mean, ctx.reduce(ReduceFn::Mean, square, axes)?))
}

/// `1 / √(variance + ε)`.
pub(super) fn inverse_deviation(ctx: &mut Ctx<'_, '_>, variance: Value, epsilon: f32) -> Outcome<Value> {
    let shifted = ctx.with_scalar(BinaryFn::Add, variance, epsilon.into())?;
    ctx.unary(UnaryFn::Rsqrt, shifted)
}

/// `(x - mean) / √(var + ε)` over axes.
pub(super) fn normalised(ctx: &mut Ctx<'_, '_>, x: Value, axes: &[usize], epsilon: f32) -> Outcome<Value> {
    let (mean, variance) = moments(ctx, x, axes)?;
    let inverse = inverse_deviation(ctx, variance, epsilon)?;
    let centred = ctx.binary(BinaryFn::Sub, x, mean)?;
    ctx.binary(BinaryFn::Mul, centred, inverse)
}

fn batch_normalization<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let narrow = ctx.value(node, 0)?;
    let dtype = ctx.dtype(narrow);
    let x = ctx.widen(narrow)?;
    let wide = ctx.dtype(x);
    let mut operands = Vec::with_capacity(4);
    for index in 1..5 {
        let value = ctx.value(node, index)?;
        operands.push(ctx.cast(value, wide)?);
    }
    let [scale, bias, mut mean, mut variance] = operands[..] else { return Err(invalid("it needs five inputs")) };
    let epsilon = node.attr_f32_or("epsilon", 1e-5)?;
    if !node.since(9) && !node.attr_bool_or("spatial", true)? {
        return Err(unsupported("`spatial` = 0"));
    }
    let training = node.since(14) && node.attr_bool_or("training_mode", false)?;
    if !training && (1..node.outputs().len()).any(|output| node.output(output).is_some()) {
        return Err(unsupported("the statistics of training as outputs"));
    }
    let mut results = Vec::new();
    if training {
        let momentum = node.attr_f32_or("momentum", 0.9)?;
        let axes: Vec<usize> = (0..ctx.rank(x)).filter(|&axis| axis != 1).collect();
        let (now_mean, now_variance) = moments(ctx, x, &axes)?;
        for (running, now, index) in [(&mut mean, now_mean, 3), (&mut variance, now_variance, 4)] {
            let shape = ctx.shape(*running);
            let now = ctx.reshape(now, &shape)?;
            let kept = ctx.with_scalar(BinaryFn::Mul, *running, momentum.into())?;
            let added = ctx.with_scalar(BinaryFn::Mul, now, f64::from(1.0 - momentum))?;
            let sum = ctx.binary(BinaryFn::Add, kept, added)?;
            let own = ctx.value(node, index)?;
            let own = ctx.dtype(own);
            results.push(ctx.cast(sum, own)?);
            *running = now;
        }
    }
    let inverse = inverse_deviation(ctx, variance, epsilon)?;
    let factor = ctx.binary(BinaryFn::Mul, scale, inverse)?;
    let y = per_channel(ctx, BinaryFn::Sub, x, mean)?;
    let y = per_channel(ctx, BinaryFn::Mul, y, factor)?;
    let y = per_channel(ctx, BinaryFn::Add, y, bias)?;
    results.insert(0, ctx.cast(y, dtype)?);
    Ok(results)
}

fn instance_normalization<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, scale, bias) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let dtype = ctx.dtype(x);
    let wide = ctx.widen(x)?;
    let axes: Vec<usize> = (2..ctx.rank(x)).collect();
    let y = normalised(ctx, wide, &axes, node.attr_f32_or("epsilon", 1e-5)?)?;
    let y = ctx.cast(y, dtype)?;
    let y = per_channel(ctx, BinaryFn::Mul, y, scale)?;
    per_channel(ctx, BinaryFn::Add, y, bias)
}

/// Scale and bias are per channel, before version 21 per group.
fn group_normalization<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, scale, bias) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let (dtype, shape) = (ctx.dtype(x), ctx.shape(x));
    let groups = node.attr_int("num_groups")?;
    let (Some(batch), Some(channels)) = (shape.first(), shape.get(1).filter(|_| groups > 0)) else {
        return Err(invalid(format!("{groups} groups of an input with {} axes", shape.len())));
    };
    let groups = Dim::Const(groups);
    let share = channels.floor_div(&groups);
    let inner = Dim::product(&shape[2..]) * share.clone();
    let grouped = ctx.reshape(x, &[batch.clone(), groups.clone(), inner])?;
    let wide = ctx.widen(grouped)?;
    let y = normalised(ctx, wide, &[2], node.attr_f32_or("epsilon", 1e-5)?)?;
    let y = ctx.cast(y, dtype)?;
    let per_group = !node.since(21);
    if per_group {
        let y = per_channel(ctx, BinaryFn::Mul, y, scale)?;
        let y = per_channel(ctx, BinaryFn::Add, y, bias)?;
        return ctx.reshape(y, &shape);
    }
    let y = ctx.reshape(y, &shape)?;
    let y = per_channel(ctx, BinaryFn::Mul, y, scale)?;
    per_channel(ctx, BinaryFn::Add, y, bias)
}

fn layer_normalization<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let (x, scale, bias) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value_opt(node, 2)?);
    let rank = ctx.rank(x);
    let axis = axis_of(node.attr_int_or("axis", -1)?, rank)?;
    let epsilon = node.attr_f32_or("epsilon", 1e-5)?;
    let bias = match bias {
        Some(bias) => bias,
        None => ctx.scalar_like(x, 0.0),
    };
    let y = ctx.add(Op::LayerNorm { axis, epsilon: Real(epsilon.into()) }, &[x, scale, bias])?;
    if node.output(1).is_none() && node.output(2).is_none() {
        return Ok(vec![y]);
    }
    let wide = ctx.widen(x)?;
    let axes: Vec<usize> = (axis..rank).collect();
    let (mean, variance) = moments(ctx, wide, &axes)?;
    let inverse = inverse_deviation(ctx, variance, epsilon)?;
    let stash = match node.attr_int_or("stash_type", 1)? {
        1 => DType::F32,
        _ => ctx.dtype(x),
    };
    Ok(vec![y, ctx.cast(mean, stash)?, ctx.cast(inverse, stash)?])
}

/// `x / ‖x‖_p` along an axis; what has norm 0 stays 0.
fn lp_normalization<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let axis = axis_of(node.attr_int_or("axis", -1)?, ctx.rank(x))?;
    let norm = match node.attr_int_or("p", 2)? {
        1 => {
            let size = ctx.unary(UnaryFn::Abs, x)?;
            ctx.reduce(ReduceFn::Sum, size, &[axis])?
        }
        2 => {
            let square = ctx.binary(BinaryFn::Mul, x, x)?;
            let sum = ctx.reduce(ReduceFn::Sum, square, &[axis])?;
            ctx.unary(UnaryFn::Sqrt, sum)?
        }
        other => return Err(invalid(format!("`p` is {other}, not 1 or 2"))),
    };
    let zero = ctx.with_scalar(BinaryFn::Eq, norm, 0.0)?;
    let one = ctx.scalar_like(norm, 1.0);
    let divisor = ctx.select(zero, one, norm)?;
    ctx.binary(BinaryFn::Div, x, divisor)
}

/// `x / (bias + alpha/size · Σ x²)^beta`, the sum over neighbouring channels.
fn local_response<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let size = node.attr_int("size")?;
    let size = usize::try_from(size)
        .ok()
        .filter(|&s| s > 0 && rank > 1)
        .ok_or_else(|| invalid(format!("`size` is {size}")))?;
    let (alpha, beta, bias) =
        (node.attr_f32_or("alpha", 0.0001)?, node.attr_f32_or("beta", 0.75)?, node.attr_f32_or("bias", 1.0)?);
    let square = ctx.binary(BinaryFn::Mul, x, x)?;
    let channel =
        |value: usize, other: usize| (0..rank).map(|axis| if axis == 1 { value } else { other }).collect::<Vec<_>>();
    // A window that reaches beyond all channels is no wider than they are.
    let most = ctx.size(x, 1)?.as_usize().unwrap_or(usize::MAX);
    let (low, high) = (((size - 1) / 2).min(most), (size / 2).min(most));
    let sum = Op::WindowReduce {
        function: ReduceFn::Sum,
        window: channel(low + high + 1, 1),
        strides: vec![1; rank],
        low: channel(low, 0),
        high: channel(high, 0),
        dilations: vec![1; rank],
    };
    let sum = ctx.add(sum, &[square])?;
    let scaled = ctx.with_scalar(BinaryFn::Mul, sum, f64::from(alpha) / size as f64)?;
    let shifted = ctx.with_scalar(BinaryFn::Add, scaled, bias.into())?;
    let power = ctx.with_scalar(BinaryFn::Pow, shifted, beta.into())?;
    ctx.binary(BinaryFn::Div, x, power)
}

/// `(x - mean) / (deviation + 1e-9)`, as the operator's defining function says.
fn mean_variance<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let given = node.attr_ints_or("axes", &[0, 2, 3])?;
    let mut axes = given.iter().map(|&axis| axis_of(axis, rank)).collect::<Outcome<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    let (mean, variance) = moments(ctx, x, &axes)?;
    let deviation = ctx.unary(UnaryFn::Sqrt, variance)?;
    let divisor = ctx.with_scalar(BinaryFn::Add, deviation, 1e-9)?;
    let centred = ctx.binary(BinaryFn::Sub, x, mean)?;
    ctx.binary(BinaryFn::Div, centred, divisor)
}
