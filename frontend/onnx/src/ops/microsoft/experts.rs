//! Mixture of experts: each token chooses its experts, whose weights are never gathered.
//!
//! ```text
//! scores ─► top k ─► ids, weights
//! x ─► routed(W1, ids) ─► activation ─► routed(W2, ids) ─► Σ over the chosen, weighted
//! ```

use tarsia_graph::{BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    blocks::{bits_of, codes, zero_points},
    row,
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
    ops::{
        Importer::One,
        Rows,
        quantize::{Grain, dequantized},
    },
};

pub(super) const ROWS: Rows = &[row("MoE", One(mixture)), row("QMoE", One(quantised_mixture))];

/// Where the inputs of a layer stand.
struct Layer {
    weights: Value,
    bias: Option<Value>,
}

fn mixture<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let mut layer = |weights: usize| -> Outcome<Option<Layer>> {
        let bias = ctx.value_opt(node, weights + 1)?;
        Ok(ctx.value_opt(node, weights)?.map(|weights| Layer { weights, bias }))
    };
    let missing = || invalid("it has no weights");
    let (first, second, gate) = (layer(2)?.ok_or_else(missing)?, layer(4)?.ok_or_else(missing)?, layer(6)?);
    let scores = ctx.value(node, 1)?;
    mixed(ctx, node, scores, &first, &second, gate.as_ref())
}

fn quantised_mixture<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let kind = node.attr_str_or("quant_type", "int")?;
    if kind != "int" {
        return Err(unsupported(format!("experts of `quant_type` = {kind}; int is")));
    }
    if node.attr_int_or("weights_prepacked", -1)? == 1 {
        return Err(unsupported("weights in the layout of one GPU's kernels; export with `weights_prepacked` = 0"));
    }
    let missing = || invalid("it has no weights");
    let first = quantised_layer(ctx, node, 0)?.ok_or_else(missing)?;
    let second = quantised_layer(ctx, node, 1)?.ok_or_else(missing)?;
    let up = quantised_layer(ctx, node, 2)?;
    let scores = ctx.value(node, 1)?;
    mixed(ctx, node, scores, &first, &second, up.as_ref())
}

/// Layer number `index` of experts whose weights `[experts, out, in]` are codes with a scale per row or per block of a row.
fn quantised_layer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, index: usize) -> Outcome<Option<Layer>> {
    let Some(packed) = ctx.value_opt(node, 2 + 3 * index)? else { return Ok(None) };
    let scales = ctx.value(node, 3 + 3 * index)?;
    let usual = node.attr_int_or("expert_weight_bits", 4)?;
    let bits = bits_of(node, &format!("fc{}_expert_weight_bits", index + 1), usual)?;
    let codes = codes(ctx, packed, bits)?;
    let dtype = ctx.input_type(node, 0).map_or(DType::F32, |ty| ty.dtype);
    let shape = ctx.shape(scales);
    let sizes = shape.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>();
    let sizes = sizes.ok_or_else(|| unsupported("scales whose shape is not known"))?;
    let block = node.attr_int_or("block_size", 0)?;
    let mut zeros = zero_points(ctx, node, 11 + index, bits, &sizes)?;
    let mut grain = Grain::Blocks { axis: 2, size: Dim::Const(block) };
    let mut scales = scales;
    if block <= 0 || shape.len() == 2 {
        let column = [&shape[..2.min(shape.len())], &[Dim::ONE]].concat();
        scales = ctx.reshape(scales, &column)?;
        if ctx.rank(zeros) > 0 {
            zeros = ctx.reshape(zeros, &column)?;
        }
        grain = Grain::Broadcast(column);
    }
    if ctx.rank(zeros) == 0
        && let Grain::Broadcast(column) = &grain
    {
        zeros = ctx.broadcast(zeros, column)?;
    }
    let weights = dequantized(ctx, codes, scales, Some(zeros), &grain, dtype)?;
    let bias = ctx.value_opt(node, 4 + 3 * index)?;
    Ok(Some(Layer { weights, bias }))
}

/// The layers of the experts that each token chooses, summed by its weights for them.
fn mixed<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    scores: Value,
    first: &Layer,
    second: &Layer,
    up: Option<&Layer>,
) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let (shape, dtype) = (ctx.shape(x), ctx.dtype(x));
    let Some((width, rows)) = shape.split_last() else { return Err(invalid("its input has no axes")) };
    let x = ctx.reshape(x, &[Dim::product(rows), width.clone()])?;
    let (ids, weights) = chosen(ctx, node, scores)?;
    let hidden = routed(ctx, "th,tkih->tki", x, first, ids)?;
    let activation = node.attr_str_or("activation_type", "relu")?;
    let hidden = match (activation, up) {
        ("swiglu" | "geglu", _) => {
            let (gate, up) = match up {
                Some(up) => (hidden, routed(ctx, "th,tkih->tki", x, up, ids)?),
                None => halves(ctx, node, hidden)?,
            };
            gated(ctx, node, gate, up)?
        }
        (_, None) => activated(ctx, activation, hidden)?,
        (_, Some(up)) => {
            let gate = activated(ctx, activation, hidden)?;
            let up = routed(ctx, "th,tkih->tki", x, up, ids)?;
            ctx.binary(BinaryFn::Mul, gate, up)?
        }
    };
    let y = routed(ctx, "tki,tkhi->tkh", hidden, second, ids)?;
    let weights = ctx.cast(weights, dtype)?;
    let y = ctx.contract("tkh,tk->th", y, weights)?;
    ctx.reshape(y, &shape)
}

/// The experts `[tokens, k]` with the best scores, and their weights.
fn chosen<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, scores: Value) -> Outcome<(Value, Value)> {
    let scores = ctx.widen(scores)?;
    let k = node.attr_int_or("k", 1)?;
    let experts = ctx.size(scores, 1)?;
    if k < 1 || experts.as_const().is_some_and(|experts| k > experts) {
        return Err(invalid(format!("`k` is {k} of {experts} experts")));
    }
    if node.attr_bool_or("use_sparse_mixer", false)? {
        return sparse_mixer(ctx, scores, k);
    }
    let top = |ctx: &mut Ctx<'a, '_>, x: Value| -> Outcome<(Value, Value)> {
        let id = ctx.add_node(Op::TopK { axis: 1, k: Dim::Const(k), largest: true }, &[x])?;
        Ok((Value { node: id, output: 1 }, Value { node: id, output: 0 }))
    };
    let normalised = node.attr_bool_or("normalize_routing_weights", false)?;
    if let ("QMoE", Some(weights)) = (node.op_type(), ctx.value_opt(node, 14)?) {
        // One tensor decides which experts, another one how much of each.
        let (ids, _) = top(ctx, scores)?;
        let weights = ctx.widen(weights)?;
        let own = ctx.add(Op::TakeAlong { axis: 1 }, &[weights, ids])?;
        if !normalised {
            return Ok((ids, own));
        }
        let sum = ctx.reduce(ReduceFn::Sum, own, &[1])?;
        return Ok((ids, ctx.binary(BinaryFn::Div, own, sum)?));
    }
    if normalised {
        let (ids, best) = top(ctx, scores)?;
        return Ok((ids, ctx.add(Op::Softmax { axis: 1 }, &[best])?));
    }
    let weights = ctx.add(Op::Softmax { axis: 1 }, &[scores])?;
    top(ctx, weights)
}

/// SparseMixer (arXiv 2310.00811), as Phi-3.5-MoE has it: two experts, each weighted by a softmax over the scores that are close to
/// its own.
fn sparse_mixer(ctx: &mut Ctx<'_, '_>, scores: Value, k: i64) -> Outcome<(Value, Value)> {
    const JITTER: f64 = 0.01;
    if k != 2 {
        return Err(unsupported(format!("`use_sparse_mixer` with `k` = {k}, not 2")));
    }
    let lowest = ctx.scalar_like(scores, f64::NEG_INFINITY);
    let (mut left, mut ids, mut weights) = (scores, Vec::new(), Vec::new());
    for _ in 0..2 {
        let best = ctx.reduce(ReduceFn::Max, left, &[1])?;
        let id = ctx.add(Op::ArgReduce { function: tarsia_graph::ArgReduceFn::Max, axis: 1, last: false }, &[left])?;
        let size = ctx.unary(UnaryFn::Abs, scores)?;
        let size = ctx.binary(BinaryFn::Max, size, best)?;
        let distance = ctx.binary(BinaryFn::Sub, best, scores)?;
        let distance = ctx.binary(BinaryFn::Div, distance, size)?;
        let far = ctx.with_scalar(BinaryFn::Gt, distance, 2.0 * JITTER)?;
        let near = ctx.select(far, lowest, left)?;
        let shares = ctx.add(Op::Softmax { axis: 1 }, &[near])?;
        weights.push(ctx.add(Op::TakeAlong { axis: 1 }, &[shares, id])?);
        let shape = ctx.shape(scores);
        let places = ctx.iota(DType::I64, &shape, 1)?;
        let taken = ctx.binary(BinaryFn::Eq, places, id)?;
        left = ctx.select(taken, lowest, left)?;
        ids.push(id);
    }
    Ok((ctx.concat(&ids, 1)?, ctx.concat(&weights, 1)?))
}

/// A layer of each token's experts.
fn routed(ctx: &mut Ctx<'_, '_>, spec: &str, x: Value, layer: &Layer, ids: Value) -> Outcome<Value> {
    let dtype = ctx.dtype(x);
    let spec = spec.parse().map_err(|error| invalid(format!("{error}")))?;
    let y = ctx.add(Op::Routed { spec, dtype }, &[x, layer.weights, ids])?;
    let Some(bias) = layer.bias else { return Ok(y) };
    let bias = ctx.add(Op::Gather { axis: 0 }, &[bias, ids])?;
    ctx.binary(BinaryFn::Add, y, bias)
}

fn activated(ctx: &mut Ctx<'_, '_>, function: &str, x: Value) -> Outcome<Value> {
    match function {
        "relu" => ctx.with_scalar(BinaryFn::Max, x, 0.0),
        "relu2" => {
            let x = ctx.with_scalar(BinaryFn::Max, x, 0.0)?;
            ctx.binary(BinaryFn::Mul, x, x)
        }
        // onnxruntime's own kernel has the approximation.
        "gelu" => ctx.add(Op::Gelu { tanh: true }, &[x]),
        "silu" => ctx.add(Op::Silu {}, &[x]),
        "identity" => Ok(x),
        other => Err(invalid(format!("`activation_type` is `{other}`"))),
    }
}

/// The two halves of the rows of a fused layer, which alternate or stand behind each other.
fn halves<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<(Value, Value)> {
    let half = ctx.size(x, 2)?.floor_div(&Dim::Const(2));
    let (second, step) = match node.attr_int_or("swiglu_fusion", 0)? {
        1 => (Dim::ONE, 2),
        2 => (half.clone(), 1),
        other => return Err(invalid(format!("`swiglu_fusion` is {other}, but there is one layer only"))),
    };
    Ok((ctx.slice_axis(x, 2, Dim::ZERO, half.clone(), step)?, ctx.slice_axis(x, 2, second, half, step)?))
}

/// `G·sigmoid(α·G)·(L + β)` with G and L kept within a limit; or GELU(G)·L.
fn gated<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, mut gate: Value, mut up: Value) -> Outcome<Value> {
    if node.attr_str_or("activation_type", "relu")? == "geglu" {
        let gate = ctx.add(Op::Gelu { tanh: true }, &[gate])?;
        return ctx.binary(BinaryFn::Mul, gate, up);
    }
    let (alpha, beta) = (node.attr_f32_or("activation_alpha", 1.0)?, node.attr_f32_or("activation_beta", 0.0)?);
    let limit = node.attr_f32_opt("swiglu_limit")?.map(f64::from);
    let late = node.attr_bool_or("swiglu_limit_after_activation", false)?;
    if let Some(limit) = limit {
        up = ctx.with_scalar(BinaryFn::Max, up, -limit)?;
        up = ctx.with_scalar(BinaryFn::Min, up, limit)?;
        if !late {
            gate = ctx.with_scalar(BinaryFn::Min, gate, limit)?;
        }
    }
    let mut y = if alpha == 1.0 {
        ctx.add(Op::Silu {}, &[gate])?
    } else {
        let scaled = ctx.with_scalar(BinaryFn::Mul, gate, alpha.into())?;
        let sigmoid = ctx.unary(UnaryFn::Sigmoid, scaled)?;
        ctx.binary(BinaryFn::Mul, gate, sigmoid)?
    };
    if let Some(limit) = limit.filter(|_| late) {
        y = ctx.with_scalar(BinaryFn::Min, y, limit)?;
    }
    if beta != 0.0 {
        up = ctx.with_scalar(BinaryFn::Add, up, beta.into())?;
    }
    ctx.binary(BinaryFn::Mul, y, up)
}
