//! Rotary embedding: a rotation of the pairs (a, b) of the last axis, as exporters write it.

use egg::Id;
use tarsia_graph::Op;
use tarsia_tensor::Dim;

use super::{exact, require};
use crate::rule::{Class, Match, Miss, Rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    vec![
        // (a, b) ↦ (a·cos - b·sin, b·cos + a·sin).
        exact("rotary", "(concat ?axis (sub (mul ?a ?c) (mul ?b ?s)) (add (mul ?b ?c) (mul ?a ?s)))", "(rotary false (concat ?axis ?a ?b) ?c ?s)", &[pairs_of_halves]),
        exact("rotary-interleaved", "(reshape ?r (concat ?axis (reshape ?p (sub (mul (slice ?u ?n ?d ?x) ?c) (mul (slice ?v ?n ?d ?x) ?s))) (reshape ?p (add (mul (slice ?v ?n ?d ?x) ?c) (mul (slice ?u ?n ?d ?x) ?s)))))",
                                    "(rotary true ?x ?c ?s)", &[pairs_of_neighbours]),
        // x·(cos, cos) + (-b, a)·(sin, sin) with x = (a, b).
        Rule::built("rotary-halves", Class::Exact, "(add (mul ?x ?c) (mul (concat ?axis (neg (slice ?u ?n ?d ?x)) (slice ?v ?n ?d ?x)) ?s))", halves),
    ]
}

fn pairs_of_halves(m: &mut Match) -> Result<(), Miss> {
    let (axis, a, b) = (m.axis("axis")?, m.shape("a")?, m.shape("b")?);
    require(axis + 1 == a.len() && a == b, "not the halves of the last axis")
}

/// `?u` and `?v` are the even and odd elements of the last axis, joined again as pairs.
fn pairs_of_neighbours(m: &mut Match) -> Result<(), Miss> {
    let (axis, shape, pair) = (m.axis("axis")?, m.shape("x")?, m.dims("p")?);
    let last = shape.len().checked_sub(1).ok_or(Miss("no axis"))?;
    let (even, odd, steps, sizes) = (m.dims("u")?, m.dims("v")?, m.ints("d")?, m.dims("n")?);
    require(axis == shape.len() && m.dims("r")? == shape, "the pairs are not joined along the last axis")?;
    require(steps[last] == 2 && even[last].is(0) && odd[last].is(1), "not even and odd elements")?;
    let rest = |starts: &[Dim]| starts[..last].iter().all(|dim| dim.is(0));
    require(rest(&even) && rest(&odd) && sizes[..last] == shape[..last], "a part of the other axes")?;
    let (columns, one) = pair.split_at(last + 1);
    require(columns == sizes && one.iter().all(|dim| dim.is(1)), "other columns")
}

fn halves(m: &mut Match) -> Result<Id, Miss> {
    let (axis, shape, sizes) = (m.axis("axis")?, m.shape("x")?, m.dims("n")?);
    let last = shape.len().checked_sub(1).ok_or(Miss("no axis"))?;
    let half = sizes.get(last).cloned().ok_or(Miss("no axis"))?;
    let (second, first, steps) = (m.dims("u")?, m.dims("v")?, m.ints("d")?);
    require(axis == last && steps.iter().all(|&step| step == 1), "not along the last axis")?;
    require(first[last].is(0) && second[last] == half && shape[last] == half.clone() + half.clone(), "not the halves")?;
    let rest = |starts: &[Dim]| starts[..last].iter().all(|dim| dim.is(0));
    require(rest(&first) && rest(&second) && sizes[..last] == shape[..last], "a part of the other axes")?;
    require(m.facts("c")?.doubled && m.facts("s")?.doubled, "the halves of cos and sin may differ")?;
    let (x, cos, sin) = (m.id("x")?, m.id("c")?, m.id("s")?);
    let (cos, sin) = (first_half(m, cos, &half)?, first_half(m, sin, &half)?);
    m.add(Op::Rotary { interleaved: false }, &[x, cos, sin])
}

fn first_half(m: &mut Match, x: Id, half: &Dim) -> Result<Id, Miss> {
    let mut sizes = m.type_of(x)?.shape.clone();
    *sizes.last_mut().ok_or(Miss("no axis"))? = half.clone();
    let (starts, steps) = (vec![Dim::ZERO; sizes.len()], vec![1; sizes.len()]);
    m.add(Op::Slice { starts, sizes, steps }, &[x])
}
