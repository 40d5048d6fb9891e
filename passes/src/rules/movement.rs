//! Movement: what compositions of movement ops equal, and how they pass through point-wise ops.

use egg::Id;
use tarsia_graph::Op;
use tarsia_tensor::Dim;

use super::{aligned, exact, require, result_shape};
use crate::rule::{Class, Match, Miss, Rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    let mut rules = vec![
        exact("transpose-transpose", "(transpose ?p (transpose ?q ?x))",      "(transpose ?r ?x)",                &[composed]),
        exact("transpose-nothing",   "(transpose ?p ?x)",                     "?x",                               &[p_identity]),
        exact("transpose-ones",      "(transpose ?p ?x)",                     "(reshape ?shape ?x)",              &[p_moves_ones, result_shape]),
        exact("reshape-reshape",     "(reshape ?s (reshape ?t ?x))",          "(reshape ?s ?x)",                  &[]),
        exact("reshape-nothing",     "(reshape ?s ?x)",                       "?x",                               &[]),
        exact("broadcast-nothing",   "(broadcast ?s ?x)",                     "?x",                               &[]),
        exact("broadcast-broadcast", "(broadcast ?s (broadcast ?t ?x))",      "(broadcast ?s ?x)",                &[]),
        // The halves of a concatenation, and the concatenation of neighbouring slices.
        exact("slice-slice",         "(slice ?s ?n ?d (slice ?t ?m ?e ?x))",  "(slice ?start ?n ?step ?x)",       &[slices_composed]),
        exact("slice-concat-first",  "(slice ?s ?n ?d (concat ?axis ?a ?b))", "(slice ?s ?n ?d ?a)",              &[within_first]),
        exact("slice-concat-second", "(slice ?s ?n ?d (concat ?axis ?a ?b))", "(slice ?start ?n ?d ?b)",          &[within_second]),
        exact("slice-nothing",       "(slice ?s ?n ?d ?x)",                   "?x",                               &[whole]),
        exact("concat-slices",       "(concat ?axis (slice ?s ?n ?d ?x) (slice ?t ?m ?e ?x))", "(slice ?s ?shape ?d ?x)", &[neighbours, result_shape]),
        exact("pad-nothing",         "(pad ?l ?h ?i ?x ?v)",                  "?x",                               &[]),
        Rule::built("slice-merged", Class::Exact, "(slice ?s ?n ?d (reshape ?t ?x))", slice_of_merged),
        // Numbers come out of movement.
        exact("transpose-of-number", "(transpose ?p (mul ?a ?c))",            "(mul (transpose ?p ?a) ?k)",       &[number]),
        exact("reshape-of-number",   "(reshape ?s (mul ?a ?c))",              "(mul (reshape ?s ?a) ?k)",         &[number]),
        exact("slice-of-number",     "(slice ?s ?n ?d (mul ?a ?c))",          "(mul (slice ?s ?n ?d ?a) ?k)",     &[number]),
        exact("broadcast-of-number", "(broadcast ?s (mul ?a ?c))",            "(mul (broadcast ?s ?a) ?k)",       &[number]),
        // Through select, whose operands are all moved alike.
        exact("reshape-cast",        "(cast ?d ?s (reshape ?t ?x))",          "(reshape ?t (cast ?d ?s ?x))",     &[]),
        exact("transpose-cast",      "(cast ?d ?s (transpose ?p ?x))",        "(transpose ?p (cast ?d ?s ?x))",   &[]),
        exact("reshape-silu",        "(silu (reshape ?t ?x))",                "(reshape ?t (silu ?x))",           &[]),
        exact("reshape-gelu",        "(gelu ?h (reshape ?t ?x))",             "(reshape ?t (gelu ?h ?x))",        &[]),
    ];
    for f in tarsia_graph::UnaryFn::ALL {
        rules.push(exact(&format!("reshape-{f}"), &format!("({f} (reshape ?t ?x))"), &format!("(reshape ?t ({f} ?x))"), &[]));
        rules.push(exact(&format!("transpose-{f}"), &format!("({f} (transpose ?p ?x))"), &format!("(transpose ?p ({f} ?x))"), &[]));
    }
    for f in tarsia_graph::BinaryFn::ALL {
        let line = |name: &str, left: &str, right: &str, conditions: &[crate::rule::Condition]| exact(&format!("{name}-{f}"), &left.replace('$', f.name()), &right.replace('$', f.name()), conditions);
        rules.push(line("transpose-both", "($ (transpose ?p ?a) (transpose ?p ?b))", "(transpose ?p ($ ?a ?b))", &[same_rank]));
        rules.push(line("reshape-both", "($ (reshape ?s ?a) (reshape ?s ?b))", "(reshape ?s ($ ?a ?b))", &[same_shape]));
        rules.push(line("transpose-number", "($ (transpose ?p ?a) ?c)", "(transpose ?p ($ ?a ?c))", &[c_scalar]));
        rules.push(Rule::built(&format!("merged-{f}"), Class::Exact, &format!("({f} (reshape ?s ?a) ?b)"), merged_first));
        if !f.commutes() {
            rules.push(Rule::built(&format!("merged-second-{f}"), Class::Exact, &format!("({f} ?b (reshape ?s ?a))"), merged_second));
        }
        rules.push(line("reshape-number", "($ (reshape ?s ?a) ?c)", "(reshape ?s ($ ?a ?c))", &[c_scalar]));
    }
    rules
}

fn merged_first(m: &mut Match) -> Result<Id, Miss> {
    merged(m, true)
}

fn merged_second(m: &mut Match) -> Result<Id, Miss> {
    merged(m, false)
}

/// merge(a) ∘ b = merge(a ∘ split(b)): a reshape that only merges axes moves outwards, past an operand that is as large or
/// repeated along what is merged.
fn merged(m: &mut Match, first: bool) -> Result<Id, Miss> {
    let function = m.root_function().ok_or(Miss("not point-wise"))?;
    let (fine, coarse, other) = (m.shape("a")?, m.dims("s")?, m.shape("b")?);
    require(other.len() <= coarse.len(), "the other operand has more axes")?;
    require(!m.facts("b")?.fixed || other.iter().all(|dim| dim.is(1)), "a constant stays as it is")?;
    let groups = groups(&fine, &coarse).ok_or(Miss("does not only merge axes"))?;
    let mut split = Vec::new();
    for (j, group) in groups.iter().enumerate() {
        let size = aligned(&other, coarse.len(), j);
        let parts = &fine[group.clone()];
        if size == coarse[j] {
            split.extend_from_slice(parts);
        } else {
            require(size.is(1), "the other operand is larger")?;
            split.extend(parts.iter().map(|_| Dim::ONE));
        }
    }
    let (a, b) = (m.id("a")?, m.id("b")?);
    let b = super::contraction::reshaped(m, b, split)?;
    let operands = if first { [a, b] } else { [b, a] };
    let y = m.add(Op::Binary(function), &operands)?;
    m.add(Op::Reshape { shape: coarse }, &[y])
}

/// A slice that leaves merged axes whole is a slice before they are merged.
fn slice_of_merged(m: &mut Match) -> Result<Id, Miss> {
    let (fine, coarse) = (m.shape("x")?, m.dims("t")?);
    let (starts, sizes, steps) = (m.dims("s")?, m.dims("n")?, m.ints("d")?);
    let groups = groups(&fine, &coarse).ok_or(Miss("does not only merge axes"))?;
    let (mut s, mut n, mut d) = (Vec::new(), Vec::new(), Vec::new());
    for (j, group) in groups.iter().enumerate() {
        if group.len() == 1 {
            s.push(starts[j].clone());
            n.push(sizes[j].clone());
            d.push(steps[j]);
        } else {
            require(
                starts[j].is(0) && (steps[j] == 1 || coarse[j].is(1)) && sizes[j] == coarse[j],
                "a part of merged axes",
            )?;
            s.extend(group.clone().map(|_| Dim::ZERO));
            n.extend_from_slice(&fine[group.clone()]);
            d.extend(group.clone().map(|_| 1));
        }
    }
    let x = m.id("x")?;
    let y = m.add(Op::Slice { starts: s, sizes: n, steps: d }, &[x])?;
    m.add(Op::Reshape { shape: sizes }, &[y])
}

/// Which axes of `fine` each axis of `coarse` merges, if that is all that happens; axes of size 1 come and go.
pub(super) fn groups(fine: &[Dim], coarse: &[Dim]) -> Option<Vec<std::ops::Range<usize>>> {
    let (mut groups, mut at) = (Vec::new(), 0);
    for (j, size) in coarse.iter().enumerate() {
        let (start, mut product) = (at, Dim::ONE);
        let is_new = size.is(1) && fine.get(at).is_none_or(|dim| !dim.is(1));
        while !is_new && (product != *size || at == start) {
            product = product * fine.get(at)?.clone();
            at += 1;
        }
        // Axes of size 1 that the next axis does not account for belong to this one.
        let next_is_one = coarse.get(j + 1).is_some_and(|next| next.is(1));
        while !next_is_one && !is_new && fine.get(at).is_some_and(|dim| dim.is(1)) {
            at += 1;
        }
        groups.push(start..at);
    }
    (at == fine.len() && groups.iter().any(|group| group.len() != 1)).then_some(groups)
}

fn composed(m: &mut Match) -> Result<(), Miss> {
    let (outer, inner) = (m.axes("p")?, m.axes("q")?);
    let perm: Option<Vec<usize>> = outer.iter().map(|&axis| inner.get(axis).copied()).collect();
    m.bind_axes("r", &perm.ok_or(Miss("not a permutation"))?)
}

fn p_identity(m: &mut Match) -> Result<(), Miss> {
    let perm = m.axes("p")?;
    require(perm.iter().copied().eq(0..perm.len()), "axes change place")
}

fn p_moves_ones(m: &mut Match) -> Result<(), Miss> {
    let (perm, shape) = (m.axes("p")?, m.shape("x")?);
    require(crate::emit::moves_only_ones(&perm, &shape), "axes that are not of size 1 change place")
}

fn same_rank(m: &mut Match) -> Result<(), Miss> {
    require(m.ty("a")?.rank() == m.ty("b")?.rank(), "the operands have different ranks")
}

fn same_shape(m: &mut Match) -> Result<(), Miss> {
    require(m.shape("a")? == m.shape("b")?, "the operands have different shapes")
}

fn c_scalar(m: &mut Match) -> Result<(), Miss> {
    require(m.shape("c")?.iter().all(|dim| dim.is(1)) && m.ty("c")?.rank() <= m.ty("a")?.rank(), "not a scalar")
}

/// `?c` is one number, which becomes the scalar `?k`.
fn number(m: &mut Match) -> Result<(), Miss> {
    c_scalar(m)?;
    require(m.facts("a")?.splat.is_none(), "both are numbers")?;
    let (value, dtype) = (m.splat("c")?, m.root_type()?.dtype);
    let scalar = m.scalar(dtype, value)?;
    m.bind("k", scalar)
}

fn whole(m: &mut Match) -> Result<(), Miss> {
    let (starts, steps) = (m.dims("s")?, m.ints("d")?);
    require(starts.iter().all(|dim| dim.is(0)) && steps.iter().all(|&step| step == 1), "not the whole operand")
}

/// start + i·step of start' + j·step' is (start' + start·step') + i·(step·step').
fn slices_composed(m: &mut Match) -> Result<(), Miss> {
    let (starts, steps, before, strides) = (m.dims("s")?, m.ints("d")?, m.dims("t")?, m.ints("e")?);
    let start = (0..starts.len()).map(|i| before[i].clone() + starts[i].clone() * Dim::Const(strides[i])).collect();
    let step: Option<Vec<i64>> = steps.iter().zip(&strides).map(|(a, b)| a.checked_mul(*b)).collect();
    m.bind_dims("start", start)?;
    m.bind_attr("step", tarsia_graph::Attr::Ints(step.ok_or(Miss("a step overflows"))?))
}

/// The last index that a slice reads along an axis, plus one, for positive steps.
fn end(m: &Match, axis: usize) -> Result<Dim, Miss> {
    let (starts, sizes, steps) = (m.dims("s")?, m.dims("n")?, m.ints("d")?);
    let (start, size, step) = (starts.get(axis), sizes.get(axis), steps.get(axis));
    let (Some(start), Some(size), Some(&step)) = (start, size, step) else { return Err(Miss("no such axis")) };
    require(step > 0, "backwards")?;
    Ok(start.clone() + (size.clone() - Dim::ONE) * Dim::Const(step) + Dim::ONE)
}

fn never_negative(dim: &Dim) -> bool {
    dim.range().low >= 0
}

fn within_first(m: &mut Match) -> Result<(), Miss> {
    let axis = m.axis("axis")?;
    let (end, size) = (end(m, axis)?, aligned(&m.shape("a")?, m.ty("a")?.rank(), axis));
    require(never_negative(&(size - end)), "reaches into the second operand")
}

fn within_second(m: &mut Match) -> Result<(), Miss> {
    let (axis, mut starts) = (m.axis("axis")?, m.dims("s")?);
    end(m, axis)?;
    let size = aligned(&m.shape("a")?, m.ty("a")?.rank(), axis);
    let start = starts.get_mut(axis).ok_or(Miss("no such axis"))?;
    *start = start.clone() - size;
    require(never_negative(start), "begins in the first operand")?;
    m.bind_dims("start", starts)
}

/// Two slices of one operand that differ only along `?axis`, where the second begins where the first ends.
fn neighbours(m: &mut Match) -> Result<(), Miss> {
    let axis = m.axis("axis")?;
    let (first, second, steps, strides) = (m.dims("s")?, m.dims("t")?, m.ints("d")?, m.ints("e")?);
    require(steps == strides, "the steps differ")?;
    let step = *steps.get(axis).ok_or(Miss("no such axis"))?;
    require(step > 0, "backwards")?;
    let size = m.dims("n")?.get(axis).cloned().ok_or(Miss("no such axis"))?;
    for (i, (a, b)) in first.iter().zip(&second).enumerate() {
        let expected = if i == axis { a.clone() + size.clone() * Dim::Const(step) } else { a.clone() };
        require(*b == expected, "not neighbours")?;
    }
    Ok(())
}
