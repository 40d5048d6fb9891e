//! Batches without padding: the tokens of all sequences one after another, and where they stand in the padded batch.

use tarsia_graph::{BinaryFn, Op, ReduceFn, ScatterFn, Type, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    attention::{Scores, attended, part, projected},
    masks::{additive, joined},
    row,
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
    ops::{
        Importer::{One, Values},
        Rows,
        attention::{Heads, head_count, joined_heads, scale, split_heads},
        contract::product,
    },
};

pub(super) const ROWS: Rows = &[
    row("PackedAttention", One(packed_attention)),
    row("PackedMultiHeadAttention", One(packed_multi_head)),
    row("RemovePadding", Values(remove_padding)),
    row("RestorePadding", One(restore_padding)),
];

/// Where the tokens of a packed batch stand in the padded one.
struct Packing {
    /// Positions in the padded batch `[tokens]`.
    places: Value,
    batch: Dim,
    length: Dim,
    /// Additive, `[batch, 1, 1, length]`.
    mask: Value,
}

impl Packing {
    /// From the offsets `[batch, length]`, those of tokens first, and the cumulative lengths `[batch + 1]`.
    fn of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, offsets: usize, tokens: &Dim) -> Outcome<Packing> {
        let (places, ends) = (ctx.value(node, offsets)?, ctx.value(node, offsets + 1)?);
        let Ok([batch, length]) = <[Dim; 2]>::try_from(ctx.shape(places)) else {
            return Err(invalid("the offsets have not 2 axes"));
        };
        let whole = batch.clone() * length.clone();
        let places = ctx.cast(places, DType::I64)?;
        let places = ctx.reshape(places, std::slice::from_ref(&whole))?;
        let places = ctx.slice_axis(places, 0, Dim::ZERO, tokens.clone(), 1)?;
        let after = ctx.slice_axis(ends, 0, Dim::ONE, batch.clone(), 1)?;
        let before = ctx.slice_axis(ends, 0, Dim::ZERO, batch.clone(), 1)?;
        let lengths = ctx.binary(BinaryFn::Sub, after, before)?;
        let lengths = ctx.cast(lengths, DType::I64)?;
        let lengths = ctx.reshape(lengths, &[batch.clone(), Dim::ONE, Dim::ONE, Dim::ONE])?;
        let at = ctx.iota(DType::I64, &[Dim::ONE, Dim::ONE, Dim::ONE, length.clone()], 3)?;
        let seen = ctx.binary(BinaryFn::Lt, at, lengths)?;
        let mask = additive(ctx, seen, f64::NEG_INFINITY)?;
        Ok(Packing { places, batch, length, mask })
    }

    /// Rows of tokens `[tokens, width]` as `[batch, length, width]`, zeros for padding.
    fn unpack(&self, ctx: &mut Ctx<'_, '_>, rows: Value) -> Outcome<Value> {
        padded(ctx, rows, self.places, [self.batch.clone(), self.length.clone()])
    }

    /// Attention over the padded batch, the rows of tokens of it.
    fn attend<'a>(&self, ctx: &mut Ctx<'a, '_>, heads: &Heads, bias: Option<Value>) -> Outcome<Value> {
        let mask = joined(ctx, &[Some(self.mask), bias])?;
        let (y, _) = attended(ctx, heads, &Scores { mask, ..Scores::default() })?;
        let y = joined_heads(ctx, y)?;
        let width = ctx.size(y, 2)?;
        let y = ctx.reshape(y, &[self.batch.clone() * self.length.clone(), width])?;
        ctx.add(Op::Gather { axis: 0 }, &[y, self.places])
    }
}

fn packed_attention<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, weights, bias) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let (dtype, tokens) = (ctx.dtype(x), ctx.size(x, 0)?);
    let rows = product(ctx, x, weights, dtype)?;
    let rows = ctx.binary(BinaryFn::Add, rows, bias)?;
    let packing = Packing::of(ctx, node, 3, &tokens)?;
    let padded = packing.unpack(ctx, rows)?;
    let heads = projected(ctx, node, padded)?;
    let bias = ctx.value_opt(node, 5)?;
    packing.attend(ctx, &heads, bias)
}

fn packed_multi_head<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let tokens = ctx.size(x, 0)?;
    let count = head_count(node, "num_heads")?;
    let rows = match (ctx.value_opt(node, 1)?, ctx.value_opt(node, 2)?) {
        (Some(k), Some(v)) => [x, k, v],
        _ if ctx.rank(x) == 4 => {
            let mut each = Vec::with_capacity(3);
            for index in 0..3 {
                let x = part(ctx, x, 2, index)?;
                let shape = ctx.shape(x);
                each.push(ctx.reshape(x, &[shape[0].clone(), shape[1].clone() * shape[2].clone()])?);
            }
            [each[0], each[1], each[2]]
        }
        _ => return Err(invalid("key and value are neither there nor packed with the query")),
    };
    let bias = ctx.value_opt(node, 3)?;
    let packing = Packing::of(ctx, node, 4, &tokens)?;
    let (mut start, mut operands) = (Dim::ZERO, Vec::with_capacity(3));
    for mut x in rows {
        if let Some(bias) = bias {
            let width = ctx.size(x, 1)?;
            let own = ctx.slice_axis(bias, 0, start.clone(), width.clone(), 1)?;
            start = start + width;
            x = ctx.binary(BinaryFn::Add, x, own)?;
        }
        let padded = packing.unpack(ctx, x)?;
        operands.push(split_heads(ctx, padded, &count)?);
    }
    let scale = scale(ctx, node, operands[0])?;
    let heads = Heads { q: operands[0], k: operands[1], v: operands[2], scale };
    let bias = ctx.value_opt(node, 6)?;
    packing.attend(ctx, &heads, bias)
}

/// Rows of tokens put where they stand in the padded batch, zeros elsewhere.
fn restore_padding<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (rows, places) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let (Ok([tokens, _]), Ok([batch, length])) =
        (<[Dim; 2]>::try_from(ctx.shape(rows)), <[Dim; 2]>::try_from(ctx.shape(places)))
    else {
        return Err(invalid("its inputs have not 2 axes each"));
    };
    let whole = batch.clone() * length.clone();
    let places = ctx.cast(places, DType::I64)?;
    let places = ctx.reshape(places, std::slice::from_ref(&whole))?;
    let places = ctx.slice_axis(places, 0, Dim::ZERO, tokens, 1)?;
    padded(ctx, rows, places, [batch, length])
}

/// Rows of tokens of a padded batch, where they were, and the lengths: in sum up to each sequence, and the longest one.
fn remove_padding<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let (x, counts) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let Ok([batch, length, width]) = <[Dim; 3]>::try_from(ctx.shape(x)) else {
        return Err(invalid("its input has not 3 axes"));
    };
    let counts = ctx.reshape(counts, &[batch.clone(), Dim::ONE])?;
    let shape = [batch.clone(), length.clone()];
    let whole = batch.clone() * length.clone();
    let at = ctx.iota(DType::I32, &shape, 1)?;
    let is_token = ctx.binary(BinaryFn::Lt, at, counts)?;
    // Padding comes after all tokens: its places are larger by as many as there are.
    let flat = ctx.iota(DType::I32, std::slice::from_ref(&whole), 0)?;
    let all = ctx.dim_scalar(&whole, DType::I32)?;
    let later = ctx.binary(BinaryFn::Add, flat, all)?;
    let is_token = ctx.reshape(is_token, std::slice::from_ref(&whole))?;
    let order = ctx.select(is_token, flat, later)?;
    let order = ctx.add(Op::Sort { axis: 0, descending: false }, &[order])?;
    let offsets = ctx.binary(BinaryFn::Mod, order, all)?;
    let offsets = ctx.reshape(offsets, &shape)?;
    let rows = ctx.reshape(x, &[whole, width.clone()])?;
    let types = vec![Type::new(ctx.dtype(x), [ctx.fresh("tokens"), width])];
    let op = Op::Host { function: "compress".into(), ints: vec![0], reals: Vec::new(), types };
    let rows = ctx.add(op, &[rows, is_token])?;
    let counts = ctx.reshape(counts, &[batch])?;
    let zero = ctx.scalar(DType::I32, 0.0);
    let zero = ctx.reshape(zero, &[Dim::ONE])?;
    let sums = ctx.add(Op::Scan { function: ReduceFn::Sum, axis: 0, exclusive: false, reverse: false }, &[counts])?;
    let sums = ctx.concat(&[zero, sums], 0)?;
    Ok(vec![rows, offsets, sums, ctx.reduce(ReduceFn::Max, counts, &[0])?])
}

/// Rows `[tokens, width]` at their places in `[batch, length, width]`, zeros elsewhere.
fn padded(ctx: &mut Ctx<'_, '_>, rows: Value, places: Value, [batch, length]: [Dim; 2]) -> Outcome<Value> {
    let width = ctx.size(rows, 1)?;
    let zero = ctx.scalar_like(rows, 0.0);
    let zeros = ctx.broadcast(zero, &[batch.clone() * length.clone(), width.clone()])?;
    let padded = ctx.add(Op::ScatterRows { function: ScatterFn::Set }, &[zeros, places, rows])?;
    ctx.reshape(padded, &[batch, length, width])
}
