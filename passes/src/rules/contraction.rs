//! Contractions: movement of the operands and the result is a matter of letters.

use egg::Id;
use tarsia_graph::{Attr, Contraction, Op};
use tarsia_tensor::Dim;

use super::{aligned, exact, real, require};
use crate::rule::{Class, Match, Miss, Rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    vec![
        // Transposes are other letters: Σ xᵀ·y.
        exact("contract-transpose-left",  "(contract ?s ?d (transpose ?p ?x) ?y)",  "(contract ?r ?d ?x ?y)",         &[left_letters]),
        exact("contract-transpose-right", "(contract ?s ?d ?x (transpose ?p ?y))",  "(contract ?r ?d ?x ?y)",         &[right_letters]),
        exact("transpose-contract",       "(transpose ?p (contract ?s ?d ?x ?y))",  "(contract ?r ?d ?x ?y)",         &[result_letters]),
        // A number comes out: Σ (c·x)·y = c·Σ x·y.
        real ("contract-number-left",     "(contract ?s ?d (mul ?x ?c) ?y)",        "(mul (contract ?s ?d ?x ?y) ?k)", &[number_of_x]),
        real ("contract-number-right",    "(contract ?s ?d ?y (mul ?x ?c))",        "(mul (contract ?s ?d ?y ?x) ?k)", &[number_of_x]),
        // What is repeated along a batch axis has no such axis.
        Rule::built("contract-broadcast-left",  Class::Exact, "(contract ?s ?d (broadcast ?t ?x) ?y)", broadcast_left),
        Rule::built("contract-broadcast-right", Class::Exact, "(contract ?s ?d ?y (broadcast ?t ?x))", broadcast_right),
        // Axes of size 1 need no letter.
        Rule::built("contract-ones",            Class::Exact, "(contract ?s ?d ?x ?y)",                without_ones),
        // A product of a narrow type that is widened at once is better not rounded.
        real ("contract-widened",         "(cast f32 ?u (contract ?s ?d ?x ?y))",   "(contract ?s f32 ?x ?y)",        &[narrow]),
    ]
}

/// Letters of an operand before it was transposed.
fn before(letters: &[u8], perm: &[usize]) -> Result<Vec<u8>, Miss> {
    let mut moved = letters.to_vec();
    for (i, &axis) in perm.iter().enumerate() {
        *moved.get_mut(axis).ok_or(Miss("not a permutation"))? = *letters.get(i).ok_or(Miss("ranks differ"))?;
    }
    Ok(moved)
}

fn bind_spec(m: &mut Match, spec: Contraction) -> Result<(), Miss> {
    m.bind_attr("r", Attr::Text(spec.canonical().to_string()))
}

fn left_letters(m: &mut Match) -> Result<(), Miss> {
    let (spec, perm) = (m.spec("s")?, m.axes("p")?);
    let lhs = before(&spec.lhs, &perm)?;
    bind_spec(m, Contraction { lhs, ..spec })
}

fn right_letters(m: &mut Match) -> Result<(), Miss> {
    let (spec, perm) = (m.spec("s")?, m.axes("p")?);
    let rhs = before(&spec.rhs, &perm)?;
    bind_spec(m, Contraction { rhs, ..spec })
}

fn result_letters(m: &mut Match) -> Result<(), Miss> {
    let (spec, perm) = (m.spec("s")?, m.axes("p")?);
    let out: Option<Vec<u8>> = perm.iter().map(|&axis| spec.out.get(axis).copied()).collect();
    bind_spec(m, Contraction { out: out.ok_or(Miss("not a permutation"))?, ..spec })
}

/// `?c` is one number, which becomes the scalar `?k` of the result's type.
fn number_of_x(m: &mut Match) -> Result<(), Miss> {
    let (value, dtype) = (m.splat("c")?, m.root_type()?.dtype);
    require(m.shape("c")?.iter().all(|dim| dim.is(1)) && m.ty("c")?.rank() <= m.ty("x")?.rank(), "not a scalar")?;
    require(dtype.is_float() && m.facts("x")?.splat.is_none(), "not a factor of a float")?;
    let scalar = m.scalar(dtype, value)?;
    m.bind("k", scalar)
}

fn narrow(m: &mut Match) -> Result<(), Miss> {
    use tarsia_tensor::DType::{BF16, F16};
    require(matches!(m.dtype("d")?, F16 | BF16), "not widened")
}

fn broadcast_left(m: &mut Match) -> Result<Id, Miss> {
    let (spec, dtype) = (m.spec("s")?, m.dtype("d")?);
    let (lhs, x) = kept_letters(m, &spec.lhs, &spec.rhs, &spec.out)?;
    let y = m.id("y")?;
    let spec = Contraction { lhs, ..spec };
    m.add(Op::Contract { spec: spec.canonical(), dtype }, &[x, y])
}

fn broadcast_right(m: &mut Match) -> Result<Id, Miss> {
    let (spec, dtype) = (m.spec("s")?, m.dtype("d")?);
    let (rhs, x) = kept_letters(m, &spec.rhs, &spec.lhs, &spec.out)?;
    let y = m.id("y")?;
    let spec = Contraction { rhs, ..spec };
    m.add(Op::Contract { spec: spec.canonical(), dtype }, &[y, x])
}

/// The letters along which `(broadcast ?t ?x)` does not repeat, and `?x` with these axes.
fn kept_letters(m: &mut Match, letters: &[u8], other: &[u8], out: &[u8]) -> Result<(Vec<u8>, Id), Miss> {
    let (shape, from) = (m.dims("t")?, m.shape("x")?);
    let (mut kept, mut sizes) = (Vec::new(), Vec::new());
    for (axis, (&letter, to)) in letters.iter().zip(&shape).enumerate() {
        let size = aligned(&from, shape.len(), axis);
        if size == *to {
            kept.push(letter);
            sizes.push(size);
        } else {
            require(
                other.contains(&letter) && out.contains(&letter),
                "repeats along an axis that only it has, or a sum",
            )?;
        }
    }
    require(kept.len() < letters.len(), "nothing is repeated")?;
    let x = m.id("x")?;
    let x = reshaped(m, x, sizes)?;
    Ok((kept, x))
}

/// A class under another shape; itself if it has it.
pub(super) fn reshaped(m: &mut Match, x: Id, shape: Vec<Dim>) -> Result<Id, Miss> {
    if m.type_of(x)?.shape == shape { Ok(x) } else { m.add(Op::Reshape { shape }, &[x]) }
}

/// A class with its axes permuted; itself if they stay.
pub(super) fn transposed(m: &mut Match, x: Id, perm: Vec<usize>) -> Result<Id, Miss> {
    if perm.iter().copied().eq(0..perm.len()) { Ok(x) } else { m.add(Op::Transpose { perm }, &[x]) }
}

fn without_ones(m: &mut Match) -> Result<Id, Miss> {
    let (spec, dtype) = (m.spec("s")?, m.dtype("d")?);
    let (left, right, result) = (m.shape("x")?, m.shape("y")?, m.root_type()?.shape.clone());
    let sizes = |letters: &[u8], shape: &[Dim]| -> Vec<(u8, Dim)> {
        letters.iter().copied().zip(shape.iter().cloned()).collect()
    };
    let (lhs, rhs) = (sizes(&spec.lhs, &left), sizes(&spec.rhs, &right));
    // An axis is dropped only where both operands that have it say it is of size 1.
    let one = |letter: u8| lhs.iter().chain(&rhs).filter(|(l, _)| *l == letter).all(|(_, dim)| dim.is(1));
    let keep = |letters: &[u8]| letters.iter().copied().filter(|&l| !one(l)).collect::<Vec<u8>>();
    let kept = Contraction { lhs: keep(&spec.lhs), rhs: keep(&spec.rhs), out: keep(&spec.out) };
    require(kept.lhs.len() + kept.rhs.len() < spec.lhs.len() + spec.rhs.len(), "no axis of size 1")?;
    let shape = |sizes: &[(u8, Dim)]| sizes.iter().filter(|(l, _)| !one(*l)).map(|(_, dim)| dim.clone()).collect();
    let (left, right) = (shape(&lhs), shape(&rhs));
    let (x, y) = (m.id("x")?, m.id("y")?);
    let (x, y) = (reshaped(m, x, left)?, reshaped(m, y, right)?);
    let product = m.add(Op::Contract { spec: kept.canonical(), dtype }, &[x, y])?;
    reshaped(m, product, result)
}
