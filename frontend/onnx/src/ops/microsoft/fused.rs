//! What onnxruntime's optimiser joins: products and convolutions with what follows them, and activations with a bias.

use tarsia_graph::{BinaryFn, Op, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::row;
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid, unsupported},
    ops::{
        Importer::{One, Values},
        Rows,
        contract::{gemm, product},
        convolution::{conv, conv_transpose_with},
        fused_activation,
        movement::flattened,
        transformer,
    },
};

pub(super) const ROWS: Rows = &[
    row("BiasAdd", One(bias_add)),
    row("BiasDropout", Values(|ctx, node| dropout(ctx, node, &[0, 1, 2], 4, false))),
    row("BiasGelu", One(|ctx, node| biased_gelu(ctx, node, false))),
    row("BiasSoftmax", One(bias_softmax)),
    row("BiasSplitGelu", One(bias_split_gelu)),
    row("BitmaskBiasDropout", Values(|ctx, node| dropout(ctx, node, &[0, 1, 2], 4, true))),
    row("BitmaskDropout", Values(|ctx, node| dropout(ctx, node, &[0], 2, true))),
    row("CausalConvWithState", Values(causal_conv)),
    row("ComplexMul", One(|ctx, node| complex_mul(ctx, node, false))),
    row("ComplexMulConj", One(|ctx, node| complex_mul(ctx, node, true))),
    row("ConvTransposeWithDynamicPads", One(conv_transpose)),
    row("FastGelu", One(|ctx, node| biased_gelu(ctx, node, true))),
    row("FusedConv", One(fused_conv)),
    row("FusedGemm", One(fused_gemm)),
    row("FusedMatMul", One(matmul)),
    row("FusedMatMulActivation", One(matmul_activation)),
    row("GatedAdd", One(gated_add)),
    row("Gelu", One(|ctx, node| biased_gelu(ctx, node, false))),
    row("GemmFastGelu", One(gemm_fast_gelu)),
    row("LinearAttention", Values(linear_attention)),
    row("LinearAttentionGate", Values(linear_attention_gate)),
    row("QuickGelu", One(|ctx, node| scaled_silu(ctx, node, 1.702))),
    row("ScaledSiLU", One(scaled_twice_silu)),
    row("SparseToDenseMatMul", One(matmul)),
    row("SwiGLU", One(swiglu)),
    row("TransposeMatMul", One(matmul)),
];

/// The sum of inputs, those that are there.
fn sum<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, inputs: &[usize]) -> Outcome<Value> {
    let mut y = None;
    for &input in inputs {
        let Some(x) = ctx.value_opt(node, input)? else { continue };
        y = Some(match y {
            Some(y) => ctx.binary(BinaryFn::Add, y, x)?,
            None => x,
        });
    }
    y.ok_or_else(|| invalid("it has no inputs"))
}

fn bias_add<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    sum(ctx, node, &[0, 1, 2])
}

fn biased_gelu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, tanh: bool) -> Outcome<Value> {
    let x = sum(ctx, node, &[0, 1])?;
    ctx.add(Op::Gelu { tanh }, &[x])
}

/// Of inference: nothing is dropped from the sum of inputs. The mask is of a bit per element, or of an element.
fn dropout<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    summed: &[usize],
    training: usize,
    bits: bool,
) -> Outcome<Vec<Value>> {
    let known = ctx.known(node, training).and_then(|known| known.only()?.as_const());
    if ctx.item(node, training).is_some() && known != Some(0) {
        return Err(invalid("dropping in training; export for inference"));
    }
    let x = ctx.value(node, 0)?;
    let y = sum(ctx, node, summed)?;
    let (mask, shape) = if bits {
        let words = ctx.ty(x).count().ceil_div(&Dim::Const(32));
        (ctx.scalar(DType::U32, f64::from(u32::MAX)), vec![words])
    } else {
        (ctx.scalar(DType::Bool, 1.0), ctx.shape(x))
    };
    Ok(vec![y, ctx.broadcast(mask, &shape)?])
}

/// The convolution of ONNX, whose taps may be apart, and whose channels may be last, in any number of axes.
fn causal_conv<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let usual = [("ndim", 1), ("state_window", 0), ("state_update_capacity", 0), ("state_length", 0)];
    let usual =
        usual.into_iter().chain([("input_channels", 0), ("input_channel_offset", 0), ("state_channels_last", -1)]);
    for (name, usual) in usual {
        let given = node.attr_int_or(name, usual)?;
        if given != usual {
            return Err(unsupported(format!("`{name}` = {given}, other than {usual}")));
        }
    }
    let dilation = node.attr_int_or("dilation", 1)?;
    let dilation = usize::try_from(dilation).ok().filter(|&dilation| dilation > 0);
    let dilation = dilation.ok_or_else(|| invalid("`dilation` is not positive"))?;
    let (x, state) = (ctx.value(node, 0)?, ctx.value_opt(node, 3)?);
    if !node.attr_bool_or("channels_last", false)? {
        let (y, state) = transformer::causal_conv_of(ctx, node, x, state, dilation)?;
        return Ok(vec![y, state]);
    }
    let given = ctx.shape(x);
    let [batch, _, channels @ ..] = given.as_slice() else { return Err(invalid("its input has less than 2 axes")) };
    let first = |ctx: &mut Ctx<'a, '_>, x: Value| {
        let length = ctx.size(x, 1)?;
        let x = ctx.reshape(x, &[batch.clone(), length, Dim::product(channels)])?;
        ctx.transpose(x, &[0, 2, 1])
    };
    let x = first(ctx, x)?;
    let state = state.map(|state| first(ctx, state)).transpose()?;
    let (y, state) = transformer::causal_conv_of(ctx, node, x, state, dilation)?;
    let mut last = |x: Value| {
        let x = ctx.transpose(x, &[0, 2, 1])?;
        let shape = [&[batch.clone(), ctx.size(x, 1)?][..], channels].concat();
        ctx.reshape(x, &shape)
    };
    Ok(vec![last(y)?, last(state)?])
}

/// The linear attention of ONNX, with the state after the last step only.
fn linear_attention<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    if node.attr_int_or("state_window", 0)? != 0 {
        return Err(unsupported("the states of several steps (`state_window`)"));
    }
    transformer::linear_attention(ctx, &node.following(27))
}

/// The softmax of all axes from one on, taken as a single one.
fn bias_softmax<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = sum(ctx, node, &[0, 1])?;
    let shape = ctx.shape(x);
    let flat = flattened(ctx, x, node.attr_int_or("axis", 1)?)?;
    let y = ctx.add(Op::Softmax { axis: 1 }, &[flat])?;
    ctx.reshape(y, &shape)
}

/// The two halves of the last axis.
fn halves(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<(Value, Value)> {
    let last = ctx.rank(x).checked_sub(1).ok_or_else(|| invalid("its input has no axes"))?;
    let half = ctx.size(x, last)?.floor_div(&Dim::Const(2));
    let first = ctx.slice_axis(x, last, Dim::ZERO, half.clone(), 1)?;
    Ok((first, ctx.slice_axis(x, last, half.clone(), half, 1)?))
}

fn bias_split_gelu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = sum(ctx, node, &[0, 1])?;
    let (left, right) = halves(ctx, x)?;
    let gate = ctx.add(Op::Gelu { tanh: false }, &[right])?;
    ctx.binary(BinaryFn::Mul, left, gate)
}

/// `x·sigmoid(alpha·x)`.
fn silu_of(ctx: &mut Ctx<'_, '_>, x: Value, alpha: f64) -> Outcome<Value> {
    if alpha == 1.0 {
        return ctx.add(Op::Silu {}, &[x]);
    }
    let dtype = ctx.dtype(x);
    let wide = ctx.widen(x)?;
    let scaled = ctx.with_scalar(BinaryFn::Mul, wide, alpha)?;
    let gate = ctx.unary(UnaryFn::Sigmoid, scaled)?;
    let y = ctx.binary(BinaryFn::Mul, wide, gate)?;
    ctx.cast(y, dtype)
}

fn scaled_silu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, default: f32) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    silu_of(ctx, x, node.attr_f32_or("alpha", default)?.into())
}

/// The SiLU of the scaled input; the scale is an input or an attribute.
fn scaled_twice_silu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let dtype = ctx.dtype(x);
    let wide = ctx.widen(x)?;
    let scaled = match ctx.value_opt(node, 1)? {
        Some(scale) => {
            let scale = ctx.cast(scale, ctx.dtype(wide))?;
            let scale = ctx.reshape(scale, &[])?;
            ctx.binary(BinaryFn::Mul, wide, scale)?
        }
        None => ctx.with_scalar(BinaryFn::Mul, wide, node.attr_f32_or("alpha", 1.0)?.into())?,
    };
    let scaled = ctx.cast(scaled, dtype)?;
    let gate = ctx.unary(UnaryFn::Sigmoid, scaled)?;
    ctx.binary(BinaryFn::Mul, scaled, gate)
}

/// `G·sigmoid(α·G)·(L + β)` with both kept within a limit, if it is positive.
fn swiglu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let dtype = ctx.dtype(x);
    let (gate, up) = match ctx.value_opt(node, 1)? {
        Some(up) => (x, up),
        None => halves(ctx, x)?,
    };
    let (mut gate, mut up) = (ctx.widen(gate)?, ctx.widen(up)?);
    let limit = f64::from(node.attr_f32_or("limit", 0.0)?);
    if limit > 0.0 {
        gate = ctx.with_scalar(BinaryFn::Min, gate, limit)?;
        up = ctx.with_scalar(BinaryFn::Max, up, -limit)?;
        up = ctx.with_scalar(BinaryFn::Min, up, limit)?;
    }
    let mut active = silu_of(ctx, gate, node.attr_f32_or("activation_alpha", 1.0)?.into())?;
    if node.attr_bool_or("round_activation", false)? {
        active = ctx.cast(active, dtype)?;
        active = ctx.widen(active)?;
    }
    let beta = node.attr_f32_or("activation_beta", 0.0)?;
    let up = if beta == 0.0 { up } else { ctx.with_scalar(BinaryFn::Add, up, beta.into())? };
    let y = ctx.binary(BinaryFn::Mul, active, up)?;
    ctx.cast(y, dtype)
}

fn gated_add<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, y, gate) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let gate = match ctx.value_opt(node, 3)? {
        None => gate,
        Some(weight) => {
            let dtype = ctx.dtype(x);
            let projected = product(ctx, gate, weight, dtype)?;
            ctx.unary(UnaryFn::Sigmoid, projected)?
        }
    };
    let scaled = ctx.binary(BinaryFn::Mul, y, gate)?;
    ctx.binary(BinaryFn::Add, x, scaled)
}

/// The decay `scale·softplus(a + bias)`, and the rate `sigmoid(b)`.
fn linear_attention_gate<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let (a, bias, scale) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let dtype = ctx.dtype(a);
    let a = ctx.cast(a, DType::F32)?;
    let shifted = ctx.binary(BinaryFn::Add, a, bias)?;
    let soft = ctx.unary(UnaryFn::Softplus, shifted)?;
    let decay = ctx.binary(BinaryFn::Mul, soft, scale)?;
    let mut results = vec![ctx.cast(decay, dtype)?];
    if let Some(b) = ctx.value_opt(node, 3)? {
        results.push(ctx.unary(UnaryFn::Sigmoid, b)?);
    }
    Ok(results)
}

/// `(a + bi)·(c + di)`, or with the conjugate of the second, of numbers whose parts are the last axis.
fn complex_mul<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, conjugate: bool) -> Outcome<Value> {
    let (x, y) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let mut parts = |x: Value| -> Outcome<(Value, Value)> {
        let last = ctx.rank(x).checked_sub(1).filter(|&last| ctx.ty(x).shape[last].is(2));
        let last = last.ok_or_else(|| invalid("the last axis of its inputs must hold two parts"))?;
        Ok((ctx.slice_axis(x, last, Dim::ZERO, Dim::ONE, 1)?, ctx.slice_axis(x, last, Dim::ONE, Dim::ONE, 1)?))
    };
    let ((a, b), (c, d)) = (parts(x)?, parts(y)?);
    let (ac, bd) = (ctx.binary(BinaryFn::Mul, a, c)?, ctx.binary(BinaryFn::Mul, b, d)?);
    let (ad, bc) = (ctx.binary(BinaryFn::Mul, a, d)?, ctx.binary(BinaryFn::Mul, b, c)?);
    let (real, imaginary) = if conjugate {
        (ctx.binary(BinaryFn::Add, ac, bd)?, ctx.binary(BinaryFn::Sub, bc, ad)?)
    } else {
        (ctx.binary(BinaryFn::Sub, ac, bd)?, ctx.binary(BinaryFn::Add, ad, bc)?)
    };
    let last = ctx.rank(real).saturating_sub(1);
    ctx.concat(&[real, imaginary], last)
}

/// `alpha · A · B`, whose matrices may be transposed, and the rows of whose matrices may be the first axis.
fn matmul<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let mut operand = |input: usize, side: &str| -> Outcome<Value> {
        let x = ctx.value(node, input)?;
        let rank = ctx.rank(x);
        let mut perm: Vec<usize> = (0..rank).collect();
        if rank > 2 && node.attr_bool_or(&format!("transBatch{side}"), false)? {
            perm[..rank - 1].rotate_left(1);
        }
        if rank > 1 && node.attr_bool_or(&format!("trans{side}"), false)? {
            perm.swap(rank - 2, rank - 1);
        }
        ctx.transpose(x, &perm)
    };
    let (a, b) = (operand(0, "A")?, operand(1, "B")?);
    let (dtype, alpha) = (ctx.dtype(a), node.attr_f32_or("alpha", 1.0)?);
    if alpha == 1.0 {
        return product(ctx, a, b, dtype);
    }
    let wide = if dtype.bits() == 16 { DType::F32 } else { dtype };
    let y = product(ctx, a, b, wide)?;
    let y = ctx.with_scalar(BinaryFn::Mul, y, alpha.into())?;
    ctx.cast(y, dtype)
}

fn matmul_activation<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let y = matmul(ctx, node)?;
    if node.attr_str("activation")? == "Softmax" {
        let axis = axis_of(node.attr_int_or("activation_axis", -1)?, ctx.rank(y))?;
        return ctx.add(Op::Softmax { axis }, &[y]);
    }
    fused_activation(ctx, node, y)
}

fn gemm_fast_gelu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, weights) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let dtype = ctx.dtype(x);
    let mut y = product(ctx, x, weights, dtype)?;
    if let Some(bias) = ctx.value_opt(node, 2)? {
        y = ctx.binary(BinaryFn::Add, y, bias)?;
    }
    ctx.add(Op::Gelu { tanh: true }, &[y])
}

fn fused_gemm<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let y = gemm(ctx, node)?;
    fused_activation(ctx, node, y)
}

fn fused_conv<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let y = conv(ctx, node)?;
    let y = match ctx.value_opt(node, 3)? {
        Some(other) => ctx.binary(BinaryFn::Add, y, other)?,
        None => y,
    };
    fused_activation(ctx, node, y)
}

/// A transposed convolution whose padding is an input, and the bias after it.
fn conv_transpose<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let pads = ctx.const_ints(node, 2, "padding")?;
    let bias = ctx.value_opt(node, 3)?;
    conv_transpose_with(ctx, node, bias, pads.as_deref())
}
