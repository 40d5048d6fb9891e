//! Exporters' spellings of softmax, the norms and GELU.

use tarsia_graph::{Attr, Real};
use tarsia_tensor::DType;

use super::{exact, float, last_axes, one_axis, real, require};
use crate::rule::{Match, Miss, Rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    vec![
        // softmax(x) = exp(x) / Σ exp(x) = exp(x - m) / Σ exp(x - m).
        real ("softmax",             "(div (exp ?x) (reduce reduce_sum ?axes (exp ?x)))",                "(softmax ?axis ?x)",                    &[float, one_axis]),
        real ("softmax-shift",       "(softmax ?axis (sub ?x (reduce reduce_max ?axes ?x)))",            "(softmax ?axis ?x)",                    &[along_axis]),
        exact("softmax-narrow",      "(cast ?d ?s (softmax ?axis (cast f32 ?t ?x)))",                    "(softmax ?axis ?x)",                    &[narrow]),
        // A row that is masked whole is 0/0; exporters guard it. With the mask kept finite there is nothing to guard.
        real ("softmax-guard",       "(select (is_nan (softmax ?axis (add ?x ?m))) 0.0 (softmax ?axis (add ?x ?m)))",
                                                                                                         "(softmax ?axis (add ?x (max ?m ?low)))", &[lowest]),
        real ("softmax-unmasked",    "(select (is_nan (softmax ?axis ?x)) 0.0 (softmax ?axis ?x))",      "(softmax ?axis ?x)",                    &[finite]),
        // rms_norm(x) = x / √(mean(x²) + ε) · scale.
        real ("rms-norm",            "(mul ?x (rsqrt (add (reduce reduce_mean ?axes (mul ?x ?x)) ?e)))",  "(rms_norm ?axis ?epsilon ?x 1.0)",      &[float, last_axes, epsilon]),
        real ("rms-norm-exact",      "(div ?x (sqrt (add (reduce reduce_mean ?axes (mul ?x ?x)) ?e)))",   "(rms_norm ?axis ?epsilon ?x 1.0)",      &[float, last_axes, epsilon]),
        exact("rms-norm-scale",      "(mul (rms_norm ?axis ?epsilon ?x 1.0) ?w)",                        "(rms_norm ?axis ?epsilon ?x ?w)",       &[w_over_last_axes]),
        exact("rms-norm-narrow",     "(cast ?d ?s (rms_norm ?axis ?epsilon (cast f32 ?t ?x) 1.0))",      "(rms_norm ?axis ?epsilon ?x 1.0)",      &[narrow]),
        real ("rms-norm-narrow-scale", "(cast ?d ?s (rms_norm ?axis ?epsilon (cast f32 ?t ?x) (cast f32 ?u ?w)))", "(rms_norm ?axis ?epsilon ?x ?w)", &[narrow]),
        // layer_norm(x) = rms_norm(x - mean(x)) + bias.
        real ("layer-norm",          "(rms_norm ?axis ?epsilon (sub ?x (reduce reduce_mean ?axes ?x)) ?w)", "(layer_norm ?axis ?epsilon ?x ?w 0.0)", &[axis_to_last]),
        exact("layer-norm-scale",    "(mul (layer_norm ?axis ?epsilon ?x 1.0 0.0) ?w)",                  "(layer_norm ?axis ?epsilon ?x ?w 0.0)", &[w_over_last_axes]),
        exact("layer-norm-bias",     "(add (layer_norm ?axis ?epsilon ?x ?v 0.0) ?w)",                   "(layer_norm ?axis ?epsilon ?x ?v ?w)",  &[w_over_last_axes]),
        exact("layer-norm-narrow",   "(cast ?d ?s (layer_norm ?axis ?epsilon (cast f32 ?t ?x) 1.0 0.0))", "(layer_norm ?axis ?epsilon ?x 1.0 0.0)", &[narrow]),
        real ("layer-norm-narrow-affine", "(cast ?d ?s (layer_norm ?axis ?epsilon (cast f32 ?t ?x) (cast f32 ?u ?v) (cast f32 ?r ?w)))",
                                                                                                         "(layer_norm ?axis ?epsilon ?x ?v ?w)",  &[narrow]),
        // Scale and mean folded into a factor and an offset: x·f + (b - m·f) = (x - m)·f + b.
        real ("norm-offset",         "(add (mul ?x ?f) (sub ?b (mul ?m ?f)))",                           "(add (mul (sub ?x ?m) ?f) ?b)",         &[float]),
        real ("norm-factor",         "(mul ?a (mul (rsqrt ?v) ?w))",                                     "(mul (mul ?a (rsqrt ?v)) ?w)",          &[float]),
        // gelu(x) = x/2 · (1 + erf(x/√2)) ≈ x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))); numbers have wandered outwards.
        real ("gelu",                "(mul (mul ?x (add (erf (mul ?x 0.7071067811865476)) 1.0)) 0.5)",   "(gelu false ?x)",                       &[float]),
        real ("gelu-tanh",           "(mul (mul ?x (add (tanh (mul (add ?x (mul (mul ?x (mul ?x ?x)) 0.044715)) 0.7978845608028654)) 1.0)) 0.5)",
                                                                                                         "(gelu true ?x)",                        &[float]),
        real ("gelu-tanh-factored",  "(mul (mul ?x (add (tanh (mul (mul ?x (add (mul (mul ?x ?x) 0.044715) 1.0)) 0.7978845608028654)) 1.0)) 0.5)",
                                                                                                         "(gelu true ?x)",                        &[float]),
        exact("gelu-narrow",         "(cast ?d ?s (gelu ?tanh (cast f32 ?t ?x)))",                       "(gelu ?tanh ?x)",                       &[narrow]),
    ]
}

/// `?axes` is `?axis` alone.
fn along_axis(m: &mut Match) -> Result<(), Miss> {
    require(m.axes("axes")? == [m.axis("axis")?], "along other axes")
}

/// `?axes` are the axes from `?axis` on.
fn axis_to_last(m: &mut Match) -> Result<(), Miss> {
    let (axis, rank) = (m.axis("axis")?, m.ty("x")?.rank());
    require(m.axes("axes")?.into_iter().eq(axis..rank), "the mean is over other axes")
}

/// `?x` and the result are of one narrow float type, which the composite widens by itself.
fn narrow(m: &mut Match) -> Result<(), Miss> {
    let dtype = m.ty("x")?.dtype;
    require(matches!(dtype, DType::F16 | DType::BF16) && m.dtype("d")? == dtype, "not back to the same narrow type")
}

/// `?e` is a number, which becomes the attribute `?epsilon`.
fn epsilon(m: &mut Match) -> Result<(), Miss> {
    let value = m.splat("e")?;
    require(value >= 0.0, "not an epsilon")?;
    m.bind_attr("epsilon", Attr::Real(Real(value)))
}

/// `?w` varies along the normalised axes only.
fn w_over_last_axes(m: &mut Match) -> Result<(), Miss> {
    let (axis, rank, shape) = (m.axis("axis")?, m.ty("x")?.rank(), m.shape("w")?);
    let spare = shape.len().saturating_sub(rank.saturating_sub(axis));
    require(shape.len() <= rank && shape[..spare].iter().all(|dim| dim.is(1)), "varies along other axes")
}

/// `?low` becomes a mask value low enough to give weight 0, and finite.
fn lowest(m: &mut Match) -> Result<(), Miss> {
    let dtype = m.ty("m")?.dtype;
    let value = if dtype == DType::F16 { -3e4 } else { -1e30 };
    let low = m.scalar(dtype, value)?;
    m.bind("low", low)
}

/// No mask is added, so that no row is -∞ throughout.
fn finite(m: &mut Match) -> Result<(), Miss> {
    let x = m.id("x")?;
    let masked = m.egraph[x].nodes.iter().any(|node| node.is("add") || node.is("select") || node.op().is_none());
    require(!masked, "a row may be masked whole")
}
