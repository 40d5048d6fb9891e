//! Point-wise arithmetic, comparison, logic and conversion.

use tarsia_graph::{BinaryFn, Op, Type, UnaryFn, Value};
use tarsia_tensor::{Class, DType, Dim};

use super::{
    Importer::{Binary, One, Unary},
    Row, Rows,
    strings::string_equal,
};
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("Abs", 1, Unary(UnaryFn::Abs)),
    Row::new("Acos", 7, Unary(UnaryFn::Acos)),
    Row::new("Acosh", 9, Unary(UnaryFn::Acosh)),
    Row::new("Add", 1, Binary(BinaryFn::Add)),
    Row::new("And", 1, Binary(BinaryFn::And)),
    Row::new("Asin", 7, Unary(UnaryFn::Asin)),
    Row::new("Asinh", 9, Unary(UnaryFn::Asinh)),
    Row::new("Atan", 7, Unary(UnaryFn::Atan)),
    Row::new("Atanh", 9, Unary(UnaryFn::Atanh)),
    Row::new("BitShift", 11, One(bit_shift)),
    Row::new("BitwiseAnd", 18, Binary(BinaryFn::BitAnd)),
    Row::new("BitwiseNot", 18, Unary(UnaryFn::BitNot)),
    Row::new("BitwiseOr", 18, Binary(BinaryFn::BitOr)),
    Row::new("BitwiseXor", 18, Binary(BinaryFn::BitXor)),
    Row::new("BitCast", 26, One(bit_cast)),
    Row::new("Cast", 6, One(cast)),
    Row::new("CastLike", 15, One(cast_like)),
    Row::new("Ceil", 1, Unary(UnaryFn::Ceil)),
    Row::new("Clip", 6, One(clip)),
    Row::new("Cos", 7, Unary(UnaryFn::Cos)),
    Row::new("Cosh", 9, Unary(UnaryFn::Cosh)),
    Row::new("Div", 1, Binary(BinaryFn::Div)),
    Row::new("Equal", 1, One(equal)),
    Row::new("Erf", 9, Unary(UnaryFn::Erf)),
    Row::new("Exp", 1, Unary(UnaryFn::Exp)),
    Row::new("Floor", 1, Unary(UnaryFn::Floor)),
    Row::new("Greater", 1, Binary(BinaryFn::Gt)),
    Row::new("GreaterOrEqual", 12, Binary(BinaryFn::Ge)),
    Row::new("IsInf", 10, One(is_inf)),
    Row::new("IsNaN", 9, Unary(UnaryFn::IsNan)),
    Row::new("Less", 1, Binary(BinaryFn::Lt)),
    Row::new("LessOrEqual", 12, Binary(BinaryFn::Le)),
    Row::new("Log", 1, Unary(UnaryFn::Log)),
    Row::new("Max", 1, One(|ctx, node| fold(ctx, node, BinaryFn::Max))),
    Row::new("Mean", 1, One(mean)),
    Row::new("Min", 1, One(|ctx, node| fold(ctx, node, BinaryFn::Min))),
    Row::new("Mod", 10, One(modulo)),
    Row::new("Mul", 1, Binary(BinaryFn::Mul)),
    Row::new("Neg", 1, Unary(UnaryFn::Neg)),
    Row::new("Not", 1, Unary(UnaryFn::Not)),
    Row::new("Or", 1, Binary(BinaryFn::Or)),
    Row::new("Pow", 1, One(pow)),
    Row::new("Reciprocal", 1, Unary(UnaryFn::Reciprocal)),
    Row::new("Round", 11, Unary(UnaryFn::Round)),
    Row::new("Sign", 9, Unary(UnaryFn::Sign)),
    Row::new("Sin", 7, Unary(UnaryFn::Sin)),
    Row::new("Sinh", 9, Unary(UnaryFn::Sinh)),
    Row::new("Sqrt", 1, Unary(UnaryFn::Sqrt)),
    Row::new("Sub", 1, Binary(BinaryFn::Sub)),
    Row::new("Sum", 1, One(|ctx, node| fold(ctx, node, BinaryFn::Add))),
    Row::new("Tan", 7, Unary(UnaryFn::Tan)),
    Row::new("Where", 9, One(select)),
    Row::new("Xor", 1, Binary(BinaryFn::Xor)),
];

/// The two operands of a point-wise operator. Before version 7 they broadcast only if `broadcast` says so, and then the second one's
/// axes stand at `axis` of the first.
pub(crate) fn operands<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<(Value, Value)> {
    let (a, b) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    if node.since(7) || !node.attr_bool_or("broadcast", false)? {
        return Ok((a, b));
    }
    let rank = ctx.rank(a);
    let mut shape = ctx.shape(b);
    let axis = match node.attr_int_opt("axis")? {
        Some(axis) => axis_of(axis, rank)?,
        None => rank.saturating_sub(shape.len()),
    };
    shape.resize(rank.saturating_sub(axis).max(shape.len()), Dim::ONE);
    Ok((a, ctx.reshape(b, &shape)?))
}

fn equal<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b) = operands(ctx, node)?;
    if ctx.dtype(a) == DType::String && ctx.dtype(b) == DType::String {
        return string_equal(ctx, a, b);
    }
    ctx.binary(BinaryFn::Eq, a, b)
}

/// Joins any number of operands, which broadcast.
fn fold<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, function: BinaryFn) -> Outcome<Value> {
    let values = ctx.values(node)?;
    let (&first, rest) = values.split_first().ok_or_else(|| invalid("it needs at least one input"))?;
    rest.iter().try_fold(first, |total, &value| ctx.binary(function, total, value))
}

fn mean<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let sum = fold(ctx, node, BinaryFn::Add)?;
    ctx.with_scalar(BinaryFn::Div, sum, node.inputs().len() as f64)
}

fn select<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (condition, a, b) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    ctx.select(condition, a, b)
}

/// Remainder with the sign of the divisor, or with `fmod` that of the dividend.
fn modulo<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let function = if node.attr_bool_or("fmod", false)? { BinaryFn::Rem } else { BinaryFn::Mod };
    ctx.binary(function, a, b)
}

/// The result has the base's type; where the exponent has another one, the power is taken in the wider float type.
fn pow<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (base, exponent) = operands(ctx, node)?;
    let (to, from) = (ctx.dtype(base), ctx.dtype(exponent));
    if to == from {
        return ctx.binary(BinaryFn::Pow, base, exponent);
    }
    let common = match (to.is_float(), from.is_float()) {
        (true, true) if from.bits() > to.bits() => from,
        (false, true) => from,
        _ => to,
    };
    // Whole numbers that a narrow float does not hold.
    let common = if common.is_float() && common.bits() < 32 { DType::F32 } else { common };
    let (base, exponent) = (ctx.cast(base, common)?, ctx.cast(exponent, common)?);
    let power = ctx.binary(BinaryFn::Pow, base, exponent)?;
    ctx.cast(power, to)
}

fn bit_shift<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    match node.attr_str("direction")? {
        "LEFT" => ctx.binary(BinaryFn::ShiftLeft, a, b),
        "RIGHT" if ctx.dtype(a).class() == Class::Int => arithmetic_shift(ctx, a, b),
        "RIGHT" => ctx.binary(BinaryFn::ShiftRight, a, b),
        other => Err(invalid(format!("the direction is `{other}`, not LEFT or RIGHT"))),
    }
}

/// A shift that repeats the sign: that of a negative number is the complement of its complement's.
fn arithmetic_shift(ctx: &mut Ctx<'_, '_>, a: Value, b: Value) -> Outcome<Value> {
    let negative = ctx.with_scalar(BinaryFn::Lt, a, 0.0)?;
    let complement = ctx.unary(UnaryFn::BitNot, a)?;
    let positive = ctx.select(negative, complement, a)?;
    let shifted = ctx.binary(BinaryFn::ShiftRight, positive, b)?;
    let complement = ctx.unary(UnaryFn::BitNot, shifted)?;
    ctx.select(negative, complement, shifted)
}

fn is_inf<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let infinite = ctx.unary(UnaryFn::IsInf, x)?;
    let sign = match (node.attr_bool_or("detect_negative", true)?, node.attr_bool_or("detect_positive", true)?) {
        (true, true) => return Ok(infinite),
        (true, false) => BinaryFn::Lt,
        (false, true) => BinaryFn::Gt,
        (false, false) => {
            let never = ctx.unary(UnaryFn::Not, infinite)?;
            return ctx.binary(BinaryFn::And, infinite, never);
        }
    };
    let signed = ctx.with_scalar(sign, x, 0.0)?;
    ctx.binary(BinaryFn::And, infinite, signed)
}

/// The same bits as another type.
fn bit_cast<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, dtype) = (ctx.value(node, 0)?, node.attr_dtype("to")?);
    if dtype.bits() != ctx.dtype(x).bits() || dtype.bits() == 0 {
        return Err(invalid(format!("{} and {dtype} differ in size", ctx.dtype(x))));
    }
    let types = vec![Type::new(dtype, ctx.shape(x))];
    let ints = vec![i64::from(dtype.onnx())];
    ctx.add(Op::Host { function: "bit_cast".into(), ints, reals: Vec::new(), types }, &[x])
}

fn cast<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    convert(ctx, node, x, node.attr_dtype("to")?)
}

fn cast_like<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let like = ctx.input_type(node, 1).ok_or(crate::Fault::MissingInput(1))?;
    convert(ctx, node, x, like.dtype)
}

fn convert<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value, dtype: DType) -> Outcome<Value> {
    let from = ctx.dtype(x);
    if from == dtype {
        return Ok(x);
    }
    let saturate = node.attr_bool_or("saturate", true)?;
    let x = if dtype == DType::F8E8M0 { to_power_of_two(ctx, node, x, saturate)? } else { x };
    converted(ctx, x, dtype, saturate)
}

/// Conversion between any two types. Tiles neither hold text nor round to four bits or past the largest number of eight.
pub(super) fn converted(ctx: &mut Ctx<'_, '_>, x: Value, dtype: DType, saturate: bool) -> Outcome<Value> {
    let text = ctx.dtype(x).class() == Class::String || dtype.class() == Class::String;
    let overflows = !saturate && dtype.is_float() && dtype.bits() <= 8;
    if !text && !overflows && dtype != DType::F4E2M1 {
        return ctx.add(Op::Cast { dtype, saturate }, &[x]);
    }
    let types = vec![Type::new(dtype, ctx.shape(x))];
    let ints = vec![i64::from(dtype.onnx()), i64::from(saturate)];
    ctx.add(Op::Host { function: "cast".into(), ints, reals: Vec::new(), types }, &[x])
}

/// The power of two that `x` becomes as an E8M0: the conversion rounds to the nearest, the operator upwards unless it says otherwise.
fn to_power_of_two<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value, saturate: bool) -> Outcome<Value> {
    let (wrong, factor) = match node.attr_str_or("round_mode", "up")? {
        "nearest" => return Ok(x),
        "up" => (BinaryFn::Lt, 2.0),
        "down" => (BinaryFn::Gt, 0.5),
        other => return Err(invalid(format!("`round_mode` is `{other}`, not up, down or nearest"))),
    };
    let x = ctx.cast(x, DType::F32)?;
    let narrow = ctx.add(Op::Cast { dtype: DType::F8E8M0, saturate }, &[x])?;
    let nearest = ctx.cast(narrow, DType::F32)?;
    let wrong = ctx.binary(wrong, nearest, x)?;
    let other = ctx.with_scalar(BinaryFn::Mul, nearest, factor)?;
    ctx.select(wrong, other, nearest)
}

fn clip<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let mut x = ctx.value(node, 0)?;
    let (low, high) = if node.since(11) {
        (ctx.value_opt(node, 1)?, ctx.value_opt(node, 2)?)
    } else {
        let bound = |name| node.attr_f32_opt(name);
        let (low, high) = (bound("min")?, bound("max")?);
        (low.map(|v| ctx.scalar_like(x, v.into())), high.map(|v| ctx.scalar_like(x, v.into())))
    };
    if let Some(low) = low {
        x = ctx.binary(BinaryFn::Max, x, low)?;
    }
    if let Some(high) = high {
        x = ctx.binary(BinaryFn::Min, x, high)?;
    }
    Ok(x)
}
