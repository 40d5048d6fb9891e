//! Which elements there are: masks, one-hot rows, positions of what is not zero, running sums.

use tarsia_graph::{BinaryFn, Op, ReduceFn, Type, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    Importer::{One, Values},
    Row, Rows,
};
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[
    Row::new("Compress", 9, One(compress)),
    Row::new("CumProd", 26, One(|ctx, node| cumulative(ctx, node, ReduceFn::Prod))),
    Row::new("CumSum", 11, One(|ctx, node| cumulative(ctx, node, ReduceFn::Sum))),
    Row::new("NonZero", 9, One(nonzero)),
    Row::new("OneHot", 9, One(one_hot)),
    Row::new("ReverseSequence", 10, One(reverse_sequence)),
    Row::new("Trilu", 14, One(trilu)),
    Row::new("Unique", 11, Values(unique)),
];

fn host(ctx: &mut Ctx<'_, '_>, function: &str, ints: Vec<i64>, types: Vec<Type>, x: &[Value]) -> Outcome<Vec<Value>> {
    let count = types.len() as u32;
    let node = ctx.add_node(Op::Host { function: function.to_owned(), ints, reals: Vec::new(), types }, x)?;
    Ok((0..count).map(|output| Value { node, output }).collect())
}

fn only(values: Vec<Value>) -> Outcome<Value> {
    values.first().copied().ok_or_else(|| invalid("it has no result"))
}

fn nonzero<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let x = if ctx.rank(x) == 0 { ctx.reshape(x, &[Dim::ONE])? } else { x };
    let count = ctx.fresh("nonzero");
    let ty = Type::new(DType::I64, [Dim::from(ctx.rank(x)), count]);
    only(host(ctx, "nonzero", Vec::new(), vec![ty], &[x])?)
}

fn compress<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, keep) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let count = ctx.fresh("compress");
    let (ints, shape) = match node.attr_int_opt("axis")? {
        Some(axis) => {
            let axis = axis_of(axis, ctx.rank(x))?;
            let mut shape = ctx.shape(x);
            shape[axis] = count;
            (vec![axis as i64], shape)
        }
        None => (Vec::new(), vec![count]),
    };
    let ty = Type::new(ctx.dtype(x), shape);
    only(host(ctx, "compress", ints, vec![ty], &[x, keep])?)
}

/// Distinct elements (or slices), where each came first, which of them each element is, and how often each occurs.
fn unique<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    let count = ctx.fresh("unique");
    let sorted = i64::from(node.attr_bool_or("sorted", true)?);
    let (ints, shape, length) = match node.attr_int_opt("axis")? {
        Some(axis) => {
            let axis = axis_of(axis, ctx.rank(x))?;
            let mut shape = ctx.shape(x);
            let length = std::mem::replace(&mut shape[axis], count.clone());
            (vec![sorted, axis as i64], shape, length)
        }
        None => (vec![sorted], vec![count.clone()], ctx.ty(x).count()),
    };
    let vector = |size: &Dim| Type::new(DType::I64, [size.clone()]);
    let types = vec![Type::new(ctx.dtype(x), shape), vector(&count), vector(&length), vector(&count)];
    host(ctx, "unique", ints, types, &[x])
}

/// With more axes there would be too many to choose from at run time.
const MOST_AXES: usize = 8;

/// Running sums or products along an axis; where run-time data give the axis, they choose among those along every axis.
fn cumulative<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, function: ReduceFn) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let (exclusive, reverse) = (node.attr_bool_or("exclusive", false)?, node.attr_bool_or("reverse", false)?);
    let scan = |axis: usize| Op::Scan { function, axis, exclusive, reverse };
    if let Some(axis) = ctx.known(node, 1).and_then(|known| known.only().and_then(Dim::as_const)) {
        return ctx.add(scan(axis_of(axis, rank)?), &[x]);
    }
    if rank > MOST_AXES {
        return Err(unsupported(format!("an axis that run-time data give, of more than {MOST_AXES}")));
    }
    let given = ctx.value(node, 1)?;
    let given = ctx.reshape(given, &[])?;
    let given = ctx.indices(given, &Dim::from(rank))?;
    let mut chosen = ctx.add(scan(0), &[x])?;
    for axis in 1..rank {
        let other = ctx.add(scan(axis), &[x])?;
        let meant = ctx.with_scalar(BinaryFn::Eq, given, axis as f64)?;
        chosen = ctx.select(meant, other, chosen)?;
    }
    Ok(chosen)
}

fn one_hot<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (indices, values) = (ctx.value(node, 0)?, ctx.value(node, 2)?);
    let rank = ctx.rank(indices) + 1;
    let axis = axis_of(node.attr_int_or("axis", -1)?, rank)?;
    let Some(depth) = ctx.known(node, 1).and_then(|known| known.only().cloned()) else {
        let depth = ctx.value(node, 1)?;
        let mut result = ctx.shape(indices);
        result.insert(axis, ctx.fresh("one_hot"));
        let types = vec![Type::new(ctx.dtype(values), result)];
        return only(host(ctx, "one_hot", vec![axis as i64], types, &[indices, depth, values])?);
    };
    let indices = ctx.cast(indices, DType::I64)?;
    let indices = ctx.indices(indices, &depth)?;
    let indices = ctx.unsqueeze(indices, axis)?;
    let mut counted = vec![Dim::ONE; rank];
    counted[axis] = depth;
    let places = ctx.iota(DType::I64, &counted, axis)?;
    let hit = ctx.binary(BinaryFn::Eq, indices, places)?;
    let element = |ctx: &mut Ctx<'a, '_>, at: i64| {
        let element = ctx.slice_axis(values, 0, Dim::Const(at), Dim::ONE, 1)?;
        ctx.reshape(element, &[])
    };
    let (off, on) = (element(ctx, 0)?, element(ctx, 1)?);
    ctx.select(hit, on, off)
}

/// The elements of each matrix on and above (or below) diagonal `k`, zeros elsewhere.
fn trilu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let matrix = ctx.shape(x).split_off(rank.checked_sub(2).ok_or_else(|| invalid("its input is no matrix"))?);
    let rows = ctx.iota(DType::I64, &[matrix[0].clone(), Dim::ONE], 0)?;
    let columns = ctx.iota(DType::I64, &[Dim::ONE, matrix[1].clone()], 1)?;
    let distance = ctx.binary(BinaryFn::Sub, columns, rows)?;
    let diagonal = match ctx.value_opt(node, 1)? {
        Some(k) => ctx.reshape(k, &[])?,
        None => ctx.scalar(DType::I64, 0.0),
    };
    let side = if node.attr_bool_or("upper", true)? { BinaryFn::Ge } else { BinaryFn::Le };
    let kept = ctx.binary(side, distance, diagonal)?;
    let zero = ctx.scalar_like(x, 0.0);
    ctx.select(kept, x, zero)
}

/// The first `lengths[b]` elements of each batch element in reverse order.
fn reverse_sequence<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, lengths) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let shape = ctx.shape(x);
    let batch = axis_of(node.attr_int_or("batch_axis", 1)?, shape.len())?;
    let time = axis_of(node.attr_int_or("time_axis", 0)?, shape.len())?;
    if batch == time {
        return Err(invalid("the time axis is the batch axis"));
    }
    let mut along = vec![Dim::ONE; shape.len()];
    along[time] = shape[time].clone();
    let at = ctx.iota(DType::I64, &along, time)?;
    let mut across = vec![Dim::ONE; shape.len()];
    across[batch] = shape[batch].clone();
    let lengths = ctx.cast(lengths, DType::I64)?;
    let lengths = ctx.reshape(lengths, &across)?;
    let inside = ctx.binary(BinaryFn::Lt, at, lengths)?;
    let mirrored = ctx.binary(BinaryFn::Sub, lengths, at)?;
    let mirrored = ctx.with_scalar(BinaryFn::Sub, mirrored, 1.0)?;
    let places = ctx.select(inside, mirrored, at)?;
    let places = ctx.broadcast(places, &shape)?;
    ctx.add(Op::TakeAlong { axis: time }, &[x, places])
}
