//! Attention: `softmax(scale·q·kᵀ + mask)·v`.
//!
//! The plain form becomes the `attention` op with every mask (causal, window, padding, the model's own) joined into one additive mask.
//! Where scores are capped or handed out, or the softmax has a precision of its own, the same is spelled out.

use tarsia_graph::{BinaryFn, Op, Real, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    Importer::{One, Values},
    Row, Rows,
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[
    Row::new("Attention", 23, Values(attention)),
    Row { domain: "ai.onnx.preview", name: "FlexAttention", since: 1, until: None, import: One(flex_attention) },
];

/// Query, key and value with heads as an axis of their own: `[batch, heads, length, size]`.
pub(super) struct Heads {
    pub q: Value,
    pub k: Value,
    pub v: Value,
    pub scale: f64,
}

/// What the scores of a plain attention do not have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scores {
    Raw,
    Capped,
    Masked,
    Softmax,
}

fn attention<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let q = ctx.value(node, 0)?;
    let flat = ctx.rank(q) == 3;
    let mut heads = heads(ctx, node)?;
    let past = ctx.value_opt(node, 4)?;
    if let Some(past) = past {
        heads.k = ctx.concat(&[past, heads.k], 2)?;
    }
    if let Some(past) = ctx.value_opt(node, 5)? {
        heads.v = ctx.concat(&[past, heads.v], 2)?;
    }
    let mask = Mask::of(ctx, node, &heads, past)?;
    let softcap = f64::from(node.attr_f32_or("softcap", 0.0)?);
    let precision = node.attr_dtype_opt("softmax_precision")?;
    let wanted = match node.attr_int_or("qk_matmul_output_mode", 0)? {
        0 => Scores::Raw,
        1 => Scores::Capped,
        2 => Scores::Masked,
        3 => Scores::Softmax,
        other => return Err(invalid(format!("`qk_matmul_output_mode` is {other}"))),
    };
    let dtype = ctx.dtype(heads.q);
    let usual = precision.is_none_or(|precision| precision == dtype || precision == DType::F32 && dtype.bits() == 16);
    let (mut y, scores) = if softcap <= 0.0 && usual && node.output(3).is_none() {
        let mut operands = vec![heads.q, heads.k, heads.v];
        operands.extend(mask.additive);
        let y = ctx.add(Op::Attention { scale: Real(heads.scale) }, &operands)?;
        (mask.cleared(ctx, y)?, None)
    } else {
        let (y, scores) = spelled_out(ctx, &heads, &mask, softcap, precision, wanted)?;
        (y, Some(scores))
    };
    if flat {
        y = joined_heads(ctx, y)?;
    }
    Ok([y, heads.k, heads.v].into_iter().chain(scores).collect())
}

/// Operands as `[batch, heads, length, size]`, also those given as `[batch, length, heads·size]`.
fn heads<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Heads> {
    let mut split = |index: usize, attribute: &str| -> Outcome<Value> {
        let x = ctx.value(node, index)?;
        match ctx.shape(x).as_slice() {
            [_, _, _, _] => Ok(x),
            [_, _, _] => split_heads(ctx, x, &head_count(node, attribute)?),
            shape => Err(invalid(format!("input {index} has {} axes, not 3 or 4", shape.len()))),
        }
    };
    let (q, k, v) = (split(0, "q_num_heads")?, split(1, "kv_num_heads")?, split(2, "kv_num_heads")?);
    let scale = scale(ctx, node, q)?;
    Ok(Heads { q, k, v, scale })
}

/// An attribute that counts heads.
pub(super) fn head_count(node: &Node<'_>, attribute: &str) -> Outcome<Dim> {
    match node.attr_int(attribute)? {
        count if count > 0 => Ok(Dim::Const(count)),
        count => Err(invalid(format!("`{attribute}` is {count}"))),
    }
}

/// `[batch, heads, length, size]` of `[batch, length, heads·size]`.
pub(super) fn split_heads(ctx: &mut Ctx<'_, '_>, x: Value, heads: &Dim) -> Outcome<Value> {
    let Ok([batch, length, joined]) = <[Dim; 3]>::try_from(ctx.shape(x)) else {
        return Err(invalid(format!("an operand has {} axes, not 3", ctx.rank(x))));
    };
    let size = joined.floor_div(heads);
    let x = ctx.reshape(x, &[batch, length, heads.clone(), size])?;
    ctx.transpose(x, &[0, 2, 1, 3])
}

/// `[batch, length, heads·size]` of `[batch, heads, length, size]`.
pub(super) fn joined_heads(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    let shape = ctx.shape(x);
    let x = ctx.transpose(x, &[0, 2, 1, 3])?;
    let joined = shape[1].clone() * shape[3].clone();
    ctx.reshape(x, &[shape[0].clone(), shape[2].clone(), joined])
}

/// The factor of the scores, 1/√size by default.
pub(super) fn scale<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, q: Value) -> Outcome<f64> {
    if let Some(scale) = node.attr_f32_opt("scale")? {
        return Ok(scale.into());
    }
    let size = ctx.size(q, 3)?;
    let known = size.as_const().filter(|&size| size > 0);
    let known = known.ok_or_else(|| unsupported(format!("heads of size {size} without `scale`; give that size")))?;
    Ok(1.0 / (known as f64).sqrt())
}

/// All masks of an attention, joined.
struct Mask {
    /// Of the query's type, broadcastable to the scores.
    additive: Option<Value>,
    /// Whether there may be queries that no key answers: their results are 0.
    may_be_empty: bool,
}

impl Mask {
    fn of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, heads: &Heads, past: Option<Value>) -> Outcome<Mask> {
        let (dtype, queries, keys) = (ctx.dtype(heads.q), ctx.size(heads.q, 2)?, ctx.size(heads.k, 2)?);
        let given = match ctx.value_opt(node, 3)? {
            Some(mask) => Some(lengthened(ctx, mask, &keys)?),
            None => None,
        };
        let valid = match ctx.value_opt(node, 6)? {
            Some(counts) => {
                let counts = ctx.cast(counts, DType::I64)?;
                let batch = ctx.ty(counts).count();
                Some(ctx.reshape(counts, &[batch, Dim::ONE, Dim::ONE, Dim::ONE])?)
            }
            None => None,
        };
        let causal = node.attr_bool_or("is_causal", false)?;
        let (left, right) = (node.attr_int_or("left_window_size", -1)?, node.attr_int_or("right_window_size", -1)?);
        let at = ctx.iota(DType::I64, &[Dim::ONE, keys], 1)?;
        let mut allowed: Vec<Value> = Vec::new();
        if causal || left >= 0 || right >= 0 {
            let own = position(ctx, queries, past, valid)?;
            let distance = ctx.binary(BinaryFn::Sub, own, at)?;
            if causal {
                allowed.push(ctx.binary(BinaryFn::Le, at, own)?);
            }
            if left >= 0 {
                allowed.push(ctx.with_scalar(BinaryFn::Le, distance, left as f64)?);
            }
            if right >= 0 {
                allowed.push(ctx.with_scalar(BinaryFn::Ge, distance, -(right as f64))?);
            }
        }
        if let Some(valid) = valid {
            allowed.push(ctx.binary(BinaryFn::Lt, at, valid)?);
        }
        let (boolean, additive) = match given {
            Some(mask) if ctx.dtype(mask) == DType::Bool => (Some(mask), None),
            other => (None, other),
        };
        let may_be_empty = given.is_some() || valid.is_some() || left >= 0 || right >= 0;
        allowed.extend(boolean);
        let additive = match additive {
            Some(mask) => Some(ctx.cast(mask, dtype)?),
            None => None,
        };
        let Some((&first, rest)) = allowed.split_first() else { return Ok(Mask { additive, may_be_empty }) };
        let all = rest.iter().try_fold(first, |all, &next| ctx.binary(BinaryFn::And, all, next))?;
        let open = additive.unwrap_or_else(|| ctx.scalar(dtype, 0.0));
        let closed = ctx.scalar(dtype, f64::NEG_INFINITY);
        Ok(Mask { additive: Some(ctx.select(all, open, closed)?), may_be_empty })
    }

    /// `y` with zeros for the queries that no key answers.
    fn cleared(&self, ctx: &mut Ctx<'_, '_>, y: Value) -> Outcome<Value> {
        let Some(mask) = self.additive.filter(|_| self.may_be_empty) else { return Ok(y) };
        let last = ctx.rank(mask).checked_sub(1).ok_or_else(|| invalid("its mask has no axes"))?;
        let most = ctx.reduce(ReduceFn::Max, mask, &[last])?;
        let empty = ctx.with_scalar(BinaryFn::Eq, most, f64::NEG_INFINITY)?;
        let zero = ctx.scalar_like(y, 0.0);
        ctx.select(empty, zero, y)
    }
}

/// A mask that covers fewer keys than there are leaves out the others.
fn lengthened(ctx: &mut Ctx<'_, '_>, mask: Value, keys: &Dim) -> Outcome<Value> {
    let shape = ctx.shape(mask);
    let Some(own) = shape.last() else { return Err(invalid("its mask has no axes")) };
    let missing = keys.clone() - own.clone();
    if missing.range().low < 1 {
        // Equal, or sizes of which nothing is known and that must be equal.
        return Ok(mask);
    }
    let fill = if ctx.dtype(mask) == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
    let fill = ctx.scalar_like(mask, fill);
    let mut high = vec![Dim::ZERO; shape.len()];
    if let Some(last) = high.last_mut() {
        *last = missing;
    }
    ctx.pad(mask, fill, vec![Dim::ZERO; shape.len()], high)
}

/// Where each query stands among the keys: after the past ones, or such that the last query meets the last valid key.
fn position(ctx: &mut Ctx<'_, '_>, queries: Dim, past: Option<Value>, valid: Option<Value>) -> Outcome<Value> {
    let own = ctx.iota(DType::I64, &[queries.clone(), Dim::ONE], 0)?;
    let offset = match (past, valid) {
        (Some(past), _) => {
            let past = ctx.size(past, 2)?;
            ctx.dim_scalar(&past, DType::I64)?
        }
        (None, Some(valid)) => {
            let queries = ctx.dim_scalar(&queries, DType::I64)?;
            ctx.binary(BinaryFn::Sub, valid, queries)?
        }
        (None, None) => return Ok(own),
    };
    ctx.binary(BinaryFn::Add, own, offset)
}

/// `scale·q·kᵀ` as `[batch, heads, queries, keys]`, in f32 for narrow floats; query heads share key heads evenly.
pub(super) fn products(ctx: &mut Ctx<'_, '_>, heads: &Heads) -> Outcome<Value> {
    let (qs, ks, dtype) = (ctx.shape(heads.q), ctx.shape(heads.k), ctx.dtype(heads.q));
    let wide = if dtype.bits() == 16 { DType::F32 } else { dtype };
    let share = qs[1].floor_div(&ks[1]);
    let q = ctx.reshape(heads.q, &[qs[0].clone(), ks[1].clone(), share, qs[2].clone(), qs[3].clone()])?;
    let scores = ctx.contract_to("bghsd,bgtd->bghst", q, heads.k, wide)?;
    let scores = ctx.reshape(scores, &[qs[0].clone(), qs[1].clone(), qs[2].clone(), ks[2].clone()])?;
    ctx.with_scalar(BinaryFn::Mul, scores, heads.scale)
}

/// `weights·v` for weights `[batch, heads, queries, keys]`.
pub(super) fn weighted(ctx: &mut Ctx<'_, '_>, weights: Value, v: Value) -> Outcome<Value> {
    let (ws, vs, dtype) = (ctx.shape(weights), ctx.shape(v), ctx.dtype(v));
    let share = ws[1].floor_div(&vs[1]);
    let grouped = [ws[0].clone(), vs[1].clone(), share, ws[2].clone(), ws[3].clone()];
    let weights = ctx.reshape(weights, &grouped)?;
    let y = ctx.contract_to("bghst,bgte->bghse", weights, v, dtype)?;
    ctx.reshape(y, &[ws[0].clone(), ws[1].clone(), ws[2].clone(), vs[3].clone()])
}

/// `cap·tanh(scores/cap)`.
pub(super) fn capped_scores(ctx: &mut Ctx<'_, '_>, scores: Value, cap: f64) -> Outcome<Value> {
    let small = ctx.with_scalar(BinaryFn::Div, scores, cap)?;
    let bounded = ctx.unary(UnaryFn::Tanh, small)?;
    ctx.with_scalar(BinaryFn::Mul, bounded, cap)
}

/// The result and the scores at the stage that is wanted.
fn spelled_out(
    ctx: &mut Ctx<'_, '_>,
    heads: &Heads,
    mask: &Mask,
    softcap: f64,
    precision: Option<DType>,
    wanted: Scores,
) -> Outcome<(Value, Value)> {
    let dtype = ctx.dtype(heads.q);
    let raw = products(ctx, heads)?;
    let mut scores = raw;
    if softcap > 0.0 {
        scores = capped_scores(ctx, scores, softcap)?;
    }
    let capped = scores;
    if let Some(additive) = mask.additive {
        let additive = ctx.cast(additive, ctx.dtype(scores))?;
        scores = ctx.binary(BinaryFn::Add, scores, additive)?;
    }
    let masked = scores;
    let last = 3;
    if let Some(precision) = precision {
        scores = ctx.cast(scores, precision)?;
    }
    let weights = ctx.add(Op::Softmax { axis: last }, &[scores])?;
    let weights = mask.cleared(ctx, weights)?;
    let weights = ctx.cast(weights, dtype)?;
    let stage = match wanted {
        Scores::Raw => raw,
        Scores::Capped => capped,
        Scores::Masked => masked,
        Scores::Softmax => weights,
    };
    let stage = ctx.cast(stage, dtype)?;
    Ok((weighted(ctx, weights, heads.v)?, stage))
}

/// Attention whose scores and probabilities pass through graphs that the model gives.
fn flex_attention<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (q, k, v) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    if [q, k, v].iter().any(|&x| ctx.rank(x) != 4) {
        return Err(invalid("its operands have not 4 axes"));
    }
    let heads = Heads { q, k, v, scale: scale(ctx, node, q)? };
    let dtype = ctx.dtype(v);
    let usual = if dtype.bits() == 16 { DType::F32 } else { dtype };
    let precision = node.attr_dtype_opt("softmax_precision")?.unwrap_or(usual);
    let (score_mod, prob_mod) = (node.attr_graph_opt("score_mod")?, node.attr_graph_opt("prob_mod")?);
    if score_mod.is_none() && prob_mod.is_none() && precision == usual {
        return ctx.add(Op::Attention { scale: Real(heads.scale) }, &[q, k, v]);
    }
    let scores = products(ctx, &heads)?;
    let mut scores = ctx.cast(scores, precision)?;
    if let Some(body) = score_mod {
        scores = through(ctx, &body, scores)?;
    }
    let mut weights = ctx.add(Op::Softmax { axis: 3 }, &[scores])?;
    if let Some(body) = prob_mod {
        weights = through(ctx, &body, weights)?;
    }
    let v = ctx.cast(v, precision)?;
    let weights = ctx.cast(weights, precision)?;
    let y = weighted(ctx, weights, v)?;
    ctx.cast(y, dtype)
}

fn through<'a>(ctx: &mut Ctx<'a, '_>, body: &crate::view::Graph<'a>, x: Value) -> Outcome<Value> {
    let items = ctx.inline(body, &[x.into()])?;
    let item = items.first().ok_or_else(|| invalid("a graph that scores pass through has no output"))?;
    ctx.item_value(item)
}
