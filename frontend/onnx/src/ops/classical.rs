//! Operators of classical machine learning, ai.onnx.ml.

use tarsia_graph::{BinaryFn, Op, Type, Value};
use tarsia_tensor::{DType, Dim, Tensor};

use super::{Importer::One, Row, Rows, strings::texts};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
};

/// The domain of the operators here.
const DOMAIN: &str = "ai.onnx.ml";

pub(super) const ROWS: Rows = &[
    Row::new("ArrayFeatureExtractor", 1, One(array_feature_extractor)).of(DOMAIN),
    Row::new("Binarizer", 1, One(binarizer)).of(DOMAIN),
    Row::new("LabelEncoder", 2, One(label_encoder)).of(DOMAIN),
    Row::new("Scaler", 1, One(scaler)).of(DOMAIN),
];

/// The elements of the last axis that the indices name.
fn array_feature_extractor<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, indices) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let x = if ctx.rank(x) == 1 { ctx.unsqueeze(x, 0)? } else { x };
    let last = ctx.rank(x).checked_sub(1).ok_or_else(|| invalid("a scalar has no features"))?;
    let count = ctx.ty(indices).count();
    let indices = ctx.reshape(indices, &[count])?;
    let size = ctx.size(x, last)?;
    let indices = ctx.indices(indices, &size)?;
    ctx.add(Op::Gather { axis: last }, &[x, indices])
}

/// 1 above the threshold, else 0.
fn binarizer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let above = ctx.with_scalar(BinaryFn::Gt, x, node.attr_f32_or("threshold", 0.0)?.into())?;
    ctx.cast(above, ctx.dtype(x))
}

/// `(x - offset)·scale`, in f32; one of each for all features or for each.
fn scaler<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let mut y = ctx.cast(x, DType::F32)?;
    for (name, function) in [("offset", BinaryFn::Sub), ("scale", BinaryFn::Mul)] {
        if let Some(list) = node.attr_floats_opt(name)?.filter(|list| !list.is_empty()) {
            let list = ctx.add_constant(Tensor::from_slice(&[list.len()], list)?);
            y = ctx.binary(function, y, list)?;
        }
    }
    Ok(y)
}

/// Keys or values, as the attribute for one element type or the tensor for any gives them.
fn labels<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, what: &str) -> Outcome<Option<Value>> {
    if let Some(list) = node.attr_strs_opt(&format!("{what}_strings"))? {
        return texts(ctx, &[list.len()], &list).map(Some);
    }
    if let Some(list) = node.attr_ints_opt(&format!("{what}_int64s"))? {
        return ctx.ints(list).map(Some);
    }
    if let Some(list) = node.attr_floats_opt(&format!("{what}_floats"))? {
        return Ok(Some(ctx.add_constant(Tensor::from_slice(&[list.len()], list)?)));
    }
    Ok(node.attr_tensor_opt(&format!("{what}_tensor"))?.map(|tensor| ctx.add_constant(tensor)))
}

fn label_encoder<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let missing = |what| move || invalid(format!("it has no {what}"));
    let keys = labels(ctx, node, "keys")?.ok_or_else(missing("keys"))?;
    let values = labels(ctx, node, "values")?.ok_or_else(missing("values"))?;
    let dtype = ctx.dtype(values);
    if ctx.dtype(keys) != ctx.dtype(x) {
        return Err(invalid(format!("keys of {} for a tensor of {}", ctx.dtype(keys), ctx.dtype(x))));
    }
    let default = match (node.attr_tensor_opt("default_tensor")?, dtype) {
        (Some(default), _) => ctx.add_constant(default),
        (None, DType::String) => texts(ctx, &[], &[node.attr_str_or("default_string", "_Unused")?])?,
        (None, DType::I64) => {
            let default = ctx.ints(&[node.attr_int_or("default_int64", -1)?])?;
            ctx.reshape(default, &[])?
        }
        (None, DType::F32) => ctx.scalar(dtype, node.attr_f32_or("default_float", -0.0)?.into()),
        (None, DType::I16) => ctx.scalar(dtype, -1.0),
        (None, _) => ctx.scalar(dtype, 0.0),
    };
    let default = ctx.reshape(default, &[Dim::ONE])?;
    let types = vec![Type::new(dtype, ctx.shape(x))];
    let op = Op::Host { function: "label_encode".into(), ints: Vec::new(), reals: Vec::new(), types };
    ctx.add(op, &[x, keys, values, default])
}
