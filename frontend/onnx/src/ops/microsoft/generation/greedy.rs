//! One token after another: the most likely one, or one that is drawn.

use tarsia_graph::{ArgReduceFn, BinaryFn, Op, ReduceFn, Type, Value};
use tarsia_tensor::{DType, Dim};

use super::{Given, Prompt, Step, rules::Rules, with_token};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

/// The prompts; onnxruntime has no search of this kind after an encoder either.
fn prompt<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Prompt<'a>> {
    if node.attr_int_or("model_type", 0)? != 0 {
        return Err(unsupported(
            "decoders with an encoder (`model_type` other than 0); use a BeamSearch with one beam",
        ));
    }
    Prompt::of(ctx, node, &Dim::ONE, 6)
}

/// The most likely token after another, until the longest length or the end of all sequences.
pub(super) fn search<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let prompt = prompt(ctx, node)?;
    let rules = Rules::of(ctx, node, [Some(2), Some(3), Some(4), None, Some(5)], &Dim::ONE)?;
    generated(ctx, node, prompt, &rules, None)
}

/// Tokens drawn by their probabilities, of the most likely ones.
///
/// Token `t` of sequence `b` is drawn by the number `t · sequences + b` of the stream of the seed (that of [`Op::Random`] or, where an
/// input gives the seed, NumPy's `RandomState`): the first one up to which the probabilities sum up to more than that number.
pub(super) fn sampling<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    if node.output(1).is_some() {
        return Err(unsupported("the filtered scores as an output"));
    }
    let prompt = prompt(ctx, node)?;
    let custom = node.attr_bool_or("custom", false)?;
    let dislikes = custom.then_some(7);
    let rules = Rules::of(ctx, node, [Some(2), Some(3), Some(4), dislikes, Some(5)], &Dim::ONE)?;
    let shape = [prompt.most.clone(), ctx.size(prompt.tokens, 0)?];
    let numbers = match ctx.value_opt(node, 8)? {
        Some(seed) => {
            let seed = ctx.cast(seed, DType::I64)?;
            let seed = ctx.reshape(seed, &[])?;
            let sizes = ctx.dims_vector(&shape)?;
            let types = vec![Type::new(DType::F64, shape)];
            let op = Op::Host { function: "random".into(), ints: vec![0, 0], reals: Vec::new(), types };
            let numbers = ctx.add(op, &[sizes, seed])?;
            ctx.cast(numbers, DType::F32)?
        }
        None => {
            let seed = ctx.graph.node_count() as i64;
            let shape = shape.to_vec();
            ctx.add(Op::Random { dtype: DType::F32, shape, distribution: "uniform".into(), seed }, &[])?
        }
    };
    Ok(vec![generated(ctx, node, prompt, &rules, Some(numbers))?])
}

/// What the search carries: tokens, which sequences have ended `[sequences, 1]`, the numbers to draw with, and the rules.
struct State {
    tokens: Value,
    done: Value,
    numbers: Option<Value>,
}

fn generated<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    prompt: Prompt<'a>,
    rules: &Rules,
    numbers: Option<Value>,
) -> Outcome<Value> {
    let no = ctx.scalar(DType::Bool, 0.0);
    let sequences = ctx.size(prompt.tokens, 0)?;
    let done = ctx.broadcast(no, &[sequences, Dim::ONE])?;
    let at = ctx.dim_scalar(&prompt.length, DType::I64)?;
    let start = State { tokens: prompt.tokens, done, numbers };
    let (state, last) = continued(ctx, node, start, prompt.scores, at, rules)?;
    let standing = rules.values();
    let carried: Vec<Value> =
        [state.tokens, state.done].into_iter().chain(numbers).chain(standing.iter().copied()).collect();
    let given = Given { ids: last, ..prompt.given.clone() };
    let results = prompt.each_token(ctx, node, given, &carried, |ctx, scores, given, at, own| {
        let [tokens, done, ref rest @ ..] = *own else { return Err(invalid("its loop has lost a value")) };
        let (numbers, standing) = rest.split_at(usize::from(numbers.is_some()).min(rest.len()));
        let state = State { tokens, done, numbers: numbers.first().copied() };
        let (state, last) = continued(ctx, node, state, scores, at, &rules.renamed(standing))?;
        let kept = rest.iter().copied();
        let carried = [state.tokens, state.done].into_iter().chain(kept).collect();
        Ok(Step { done: state.done, given: Given { ids: last, ..given }, carried })
    })?;
    results.first().copied().ok_or_else(|| invalid("its loop gives nothing"))
}

/// The state with the next token by these scores at place `at`, and that token; sequences that have ended get padding.
fn continued<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    state: State,
    scores: Value,
    at: Value,
    rules: &Rules,
) -> Outcome<(State, Value)> {
    let scores = rules.applied(ctx, node, scores, state.tokens, at)?;
    let next = match state.numbers {
        Some(numbers) => drawn(ctx, node, scores, numbers, at)?,
        None => ctx.add(Op::ArgReduce { function: ArgReduceFn::Max, axis: 1, last: false }, &[scores])?,
    };
    let next = ctx.cast(next, DType::I32)?;
    let ends = ctx.with_scalar(BinaryFn::Eq, next, node.attr_int("eos_token_id")? as f64)?;
    let done = ctx.binary(BinaryFn::Or, state.done, ends)?;
    let pad = ctx.scalar(DType::I32, node.attr_int("pad_token_id")? as f64);
    let last = ctx.select(done, pad, next)?;
    let tokens = with_token(ctx, state.tokens, last, at)?;
    Ok((State { tokens, done, ..state }, last))
}

/// Tokens `[sequences, 1]` drawn by the numbers of place `at`.
fn drawn<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, scores: Value, numbers: Value, at: Value) -> Outcome<Value> {
    let scores = likely(ctx, node, scores)?;
    let shares = ctx.add(Op::Softmax { axis: 1 }, &[scores])?;
    let sums = ctx.add(Op::Scan { function: ReduceFn::Sum, axis: 1, exclusive: false, reverse: false }, &[shares])?;
    let place = ctx.reshape(at, &[Dim::ONE])?;
    let number = ctx.add(Op::Gather { axis: 0 }, &[numbers, place])?;
    let number = ctx.transpose(number, &[1, 0])?;
    // Of all there is, which rounding may leave a little below 1.
    let words = ctx.size(sums, 1)?;
    let all = ctx.slice_axis(sums, 1, words - Dim::ONE, Dim::ONE, 1)?;
    let number = ctx.binary(BinaryFn::Mul, number, all)?;
    let beyond = ctx.binary(BinaryFn::Gt, sums, number)?;
    let beyond = ctx.cast(beyond, DType::I32)?;
    ctx.add(Op::ArgReduce { function: ArgReduceFn::Max, axis: 1, last: false }, &[beyond])
}

/// Scores with `filter_value` for the tokens that are not among the most likely ones, whose probabilities sum up to `top_p`.
fn likely<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, scores: Value) -> Outcome<Value> {
    let top = f64::from(node.attr_f32_or("top_p", 0.0)?);
    if top >= 1.0 {
        return Ok(scores);
    }
    let custom = node.attr_bool_or("custom", false)?;
    let shape = ctx.shape(scores);
    let words = shape.get(1).cloned().ok_or_else(|| invalid("its scores have not 2 axes"))?;
    let sort = Op::TopK { axis: 1, k: words.clone(), largest: custom };
    let id = ctx.add_node(sort, &[scores])?;
    let (sorted, order) = (Value { node: id, output: 0 }, Value { node: id, output: 1 });
    let shares = ctx.add(Op::Softmax { axis: 1 }, &[sorted])?;
    // From the likely end a token goes if those before it suffice, from the other end if the rest suffices without it.
    let sum = Op::Scan { function: ReduceFn::Sum, axis: 1, exclusive: custom, reverse: false };
    let sums = ctx.add(sum, &[shares])?;
    let places = ctx.iota(DType::I64, &[Dim::ONE, words.clone()], 1)?;
    let goes = if custom {
        ctx.with_scalar(BinaryFn::Gt, sums, top)?
    } else {
        let few = ctx.with_scalar(BinaryFn::Le, sums, 1.0 - top)?;
        let kept = Dim::Const(node.attr_int_or("min_tokens_to_keep", 0)?.max(0));
        let end = ctx.dim_scalar(&(words - kept), DType::I64)?;
        let early = ctx.binary(BinaryFn::Lt, places, end)?;
        let first = ctx.with_scalar(BinaryFn::Eq, places, 0.0)?;
        let early = ctx.binary(BinaryFn::Or, early, first)?;
        ctx.binary(BinaryFn::And, few, early)?
    };
    let goes = ctx.cast(goes, DType::I32)?;
    let zero = ctx.scalar(DType::I32, 0.0);
    let none = ctx.broadcast(zero, &shape)?;
    let function = tarsia_graph::ScatterFn::Set;
    let goes = ctx.add(Op::ScatterAlong { function, axis: 1 }, &[none, order, goes])?;
    let goes = ctx.with_scalar(BinaryFn::Gt, goes, 0.0)?;
    let filter = ctx.scalar(DType::F32, node.attr_f32_or("filter_value", -1e20)?.into());
    ctx.select(goes, filter, scores)
}
