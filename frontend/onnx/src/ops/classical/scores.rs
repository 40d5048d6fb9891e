//! What classifiers make of scores: transforms, and the labels of classes.

use tarsia_graph::{BinaryFn, Op, ReduceFn, Type, UnaryFn, Value};
use tarsia_tensor::{ArgReduceFn, DType, Dim, Tensor};

use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
};

/// What is done to scores in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostTransform {
    None,
    Softmax,
    Logistic,
    /// Softmax in which scores of 0 stay 0.
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    pub fn of_node<'a>(node: &Node<'a>) -> Outcome<PostTransform> {
        Ok(match node.attr_str_or("post_transform", "NONE")? {
            "NONE" => PostTransform::None,
            "SOFTMAX" => PostTransform::Softmax,
            "LOGISTIC" => PostTransform::Logistic,
            "SOFTMAX_ZERO" => PostTransform::SoftmaxZero,
            "PROBIT" => PostTransform::Probit,
            other => return Err(invalid(format!("`post_transform` is `{other}`"))),
        })
    }

    pub fn of_number(number: i64) -> Outcome<PostTransform> {
        Ok(match number {
            0 => PostTransform::None,
            1 => PostTransform::Softmax,
            2 => PostTransform::Logistic,
            3 => PostTransform::SoftmaxZero,
            4 => PostTransform::Probit,
            other => return Err(invalid(format!("`post_transform` is {other}"))),
        })
    }
}

/// Scores `[rows, classes]` after a transform.
pub(super) fn transformed(ctx: &mut Ctx<'_, '_>, scores: Value, transform: PostTransform) -> Outcome<Value> {
    match transform {
        PostTransform::None => Ok(scores),
        PostTransform::Softmax => ctx.add(Op::Softmax { axis: 1 }, &[scores]),
        PostTransform::Logistic => ctx.unary(UnaryFn::Sigmoid, scores),
        PostTransform::SoftmaxZero => softmax_zero(ctx, scores),
        PostTransform::Probit => probit(ctx, scores),
    }
}

/// `e^(x-max)/Σ`, but `x·e^-max` in place of `e^(x-max)` where x is (nearly) 0.
fn softmax_zero(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    let max = ctx.reduce(ReduceFn::Max, x, &[1])?;
    let shifted = ctx.binary(BinaryFn::Sub, x, max)?;
    let exp = ctx.unary(UnaryFn::Exp, shifted)?;
    let negative = ctx.unary(UnaryFn::Neg, max)?;
    let small = ctx.unary(UnaryFn::Exp, negative)?;
    let small = ctx.binary(BinaryFn::Mul, x, small)?;
    let size = ctx.unary(UnaryFn::Abs, x)?;
    let large = ctx.with_scalar(BinaryFn::Gt, size, 1e-7)?;
    let terms = ctx.select(large, exp, small)?;
    let sum = ctx.reduce(ReduceFn::Sum, terms, &[1])?;
    let y = ctx.binary(BinaryFn::Div, terms, sum)?;
    let none = ctx.with_scalar(BinaryFn::Eq, sum, 0.0)?;
    let half = ctx.scalar_like(y, 0.5);
    ctx.select(none, half, y)
}

/// √2·erf⁻¹(2x - 1), the inverse of erf after Winitzki.
fn probit(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    const A: f64 = 0.147;
    let y = ctx.with_scalar(BinaryFn::Mul, x, 2.0)?;
    let y = ctx.with_scalar(BinaryFn::Sub, y, 1.0)?;
    let square = ctx.binary(BinaryFn::Mul, y, y)?;
    let one = ctx.scalar_like(x, 1.0);
    let rest = ctx.binary(BinaryFn::Sub, one, square)?;
    let log = ctx.unary(UnaryFn::Log, rest)?;
    let half = ctx.with_scalar(BinaryFn::Mul, log, 0.5)?;
    let v = ctx.with_scalar(BinaryFn::Add, half, 2.0 / (std::f64::consts::PI * A))?;
    let w = ctx.with_scalar(BinaryFn::Mul, log, 1.0 / A)?;
    let inner = ctx.binary(BinaryFn::Mul, v, v)?;
    let inner = ctx.binary(BinaryFn::Sub, inner, w)?;
    let root = ctx.unary(UnaryFn::Sqrt, inner)?;
    let root = ctx.binary(BinaryFn::Sub, root, v)?;
    let root = ctx.unary(UnaryFn::Sqrt, root)?;
    let sign = ctx.unary(UnaryFn::Sign, y)?;
    let inverse = ctx.binary(BinaryFn::Mul, sign, root)?;
    ctx.with_scalar(BinaryFn::Mul, inverse, std::f64::consts::SQRT_2)
}

/// Scores of both classes from that of the second: the rest to 1 for `probabilities`, else the opposite. Of the transforms only the
/// logistic one is applied, to both scores.
pub(super) fn two_classes(
    ctx: &mut Ctx<'_, '_>,
    score: Value,
    transform: PostTransform,
    probabilities: bool,
) -> Outcome<Value> {
    if transform == PostTransform::Probit {
        return probit(ctx, score);
    }
    if probabilities && transform != PostTransform::Logistic {
        let one = ctx.scalar_like(score, 1.0);
        let rest = ctx.binary(BinaryFn::Sub, one, score)?;
        return ctx.concat(&[rest, score], 1);
    }
    let opposite = ctx.unary(UnaryFn::Neg, score)?;
    let both = ctx.concat(&[opposite, score], 1)?;
    if transform == PostTransform::Logistic { transformed(ctx, both, transform) } else { Ok(both) }
}

/// The column of the largest score of each row, the first among equals.
pub(super) fn argmax(ctx: &mut Ctx<'_, '_>, scores: Value) -> Outcome<Value> {
    let best = ctx.add(Op::ArgReduce { function: ArgReduceFn::Max, axis: 1, last: false }, &[scores])?;
    ctx.squeeze(best, &[1])
}

/// The labels of classes, as a constant vector: texts, or integers, or none.
pub(super) struct Labels(Option<Tensor>);

impl Labels {
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(0, Tensor::count)
    }
}

/// The labels that a node gives its classes, integers in the attribute `ints`.
pub(super) fn class_labels<'a>(_: &Ctx<'a, '_>, node: &Node<'a>, ints: &str) -> Outcome<Labels> {
    if let Some(texts) = node.attr_strs_opt("classlabels_strings")?.filter(|list| !list.is_empty()) {
        let strings = texts.iter().map(|text| text.as_bytes().to_vec().into()).collect();
        return Ok(Labels(Some(Tensor::from_strings(&[texts.len()], strings)?)));
    }
    let list = node.attr_ints_opt(ints)?.filter(|list| !list.is_empty());
    Ok(Labels(list.map(|list| Tensor::from_slice(&[list.len()], list)).transpose()?))
}

/// The labels of classes that are given by number; the numbers themselves where there are no labels, or only one.
pub(super) fn labelled(ctx: &mut Ctx<'_, '_>, labels: &Labels, classes: Value) -> Outcome<Value> {
    let Some(table) = labels.0.clone().filter(|table| table.count() > 1) else { return Ok(classes) };
    if table.dtype().is_numeric() {
        let table = ctx.add_constant(table);
        return ctx.add(Op::Gather { axis: 0 }, &[table, classes]);
    }
    let count = table.count() as i64;
    let keys = ctx.ints(&(0..count).collect::<Vec<i64>>())?;
    let none = ctx.add_constant(Tensor::from_strings(&[1], vec![bytes::Bytes::new()])?);
    let values = ctx.add_constant(table);
    encoded(ctx, classes, keys, values, none)
}

/// The value of each key of `x`; keys that are not there have the default.
pub(super) fn encoded(ctx: &mut Ctx<'_, '_>, x: Value, keys: Value, values: Value, default: Value) -> Outcome<Value> {
    let types = vec![Type::new(ctx.dtype(values), ctx.shape(x))];
    let default = ctx.reshape(default, &[Dim::ONE])?;
    let op = Op::Host { function: "label_encode".into(), ints: Vec::new(), reals: Vec::new(), types };
    if ctx.dtype(keys) != ctx.dtype(x) {
        return Err(invalid(format!("keys of {} for a tensor of {}", ctx.dtype(keys), ctx.dtype(x))));
    }
    ctx.add(op, &[x, keys, values, default])
}

/// A tensor of numbers as f32, or as f64 if it is f64.
pub(super) fn as_real(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    let dtype = if ctx.dtype(x) == DType::F64 { DType::F64 } else { DType::F32 };
    ctx.cast(x, dtype)
}
