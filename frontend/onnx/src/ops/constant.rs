//! Constants, ranges, random numbers, and what passes its input through.

use bytes::Bytes;
use tarsia_graph::{BinaryFn, Op, Type, UnaryFn, Value};
use tarsia_tensor::{ArgReduceFn, DType, Dim, Tensor};

use super::{
    Importer::{One, Values},
    Row, Rows,
};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, invalid},
    schema::AttributeType,
};

pub(super) const ROWS: Rows = &[
    Row::new("Bernoulli", 15, One(bernoulli)),
    Row::new("Constant", 1, One(constant)),
    Row::new("Dropout", 6, Values(dropout)),
    Row::new("EyeLike", 9, One(eye_like)),
    Row::new("Multinomial", 7, One(multinomial)),
    Row::new("RandomNormal", 1, One(|ctx, node| random_of_shape(ctx, node, "normal"))),
    Row::new("RandomNormalLike", 1, One(|ctx, node| random_like(ctx, node, "normal"))),
    Row::new("RandomUniform", 1, One(|ctx, node| random_of_shape(ctx, node, "uniform"))),
    Row::new("RandomUniformLike", 1, One(|ctx, node| random_like(ctx, node, "uniform"))),
    Row::new("Range", 11, One(range)),
];

fn constant<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    for name in ["value", "sparse_value"] {
        if let Some(tensor) = node.attr_tensor_opt(name)? {
            return Ok(ctx.add_constant(tensor));
        }
    }
    let tensor = if let Some(value) = node.attr_int_opt("value_int")? {
        Tensor::scalar(value)
    } else if let Some(value) = node.attr_f32_opt("value_float")? {
        Tensor::scalar(value)
    } else if let Some(values) = node.attr_ints_opt("value_ints")? {
        Tensor::from_slice(&[values.len()], values)?
    } else if let Some(values) = node.attr_floats_opt("value_floats")? {
        Tensor::from_slice(&[values.len()], values)?
    } else if let Some(value) = node.attr_str_opt("value_string")? {
        Tensor::from_strings(&[], vec![Bytes::copy_from_slice(value.as_bytes())])?
    } else if let Some(values) = node.attr_strs_opt("value_strings")? {
        let values = values.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect::<Vec<_>>();
        Tensor::from_strings(&[values.len()], values)?
    } else {
        return Err(invalid("it has none of the attributes that give its value"));
    };
    Ok(ctx.add_constant(tensor))
}

/// Nothing but in training (which is asked for from version 12 on, as a run-time flag), where each element is 0 with probability
/// `ratio`.
fn dropout<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    let shape = ctx.shape(x);
    let yes = |ctx: &mut Ctx<'a, '_>| -> Outcome<Value> {
        let yes = ctx.add_constant(Tensor::new(DType::Bool, &[], Bytes::from_static(&[1]))?);
        ctx.broadcast(yes, &shape)
    };
    let training = if node.since(12) { ctx.value_opt(node, 2)? } else { None };
    let known = |ctx: &Ctx<'a, '_>, value| ctx.known_value(value).and_then(|known| known.ints());
    let Some(training) = training.filter(|&flag| known(ctx, flag) != Some(vec![0])) else {
        return Ok(vec![x, yes(ctx)?]);
    };
    let ratio = match ctx.value_opt(node, 1)? {
        Some(ratio) => ctx.cast(ratio, DType::F32)?,
        None => ctx.scalar(DType::F32, 0.5),
    };
    if known(ctx, ratio) == Some(vec![0]) {
        return Ok(vec![x, yes(ctx)?]);
    }
    // A seeded mask is compared with as many bits as it has.
    let wide = if node.attr("seed").is_some() { DType::F64 } else { DType::F32 };
    let ratio = ctx.cast(ratio, wide)?;
    let random = random(ctx, node, wide, &shape, "uniform")?;
    let above = ctx.binary(BinaryFn::Ge, random, ratio)?;
    let idle = ctx.unary(UnaryFn::Not, training)?;
    let kept = ctx.binary(BinaryFn::Or, above, idle)?;
    let one = ctx.scalar(wide, 1.0);
    let share = ctx.binary(BinaryFn::Sub, one, ratio)?;
    let share = ctx.select(idle, one, share)?;
    let dtype = ctx.dtype(x);
    let share = ctx.cast(share, dtype)?;
    let scaled = ctx.binary(BinaryFn::Div, x, share)?;
    let zero = ctx.scalar_like(x, 0.0);
    Ok(vec![ctx.select(kept, scaled, zero)?, kept])
}

/// Random numbers: uniform in [0, 1) or standard normal. With a seed they are what NumPy's `RandomState` draws, as in ONNX's reference
/// evaluation, on the host; without one the op's own, by the number of the node.
fn random<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    dtype: DType,
    shape: &[Dim],
    distribution: &str,
) -> Outcome<Value> {
    // The seed is an integer for some operators, a float for others.
    let seed = match node.attr("seed").map(|seed| seed.kind()) {
        Some(AttributeType::Int) => Some(node.attr_int("seed")?),
        Some(_) => Some(node.attr_f32("seed")? as i64),
        None => None,
    };
    if let Some(seed) = seed {
        let sizes = ctx.dims_vector(shape)?;
        let ints = vec![seed, i64::from(distribution == "normal")];
        let types = vec![Type::new(DType::F64, shape)];
        let drawn = ctx.add(Op::Host { function: "random".into(), ints, reals: Vec::new(), types }, &[sizes])?;
        return ctx.cast(drawn, dtype);
    }
    // Without a seed each node has one of its own, the same in every run.
    let seed = ctx.graph.node_count() as i64;
    let op = Op::Random { dtype, shape: shape.to_vec(), distribution: distribution.to_owned(), seed };
    ctx.add(op, &[])
}

/// Random numbers brought to the range or the mean and deviation that the attributes give.
fn random_scaled<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    dtype: DType,
    shape: &[Dim],
    distribution: &str,
) -> Outcome<Value> {
    let (scale, shift) = if distribution == "normal" {
        (node.attr_f32_or("scale", 1.0)?, node.attr_f32_or("mean", 0.0)?)
    } else {
        let (low, high) = (node.attr_f32_or("low", 0.0)?, node.attr_f32_or("high", 1.0)?);
        (high - low, low)
    };
    let random = random(ctx, node, dtype, shape, distribution)?;
    let scaled = ctx.with_scalar(BinaryFn::Mul, random, scale.into())?;
    ctx.with_scalar(BinaryFn::Add, scaled, shift.into())
}

fn random_of_shape<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, distribution: &str) -> Outcome<Value> {
    let shape: Vec<Dim> = node.attr_ints("shape")?.iter().map(|&size| Dim::Const(size.max(0))).collect();
    let dtype = node.attr_dtype_opt("dtype")?.unwrap_or(DType::F32);
    random_scaled(ctx, node, dtype, &shape, distribution)
}

fn random_like<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, distribution: &str) -> Outcome<Value> {
    let like = ctx.input_type(node, 0).ok_or(Fault::MissingInput(0))?;
    let dtype = node.attr_dtype_opt("dtype")?.unwrap_or(like.dtype);
    random_scaled(ctx, node, dtype, &like.shape, distribution)
}

fn bernoulli<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let p = ctx.value(node, 0)?;
    let (own, shape) = (ctx.dtype(p), ctx.shape(p));
    let dtype = node.attr_dtype_opt("dtype")?.unwrap_or(own);
    let random = random(ctx, node, own, &shape, "uniform")?;
    let hit = ctx.binary(BinaryFn::Lt, random, p)?;
    ctx.cast(hit, dtype)
}

/// Classes drawn by their log-probabilities: the largest sum of one with Gumbel noise, `-log(-log(u))`.
fn multinomial<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let x = ctx.cast(x, DType::F32)?;
    let [rows, classes] = <[Dim; 2]>::try_from(ctx.shape(x)).map_err(|_| invalid("its input is no matrix"))?;
    let samples = Dim::Const(node.attr_int_or("sample_size", 1)?.max(0));
    let mut noise = random(ctx, node, DType::F32, &[rows, samples, classes], "uniform")?;
    noise = ctx.with_scalar(BinaryFn::Max, noise, f64::from(f32::MIN_POSITIVE))?;
    for _ in 0..2 {
        let log = ctx.unary(UnaryFn::Log, noise)?;
        noise = ctx.unary(UnaryFn::Neg, log)?;
    }
    let x = ctx.unsqueeze(x, 1)?;
    let sum = ctx.binary(BinaryFn::Add, x, noise)?;
    let drawn = ctx.add(Op::ArgReduce { function: ArgReduceFn::Max, axis: 2, last: false }, &[sum])?;
    let drawn = ctx.squeeze(drawn, &[2])?;
    ctx.cast(drawn, node.attr_dtype_opt("dtype")?.unwrap_or(DType::I32))
}

/// Ones on the diagonal `k` of a matrix.
fn eye_like<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let like = ctx.input_type(node, 0).ok_or(Fault::MissingInput(0))?;
    if like.rank() != 2 {
        return Err(invalid(format!("its input has {} axes, not 2", like.rank())));
    }
    let (rows, columns) = (ctx.iota(DType::I64, &like.shape, 0)?, ctx.iota(DType::I64, &like.shape, 1)?);
    let diagonal = ctx.with_scalar(BinaryFn::Add, rows, node.attr_int_or("k", 0)? as f64)?;
    let hit = ctx.binary(BinaryFn::Eq, diagonal, columns)?;
    ctx.cast(hit, node.attr_dtype_opt("dtype")?.unwrap_or(like.dtype))
}

/// `start + i·delta` while below `limit`.
pub(super) fn range<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let dtype = ctx.input_type(node, 0).ok_or(Fault::MissingInput(0))?.dtype;
    let by_one = node.domain() == "com.microsoft" && ctx.item(node, 2).is_none();
    let Some(count) = range_count(ctx, node, by_one)? else {
        let step = if by_one { ctx.scalar(dtype, 1.0) } else { scalar_input(ctx, node, 2)? };
        let bounds = [scalar_input(ctx, node, 0)?, scalar_input(ctx, node, 1)?, step];
        return ctx.host("range", Vec::new(), &bounds, dtype, 1);
    };
    let mut y = ctx.iota(dtype, &[count], 0)?;
    if !by_one && ctx.known(node, 2).and_then(|known| known.ints()).as_deref() != Some(&[1]) {
        let delta = scalar_input(ctx, node, 2)?;
        y = ctx.binary(BinaryFn::Mul, y, delta)?;
    }
    if ctx.known(node, 0).and_then(|known| known.ints()).as_deref() != Some(&[0]) {
        let start = scalar_input(ctx, node, 0)?;
        y = ctx.binary(BinaryFn::Add, y, start)?;
    }
    Ok(y)
}

/// An input that holds one element, as a scalar: some exporters give it an axis.
fn scalar_input<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, index: usize) -> Outcome<Value> {
    let value = ctx.value(node, index)?;
    ctx.reshape(value, &[])
}

/// How many elements a range has, if that is known at import.
fn range_count<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, by_one: bool) -> Outcome<Option<Dim>> {
    let known = |index: usize| match index {
        2 if by_one => Some(Dim::ONE),
        _ => ctx.known(node, index).and_then(|known| known.only().cloned()),
    };
    if let (Some(start), Some(limit), Some(delta)) = (known(0), known(1), known(2).and_then(|d| d.as_const())) {
        let (distance, step) = match delta {
            0 => return Err(invalid("its step is 0")),
            1.. => (limit - start, delta),
            _ => (start - limit, delta.checked_neg().ok_or_else(|| invalid("its step is too large"))?),
        };
        return Ok(Some(distance.maximum(&Dim::ZERO).ceil_div(&Dim::Const(step))));
    }
    let number = |index: usize| match index {
        2 if by_one => Some(1.0),
        _ => ctx.tensor(node, index).and_then(|t| t.numbers().ok()?.to_f64().first().copied()),
    };
    let (Some(start), Some(limit), Some(delta)) = (number(0), number(1), number(2)) else { return Ok(None) };
    let count = ((limit - start) / delta).ceil();
    if count.is_nan() || count > 1e15 {
        return Err(invalid(format!("from {start} to {limit} by {delta} is no range")));
    }
    Ok(Some(Dim::Const(count.max(0.0) as i64)))
}
