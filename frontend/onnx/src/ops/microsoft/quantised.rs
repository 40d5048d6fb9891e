//! Arithmetic on quantised tensors, with scales and zero points as operands.
//!
//! Products are sums of integers that are scaled at the end; everything else dequantises, computes in f32, and quantises again.

use tarsia_graph::{BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{Class, DType};

use super::{nhwc, row};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, axis_of, invalid},
    ops::{
        Importer::One,
        Rows,
        contract::product,
        movement::flattened,
        pool,
        quantize::{self, Grain, Quantised, dequantized, product_of_quantised, product_with_quantised, stored},
    },
};

pub(super) const ROWS: Rows = &[
    row("DequantizeLinear", One(|ctx, node| quantize::dequantize(ctx, &node.following(21)))),
    row("DynamicQuantizeMatMul", One(dynamic_matmul)),
    row("MatMulInteger16", One(matmul_integer16)),
    row("MatMulIntegerToFloat", One(matmul_to_float)),
    row("MulInteger", One(mul_integer)),
    row("QGemm", One(gemm)),
    row("QLinearAdd", One(|ctx, node| two(ctx, node, BinaryFn::Add))),
    row("QLinearAveragePool", One(average_pool)),
    row("QLinearConcat", One(concat)),
    row("QLinearConv", One(conv)),
    row("QLinearGlobalAveragePool", One(global_average_pool)),
    row("QLinearLeakyRelu", One(leaky_relu)),
    row("QLinearMul", One(|ctx, node| two(ctx, node, BinaryFn::Mul))),
    row("QLinearReduceMean", One(reduce_mean)),
    row("QLinearSigmoid", One(sigmoid)),
    row("QLinearSoftmax", One(softmax)),
    row("QLinearWhere", One(choose)),
    row("QuantizeLinear", One(|ctx, node| quantize::quantize(ctx, &node.following(21)))),
    row("ReduceSumInteger", One(reduce_sum)),
];

/// What the codes of an input stand for, in f32; its scale and zero point are the two inputs after it.
pub(super) fn real<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, input: usize) -> Outcome<Value> {
    let (codes, scale, zero) = (ctx.value(node, input)?, ctx.value(node, input + 1)?, ctx.value_opt(node, input + 2)?);
    stands_for(ctx, codes, scale, zero)
}

/// What codes stand for, in f32, with one scale for all.
pub(super) fn stands_for(ctx: &mut Ctx<'_, '_>, codes: Value, scale: Value, zero: Option<Value>) -> Outcome<Value> {
    dequantized(ctx, codes, scale, zero, &Grain::Broadcast(Vec::new()), DType::F32)
}

/// `y` as it is stored by the scale and zero point that stand at `input`; of the first input's type without a zero point.
fn requantised<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, y: Value, input: usize) -> Outcome<Value> {
    let (scale, zero) = (ctx.value(node, input)?, ctx.value_opt(node, input + 1)?);
    let dtype = match zero {
        Some(zero) => ctx.dtype(zero),
        None => ctx.input_type(node, 0).ok_or(Fault::MissingInput(0))?.dtype,
    };
    let scale = ctx.cast(scale, DType::F32)?;
    let scale = ctx.reshape(scale, &[])?;
    let y = ctx.binary(BinaryFn::Div, y, scale)?;
    let zero = match zero {
        Some(zero) => {
            let zero = ctx.cast(zero, DType::F32)?;
            Some(ctx.reshape(zero, &[])?)
        }
        None => None,
    };
    stored(ctx, y, zero, dtype)
}

/// A function of two quantised operands.
fn two<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, function: BinaryFn) -> Outcome<Value> {
    let (a, b) = (real(ctx, node, 0)?, real(ctx, node, 3)?);
    let y = ctx.binary(function, a, b)?;
    requantised(ctx, node, y, 6)
}

fn sigmoid<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = real(ctx, node, 0)?;
    let y = ctx.unary(UnaryFn::Sigmoid, x)?;
    requantised(ctx, node, y, 3)
}

fn leaky_relu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = real(ctx, node, 0)?;
    let scaled = ctx.with_scalar(BinaryFn::Mul, x, node.attr_f32_or("alpha", 0.01)?.into())?;
    let below = ctx.with_scalar(BinaryFn::Lt, x, 0.0)?;
    let y = ctx.select(below, scaled, x)?;
    requantised(ctx, node, y, 3)
}

/// Along one axis, or, as before version 13 of Softmax, along all from one on.
fn softmax<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = real(ctx, node, 0)?;
    let shape = ctx.shape(x);
    let axis = node.attr_int_or("axis", -1)?;
    let y = if node.attr_int_or("opset", 13)? < 13 {
        let flat = flattened(ctx, x, axis)?;
        let y = ctx.add(Op::Softmax { axis: 1 }, &[flat])?;
        ctx.reshape(y, &shape)?
    } else {
        ctx.add(Op::Softmax { axis: axis_of(axis, shape.len())? }, &[x])?
    };
    requantised(ctx, node, y, 3)
}

fn average_pool<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = real(ctx, node, 0)?;
    let y = nhwc::perhaps(ctx, node, x, |ctx, x| pool::averages(ctx, &node.following(22), x))?;
    requantised(ctx, node, y, 3)
}

fn global_average_pool<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = real(ctx, node, 0)?;
    let y = nhwc::perhaps(ctx, node, x, |ctx, x| {
        let axes: Vec<usize> = (2..ctx.rank(x)).collect();
        ctx.reduce(ReduceFn::Mean, x, &axes)
    })?;
    requantised(ctx, node, y, 3)
}

fn conv<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    nhwc::perhaps(ctx, node, x, |ctx, x| quantize::quantised_conv_of(ctx, node, x))
}

/// Operands of different scales, each three inputs, joined at the scale that the first two inputs give.
fn concat<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let count = node.inputs().len();
    if count < 5 || count % 3 != 2 {
        return Err(invalid(format!("{count} inputs are not a scale, a zero point, and three for each operand")));
    }
    let parts = (2..count).step_by(3).map(|input| real(ctx, node, input)).collect::<Outcome<Vec<Value>>>()?;
    let rank = parts.first().map_or(0, |&part| ctx.rank(part));
    let y = ctx.concat(&parts, axis_of(node.attr_int("axis")?, rank)?)?;
    requantised(ctx, node, y, 0)
}

fn choose<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let condition = ctx.value(node, 0)?;
    let (a, b) = (real(ctx, node, 1)?, real(ctx, node, 4)?);
    let y = ctx.select(condition, a, b)?;
    requantised(ctx, node, y, 7)
}

/// A reduction over the axes of the attribute `axes`, and perhaps without them.
fn reduced<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, function: ReduceFn, x: Value) -> Outcome<Value> {
    let rank = ctx.rank(x);
    let given = node.attr_ints_or("axes", &[])?;
    let mut axes: Vec<usize> = given.iter().map(|&axis| axis_of(axis, rank)).collect::<Outcome<_>>()?;
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() {
        axes = (0..rank).collect();
    }
    let y = ctx.reduce(function, x, &axes)?;
    if node.attr_bool_or("keepdims", true)? { Ok(y) } else { ctx.squeeze(y, &axes) }
}

fn reduce_mean<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = real(ctx, node, 0)?;
    let y = reduced(ctx, node, ReduceFn::Mean, x)?;
    requantised(ctx, node, y, 3)
}

fn reduce_sum<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let wide = if ctx.dtype(x).class() == Class::Uint { DType::U32 } else { DType::I32 };
    let x = ctx.cast(x, DType::I32)?;
    let y = reduced(ctx, node, ReduceFn::Sum, x)?;
    ctx.cast(y, wide)
}

fn matmul_integer16<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let unsigned = [a, b].iter().all(|&x| ctx.dtype(x).class() == Class::Uint);
    let (a, b) = (ctx.cast(a, DType::I32)?, ctx.cast(b, DType::I32)?);
    let y = product(ctx, a, b, DType::I32)?;
    ctx.cast(y, if unsigned { DType::U32 } else { DType::I32 })
}

fn mul_integer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let mut shifted = |input: usize| -> Outcome<Value> {
        let (x, zero) = (ctx.value(node, input)?, ctx.value_opt(node, input + 1)?);
        let x = ctx.cast(x, DType::I32)?;
        let Some(zero) = zero else { return Ok(x) };
        let zero = ctx.cast(zero, DType::I32)?;
        let zero = ctx.reshape(zero, &[])?;
        ctx.binary(BinaryFn::Sub, x, zero)
    };
    let (a, b) = (shifted(0)?, shifted(2)?);
    ctx.binary(BinaryFn::Mul, a, b)
}

/// Codes with a scale and a zero point for all or for each column.
fn by_column<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    codes: usize,
    scale: usize,
    zero: usize,
) -> Outcome<Quantised> {
    let (codes, scale, zero) = (ctx.value(node, codes)?, ctx.value(node, scale)?, ctx.value_opt(node, zero)?);
    let scale = quantize::per_column(ctx, scale)?;
    let zero = zero.map(|zero| quantize::per_column(ctx, zero)).transpose()?;
    Ok(Quantised { codes, scale, zero })
}

/// Adds an input, if it is there.
fn with_bias<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, y: Value, input: usize) -> Outcome<Value> {
    match ctx.value_opt(node, input)? {
        Some(bias) => ctx.binary(BinaryFn::Add, y, bias),
        None => Ok(y),
    }
}

fn dynamic_matmul<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let a = ctx.value(node, 0)?;
    let b = by_column(ctx, node, 1, 2, 3)?;
    let y = product_with_quantised(ctx, a, b, |ctx, a, b| product(ctx, a, b, DType::I32))?;
    with_bias(ctx, node, y, 4)
}

fn matmul_to_float<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b) = (by_column(ctx, node, 0, 2, 4)?, by_column(ctx, node, 1, 3, 5)?);
    let y = product_of_quantised(ctx, a, b, |ctx, a, b| product(ctx, a, b, DType::I32))?;
    with_bias(ctx, node, y, 6)
}

/// `alpha · A · B + C` with C in units of the product, as a float or quantised again.
fn gemm<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let left = if node.attr_bool_or("transA", false)? { "km" } else { "mk" };
    let right = if node.attr_bool_or("transB", false)? { "nk" } else { "kn" };
    let transposed = right == "nk";
    let mut b = by_column(ctx, node, 3, 4, 5)?;
    // One zero point per column stands along the axis of the columns.
    if let Some(zero) = b.zero.filter(|&zero| transposed && ctx.rank(zero) == 1) {
        b.zero = Some(ctx.unsqueeze(zero, 1)?);
    }
    let a = by_column(ctx, node, 0, 1, 2)?;
    let c = ctx.value_opt(node, 6)?;
    let spec = format!("{left},{right}->mn");
    let y = product_of_quantised(ctx, a, b, |ctx, a, b| {
        let sum = ctx.contract_to(&spec, a, b, DType::I32)?;
        match c {
            Some(c) => ctx.binary(BinaryFn::Add, sum, c),
            None => Ok(sum),
        }
    })?;
    let alpha = node.attr_f32_or("alpha", 1.0)?;
    let y = if alpha == 1.0 { y } else { ctx.with_scalar(BinaryFn::Mul, y, alpha.into())? };
    if ctx.value_opt(node, 7)?.is_some() { requantised(ctx, node, y, 7) } else { Ok(y) }
}
