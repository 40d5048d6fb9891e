//! Reductions.

use tarsia_graph::Attr;
use tarsia_tensor::Dim;

use super::{c_number, exact, float, real, require};
use crate::rule::{Match, Miss, Rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    vec![
        // mean = Σ / n.
        real ("mean-quotient",     "(div (reduce reduce_sum ?axes ?x) ?n)",                  "(reduce reduce_mean ?axes ?x)",            &[float, n_is_count]),
        real ("mean-product",      "(mul (reduce reduce_sum ?axes ?x) ?n)",                  "(reduce reduce_mean ?axes ?x)",            &[float, n_is_one_over_count]),
        // Over axes of size 1 nothing happens.
        exact("reduce-ones",       "(reduce ?f ?axes ?x)",                                   "?x",                                       &[over_ones]),
        // One reduction after the other is one over all axes.
        real ("reduce-reduce",     "(reduce ?f ?p (reduce ?f ?q ?x))",                       "(reduce ?f ?both ?x)",                     &[both_axes]),
        // A common factor comes out of a sum.
        real ("sum-factor",        "(reduce reduce_sum ?axes (mul ?x ?c))",                  "(mul (reduce reduce_sum ?axes ?x) ?c)",    &[float, c_number]),
        real ("mean-factor",       "(reduce reduce_mean ?axes (mul ?x ?c))",                 "(mul (reduce reduce_mean ?axes ?x) ?c)",   &[float, c_number]),
        exact("max-of-neg",        "(reduce reduce_max ?axes (neg ?x))",                     "(neg (reduce reduce_min ?axes ?x))",       &[float]),
    ]
}

fn count(m: &Match) -> Result<f64, Miss> {
    let (axes, shape) = (m.axes("axes")?, m.shape("x")?);
    let sizes: Option<Vec<&Dim>> = axes.iter().map(|&axis| shape.get(axis)).collect();
    let count = Dim::product(sizes.ok_or(Miss("no such axis"))?).as_usize().ok_or(Miss("the count is not known"))?;
    require(count > 0, "nothing is reduced")?;
    Ok(count as f64)
}

fn n_is_count(m: &mut Match) -> Result<(), Miss> {
    require(m.splat("n")? == count(m)?, "not the number of elements")
}

fn n_is_one_over_count(m: &mut Match) -> Result<(), Miss> {
    let (n, count) = (m.splat("n")?, count(m)?);
    require((n * count - 1.0).abs() < 1e-5, "not one over the number of elements")
}

fn over_ones(m: &mut Match) -> Result<(), Miss> {
    let (axes, shape) = (m.axes("axes")?, m.shape("x")?);
    require(axes.iter().all(|&axis| shape.get(axis).is_some_and(|dim| dim.is(1))), "a reduced axis is not of size 1")
}

fn both_axes(m: &mut Match) -> Result<(), Miss> {
    let (mut axes, more) = (m.axes("p")?, m.axes("q")?);
    require(!axes.iter().any(|axis| more.contains(axis)), "an axis is reduced twice")?;
    axes.extend(more);
    axes.sort_unstable();
    m.bind_attr("both", Attr::Ints(axes.into_iter().map(|axis| axis as i64).collect()))
}
