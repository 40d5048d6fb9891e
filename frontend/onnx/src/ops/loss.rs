//! Losses: how far predicted class probabilities are from class numbers.

use tarsia_graph::{BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::DType;

use super::{
    Importer::{One, Values},
    Row, Rows,
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("NegativeLogLikelihoodLoss", 12, One(negative_log_likelihood)),
    Row::new("SoftmaxCrossEntropyLoss", 12, Values(cross_entropy)),
];

fn negative_log_likelihood<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let dtype = ctx.dtype(x);
    let x = ctx.widen(x)?;
    let loss = likelihood(ctx, node, x)?;
    ctx.cast(loss, dtype)
}

/// The loss, and the logarithms of the probabilities.
fn cross_entropy<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    let dtype = ctx.dtype(x);
    if ctx.rank(x) < 2 {
        return Err(invalid("scores without an axis of classes"));
    }
    let x = ctx.widen(x)?;
    let max = ctx.reduce(ReduceFn::Max, x, &[1])?;
    let shifted = ctx.binary(BinaryFn::Sub, x, max)?;
    let powers = ctx.unary(UnaryFn::Exp, shifted)?;
    let sum = ctx.reduce(ReduceFn::Sum, powers, &[1])?;
    let log = ctx.unary(UnaryFn::Log, sum)?;
    let log_probabilities = ctx.binary(BinaryFn::Sub, shifted, log)?;
    let loss = likelihood(ctx, node, log_probabilities)?;
    Ok(vec![ctx.cast(loss, dtype)?, ctx.cast(log_probabilities, dtype)?])
}

/// Minus the element of `x` (`[n, classes, …]`) that each target (`[n, …]`) names, weighted by class, reduced.
fn likelihood<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    let (target, weight) = (ctx.value(node, 1)?, ctx.value_opt(node, 2)?);
    if ctx.rank(x) < 2 || ctx.rank(target) + 1 != ctx.rank(x) {
        return Err(invalid(format!("targets with {} axes for scores with {}", ctx.rank(target), ctx.rank(x))));
    }
    let mut target = ctx.cast(target, DType::I64)?;
    let counts = match node.attr_int_opt("ignore_index")? {
        None => None,
        Some(ignored) => {
            let ignored = ctx.ints(&[ignored])?;
            let ignored = ctx.reshape(ignored, &[])?;
            let counts = ctx.binary(BinaryFn::Ne, target, ignored)?;
            // An ignored target need not be a class.
            let zero = ctx.scalar(DType::I64, 0.0);
            target = ctx.select(counts, target, zero)?;
            Some(counts)
        }
    };
    let places = ctx.unsqueeze(target, 1)?;
    let picked = ctx.add(Op::TakeAlong { axis: 1 }, &[x, places])?;
    let picked = ctx.squeeze(picked, &[1])?;
    let mut loss = ctx.unary(UnaryFn::Neg, picked)?;
    let (zero, one) = (ctx.scalar_like(x, 0.0), ctx.scalar_like(x, 1.0));
    let mut factor = match weight {
        None => None,
        Some(weight) => {
            let weight = ctx.cast(weight, ctx.dtype(x))?;
            Some(ctx.add(Op::Gather { axis: 0 }, &[weight, target])?)
        }
    };
    if let Some(weight) = factor {
        loss = ctx.binary(BinaryFn::Mul, loss, weight)?;
    }
    if let Some(counts) = counts {
        loss = ctx.select(counts, loss, zero)?;
        factor = Some(ctx.select(counts, factor.unwrap_or(one), zero)?);
    }
    let axes: Vec<usize> = (0..ctx.rank(loss)).collect();
    let all = |ctx: &mut Ctx<'a, '_>, function, value| {
        let y = ctx.reduce(function, value, &axes)?;
        ctx.reshape(y, &[])
    };
    match (node.attr_str_or("reduction", "mean")?, factor) {
        ("none", _) => Ok(loss),
        ("sum", _) => all(ctx, ReduceFn::Sum, loss),
        ("mean", None) => all(ctx, ReduceFn::Mean, loss),
        ("mean", Some(factor)) => {
            let (loss, factor) = (all(ctx, ReduceFn::Sum, loss)?, all(ctx, ReduceFn::Sum, factor)?);
            ctx.binary(BinaryFn::Div, loss, factor)
        }
        (other, _) => Err(invalid(format!("`reduction` is `{other}`"))),
    }
}
