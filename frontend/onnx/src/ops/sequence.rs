//! Sequences and optional values.
//!
//! As long as their structure is known they exist at import only: a sequence is a list of values, an optional value is there or not.
//! Otherwise they are whole values of the graph, and the operators become host functions (`import::Form`).

use std::sync::Arc;

use tarsia_graph::{BinaryFn, Op, Type, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    Importer::{Items, One},
    Row, Rows,
};
use crate::{
    Fault, Node,
    import::{Ctx, Element, Form, Item, Known, Outcome, Stop, axis_of, invalid, unsupported},
    view,
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

/// An axis is cut into more parts than this at run time.
const MOST_PARTS: usize = 256;

fn construct<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    Ok(vec![Item::Sequence(ctx.values(node)?.into_iter().map(Item::Tensor).collect())])
}

/// A sequence whose elements are not known at import, and the form of these.
type Stored = (Value, Form);

/// The sequence of an input: its elements, where they are known, or one value.
fn sequence<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, index: usize) -> Outcome<Result<Vec<Item>, Stored>> {
    match ctx.item(node, index).cloned() {
        Some(Item::Sequence(items)) => Ok(Ok(items)),
        Some(Item::Poison) => Err(Stop::Poisoned),
        Some(Item::Whole(value, Form::Sequence(form))) => Ok(Err((value, *form))),
        Some(Item::Whole(value, Form::Optional(form))) => match ctx.element(value, None, &form)? {
            Item::Whole(value, Form::Sequence(form)) => Ok(Err((value, *form))),
            _ => Err(invalid(format!("input {index} is no sequence"))),
        },
        _ => Err(invalid(format!("input {index} is no sequence"))),
    }
}

/// The sequence of an input as one value.
fn stored<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, index: usize) -> Outcome<Stored> {
    match sequence(ctx, node, index)? {
        Err(stored) => Ok(stored),
        Ok(items) => match ctx.whole(&Item::Sequence(items))? {
            (value, Form::Sequence(form)) => Ok((value, *form)),
            _ => Err(invalid(format!("input {index} is no sequence"))),
        },
    }
}

/// The place that an input names, counted from the end if negative, below `count`; the default if it is left out, `None` if run-time
/// data give it.
fn place<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, index: usize, count: usize, default: i64) -> Outcome<Option<usize>> {
    let place = match ctx.item(node, index) {
        None => default,
        Some(_) => match ctx.known(node, index).and_then(|known| known.only()?.as_const()) {
            Some(place) => place,
            None => return Ok(None),
        },
    };
    axis_of(place, count).map(Some).map_err(|_| invalid(format!("place {place} of a sequence of {count}")))
}

fn at<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    if let Ok(items) = sequence(ctx, node, 0)?
        && let Some(place) = place(ctx, node, 1, items.len(), 0)?
    {
        return Ok(items.into_iter().skip(place).take(1).collect());
    }
    let ((value, form), place) = (stored(ctx, node, 0)?, ctx.value(node, 1)?);
    Ok(vec![ctx.element(value, Some(place), &form)?])
}

/// A sequence that a host function gives.
fn changed<'a>(
    ctx: &mut Ctx<'a, '_>,
    function: &str,
    operands: &[Value],
    length: Dim,
    form: Form,
) -> Outcome<Vec<Item>> {
    let types = vec![Type::new(DType::Value, [length])];
    let op = Op::Host { function: function.into(), ints: Vec::new(), reals: Vec::new(), types };
    Ok(vec![Item::Whole(ctx.add(op, operands)?, Form::Sequence(Box::new(form)))])
}

fn insert<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let item = ctx.item(node, 1).cloned().ok_or(Fault::MissingInput(1))?;
    if let Ok(mut items) = sequence(ctx, node, 0)?
        && let Some(place) = insertion_place(ctx, node, items.len())?
    {
        items.insert(place, item);
        return Ok(vec![Item::Sequence(items)]);
    }
    let ((value, form), (new, new_form)) = (stored(ctx, node, 0)?, ctx.whole(&item)?);
    let form = form.join(&new_form).ok_or_else(|| invalid("the element is of another type than the sequence's"))?;
    let operands: Vec<Value> = [value, new].into_iter().chain(ctx.value_opt(node, 2)?).collect();
    let length = ctx.size(value, 0)? + Dim::ONE;
    changed(ctx, "sequence_insert", &operands, length, form)
}

/// As [`place`], but the end is a place too, and the default.
fn insertion_place<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, end: usize) -> Outcome<Option<usize>> {
    let is_end = ctx.known(node, 2).and_then(|known| known.only()?.as_usize()) == Some(end);
    if is_end || ctx.item(node, 2).is_none() { Ok(Some(end)) } else { place(ctx, node, 2, end, -1) }
}

fn erase<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    if let Ok(mut items) = sequence(ctx, node, 0)?
        && let Some(place) = place(ctx, node, 1, items.len(), -1)?
    {
        items.remove(place);
        return Ok(vec![Item::Sequence(items)]);
    }
    let (value, form) = stored(ctx, node, 0)?;
    let operands: Vec<Value> = std::iter::once(value).chain(ctx.value_opt(node, 1)?).collect();
    let length = ctx.size(value, 0)? - Dim::ONE;
    changed(ctx, "sequence_erase", &operands, length, form)
}

fn length<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let length = match sequence(ctx, node, 0)? {
        Ok(items) => Dim::from(items.len()),
        Err((value, _)) => ctx.size(value, 0)?,
    };
    Ok(vec![Known::scalar(length).into()])
}

/// The body applied to each element of the first sequence, other sequences giving their elements in step and tensors themselves.
fn map<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let body = node.attr_graph("body")?;
    let inputs = (0..node.inputs().len()).map(|i| ctx.item(node, i).cloned().ok_or(Fault::MissingInput(i)));
    let inputs = inputs.collect::<Result<Vec<Item>, Fault>>()?;
    if inputs.iter().any(|item| matches!(item, Item::Whole(..))) {
        return mapped(ctx, node, &body, &inputs);
    }
    let Ok(first) = sequence(ctx, node, 0)? else { return Err(invalid("input 0 is no sequence")) };
    let mut results = vec![Vec::new(); body.outputs().len()];
    for step in 0..first.len() {
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

/// The same as a loop that carries the sequences of results.
fn mapped<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, body: &view::Graph<'a>, inputs: &[Item]) -> Outcome<Vec<Item>> {
    let (first, _) = stored(ctx, node, 0)?;
    let length = ctx.size(first, 0)?;
    let given = inputs.iter().map(|item| ctx.whole(item)).collect::<Outcome<Vec<Stored>>>()?;
    let captured = ctx.captures(&[body])?;
    let count = body.outputs().len();
    let mut types = vec![("iteration", Type::new(DType::I64, [])), ("condition", Type::new(DType::Bool, []))];
    let names: Vec<String> = (0..count + given.len()).map(|at| format!("value{at}")).collect();
    for name in &names[..count] {
        types.push((name, Type::new(DType::Value, [ctx.fresh("mapped")])));
    }
    types.extend(names[count..].iter().zip(&given).map(|(name, (value, _))| (name.as_str(), ctx.ty(*value).clone())));
    let mut forms = Vec::new();
    let graph = ctx.sub_graph(body.name(), &types, &body.captures(), &captured, |ctx, own, _| {
        ctx.graph.add_output("condition", own[1]);
        let mut arguments = Vec::new();
        for (&value, (_, form)) in own[2 + count..].iter().zip(&given) {
            arguments.push(match form {
                Form::Sequence(element) => ctx.element(value, Some(own[0]), element)?,
                other => ctx.opened(value, other),
            });
        }
        for (&results, item) in own[2..].iter().zip(ctx.inline(body, &arguments)?) {
            let (new, form) = ctx.whole(&item)?;
            let length = ctx.size(results, 0)? + Dim::ONE;
            for item in changed(ctx, "sequence_insert", &[results, new], length, form)? {
                let (value, form) = ctx.whole(&item)?;
                ctx.graph.add_output(&format!("results{}", forms.len()), value);
                forms.push(form);
            }
        }
        Ok(())
    })?;
    let (trips, goes_on) = (ctx.dim_scalar(&length, DType::I64)?, ctx.scalar(DType::Bool, 1.0));
    let (empty, _) = ctx.whole(&Item::Sequence(Vec::new()))?;
    let mut operands = vec![trips, goes_on];
    operands.extend(std::iter::repeat_n(empty, count));
    operands.extend(given.iter().map(|(value, _)| *value));
    operands.extend(captured.iter().map(|(_, value)| *value));
    let types = vec![Type::new(DType::Value, [length]); count];
    let id = ctx.add_node(Op::Loop { body: Arc::new(graph), carried: count, types }, &operands)?;
    let results = (0..).map(|output| Value { node: id, output });
    Ok(results.zip(forms).map(|(value, form)| Item::Whole(value, form)).collect())
}

/// All elements joined along an axis, or along a new one.
fn concat<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let new = node.attr_bool_or("new_axis", false)?;
    let items = match sequence(ctx, node, 0)? {
        Ok(items) => items,
        Err((value, Form::Tensor(dtype, Some(rank)))) => {
            let axis = axis_of(node.attr_int("axis")?, rank + usize::from(new))?;
            let ints = vec![axis as i64, i64::from(new)];
            return ctx.host("sequence_concat", ints, &[value], dtype, rank + usize::from(new));
        }
        Err(_) => {
            return Err(unsupported("a sequence of which the model does not tell how many axes its elements have"));
        }
    };
    let mut values = items.iter().map(|item| ctx.item_value(item)).collect::<Outcome<Vec<Value>>>()?;
    let &first = values.first().ok_or_else(|| invalid("an empty sequence cannot be joined"))?;
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
    let single = ctx.item(node, 1).is_none();
    let keep = !single || node.attr_bool_or("keepdims", true)?;
    let Some(sizes) = part_sizes(ctx, node, &ctx.size(x, axis)?)? else {
        let operands: Vec<Value> = std::iter::once(x).chain(ctx.value_opt(node, 1)?).collect();
        let length = match operands.get(1).map(|&sizes| ctx.shape(sizes)) {
            None => ctx.size(x, axis)?,
            Some(sizes) => sizes.first().cloned().unwrap_or_else(|| ctx.fresh("split")),
        };
        let types = vec![Type::new(DType::Value, [length])];
        let ints = vec![axis as i64, i64::from(keep)];
        let value =
            ctx.add(Op::Host { function: "sequence_split".into(), ints, reals: Vec::new(), types }, &operands)?;
        let element = Form::Tensor(ctx.dtype(x), Some(ctx.rank(x) - usize::from(!keep)));
        return Ok(vec![Item::Whole(value, Form::Sequence(Box::new(element)))]);
    };
    let mut start = Dim::ZERO;
    let mut items = Vec::with_capacity(sizes.len());
    for size in sizes {
        let part = ctx.slice_axis(x, axis, start.clone(), size.clone(), 1)?;
        items.push(Item::Tensor(if keep { part } else { ctx.squeeze(part, &[axis])? }));
        start = start + size;
    }
    Ok(vec![Item::Sequence(items)])
}

/// The sizes of the parts of an axis, if they are known at import.
fn part_sizes<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, total: &Dim) -> Outcome<Option<Vec<Dim>>> {
    if ctx.item(node, 1).is_none() {
        return Ok(total.as_usize().filter(|&total| total <= MOST_PARTS).map(|total| vec![Dim::ONE; total]));
    }
    let Some(sizes) = ctx.known(node, 1) else { return Ok(None) };
    if !sizes.shape.is_empty() {
        return sizes.dims().map(Some).ok_or_else(|| invalid("the sizes are no integers"));
    }
    let (Some(size), Some(total)) = (sizes.only().and_then(Dim::as_const), total.as_usize()) else { return Ok(None) };
    let size = usize::try_from(size).ok().filter(|&size| size > 0);
    let size = size.ok_or_else(|| invalid("the size of the parts is not positive"))?;
    let parts = total.div_ceil(size);
    let sizes = (0..parts).map(|part| Dim::from(size.min(total - part * size)));
    Ok((parts <= MOST_PARTS).then(|| sizes.collect()))
}

/// A value that may be there, or not: what it holds, or nothing of a type.
fn optional<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    Ok(vec![ctx.item(node, 0).cloned().unwrap_or(Item::Nothing)])
}

fn optional_get<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    match ctx.item(node, 0).cloned() {
        None => Err(invalid("the optional value is empty")),
        Some(Item::Whole(value, Form::Optional(form))) => Ok(vec![ctx.element(value, None, &form)?]),
        Some(item) => Ok(vec![item]),
    }
}

fn optional_has<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let there = match ctx.item(node, 0).cloned() {
        None => 0,
        Some(Item::Whole(value, Form::Optional(_))) => {
            let length = ctx.size(value, 0)?;
            match length.as_const() {
                Some(length) => length.min(1),
                None => {
                    let length = ctx.dim_scalar(&length, DType::I64)?;
                    return Ok(vec![ctx.with_scalar(BinaryFn::Gt, length, 0.0)?.into()]);
                }
            }
        }
        Some(_) => 1,
    };
    let there = Element::from(Dim::from(there));
    Ok(vec![Item::Known(Known { dtype: DType::Bool, shape: Vec::new(), elements: vec![there] })])
}
