//! Latent attention: keys and values that are products of one cached vector per position with weights per head.
//!
//! ```text
//! softmax(q·(c·K))·(c·V)   =   (softmax((q·K)·c)·c)·V
//! ```
//! The products are associated the other way round: on the left all positions of the cache are expanded to keys and values of
//! every head, on the right the queries are brought to the latent space and the results back, and all heads share the latents as
//! keys and values. The right side does less where there are few queries to many positions (decoding), the left side where there
//! are as many (prefill). Both forms stay in the e-graph; the cost of kernels decides.

use egg::Id;
use tarsia_graph::{Contraction, Op, Real};
use tarsia_tensor::{DType, Dim};

use super::{
    contraction::{reshaped, transposed},
    exact, require,
};
use crate::rule::{Class, Match, Miss, Rule};

#[rustfmt::skip]
pub(super) fn rules() -> Vec<Rule> {
    let built = |name: &str, left: &str, build| Rule::built(name, Class::Reassociating, left, build);
    vec![
        // A weight is cut and split in place of the product with it.
        Rule::built("split-contract", Class::Exact, "(reshape ?u (contract ?spec ?d ?x ?w))",        split_columns),
        Rule::built("slice-contract", Class::Exact, "(slice ?s ?n ?e (contract ?spec ?d ?x ?w))",    sliced_columns),
        Rule::built("concat-contract", Class::Exact, "(concat ?axis (contract ?spec ?d ?x ?v) (contract ?spec ?d ?x ?w))", joined_columns),
        // Movement that both parts share.
        exact("transpose-concat",  "(concat ?axis (transpose ?p ?a) (transpose ?p ?b))", "(transpose ?p (concat ?r ?a ?b))", &[axis_before]),
        // Values: attention(q, k, c·V) = attention(q, k, c)·V.
        built("attention-latent-values",      "(attention ?scale ?q ?k (contract ?spec ?d ?c ?w))",    latent_values),
        built("attention-latent-values-mask", "(attention ?scale ?q ?k (contract ?spec ?d ?c ?w) ?m)", latent_values),
        // Keys, of which a part may be the same for all heads: q₁·(c·K) + q₂·r = [q₁·K, q₂]·[c, r].
        built("attention-latent-keys",             "(attention ?scale ?q (contract ?spec ?d ?c ?w) ?v)",                                  latent_keys),
        built("attention-latent-keys-mask",        "(attention ?scale ?q (contract ?spec ?d ?c ?w) ?v ?m)",                               latent_keys),
        built("attention-latent-keys-shared",      "(attention ?scale ?q (concat ?axis (contract ?spec ?d ?c ?w) (broadcast ?t ?r)) ?v)",    latent_keys),
        built("attention-latent-keys-shared-mask", "(attention ?scale ?q (concat ?axis (contract ?spec ?d ?c ?w) (broadcast ?t ?r)) ?v ?m)", latent_keys),
    ]
}

/// The axis `?axis` of a transposed value is `?r` of the value.
fn axis_before(m: &mut Match) -> Result<(), Miss> {
    let (axis, perm) = (m.axis("axis")?, m.axes("p")?);
    require(m.ty("a")?.rank() == m.ty("b")?.rank(), "ranks differ")?;
    let before = *perm.get(axis).ok_or(Miss("no such axis"))?;
    m.bind_attr("r", tarsia_graph::Attr::Int(before as i64))
}

/// A reshape that only splits columns of a constant splits the constant's axes.
fn split_columns(m: &mut Match) -> Result<Id, Miss> {
    require(m.facts("w")?.fixed && !m.facts("x")?.fixed, "not a weight")?;
    let (spec, dtype) = (m.spec("spec")?, m.dtype("d")?);
    let (fine, weight) = (m.dims("u")?, m.shape("w")?);
    let coarse = result_sizes(m, &spec)?;
    let groups = super::movement::groups(&fine, &coarse).ok_or(Miss("does not only split axes"))?;
    let columns = spec.columns();
    let (mut fresh, mut out, mut split) = (fresh_letters(&spec), Vec::new(), Vec::new());
    for (&letter, group) in spec.out.iter().zip(&groups) {
        if group.len() == 1 {
            out.push(letter);
            continue;
        }
        require(columns.contains(&letter), "an axis is split that is no column")?;
        let letters: Vec<u8> =
            group.clone().map(|_| fresh.next().ok_or(Miss("too many axes"))).collect::<Result<_, _>>()?;
        out.extend(&letters);
        split.push((letter, letters, fine[group.clone()].to_vec()));
    }
    require(!split.is_empty(), "no axis is split")?;
    let (mut rhs, mut shape) = (Vec::new(), Vec::new());
    for (&letter, size) in spec.rhs.iter().zip(&weight) {
        match split.iter().find(|(from, ..)| *from == letter) {
            Some((_, letters, sizes)) => {
                rhs.extend(letters);
                shape.extend_from_slice(sizes);
            }
            None => {
                rhs.push(letter);
                shape.push(size.clone());
            }
        }
    }
    let (x, w) = (m.id("x")?, m.id("w")?);
    let w = reshaped(m, w, shape)?;
    m.add(Op::Contract { spec: Contraction { lhs: spec.lhs, rhs, out }.canonical(), dtype }, &[x, w])
}

/// A slice that leaves all but columns of a constant whole is a product with a slice of the constant.
fn sliced_columns(m: &mut Match) -> Result<Id, Miss> {
    require(m.facts("w")?.fixed && !m.facts("x")?.fixed, "not a weight")?;
    let (spec, dtype, weight) = (m.spec("spec")?, m.dtype("d")?, m.shape("w")?);
    let (starts, sizes, steps) = (m.dims("s")?, m.dims("n")?, m.ints("e")?);
    let (whole, columns) = (result_sizes(m, &spec)?, spec.columns());
    let mut cut = (vec![Dim::ZERO; weight.len()], weight, vec![1; spec.rhs.len()]);
    for (axis, letter) in spec.out.iter().enumerate() {
        if starts[axis].is(0) && steps[axis] == 1 && sizes[axis] == whole[axis] {
            continue;
        }
        require(columns.contains(letter), "an axis is cut that is no column")?;
        let place = spec.rhs.iter().position(|l| l == letter).ok_or(Miss("an axis is missing"))?;
        (cut.0[place], cut.1[place], cut.2[place]) = (starts[axis].clone(), sizes[axis].clone(), steps[axis]);
    }
    let (x, w) = (m.id("x")?, m.id("w")?);
    let w = m.add(Op::Slice { starts: cut.0, sizes: cut.1, steps: cut.2 }, &[w])?;
    m.add(Op::Contract { spec, dtype }, &[x, w])
}

/// Products with two constants side by side are one with both side by side; so is a shuffle of columns one of the constant.
fn joined_columns(m: &mut Match) -> Result<Id, Miss> {
    require(m.facts("v")?.fixed && m.facts("w")?.fixed && !m.facts("x")?.fixed, "not a weight")?;
    let (spec, dtype) = (m.spec("spec")?, m.dtype("d")?);
    let letter = *spec.out.get(m.axis("axis")?).ok_or(Miss("no such axis"))?;
    require(spec.columns().contains(&letter), "an axis is joined that is no column")?;
    let axis = spec.rhs.iter().position(|l| *l == letter).ok_or(Miss("an axis is missing"))?;
    let (x, v, w) = (m.id("x")?, m.id("v")?, m.id("w")?);
    let w = m.add(Op::Concat { axis }, &[v, w])?;
    m.add(Op::Contract { spec, dtype }, &[x, w])
}

/// The sizes of the result of `?spec` on `?x` and `?w`.
fn result_sizes(m: &Match, spec: &Contraction) -> Result<Vec<Dim>, Miss> {
    let (x, w) = (m.shape("x")?, m.shape("w")?);
    let sized = || spec.lhs.iter().zip(&x).chain(spec.rhs.iter().zip(&w));
    let size = |letter: &u8| sized().find(|(l, _)| *l == letter).map(|(_, dim)| dim.clone());
    spec.out.iter().map(size).collect::<Option<_>>().ok_or(Miss("ranks differ"))
}

fn fresh_letters(spec: &Contraction) -> impl Iterator<Item = u8> + use<> {
    let used: Vec<u8> = [&spec.lhs[..], &spec.rhs, &spec.out].concat();
    (b'a'..=b'z').chain(b'A'..=b'Z').filter(move |letter| !used.contains(letter))
}

/// One vector per position that all heads share, and what each head makes of it.
struct Latent {
    /// `[batch, 1, positions, rank]`.
    vectors: Id,
    weight: Id,
    /// The letters of the weight's axes: `h` head, `r` rank, `d` what comes out.
    letters: Vec<u8>,
    /// Sizes of batch, heads, positions and rank.
    sizes: [Dim; 4],
    /// Size of what comes out.
    width: Dim,
}

/// `?c·?w`, with axes batch, head, position and width, as a latent and its weight.
fn latent(m: &mut Match) -> Result<Latent, Miss> {
    let (spec, q) = (m.spec("spec")?, m.ty("q")?.clone());
    require(m.dtype("d")? == q.dtype && m.ty("c")?.dtype == q.dtype, "types differ")?;
    require(m.facts("w")?.fixed, "not a weight")?;
    let &[batch, head, position, width] = spec.out.as_slice() else { return Err(Miss("other axes")) };
    let &[rank] = spec.summed().as_slice() else { return Err(Miss("several axes are summed")) };
    let (c, w) = (m.shape("c")?, m.shape("w")?);
    let size = |letters: &[u8], shape: &[Dim], letter: u8| {
        letters.iter().position(|&l| l == letter).and_then(|axis| shape.get(axis)).cloned().ok_or(Miss("other axes"))
    };
    require(spec.lhs.len() == 3 && spec.rhs.len() == 3, "the latent has an axis of heads, or the weight of positions")?;
    let sizes = [
        size(&spec.lhs, &c, batch)?,
        size(&spec.rhs, &w, head)?,
        size(&spec.lhs, &c, position)?,
        size(&spec.lhs, &c, rank)?,
    ];
    let of_width = size(&spec.rhs, &w, width)?;
    require(q.shape[1] == sizes[1], "queries share heads")?;
    let perm = [batch, position, rank].iter().filter_map(|l| spec.lhs.iter().position(|o| o == l)).collect();
    let (c, weight) = (m.id("c")?, m.id("w")?);
    let vectors = transposed(m, c, perm)?;
    let vectors = reshaped(m, vectors, vec![sizes[0].clone(), Dim::ONE, sizes[2].clone(), sizes[3].clone()])?;
    let role = |&letter: &u8| {
        if letter == head {
            b'h'
        } else if letter == rank {
            b'r'
        } else {
            b'd'
        }
    };
    let letters = spec.rhs.iter().map(role).collect();
    Ok(Latent { vectors, weight, letters, sizes, width: of_width })
}

impl Latent {
    /// `x` with axes `bhs` and one more of the weight, times the weight: `bhs` and the other one.
    fn times(&self, m: &mut Match, x: Id, from: u8, to: u8, dtype: DType) -> Result<Id, Miss> {
        let term = |last: u8| vec![b'b', b'h', b's', last];
        let spec = Contraction { lhs: term(from), rhs: self.letters.clone(), out: term(to) };
        m.add(Op::Contract { spec: spec.canonical(), dtype }, &[x, self.weight])
    }

    /// A value of one head repeated for all heads.
    fn repeated(&self, m: &mut Match, x: Id) -> Result<Id, Miss> {
        let mut shape = m.type_of(x)?.shape.clone();
        shape[1] = self.sizes[1].clone();
        m.add(Op::Broadcast { shape }, &[x])
    }
}

fn attend(m: &mut Match, operands: [Id; 3]) -> Result<Id, Miss> {
    let mut operands = operands.to_vec();
    operands.extend(m.id("m").ok());
    let scale = Real(m.real("scale")?);
    m.add(Op::Attention { scale }, &operands)
}

fn latent_values(m: &mut Match) -> Result<Id, Miss> {
    let (latent, dtype) = (latent(m)?, m.dtype("d")?);
    let values = latent.repeated(m, latent.vectors)?;
    let (q, k) = (m.id("q")?, m.id("k")?);
    let attended = attend(m, [q, k, values])?;
    latent.times(m, attended, b'r', b'd', dtype)
}

fn latent_keys(m: &mut Match) -> Result<Id, Miss> {
    let (latent, dtype) = (latent(m)?, m.dtype("d")?);
    let (q, v) = (m.id("q")?, m.id("v")?);
    let queries = m.type_of(q)?.shape.clone();
    let Ok(shared) = m.id("r") else {
        let q = latent.times(m, q, b'd', b'r', dtype)?;
        let keys = latent.repeated(m, latent.vectors)?;
        return attend(m, [q, keys, v]);
    };
    let rest = m.type_of(shared)?.shape.clone();
    let [batch, _, positions, _] = &latent.sizes;
    require(m.axis("axis")? == 3 && rest.len() == 4, "not joined along the depth")?;
    require(rest[0] == *batch && rest[1].is(1) && rest[2] == *positions, "the other part differs between heads")?;
    let part = |m: &mut Match, start: Dim, size: Dim| {
        let starts = vec![Dim::ZERO, Dim::ZERO, Dim::ZERO, start];
        let sizes = vec![queries[0].clone(), queries[1].clone(), queries[2].clone(), size];
        m.add(Op::Slice { starts, sizes, steps: vec![1; 4] }, &[q])
    };
    let (first, second) = (part(m, Dim::ZERO, latent.width.clone())?, part(m, latent.width.clone(), rest[3].clone())?);
    let first = latent.times(m, first, b'd', b'r', dtype)?;
    let q = m.add(Op::Concat { axis: 3 }, &[first, second])?;
    let keys = m.add(Op::Concat { axis: 3 }, &[latent.vectors, shared])?;
    let keys = latent.repeated(m, keys)?;
    attend(m, [q, keys, v])
}
