//! Operators on text: all of them run on the host.

use tarsia_graph::{Op, Real, Type, Value, broadcast_shapes};
use tarsia_tensor::{DType, Dim, Tensor};

use super::{
    Importer::{One, Values},
    Row, Rows,
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("RegexFullMatch", 20, One(regex_full_match)),
    Row::new("StringConcat", 20, One(string_concat)),
    Row::new("StringNormalizer", 10, One(string_normalizer)),
    Row::new("StringSplit", 20, Values(string_split)),
    Row::new("TfIdfVectorizer", 9, One(tf_idf)),
];

/// A tensor of texts.
pub(super) fn texts(ctx: &mut Ctx<'_, '_>, shape: &[usize], texts: &[&str]) -> Outcome<Value> {
    let strings = texts.iter().map(|text| text.as_bytes().to_vec().into()).collect();
    Ok(ctx.add_constant(Tensor::from_strings(shape, strings)?))
}

fn on_host(
    ctx: &mut Ctx<'_, '_>,
    function: &str,
    ints: Vec<i64>,
    types: Vec<Type>,
    operands: &[Value],
) -> Outcome<Vec<Value>> {
    let count = types.len() as u32;
    let op = Op::Host { function: function.into(), ints, reals: Vec::new(), types };
    let node = ctx.add_node(op, operands)?;
    Ok((0..count).map(|output| Value { node, output }).collect())
}

fn string_concat<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (a, b) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let shape = broadcast_shapes(&ctx.shape(a), &ctx.shape(b)).map_err(invalid)?;
    Ok(on_host(ctx, "string_concat", Vec::new(), vec![Type::new(DType::String, shape)], &[a, b])?[0])
}

/// Whether texts are equal.
pub(super) fn string_equal(ctx: &mut Ctx<'_, '_>, a: Value, b: Value) -> Outcome<Value> {
    let shape = broadcast_shapes(&ctx.shape(a), &ctx.shape(b)).map_err(invalid)?;
    Ok(on_host(ctx, "string_equal", Vec::new(), vec![Type::new(DType::Bool, shape)], &[a, b])?[0])
}

fn string_split<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    let delimiter = texts(ctx, &[], &[node.attr_str_or("delimiter", "")?])?;
    let most = node.attr_int_or("maxsplit", -1)?;
    let shape = ctx.shape(x);
    let parts = [&shape[..], &[ctx.fresh("string_split")]].concat();
    let types = vec![Type::new(DType::String, parts), Type::new(DType::I64, shape)];
    on_host(ctx, "string_split", vec![most], types, &[x, delimiter])
}

fn regex_full_match<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let pattern = texts(ctx, &[], &[node.attr_str("pattern")?])?;
    let types = vec![Type::new(DType::Bool, ctx.shape(x))];
    Ok(on_host(ctx, "regex_full_match", Vec::new(), types, &[x, pattern])?[0])
}

fn string_normalizer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let action = match node.attr_str_or("case_change_action", "NONE")? {
        "NONE" => 0,
        "LOWER" => 1,
        "UPPER" => 2,
        other => return Err(invalid(format!("`case_change_action` is `{other}`"))),
    };
    let stops = node.attr_strs_opt("stopwords")?.unwrap_or_default();
    let stops = texts(ctx, &[stops.len()], &stops)?;
    let sensitive = node.attr_int_or("is_case_sensitive", 0)?;
    let mut shape = ctx.shape(x);
    match shape.last_mut() {
        Some(last) => *last = ctx.fresh("string_normalizer"),
        None => return Err(invalid("it takes texts along an axis")),
    }
    let types = vec![Type::new(DType::String, shape)];
    Ok(on_host(ctx, "string_normalize", vec![action, sensitive], types, &[x, stops])?[0])
}

fn tf_idf<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let mode = match node.attr_str("mode")? {
        "TF" => 0,
        "IDF" => 1,
        "TFIDF" => 2,
        other => return Err(invalid(format!("`mode` is `{other}`"))),
    };
    let pool = match (node.attr_strs_opt("pool_strings")?, node.attr_ints_opt("pool_int64s")?) {
        (Some(strings), _) if !strings.is_empty() => texts(ctx, &[strings.len()], &strings)?,
        (_, Some(ints)) => ctx.ints(ints)?,
        _ => return Err(invalid("it has no pool of n-grams")),
    };
    let (starts, columns) = (node.attr_ints("ngram_counts")?, node.attr_ints("ngram_indexes")?);
    let widest = columns.iter().copied().max().unwrap_or(-1);
    let mut ints = vec![mode, node.attr_int("min_gram_length")?, node.attr_int("max_gram_length")?];
    ints.extend([node.attr_int("max_skip_count")?, starts.len() as i64]);
    ints.extend(starts.iter().chain(columns));
    let weights = node.attr_floats_opt("weights")?.unwrap_or_default();
    let reals = weights.iter().map(|&weight| Real(weight.into())).collect();
    let mut shape = ctx.shape(x);
    shape.pop();
    shape.push(Dim::Const(widest.saturating_add(1)));
    let types = vec![Type::new(DType::F32, shape)];
    ctx.add(Op::Host { function: "tf_idf".into(), ints, reals, types }, &[x, pool])
}
