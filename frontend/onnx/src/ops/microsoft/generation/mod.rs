//! Generation of text: a decoder that the node holds as a graph, run once for the prompt and then in a loop for each token.
//!
//! ```text
//! prompt ─► decoder ─► next token ─┐
//!        ┌──────────────────────────┴─► decoder ─► next token ─┐  until all sequences have ended
//!        └─ token, mask, position, past ◄─────────────────────┘
//! ```
//!
//! Searches differ in how they choose the next token: `greedy` takes the best one or draws one, `beam` keeps several sequences.

mod beam;
mod greedy;
mod rules;

use tarsia_graph::{BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::row;
use crate::{
    Dimension, Node, ValueType,
    import::{Ctx, Item, Outcome, invalid, unsupported},
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

/// What the decoder takes.
struct Given {
    /// The last token of each sequence, or the prompt: `[sequences, length]`.
    ids: Value,
    /// 1 for each token that counts, `[sequences, length with the past]`.
    mask: Value,
    /// The position of each of `ids`.
    positions: Value,
    pasts: Vec<Value>,
}

/// A prompt, and how it goes on.
struct Prompt<'a> {
    /// The prompts in buffers for all tokens: `[sequences, most]`.
    tokens: Value,
    given: Given,
    /// How many tokens prompts have, padding too, and how many sequences may.
    length: Dim,
    most: Dim,
    /// The graph for the prompt, and the one for single tokens.
    first: view::Graph<'a>,
    decoder: view::Graph<'a>,
}

impl<'a> Prompt<'a> {
    /// The prompts of a node, each `beams` times in a row, with the mask that an input may give.
    fn of(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, beams: &Dim, mask: usize) -> Outcome<Prompt<'a>> {
        if node.attr_int_or("model_type", 0)? != 0 {
            return Err(unsupported("decoders with an encoder (`model_type` other than 0)"));
        }
        let decoder = node.attr_graph("decoder")?;
        let first = node.attr_graph_opt("init_decoder")?.unwrap_or_else(|| decoder.clone());
        let ids = ctx.value(node, 0)?;
        let ids = ctx.cast(ids, DType::I32)?;
        let ids = repeated(ctx, ids, beams)?;
        let Ok([sequences, length]) = <[Dim; 2]>::try_from(ctx.shape(ids)) else {
            return Err(invalid("its ids have not 2 axes"));
        };
        let tokens = buffer(ctx, node, ids)?;
        let most = ctx.size(tokens, 1)?;
        let mask = match ctx.value_opt(node, mask)? {
            Some(mask) => {
                let mask = ctx.cast(mask, DType::I32)?;
                repeated(ctx, mask, beams)?
            }
            None => {
                let counts = ctx.with_scalar(BinaryFn::Ne, ids, node.attr_int("pad_token_id")? as f64)?;
                ctx.cast(counts, DType::I32)?
            }
        };
        let counted = Op::Scan { function: ReduceFn::Sum, axis: 1, exclusive: true, reverse: false };
        let positions = ctx.add(counted, &[mask])?;
        let positions = ctx.binary(BinaryFn::Mul, positions, mask)?;
        let pasts = empty_pasts(ctx, &first, &sequences)?;
        Ok(Prompt { tokens, given: Given { ids, mask, positions, pasts }, length, most, first, decoder })
    }

    /// The scores of the first token, and what the decoder takes after it, but for the token.
    fn decoded(&self, ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<(Value, Given)> {
        let (scores, pasts) = decoded(ctx, node, &self.first, &self.given)?;
        let positions = ctx.reduce(ReduceFn::Sum, self.given.mask, &[1])?;
        Ok((scores, Given { ids: self.given.ids, mask: self.given.mask, positions, pasts }))
    }

    /// A loop over the tokens after the first one: `step` is given the scores, what the decoder takes, how many tokens there are (a
    /// scalar), and what is carried, and gives which sequences have ended, what the decoder takes next, and what is carried on. The
    /// positions of what the decoder takes are those of the last tokens. Gives what is carried at the end.
    fn each_token<'o>(
        &self,
        ctx: &mut Ctx<'a, 'o>,
        node: &Node<'a>,
        given: Given,
        carried: &[Value],
        mut step: impl FnMut(&mut Ctx<'a, 'o>, Value, Given, Value, &[Value]) -> Outcome<Step>,
    ) -> Outcome<Vec<Value>> {
        let trips = ctx.dim_scalar(&(self.most.clone() - self.length.clone() - Dim::ONE), DType::I64)?;
        let initial: Vec<Value> =
            [given.ids, given.mask, given.positions].into_iter().chain(carried.iter().copied()).collect();
        let count = carried.len();
        let initial: Vec<Value> = initial.into_iter().chain(given.pasts).collect();
        let results = carried_loop(ctx, trips, &initial, &[&self.decoder], |ctx, _, own| {
            let [ids, mask, positions, ref rest @ ..] = *own else { return Err(invalid("its loop has lost a value")) };
            let (carried, pasts) = rest.split_at(count.min(rest.len()));
            let one = ctx.scalar(DType::I32, 1.0);
            let shape = ctx.shape(ids);
            let ones = ctx.broadcast(one, &shape)?;
            let mask = ctx.concat(&[mask, ones], 1)?;
            let given = Given { ids, mask, positions, pasts: pasts.to_vec() };
            let (scores, pasts) = decoded(ctx, node, &self.decoder, &given)?;
            let positions = ctx.with_scalar(BinaryFn::Add, positions, 1.0)?;
            let length = ctx.size(mask, 1)?;
            let length = ctx.dim_scalar(&length, DType::I64)?;
            let Step { done, given, carried } =
                step(ctx, scores, Given { ids, mask, positions, pasts }, length, carried)?;
            let left = ctx.unary(UnaryFn::Not, done)?;
            let left = ctx.cast(left, DType::I32)?;
            let left = ctx.reduce(ReduceFn::Max, left, &[0, 1])?;
            let left = ctx.reshape(left, &[])?;
            let going = ctx.with_scalar(BinaryFn::Gt, left, 0.0)?;
            let values = [going, given.ids, given.mask, given.positions];
            Ok(values.into_iter().chain(carried).chain(given.pasts).collect())
        })?;
        Ok(results.into_iter().skip(3).take(count).collect())
    }
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
fn empty_pasts<'a>(ctx: &mut Ctx<'a, '_>, decoder: &view::Graph<'a>, batch: &Dim) -> Outcome<Vec<Value>> {
    let wrong = || {
        invalid("a past of the decoder is not declared as [2, batch, heads, length, size] with heads and size known")
    };
    let mut pasts = Vec::new();
    for input in decoder.inputs().iter().skip(3) {
        let Some(ValueType::Tensor(ty)) = input.value_type()? else { return Err(wrong()) };
        let shape = ty.shape.ok_or_else(wrong)?;
        let [_, _, Dimension::Size(heads), _, Dimension::Size(size)] = shape[..] else { return Err(wrong()) };
        let zero = ctx.scalar(ty.dtype, 0.0);
        let shape = [Dim::Const(2), batch.clone(), Dim::from(heads), Dim::ZERO, Dim::from(size)];
        pasts.push(ctx.broadcast(zero, &shape)?);
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
    let inputs = [given.ids, given.positions, given.mask];
    let items: Vec<Item> = inputs.iter().chain(&given.pasts).map(|&value| value.into()).collect();
    if decoder.inputs().len() != items.len() || decoder.outputs().len() != given.pasts.len() + 1 {
        return Err(invalid(
            "the decoder does not take ids, positions, a mask and pasts, or not give logits and pasts",
        ));
    }
    let results = ctx.inline(decoder, &items)?;
    let mut values = results.iter().map(|item| ctx.item_value(item)).collect::<Outcome<Vec<Value>>>()?;
    let logits = values.remove(0);
    let Ok([batch, length, words]) = <[Dim; 3]>::try_from(ctx.shape(logits)) else {
        return Err(invalid("the decoder's logits have not 3 axes"));
    };
    let last = ctx.slice_axis(logits, 1, length - Dim::ONE, Dim::ONE, 1)?;
    let mut last = ctx.reshape(last, &[batch, words])?;
    let used = node.attr_int_or("vocab_size", -1)?;
    if used > 0 {
        last = ctx.slice_axis(last, 1, Dim::ZERO, Dim::Const(used), 1)?;
    }
    Ok((ctx.cast(last, DType::F32)?, values))
}
