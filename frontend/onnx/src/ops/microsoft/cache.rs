//! Keys and values of a cache as codes: 8-bit integers, bytes of two 4-bit integers, or 8-bit floats, with a scale for all or one for
//! each channel.

use tarsia_graph::{BinaryFn, Op, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

/// What a cache holds.
pub(super) enum Codes {
    /// The numbers themselves.
    Numbers,
    /// Codes of a type, and their scale.
    Scaled { dtype: DType, scale: Value },
    /// Two codes of 4 bits a byte, the low one first, 8 more than they stand for; and their scale.
    Halves { scale: Value },
}

impl Codes {
    /// Of a cache that an attribute says the kind of, by the inputs of the past and of the scale.
    pub fn of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, kind: &str, past: usize, scale: usize) -> Outcome<Codes> {
        match node.attr_str_or(kind, "NONE")? {
            "NONE" => return Ok(Codes::Numbers),
            "PER_TENSOR" | "PER_CHANNEL" => {}
            other => return Err(invalid(format!("`{kind}` is `{other}`"))),
        }
        let scale = ctx.value(node, scale)?;
        let scale = ctx.cast(scale, DType::F32)?;
        let scale = if ctx.ty(scale).count().is(1) { ctx.reshape(scale, &[])? } else { scale };
        let past = ctx.input_type(node, past).map(|ty| ty.dtype);
        match (past, node.attr_int_or("kv_cache_bit_width", 8)?) {
            (Some(DType::U8), 4) => Ok(Codes::Halves { scale }),
            (Some(dtype @ (DType::I8 | DType::F8E4M3FN)), 8) => Ok(Codes::Scaled { dtype, scale }),
            (Some(dtype), bits) => Err(unsupported(format!("a cache of {dtype} with codes of {bits} bits"))),
            (None, _) => Err(unsupported("codes of a cache without a past, which tells their type")),
        }
    }

    /// What the cache holds of numbers `[batch, heads, length, size]`.
    pub fn of_numbers(&self, ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
        let scaled = |ctx: &mut Ctx<'_, '_>, scale: Value| {
            let x = ctx.cast(x, DType::F32)?;
            ctx.binary(BinaryFn::Div, x, scale)
        };
        let rounded = |ctx: &mut Ctx<'_, '_>, scale: Value, low: f64, high: f64| {
            let x = scaled(ctx, scale)?;
            let x = ctx.unary(UnaryFn::Round, x)?;
            let x = ctx.with_scalar(BinaryFn::Max, x, low)?;
            ctx.with_scalar(BinaryFn::Min, x, high)
        };
        match *self {
            Codes::Numbers => Ok(x),
            Codes::Scaled { dtype: DType::I8, scale } => {
                let x = rounded(ctx, scale, -128.0, 127.0)?;
                ctx.cast(x, DType::I8)
            }
            Codes::Scaled { dtype, scale } => {
                let x = scaled(ctx, scale)?;
                ctx.add(Op::Cast { dtype, saturate: true }, &[x])
            }
            Codes::Halves { scale } => {
                let x = rounded(ctx, scale, -8.0, 7.0)?;
                let x = ctx.with_scalar(BinaryFn::Add, x, 8.0)?;
                let last = ctx.rank(x).saturating_sub(1);
                let bytes = ctx.size(x, last)?.floor_div(&Dim::Const(2));
                let low = ctx.slice_axis(x, last, Dim::ZERO, bytes.clone(), 2)?;
                let high = ctx.slice_axis(x, last, Dim::ONE, bytes, 2)?;
                let high = ctx.with_scalar(BinaryFn::Mul, high, 16.0)?;
                let x = ctx.binary(BinaryFn::Add, low, high)?;
                ctx.cast(x, DType::U8)
            }
        }
    }

    /// The numbers that a cache stands for, in a type.
    pub fn numbers(&self, ctx: &mut Ctx<'_, '_>, x: Value, dtype: DType) -> Outcome<Value> {
        let (codes, scale) = match *self {
            Codes::Numbers => return Ok(x),
            Codes::Scaled { scale, .. } => (ctx.cast(x, DType::F32)?, scale),
            Codes::Halves { scale } => {
                let x = ctx.cast(x, DType::I32)?;
                let (low, high) = (ctx.with_scalar(BinaryFn::Mod, x, 16.0)?, ctx.with_scalar(BinaryFn::Div, x, 16.0)?);
                let mut shape = ctx.shape(x);
                let rank = shape.len();
                let (low, high) = (ctx.unsqueeze(low, rank)?, ctx.unsqueeze(high, rank)?);
                let pairs = ctx.concat(&[low, high], rank)?;
                if let Some(last) = shape.last_mut() {
                    *last = last.clone() * Dim::Const(2);
                }
                let codes = ctx.reshape(pairs, &shape)?;
                let codes = ctx.cast(codes, DType::F32)?;
                (ctx.with_scalar(BinaryFn::Sub, codes, 8.0)?, scale)
            }
        };
        let x = ctx.binary(BinaryFn::Mul, codes, scale)?;
        ctx.cast(x, dtype)
    }
}
