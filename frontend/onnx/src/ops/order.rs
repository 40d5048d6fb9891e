//! Order and selection: extreme elements, elements that are not zero, unique ones, ones chosen by a mask.

use tarsia_graph::{ArgReduceFn, BinaryFn, Op, Type, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    Importer::{One, Values},
    Row, Rows,
};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, axis_of, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("ArgMax", 1, One(|ctx, node| arg_reduce(ctx, node, ArgReduceFn::Max))),
    Row::new("ArgMin", 1, One(|ctx, node| arg_reduce(ctx, node, ArgReduceFn::Min))),
    Row::new("Compress", 9, One(compress)),
    Row::new("NonMaxSuppression", 10, One(non_max_suppression)),
    Row::new("NonZero", 9, One(non_zero)),
    Row::new("ReverseSequence", 10, One(reverse_sequence)),
    Row::new("TopK", 1, Values(top_k)),
    Row::new("Unique", 11, Values(unique)),
];

fn arg_reduce<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, function: ArgReduceFn) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let axis = axis_of(node.attr_int_or("axis", 0)?, ctx.rank(x))?;
    let last = node.attr_bool_or("select_last_index", false)?;
    let y = ctx.add(Op::ArgReduce { function, axis, last }, &[x])?;
    if node.attr_bool_or("keepdims", true)? { Ok(y) } else { ctx.squeeze(y, &[axis]) }
}

fn top_k<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    let axis = axis_of(node.attr_int_or("axis", -1)?, ctx.rank(x))?;
    let largest = node.attr_bool_or("largest", true)?;
    let k = if node.since(10) {
        match ctx.dims_opt(node, 1).ok_or(Fault::MissingInput(1))? {
            Some(k) => <[Dim; 1]>::try_from(k)
                .map_err(|k| invalid(format!("{} numbers are given for `k`", k.len())))?[0]
                .clone(),
            None => return run_time_top_k(ctx, node, x, axis, largest),
        }
    } else {
        Dim::Const(node.attr_int("k")?)
    };
    if let (Some(k), Some(size)) = (k.as_const(), ctx.size(x, axis)?.as_const())
        && !(0..=size).contains(&k)
    {
        return Err(invalid(format!("{k} of {size} elements are asked for")));
    }
    // `sorted` = 0 leaves the order open, so that the sorted one is right too.
    let both = ctx.add_node(Op::TopK { axis, k, largest }, &[x])?;
    Ok(vec![Value { node: both, output: 0 }, Value { node: both, output: 1 }])
}

fn run_time_top_k<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    x: Value,
    axis: usize,
    largest: bool,
) -> Outcome<Vec<Value>> {
    let k = ctx.value(node, 1)?;
    let Type { dtype, mut shape } = ctx.ty(x).clone();
    shape[axis] = ctx.fresh("top_k");
    let types = vec![Type::new(dtype, shape.clone()), Type::new(DType::I64, shape)];
    let ints = vec![axis as i64, i64::from(largest)];
    let both = ctx.add_node(Op::Host { function: "top_k".into(), ints, reals: Vec::new(), types }, &[x, k])?;
    Ok(vec![Value { node: both, output: 0 }, Value { node: both, output: 1 }])
}

/// Coordinates `[rank, n]` of the elements that are not 0.
fn non_zero<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    // A scalar counts as a vector of one element.
    let x = if ctx.rank(x) == 0 { ctx.reshape(x, &[Dim::ONE])? } else { x };
    let shape = vec![Dim::from(ctx.rank(x)), ctx.fresh("nonzero")];
    let types = vec![Type::new(DType::I64, shape)];
    ctx.add(Op::Host { function: "nonzero".into(), ints: Vec::new(), reals: Vec::new(), types }, &[x])
}

/// Batch, class and number of the boxes that no better box overlaps too much, `[k, 3]`.
fn non_max_suppression<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let mut operands = vec![ctx.value(node, 0)?, ctx.value(node, 1)?];
    let limits: [fn(&mut Ctx<'a, '_>) -> Value; 3] = [
        |ctx| ctx.scalar(DType::I64, 0.0),
        |ctx| ctx.scalar(DType::F32, 0.0),
        |ctx| ctx.scalar(DType::F32, f64::NEG_INFINITY),
    ];
    for (index, default) in (2..).zip(limits) {
        let limit = match ctx.value_opt(node, index)? {
            Some(limit) => ctx.reshape(limit, &[])?,
            None => default(ctx),
        };
        operands.push(limit);
    }
    let types = vec![Type::new(DType::I64, [ctx.fresh("non_max_suppression"), Dim::Const(3)])];
    let ints = vec![node.attr_int_or("center_point_box", 0)?];
    ctx.add(Op::Host { function: "non_max_suppression".into(), ints, reals: Vec::new(), types }, &operands)
}

/// The elements along an axis, or of all axes, whose place in the mask holds.
fn compress<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, mask) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let Type { dtype, mut shape } = ctx.ty(x).clone();
    let kept = ctx.fresh("compress");
    let ints = match node.attr_int_opt("axis")? {
        Some(axis) => {
            let axis = axis_of(axis, shape.len())?;
            shape[axis] = kept;
            vec![axis as i64]
        }
        None => {
            shape = vec![kept];
            Vec::new()
        }
    };
    let types = vec![Type::new(dtype, shape)];
    ctx.add(Op::Host { function: "compress".into(), ints, reals: Vec::new(), types }, &[x, mask])
}

/// Values, first places, inverse and counts.
fn unique<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let sorted = node.attr_bool_or("sorted", true)?;
    Ok(unique_of(ctx, node, sorted)?.to_vec())
}

/// Unique values, their first places, the place of each element among them, and counts; without sorting in the order of the places.
pub(super) fn unique_of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, sorted: bool) -> Outcome<[Value; 4]> {
    let x = ctx.value(node, 0)?;
    let Type { dtype, mut shape } = ctx.ty(x).clone();
    let mut ints = vec![i64::from(sorted)];
    let found = ctx.fresh("unique");
    let all = match node.attr_int_opt("axis")? {
        Some(axis) => {
            let axis = axis_of(axis, shape.len())?;
            ints.push(axis as i64);
            std::mem::replace(&mut shape[axis], found.clone())
        }
        None => {
            let count = Dim::product(&shape);
            shape = vec![found.clone()];
            count
        }
    };
    let places = |size: &Dim| Type::new(DType::I64, [size.clone()]);
    let types = vec![Type::new(dtype, shape), places(&found), places(&all), places(&found)];
    let op = Op::Host { function: "unique".into(), ints, reals: Vec::new(), types };
    let unique = ctx.add_node(op, &[x])?;
    Ok([0, 1, 2, 3].map(|output| Value { node: unique, output }))
}

/// The first `length` elements of each sequence in reverse, the rest as they are: element `t` is taken from `length - 1 - t`.
fn reverse_sequence<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, lengths) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let shape = ctx.shape(x);
    let batch = axis_of(node.attr_int_or("batch_axis", 1)?, shape.len())?;
    let time = axis_of(node.attr_int_or("time_axis", 0)?, shape.len())?;
    if batch == time {
        return Err(invalid("`batch_axis` and `time_axis` are the same"));
    }
    let mut per_batch = vec![Dim::ONE; shape.len()];
    per_batch[batch] = shape[batch].clone();
    let lengths = ctx.cast(lengths, DType::I64)?;
    let lengths = ctx.reshape(lengths, &per_batch)?;
    let at = ctx.iota(DType::I64, &shape, time)?;
    let last = ctx.with_scalar(BinaryFn::Sub, lengths, 1.0)?;
    let mirrored = ctx.binary(BinaryFn::Sub, last, at)?;
    let beyond = ctx.with_scalar(BinaryFn::Lt, mirrored, 0.0)?;
    let places = ctx.select(beyond, at, mirrored)?;
    ctx.add(Op::TakeAlong { axis: time }, &[x, places])
}
