//! Beam search: several sequences of each prompt side by side, the best ones of which go on; those that end compete for the result.
//!
//! Of the scores of all continuations the best `2 · beams` are looked at in order: those that end a sequence are hypotheses if they are
//! among the first `beams`, the first `beams` of the others go on. A prompt is done when it has `beams` hypotheses that no continuation
//! can improve (or that need not be improved). The score of a sequence is the sum of its log-probabilities over a power of its length.

use tarsia_graph::{ArgReduceFn, BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{Given, Prompt, Step, count, encoded, rules::Rules, with_token};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

/// The sequences, and their scores.
pub(super) fn search<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    if node.output(2).is_some() {
        return Err(unsupported("the scores of all tokens as an output"));
    }
    if ctx.item(node, 10).is_some() || ctx.item(node, 11).is_some() {
        return Err(unsupported("`decoder_input_ids` and `logits_processor`"));
    }
    let (beams, wanted) = (count(ctx, node, 3, "number of beams")?, count(ctx, node, 4, "number of results")?);
    let prompt = match node.attr_int_or("model_type", 0)? {
        0 => Prompt::of(ctx, node, &beams, 9)?,
        1 => encoded::prompt(ctx, node, &beams, 9)?,
        other => {
            return Err(unsupported(format!(
                "`model_type` = {other}; decoders (0) and those after an encoder (1) are"
            )));
        }
    };
    let ids = ctx.value(node, 0)?;
    let search = Search {
        batch: ctx.size(ids, 0)?,
        rules: Rules::of(ctx, node, [Some(2), Some(6), Some(7), None, Some(8)], &beams)?,
        beams,
        most: prompt.most.clone(),
        penalty: scalar_of(ctx, node, 5)?,
        axis: usize::from(!prompt.is_encoded),
    };
    let at = ctx.dim_scalar(&prompt.length, DType::I64)?;
    let start = search.start(ctx, prompt.tokens)?;
    let (state, given) = search.step(ctx, node, start, prompt.given.clone(), prompt.scores, at)?;
    let standing: Vec<Value> = search.rules.values().into_iter().chain(search.penalty).collect();
    let carried: Vec<Value> = state.values().into_iter().chain(standing.iter().copied()).collect();
    let results = prompt.each_token(ctx, node, given, &carried, |ctx, logits, given, at, own| {
        let (state, standing) = State::of(own)?;
        let penalty = search.penalty.and_then(|_| standing.last().copied());
        let search = Search { penalty, rules: search.rules.renamed(standing), ..search.clone() };
        let (state, given) = search.step(ctx, node, state, given, logits, at)?;
        let carried = state.values().into_iter().chain(standing.iter().copied()).collect();
        Ok(Step { done: state.done, given, carried })
    })?;
    let (state, _) = State::of(&results)?;
    let (tokens, scores) = search.finished(ctx, &state)?;
    let tokens = ctx.slice_axis(tokens, 1, Dim::ZERO, wanted.clone(), 1)?;
    Ok(vec![tokens, ctx.slice_axis(scores, 1, Dim::ZERO, wanted, 1)?])
}

/// An input of one number, as a scalar.
fn scalar_of<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, input: usize) -> Outcome<Option<Value>> {
    let Some(value) = ctx.value_opt(node, input)? else { return Ok(None) };
    let value = ctx.cast(value, DType::F32)?;
    ctx.reshape(value, &[]).map(Some)
}

/// Sizes, the power of the length, and what decides between scores.
#[derive(Clone)]
struct Search {
    batch: Dim,
    beams: Dim,
    most: Dim,
    penalty: Option<Value>,
    rules: Rules,
    /// The sequences' axis of the pasts.
    axis: usize,
}

/// What the loop carries.
struct State {
    /// `[batch · beams, most]`.
    tokens: Value,
    /// Sums of log-probabilities, `[batch, beams]`.
    scores: Value,
    /// Hypotheses `[batch, beams, most]`, the best first; -∞ is the score `[batch, beams]` of those that are not there yet.
    kept: Value,
    kept_scores: Value,
    /// How many hypotheses there are, `[batch, 1]`.
    used: Value,
    /// Which prompts are done, `[batch, 1]`.
    done: Value,
}

impl State {
    fn values(&self) -> Vec<Value> {
        vec![self.tokens, self.scores, self.kept, self.kept_scores, self.used, self.done]
    }

    /// The state, and what is carried after it.
    fn of(values: &[Value]) -> Outcome<(State, &[Value])> {
        let [tokens, scores, kept, kept_scores, used, done, ref rest @ ..] = *values else {
            return Err(invalid("its loop has lost a value"));
        };
        Ok((State { tokens, scores, kept, kept_scores, used, done }, rest))
    }
}

/// The continuations of a prompt that are looked at, the best first, `[batch, 2 · beams]`.
struct Candidates {
    scores: Value,
    /// The beam that each continues.
    beams: Value,
    tokens: Value,
    /// Which ones end a sequence.
    ends: Value,
}

impl Search {
    /// Before the first token all beams are alike: only the first one counts.
    fn start(&self, ctx: &mut Ctx<'_, '_>, tokens: Value) -> Outcome<State> {
        const FAR: f64 = -1e9;
        let shape = [self.batch.clone(), self.beams.clone()];
        let beam = ctx.iota(DType::I64, &shape, 1)?;
        let other = ctx.with_scalar(BinaryFn::Gt, beam, 0.0)?;
        let (zero, far, none) =
            (ctx.scalar(DType::F32, 0.0), ctx.scalar(DType::F32, FAR), ctx.scalar(DType::F32, f64::NEG_INFINITY));
        let column = [self.batch.clone(), Dim::ONE];
        let (nothing, no) = (ctx.scalar(DType::I64, 0.0), ctx.scalar(DType::Bool, 0.0));
        let kept = ctx.reshape(tokens, &[self.batch.clone(), self.beams.clone(), self.most.clone()])?;
        Ok(State {
            tokens,
            scores: ctx.select(other, far, zero)?,
            kept,
            kept_scores: ctx.broadcast(none, &shape)?,
            used: ctx.broadcast(nothing, &column)?,
            done: ctx.broadcast(no, &column)?,
        })
    }

    /// The state with the tokens at place `at`, and what the decoder takes after them.
    fn step<'a>(
        &self,
        ctx: &mut Ctx<'a, '_>,
        node: &Node<'a>,
        state: State,
        given: Given,
        logits: Value,
        at: Value,
    ) -> Outcome<(State, Given)> {
        let logits = log_softmax(ctx, logits)?;
        let scores = self.rules.applied(ctx, node, logits, state.tokens, at)?;
        let best = self.candidates(ctx, node, &state, scores)?;
        let length = ctx.cast(at, DType::F32)?;
        let (kept, kept_scores, used) = self.with_ended(ctx, &state, &best, length)?;
        let next = self.going_on(ctx, node, &state, &best, at)?;
        let full = ctx.dim_scalar(&self.beams, DType::I64)?;
        let mut ready = ctx.binary(BinaryFn::Eq, used, full)?;
        if !node.attr_bool_or("early_stopping", false)? {
            let worst = ctx.slice_axis(kept_scores, 1, self.beams.clone() - Dim::ONE, Dim::ONE, 1)?;
            let first = ctx.slice_axis(best.scores, 1, Dim::ZERO, Dim::ONE, 1)?;
            let possible = self.score(ctx, first, length)?;
            let improves = ctx.binary(BinaryFn::Lt, worst, possible)?;
            let settled = ctx.unary(UnaryFn::Not, improves)?;
            ready = ctx.binary(BinaryFn::And, ready, settled)?;
        }
        let done = ctx.binary(BinaryFn::Or, state.done, ready)?;
        let mut pasts = Vec::with_capacity(given.pasts.len());
        for past in given.pasts {
            pasts.push(ctx.add(Op::Gather { axis: self.axis }, &[past, next.rows])?);
        }
        let state = State { tokens: next.tokens, scores: next.scores, kept, kept_scores, used, done };
        Ok((state, Given { ids: next.last, pasts, ..given }))
    }

    /// The best continuations of each prompt by scores `[batch · beams, words]`.
    fn candidates<'a>(
        &self,
        ctx: &mut Ctx<'a, '_>,
        node: &Node<'a>,
        state: &State,
        scores: Value,
    ) -> Outcome<Candidates> {
        let words = ctx.size(scores, 1)?;
        let scores = ctx.reshape(scores, &[self.batch.clone(), self.beams.clone(), words.clone()])?;
        let sums = ctx.unsqueeze(state.scores, 2)?;
        let scores = ctx.binary(BinaryFn::Add, scores, sums)?;
        let flat = ctx.reshape(scores, &[self.batch.clone(), self.beams.clone() * words.clone()])?;
        let (scores, places) = best_of(ctx, flat, &(self.beams.clone() * Dim::Const(2)))?;
        let words = ctx.dim_scalar(&words, DType::I64)?;
        let (beams, tokens) = (ctx.binary(BinaryFn::Div, places, words)?, ctx.binary(BinaryFn::Mod, places, words)?);
        let ends = ctx.with_scalar(BinaryFn::Eq, tokens, node.attr_int("eos_token_id")? as f64)?;
        Ok(Candidates { scores, beams, tokens, ends })
    }

    /// The hypotheses with those that end now, their scores, and how many there are.
    fn with_ended(
        &self,
        ctx: &mut Ctx<'_, '_>,
        state: &State,
        best: &Candidates,
        length: Value,
    ) -> Outcome<(Value, Value, Value)> {
        let mut first = |x: Value| ctx.slice_axis(x, 1, Dim::ZERO, self.beams.clone(), 1);
        let (scores, beams, ends) = (first(best.scores)?, first(best.beams)?, first(best.ends)?);
        let going = ctx.unary(UnaryFn::Not, state.done)?;
        let ends = ctx.binary(BinaryFn::And, ends, going)?;
        let scores = self.score(ctx, scores, length)?;
        let tokens = ctx.reshape(state.tokens, &[self.batch.clone(), self.beams.clone(), self.most.clone()])?;
        let tokens = self.rows_of(ctx, tokens, beams)?;
        let (kept, kept_scores) = self.merged(ctx, state, tokens, scores, ends)?;
        let ended = ctx.cast(ends, DType::I64)?;
        let ended = ctx.reduce(ReduceFn::Sum, ended, &[1])?;
        let used = ctx.binary(BinaryFn::Add, state.used, ended)?;
        let full = ctx.dim_scalar(&self.beams, DType::I64)?;
        Ok((kept, kept_scores, ctx.binary(BinaryFn::Min, used, full)?))
    }

    /// The best hypotheses of those that there are, and of `tokens` where `counts` holds.
    fn merged(
        &self,
        ctx: &mut Ctx<'_, '_>,
        state: &State,
        tokens: Value,
        scores: Value,
        counts: Value,
    ) -> Outcome<(Value, Value)> {
        let none = ctx.scalar(DType::F32, f64::NEG_INFINITY);
        let scores = ctx.select(counts, scores, none)?;
        let scores = ctx.concat(&[state.kept_scores, scores], 1)?;
        let tokens = ctx.concat(&[state.kept, tokens], 1)?;
        let (scores, places) = best_of(ctx, scores, &self.beams)?;
        Ok((self.rows_of(ctx, tokens, places)?, scores))
    }

    /// The first continuations that end nothing, as many as there are beams; of prompts that are done, padding.
    fn going_on<'a>(
        &self,
        ctx: &mut Ctx<'a, '_>,
        node: &Node<'a>,
        state: &State,
        best: &Candidates,
        at: Value,
    ) -> Outcome<Next> {
        let goes = ctx.unary(UnaryFn::Not, best.ends)?;
        let counts = ctx.cast(goes, DType::I64)?;
        let rank = Op::Scan { function: ReduceFn::Sum, axis: 1, exclusive: true, reverse: false };
        let rank = ctx.add(rank, &[counts])?;
        let (rank, goes) = (ctx.unsqueeze(rank, 1)?, ctx.unsqueeze(goes, 1)?);
        let beam = ctx.iota(DType::I64, &[Dim::ONE, self.beams.clone(), Dim::ONE], 1)?;
        let own = ctx.binary(BinaryFn::Eq, rank, beam)?;
        let own = ctx.binary(BinaryFn::And, own, goes)?;
        let own = ctx.cast(own, DType::I32)?;
        let chosen = ctx.add(Op::ArgReduce { function: ArgReduceFn::Max, axis: 2, last: false }, &[own])?;
        let chosen = ctx.squeeze(chosen, &[2])?;
        let mut pick = |x: Value, rest: f64| -> Outcome<Value> {
            let x = ctx.add(Op::TakeAlong { axis: 1 }, &[x, chosen])?;
            let rest = ctx.scalar_like(x, rest);
            ctx.select(state.done, rest, x)
        };
        let scores = pick(best.scores, 0.0)?;
        let beams = pick(best.beams, 0.0)?;
        let last = pick(best.tokens, node.attr_int("pad_token_id")? as f64)?;
        let prompt = ctx.iota(DType::I64, &[self.batch.clone(), Dim::ONE], 0)?;
        let each = ctx.dim_scalar(&self.beams, DType::I64)?;
        let prompt = ctx.binary(BinaryFn::Mul, prompt, each)?;
        let rows = ctx.binary(BinaryFn::Add, prompt, beams)?;
        let count = self.batch.clone() * self.beams.clone();
        let rows = ctx.reshape(rows, std::slice::from_ref(&count))?;
        let last = ctx.cast(last, DType::I32)?;
        let last = ctx.reshape(last, &[count, Dim::ONE])?;
        let tokens = ctx.add(Op::Gather { axis: 0 }, &[state.tokens, rows])?;
        Ok(Next { tokens: with_token(ctx, tokens, last, at)?, scores, rows, last })
    }

    /// Rows `[batch, beams, most]` of `[batch, n, most]` by places `[batch, beams]`.
    fn rows_of(&self, ctx: &mut Ctx<'_, '_>, tokens: Value, places: Value) -> Outcome<Value> {
        let places = ctx.unsqueeze(places, 2)?;
        let places = ctx.broadcast(places, &[self.batch.clone(), self.beams.clone(), self.most.clone()])?;
        ctx.add(Op::TakeAlong { axis: 1 }, &[tokens, places])
    }

    /// A sum of log-probabilities over the power of the length.
    fn score(&self, ctx: &mut Ctx<'_, '_>, sum: Value, length: Value) -> Outcome<Value> {
        let length = match self.penalty {
            Some(penalty) => ctx.binary(BinaryFn::Pow, length, penalty)?,
            None => length,
        };
        ctx.binary(BinaryFn::Div, sum, length)
    }

    /// The hypotheses of all prompts, with the sequences that have not ended of those that are not done.
    fn finished(&self, ctx: &mut Ctx<'_, '_>, state: &State) -> Outcome<(Value, Value)> {
        let length = ctx.dim_scalar(&self.most, DType::F32)?;
        let scores = self.score(ctx, state.scores, length)?;
        let tokens = ctx.reshape(state.tokens, &[self.batch.clone(), self.beams.clone(), self.most.clone()])?;
        let going = ctx.unary(UnaryFn::Not, state.done)?;
        self.merged(ctx, state, tokens, scores, going)
    }
}

/// The sequences that go on.
struct Next {
    tokens: Value,
    scores: Value,
    /// The row that each continues, `[batch · beams]`.
    rows: Value,
    last: Value,
}

/// The largest elements of the rows of a matrix, in order, and their places.
fn best_of(ctx: &mut Ctx<'_, '_>, x: Value, count: &Dim) -> Outcome<(Value, Value)> {
    let id = ctx.add_node(Op::TopK { axis: 1, k: count.clone(), largest: true }, &[x])?;
    Ok((Value { node: id, output: 0 }, Value { node: id, output: 1 }))
}

fn log_softmax(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    let most = ctx.reduce(ReduceFn::Max, x, &[1])?;
    let x = ctx.binary(BinaryFn::Sub, x, most)?;
    let powers = ctx.unary(UnaryFn::Exp, x)?;
    let sum = ctx.reduce(ReduceFn::Sum, powers, &[1])?;
    let log = ctx.unary(UnaryFn::Log, sum)?;
    ctx.binary(BinaryFn::Sub, x, log)
}
