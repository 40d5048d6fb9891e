//! Generation of text: a decoder that the node holds as a graph, run once for the prompt and then in a loop for each token.
//!
//! ```text
//! prompt ─► decoder ─► next token ─┐
//!        ┌──────────────────────────┴─► decoder ─► next token ─┐  until all sequences have ended
//!        └─ token, mask, position, past ◄─────────────────────┘
//! ```
//!
//! After an encoder (`encoded`) the decoder starts with one token, and takes what the encoder gives each time.
//!
//! Searches differ in how they choose the next token: `greedy` takes the best one or draws one, `beam` keeps several sequences.

mod beam;
mod encoded;
mod greedy;
mod rules;

use tarsia_graph::{BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::row;
use crate::{
    Dimension, Node, ValueType,
    import::{Ctx, Item, Outcome, invalid},
    ops::{
        Importer::{One, Values},
        Rows,
        control::carried_loop,
    },
    view,
};

pub(super) const ROWS: Rows = &[
    row("BeamSearch", Values(beam::search)),
    row("GreedySearch", One(greedy::search)),
    row("Sampling", Values(greedy::sampling)),
];

/// What the decoder takes: in this order.
#[derive(Clone)]
struct Given {
    /// The last token of each sequence, or the prompt: `[sequences, length]`.
    ids: Value,
    /// Positions of these and the mask of all tokens; or, after an encoder, the mask of its tokens, and what it gives for them.
    front: Vec<Value>,
    pasts: Vec<Value>,
    /// Keys and values of what an encoder gives.
    back: Vec<Value>,
}

/// A prompt that the decoder has seen, and how it goes on.
struct Prompt<'a> {
    /// The first tokens in buffers for all tokens: `[sequences, most]`.
    tokens: Value,
    /// The scores of the token after them, and what the decoder takes then, but for that token.
    scores: Value,
    given: Given,
    /// How many first tokens there are, padding too, and how many there may be.
    length: Dim,
    most: Dim,
    decoder: view::Graph<'a>,
    /// Whether there is an encoder.
    is_encoded: bool,
}

impl<'a> Prompt<'a> {
    /// The prompts of a node, each `beams` times in a row, with the mask that an input may give.
    fn of(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, beams: &Dim, mask: usize) -> Outcome<Prompt<'a>> {
        let decoder = node.attr_graph("decoder")?;
        let first = node.attr_graph_opt("init_decoder")?.unwrap_or_else(|| decoder.clone());
        let ids = ctx.value(node, 0)?;
        let ids = ctx.cast(ids, DType::I32)?;
        let mask = mask_of(ctx, node, ids, mask)?;
        let (ids, mask) = (repeated(ctx, ids, beams)?, repeated(ctx, mask, beams)?);
        let Ok([sequences, length]) = <[Dim; 2]>::try_from(ctx.shape(ids)) else {
            return Err(invalid("its ids have not 2 axes"));
        };
        let tokens = buffer(ctx, node, ids)?;
        let most = ctx.size(tokens, 1)?;
        let counted = Op::Scan { function: ReduceFn::Sum, axis: 1, exclusive: true, reverse: false };
        let positions = ctx.add(counted, &[mask])?;
        let positions = ctx.binary(BinaryFn::Mul, positions, mask)?;
        let types: Vec<_> = first.inputs().into_iter().skip(3).collect();
        let pasts = empty_pasts(ctx, &types, &sequences)?;
        let given = Given { ids, front: vec![positions, mask], pasts, back: Vec::new() };
        let (scores, pasts) = decoded(ctx, node, &first, &given)?;
        let positions = ctx.reduce(ReduceFn::Sum, mask, &[1])?;
        let given = Given { front: vec![positions, mask], pasts, ..given };
        Ok(Prompt { tokens, scores, given, length, most, decoder, is_encoded: false })
    }

    /// The scores of the next token, and what the decoder takes after it, but for the token.
    fn advanced(&self, ctx: &mut Ctx<'a, '_>, node: &Node<'a>, mut given: Given) -> Outcome<(Value, Given)> {
        let grows = !self.is_encoded;
        if let (true, [_, mask]) = (grows, given.front.as_mut_slice()) {
            let one = ctx.scalar(DType::I32, 1.0);
            let shape = ctx.shape(given.ids);
            let ones = ctx.broadcast(one, &shape)?;
            *mask = ctx.concat(&[*mask, ones], 1)?;
        }
        let (scores, pasts) = decoded(ctx, node, &self.decoder, &given)?;
        if let (true, [positions, _]) = (grows, given.front.as_mut_slice()) {
            *positions = ctx.with_scalar(BinaryFn::Add, *positions, 1.0)?;
        }
        Ok((scores, Given { pasts, ..given }))
    }

    /// A loop over the tokens after the first one: `step` is given the scores, what the decoder takes, how many tokens there are (a
    /// scalar), and what is carried, and gives which sequences have ended, what the decoder takes next, and what is carried on. Gives
    /// what is carried at the end.
    fn each_token<'o>(
        &self,
        ctx: &mut Ctx<'a, 'o>,
        node: &Node<'a>,
        given: Given,
        carried: &[Value],
        mut step: impl FnMut(&mut Ctx<'a, 'o>, Value, Given, Value, &[Value]) -> Outcome<Step>,
    ) -> Outcome<Vec<Value>> {
        let start = self.length.clone() + Dim::ONE;
        let trips = ctx.dim_scalar(&(self.most.clone() - start.clone()), DType::I64)?;
        let counts = [carried.len(), given.front.len(), given.back.len()];
        let initial = [&[given.ids][..], carried, &given.front, &given.back, &given.pasts].concat();
        let results = carried_loop(ctx, trips, &initial, &[&self.decoder], |ctx, iteration, own| {
            let lost = || invalid("its loop has lost a value");
            let (&ids, mut rest) = own.split_first().ok_or_else(lost)?;
            let mut parts = Vec::with_capacity(counts.len());
            for count in counts {
                let (part, after) = rest.split_at_checked(count).ok_or_else(lost)?;
                parts.push(part.to_vec());
                rest = after;
            }
            let Ok([carried, front, back]) = <[Vec<Value>; 3]>::try_from(parts) else { return Err(lost()) };
            let (scores, given) = self.advanced(ctx, node, Given { ids, front, pasts: rest.to_vec(), back })?;
            let start = ctx.dim_scalar(&start, DType::I64)?;
            let length = ctx.binary(BinaryFn::Add, iteration, start)?;
            let Step { done, given, carried } = step(ctx, scores, given, length, &carried)?;
            let left = ctx.unary(UnaryFn::Not, done)?;
            let left = ctx.cast(left, DType::I32)?;
            let left = ctx.reduce(ReduceFn::Max, left, &[0, 1])?;
            let left = ctx.reshape(left, &[])?;
            let going = ctx.with_scalar(BinaryFn::Gt, left, 0.0)?;
            Ok([&[going, given.ids][..], &carried, &given.front, &given.back, &given.pasts].concat())
        })?;
        Ok(results.into_iter().skip(1).take(counts[0]).collect())
    }
}

/// 1 for each token that counts: an input may give it, else it is those that are no padding.
fn mask_of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, ids: Value, input: usize) -> Outcome<Value> {
    let mask = match ctx.value_opt(node, input)? {
        Some(mask) => mask,
        None => ctx.with_scalar(BinaryFn::Ne, ids, node.attr_int("pad_token_id")? as f64)?,
    };
    ctx.cast(mask, DType::I32)
}

/// A step of a search.
struct Step {
    /// Which sequences have ended, `[sequences, 1]`.
    done: Value,
    /// What the decoder takes next.
    given: Given,
    carried: Vec<Value>,
}

/// Each row several times in a row.
fn repeated(ctx: &mut Ctx<'_, '_>, x: Value, times: &Dim) -> Outcome<Value> {
    if times.is(1) {
        return Ok(x);
    }
    let shape = ctx.shape(x);
    let Some((rows, rest)) = shape.split_first() else { return Err(invalid("an input has no axes")) };
    let x = ctx.unsqueeze(x, 1)?;
    let x = ctx.broadcast(x, &[&[rows.clone(), times.clone()][..], rest].concat())?;
    ctx.reshape(x, &[&[rows.clone() * times.clone()][..], rest].concat())
}

/// Tokens with those of a column `[sequences, 1]` at a place.
fn with_token(ctx: &mut Ctx<'_, '_>, tokens: Value, token: Value, at: Value) -> Outcome<Value> {
    let most = ctx.size(tokens, 1)?;
    let places = ctx.iota(DType::I64, &[Dim::ONE, most], 1)?;
    let here = ctx.binary(BinaryFn::Eq, places, at)?;
    ctx.select(here, token, tokens)
}

/// A number that an input gives: run-time data as a size that is known then only.
fn count<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, input: usize, name: &str) -> Outcome<Dim> {
    if let Some(known) = ctx.known(node, input).and_then(|known| known.only().cloned()) {
        return match known.as_const() {
            Some(..=0) => Err(invalid(format!("its {name} is {known}"))),
            _ => Ok(known),
        };
    }
    let end = ctx.value(node, input)?;
    let end = ctx.cast(end, DType::I64)?;
    let end = ctx.reshape(end, &[])?;
    let (zero, one) = (ctx.scalar(DType::I64, 0.0), ctx.scalar(DType::I64, 1.0));
    let places = ctx.host("range", Vec::new(), &[zero, end, one], DType::I64, 1)?;
    ctx.size(places, 0)
}

/// The prompt in a buffer for as many tokens as there may be, which padding fills.
fn buffer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, ids: Value) -> Outcome<Value> {
    let pad = node.attr_int("pad_token_id")?;
    let fill = ctx.scalar(DType::I32, pad as f64);
    let mut ty = ctx.ty(ids).clone();
    if let Some(most) = ctx.known(node, 1).and_then(|known| known.only().cloned()) {
        let missing = most - ty.shape[1].clone();
        return ctx.pad(ids, fill, vec![Dim::ZERO; 2], vec![Dim::ZERO, missing]);
    }
    let most = ctx.value(node, 1)?;
    let most = ctx.cast(most, DType::I64)?;
    let most = ctx.reshape(most, &[Dim::ONE])?;
    let length = ctx.dim_scalar(&ty.shape[1], DType::I64)?;
    let missing = ctx.binary(BinaryFn::Sub, most, length)?;
    let none = ctx.ints(&[0; 3])?;
    let amounts = ctx.concat(&[none, missing], 0)?;
    ty.shape[1] = ctx.fresh("most");
    let op = Op::Host { function: "pad".into(), ints: vec![0], reals: Vec::new(), types: vec![ty] };
    ctx.add(op, &[ids, amounts, fill])
}

/// Pasts of no elements, of the types that the decoder declares.
fn empty_pasts<'a>(ctx: &mut Ctx<'a, '_>, declared: &[view::Value<'a>], sequences: &Dim) -> Outcome<Vec<Value>> {
    let wrong = || {
        invalid(
            "a past of the decoder is not declared as [2, batch, heads, length, size] or, after an encoder, [batch, heads, length, size] with heads and size known",
        )
    };
    let mut pasts = Vec::new();
    for input in declared {
        let Some(ValueType::Tensor(ty)) = input.value_type()? else { return Err(wrong()) };
        let shape = ty.shape.ok_or_else(wrong)?;
        let [pair @ .., _, Dimension::Size(heads), _, Dimension::Size(size)] = &shape[..] else { return Err(wrong()) };
        if pair.len() > 1 {
            return Err(wrong());
        }
        let zero = ctx.scalar(ty.dtype, 0.0);
        let own = [sequences.clone(), Dim::from(*heads), Dim::ZERO, Dim::from(*size)];
        let pair = pair.iter().map(|_| Dim::Const(2));
        pasts.push(ctx.broadcast(zero, &pair.chain(own).collect::<Vec<Dim>>())?);
    }
    Ok(pasts)
}

/// The scores `[batch, tokens]` of what follows the last token, in f32, and the past with it.
fn decoded<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    decoder: &view::Graph<'a>,
    given: &Given,
) -> Outcome<(Value, Vec<Value>)> {
    let inputs = [&[given.ids][..], &given.front, &given.pasts, &given.back].concat();
    let items: Vec<Item> = inputs.into_iter().map(Item::from).collect();
    if decoder.inputs().len() != items.len() || decoder.outputs().len() != given.pasts.len() + 1 {
        return Err(invalid(
            "the decoder does not take ids, positions, a mask and pasts (after an encoder: ids, the mask, perhaps what it gives, pasts, and its keys and values), or not give logits and pasts",
        ));
    }
    let results = ctx.inline(decoder, &items)?;
    let mut values = results.iter().map(|item| ctx.item_value(item)).collect::<Outcome<Vec<Value>>>()?;
    let logits = values.remove(0);
    Ok((last_scores(ctx, node, logits)?, values))
}

/// The scores of what follows the last token, of logits `[sequences, length, words]`.
fn last_scores<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, logits: Value) -> Outcome<Value> {
    let Ok([batch, length, words]) = <[Dim; 3]>::try_from(ctx.shape(logits)) else {
        return Err(invalid("the decoder's logits have not 3 axes"));
    };
    let last = ctx.slice_axis(logits, 1, length - Dim::ONE, Dim::ONE, 1)?;
    let mut last = ctx.reshape(last, &[batch, words])?;
    let used = node.attr_int_or("vocab_size", -1)?;
    if used > 0 {
        last = ctx.slice_axis(last, 1, Dim::ZERO, Dim::Const(used), 1)?;
    }
    ctx.cast(last, DType::F32)
}
