//! Texts cut into tokens, and hashes, which run on the host; words embedded by their characters.

use tarsia_graph::{BinaryFn, Op, ReduceFn, Type, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::row;
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
    ops::{Importer::One, Rows, strings::texts},
};

pub(super) const ROWS: Rows = &[
    row("MurmurHash3", One(murmur_hash3)),
    row("Tokenizer", One(tokenizer)),
    row("WordConvEmbedding", One(embedded_words)),
];

fn murmur_hash3<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let positive = node.attr_bool_or("positive", true)?;
    let ints = vec![positive.into(), node.attr_int_or("seed", 0)?];
    let types = vec![Type::new(if positive { DType::U32 } else { DType::I32 }, ctx.shape(x))];
    ctx.add(Op::Host { function: "murmur_hash3".into(), ints, reals: Vec::new(), types }, &[x])
}

/// Tokens between what separators match, or those that an expression matches.
fn tokenizer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let separators = node.attr_strs_opt("separators")?.filter(|list| !list.is_empty());
    let (separates, expressions) = match (separators, node.attr_str_opt("tokenexp")?) {
        (Some(separators), None | Some("")) => (true, separators),
        (None, Some(expression)) => (false, vec![expression]),
        _ => return Err(invalid("it has to have either `separators` or `tokenexp`")),
    };
    let expressions = texts(ctx, &[expressions.len()], &expressions)?;
    let pad = texts(ctx, &[], &[node.attr_str("pad_value")?])?;
    let marks = node.attr_bool_or("mark", false)?;
    let ints = vec![separates.into(), marks.into(), node.attr_int_or("mincharnum", 1)?];
    let mut shape = ctx.shape(x);
    shape.push(ctx.fresh("tokens"));
    let types = vec![Type::new(DType::String, shape)];
    ctx.add(Op::Host { function: "tokenize".into(), ints, reals: Vec::new(), types }, &[x, expressions, pad])
}

/// Words `[…, characters]` (numbers, padded by 0) embedded: the maxima, over the places of a window in each word, of the tanh of a
/// convolution of the characters' vectors. A word that starts with padding is 0; one shorter than the window is read as it is padded.
fn embedded_words<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (ids, weights) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let (bias, table) = (ctx.value(node, 2)?, ctx.value(node, 3)?);
    let shape = ctx.shape(ids);
    let (Some((characters, words)), Ok([filters, _, window, size])) =
        (shape.split_last(), <[Dim; 4]>::try_from(ctx.shape(weights)))
    else {
        return Err(invalid("its words have no axes, or its weights have not 4"));
    };
    let count = Dim::product(words);
    let ids = ctx.reshape(ids, &[count.clone(), characters.clone()])?;
    let known = ctx.size(table, 0)?;
    let places = ctx.indices(ids, &known)?;
    let x = ctx.add(Op::Gather { axis: 0 }, &[table, places])?;
    let x = ctx.transpose(x, &[0, 2, 1])?;
    let weights = ctx.reshape(weights, &[filters.clone(), window.clone(), size])?;
    let weights = ctx.transpose(weights, &[0, 2, 1])?;
    let (one, none) = (vec![1], vec![0]);
    let dtype = ctx.dtype(x);
    let op = Op::Conv { strides: one.clone(), low: none.clone(), high: none, dilations: one, groups: 1, dtype };
    let y = ctx.add(op, &[x, weights])?;
    let bias = ctx.reshape(bias, &[filters.clone(), Dim::ONE])?;
    let y = ctx.binary(BinaryFn::Add, y, bias)?;
    let y = ctx.unary(UnaryFn::Tanh, y)?;
    // The places of the window that start in a word: at least the first one.
    let is_character = ctx.with_scalar(BinaryFn::Gt, ids, 0.0)?;
    let lengths = ctx.cast(is_character, DType::I64)?;
    let lengths = ctx.reduce(ReduceFn::Sum, lengths, &[1])?;
    let window = ctx.dim_scalar(&window, DType::I64)?;
    let last = ctx.binary(BinaryFn::Sub, lengths, window)?;
    let last = ctx.with_scalar(BinaryFn::Max, last, 0.0)?;
    let last = ctx.reshape(last, &[count.clone(), Dim::ONE, Dim::ONE])?;
    let starts = ctx.size(y, 2)?;
    let at = ctx.iota(DType::I64, &[Dim::ONE, Dim::ONE, starts], 2)?;
    let inside = ctx.binary(BinaryFn::Le, at, last)?;
    let lowest = ctx.scalar_like(y, f64::NEG_INFINITY);
    let y = ctx.select(inside, y, lowest)?;
    let y = ctx.reduce(ReduceFn::Max, y, &[2])?;
    let y = ctx.reshape(y, &[count, filters.clone()])?;
    let there = ctx.slice_axis(is_character, 1, Dim::ZERO, Dim::ONE, 1)?;
    let zero = ctx.scalar_like(y, 0.0);
    let y = ctx.select(there, y, zero)?;
    ctx.reshape(y, &[words, &[filters]].concat())
}
