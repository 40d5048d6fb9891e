//! What changes the scores of tokens before a search looks at them.

use tarsia_graph::{BinaryFn, Op, ScatterFn, Value};
use tarsia_tensor::{DType, Dim};

use super::repeated;
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
};

/// The score of a token that must not come.
const NEVER: f64 = f32::MIN as f64;

/// What decides between scores, beside the scores: loops carry it.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Fewest tokens.
    pub least: Option<Value>,
    /// The penalty of tokens that are there already.
    pub penalty: Option<Value>,
    /// The words that may come.
    pub words: Option<Value>,
    /// What is taken from the scores of tokens.
    pub dislikes: Option<Value>,
    /// The words that may come first.
    pub first: Option<Value>,
}

impl Rules {
    /// Of the inputs with these numbers, in the order of the fields; each sequence has `beams` rows of scores.
    pub fn of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, inputs: [Option<usize>; 5], beams: &Dim) -> Outcome<Rules> {
        let mut values = [None; 5];
        for (value, input) in values.iter_mut().zip(inputs) {
            if let Some(input) = input {
                *value = ctx.value_opt(node, input)?;
            }
        }
        let [least, penalty, words, dislikes, first] = values;
        let mut rows = |value: Option<Value>| value.map(|value| repeated(ctx, value, beams)).transpose();
        Ok(Rules { least, penalty, words, dislikes: rows(dislikes)?, first: rows(first)? })
    }

    /// Those that hold for all tokens.
    pub fn values(&self) -> Vec<Value> {
        [self.least, self.penalty, self.words, self.dislikes].into_iter().flatten().collect()
    }

    /// The same with other values for those that hold for all tokens, in the order of `values`.
    pub fn renamed(&self, values: &[Value]) -> Rules {
        let mut values = values.iter().copied();
        let mut next = |rule: Option<Value>| rule.and_then(|_| values.next());
        Rules {
            least: next(self.least),
            penalty: next(self.penalty),
            words: next(self.words),
            dislikes: next(self.dislikes),
            first: None,
        }
    }

    /// Scores after the penalty of tokens that are there already, without those that must not come, over the temperature.
    pub fn applied<'a>(
        &self,
        ctx: &mut Ctx<'a, '_>,
        node: &Node<'a>,
        mut scores: Value,
        tokens: Value,
        at: Value,
    ) -> Outcome<Value> {
        let never = ctx.scalar(DType::F32, NEVER);
        if let Some(penalty) = self.penalty {
            scores = punished(ctx, scores, penalty, tokens, at)?;
        }
        let repeats = node.attr_int_or("no_repeat_ngram_size", 0)?;
        if repeats > 0 {
            scores = without_repeats(ctx, scores, tokens, at, repeats)?;
        }
        for mask in [self.words, self.first].into_iter().flatten() {
            let closed = ctx.with_scalar(BinaryFn::Eq, mask, 0.0)?;
            scores = ctx.select(closed, never, scores)?;
        }
        if let Some(least) = self.least {
            let least = ctx.cast(least, DType::I64)?;
            let least = ctx.reshape(least, &[])?;
            let early = ctx.binary(BinaryFn::Lt, at, least)?;
            let words = ctx.size(scores, 1)?;
            let places = ctx.iota(DType::I64, &[Dim::ONE, words], 1)?;
            let end = ctx.with_scalar(BinaryFn::Eq, places, node.attr_int("eos_token_id")? as f64)?;
            let closed = ctx.binary(BinaryFn::And, end, early)?;
            scores = ctx.select(closed, never, scores)?;
        }
        let temperature = f64::from(node.attr_f32_or("temperature", 1.0)?);
        if temperature > 0.0 && temperature != 1.0 {
            scores = ctx.with_scalar(BinaryFn::Div, scores, temperature)?;
        }
        if let Some(dislikes) = self.dislikes {
            let amount = f64::from(node.attr_f32_or("presence_penalty", 0.0)?);
            let dislikes = ctx.cast(dislikes, DType::F32)?;
            let dislikes = ctx.with_scalar(BinaryFn::Mul, dislikes, amount)?;
            scores = ctx.binary(BinaryFn::Sub, scores, dislikes)?;
        }
        Ok(scores)
    }
}

/// Scores of tokens that are there already: positive ones over the penalty, negative ones times it.
fn punished(ctx: &mut Ctx<'_, '_>, scores: Value, penalty: Value, tokens: Value, at: Value) -> Outcome<Value> {
    let penalty = ctx.reshape(penalty, &[])?;
    let seen = seen(ctx, scores, tokens, at)?;
    let (less, more) = (ctx.binary(BinaryFn::Mul, scores, penalty)?, ctx.binary(BinaryFn::Div, scores, penalty)?);
    let below = ctx.with_scalar(BinaryFn::Lt, scores, 0.0)?;
    let punished = ctx.select(below, less, more)?;
    ctx.select(seen, punished, scores)
}

/// Without the tokens that would make the last `n` tokens equal to `n` earlier ones.
fn without_repeats(ctx: &mut Ctx<'_, '_>, scores: Value, tokens: Value, at: Value, n: i64) -> Outcome<Value> {
    const MOST: i64 = 64;
    if n > MOST {
        return Err(invalid(format!("`no_repeat_ngram_size` is {n}, more than {MOST}")));
    }
    let count = (ctx.size(tokens, 1)? - Dim::Const(n - 1)).maximum(&Dim::ZERO);
    let places = ctx.iota(DType::I64, &[Dim::ONE, count.clone()], 1)?;
    let next = ctx.with_scalar(BinaryFn::Add, places, (n - 1) as f64)?;
    let mut repeats = ctx.binary(BinaryFn::Lt, next, at)?;
    for j in 0..n - 1 {
        let window = ctx.slice_axis(tokens, 1, Dim::Const(j), count.clone(), 1)?;
        let place = ctx.with_scalar(BinaryFn::Sub, at, (n - 1 - j) as f64)?;
        let place = ctx.with_scalar(BinaryFn::Max, place, 0.0)?;
        let place = ctx.reshape(place, &[Dim::ONE])?;
        let last = ctx.add(Op::Gather { axis: 1 }, &[tokens, place])?;
        let same = ctx.binary(BinaryFn::Eq, window, last)?;
        repeats = ctx.binary(BinaryFn::And, repeats, same)?;
    }
    let (closed, open) = (ctx.scalar(DType::F32, NEVER), ctx.scalar(DType::F32, f64::INFINITY));
    let updates = ctx.select(repeats, closed, open)?;
    let indices = ctx.slice_axis(tokens, 1, Dim::Const(n - 1), count, 1)?;
    let shape = ctx.shape(indices);
    let updates = ctx.broadcast(updates, &shape)?;
    let indices = ctx.cast(indices, DType::I64)?;
    let words = ctx.size(scores, 1)?;
    let indices = ctx.indices(indices, &words)?;
    ctx.add(Op::ScatterAlong { function: ScatterFn::Min, axis: 1 }, &[scores, indices, updates])
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
