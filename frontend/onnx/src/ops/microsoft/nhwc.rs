//! Operators in NHWC, which an optimiser leaves behind: the standard ones between two transpositions.

use tarsia_graph::Value;

use super::row;
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
    ops::{
        Importer::{self, Items, One},
        Row, Rows, convolution, find, fused_activation, pool,
    },
};

pub(super) const ROWS: Rows = &[
    row("NhwcConv", One(|ctx, node| moved(ctx, node, convolution::conv_of))),
    row("NhwcFusedConv", One(fused_conv)),
    row("NhwcMaxPool", One(|ctx, node| moved(ctx, node, |ctx, node, x| pool::maxima(ctx, &node.following(22), x)))),
];

/// Operators of the domain that onnxruntime's layout transformation writes: ONNX's, with the channels of images last.
pub(super) const INTERNAL: Rows = &[
    internal("AveragePool"),
    internal("BatchNormalization"),
    internal("Conv"),
    internal("ConvTranspose"),
    internal("DepthToSpace"),
    internal("GlobalAveragePool"),
    internal("GlobalLpPool"),
    internal("GlobalMaxPool"),
    internal("GridSample"),
    internal("InstanceNormalization"),
    internal("LRN"),
    internal("LpPool"),
    internal("MaxPool"),
    internal("QLinearAveragePool"),
    internal("QLinearConv"),
    internal("SpaceToDepth"),
];

const fn internal(name: &'static str) -> Row {
    Row::new(name, 1, Items(standard)).of("com.ms.internal.nhwc")
}

/// `[n, c, spatial…]` of `[n, spatial…, c]`.
fn channels_first(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    let rank = ctx.rank(x);
    if rank < 3 {
        return Err(invalid(format!("an image with {rank} axes")));
    }
    let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    ctx.transpose(x, &perm)
}

/// `[n, spatial…, c]` of `[n, c, spatial…]`.
fn channels_last(ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
    let perm: Vec<usize> = [0].into_iter().chain(2..ctx.rank(x)).chain([1]).collect();
    ctx.transpose(x, &perm)
}

/// `f` of an image, whose channels are last if the attribute `channels_last` says so.
pub(super) fn perhaps<'a, 'o>(
    ctx: &mut Ctx<'a, 'o>,
    node: &Node<'a>,
    x: Value,
    f: impl FnOnce(&mut Ctx<'a, 'o>, Value) -> Outcome<Value>,
) -> Outcome<Value> {
    if !node.attr_bool_or("channels_last", false)? {
        return f(ctx, x);
    }
    let x = channels_first(ctx, x)?;
    let y = f(ctx, x)?;
    channels_last(ctx, y)
}

/// `f` of the first input and of the node, channels last.
fn moved<'a, 'o>(
    ctx: &mut Ctx<'a, 'o>,
    node: &Node<'a>,
    f: impl FnOnce(&mut Ctx<'a, 'o>, &Node<'a>, Value) -> Outcome<Value>,
) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let x = channels_first(ctx, x)?;
    let y = f(ctx, node, x)?;
    channels_last(ctx, y)
}

/// A convolution, what is added to it, and an activation.
fn fused_conv<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let y = moved(ctx, node, convolution::conv_of)?;
    let y = match ctx.value_opt(node, 3)? {
        Some(other) => ctx.binary(tarsia_graph::BinaryFn::Add, y, other)?,
        None => y,
    };
    fused_activation(ctx, node, y)
}

/// The standard operator of this name, its first input and its outputs moved.
fn standard<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<crate::import::Item>> {
    let row = find("", node.op_type()).or_else(|| find(super::DOMAIN, node.op_type()));
    let row = row.ok_or_else(|| unsupported("its standard form"))?;
    let x = ctx.value(node, 0)?;
    let x = channels_first(ctx, x)?;
    let import = row.import;
    let values = ctx.with_input(node, 0, x, |ctx| match import {
        Importer::One(import) => Ok(vec![import(ctx, node)?]),
        Importer::Values(import) => import(ctx, node),
        _ => Err(unsupported("its standard form")),
    })?;
    let images = |ctx: &mut Ctx<'a, '_>, y: Value| if ctx.rank(y) > 2 { channels_last(ctx, y) } else { Ok(y) };
    values.into_iter().map(|y| images(ctx, y).map(Into::into)).collect()
}
