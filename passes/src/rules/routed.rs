//! Routed contraction: weights that are chosen per row are never gathered.

use egg::Id;
use tarsia_graph::{Contraction, Op};
use tarsia_tensor::Dim;

use super::{aligned, contraction::reshaped, exact, require};
use crate::rule::{Class, Match, Miss, Rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    vec![
        // x · W[ids].
        exact("routed",               "(contract ?spec ?d ?x (gather 0 ?w ?ids))",  "(routed ?spec ?d ?x ?w ?ids)", &[whole_matrices]),
        exact("routed-left",          "(contract ?spec ?d (gather 0 ?w ?ids) ?x)",  "(routed ?r ?d ?x ?w ?ids)",    &[whole_matrices, swapped]),
        // Transposed matrices are other letters.
        exact("routed-transpose",     "(routed ?spec ?d ?x (transpose ?p ?w) ?ids)", "(routed ?r ?d ?x ?w ?ids)", &[matrix_letters]),
        // Rows (token, slot) merged into one axis are two axes.
        Rule::built("routed-unmerged",  Class::Exact, "(routed ?spec ?d (reshape ?s ?x) ?w (reshape ?t ?ids))", unmerged),
        // What is repeated for every slot has no axis of slots.
        Rule::built("routed-broadcast", Class::Exact, "(routed ?spec ?d (broadcast ?t ?x) ?w ?ids)",           unrepeated),
    ]
}

/// The gathered rows are matrices or more.
fn whole_matrices(m: &mut Match) -> Result<(), Miss> {
    require(m.ty("w")?.rank() >= 3, "the gathered rows are vectors")
}

fn swapped(m: &mut Match) -> Result<(), Miss> {
    let spec = m.spec("spec")?.swapped().canonical();
    m.bind_attr("r", tarsia_graph::Attr::Text(spec.to_string()))
}

/// The letters of the matrices before they were transposed; what is chosen stays the first axis.
fn matrix_letters(m: &mut Match) -> Result<(), Miss> {
    let (spec, perm, rows) = (m.spec("spec")?, m.axes("p")?, m.ty("ids")?.rank());
    require(perm.first() == Some(&0) && rows + perm.len() == spec.rhs.len() + 1, "the first axis moves")?;
    let mut rhs = spec.rhs.clone();
    for (i, &axis) in perm.iter().enumerate().skip(1) {
        rhs[rows + axis - 1] = spec.rhs[rows + i - 1];
    }
    let spec = Contraction { rhs, ..spec };
    m.bind_attr("r", tarsia_graph::Attr::Text(spec.canonical().to_string()))
}

fn unmerged(m: &mut Match) -> Result<Id, Miss> {
    let (spec, dtype) = (m.spec("spec")?, m.dtype("d")?);
    let (merged, fine) = (m.dims("t")?, m.shape("ids")?);
    require(merged.len() == 1 && fine.len() > 1, "the indices are not merged")?;
    let row = *spec.rhs.first().ok_or(Miss("no rows"))?;
    let at = spec.lhs.iter().position(|&l| l == row).ok_or(Miss("x has no such rows"))?;
    let (shape, from) = (m.dims("s")?, m.shape("x")?);
    let expected: Vec<Dim> = shape[..at].iter().chain(&fine).chain(&shape[at + 1..]).cloned().collect();
    require(from == expected, "x is not merged along the same rows")?;
    let mut fresh = spec.clone();
    let mut letters = vec![row];
    while letters.len() < fine.len() {
        let letter = fresh.fresh();
        fresh.lhs.push(letter);
        letters.push(letter);
    }
    let split = |term: &[u8]| -> Vec<u8> {
        term.iter().flat_map(|&l| if l == row { letters.clone() } else { vec![l] }).collect()
    };
    let fine_spec = Contraction { lhs: split(&spec.lhs), rhs: split(&spec.rhs), out: split(&spec.out) };
    let result = m.root_type()?.shape.clone();
    let (x, w, ids) = (m.id("x")?, m.id("w")?, m.id("ids")?);
    let y = m.add(Op::Routed { spec: fine_spec.canonical(), dtype }, &[x, w, ids])?;
    reshaped(m, y, result)
}

fn unrepeated(m: &mut Match) -> Result<Id, Miss> {
    let (spec, dtype) = (m.spec("spec")?, m.dtype("d")?);
    let (shape, from) = (m.dims("t")?, m.shape("x")?);
    let (mut lhs, mut sizes) = (Vec::new(), Vec::new());
    for (axis, (&letter, to)) in spec.lhs.iter().zip(&shape).enumerate() {
        let size = aligned(&from, shape.len(), axis);
        if size == *to {
            lhs.push(letter);
            sizes.push(size);
        } else {
            require(spec.rhs.contains(&letter) && spec.out.contains(&letter), "repeats along an axis of its own")?;
        }
    }
    require(lhs.len() < spec.lhs.len(), "nothing is repeated")?;
    let (x, w, ids) = (m.id("x")?, m.id("w")?, m.id("ids")?);
    let x = reshaped(m, x, sizes)?;
    let spec = Contraction { lhs, ..spec };
    m.add(Op::Routed { spec: spec.canonical(), dtype }, &[x, w, ids])
}
