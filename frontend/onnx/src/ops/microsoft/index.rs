//! Indexing, images, spectra and other small operators, most of them older forms of ONNX's own.

use std::sync::Arc;

use tarsia_graph::{ArgReduceFn, BinaryFn, Op, ReduceFn, ScatterFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::row;
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid, unsupported},
    ops::{
        Importer::{One, Values},
        Rows, constant, index, order, pad, sampling, selection, signal,
    },
};

pub(super) const ROWS: Rows = &[
    row("BifurcationDetector", Values(bifurcation)),
    row("CDist", One(distances)),
    row("CropAndResize", One(crop_and_resize)),
    row("ExpandDims", One(expand_dims)),
    row("GatherND", One(|ctx, node| index::gather_nd(ctx, &node.following(11)))),
    row("GridSample", One(sampling::grid_sample)),
    row("Inverse", One(inverse)),
    row("Irfft", One(irfft)),
    row("IsAllFinite", One(is_all_finite)),
    row("NGramRepeatBlock", One(ngram_repeat_block)),
    row("Pad", One(|ctx, node| pad::pad(ctx, &node.following(13)))),
    row("Range", One(constant::range)),
    row("Rfft", One(rfft)),
    row("TorchEmbedding", One(torch_embedding)),
    row("Trilu", One(|ctx, node| selection::trilu(ctx, &node.following(14)))),
    row("UnfoldTensor", One(unfold)),
    row("Unique", Values(unique)),
];

/// The distance of each row of one matrix and each of the other.
fn distances<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    if ctx.rank(a) != 2 || ctx.rank(b) != 2 {
        return Err(invalid("its inputs are no matrices"));
    }
    let (a, b) = (ctx.unsqueeze(a, 1)?, ctx.unsqueeze(b, 0)?);
    let difference = ctx.binary(BinaryFn::Sub, a, b)?;
    let square = ctx.binary(BinaryFn::Mul, difference, difference)?;
    let sum = ctx.reduce(ReduceFn::Sum, square, &[2])?;
    let sum = ctx.squeeze(sum, &[2])?;
    match node.attr_str_or("metric", "sqeuclidean")? {
        "sqeuclidean" => Ok(sum),
        "euclidean" => ctx.unary(UnaryFn::Sqrt, sum),
        other => Err(unsupported(format!("`metric` = {other}; euclidean and sqeuclidean are"))),
    }
}

fn crop_and_resize<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, boxes, images) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let size = ctx.dims_opt(node, 3).flatten().and_then(|size| <[Dim; 2]>::try_from(size).ok());
    let size = size.ok_or_else(|| unsupported("a size of crops that run-time data give"))?;
    let nearest = match node.attr_str_or("mode", "bilinear")? {
        "bilinear" => false,
        "nearest" => true,
        other => return Err(invalid(format!("`mode` is `{other}`"))),
    };
    let outside = node.attr_f32_or("extrapolation_value", 0.0)?;
    sampling::crops(ctx, x, boxes, images, size, nearest, outside.into())
}

fn expand_dims<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let axis = ctx.const_ints(node, 1, "axis")?.and_then(|axis| axis.first().copied());
    let axis = axis_of(axis.ok_or_else(|| invalid("it has no axis"))?, ctx.rank(x) + 1)?;
    ctx.unsqueeze(x, axis)
}

/// Gauss-Jordan elimination with pivots: `[m | 1]` becomes `[1 | m⁻¹]`, a column a step.
fn inverse<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let (shape, dtype) = (ctx.shape(x), ctx.dtype(x));
    let [batch @ .., rows, n] = shape.as_slice() else { return Err(invalid("its input is no matrix")) };
    if rows.as_const().is_some() && n.as_const().is_some() && rows != n {
        return Err(invalid(format!("a matrix of {rows} rows and {n} columns has no inverse")));
    }
    let wide = ctx.widen(x)?;
    let wide = ctx.reshape(wide, &[Dim::product(batch), n.clone(), n.clone()])?;
    let square = [Dim::ONE, n.clone(), n.clone()];
    let (row, column) = (ctx.iota(DType::I64, &square, 1)?, ctx.iota(DType::I64, &square, 2)?);
    let diagonal = ctx.binary(BinaryFn::Eq, row, column)?;
    let one = ctx.cast(diagonal, ctx.dtype(wide))?;
    let one = ctx.broadcast(one, &[Dim::product(batch), n.clone(), n.clone()])?;
    let start = ctx.concat(&[wide, one], 2)?;
    let steps = ctx.iota(DType::I64, &[n.clone(), Dim::ONE], 0)?;
    let state = ctx.ty(start).clone();
    let step = tarsia_graph::Type::new(DType::I64, [Dim::ONE]);
    let inputs = [("matrix", state.clone()), ("step", step)];
    let body = ctx.sub_graph("inverse", &inputs, &[], &[], |ctx, own, _| {
        let next = eliminated(ctx, own[0], own[1], n)?;
        ctx.graph.add_output("matrix", next);
        Ok(())
    })?;
    let op = Op::ScanLoop {
        body: Arc::new(body),
        states: 1,
        input_axes: vec![0],
        input_reverse: vec![false],
        output_axes: Vec::new(),
        output_reverse: Vec::new(),
        types: vec![state],
    };
    let y = ctx.add(op, &[start, steps])?;
    let y = ctx.slice_axis(y, 2, n.clone(), n.clone(), 1)?;
    let y = ctx.reshape(y, &shape)?;
    ctx.cast(y, dtype)
}

/// One step: the row with the largest element of column `at` comes to its place, is divided by it, and is taken from all others.
fn eliminated(ctx: &mut Ctx<'_, '_>, m: Value, at: Value, n: &Dim) -> Outcome<Value> {
    let row = ctx.iota(DType::I64, &[Dim::ONE, n.clone(), Dim::ONE], 1)?;
    let column = ctx.add(Op::Gather { axis: 2 }, &[m, at])?;
    let size = ctx.unary(UnaryFn::Abs, column)?;
    let left = ctx.binary(BinaryFn::Ge, row, at)?;
    let none = ctx.scalar_like(size, -1.0);
    let size = ctx.select(left, size, none)?;
    let best = ctx.add(Op::ArgReduce { function: ArgReduceFn::Max, axis: 1, last: false }, &[size])?;
    let mut shape = ctx.shape(m);
    shape[1] = Dim::ONE;
    let places = ctx.broadcast(best, &shape)?;
    let pivot_row = ctx.add(Op::TakeAlong { axis: 1 }, &[m, places])?;
    let own_row = ctx.add(Op::Gather { axis: 1 }, &[m, at])?;
    let (is_own, is_best) = (ctx.binary(BinaryFn::Eq, row, at)?, ctx.binary(BinaryFn::Eq, row, best)?);
    let swapped = ctx.select(is_best, own_row, m)?;
    let pivot = ctx.add(Op::Gather { axis: 2 }, &[pivot_row, at])?;
    let unit = ctx.binary(BinaryFn::Div, pivot_row, pivot)?;
    let factors = ctx.add(Op::Gather { axis: 2 }, &[swapped, at])?;
    let part = ctx.binary(BinaryFn::Mul, factors, unit)?;
    let rest = ctx.binary(BinaryFn::Sub, swapped, part)?;
    ctx.select(is_own, unit, rest)
}

fn rfft<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    one_axis(node)?;
    signal::half_spectrum(ctx, x)
}

fn irfft<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    one_axis(node)?;
    signal::from_half_spectrum(ctx, x)
}

fn one_axis(node: &Node<'_>) -> Outcome<()> {
    if !node.attr_bool_or("onesided", true)? || node.attr_bool_or("normalized", false)? {
        return Err(invalid("`onesided` is not 1, or `normalized` not 0"));
    }
    match node.attr_int_or("signal_ndim", 1)? {
        1 => Ok(()),
        other => Err(unsupported(format!("signals of {other} axes"))),
    }
}

/// Whether no input has an infinity or a NaN, or none of one of them.
fn is_all_finite<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (only_infinite, only_nan) = (node.attr_bool_or("isinf_only", false)?, node.attr_bool_or("isnan_only", false)?);
    let mut all = None;
    for x in ctx.values(node)? {
        let x = ctx.widen(x)?;
        let mut bad = Vec::new();
        if !only_nan {
            bad.push(ctx.unary(UnaryFn::IsInf, x)?);
        }
        if !only_infinite {
            bad.push(ctx.unary(UnaryFn::IsNan, x)?);
        }
        for flags in bad {
            let flags = ctx.cast(flags, DType::I32)?;
            let axes: Vec<usize> = (0..ctx.rank(flags)).collect();
            let worst = ctx.reduce(ReduceFn::Max, flags, &axes)?;
            let worst = ctx.reshape(worst, &[])?;
            all = Some(match all {
                Some(all) => ctx.binary(BinaryFn::Max, all, worst)?,
                None => worst,
            });
        }
    }
    let worst = all.ok_or_else(|| invalid("it has no inputs, or excludes both"))?;
    ctx.with_scalar(BinaryFn::Le, worst, 0.0)
}

/// Scores with -∞ for the tokens that would repeat an n-gram: those after each place where the last n-1 tokens occur.
fn ngram_repeat_block<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (ids, scores) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let n = node.attr_int("ngram_size")?;
    if !(1..=64).contains(&n) || ctx.rank(ids) != 2 || ctx.rank(scores) != 2 {
        return Err(invalid(format!(
            "`ngram_size` is {n}, and its inputs have {} and {} axes",
            ctx.rank(ids),
            ctx.rank(scores)
        )));
    }
    let length = ctx.size(ids, 1)?;
    let count = (length.clone() - Dim::Const(n - 1)).maximum(&Dim::ZERO);
    let mut same: Option<Value> = None;
    for j in 0..n - 1 {
        let window = ctx.slice_axis(ids, 1, Dim::Const(j), count.clone(), 1)?;
        let last = ctx.slice_axis(ids, 1, length.clone() - Dim::Const(n - 1 - j), Dim::ONE, 1)?;
        let equal = ctx.binary(BinaryFn::Eq, window, last)?;
        same = Some(match same {
            Some(same) => ctx.binary(BinaryFn::And, same, equal)?,
            None => equal,
        });
    }
    let next = ctx.slice_axis(ids, 1, Dim::Const(n - 1), count.clone(), 1)?;
    let (banned, allowed) = (ctx.scalar_like(scores, f64::NEG_INFINITY), ctx.scalar_like(scores, f64::INFINITY));
    let updates = match same {
        Some(same) => ctx.select(same, banned, allowed)?,
        None => {
            let shape = ctx.shape(next);
            ctx.broadcast(banned, &shape)?
        }
    };
    let next = ctx.cast(next, DType::I64)?;
    ctx.add(Op::ScatterAlong { function: ScatterFn::Min, axis: 1 }, &[scores, next, updates])
}

/// Aggressive decoding (arXiv 2205.10350): predicted tokens up to the first one that is not the source's, after those that there are; and
/// where the source goes on after the last tokens, -1 where that is not certain.
fn bifurcation<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let (source, current) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    if ctx.rank(source) != 1 || ctx.rank(current) != 1 {
        return Err(invalid("its tokens are no vectors"));
    }
    let tokens = match ctx.value_opt(node, 3)? {
        Some(predicted) => with_predicted(ctx, node, [source, current, predicted])?,
        None => current,
    };
    let (least, most) = (node.attr_int_or("min_ngram_size", 1)?, node.attr_int_or("max_ngram_size", 3)?);
    if least < 1 || most > LONGEST || least > most {
        return Err(invalid(format!("n-grams of {least} to {most} tokens; 1 to {LONGEST} are")));
    }
    let count = ctx.size(tokens, 0)?;
    let count = ctx.dim_scalar(&count, DType::I64)?;
    let mut found = ctx.scalar(DType::I64, -1.0);
    let mut open = ctx.scalar(DType::Bool, 1.0);
    for n in least..=most {
        let (hits, place) = last_ngram(ctx, source, tokens, count, n)?;
        let long_enough = ctx.with_scalar(BinaryFn::Ge, count, n as f64)?;
        open = ctx.binary(BinaryFn::And, open, long_enough)?;
        let only = ctx.with_scalar(BinaryFn::Eq, hits, 1.0)?;
        let only = ctx.binary(BinaryFn::And, only, open)?;
        let after = ctx.with_scalar(BinaryFn::Add, place, n as f64)?;
        found = ctx.select(only, after, found)?;
        let several = ctx.with_scalar(BinaryFn::Gt, hits, 1.0)?;
        open = ctx.binary(BinaryFn::And, open, several)?;
    }
    Ok(vec![tokens, found])
}

/// The longest n-gram.
const LONGEST: i64 = 64;

/// The current tokens, then the predicted ones up to the first that differs from the source from a place on.
fn with_predicted<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    [source, current, predicted]: [Value; 3],
) -> Outcome<Value> {
    let start = ctx.value(node, 2)?;
    let start = ctx.reshape(start, &[])?;
    let (length, many) = (ctx.size(source, 0)?, ctx.size(predicted, 0)?);
    let at = ctx.iota(DType::I64, std::slice::from_ref(&many), 0)?;
    let place = ctx.binary(BinaryFn::Add, at, start)?;
    let end = ctx.dim_scalar(&length, DType::I64)?;
    let inside = ctx.binary(BinaryFn::Lt, place, end)?;
    let last = ctx.with_scalar(BinaryFn::Sub, end, 1.0)?;
    let place = ctx.binary(BinaryFn::Min, place, last)?;
    let place = ctx.with_scalar(BinaryFn::Max, place, 0.0)?;
    let expected = ctx.add(Op::Gather { axis: 0 }, &[source, place])?;
    let same = ctx.binary(BinaryFn::Eq, expected, predicted)?;
    let same = ctx.binary(BinaryFn::And, same, inside)?;
    let same = ctx.cast(same, DType::I64)?;
    // Each is kept if all before it are the same.
    let before = Op::Scan { function: ReduceFn::Prod, axis: 0, exclusive: true, reverse: false };
    let before = ctx.add(before, &[same])?;
    let kept = ctx.with_scalar(BinaryFn::Gt, before, 0.0)?;
    let yes = ctx.scalar(DType::Bool, 1.0);
    let shape = ctx.shape(current);
    let all = ctx.broadcast(yes, &shape)?;
    let (tokens, kept) = (ctx.concat(&[current, predicted], 0)?, ctx.concat(&[all, kept], 0)?);
    let types = vec![tarsia_graph::Type::new(ctx.dtype(tokens), [ctx.fresh("tokens")])];
    ctx.add(Op::Host { function: "compress".into(), ints: vec![0], reals: Vec::new(), types }, &[tokens, kept])
}

/// How often the last `n` of `count` tokens are in the source, and where if it is once.
fn last_ngram(ctx: &mut Ctx<'_, '_>, source: Value, tokens: Value, count: Value, n: i64) -> Outcome<(Value, Value)> {
    let starts = (ctx.size(source, 0)? - Dim::Const(n - 1)).maximum(&Dim::ZERO);
    let mut same = None;
    for j in 0..n {
        let window = ctx.slice_axis(source, 0, Dim::Const(j), starts.clone(), 1)?;
        let place = ctx.with_scalar(BinaryFn::Sub, count, (n - j) as f64)?;
        let place = ctx.with_scalar(BinaryFn::Max, place, 0.0)?;
        let place = ctx.reshape(place, &[Dim::ONE])?;
        let last = ctx.add(Op::Gather { axis: 0 }, &[tokens, place])?;
        let equal = ctx.binary(BinaryFn::Eq, window, last)?;
        same = Some(match same {
            Some(same) => ctx.binary(BinaryFn::And, same, equal)?,
            None => equal,
        });
    }
    let same = same.ok_or_else(|| invalid("n-grams of no tokens"))?;
    let same = ctx.cast(same, DType::I64)?;
    let at = ctx.iota(DType::I64, &[starts], 0)?;
    let at = ctx.binary(BinaryFn::Mul, at, same)?;
    let mut total = |x: Value| {
        let sum = ctx.reduce(ReduceFn::Sum, x, &[0])?;
        ctx.reshape(sum, &[])
    };
    Ok((total(same)?, total(at)?))
}

fn torch_embedding<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (table, ids) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let size = ctx.size(table, 0)?;
    let ids = ctx.indices(ids, &size)?;
    ctx.add(Op::Gather { axis: 0 }, &[table, ids])
}

/// All slices of `size` elements of an axis, each `step` after the one before, their elements as a new last axis.
fn unfold<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let axis = axis_of(node.attr_int_or("dim", -1)?, rank)?;
    let (size, step) = (node.attr_int("size")?, node.attr_int_or("step", 1)?);
    if size < 1 || step < 1 {
        return Err(invalid(format!("slices of {size} elements, {step} apart")));
    }
    let count = (ctx.size(x, axis)? - Dim::Const(size)).floor_div(&Dim::Const(step)) + Dim::ONE;
    let shape = [count, Dim::Const(size)];
    let (start, within) = (ctx.iota(DType::I64, &shape, 0)?, ctx.iota(DType::I64, &shape, 1)?);
    let start = ctx.with_scalar(BinaryFn::Mul, start, step as f64)?;
    let places = ctx.binary(BinaryFn::Add, start, within)?;
    let y = ctx.add(Op::Gather { axis }, &[x, places])?;
    let perm: Vec<usize> = (0..rank + 1).filter(|&i| i != axis + 1).chain([axis + 1]).collect();
    ctx.transpose(y, &perm)
}

/// Values in the order of their first places, where each element went, and how many there are of each.
fn unique<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let [values, _, inverse, counts] = order::unique_of(ctx, node, false)?;
    Ok(vec![values, inverse, counts])
}
