//! Linear models and support vector machines.

use tarsia_graph::{BinaryFn, Op, ReduceFn, Type, UnaryFn, Value};
use tarsia_tensor::{DType, Dim, Tensor};

use super::{
    forest::matrix,
    scores::{PostTransform, argmax, as_real, class_labels, labelled, transformed, two_classes},
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid},
};

/// Numbers of f32 as a constant of x's type.
fn constant(ctx: &mut Ctx<'_, '_>, like: Value, shape: &[usize], values: &[f32]) -> Outcome<Value> {
    let wide = Tensor::from_slice(shape, values)?;
    let dtype = ctx.dtype(like);
    let value = ctx.add_constant(wide);
    ctx.cast(value, dtype)
}

/// `x·coefficientsᵀ + intercepts`, `[rows, targets]`.
fn product<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value, targets: usize, bias: &str) -> Outcome<Value> {
    let coefficients = node.attr_floats("coefficients")?;
    let features = coefficients.len().checked_div(targets).unwrap_or(0);
    if features * targets != coefficients.len() || coefficients.is_empty() {
        return Err(invalid(format!("{} coefficients for {targets} targets", coefficients.len())));
    }
    let coefficients = constant(ctx, x, &[targets, features], coefficients)?;
    let scores = ctx.contract("rf,tf->rt", x, coefficients)?;
    match node.attr_floats_opt(bias)?.filter(|list| !list.is_empty()) {
        None => Ok(scores),
        Some(list) if list.len() == targets || list.len() == 1 => {
            let list = constant(ctx, x, &[list.len()], list)?;
            ctx.binary(BinaryFn::Add, scores, list)
        }
        Some(list) => Err(invalid(format!("{} values `{bias}` for {targets} targets", list.len()))),
    }
}

fn features<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let x = as_real(ctx, x)?;
    matrix(ctx, x)
}

fn count(number: i64) -> Outcome<usize> {
    usize::try_from(number).map_err(|_| invalid(format!("a count of {number}")))
}

pub(super) fn regressor<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = features(ctx, node)?;
    let scores = product(ctx, node, x, count(node.attr_int_or("targets", 1)?)?, "intercepts")?;
    let scores = transformed(ctx, scores, PostTransform::of_node(node)?)?;
    ctx.cast(scores, DType::F32)
}

/// Labels and scores; a single target decides between two classes.
pub(super) fn classifier<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = features(ctx, node)?;
    let labels = class_labels(ctx, node, "classlabels_ints")?;
    let coefficients = node.attr_floats("coefficients")?.len();
    let width = ctx.size(x, 1)?.as_usize();
    let intercepts = node.attr_floats_opt("intercepts")?.map_or(0, <[f32]>::len);
    let targets = match width.filter(|&width| width > 0) {
        Some(width) => coefficients / width,
        None => {
            if intercepts > 0 {
                intercepts
            } else {
                labels.count().max(1)
            }
        }
    };
    let scores = product(ctx, node, x, targets, "intercepts")?;
    let transform = PostTransform::of_node(node)?;
    let (best, scores) = if targets > 1 {
        (argmax(ctx, scores)?, transformed(ctx, scores, transform)?)
    } else {
        let above = ctx.with_scalar(BinaryFn::Gt, scores, 0.0)?;
        let best = ctx.cast(above, DType::I64)?;
        let best = ctx.squeeze(best, &[1])?;
        let both = labels.count() == 2;
        (best, if both { two_classes(ctx, scores, transform, true)? } else { transformed(ctx, scores, transform)? })
    };
    let scores = ctx.cast(scores, DType::F32)?;
    Ok(vec![labelled(ctx, &labels, best)?, scores])
}

/// The kernel of each row with each support vector, `[rows, vectors]`; without vectors the rows themselves.
fn kernels<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value, vectors: usize) -> Outcome<Value> {
    let supports = node.attr_floats_opt("support_vectors")?.unwrap_or_default();
    let width = supports.len().checked_div(vectors).unwrap_or(0);
    if vectors == 0 || width * vectors != supports.len() || width == 0 {
        return Err(invalid(format!("{} numbers for {vectors} support vectors", supports.len())));
    }
    let supports = constant(ctx, x, &[vectors, width], supports)?;
    let parameters = node.attr_floats_opt("kernel_params")?.unwrap_or_default();
    let parameter = |at: usize| f64::from(parameters.get(at).copied().unwrap_or(0.0));
    let (gamma, offset, degree) = (parameter(0), parameter(1), parameter(2));
    let kind = node.attr_str_or("kernel_type", "LINEAR")?;
    if kind == "RBF" {
        let rows = ctx.unsqueeze(x, 1)?;
        let apart = ctx.binary(BinaryFn::Sub, rows, supports)?;
        let square = ctx.binary(BinaryFn::Mul, apart, apart)?;
        let distance = ctx.reduce(ReduceFn::Sum, square, &[2])?;
        let distance = ctx.squeeze(distance, &[2])?;
        let scaled = ctx.with_scalar(BinaryFn::Mul, distance, -gamma)?;
        return ctx.unary(UnaryFn::Exp, scaled);
    }
    let dot = ctx.contract("rf,vf->rv", x, supports)?;
    if kind == "LINEAR" {
        return Ok(dot);
    }
    let scaled = ctx.with_scalar(BinaryFn::Mul, dot, gamma)?;
    let shifted = ctx.with_scalar(BinaryFn::Add, scaled, offset)?;
    match kind {
        "POLY" => ctx.with_scalar(BinaryFn::Pow, shifted, degree),
        "SIGMOID" => ctx.unary(UnaryFn::Tanh, shifted),
        other => Err(invalid(format!("`kernel_type` is `{other}`"))),
    }
}

pub(super) fn svm_regressor<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = features(ctx, node)?;
    let supports = count(node.attr_int_or("n_supports", 0)?)?;
    let x = if supports > 0 { kernels(ctx, node, x, supports)? } else { x };
    let scores = product(ctx, node, x, 1, "rho")?;
    let scores = if node.attr_bool_or("one_class", false)? {
        let above = ctx.with_scalar(BinaryFn::Gt, scores, 0.0)?;
        let (inside, outside) = (ctx.scalar_like(scores, 1.0), ctx.scalar_like(scores, -1.0));
        ctx.select(above, inside, outside)?
    } else {
        transformed(ctx, scores, PostTransform::of_node(node)?)?
    };
    ctx.cast(scores, DType::F32)
}

/// The decisions between all pairs of classes, of libsvm (Chang and Lin, ACM TIST 2011).
struct Pairs {
    classes: usize,
    /// `[vectors, pairs]`: what each support vector adds to the decision between two classes.
    weights: Vec<f32>,
    /// The classes of each pair.
    pairs: Vec<(usize, usize)>,
}

impl Pairs {
    fn of_node<'a>(node: &Node<'a>, per_class: &[i64]) -> Outcome<Pairs> {
        let coefficients = node.attr_floats("coefficients")?;
        let sizes = per_class.iter().map(|&size| count(size)).collect::<Outcome<Vec<usize>>>()?;
        let vectors = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)).unwrap_or(usize::MAX);
        let classes = sizes.len();
        if (classes - 1).checked_mul(vectors) != Some(coefficients.len()) {
            return Err(invalid(format!(
                "{} coefficients for {vectors} vectors of {classes} classes",
                coefficients.len()
            )));
        }
        let pairs: Vec<(usize, usize)> = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j))).collect();
        let starts: Vec<usize> =
            sizes.iter().scan(0usize, |at, &size| Some(std::mem::replace(at, (*at).saturating_add(size)))).collect();
        let mut weights = vec![0.0; vectors * pairs.len()];
        for (pair, &(i, j)) in pairs.iter().enumerate() {
            for (class, row) in [(i, j - 1), (j, i)] {
                for vector in starts[class]..starts[class] + sizes[class] {
                    weights[vector * pairs.len() + pair] = coefficients[row * vectors + vector];
                }
            }
        }
        Ok(Pairs { classes, weights, pairs })
    }

    /// How many decisions each class wins, from which of them the first of its pair wins, `[rows, pairs]`.
    fn votes(&self, ctx: &mut Ctx<'_, '_>, wins: Value) -> Outcome<Value> {
        let (classes, pairs) = (self.classes, self.pairs.len());
        let (mut change, mut lost) = (vec![0f32; pairs * classes], vec![0f32; classes]);
        for (pair, &(i, j)) in self.pairs.iter().enumerate() {
            (change[pair * classes + i], change[pair * classes + j]) = (1.0, -1.0);
            lost[j] += 1.0;
        }
        let change = constant(ctx, wins, &[pairs, classes], &change)?;
        let lost = constant(ctx, wins, &[classes], &lost)?;
        let won = ctx.contract("rp,pc->rc", wins, change)?;
        ctx.binary(BinaryFn::Add, won, lost)
    }
}

/// Labels and scores: decisions between all pairs of classes, or probabilities; without support vectors a linear model.
pub(super) fn svm_classifier<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = features(ctx, node)?;
    let labels = class_labels(ctx, node, "classlabels_ints")?;
    let transform = PostTransform::of_node(node)?;
    let per_class = node.attr_ints_opt("vectors_per_class")?.filter(|list| !list.is_empty());
    let rho = node.attr_floats("rho")?;
    let Some(per_class) = per_class else {
        let scores = product(ctx, node, x, labels.count().max(1), "rho")?;
        let best = argmax(ctx, scores)?;
        let scores = transformed(ctx, scores, transform)?;
        let scores = ctx.cast(scores, DType::F32)?;
        return Ok(vec![labelled(ctx, &labels, best)?, scores]);
    };
    let pairs = Pairs::of_node(node, per_class)?;
    if pairs.pairs.len() != rho.len() {
        return Err(invalid(format!("{} values `rho` for {} classes", rho.len(), pairs.classes)));
    }
    let vectors = pairs.weights.len() / pairs.pairs.len().max(1);
    let kernels = kernels(ctx, node, x, vectors)?;
    let weights = constant(ctx, x, &[vectors, rho.len()], &pairs.weights)?;
    let decisions = ctx.contract("rv,vp->rp", kernels, weights)?;
    let offsets = constant(ctx, x, &[rho.len()], rho)?;
    let decisions = ctx.binary(BinaryFn::Add, decisions, offsets)?;
    let wins = ctx.with_scalar(BinaryFn::Gt, decisions, 0.0)?;
    let dtype = ctx.dtype(x);
    let wins = ctx.cast(wins, dtype)?;
    let votes = pairs.votes(ctx, wins)?;
    let best = argmax(ctx, votes)?;
    let scores = match probabilities(ctx, node, decisions, pairs.classes)? {
        Some(probabilities) => transformed(ctx, probabilities, transform)?,
        None if rho.len() == 1 && labels.count() == 2 => two_classes(ctx, decisions, transform, false)?,
        None => transformed(ctx, decisions, transform)?,
    };
    let scores = ctx.cast(scores, DType::F32)?;
    Ok(vec![labelled(ctx, &labels, best)?, scores])
}

/// The probabilities of the classes, if the node has what they need: a sigmoid of each decision (Platt 1999), then pairwise coupling.
fn probabilities<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    decisions: Value,
    classes: usize,
) -> Outcome<Option<Value>> {
    let Some(slopes) = node.attr_floats_opt("prob_a")?.filter(|list| !list.is_empty()) else { return Ok(None) };
    let offsets = node.attr_floats("prob_b")?;
    let pairs = ctx.size(decisions, 1)?.as_usize().unwrap_or(0);
    if slopes.len() != pairs || offsets.len() != pairs {
        return Err(invalid(format!("{} and {} sigmoids for {pairs} decisions", slopes.len(), offsets.len())));
    }
    let (slopes, offsets) = (constant(ctx, decisions, &[pairs], slopes)?, constant(ctx, decisions, &[pairs], offsets)?);
    let scaled = ctx.binary(BinaryFn::Mul, decisions, slopes)?;
    let shifted = ctx.binary(BinaryFn::Add, scaled, offsets)?;
    let opposite = ctx.unary(UnaryFn::Neg, shifted)?;
    let pairwise = ctx.unary(UnaryFn::Sigmoid, opposite)?;
    let pairwise = ctx.cast(pairwise, DType::F32)?;
    let types = vec![Type::new(DType::F32, [ctx.size(pairwise, 0)?, Dim::from(classes)])];
    let op = Op::Host { function: "pairwise_coupling".into(), ints: vec![classes as i64], reals: Vec::new(), types };
    ctx.add(op, &[pairwise]).map(Some)
}
