//! Selection of the extreme elements.

use tarsia_graph::{ArgReduceFn, Op, Type, Value};
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
    Row::new("TopK", 1, Values(top_k)),
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
