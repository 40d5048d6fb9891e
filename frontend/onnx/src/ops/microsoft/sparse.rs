//! Attention that leaves pairs of tokens out: by blocks, or all but neighbours and a few tokens. The masks are spelled out, and what they
//! leave out is computed too.

use tarsia_graph::{BinaryFn, Op, ReduceFn, ScatterFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    attention::{Scores, attended, length, projected},
    blocks::size_of,
    decoder::{Step, grouped_operands, remembered, turn},
    masks::{additive, joined},
    row,
};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, Stop, invalid},
    ops::{
        Importer::{One, Values},
        Rows,
        attention::{Heads, joined_heads},
        contract::product,
    },
};

pub(super) const ROWS: Rows =
    &[row("LongformerAttention", One(longformer)), row("SparseAttention", Values(block_sparse))];

/// Causal attention over a cache, in which a layout per head says which blocks of keys the queries of a block see.
fn block_sparse<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let mut heads = grouped_operands(ctx, node)?;
    let (batch, new) = (ctx.size(heads.q, 0)?, ctx.size(heads.q, 2)?);
    let total = ctx.value(node, 8)?;
    let total = ctx.cast(total, DType::I64)?;
    let total = ctx.reshape(total, &[batch, Dim::ONE])?;
    let most = length(ctx, node, 7)?.ok_or(Stop::Fault(Fault::MissingInput(7)))?;
    let step = Step::of(ctx, total, most, &new)?;
    if node.attr_bool_or("do_rotary", false)? {
        turn(ctx, node, &mut heads, &step, [Some(9), Some(10), None])?;
    }
    let (past_k, past_v) = (ctx.value(node, 3)?, ctx.value(node, 4)?);
    let capacity = ctx.size(past_k, 2)?;
    heads.k = remembered(ctx, past_k, heads.k, &capacity, &step)?;
    heads.v = remembered(ctx, past_v, heads.v, &capacity, &step)?;
    let own = ctx.iota(DType::I64, &[Dim::ONE, new], 1)?;
    let own = ctx.binary(BinaryFn::Add, own, step.before)?;
    let seen = seen_blocks(ctx, node, own, &heads)?;
    let at = ctx.iota(DType::I64, &[Dim::ONE, Dim::ONE, Dim::ONE, capacity], 3)?;
    let own = ctx.unsqueeze(own, 1)?;
    let own = ctx.unsqueeze(own, 3)?;
    let before = ctx.binary(BinaryFn::Le, at, own)?;
    let seen = ctx.binary(BinaryFn::And, seen, before)?;
    let mask = additive(ctx, seen, f64::NEG_INFINITY)?;
    let (y, _) = attended(ctx, &heads, &Scores { mask: Some(mask), ..Scores::default() })?;
    Ok(vec![joined_heads(ctx, y)?, heads.k, heads.v])
}

/// Whether each query, at positions `own` `[batch, queries]`, sees the block of each key: `[batch, heads, queries, keys]`.
fn seen_blocks<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, own: Value, heads: &Heads) -> Outcome<Value> {
    let size = size_of(node, "sparse_block_size")? as f64;
    let layouts = layouts(ctx, node)?;
    let shape = ctx.shape(layouts);
    let last = ctx.dim_scalar(&(shape[1].clone() - Dim::ONE), DType::I64)?;
    let block = |ctx: &mut Ctx<'a, '_>, places: Value| {
        let block = ctx.with_scalar(BinaryFn::Div, places, size)?;
        ctx.binary(BinaryFn::Min, block, last)
    };
    let rows = block(ctx, own)?;
    let seen = ctx.add(Op::Gather { axis: 1 }, &[layouts, rows])?;
    let keys = ctx.size(heads.k, 2)?;
    let at = ctx.iota(DType::I64, std::slice::from_ref(&keys), 0)?;
    let columns = block(ctx, at)?;
    let seen = ctx.add(Op::Gather { axis: 3 }, &[seen, columns])?;
    let seen = ctx.transpose(seen, &[1, 0, 2, 3])?;
    // Heads take the layouts in turn.
    let (count, queries) = (ctx.size(heads.q, 1)?, ctx.size(heads.q, 2)?);
    let turns = count.floor_div(&shape[0]);
    let batch = ctx.size(seen, 0)?;
    let seen = ctx.unsqueeze(seen, 1)?;
    let seen = ctx.broadcast(seen, &[batch.clone(), turns, shape[0].clone(), queries.clone(), keys.clone()])?;
    ctx.reshape(seen, &[batch, count, queries, keys])
}

/// The layouts `[layouts, blocks, blocks]` of compressed rows: where each row of blocks starts, and the columns of all rows.
fn layouts<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (rows, columns) = (ctx.value(node, 5)?, ctx.value(node, 6)?);
    let (rows, columns) = (ctx.cast(rows, DType::I64)?, ctx.cast(columns, DType::I64)?);
    let (Ok([layouts, starts]), Ok([_, many])) =
        (<[Dim; 2]>::try_from(ctx.shape(rows)), <[Dim; 2]>::try_from(ctx.shape(columns)))
    else {
        return Err(invalid("its layouts have not 2 axes each"));
    };
    let blocks = starts - Dim::ONE;
    let ends = ctx.slice_axis(rows, 1, Dim::ONE, blocks.clone(), 1)?;
    let ends = ctx.unsqueeze(ends, 2)?;
    let at = ctx.iota(DType::I64, &[Dim::ONE, Dim::ONE, many.clone()], 2)?;
    let over = ctx.binary(BinaryFn::Le, ends, at)?;
    let over = ctx.cast(over, DType::I64)?;
    let row = ctx.reduce(ReduceFn::Sum, over, &[1])?;
    let row = ctx.squeeze(row, &[1])?;
    let width = ctx.dim_scalar(&blocks, DType::I64)?;
    let columns = ctx.with_scalar(BinaryFn::Max, columns, 0.0)?;
    let flat = ctx.binary(BinaryFn::Mul, row, width)?;
    let flat = ctx.binary(BinaryFn::Add, flat, columns)?;
    // What is after the last row is padding: it goes to one more place.
    let area = blocks.clone() * blocks.clone();
    let end = ctx.dim_scalar(&area, DType::I64)?;
    let flat = ctx.binary(BinaryFn::Min, flat, end)?;
    let (zero, one) = (ctx.scalar(DType::I32, 0.0), ctx.scalar(DType::I32, 1.0));
    let none = ctx.broadcast(zero, &[layouts.clone(), area.clone() + Dim::ONE])?;
    let ones = ctx.broadcast(one, &[layouts.clone(), many])?;
    let hits = ctx.add(Op::ScatterAlong { function: ScatterFn::Set, axis: 1 }, &[none, flat, ones])?;
    let hits = ctx.slice_axis(hits, 1, Dim::ZERO, area, 1)?;
    let hits = ctx.reshape(hits, &[layouts, blocks.clone(), blocks])?;
    ctx.with_scalar(BinaryFn::Gt, hits, 0.0)
}

/// Longformer (arXiv 2004.05150): tokens see those at most `window` away and the global ones; global tokens, by projections of their
/// own, see all.
fn longformer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let Ok([batch, length, _]) = <[Dim; 3]>::try_from(ctx.shape(x)) else {
        return Err(invalid("its input has not 3 axes"));
    };
    let window = size_of(node, "window")?;
    let mut heads = |weights: usize| -> Outcome<Heads> {
        let (bias, weights) = (ctx.value(node, weights + 1)?, ctx.value(node, weights)?);
        let dtype = ctx.dtype(x);
        let y = product(ctx, x, weights, dtype)?;
        let y = ctx.binary(BinaryFn::Add, y, bias)?;
        projected(ctx, node, y)
    };
    let (local, global) = (heads(1)?, heads(4)?);
    let mask = ctx.value(node, 3)?;
    let padding = ctx.reshape(mask, &[batch.clone(), Dim::ONE, Dim::ONE, length.clone()])?;
    let flags = ctx.value(node, 6)?;
    let is_global = ctx.with_scalar(BinaryFn::Gt, flags, 0.0)?;
    let keys = ctx.reshape(is_global, &[batch.clone(), Dim::ONE, Dim::ONE, length.clone()])?;
    let square = [Dim::ONE, Dim::ONE, length.clone(), length.clone()];
    let (row, column) = (ctx.iota(DType::I64, &square, 2)?, ctx.iota(DType::I64, &square, 3)?);
    let distance = ctx.binary(BinaryFn::Sub, row, column)?;
    let distance = ctx.unary(UnaryFn::Abs, distance)?;
    let near = ctx.with_scalar(BinaryFn::Le, distance, window as f64)?;
    let seen = ctx.binary(BinaryFn::Or, near, keys)?;
    let far = additive(ctx, seen, f64::NEG_INFINITY)?;
    let local_mask = joined(ctx, &[Some(far), Some(padding)])?;
    let (near, _) = attended(ctx, &local, &Scores { mask: local_mask, ..Scores::default() })?;
    let padding = joined(ctx, &[Some(padding)])?;
    let (all, _) = attended(ctx, &global, &Scores { mask: padding, ..Scores::default() })?;
    let (near, all) = (joined_heads(ctx, near)?, joined_heads(ctx, all)?);
    let is_global = ctx.reshape(is_global, &[batch, length, Dim::ONE])?;
    ctx.select(is_global, all, near)
}
