//! Sequences and optional values. They exist at import only: a sequence is a list of values whose length is known, an optional value
//! is there or not.

use tarsia_graph::Value;
use tarsia_tensor::{DType, Dim};

use super::{
    Importer::{Items, One},
    Row, Rows,
};
use crate::{
    Fault, Node,
    import::{Ctx, Element, Item, Known, Outcome, axis_of, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[
    Row::new("ConcatFromSequence", 11, One(concat)),
    Row::new("Optional", 15, Items(optional)),
    Row::new("OptionalGetElement", 15, Items(optional_get)),
    Row::new("OptionalHasElement", 15, Items(optional_has)),
    Row::new("SequenceAt", 11, Items(at)),
    Row::new("SequenceConstruct", 11, Items(construct)),
    Row::new("SequenceEmpty", 11, Items(|_, _| Ok(vec![Item::Sequence(Vec::new())]))),
    Row::new("SequenceErase", 11, Items(erase)),
    Row::new("SequenceInsert", 11, Items(insert)),
    Row::new("SequenceLength", 11, Items(length)),
    Row::new("SequenceMap", 17, Items(map)),
    Row::new("SplitToSequence", 11, Items(split)),
];

fn construct<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    Ok(vec![Item::Sequence(ctx.values(node)?.into_iter().map(Item::Tensor).collect())])
}

/// The place that an input names, counted from the end if negative, below `count`; the default if it is left out.
fn place<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, index: usize, count: usize, default: i64) -> Outcome<usize> {
    let place = match ctx.item(node, index) {
        None => default,
        Some(_) => ctx
            .known(node, index)
            .and_then(|known| known.only()?.as_const())
            .ok_or_else(|| unsupported("a place in a sequence that run-time data give"))?,
    };
    axis_of(place, count).map_err(|_| invalid(format!("place {place} of a sequence of {count}")))
}

fn at<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let items = ctx.sequence(node, 0)?;
    let place = place(ctx, node, 1, items.len(), 0)?;
    Ok(items.into_iter().skip(place).take(1).collect())
}

fn insert<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let mut items = ctx.sequence(node, 0)?;
    let item = ctx.item(node, 1).cloned().ok_or(Fault::MissingInput(1))?;
    let end = items.len();
    let place = if ctx.item(node, 2).is_none() { end } else { insertion_place(ctx, node, end)? };
    items.insert(place, item);
    Ok(vec![Item::Sequence(items)])
}

/// As [`place`], but the end is a place too.
fn insertion_place<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, end: usize) -> Outcome<usize> {
    let is_end = ctx.known(node, 2).and_then(|known| known.only()?.as_usize()) == Some(end);
    if is_end { Ok(end) } else { place(ctx, node, 2, end, -1) }
}

fn erase<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let mut items = ctx.sequence(node, 0)?;
    let place = place(ctx, node, 1, items.len(), -1)?;
    items.remove(place);
    Ok(vec![Item::Sequence(items)])
}

fn length<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    Ok(vec![Known::scalar(Dim::from(ctx.sequence(node, 0)?.len())).into()])
}

/// The body applied to each element of the first sequence, other sequences giving their elements in step and tensors themselves.
fn map<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let body = node.attr_graph("body")?;
    let inputs = (0..node.inputs().len()).map(|i| ctx.item(node, i).cloned().ok_or(Fault::MissingInput(i)));
    let inputs = inputs.collect::<Result<Vec<Item>, Fault>>()?;
    let count = ctx.sequence(node, 0)?.len();
    let mut results = vec![Vec::new(); body.outputs().len()];
    for step in 0..count {
        let pick = |item: &Item| match item {
            Item::Sequence(items) => items.get(step).cloned().ok_or_else(|| invalid("the sequences differ in length")),
            other => Ok(other.clone()),
        };
        let arguments = inputs.iter().map(pick).collect::<Outcome<Vec<Item>>>()?;
        for (result, item) in results.iter_mut().zip(ctx.inline(&body, &arguments)?) {
            result.push(item);
        }
    }
    Ok(results.into_iter().map(Item::Sequence).collect())
}

/// All elements joined along an axis, or along a new one.
fn concat<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let items = ctx.sequence(node, 0)?;
    let mut values = items.iter().map(|item| ctx.item_value(item)).collect::<Outcome<Vec<Value>>>()?;
    let &first = values.first().ok_or_else(|| invalid("an empty sequence cannot be joined"))?;
    let new = node.attr_bool_or("new_axis", false)?;
    let axis = axis_of(node.attr_int("axis")?, ctx.rank(first) + usize::from(new))?;
    if new {
        for value in &mut values {
            *value = ctx.unsqueeze(*value, axis)?;
        }
    }
    ctx.concat(&values, axis)
}

/// Parts along an axis: of given sizes, of one size, or (without sizes) single elements, whose axis goes unless `keepdims` holds.
fn split<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let x = ctx.value(node, 0)?;
    let axis = axis_of(node.attr_int_or("axis", 0)?, ctx.rank(x))?;
    let total = ctx.size(x, axis)?;
    let known =
        || total.as_usize().ok_or_else(|| unsupported(format!("a sequence of parts of an axis of size {total}")));
    let given = ctx.item(node, 1).is_some().then(|| ctx.known(node, 1));
    let single = given.is_none();
    let sizes: Vec<Dim> = match given {
        None => vec![Dim::ONE; known()?],
        Some(None) => return Err(unsupported("sizes of parts that run-time data give")),
        Some(Some(sizes)) if sizes.shape.is_empty() => {
            let size = sizes.only().and_then(Dim::as_usize).filter(|&size| size > 0);
            let size = size.ok_or_else(|| invalid("the size of the parts is not positive"))?;
            let (total, parts) = (known()?, known()?.div_ceil(size));
            (0..parts).map(|part| Dim::from(size.min(total - part * size))).collect()
        }
        Some(Some(sizes)) => sizes.dims().ok_or_else(|| invalid("the sizes are no integers"))?,
    };
    let keep = !single || node.attr_bool_or("keepdims", true)?;
    let mut start = Dim::ZERO;
    let mut items = Vec::with_capacity(sizes.len());
    for size in sizes {
        let part = ctx.slice_axis(x, axis, start.clone(), size.clone(), 1)?;
        items.push(Item::Tensor(if keep { part } else { ctx.squeeze(part, &[axis])? }));
        start = start + size;
    }
    Ok(vec![Item::Sequence(items)])
}

fn optional<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    Ok(vec![ctx.item(node, 0).cloned().unwrap_or(Item::Nothing)])
}

fn optional_get<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    ctx.item(node, 0).cloned().map(|item| vec![item]).ok_or_else(|| invalid("the optional value is empty"))
}

fn optional_has<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let there = Element::from(Dim::from(i64::from(ctx.item(node, 0).is_some())));
    Ok(vec![Item::Known(Known { dtype: DType::Bool, shape: Vec::new(), elements: vec![there] })])
}
