//! Reading at computed indices.

use tarsia_graph::{Op, Value};
use tarsia_tensor::Dim;

use super::{Importer::One, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of},
};

pub(super) const ROWS: Rows =
    &[Row::new("Gather", 1, One(gather)), Row::new("GatherElements", 11, One(gather_elements))];

/// Whole slices along an axis; one at an index known at import is a slice.
fn gather<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let axis = axis_of(node.attr_int_or("axis", 0)?, ctx.rank(x))?;
    let size = ctx.size(x, axis)?;
    if let Some(known) = ctx.known(node, 1)
        && let (true, Some(at)) = (known.shape.is_empty(), known.only())
        && let Some(start) = counted_from_start(at, &size)
    {
        let slice = ctx.slice_axis(x, axis, start, Dim::ONE, 1)?;
        return ctx.squeeze(slice, &[axis]);
    }
    let indices = ctx.value(node, 1)?;
    let indices = ctx.indices(indices, &size)?;
    ctx.add(Op::Gather { axis }, &[x, indices])
}

fn counted_from_start(at: &Dim, size: &Dim) -> Option<Dim> {
    let range = at.range();
    match (range.low >= 0, range.high < 0) {
        (true, _) => Some(at.clone()),
        (_, true) => Some(at.clone() + size.clone()),
        _ => None,
    }
}

fn gather_elements<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, indices) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let axis = axis_of(node.attr_int_or("axis", 0)?, ctx.rank(x))?;
    let size = ctx.size(x, axis)?;
    let indices = ctx.indices(indices, &size)?;
    ctx.add(Op::TakeAlong { axis }, &[x, indices])
}
