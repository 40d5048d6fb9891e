//! Operators of classical machine learning, ai.onnx.ml.
//!
//! Where the specification leaves a value open, it is that of onnxruntime.

mod encode;
mod forest;
mod linear;
mod scores;
mod tree;

use tarsia_graph::{BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim, Numbers, Tensor};

use super::{
    Importer::{Items, One, Values},
    Row, Rows,
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
};

/// The domain of the operators here.
const DOMAIN: &str = "ai.onnx.ml";

pub(super) const ROWS: Rows = &[
    Row::new("ArrayFeatureExtractor", 1, One(array_feature_extractor)).of(DOMAIN),
    Row::new("Binarizer", 1, One(binarizer)).of(DOMAIN),
    Row::new("CastMap", 1, One(encode::cast_map)).of(DOMAIN),
    Row::new("CategoryMapper", 1, One(encode::category_mapper)).of(DOMAIN),
    Row::new("DictVectorizer", 1, One(encode::dict_vectorizer)).of(DOMAIN),
    Row::new("FeatureVectorizer", 1, One(feature_vectorizer)).of(DOMAIN),
    Row::new("Imputer", 1, One(imputer)).of(DOMAIN),
    Row::new("LabelEncoder", 1, One(encode::label_encoder)).of(DOMAIN),
    Row::new("LinearClassifier", 1, Values(linear::classifier)).of(DOMAIN),
    Row::new("LinearRegressor", 1, One(linear::regressor)).of(DOMAIN),
    Row::new("Normalizer", 1, One(normalizer)).of(DOMAIN),
    Row::new("OneHotEncoder", 1, One(encode::one_hot_encoder)).of(DOMAIN),
    Row::new("SVMClassifier", 1, Values(linear::svm_classifier)).of(DOMAIN),
    Row::new("SVMRegressor", 1, One(linear::svm_regressor)).of(DOMAIN),
    Row::new("Scaler", 1, One(scaler)).of(DOMAIN),
    Row::new("TreeEnsemble", 5, One(tree::ensemble)).of(DOMAIN),
    Row::new("TreeEnsembleClassifier", 1, Values(tree::classifier)).of(DOMAIN),
    Row::new("TreeEnsembleRegressor", 1, One(tree::regressor)).of(DOMAIN),
    Row::new("ZipMap", 1, Items(encode::zip_map)).of(DOMAIN),
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

/// The values of each feature that are missing (NaN, or equal to one value) replaced.
fn imputer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let dtype = ctx.dtype(x);
    let floats = node.attr_floats_opt("imputed_value_floats")?.filter(|list| !list.is_empty());
    let ints = node.attr_ints_opt("imputed_value_int64s")?.filter(|list| !list.is_empty());
    let (numbers, replaced) = match (floats, ints) {
        (Some(list), _) if dtype.is_float() => {
            let numbers = Numbers::Float(list.iter().map(|&value| f64::from(value)).collect());
            (numbers, f64::from(node.attr_f32_or("replaced_value_float", 0.0)?))
        }
        (_, Some(list)) => (Numbers::Int(list.to_vec()), node.attr_int_or("replaced_value_int64", 0)? as f64),
        _ => return Err(invalid(format!("it has no values to put into a tensor of {dtype}"))),
    };
    let values = encode::vector(ctx, dtype, numbers)?;
    let missing = match replaced.is_nan() {
        true => ctx.unary(UnaryFn::IsNan, x)?,
        false => ctx.with_scalar(BinaryFn::Eq, x, replaced)?,
    };
    ctx.select(missing, values, x)
}

/// Each row divided by its largest element, its sum of sizes, or its length; rows of zeros stay.
fn normalizer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let x = ctx.cast(x, DType::F32)?;
    let axis = usize::from(ctx.rank(x) > 1);
    let norm = match node.attr_str_or("norm", "MAX")? {
        "MAX" => ctx.reduce(ReduceFn::Max, x, &[axis])?,
        "L1" => {
            let sizes = ctx.unary(UnaryFn::Abs, x)?;
            ctx.reduce(ReduceFn::Sum, sizes, &[axis])?
        }
        "L2" => {
            let squares = ctx.binary(BinaryFn::Mul, x, x)?;
            let sum = ctx.reduce(ReduceFn::Sum, squares, &[axis])?;
            ctx.unary(UnaryFn::Sqrt, sum)?
        }
        other => return Err(invalid(format!("`norm` is `{other}`"))),
    };
    let none = ctx.with_scalar(BinaryFn::Eq, norm, 0.0)?;
    let one = ctx.scalar_like(norm, 1.0);
    let norm = ctx.select(none, one, norm)?;
    ctx.binary(BinaryFn::Div, x, norm)
}

/// The inputs side by side, each cut or filled with zeros to its number of features.
fn feature_vectorizer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let widths = node.attr_ints("inputdimensions")?;
    let inputs = ctx.values(node)?;
    if inputs.len() != widths.len() || inputs.is_empty() {
        return Err(invalid(format!("{} numbers of features for {} inputs", widths.len(), inputs.len())));
    }
    let mut parts = Vec::with_capacity(inputs.len());
    for (x, &width) in inputs.into_iter().zip(widths) {
        let width = usize::try_from(width).map_err(|_| invalid(format!("{width} features")))?;
        let x = ctx.cast(x, DType::F32)?;
        let x = forest::matrix(ctx, x)?;
        let own = ctx.size(x, 1)?;
        let (rows, target) = (Dim::ZERO, Dim::from(width));
        parts.push(match own.as_usize() {
            Some(own) if own < width => {
                let zero = ctx.scalar(DType::F32, 0.0);
                ctx.pad(x, zero, vec![rows.clone(), Dim::ZERO], vec![rows, Dim::from(width - own)])?
            }
            _ => ctx.slice_axis(x, 1, Dim::ZERO, target, 1)?,
        });
    }
    ctx.concat(&parts, 1)
}
