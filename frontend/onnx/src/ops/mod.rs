//! The operator table: one row per ONNX operator, one file per family, each operator one importer function.
//!
//! An importer looks at the node (attributes, version) and adds core ops for it; operators that are one point-wise function need a
//! row only. What changed between versions of an operator is handled inside its importer (`node.since(version)`).

mod activation;
mod attention;
mod classical;
mod constant;
mod contract;
mod control;
mod convolution;
mod einsum;
mod gather;
mod image;
mod index;
mod loss;
mod microsoft;
mod movement;
mod normalisation;
mod order;
mod pad;
mod pointwise;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod region;
mod resize;
mod sampling;
mod selection;
mod sequence;
mod shape;
mod signal;
mod strings;
mod training;
mod transformer;

use std::sync::LazyLock;

use rustc_hash::FxHashMap;
use tarsia_graph::{BinaryFn, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use crate::{
    Node,
    import::{Ctx, Item, Outcome, axis_of, invalid},
};

pub(crate) use pointwise::operands;
use recurrent::fused_activation;

/// How a node is imported.
#[derive(Clone, Copy)]
pub(crate) enum Importer {
    /// A point-wise function of the only input.
    Unary(UnaryFn),
    /// A point-wise function of two inputs of one type, which broadcast.
    Binary(BinaryFn),
    /// Gives the only output.
    One(for<'a> fn(&mut Ctx<'a, '_>, &Node<'a>) -> Outcome<Value>),
    /// Gives the outputs, as many as the operator has or the node names.
    Values(for<'a> fn(&mut Ctx<'a, '_>, &Node<'a>) -> Outcome<Vec<Value>>),
    /// Gives outputs that need not be tensors.
    Items(for<'a> fn(&mut Ctx<'a, '_>, &Node<'a>) -> Outcome<Vec<Item>>),
}

/// One operator.
pub(crate) struct Row {
    pub domain: &'static str,
    pub name: &'static str,
    /// The first version of the domain that has the operator, in a form that is imported.
    pub since: i64,
    /// The version that removed it.
    pub until: Option<i64>,
    pub import: Importer,
}

impl Row {
    /// An operator of ONNX's own domain.
    const fn new(name: &'static str, since: i64, import: Importer) -> Row {
        Row { domain: "", name, since, until: None, import }
    }

    /// Whether a version of the domain has the operator, in a form that is imported.
    pub fn covers(&self, version: i64) -> bool {
        self.since <= version && self.until.is_none_or(|until| version < until)
    }

    /// The same operator of another domain.
    const fn of(mut self, domain: &'static str) -> Row {
        self.domain = domain;
        self
    }

    /// The same operator, removed from a version on.
    const fn until(mut self, version: i64) -> Row {
        self.until = Some(version);
        self
    }
}

/// A family of operators.
type Rows = &'static [Row];

const FAMILIES: &[Rows] = &[
    activation::ROWS,
    attention::ROWS,
    classical::ROWS,
    constant::ROWS,
    control::ROWS,
    contract::ROWS,
    convolution::ROWS,
    einsum::ROWS,
    gather::ROWS,
    image::ROWS,
    index::ROWS,
    loss::ROWS,
    movement::ROWS,
    normalisation::ROWS,
    order::ROWS,
    pad::ROWS,
    pointwise::ROWS,
    pool::ROWS,
    quantize::ROWS,
    recurrent::ROWS,
    reduce::ROWS,
    region::ROWS,
    resize::ROWS,
    sampling::ROWS,
    selection::ROWS,
    sequence::ROWS,
    shape::ROWS,
    signal::ROWS,
    strings::ROWS,
    training::ROWS,
    transformer::ROWS,
];

/// All rows.
fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().chain(microsoft::FAMILIES).copied().flatten()
}

/// The domains and names of all operators that are imported, sorted.
pub fn operators() -> Vec<(&'static str, &'static str)> {
    let mut names: Vec<_> = rows().map(|row| (row.domain, row.name)).collect();
    names.sort_unstable();
    names
}

/// The row of an operator.
pub(crate) fn find(domain: &str, name: &str) -> Option<&'static Row> {
    static TABLE: LazyLock<FxHashMap<(&str, &str), &Row>> =
        LazyLock::new(|| rows().map(|row| ((row.domain, row.name), row)).collect());
    TABLE.get(&(domain, name)).copied()
}

/// The axes of an operator that has them as the attribute `axes` in old versions and as an input in new ones, below `rank`; `None`
/// if the node gives none.
fn axes<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, input: usize, rank: usize) -> Outcome<Option<Vec<usize>>> {
    let axes = match ctx.const_ints(node, input, "axes")? {
        Some(axes) => axes,
        None => match node.attr_ints_opt("axes")? {
            Some(axes) => axes.to_vec(),
            None => return Ok(None),
        },
    };
    let mut seen = vec![false; rank];
    for &axis in &axes {
        let axis = axis_of(axis, rank)?;
        if seen.get_mut(axis).is_some_and(|seen| std::mem::replace(seen, true)) {
            return Err(invalid(format!("axis {axis} is given twice")));
        }
    }
    axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<Outcome<Vec<_>>>().map(Some)
}

/// Axes that are run-time data, as an i64 vector that has 1 for each axis below `rank` that is among them and else 0; and how many
/// there are.
fn runtime_axes(ctx: &mut Ctx<'_, '_>, given: Value, rank: usize) -> Outcome<(Value, usize)> {
    let count = ctx.vector_length(given)?;
    let given = ctx.cast(given, DType::I64)?;
    let (wide, rank) = (Dim::from(count), Dim::from(rank));
    let given = ctx.indices(given, &rank)?;
    let given = ctx.reshape(given, &[wide.clone(), Dim::ONE])?;
    let places = ctx.iota(DType::I64, &[wide, rank.clone()], 1)?;
    let hit = ctx.binary(BinaryFn::Eq, given, places)?;
    let hit = ctx.cast(hit, DType::I64)?;
    let flags = ctx.reduce(ReduceFn::Max, hit, &[0])?;
    let flags = ctx.with_scalar(BinaryFn::Max, flags, 0.0)?;
    Ok((ctx.reshape(flags, &[rank])?, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_has_two_rows() {
        let mut names: Vec<(&str, &str)> = rows().map(|row| (row.domain, row.name)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
