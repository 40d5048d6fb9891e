//! Padding by a constant, by reflection, by the edge, or around.

use tarsia_graph::{BinaryFn, Op, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{Importer::One, Row, Rows};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, Stop, axis_of, invalid},
};

pub(super) const ROWS: Rows = &[Row::new("CenterCropPad", 18, One(center_crop_pad)), Row::new("Pad", 2, One(pad))];

/// Elements to add before and after an axis, and to cut there.
struct Edge {
    axis: usize,
    low: Dim,
    high: Dim,
    cut_low: Dim,
    cut_high: Dim,
}

pub(super) fn pad<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let mode = node.attr_str_or("mode", "constant")?;
    let axes = match ctx.dims_opt(node, 3) {
        None => Some((0..rank as i64).collect()),
        Some(axes) => axes.and_then(|axes| axes.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>()),
    };
    let (Some(amounts), Some(axes)) = (known_amounts(ctx, node)?, axes) else {
        return run_time_pad(ctx, node, x, mode);
    };
    let axes: Vec<usize> = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Outcome<_>>()?;
    let added: Vec<Dim> = amounts.iter().map(|amount| amount.maximum(&Dim::ZERO)).collect();
    let cut: Vec<Dim> = amounts.into_iter().map(|amount| (-amount).maximum(&Dim::ZERO)).collect();
    if added.len() != 2 * axes.len() {
        return Err(invalid(format!("{} amounts are given for {} axes", added.len(), axes.len())));
    }
    let half = axes.len();
    let edge = |(i, &axis): (usize, &usize)| Edge {
        axis,
        low: added[i].clone(),
        high: added[i + half].clone(),
        cut_low: cut[i].clone(),
        cut_high: cut[i + half].clone(),
    };
    let edges: Vec<Edge> = axes.iter().enumerate().map(edge).collect();
    let mut x = x;
    for edge in &edges {
        let size = ctx.size(x, edge.axis)? - edge.cut_low.clone() - edge.cut_high.clone();
        x = ctx.slice_axis(x, edge.axis, edge.cut_low.clone(), size, 1)?;
    }
    if mode == "constant" {
        let fill = fill(ctx, node, x)?;
        let (mut low, mut high) = (vec![Dim::ZERO; rank], vec![Dim::ZERO; rank]);
        for edge in edges {
            (low[edge.axis], high[edge.axis]) = (edge.low, edge.high);
        }
        return ctx.pad(x, fill, low, high);
    }
    for edge in edges.iter().filter(|edge| !edge.low.is(0) || !edge.high.is(0)) {
        let size = ctx.size(x, edge.axis)?;
        let places = source_places(ctx, mode, &size, edge)?;
        x = ctx.add(Op::Gather { axis: edge.axis }, &[x, places])?;
    }
    Ok(x)
}

/// How many elements are added (negative: cut) before each axis, then after each; `None` if run-time data tell.
fn known_amounts<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Option<Vec<Dim>>> {
    if node.since(11) {
        return Ok(ctx.dims_opt(node, 1).ok_or(Fault::MissingInput(1))?);
    }
    Ok(Some(node.attr_ints("pads")?.iter().map(|&amount| Dim::Const(amount)).collect()))
}

fn run_time_pad<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value, mode: &str) -> Outcome<Value> {
    let modes = ["constant", "reflect", "edge", "wrap"];
    let mode = modes.iter().position(|name| *name == mode).ok_or_else(|| wrong_mode(mode))?;
    let mut operands = vec![x, ctx.value(node, 1)?, fill(ctx, node, x)?];
    let (dtype, rank) = (ctx.dtype(x), ctx.rank(x));
    if let Some(axes) = ctx.value_opt(node, 3)? {
        operands.push(ctx.indices(axes, &Dim::from(rank))?);
    }
    ctx.host("pad", vec![mode as i64], &operands, dtype, rank)
}

fn wrong_mode(mode: &str) -> Stop {
    invalid(format!("the mode is `{mode}`, not constant, reflect, edge or wrap"))
}

fn fill<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    if !node.since(11) {
        let value = node.attr_f32_or("value", 0.0)?;
        return Ok(ctx.scalar_like(x, value.into()));
    }
    match ctx.value_opt(node, 2)? {
        Some(value) => ctx.reshape(value, &[]),
        None => Ok(ctx.scalar_like(x, 0.0)),
    }
}

/// For each place of the padded axis the place of the unpadded one, of `size`, whose element it takes.
fn source_places(ctx: &mut Ctx<'_, '_>, mode: &str, size: &Dim, edge: &Edge) -> Outcome<Value> {
    let whole = size.clone() + edge.low.clone() + edge.high.clone();
    let at = ctx.iota(DType::I64, &[whole], 0)?;
    let low = ctx.dim_scalar(&edge.low, DType::I64)?;
    let at = ctx.binary(BinaryFn::Sub, at, low)?;
    let last = ctx.dim_scalar(&(size.clone() - Dim::ONE), DType::I64)?;
    match mode {
        "edge" => {
            let at = ctx.with_scalar(BinaryFn::Max, at, 0.0)?;
            ctx.binary(BinaryFn::Min, at, last)
        }
        "wrap" => {
            let size = ctx.dim_scalar(size, DType::I64)?;
            ctx.binary(BinaryFn::Mod, at, size)
        }
        "reflect" => {
            // A period is there and back: last - |at mod period - last|.
            let period = ((size.clone() - Dim::ONE) * Dim::Const(2)).maximum(&Dim::ONE);
            let period = ctx.dim_scalar(&period, DType::I64)?;
            let within = ctx.binary(BinaryFn::Mod, at, period)?;
            let distance = ctx.binary(BinaryFn::Sub, within, last)?;
            let distance = ctx.unary(UnaryFn::Abs, distance)?;
            ctx.binary(BinaryFn::Sub, last, distance)
        }
        other => Err(wrong_mode(other)),
    }
}

/// Cuts from or pads around the middle of axes until they have the sizes given.
fn center_crop_pad<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let mut x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let axes = match node.attr_ints_opt("axes")? {
        Some(axes) => axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Outcome<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    let Some(target) = ctx.dims_opt(node, 1).ok_or(Fault::MissingInput(1))? else {
        return run_time_center(ctx, node, x, &axes);
    };
    if axes.len() != target.len() {
        return Err(invalid(format!("{} sizes for {} axes", target.len(), axes.len())));
    }
    let two = Dim::Const(2);
    let zero = ctx.scalar_like(x, 0.0);
    for (&axis, target) in axes.iter().zip(target) {
        let size = ctx.size(x, axis)?;
        let surplus = (size.clone() - target.clone()).maximum(&Dim::ZERO);
        x = ctx.slice_axis(x, axis, surplus.floor_div(&two), size.minimum(&target), 1)?;
        let missing = (target - size).maximum(&Dim::ZERO);
        let (mut low, mut high) = (vec![Dim::ZERO; rank], vec![Dim::ZERO; rank]);
        low[axis] = missing.floor_div(&two);
        high[axis] = missing - low[axis].clone();
        x = ctx.pad(x, zero, low, high)?;
    }
    Ok(x)
}

/// The same with the sizes as run-time data.
fn run_time_center<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value, axes: &[usize]) -> Outcome<Value> {
    let target = ctx.value(node, 1)?;
    let target = ctx.cast(target, DType::I64)?;
    let (shape, dtype, rank) = (ctx.shape(x), ctx.dtype(x), ctx.rank(x));
    let sizes: Vec<Dim> = axes.iter().map(|&axis| shape[axis].clone()).collect();
    let sizes = ctx.dims_vector(&sizes)?;
    let axes = ctx.ints(&axes.iter().map(|&axis| axis as i64).collect::<Vec<_>>())?;
    let excess = |ctx: &mut Ctx<'a, '_>, a: Value, b: Value| {
        let difference = ctx.binary(BinaryFn::Sub, a, b)?;
        ctx.with_scalar(BinaryFn::Max, difference, 0.0)
    };
    let surplus = excess(ctx, sizes, target)?;
    let start = ctx.with_scalar(BinaryFn::Div, surplus, 2.0)?;
    let kept = ctx.binary(BinaryFn::Min, sizes, target)?;
    let end = ctx.binary(BinaryFn::Add, start, kept)?;
    let cut = ctx.host("slice", Vec::new(), &[x, start, end, axes], dtype, rank)?;
    let missing = excess(ctx, target, sizes)?;
    let low = ctx.with_scalar(BinaryFn::Div, missing, 2.0)?;
    let high = ctx.binary(BinaryFn::Sub, missing, low)?;
    let amounts = ctx.concat(&[low, high], 0)?;
    let zero = ctx.scalar_like(x, 0.0);
    ctx.host("pad", vec![0], &[cut, amounts, zero, axes], dtype, rank)
}
