//! Regions of images, each pooled to one size.

use tarsia_graph::{BinaryFn, Op, Real, ReduceFn, Type, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{Importer::One, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
};

pub(super) const ROWS: Rows = &[Row::new("MaxRoiPool", 1, One(max_roi_pool)), Row::new("RoiAlign", 10, One(roi_align))];

/// Regions of an image pooled to one size. Without `sampling_ratio` the data choose how many samples there are.
fn roi_align<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let operands = [ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?];
    let coordinates = if node.since(16) { "half_pixel" } else { "output_half_pixel" };
    let half_pixel = match node.attr_str_or("coordinate_transformation_mode", coordinates)? {
        "half_pixel" => 1,
        "output_half_pixel" => 0,
        other => return Err(invalid(format!("`coordinate_transformation_mode` is `{other}`"))),
    };
    let largest = match node.attr_str_or("mode", "avg")? {
        "avg" => 0,
        "max" => 1,
        other => return Err(invalid(format!("`mode` is `{other}`"))),
    };
    let (height, width) = (node.attr_int_or("output_height", 1)?, node.attr_int_or("output_width", 1)?);
    let ints = vec![height, width, node.attr_int_or("sampling_ratio", 0)?, half_pixel, largest];
    let reals = vec![Real(node.attr_f32_or("spatial_scale", 1.0)?.into())];
    let shape = vec![ctx.size(operands[1], 0)?, ctx.size(operands[0], 1)?, Dim::Const(height), Dim::Const(width)];
    let types = vec![Type::new(ctx.dtype(operands[0]), shape)];
    ctx.add(Op::Host { function: "roi_align".into(), ints, reals, types }, &operands)
}

/// The maxima of the cells that regions `[regions, (image, x1, y1, x2, y2)]` are cut into (Girshick, ICCV 2015), along one axis after
/// the other; 0 where a cell has no elements.
fn max_roi_pool<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, regions) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let pooled = node.attr_ints("pooled_shape")?;
    let &[height, width] = pooled else { return Err(invalid(format!("`pooled_shape` has {} sizes", pooled.len()))) };
    if height < 1 || width < 1 {
        return Err(invalid(format!("`pooled_shape` is {height} x {width}")));
    }
    if ctx.rank(x) != 4 || ctx.rank(regions) != 2 || !ctx.size(regions, 1)?.is(5) {
        return Err(invalid("it takes images [n, c, h, w] and regions [r, 5]"));
    }
    let regions = ctx.widen(regions)?;
    let column = |ctx: &mut Ctx<'a, '_>, at: usize| ctx.slice_axis(regions, 1, Dim::from(at), Dim::ONE, 1);
    let (images, count) = (ctx.size(x, 0)?, ctx.size(regions, 0)?);
    let own = column(ctx, 0)?;
    let own = ctx.cast(own, DType::I64)?;
    let own = ctx.reshape(own, &[count])?;
    let own = ctx.indices(own, &images)?;
    let mut y = ctx.add(Op::Gather { axis: 0 }, &[x, own])?;
    let scale = f64::from(node.attr_f32_or("spatial_scale", 1.0)?);
    let mut filled = None;
    for (axis, cells) in [(3, width), (2, height)] {
        let first = if axis == 3 { 1 } else { 2 };
        let (low, high) = (column(ctx, first)?, column(ctx, first + 2)?);
        let inside = cells_of(ctx, low, high, scale, cells, &ctx.size(x, axis)?)?;
        let some = ctx.reduce(ReduceFn::Max, inside, &[2])?;
        let some = if axis == 3 { ctx.transpose(some, &[0, 2, 1])? } else { some };
        let some = ctx.unsqueeze(some, 1)?;
        filled = Some(match filled {
            Some(filled) => ctx.binary(BinaryFn::And, filled, some)?,
            None => some,
        });
        y = cell_maxima(ctx, y, inside, axis)?;
    }
    let zero = ctx.scalar_like(y, 0.0);
    match filled {
        Some(filled) => ctx.select(filled, y, zero),
        None => Ok(y),
    }
}

/// Which elements of an axis of `size` lie in which cell of which region, `[regions, cells, size]`.
fn cells_of(ctx: &mut Ctx<'_, '_>, low: Value, high: Value, scale: f64, cells: i64, size: &Dim) -> Outcome<Value> {
    let (low, high) = (scaled(ctx, low, scale)?, scaled(ctx, high, scale)?);
    let dtype = ctx.dtype(low);
    let length = ctx.binary(BinaryFn::Sub, high, low)?;
    let length = ctx.with_scalar(BinaryFn::Add, length, 1.0)?;
    let length = ctx.with_scalar(BinaryFn::Max, length, 1.0)?;
    let bin = ctx.with_scalar(BinaryFn::Div, length, cells as f64)?;
    let at = ctx.iota(dtype, &[Dim::ONE, Dim::Const(cells)], 1)?;
    let start = ctx.binary(BinaryFn::Mul, at, bin)?;
    let start = ctx.unary(UnaryFn::Floor, start)?;
    let after = ctx.with_scalar(BinaryFn::Add, at, 1.0)?;
    let end = ctx.binary(BinaryFn::Mul, after, bin)?;
    let end = ctx.unary(UnaryFn::Ceil, end)?;
    let place = ctx.iota(dtype, &[Dim::ONE, Dim::ONE, size.clone()], 2)?;
    let mut bound = |function: BinaryFn, bound: Value| -> Outcome<Value> {
        let bound = ctx.binary(BinaryFn::Add, bound, low)?;
        let bound = ctx.unsqueeze(bound, 2)?;
        ctx.binary(function, place, bound)
    };
    let (from, to) = (bound(BinaryFn::Ge, start)?, bound(BinaryFn::Lt, end)?);
    ctx.binary(BinaryFn::And, from, to)
}

/// Coordinates in elements, halves rounded away from 0.
fn scaled(ctx: &mut Ctx<'_, '_>, x: Value, scale: f64) -> Outcome<Value> {
    let x = ctx.with_scalar(BinaryFn::Mul, x, scale)?;
    let (above, below) = (ctx.with_scalar(BinaryFn::Add, x, 0.5)?, ctx.with_scalar(BinaryFn::Sub, x, 0.5)?);
    let negative = ctx.with_scalar(BinaryFn::Lt, x, 0.0)?;
    let away = ctx.select(negative, below, above)?;
    ctx.unary(UnaryFn::Trunc, away)
}

/// The maxima of the elements of an axis that lie in each cell, in place of that axis.
fn cell_maxima(ctx: &mut Ctx<'_, '_>, x: Value, inside: Value, axis: usize) -> Outcome<Value> {
    let (shape, cells) = (ctx.shape(x), ctx.shape(inside));
    let mut own = vec![Dim::ONE; 5];
    (own[0], own[axis], own[axis + 1]) = (cells[0].clone(), cells[1].clone(), cells[2].clone());
    let inside = ctx.reshape(inside, &own)?;
    let x = ctx.unsqueeze(x, axis)?;
    let lowest = ctx.scalar_like(x, f64::NEG_INFINITY);
    let seen = ctx.select(inside, x, lowest)?;
    let y = ctx.reduce(ReduceFn::Max, seen, &[axis + 1])?;
    let mut result = shape;
    result[axis] = cells[1].clone();
    ctx.reshape(y, &result)
}
