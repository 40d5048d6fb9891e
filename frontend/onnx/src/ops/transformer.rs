//! Parts of transformers and of their recurrent relatives: normalisation by the mean square, rotary embedding, gated units, causal
//! convolution and linear attention with state.

use std::sync::Arc;

use tarsia_graph::{BinaryFn, Op, Real, Type, UnaryFn, Value};
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
    Row::new("CausalConvWithState", 27, Values(causal_conv)),
    Row::new("LinearAttention", 27, Values(linear_attention)),
    Row::new("RMSNormalization", 23, One(rms_normalization)),
    Row::new("RotaryEmbedding", 23, One(rotary_embedding)),
    Row::new("SwiGLU", 27, One(swiglu)),
];

fn rms_normalization<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, scale) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let axis = axis_of(node.attr_int_or("axis", -1)?, ctx.rank(x))?;
    let epsilon = Real(node.attr_f32_or("epsilon", 1e-5)?.into());
    let (own, dtype) = (ctx.dtype(x), ctx.dtype(scale));
    if own == dtype {
        return ctx.add(Op::RmsNorm { axis, epsilon }, &[x, scale]);
    }
    let one = ctx.scalar(own, 1.0);
    let y = ctx.add(Op::RmsNorm { axis, epsilon }, &[x, one])?;
    let y = ctx.cast(y, dtype)?;
    ctx.binary(BinaryFn::Mul, y, scale)
}

/// Rotates pairs of elements of each head by the angle of its position.
fn rotary_embedding<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let given = ctx.shape(x);
    let (split, heads_axis) = match given.as_slice() {
        [_, _, _, _] => (x, 1),
        [batch, length, joined] => {
            let count = node.attr_int_or("num_heads", 0)?;
            if count < 1 {
                return Err(invalid(format!("`num_heads` is {count}, which does not split an input with 3 axes")));
            }
            let count = Dim::Const(count);
            let size = joined.floor_div(&count);
            (ctx.reshape(x, &[batch.clone(), length.clone(), count, size])?, 2)
        }
        shape => return Err(invalid(format!("its input has {} axes, not 3 or 4", shape.len()))),
    };
    let size = ctx.size(split, 3)?;
    let turned = match node.attr_int_or("rotary_embedding_dim", 0)? {
        0 => size,
        turned if turned > 0 && turned % 2 == 0 => Dim::Const(turned),
        turned => return Err(invalid(format!("`rotary_embedding_dim` is {turned}"))),
    };
    let cos = cache(ctx, node, 1, heads_axis)?;
    let sin = cache(ctx, node, 2, heads_axis)?;
    let y = turned_in_part(ctx, split, &turned, [cos, sin], node.attr_bool_or("interleaved", false)?)?;
    ctx.reshape(y, &given)
}

/// Heads `[…, size]` the first `turned` elements of which are rotated.
pub(super) fn turned_in_part(
    ctx: &mut Ctx<'_, '_>,
    x: Value,
    turned: &Dim,
    [cos, sin]: [Value; 2],
    interleaved: bool,
) -> Outcome<Value> {
    let size = ctx.size(x, 3)?;
    let part = ctx.slice_axis(x, 3, Dim::ZERO, turned.clone(), 1)?;
    let y = ctx.add(Op::Rotary { interleaved }, &[part, cos, sin])?;
    if *turned == size {
        return Ok(y);
    }
    let rest = ctx.slice_axis(x, 3, turned.clone(), size - turned.clone(), 1)?;
    ctx.concat(&[y, rest], 3)
}

/// Cosines or sines of each position, with an axis for the heads.
fn cache<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, index: usize, heads_axis: usize) -> Outcome<Value> {
    let mut cache = ctx.value(node, index)?;
    if let Some(positions) = ctx.value_opt(node, 3)? {
        let length = ctx.size(cache, 0)?;
        let positions = ctx.indices(positions, &length)?;
        cache = ctx.add(Op::Gather { axis: 0 }, &[cache, positions])?;
    }
    if ctx.rank(cache) != 3 {
        return Err(invalid(format!("input {index} has not one row per position of each batch element")));
    }
    ctx.unsqueeze(cache, heads_axis)
}

/// `a·sigmoid(alpha·a)·b`.
fn swiglu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let alpha = node.attr_f32_or("alpha", 1.0)?;
    let gated = if alpha == 1.0 {
        ctx.add(Op::Silu {}, &[a])?
    } else {
        let scaled = ctx.with_scalar(BinaryFn::Mul, a, alpha.into())?;
        let gate = ctx.unary(UnaryFn::Sigmoid, scaled)?;
        ctx.binary(BinaryFn::Mul, a, gate)?
    };
    ctx.binary(BinaryFn::Mul, gated, b)
}

/// A convolution of each channel `[batch, channels, length]` over the elements before, which the state continues.
fn causal_conv<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let (x, state) = (ctx.value(node, 0)?, ctx.value_opt(node, 3)?);
    let (y, state) = causal_conv_of(ctx, node, x, state, 1)?;
    Ok(vec![y, state])
}

/// The same of an input and a state, with the weights, the bias and the activation of the node.
pub(super) fn causal_conv_of<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    x: Value,
    state: Option<Value>,
    dilation: usize,
) -> Outcome<(Value, Value)> {
    let weights = ctx.value(node, 1)?;
    let (shape, dtype) = (ctx.shape(x), ctx.dtype(x));
    let known = |value: Value, axis: usize| ctx.size(value, axis).map(|size| size.as_usize());
    let (Some(channels), Some(kernel @ 1..)) = (known(weights, 0)?, known(weights, 2)?) else {
        return Err(unsupported("weights whose shape is not known"));
    };
    if shape.len() != 3 {
        return Err(invalid(format!("its input has {} axes, not 3", shape.len())));
    }
    let reach = (kernel - 1).checked_mul(dilation).ok_or_else(|| invalid(format!("`dilation` is {dilation}")))?;
    let reach = Dim::from(reach);
    let state = match state {
        Some(state) => state,
        None => {
            let zero = ctx.scalar(dtype, 0.0);
            ctx.broadcast(zero, &[shape[0].clone(), shape[1].clone(), reach.clone()])?
        }
    };
    let whole = if kernel == 1 { x } else { ctx.concat(&[state, x], 2)? };
    let none = vec![0];
    let dilations = vec![dilation];
    let op = Op::Conv { strides: vec![1], low: none.clone(), high: none, dilations, groups: channels, dtype };
    let mut y = ctx.add(op, &[whole, weights])?;
    if let Some(bias) = ctx.value_opt(node, 2)? {
        y = per_channel(ctx, BinaryFn::Add, y, bias)?;
    }
    match node.attr_str_or("activation", "none")? {
        "none" => {}
        "silu" | "swish" => y = ctx.add(Op::Silu {}, &[y])?,
        other => return Err(invalid(format!("`activation` is `{other}`"))),
    }
    let state = ctx.slice_axis(whole, 2, shape[2].clone(), reach, 1)?;
    Ok((y, state))
}

/// The operands of linear attention with time first: `[time, batch, heads, size]`, in f32.
struct Steps {
    q: Value,
    k: Value,
    v: Value,
    decay: Option<Value>,
    beta: Option<Value>,
}

/// A state `[batch, heads, key size, value size]` that each step decays, corrects, adds `k⊗v` to, and reads with `q`.
pub(super) fn linear_attention<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let heads = |name: &str| -> Outcome<Dim> {
        let count = node.attr_int(name)?;
        if count < 1 { Err(invalid(format!("`{name}` is {count}"))) } else { Ok(Dim::Const(count)) }
    };
    let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    let (decays, corrects) = match node.attr_str_or("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(invalid(format!("`update_rule` is `{other}`"))),
    };
    let mut step = |index: usize, heads: &Dim| -> Outcome<Value> {
        let x = ctx.value(node, index)?;
        let Ok([batch, time, joined]) = <[Dim; 3]>::try_from(ctx.shape(x)) else {
            return Err(invalid(format!("input {index} has not 3 axes")));
        };
        let x = ctx.cast(x, DType::F32)?;
        // One number for all heads, or one or several per head.
        let heads = if joined.is(1) { Dim::ONE } else { heads.clone() };
        let x = ctx.reshape(x, &[batch, time, heads.clone(), joined.floor_div(&heads)])?;
        ctx.transpose(x, &[1, 0, 2, 3])
    };
    let steps = Steps {
        q: step(0, &q_heads)?,
        k: step(1, &kv_heads)?,
        v: step(2, &kv_heads)?,
        decay: if decays { Some(step(4, &kv_heads)?) } else { None },
        beta: if corrects { Some(step(5, &kv_heads)?) } else { None },
    };
    let dtype = ctx.input_type(node, 0).map_or(DType::F32, |ty| ty.dtype);
    let (batch, key, value) = (ctx.size(steps.q, 1)?, ctx.size(steps.k, 3)?, ctx.size(steps.v, 3)?);
    let (state, state_dtype) = match ctx.value_opt(node, 3)? {
        Some(state) => (ctx.cast(state, DType::F32)?, ctx.dtype(state)),
        None => {
            let zero = ctx.scalar(DType::F32, 0.0);
            (ctx.broadcast(zero, &[batch.clone(), kv_heads, key.clone(), value.clone()])?, dtype)
        }
    };
    let scale = match node.attr_f32_or("scale", 0.0)? {
        0.0 => {
            let key = key.as_const().filter(|&size| size > 0);
            1.0 / (key.ok_or_else(|| unsupported("keys of unknown size without `scale`"))? as f64).sqrt()
        }
        scale => scale.into(),
    };
    let time = ctx.size(steps.q, 0)?;
    let (y, state) = scan_steps(ctx, &steps, state, scale)?;
    let y = ctx.transpose(y, &[1, 0, 2, 3])?;
    let y = ctx.reshape(y, &[batch, time, q_heads * value])?;
    Ok(vec![ctx.cast(y, dtype)?, ctx.cast(state, state_dtype)?])
}

/// The results of all steps `[time, batch, query heads, value size]`, and the last state.
fn scan_steps(ctx: &mut Ctx<'_, '_>, steps: &Steps, state: Value, scale: f64) -> Outcome<(Value, Value)> {
    let scanned: Vec<Value> = [steps.q, steps.k, steps.v].into_iter().chain(steps.decay).chain(steps.beta).collect();
    let mut inputs = vec![("state", ctx.ty(state).clone())];
    for &x in &scanned {
        inputs.push(("step", Type::new(ctx.dtype(x), ctx.shape(x).split_off(1))));
    }
    let body = ctx.sub_graph("linear_attention", &inputs, &[], &[], |ctx, own, _| {
        let (mut state, q, k, mut v) = (own[0], own[1], own[2], own[3]);
        let mut rest = own[4..].iter();
        if steps.decay.is_some()
            && let Some(&decay) = rest.next()
        {
            let factor = ctx.unary(UnaryFn::Exp, decay)?;
            let factor = ctx.unsqueeze(factor, 3)?;
            state = ctx.binary(BinaryFn::Mul, state, factor)?;
        }
        if steps.beta.is_some()
            && let Some(&beta) = rest.next()
        {
            let known = ctx.contract("bhdm,bhd->bhm", state, k)?;
            let news = ctx.binary(BinaryFn::Sub, v, known)?;
            v = ctx.binary(BinaryFn::Mul, beta, news)?;
        }
        let (column, row) = (ctx.unsqueeze(k, 3)?, ctx.unsqueeze(v, 2)?);
        let product = ctx.binary(BinaryFn::Mul, column, row)?;
        state = ctx.binary(BinaryFn::Add, state, product)?;
        let (qs, vs) = (ctx.shape(q), ctx.shape(v));
        let share = qs[1].floor_div(&vs[1]);
        let grouped = ctx.reshape(q, &[qs[0].clone(), vs[1].clone(), share, qs[2].clone()])?;
        let y = ctx.contract("bgrd,bgdm->bgrm", grouped, state)?;
        let y = ctx.reshape(y, &[qs[0].clone(), qs[1].clone(), vs[2].clone()])?;
        let y = ctx.with_scalar(BinaryFn::Mul, y, scale)?;
        ctx.graph.add_output("state", state);
        ctx.graph.add_output("y", y);
        Ok(())
    })?;
    let mut result = body.ty(body.outputs()[1].value).clone();
    result.shape.insert(0, ctx.size(steps.q, 0)?);
    let op = Op::ScanLoop {
        body: Arc::new(body),
        states: 1,
        input_axes: vec![0; scanned.len()],
        input_reverse: vec![false; scanned.len()],
        output_axes: vec![0],
        output_reverse: vec![false],
        types: vec![ctx.ty(state).clone(), result],
    };
    let operands: Vec<Value> = std::iter::once(state).chain(scanned).collect();
    let id = ctx.add_node(op, &operands)?;
    Ok((Value { node: id, output: 1 }, Value { node: id, output: 0 }))
}
