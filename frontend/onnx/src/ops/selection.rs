//! Masks, one-hot rows, running sums and products.

use tarsia_graph::{BinaryFn, Op, ReduceFn, Type, Value};
use tarsia_tensor::{DType, Dim};

use super::{Importer::One, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[
    Row::new("CumProd", 26, One(|ctx, node| cumulative(ctx, node, ReduceFn::Prod))),
    Row::new("CumSum", 11, One(|ctx, node| cumulative(ctx, node, ReduceFn::Sum))),
    Row::new("OneHot", 9, One(one_hot)),
    Row::new("Trilu", 14, One(trilu)),
];

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
        let op = Op::Host { function: "one_hot".into(), ints: vec![axis as i64], reals: Vec::new(), types };
        return ctx.add(op, &[indices, depth, values]);
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
pub(super) fn trilu<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
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
