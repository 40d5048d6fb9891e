//! Texts cut into tokens, and hashes: both run on the host.

use tarsia_graph::{Op, Type, Value};
use tarsia_tensor::DType;

use super::row;
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
    ops::{Importer::One, Rows, strings::texts},
};

pub(super) const ROWS: Rows = &[row("MurmurHash3", One(murmur_hash3)), row("Tokenizer", One(tokenizer))];

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
