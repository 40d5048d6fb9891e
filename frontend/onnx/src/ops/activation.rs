//! Activations.

use tarsia_graph::{ArgReduceFn, BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::DType;

use super::{
    Importer::{One, Unary},
    Row, Rows,
    convolution::per_channel,
    movement::flattened,
};
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("Celu", 12, One(celu)),
    Row::new("Elu", 6, One(elu)),
    Row::new("Gelu", 20, One(gelu)),
    Row::new("HardSigmoid", 6, One(hard_sigmoid)),
    Row::new("HardSwish", 14, One(hard_swish)),
    Row::new("Hardmax", 1, One(|ctx, node| along_axis(ctx, node, hardmax))),
    Row::new("LeakyRelu", 6, One(leaky_relu)),
    Row::new("LogSoftmax", 1, One(|ctx, node| along_axis(ctx, node, log_softmax))),
    Row::new("Mish", 18, One(mish)),
    Row::new("PRelu", 6, One(prelu)),
    Row::new("Relu", 6, One(relu)),
    Row::new("Selu", 6, One(selu)),
    Row::new("Shrink", 9, One(shrink)),
    Row::new("Sigmoid", 6, Unary(UnaryFn::Sigmoid)),
    Row::new("Softmax", 1, One(|ctx, node| along_axis(ctx, node, softmax))),
    Row::new("Softplus", 1, Unary(UnaryFn::Softplus)),
    Row::new("Softsign", 1, One(softsign)),
    Row::new("Swish", 24, One(swish)),
    Row::new("Tanh", 6, Unary(UnaryFn::Tanh)),
    Row::new("ThresholdedRelu", 10, One(thresholded_relu)),
];

/// Something along one axis; before version 13, along all axes from one on, taken as a single one.
fn along_axis<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    f: fn(&mut Ctx<'_, '_>, Value, usize) -> Outcome<Value>,
) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let shape = ctx.shape(x);
    let axis = node.attr_int_or("axis", if node.since(13) { -1 } else { 1 })?;
    if !node.since(13) && !axis_of(axis, shape.len()).is_ok_and(|axis| axis + 1 == shape.len()) {
        let flat = flattened(ctx, x, axis)?;
        let y = f(ctx, flat, 1)?;
        return ctx.reshape(y, &shape);
    }
    let axis = axis_of(axis, shape.len())?;
    f(ctx, x, axis)
}

fn softmax(ctx: &mut Ctx<'_, '_>, x: Value, axis: usize) -> Outcome<Value> {
    ctx.add(Op::Softmax { axis }, &[x])
}

/// `x - max - log Σ exp(x - max)`.
pub(super) fn log_softmax(ctx: &mut Ctx<'_, '_>, x: Value, axis: usize) -> Outcome<Value> {
    let dtype = ctx.dtype(x);
    let x = ctx.widen(x)?;
    let max = ctx.reduce(ReduceFn::Max, x, &[axis])?;
    let shifted = ctx.binary(BinaryFn::Sub, x, max)?;
    let powers = ctx.unary(UnaryFn::Exp, shifted)?;
    let sum = ctx.reduce(ReduceFn::Sum, powers, &[axis])?;
    let log = ctx.unary(UnaryFn::Log, sum)?;
    let y = ctx.binary(BinaryFn::Sub, shifted, log)?;
    ctx.cast(y, dtype)
}

fn hardmax(ctx: &mut Ctx<'_, '_>, x: Value, axis: usize) -> Outcome<Value> {
    let best = ctx.add(Op::ArgReduce { function: ArgReduceFn::Max, axis, last: false }, &[x])?;
    let shape = ctx.shape(x);
    let places = ctx.iota(DType::I64, &shape, axis)?;
    let hit = ctx.binary(BinaryFn::Eq, places, best)?;
    let dtype = ctx.dtype(x);
    ctx.cast(hit, dtype)
}

fn relu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    ctx.with_scalar(BinaryFn::Max, x, 0.0)
}

/// `x` where it is positive, else `negative`.
fn or_below_zero(ctx: &mut Ctx<'_, '_>, x: Value, negative: Value) -> Outcome<Value> {
    let below = ctx.with_scalar(BinaryFn::Lt, x, 0.0)?;
    ctx.select(below, negative, x)
}

fn leaky_relu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let scaled = ctx.with_scalar(BinaryFn::Mul, x, node.attr_f32_or("alpha", 0.01)?.into())?;
    or_below_zero(ctx, x, scaled)
}

fn prelu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, slope) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    // Before version 7 a vector of slopes is one per channel.
    let scaled = if node.since(7) || ctx.rank(slope) != 1 {
        ctx.binary(BinaryFn::Mul, x, slope)?
    } else {
        per_channel(ctx, BinaryFn::Mul, x, slope)?
    };
    or_below_zero(ctx, x, scaled)
}

/// `alpha · (exp(x / scale) - 1)`.
fn exponential(ctx: &mut Ctx<'_, '_>, x: Value, alpha: f32, scale: f32) -> Outcome<Value> {
    let x = if scale == 1.0 { x } else { ctx.with_scalar(BinaryFn::Div, x, scale.into())? };
    let power = ctx.unary(UnaryFn::Exp, x)?;
    let shifted = ctx.with_scalar(BinaryFn::Sub, power, 1.0)?;
    if alpha == 1.0 { Ok(shifted) } else { ctx.with_scalar(BinaryFn::Mul, shifted, alpha.into()) }
}

/// `f` on the input, of f16 and bf16 in f32 with one rounding at the end.
fn in_f32<'a, 'o>(
    ctx: &mut Ctx<'a, 'o>,
    node: &Node<'a>,
    f: impl FnOnce(&mut Ctx<'a, 'o>, Value) -> Outcome<Value>,
) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let (dtype, wide) = (ctx.dtype(x), ctx.widen(x)?);
    let y = f(ctx, wide)?;
    ctx.cast(y, dtype)
}

fn elu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let alpha = node.attr_f32_or("alpha", 1.0)?;
    in_f32(ctx, node, |ctx, x| {
        let negative = exponential(ctx, x, alpha, 1.0)?;
        or_below_zero(ctx, x, negative)
    })
}

fn celu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let alpha = node.attr_f32_or("alpha", 1.0)?;
    in_f32(ctx, node, |ctx, x| {
        let negative = exponential(ctx, x, alpha, alpha)?;
        or_below_zero(ctx, x, negative)
    })
}

fn selu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (alpha, gamma) = (node.attr_f32_or("alpha", 1.673_263_2)?, node.attr_f32_or("gamma", 1.050_701)?);
    in_f32(ctx, node, |ctx, x| {
        let negative = exponential(ctx, x, alpha, 1.0)?;
        let y = or_below_zero(ctx, x, negative)?;
        ctx.with_scalar(BinaryFn::Mul, y, gamma.into())
    })
}

fn thresholded_relu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let above = ctx.with_scalar(BinaryFn::Gt, x, node.attr_f32_or("alpha", 1.0)?.into())?;
    let zero = ctx.scalar_like(x, 0.0);
    ctx.select(above, x, zero)
}

/// `x` moved towards 0 by `bias` where it is further from it than `lambd`, else 0.
fn shrink<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let (bias, threshold) = (node.attr_f32_or("bias", 0.0)?, node.attr_f32_or("lambd", 0.5)?);
    let dtype = ctx.dtype(x);
    let wide = if dtype.is_float() { x } else { ctx.cast(x, DType::F64)? };
    let below = ctx.with_scalar(BinaryFn::Lt, wide, f64::from(-threshold))?;
    let above = ctx.with_scalar(BinaryFn::Gt, wide, threshold.into())?;
    let up = ctx.with_scalar(BinaryFn::Add, wide, bias.into())?;
    let down = ctx.with_scalar(BinaryFn::Sub, wide, bias.into())?;
    let zero = ctx.scalar_like(wide, 0.0);
    let y = ctx.select(above, down, zero)?;
    let y = ctx.select(below, up, y)?;
    ctx.cast(y, dtype)
}

/// `max(0, min(1, alpha·x + beta))`.
fn hard_sigmoid_of(ctx: &mut Ctx<'_, '_>, x: Value, alpha: f64, beta: f64) -> Outcome<Value> {
    let y = ctx.with_scalar(BinaryFn::Mul, x, alpha)?;
    let y = ctx.with_scalar(BinaryFn::Add, y, beta)?;
    let y = ctx.with_scalar(BinaryFn::Max, y, 0.0)?;
    ctx.with_scalar(BinaryFn::Min, y, 1.0)
}

fn hard_sigmoid<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (alpha, beta) = (node.attr_f32_or("alpha", 0.2)?, node.attr_f32_or("beta", 0.5)?);
    in_f32(ctx, node, |ctx, x| hard_sigmoid_of(ctx, x, alpha.into(), beta.into()))
}

fn hard_swish<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    in_f32(ctx, node, |ctx, x| {
        let gate = hard_sigmoid_of(ctx, x, 1.0 / 6.0, 0.5)?;
        ctx.binary(BinaryFn::Mul, x, gate)
    })
}

fn swish<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let alpha = node.attr_f32_or("alpha", 1.0)?;
    if alpha == 1.0 {
        return ctx.add(Op::Silu {}, &[x]);
    }
    in_f32(ctx, node, |ctx, x| {
        let scaled = ctx.with_scalar(BinaryFn::Mul, x, alpha.into())?;
        let gate = ctx.unary(UnaryFn::Sigmoid, scaled)?;
        ctx.binary(BinaryFn::Mul, x, gate)
    })
}

/// `x · tanh(log(1 + exp x))`.
fn mish<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    in_f32(ctx, node, |ctx, x| {
        let soft = ctx.unary(UnaryFn::Softplus, x)?;
        let gate = ctx.unary(UnaryFn::Tanh, soft)?;
        ctx.binary(BinaryFn::Mul, x, gate)
    })
}

fn gelu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let tanh = match node.attr_str_or("approximate", "none")? {
        "none" => false,
        "tanh" => true,
        other => return Err(invalid(format!("`approximate` is `{other}`, not `none` or `tanh`"))),
    };
    ctx.add(Op::Gelu { tanh }, &[x])
}

/// `x / (1 + |x|)`.
fn softsign<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    in_f32(ctx, node, |ctx, x| {
        let size = ctx.unary(UnaryFn::Abs, x)?;
        let divisor = ctx.with_scalar(BinaryFn::Add, size, 1.0)?;
        ctx.binary(BinaryFn::Div, x, divisor)
    })
}
