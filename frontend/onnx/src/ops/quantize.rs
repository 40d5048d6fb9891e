//! Quantisation: integers (and narrow floats) with scales, and products of them.
//!
//! Everything becomes arithmetic on the stored values: `(x - zero point)·scale` one way, `round(x/scale) + zero point`, kept within the
//! type, the other. Rules move scales through products; nothing here looks at what uses the result.

use tarsia_graph::{BinaryFn, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{Class, DType, Dim};

use super::{
    Importer::{One, Values},
    Row, Rows,
    contract::product,
    convolution::{convolve, per_channel},
    pointwise::converted,
};
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("ConvInteger", 10, One(conv_integer)),
    Row::new("DequantizeLinear", 10, One(dequantize)),
    Row::new("DynamicQuantizeLinear", 11, Values(dynamic_quantize)),
    Row::new("MatMulInteger", 10, One(matmul_integer)),
    Row::new("QLinearConv", 10, One(quantised_conv)),
    Row::new("QLinearMatMul", 10, One(quantised_matmul)),
    Row::new("QuantizeLinear", 10, One(quantize)),
];

/// How scales lie along the axes of a tensor.
pub(super) enum Grain {
    /// Broadcastable as they are: one for all, or one per index of an axis.
    Broadcast(Vec<Dim>),
    /// One per block of so many elements along an axis.
    Blocks { axis: usize, size: Dim },
}

impl Grain {
    fn of<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, x: Value, scale: Value) -> Outcome<Grain> {
        let (rank, own) = (ctx.rank(x), ctx.shape(scale));
        let block = node.attr_int_or("block_size", 0)?;
        if block < 0 {
            return Err(invalid(format!("`block_size` is {block}")));
        }
        if own.is_empty() || own.len() == 1 && own[0].is(1) {
            return Ok(Grain::Broadcast(Vec::new()));
        }
        let axis = axis_of(node.attr_int_or("axis", 1)?, rank)?;
        if block > 0 {
            if own.len() != rank {
                return Err(invalid(format!("scales with {} axes for blocks of {rank} axes", own.len())));
            }
            return Ok(Grain::Blocks { axis, size: Dim::Const(block) });
        }
        let [count] = own.as_slice() else {
            return Err(invalid(format!("scales with {} axes, but no `block_size`", own.len())));
        };
        let mut shape = vec![Dim::ONE; rank];
        shape[axis] = count.clone();
        Ok(Grain::Broadcast(shape))
    }
}

/// An operand and its scale and zero point in f32, shaped to broadcast against each other; `shape` is the operand's own.
struct Scaled {
    x: Value,
    scale: Value,
    zero: Option<Value>,
    shape: Vec<Dim>,
}

/// Whether a zero point is there and not known to be 0.
fn shifts(ctx: &Ctx<'_, '_>, zero: Value) -> bool {
    let numbers = ctx.constant(zero).and_then(|tensor| tensor.numbers().ok());
    numbers.is_none_or(|numbers| numbers.to_f64().iter().any(|&value| value != 0.0))
}

impl Scaled {
    fn of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, wide: DType) -> Outcome<Scaled> {
        let (x, scale, zero) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value_opt(node, 2)?);
        let grain = Grain::of(ctx, node, x, scale)?;
        Scaled::new(ctx, x, scale, zero, &grain, wide)
    }

    fn new(
        ctx: &mut Ctx<'_, '_>,
        x: Value,
        scale: Value,
        zero: Option<Value>,
        grain: &Grain,
        wide: DType,
    ) -> Outcome<Scaled> {
        let zero = zero.filter(|&zero| shifts(ctx, zero));
        let shape = ctx.shape(x);
        let x = ctx.cast(x, wide)?;
        let x = match grain {
            Grain::Blocks { axis, size } if shape[*axis].exact_div(size).is_some() => {
                let mut split = shape.clone();
                split[*axis] = shape[*axis].floor_div(size);
                split.insert(axis + 1, size.clone());
                ctx.reshape(x, &split)?
            }
            _ => x,
        };
        let mut fit = |value: Value| -> Outcome<Value> {
            let value = ctx.cast(value, wide)?;
            match grain {
                _ if ctx.rank(value) == 0 => Ok(value),
                Grain::Broadcast(shape) => ctx.reshape(value, shape),
                Grain::Blocks { .. } if ctx.rank(value) != shape.len() => {
                    let (found, expected) = (ctx.rank(value), shape.len());
                    Err(invalid(format!("zero points with {found} axes for blocks of {expected} axes")))
                }
                Grain::Blocks { axis, size } if shape[*axis].exact_div(size).is_some() => {
                    ctx.unsqueeze(value, axis + 1)
                }
                Grain::Blocks { axis, size } => repeated(ctx, value, *axis, size, &shape[*axis]),
            }
        };
        let scale = fit(scale)?;
        let zero = zero.map(fit).transpose()?;
        Ok(Scaled { x, scale, zero, shape })
    }
}

/// Each element of an axis `block` times, the first `size` of all.
fn repeated(ctx: &mut Ctx<'_, '_>, x: Value, axis: usize, block: &Dim, size: &Dim) -> Outcome<Value> {
    let mut shape = ctx.shape(x);
    let whole = shape[axis].clone() * block.clone();
    let x = ctx.unsqueeze(x, axis + 1)?;
    shape.insert(axis + 1, block.clone());
    let x = ctx.broadcast(x, &shape)?;
    shape.remove(axis + 1);
    shape[axis] = whole;
    let x = ctx.reshape(x, &shape)?;
    ctx.slice_axis(x, axis, Dim::ZERO, size.clone(), 1)
}

/// `(x - zero point)·scale`.
pub(super) fn dequantize<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, scale, zero) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value_opt(node, 2)?);
    let grain = Grain::of(ctx, node, x, scale)?;
    let dtype = node.attr_dtype_opt("output_dtype")?.unwrap_or_else(|| ctx.dtype(scale));
    dequantized(ctx, x, scale, zero, &grain, dtype)
}

/// `(x - zero point)·scale`, computed in f32.
pub(super) fn dequantized(
    ctx: &mut Ctx<'_, '_>,
    x: Value,
    scale: Value,
    zero: Option<Value>,
    grain: &Grain,
    dtype: DType,
) -> Outcome<Value> {
    let scaled = Scaled::new(ctx, x, scale, zero, grain, DType::F32)?;
    let mut x = scaled.x;
    if let Some(zero) = scaled.zero {
        x = ctx.binary(BinaryFn::Sub, x, zero)?;
    }
    let y = ctx.binary(BinaryFn::Mul, x, scaled.scale)?;
    let y = ctx.reshape(y, &scaled.shape)?;
    ctx.cast(y, dtype)
}

/// `x/scale`, rounded to the nearest integer with ties to even, plus the zero point, within the type.
pub(super) fn quantize<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let dtype = match (ctx.input_type(node, 2), node.attr_dtype_opt("output_dtype")?) {
        (Some(zero), _) => zero.dtype,
        (None, Some(dtype)) => dtype,
        (None, None) => DType::U8,
    };
    let wide = match node.attr_dtype_opt("precision")? {
        Some(DType::F64) => DType::F64,
        _ => DType::F32,
    };
    let scaled = Scaled::of(ctx, node, wide)?;
    let y = ctx.binary(BinaryFn::Div, scaled.x, scaled.scale)?;
    let y = if dtype.class() == Class::Float {
        let y = match scaled.zero {
            Some(zero) => ctx.binary(BinaryFn::Add, y, zero)?,
            None => y,
        };
        converted(ctx, y, dtype, node.attr_bool_or("saturate", true)?)?
    } else {
        stored(ctx, y, scaled.zero, dtype)?
    };
    ctx.reshape(y, &scaled.shape)
}

/// A float in units of the scale as it is stored: rounded, shifted, kept within the integer type.
pub(super) fn stored(ctx: &mut Ctx<'_, '_>, x: Value, zero: Option<Value>, dtype: DType) -> Outcome<Value> {
    let bits = dtype.bits() as i32;
    let (low, high) = match dtype.class() {
        Class::Uint => (0.0, 2f64.powi(bits) - 1.0),
        Class::Int => (-2f64.powi(bits - 1), 2f64.powi(bits - 1) - 1.0),
        _ => return Err(invalid(format!("{dtype} is no type that values are quantised to"))),
    };
    let mut y = ctx.unary(UnaryFn::Round, x)?;
    if let Some(zero) = zero {
        y = ctx.binary(BinaryFn::Add, y, zero)?;
    }
    let y = ctx.with_scalar(BinaryFn::Max, y, low)?;
    let y = ctx.with_scalar(BinaryFn::Min, y, high)?;
    ctx.cast(y, dtype)
}

fn dynamic_quantize<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    Ok(dynamically_quantised(ctx, x)?.to_vec())
}

/// Quantisation to u8 with the scale and zero point that hold the data's range and 0: codes, scale, zero point.
fn dynamically_quantised(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<[Value; 3]> {
    let axes: Vec<usize> = (0..ctx.rank(x)).collect();
    let extreme = |ctx: &mut Ctx<'_, '_>, reduce, function| {
        let y = ctx.reduce(reduce, x, &axes)?;
        let y = ctx.reshape(y, &[])?;
        ctx.with_scalar(function, y, 0.0)
    };
    let high = extreme(ctx, ReduceFn::Max, BinaryFn::Max)?;
    let low = extreme(ctx, ReduceFn::Min, BinaryFn::Min)?;
    let range = ctx.binary(BinaryFn::Sub, high, low)?;
    let empty = ctx.binary(BinaryFn::Eq, high, low)?;
    let one = ctx.scalar_like(range, 1.0);
    let range = ctx.select(empty, one, range)?;
    let scale = ctx.with_scalar(BinaryFn::Div, range, 255.0)?;
    let zero = ctx.binary(BinaryFn::Div, low, scale)?;
    let zero = ctx.unary(UnaryFn::Neg, zero)?;
    let zero = ctx.with_scalar(BinaryFn::Max, zero, 0.0)?;
    let zero = ctx.with_scalar(BinaryFn::Min, zero, 255.0)?;
    let zero = ctx.unary(UnaryFn::Round, zero)?;
    let y = ctx.binary(BinaryFn::Div, x, scale)?;
    let y = stored(ctx, y, Some(zero), DType::U8)?;
    Ok([y, scale, ctx.cast(zero, DType::U8)?])
}

/// Stored integers with what they stand for, `(codes - zero)·scale`; scale and zero point broadcast against the codes, and the scale
/// against what the codes are factors of.
#[derive(Clone, Copy)]
pub(super) struct Quantised {
    pub codes: Value,
    pub scale: Value,
    pub zero: Option<Value>,
}

impl Quantised {
    /// The codes in i32, without the zero point.
    fn shifted(&self, ctx: &mut Ctx<'_, '_>) -> Outcome<Value> {
        let codes = ctx.cast(self.codes, DType::I32)?;
        let Some(zero) = self.zero.filter(|&zero| shifts(ctx, zero)) else { return Ok(codes) };
        let zero = ctx.cast(zero, DType::I32)?;
        ctx.binary(BinaryFn::Sub, codes, zero)
    }
}

/// A product in integers of what two stand for, in f32; `multiply` gives the i32 product of two i32 operands.
pub(super) fn product_of_quantised<'a, 'o>(
    ctx: &mut Ctx<'a, 'o>,
    a: Quantised,
    b: Quantised,
    multiply: impl FnOnce(&mut Ctx<'a, 'o>, Value, Value) -> Outcome<Value>,
) -> Outcome<Value> {
    let (x, y) = (a.shifted(ctx)?, b.shifted(ctx)?);
    let sum = multiply(ctx, x, y)?;
    let sum = ctx.cast(sum, DType::F32)?;
    let (a_scale, b_scale) = (ctx.cast(a.scale, DType::F32)?, ctx.cast(b.scale, DType::F32)?);
    let scale = ctx.binary(BinaryFn::Mul, a_scale, b_scale)?;
    ctx.binary(BinaryFn::Mul, sum, scale)
}

/// As [`product_of_quantised`] with a float operand that is quantised on the way.
pub(super) fn product_with_quantised<'a, 'o>(
    ctx: &mut Ctx<'a, 'o>,
    x: Value,
    b: Quantised,
    multiply: impl FnOnce(&mut Ctx<'a, 'o>, Value, Value) -> Outcome<Value>,
) -> Outcome<Value> {
    let [codes, scale, zero] = dynamically_quantised(ctx, x)?;
    product_of_quantised(ctx, Quantised { codes, scale, zero: Some(zero) }, b, multiply)
}

/// An integer operand in i32 without its zero point, which `place` shapes to broadcast against it.
fn shifted<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    x: usize,
    zero: usize,
    place: impl Fn(&mut Ctx<'a, '_>, Value) -> Outcome<Value>,
) -> Outcome<Value> {
    let (x, zero) = (ctx.value(node, x)?, ctx.value_opt(node, zero)?);
    let x = ctx.cast(x, DType::I32)?;
    let Some(zero) = zero.filter(|&zero| shifts(ctx, zero)) else { return Ok(x) };
    let zero = ctx.cast(zero, DType::I32)?;
    let zero = place(ctx, zero)?;
    ctx.binary(BinaryFn::Sub, x, zero)
}

/// One for all without axes; one per row as a column.
fn per_row(ctx: &mut Ctx<'_, '_>, value: Value) -> Outcome<Value> {
    match ctx.shape(value).as_slice() {
        [count] if count.is(1) => ctx.reshape(value, &[]),
        [count] => ctx.reshape(value, &[count.clone(), Dim::ONE]),
        _ => Ok(value),
    }
}

/// One for all without axes; one per column as it is.
pub(super) fn per_column(ctx: &mut Ctx<'_, '_>, value: Value) -> Outcome<Value> {
    if ctx.ty(value).count().is(1) { ctx.reshape(value, &[]) } else { Ok(value) }
}

/// One for all without axes; one per output channel with as many axes of size 1 after it as `rank` leaves.
fn per_output(ctx: &mut Ctx<'_, '_>, value: Value, after: usize) -> Outcome<Value> {
    let count = ctx.ty(value).count();
    let mut shape = vec![Dim::ONE; after];
    shape.insert(0, count.clone());
    if count.is(1) { ctx.reshape(value, &[]) } else { ctx.reshape(value, &shape) }
}

fn matmul_integer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let a = shifted(ctx, node, 0, 2, |ctx, zero| per_row(ctx, zero))?;
    let b = shifted(ctx, node, 1, 3, |ctx, zero| per_column(ctx, zero))?;
    product(ctx, a, b, DType::I32)
}

fn conv_integer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = shifted(ctx, node, 0, 2, |ctx, zero| per_column(ctx, zero))?;
    let after = ctx.input_type(node, 1).map_or(0, |ty| ty.rank().saturating_sub(1));
    let weights = shifted(ctx, node, 1, 3, |ctx, zero| per_output(ctx, zero, after))?;
    convolve(ctx, node, x, weights, DType::I32)
}

/// An i32 product in units of the result's scale, stored in its type.
fn rescaled<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    sum: Value,
    a_scale: Value,
    b_scale: Value,
    place: impl Fn(&mut Ctx<'a, '_>, Value) -> Outcome<Value>,
) -> Outcome<Value> {
    let (y_scale, y_zero) = (ctx.value(node, 6)?, ctx.value(node, 7)?);
    let dtype = ctx.dtype(y_zero);
    let y_scale = ctx.cast(y_scale, DType::F32)?;
    let y_scale = place(ctx, y_scale)?;
    let factor = ctx.binary(BinaryFn::Mul, a_scale, b_scale)?;
    let factor = ctx.binary(BinaryFn::Div, factor, y_scale)?;
    let sum = ctx.cast(sum, DType::F32)?;
    let y = ctx.binary(BinaryFn::Mul, sum, factor)?;
    let zero = if shifts(ctx, y_zero) {
        let zero = ctx.cast(y_zero, DType::F32)?;
        Some(place(ctx, zero)?)
    } else {
        None
    };
    stored(ctx, y, zero, dtype)
}

fn quantised_matmul<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let a = shifted(ctx, node, 0, 2, |ctx, zero| per_row(ctx, zero))?;
    let b = shifted(ctx, node, 3, 5, |ctx, zero| per_column(ctx, zero))?;
    let sum = product(ctx, a, b, DType::I32)?;
    let (a_scale, b_scale) = (ctx.value(node, 1)?, ctx.value(node, 4)?);
    let (a_scale, b_scale) = (ctx.cast(a_scale, DType::F32)?, ctx.cast(b_scale, DType::F32)?);
    let (a_scale, b_scale) = (per_row(ctx, a_scale)?, per_column(ctx, b_scale)?);
    rescaled(ctx, node, sum, a_scale, b_scale, |ctx, value| per_row(ctx, value))
}

fn quantised_conv<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    quantised_conv_of(ctx, node, x)
}

/// The quantised convolution of an image that stands for the first input.
pub(super) fn quantised_conv_of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    let after = ctx.input_type(node, 3).map_or(0, |ty| ty.rank().saturating_sub(1));
    let zero = ctx.value_opt(node, 2)?.map(|zero| per_column(ctx, zero)).transpose()?;
    let x = Quantised { codes: x, scale: x, zero }.shifted(ctx)?;
    let weights = shifted(ctx, node, 3, 5, |ctx, zero| per_output(ctx, zero, after))?;
    let mut sum = convolve(ctx, node, x, weights, DType::I32)?;
    if let Some(bias) = ctx.value_opt(node, 8)? {
        sum = per_channel(ctx, BinaryFn::Add, sum, bias)?;
    }
    let (x_scale, w_scale) = (ctx.value(node, 1)?, ctx.value(node, 4)?);
    let x_scale = per_column(ctx, x_scale)?;
    let w_scale = per_output(ctx, w_scale, after.saturating_sub(1))?;
    rescaled(ctx, node, sum, x_scale, w_scale, |ctx, value| per_column(ctx, value))
}
