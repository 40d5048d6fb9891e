//! The rewrite rules, one family a file: aligned tables of name, left side, right side, conditions.
//!
//! The law they keep stands in `README.md` beside this file.

mod attention;
mod contraction;
mod latent;
mod movement;
mod normalise;
mod pointwise;
mod reduction;
mod rotary;
mod routed;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod soundness;

use std::sync::OnceLock;

use tarsia_graph::Attr;
use tarsia_tensor::Dim;

use crate::rule::{Class, Condition, Match, Miss, Rule};

/// All rules, in the order in which they are tried.
pub fn all() -> &'static [Rule] {
    static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
    RULES.get_or_init(|| {
        let families = [
            pointwise::rules(),
            reduction::rules(),
            movement::rules(),
            contraction::rules(),
            normalise::rules(),
            attention::rules(),
            latent::rules(),
            rotary::rules(),
            routed::rules(),
        ];
        families.into_iter().flatten().collect()
    })
}

/// One line of a table: an exact rule.
fn exact(name: &str, left: &str, right: &str, conditions: &[Condition]) -> Rule {
    Rule::new(name, Class::Exact, left, right, conditions)
}

/// One line of a table: a rule that rounds in another order.
fn real(name: &str, left: &str, right: &str, conditions: &[Condition]) -> Rule {
    Rule::new(name, Class::Reassociating, left, right, conditions)
}

/// A check that only fails with one reason.
fn require(holds: bool, otherwise: &'static str) -> Result<(), Miss> {
    if holds { Ok(()) } else { Err(Miss(otherwise)) }
}

/// `?c` depends on constants alone and `?a` does not.
fn c_fixed(m: &mut Match) -> Result<(), Miss> {
    require(m.facts("c")?.fixed, "not a constant")?;
    require(!m.facts("a")?.fixed, "both are constants")
}

/// All elements of `?c` are one number.
fn c_number(m: &mut Match) -> Result<(), Miss> {
    m.splat("c").map(|_| ())
}

/// The result is a float.
fn float(m: &mut Match) -> Result<(), Miss> {
    require(m.root_type()?.dtype.is_float(), "not a float")
}

/// `?axes` is one axis, which becomes `?axis`.
fn one_axis(m: &mut Match) -> Result<(), Miss> {
    let axes = m.axes("axes")?;
    let [axis] = axes.as_slice() else { return Err(Miss("not along one axis")) };
    m.bind_attr("axis", Attr::Int(*axis as i64))
}

/// `?axes` are the last axes of `?x`; `?axis` becomes the first of them.
fn last_axes(m: &mut Match) -> Result<(), Miss> {
    let (axes, rank) = (m.axes("axes")?, m.ty("x")?.rank());
    let first = rank.checked_sub(axes.len()).ok_or(Miss("too many axes"))?;
    require(!axes.is_empty() && axes.iter().copied().eq(first..rank), "not the last axes")?;
    m.bind_attr("axis", Attr::Int(first as i64))
}

/// `?shape` becomes the shape of the result.
fn result_shape(m: &mut Match) -> Result<(), Miss> {
    let shape = m.root_type()?.shape.clone();
    m.bind_dims("shape", shape)
}

/// The size of axis `axis` counted from the end of a right-aligned shape of `rank` axes; 1 where there is none.
fn aligned(shape: &[Dim], rank: usize, axis: usize) -> Dim {
    (axis + shape.len()).checked_sub(rank).and_then(|i| shape.get(i)).cloned().unwrap_or(Dim::ONE)
}
