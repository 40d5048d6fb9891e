//! Generation of text: a decoder that the node holds as a graph, run once for the prompt and then in a loop for each token.
//!
//! ```text
//! prompt ─► decoder ─► next token ─┐
//!        ┌──────────────────────────┴─► decoder ─► next token ─┐  until all sequences have ended
//!        └─ token, mask, position, past ◄─────────────────────┘
//! ```

use tarsia_graph::{ArgReduceFn, BinaryFn, Op, ReduceFn, ScatterFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::row;
use crate::{
    Dimension, Node, ValueType,
    import::{Ctx, Item, Outcome, invalid, unsupported},
    ops::{Importer::One, Rows, control::carried_loop},
    view,
};

pub(super) const ROWS: Rows = &[row("GreedySearch", One(greedy_search))];

/// The score of a token that must not come.
const NEVER: f64 = f32::MIN as f64;

/// What the decoder takes beside the tokens, and the tokens.
struct State {
    /// All tokens, padded: `[batch, most]`.
    tokens: Value,
    /// Which sequences have ended: `[batch, 1]`.
    done: Value,
    /// The last token of each, `[batch, 1]`.
    last: Value,
    /// 1 for each token that counts, `[batch, length]`.
    mask: Value,
    /// The position of the last token, `[batch, 1]`.
    position: Value,
    pasts: Vec<Value>,
}

/// What decides between scores, beside the scores: loops carry it.
#[derive(Clone, Copy)]
struct Rules {
    /// Fewest tokens, the penalty of those that are there already, the words that may come, and those that may come first.
    least: Option<Value>,
    penalty: Option<Value>,
    words: Option<Value>,
    first: Option<Value>,
}

impl Rules {
    fn of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Rules> {
        let mut input = |index| ctx.value_opt(node, index);
        Ok(Rules { least: input(2)?, penalty: input(3)?, words: input(4)?, first: input(5)? })
    }

    /// Those that hold for all tokens.
    fn values(&self) -> Vec<Value> {
        [self.least, self.penalty, self.words].into_iter().flatten().collect()
    }

    /// The same with other values for those that hold for all tokens, in the order of `values`.
    fn renamed(&self, values: &[Value]) -> Rules {
        let mut values = values.iter().copied();
        let mut next = |rule: Option<Value>| rule.and_then(|_| values.next());
        Rules { least: next(self.least), penalty: next(self.penalty), words: next(self.words), first: None }
    }
}

/// The most likely token after another, until the longest length or the end of all sequences.
fn greedy_search<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    if node.attr_int_or("model_type", 0)? != 0 {
        return Err(unsupported("decoders with an encoder (`model_type` = 1)"));
    }
    if node.attr_int_or("no_repeat_ngram_size", 0)? > 0 {
        return Err(unsupported("`no_repeat_ngram_size`"));
    }
    let decoder = node.attr_graph("decoder")?;
    let first = node.attr_graph_opt("init_decoder")?.unwrap_or_else(|| decoder.clone());
    let ids = ctx.value(node, 0)?;
    let ids = ctx.cast(ids, DType::I32)?;
    let Ok([batch, length]) = <[Dim; 2]>::try_from(ctx.shape(ids)) else {
        return Err(invalid("its ids have not 2 axes"));
    };
    let tokens = buffer(ctx, node, ids)?;
    let mask = match ctx.value_opt(node, 6)? {
        Some(mask) => ctx.cast(mask, DType::I32)?,
        None => {
            let counts = ctx.with_scalar(BinaryFn::Ne, ids, node.attr_int("pad_token_id")? as f64)?;
            ctx.cast(counts, DType::I32)?
        }
    };
    let counted = Op::Scan { function: ReduceFn::Sum, axis: 1, exclusive: true, reverse: false };
    let positions = ctx.add(counted, &[mask])?;
    let positions = ctx.binary(BinaryFn::Mul, positions, mask)?;
    let pasts = empty_pasts(ctx, &first, &batch)?;
    let (scores, pasts) = decoded(ctx, &first, [ids, positions, mask], &pasts)?;
    let no = ctx.scalar(DType::Bool, 0.0);
    let done = ctx.broadcast(no, &[batch, Dim::ONE])?;
    let at = ctx.dim_scalar(&length, DType::I64)?;
    let position = ctx.reduce(ReduceFn::Sum, mask, &[1])?;
    let start = State { tokens, done, last: ids, mask, position, pasts };
    let rules = Rules::of(ctx, node)?;
    let state = continued(ctx, node, start, scores, at, &rules)?;
    let most = ctx.size(tokens, 1)?;
    let trips = ctx.dim_scalar(&(most - length - Dim::ONE), DType::I64)?;
    let initial = [state.tokens, state.done, state.last, state.mask, state.position];
    let standing = rules.values();
    let initial: Vec<Value> = initial.into_iter().chain(standing.iter().copied()).chain(state.pasts).collect();
    let results = carried_loop(ctx, trips, &initial, &[&decoder], |ctx, _, own| {
        let [tokens, done, last, mask, position, ref rest @ ..] = *own else {
            return Err(invalid("its loop has lost a value"));
        };
        let (standing, pasts) = rest.split_at(standing.len().min(rest.len()));
        let one = ctx.scalar(DType::I32, 1.0);
        let shape = ctx.shape(last);
        let ones = ctx.broadcast(one, &shape)?;
        let mask = ctx.concat(&[mask, ones], 1)?;
        let (scores, pasts) = decoded(ctx, &decoder, [last, position, mask], pasts)?;
        let position = ctx.with_scalar(BinaryFn::Add, position, 1.0)?;
        let length = ctx.size(mask, 1)?;
        let after = ctx.dim_scalar(&length, DType::I64)?;
        let state = State { tokens, done, last, mask, position, pasts };
        let state = continued(ctx, node, state, scores, after, &rules.renamed(standing))?;
        let left = ctx.unary(UnaryFn::Not, state.done)?;
        let left = ctx.cast(left, DType::I32)?;
        let left = ctx.reduce(ReduceFn::Max, left, &[0, 1])?;
        let left = ctx.reshape(left, &[])?;
        let going = ctx.with_scalar(BinaryFn::Gt, left, 0.0)?;
        let values = [going, state.tokens, state.done, state.last, state.mask, state.position];
        Ok(values.into_iter().chain(standing.iter().copied()).chain(state.pasts).collect())
    })?;
    results.first().copied().ok_or_else(|| invalid("its loop gives nothing"))
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
    decoder: &view::Graph<'a>,
    inputs: [Value; 3],
    pasts: &[Value],
) -> Outcome<(Value, Vec<Value>)> {
    let items: Vec<Item> = inputs.iter().chain(pasts).map(|&value| value.into()).collect();
    if decoder.inputs().len() != items.len() || decoder.outputs().len() != pasts.len() + 1 {
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
    let last = ctx.reshape(last, &[batch, words])?;
    Ok((ctx.cast(last, DType::F32)?, values))
}

/// The state with the best token of these scores at place `at`; sequences that have ended get padding.
fn continued<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    state: State,
    scores: Value,
    at: Value,
    rules: &Rules,
) -> Outcome<State> {
    let scores = processed(ctx, node, scores, &state, at, rules)?;
    let best = ctx.add(Op::ArgReduce { function: ArgReduceFn::Max, axis: 1, last: false }, &[scores])?;
    let best = ctx.cast(best, DType::I32)?;
    let ends = ctx.with_scalar(BinaryFn::Eq, best, node.attr_int("eos_token_id")? as f64)?;
    let done = ctx.binary(BinaryFn::Or, state.done, ends)?;
    let pad = ctx.scalar(DType::I32, node.attr_int("pad_token_id")? as f64);
    let last = ctx.select(done, pad, best)?;
    let shape = ctx.shape(state.tokens);
    let places = ctx.iota(DType::I64, &[Dim::ONE, shape[1].clone()], 1)?;
    let here = ctx.binary(BinaryFn::Eq, places, at)?;
    let tokens = ctx.select(here, last, state.tokens)?;
    Ok(State { tokens, done, last, ..state })
}

/// Scores after the penalty of tokens that are there already, and without those that must not come.
fn processed<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    mut scores: Value,
    state: &State,
    at: Value,
    rules: &Rules,
) -> Outcome<Value> {
    let never = ctx.scalar(DType::F32, NEVER);
    if let Some(penalty) = rules.penalty {
        let penalty = ctx.reshape(penalty, &[])?;
        let seen = seen(ctx, scores, state.tokens, at)?;
        let (less, more) = (ctx.binary(BinaryFn::Mul, scores, penalty)?, ctx.binary(BinaryFn::Div, scores, penalty)?);
        let below = ctx.with_scalar(BinaryFn::Lt, scores, 0.0)?;
        let punished = ctx.select(below, less, more)?;
        scores = ctx.select(seen, punished, scores)?;
    }
    for mask in [rules.words, rules.first].into_iter().flatten() {
        let closed = ctx.with_scalar(BinaryFn::Eq, mask, 0.0)?;
        scores = ctx.select(closed, never, scores)?;
    }
    if let Some(least) = rules.least {
        let least = ctx.cast(least, DType::I64)?;
        let least = ctx.reshape(least, &[])?;
        let early = ctx.binary(BinaryFn::Lt, at, least)?;
        let words = ctx.size(scores, 1)?;
        let places = ctx.iota(DType::I64, &[Dim::ONE, words], 1)?;
        let end = ctx.with_scalar(BinaryFn::Eq, places, node.attr_int("eos_token_id")? as f64)?;
        let closed = ctx.binary(BinaryFn::And, end, early)?;
        scores = ctx.select(closed, never, scores)?;
    }
    Ok(scores)
}

/// Which tokens `[batch, words]` are among the first `at` of each sequence.
fn seen(ctx: &mut Ctx<'_, '_>, scores: Value, tokens: Value, at: Value) -> Outcome<Value> {
    let (shape, words) = (ctx.shape(tokens), ctx.shape(scores));
    let places = ctx.iota(DType::I64, &shape, 1)?;
    let counts = ctx.binary(BinaryFn::Lt, places, at)?;
    let counts = ctx.cast(counts, DType::F32)?;
    let zero = ctx.scalar(DType::F32, 0.0);
    let none = ctx.broadcast(zero, &words)?;
    let indices = ctx.cast(tokens, DType::I64)?;
    let indices = ctx.indices(indices, &words[1])?;
    let hits = ctx.add(Op::ScatterAlong { function: ScatterFn::Max, axis: 1 }, &[none, indices, counts])?;
    ctx.with_scalar(BinaryFn::Gt, hits, 0.0)
}
