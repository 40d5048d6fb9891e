//! Attention from its parts: softmax(c·Σ q·k + m)·v, with whatever letters the two contractions have.

use egg::Id;
use tarsia_graph::{BinaryFn, Contraction, Op, Real, broadcast_shapes};
use tarsia_tensor::{DType, Dim};

use super::{
    contraction::{reshaped, transposed},
    real, require,
};
use crate::rule::{Class, Match, Miss, Rule};

pub(super) fn rules() -> Vec<Rule> {
    #[rustfmt::skip]
    let mut rules = vec![
        // A choice of the lowest number is a mask: softmax(p ? x : -∞) = softmax(x + (p ? 0 : -∞)).
        real("mask-select",       "(softmax ?axis (select ?p ?x ?low))", "(softmax ?axis (add ?x (select ?p 0.0 ?low)))", &[low_number]),
        real("mask-select-other", "(softmax ?axis (select ?p ?low ?x))", "(softmax ?axis (add ?x (select ?p ?low 0.0)))", &[low_number]),
        // Heads that share keys and values need no copies of them.
        Rule::built("attention-repeated",        Class::Exact, "(attention ?scale ?q (reshape ?s (broadcast ?t ?k)) (reshape ?u (broadcast ?w ?v)))",    unrepeated),
        Rule::built("attention-repeated-mask",   Class::Exact, "(attention ?scale ?q (reshape ?s (broadcast ?t ?k)) (reshape ?u (broadcast ?w ?v)) ?m)", unrepeated),
        Rule::built("attention-one-head",        Class::Exact, "(attention ?scale ?q (broadcast ?t ?k) (broadcast ?w ?v))",    one_head),
        Rule::built("attention-one-head-mask",   Class::Exact, "(attention ?scale ?q (broadcast ?t ?k) (broadcast ?w ?v) ?m)", one_head),
    ];
    // Scores may be scaled and masked; the weights may be rounded to the type of the values.
    const SCORES: &[(&str, &str)] = &[
        ("", "(contract ?t ?e ?q ?k)"),
        ("-scale", "(mul (contract ?t ?e ?q ?k) ?c)"),
        ("-mask", "(add (contract ?t ?e ?q ?k) ?m)"),
        ("-scale-mask", "(add (mul (contract ?t ?e ?q ?k) ?c) ?m)"),
    ];
    for (suffix, scores) in SCORES {
        let plain = format!("(contract ?spec ?d (softmax ?axis {scores}) ?v)");
        let cast = format!("(contract ?spec ?d (cast ?n ?u (softmax ?axis {scores})) ?v)");
        rules.push(Rule::built(&format!("attention{suffix}"), Class::Reassociating, &plain, attention));
        rules.push(Rule::built(&format!("attention-rounded{suffix}"), Class::Reassociating, &cast, attention));
    }
    rules
}

fn low_number(m: &mut Match) -> Result<(), Miss> {
    require(m.splat("low")? <= -1e4, "not the lowest number")?;
    let (x, low) = (m.shape("x")?, m.shape("low")?);
    require(low.iter().all(|dim| dim.is(1)) && m.shape("p")?.len() <= x.len(), "the mask is larger than the scores")
}

/// What the letters of scores and result say about axes.
struct Roles {
    /// Letters of queries, keys and values alike, in the scores' order.
    batch: Vec<u8>,
    /// Letters of queries alone: heads that share keys.
    group: Vec<u8>,
    row: u8,
    depth: u8,
    key: u8,
    value: u8,
}

/// The roles of the letters of Σ q·k and Σ weights·v, the latter renamed to the scores' letters.
fn roles(scores: &Contraction, result: &Contraction, axis: usize) -> Result<Roles, Miss> {
    let one = |letters: Vec<u8>, reason| match letters.as_slice() {
        [letter] => Ok(*letter),
        _ => Err(Miss(reason)),
    };
    let key = *scores.out.get(axis).ok_or(Miss("softmax along no axis of the scores"))?;
    require(!scores.lhs.contains(&key) && scores.rhs.contains(&key), "softmax is not along the keys")?;
    require(result.summed() == [key], "the sum is not along the keys")?;
    let depth = one(scores.summed(), "queries and keys meet along several axes")?;
    let value = one(result.columns(), "the values have several axes of their own")?;
    let batch: Vec<u8> = scores.batch();
    require(batch.iter().all(|l| result.rhs.contains(l)), "keys and values have different axes")?;
    let mut rows: Vec<u8> = scores.rows();
    require(rows.iter().all(|l| !result.rhs.contains(l)), "values have an axis of the queries")?;
    require(scores.columns() == [key], "keys have an axis of their own")?;
    let row = rows.pop().ok_or(Miss("no query axis"))?;
    Ok(Roles { batch, group: rows, row, depth, key, value })
}

/// The letters of the weights' contraction renamed to those of the scores.
fn renamed(result: &Contraction, scores: &Contraction) -> Result<Contraction, Miss> {
    require(result.lhs.len() == scores.out.len(), "ranks differ")?;
    let mut fresh = (b'a'..=b'z')
        .chain(b'A'..=b'Z')
        .filter(|l| ![&scores.lhs, &scores.rhs, &scores.out].iter().any(|t| t.contains(l)));
    let mut names: Vec<(u8, u8)> = result.lhs.iter().copied().zip(scores.out.iter().copied()).collect();
    for &letter in &result.rhs {
        if !names.iter().any(|(from, _)| *from == letter) {
            names.push((letter, fresh.next().ok_or(Miss("too many axes"))?));
        }
    }
    let rename = |term: &[u8]| -> Vec<u8> {
        term.iter().filter_map(|l| names.iter().find(|(from, _)| from == l).map(|(_, to)| *to)).collect()
    };
    Ok(Contraction { lhs: rename(&result.lhs), rhs: rename(&result.rhs), out: rename(&result.out) })
}

fn attention(m: &mut Match) -> Result<Id, Miss> {
    let (scores, axis, dtype) = (m.spec("t")?, m.axis("axis")?, m.dtype("d")?);
    let result = renamed(&m.spec("spec")?, &scores)?;
    let roles = roles(&scores, &result, axis)?;
    let scale = if m.id("c").is_ok() { m.splat("c")? } else { 1.0 };
    let (q, k, v) = (m.id("q")?, m.id("k")?, m.id("v")?);
    require(
        m.type_of(q)?.dtype == dtype && m.type_of(k)?.dtype == dtype && m.type_of(v)?.dtype == dtype,
        "types differ",
    )?;
    let mask = m.id("m").ok();
    let sizes = sizes(m, &scores, &result, q, k, v)?;
    let size = |letter: u8| sizes.iter().find(|(l, _)| *l == letter).map_or(Dim::ONE, |(_, dim)| dim.clone());
    let product = |letters: &[u8]| letters.iter().fold(Dim::ONE, |all, &l| all * size(l));
    // The last batch axis counts heads of keys; a lone batch axis with shared heads, too.
    let (outer, heads) = roles.batch.split_at(roles.batch.len().saturating_sub(1));
    let (b, g) = (product(outer), product(heads));
    let h = g.clone() * product(&roles.group);
    let all: Vec<u8> = roles.batch.iter().chain(&roles.group).copied().collect();
    let with = |first: &[u8], rest: [u8; 2]| -> Vec<u8> { first.iter().copied().chain(rest).collect() };
    let queries = arranged(
        m,
        q,
        &scores.lhs,
        &with(&all, [roles.row, roles.depth]),
        vec![b.clone(), h.clone(), size(roles.row), size(roles.depth)],
    )?;
    let keys = arranged(
        m,
        k,
        &scores.rhs,
        &with(&roles.batch, [roles.key, roles.depth]),
        vec![b.clone(), g.clone(), size(roles.key), size(roles.depth)],
    )?;
    let values = arranged(
        m,
        v,
        &result.rhs,
        &with(&roles.batch, [roles.key, roles.value]),
        vec![b.clone(), g, size(roles.key), size(roles.value)],
    )?;
    let mut operands = vec![queries, keys, values];
    if let Some(mask) = mask {
        let order = with(&all, [roles.row, roles.key]);
        let mask = arranged_mask(m, mask, &scores.out, &order, &sizes, outer.len())?;
        operands.push(mask_of_type(m, mask, dtype)?);
    }
    let y = m.add(Op::Attention { scale: Real(scale) }, &operands)?;
    let order = with(&all, [roles.row, roles.value]);
    let y = reshaped(m, y, order.iter().map(|&l| size(l)).collect())?;
    let perm: Option<Vec<usize>> = result.out.iter().map(|l| order.iter().position(|o| o == l)).collect();
    transposed(m, y, perm.ok_or(Miss("the result has another axis"))?)
}

/// The size of every letter.
fn sizes(m: &Match, scores: &Contraction, result: &Contraction, q: Id, k: Id, v: Id) -> Result<Vec<(u8, Dim)>, Miss> {
    let mut sizes: Vec<(u8, Dim)> = Vec::new();
    for (letters, id) in [(&scores.lhs, q), (&scores.rhs, k), (&result.rhs, v)] {
        for (&letter, dim) in letters.iter().zip(&m.type_of(id)?.shape) {
            if !sizes.iter().any(|(l, _)| *l == letter) {
                sizes.push((letter, dim.clone()));
            }
        }
    }
    Ok(sizes)
}

/// A class with letters `from` as one with letters `to`, under `shape`.
fn arranged(m: &mut Match, x: Id, from: &[u8], to: &[u8], shape: Vec<Dim>) -> Result<Id, Miss> {
    let perm: Option<Vec<usize>> = to.iter().map(|l| from.iter().position(|f| f == l)).collect();
    require(from.len() == to.len(), "an axis is left over")?;
    let x = transposed(m, x, perm.ok_or(Miss("an axis is missing"))?)?;
    reshaped(m, x, shape)
}

/// A mask that broadcasts to the scores, as one that broadcasts to `[batch, heads, rows, keys]`.
fn arranged_mask(
    m: &mut Match,
    mask: Id,
    from: &[u8],
    to: &[u8],
    sizes: &[(u8, Dim)],
    outer: usize,
) -> Result<Id, Miss> {
    let full: Vec<Dim> =
        from.iter().filter_map(|l| sizes.iter().find(|(s, _)| s == l).map(|(_, dim)| dim.clone())).collect();
    let shape = m.type_of(mask)?.shape.clone();
    require(broadcast_shapes(&full, &shape).is_ok_and(|both| both == full), "the mask is larger than the scores")?;
    let mut padded = vec![Dim::ONE; full.len() - shape.len()];
    padded.extend(shape);
    let mask = reshaped(m, mask, padded)?;
    let perm: Option<Vec<usize>> = to.iter().map(|l| from.iter().position(|f| f == l)).collect();
    let mask = transposed(m, mask, perm.ok_or(Miss("an axis is missing"))?)?;
    let shape = m.type_of(mask)?.shape.clone();
    let full: Vec<Dim> =
        to.iter().filter_map(|l| sizes.iter().find(|(s, _)| s == l).map(|(_, dim)| dim.clone())).collect();
    let (rows, heads) = (shape.len() - 2, outer);
    // Axes that are merged must all be repeated or all be there.
    let merged = |range: std::ops::Range<usize>| -> Result<Dim, Miss> {
        let (part, whole) = (&shape[range.clone()], &full[range]);
        let repeated = part.iter().all(|dim| dim.is(1));
        require(repeated || part == whole, "the mask is repeated along some of the heads")?;
        Ok(Dim::product(part))
    };
    let target = vec![merged(0..heads)?, merged(heads..rows)?, shape[rows].clone(), shape[rows + 1].clone()];
    reshaped(m, mask, target)
}

/// The mask in the type of the queries; its lowest numbers stay finite.
fn mask_of_type(m: &mut Match, mask: Id, dtype: DType) -> Result<Id, Miss> {
    let from = m.type_of(mask)?.dtype;
    if from == dtype {
        return Ok(mask);
    }
    let mask = if dtype == DType::F16 {
        let low = m.scalar(from, -3e4)?;
        m.add(Op::Binary(BinaryFn::Max), &[mask, low])?
    } else {
        mask
    };
    m.add(Op::Cast { dtype, saturate: true }, &[mask])
}

/// Keys `[b, g, 1, t, d]` repeated to `[b, g, n, t, d]` and merged to `[b, g·n, t, d]` are the keys of g heads.
fn unrepeated(m: &mut Match) -> Result<Id, Miss> {
    let shared = |m: &mut Match, x: &str, wide: &str, merged: &str| -> Result<Id, Miss> {
        let (from, wide, merged) = (m.shape(x)?, m.dims(wide)?, m.dims(merged)?);
        let ([b, g, n, t, d], [_, h, ..]) = (wide.as_slice(), merged.as_slice()) else {
            return Err(Miss("other axes"));
        };
        require(merged.len() == 4 && *h == g.clone() * n.clone(), "the repeated axis is not merged with the heads")?;
        let expected = [b.clone(), g.clone(), Dim::ONE, t.clone(), d.clone()];
        require(from == expected, "other axes are repeated")?;
        let id = m.id(x)?;
        reshaped(m, id, vec![b.clone(), g.clone(), t.clone(), d.clone()])
    };
    let (k, v) = (shared(m, "k", "t", "s")?, shared(m, "v", "w", "u")?);
    with_keys(m, k, v)
}

/// Keys `[b, 1, t, d]` repeated to `[b, h, t, d]` are the keys of one head.
fn one_head(m: &mut Match) -> Result<Id, Miss> {
    for (x, wide) in [("k", "t"), ("v", "w")] {
        let (from, mut wide) = (m.shape(x)?, m.dims(wide)?);
        require(wide.len() == 4, "other axes")?;
        wide[1] = Dim::ONE;
        require(from == wide, "other axes are repeated")?;
    }
    let (k, v) = (m.id("k")?, m.id("v")?);
    with_keys(m, k, v)
}

fn with_keys(m: &mut Match, k: Id, v: Id) -> Result<Id, Miss> {
    let (scale, q) = (m.real("scale")?, m.id("q")?);
    let mut operands = vec![q, k, v];
    operands.extend(m.id("m").ok());
    m.add(Op::Attention { scale: Real(scale) }, &operands)
}
