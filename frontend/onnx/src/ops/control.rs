//! Branches and loops.
//!
//! A branch whose condition is known at import is put in place of the node, and so is a short loop with a known number of iterations.
//! All others become control ops with the bodies as graphs of their own. What a loop carries keeps the sizes that every iteration
//! leaves as they are; the others become symbols that each iteration gives new values (`steady`).

mod branch;

use std::{collections::BTreeSet, sync::Arc};

use tarsia_graph::{Graph, Kind, Op, Type, Value};
use tarsia_tensor::{DType, Dim, Symbol, Tensor};

use super::{
    Importer::{Items, Values},
    Row, Rows,
};
use crate::{
    Fault, Node,
    import::{Ctx, Form, Item, Known, Outcome, axis_of, invalid, unsupported},
    view,
};

pub(super) const ROWS: Rows =
    &[Row::new("If", 1, Items(branch::branch)), Row::new("Loop", 1, Items(repeat)), Row::new("Scan", 8, Values(scan))];

/// Loops with more iterations, or more nodes in all iterations, stay loops.
const MOST_TRIPS: i64 = 32;
const MOST_NODES: usize = 2048;

/// Symbols of sizes that mean nothing outside of a body: those that its own nodes introduce.
fn inner_symbols(body: &Graph, outer: &[&Type]) -> BTreeSet<Symbol> {
    let mut inner = BTreeSet::new();
    let makes = |id: &tarsia_graph::NodeId| matches!(body[*id].op.kind(), Kind::Host | Kind::Control);
    for ty in body.node_ids().filter(makes).flat_map(|id| &body[id].types) {
        ty.shape.iter().for_each(|dim| dim.collect_symbols(&mut inner));
    }
    for ty in outer {
        for symbol in ty.shape.iter().flat_map(Dim::symbols) {
            inner.remove(&symbol);
        }
    }
    inner
}

/// A size of a body's result as the surrounding graph has it.
fn outside(ctx: &mut Ctx<'_, '_>, dim: &Dim, inner: &BTreeSet<Symbol>, what: &str) -> Dim {
    if dim.symbols().is_disjoint(inner) { dim.clone() } else { ctx.fresh(what) }
}

fn output_type(body: &Graph, index: usize) -> Outcome<Type> {
    let output = body.outputs().get(index).ok_or_else(|| invalid(format!("its body has no output {index}")))?;
    Ok(body.ty(output.value).clone())
}

fn results(node: tarsia_graph::NodeId, count: usize) -> Vec<Value> {
    (0..count as u32).map(|output| Value { node, output }).collect()
}

/// The only truth value of an input, if it is known.
fn known_truth(item: Option<&Item>, ctx: &Ctx<'_, '_>) -> Option<bool> {
    let known = match item? {
        Item::Known(known) => known.clone(),
        Item::Tensor(value) => ctx.known_value(*value)?,
        _ => return None,
    };
    Some(known.only()?.as_const()? != 0)
}

/// What values of these forms stand for; those without a form are tensors.
fn opened(ctx: &Ctx<'_, '_>, values: Vec<Value>, forms: &[Option<Form>]) -> Vec<Item> {
    let form = |index: usize| forms.get(index).and_then(Option::as_ref);
    let item = |(index, value)| form(index).map_or(Item::Tensor(value), |form| ctx.opened(value, form));
    values.into_iter().enumerate().map(item).collect()
}

/// A loop body whose carried values have types that hold in every iteration.
struct Steady {
    body: Graph,
    /// Types and forms of the carried values as the body has them.
    types: Vec<(Type, Form)>,
    /// The symbols that stand for the sizes that change.
    changing: BTreeSet<Symbol>,
}

/// Imports a body that takes `before`, carried values and `after`, and gives the carried values again from output `first` on.
fn steady<'a>(
    ctx: &mut Ctx<'a, '_>,
    body: &view::Graph<'a>,
    before: &[Type],
    carried: Vec<(Type, Form)>,
    after: &[Type],
    captured: &[(&'a str, Value)],
    first: usize,
) -> Outcome<Steady> {
    steady_of(ctx, carried, first, |ctx, types| {
        let plain = |ty: &Type| (ty.clone(), form_of(ty));
        let inputs: Vec<(Type, Form)> =
            before.iter().map(plain).chain(types.iter().cloned()).chain(after.iter().map(plain)).collect();
        let whole = types.iter().map(|(_, form)| Some(form.clone()).filter(Form::is_whole));
        let targets: Vec<Option<Form>> = std::iter::repeat_n(None, first).chain(whole).collect();
        ctx.body(body, &inputs, &targets, captured)
    })
}

/// The form of a tensor.
fn form_of(ty: &Type) -> Form {
    Form::Tensor(ty.dtype, Some(ty.rank()))
}

/// The same of a body that `build` makes for carried values of given types; it gives the forms of its outputs too.
fn steady_of<'a, 'o>(
    ctx: &mut Ctx<'a, 'o>,
    carried: Vec<(Type, Form)>,
    first: usize,
    mut build: impl FnMut(&mut Ctx<'a, 'o>, &[(Type, Form)]) -> Outcome<(Graph, Vec<Form>)>,
) -> Outcome<Steady> {
    let mut types = carried;
    let mut changing = BTreeSet::new();
    loop {
        let (graph, forms) = build(ctx, &types)?;
        let mut changed = false;
        for (index, (ty, form)) in types.iter_mut().enumerate() {
            if form.is_whole() {
                let next = forms.get(first + index).and_then(|next| form.join(next));
                let next = next.ok_or_else(|| invalid(format!("carried value {index} changes its type")))?;
                changed |= std::mem::replace(form, next.clone()) != next;
            }
            let next = output_type(&graph, first + index)?;
            if next.dtype != ty.dtype || next.rank() != ty.rank() {
                return Err(unsupported(format!(
                    "carried value {index} that is {ty} before and {next} after an iteration"
                )));
            }
            for (size, next) in ty.shape.iter_mut().zip(&next.shape) {
                let known = size.as_symbol().is_some_and(|symbol| changing.contains(symbol));
                if size != next && !known {
                    *size = ctx.fresh("carried");
                    changing.extend(size.as_symbol().cloned());
                    changed = true;
                }
            }
        }
        if !changed {
            return Ok(Steady { body: graph, types, changing });
        }
    }
}

impl Steady {
    /// The types of the carried values after the loop.
    fn carried(&self, ctx: &mut Ctx<'_, '_>) -> Vec<Type> {
        let own = |ctx: &mut Ctx<'_, '_>, ty: &Type| {
            let shape: Vec<Dim> = ty.shape.iter().map(|dim| outside(ctx, dim, &self.changing, "carried")).collect();
            Type::new(ty.dtype, shape)
        };
        self.types.iter().map(|(ty, _)| own(ctx, ty)).collect()
    }

    /// The forms of the carried values that are whole ones.
    fn forms(&self) -> Vec<Option<Form>> {
        self.types.iter().map(|(_, form)| Some(form.clone()).filter(Form::is_whole)).collect()
    }

    /// The types of the body's outputs from `first` on as slices outside of the loop.
    fn slices(&self, ctx: &mut Ctx<'_, '_>, first: usize, outer: &[&Type]) -> Outcome<Vec<Type>> {
        let inner = &inner_symbols(&self.body, outer) | &self.changing;
        let mut types = Vec::new();
        for index in first..self.body.outputs().len() {
            let ty = output_type(&self.body, index)?;
            let shape: Vec<Dim> = ty.shape.iter().map(|dim| outside(ctx, dim, &inner, "scanned")).collect();
            types.push(Type::new(ty.dtype, shape));
        }
        Ok(types)
    }
}

fn repeat<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let body = node.attr_graph("body")?;
    let carried = node.inputs().len().saturating_sub(2);
    if body.inputs().len() != carried + 2 || body.outputs().len() < carried + 1 {
        return Err(invalid(format!(
            "it carries {carried} values, but its body has {} inputs and {} outputs",
            body.inputs().len(),
            body.outputs().len()
        )));
    }
    match unrolled(ctx, node, &body, carried)? {
        Some(items) => Ok(items),
        None => looped(ctx, node, &body, carried),
    }
}

/// The iterations one after the other, where their number is known and small.
fn unrolled<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    body: &view::Graph<'a>,
    carried: usize,
) -> Outcome<Option<Vec<Item>>> {
    let trips = ctx.known(node, 0).and_then(|known| known.only().and_then(Dim::as_const));
    let Some(trips) = trips.filter(|trips| (1..=MOST_TRIPS).contains(trips)) else { return Ok(None) };
    let starts = ctx.item(node, 1).is_none() || known_truth(ctx.item(node, 1), ctx) == Some(true);
    if !starts || body.nodes().len().saturating_mul(trips as usize) > MOST_NODES {
        return Ok(None);
    }
    let truth = Known { dtype: DType::Bool, shape: Vec::new(), elements: vec![Dim::ONE.into()] };
    let initial: Option<Vec<Item>> = (0..carried).map(|index| ctx.item(node, index + 2).cloned()).collect();
    let mut values = initial.ok_or_else(|| invalid("a carried value has no initial value"))?;
    let mut stacks: Vec<Vec<Value>> = vec![Vec::new(); body.outputs().len() - carried - 1];
    for trip in 0..trips {
        let mut inputs = vec![Item::Known(Known::scalar(Dim::Const(trip))), Item::Known(truth.clone())];
        inputs.append(&mut values);
        let mut outputs = ctx.inline(body, &inputs)?.into_iter();
        let going = outputs.next();
        values = outputs.by_ref().take(carried).collect();
        for (stack, item) in stacks.iter_mut().zip(outputs) {
            let value = ctx.item_value(&item)?;
            stack.push(ctx.unsqueeze(value, 0)?);
        }
        match known_truth(going.as_ref(), ctx) {
            Some(true) => {}
            Some(false) => break,
            // The data decide: what was added is not used, and goes with all that is not.
            None => return Ok(None),
        }
    }
    for stack in stacks {
        values.push(ctx.concat(&stack, 0)?.into());
    }
    Ok(Some(values))
}

fn looped<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, body: &view::Graph<'a>, carried: usize) -> Outcome<Vec<Item>> {
    let most = ctx.known(node, 0).and_then(|known| known.only().cloned());
    let mut operands = vec![
        match ctx.value_opt(node, 0)? {
            Some(trips) => {
                let trips = ctx.reshape(trips, &[])?;
                ctx.cast(trips, DType::I64)?
            }
            None => ctx.add_constant(Tensor::scalar(i64::MAX)),
        },
        match ctx.value_opt(node, 1)? {
            Some(condition) => ctx.reshape(condition, &[])?,
            None => ctx.scalar(DType::Bool, 1.0),
        },
    ];
    let starts = known_truth(Some(&Item::Tensor(operands[1])), ctx) == Some(true);
    let mut initial = Vec::with_capacity(carried);
    for index in 0..carried {
        let declared = body.inputs().get(index + 2).and_then(Ctx::declared_whole);
        let name = node.input(index + 2).ok_or(Fault::MissingInput(index + 2))?;
        let item = ctx.raw_item(name).ok_or_else(|| Fault::Undefined(name.to_owned()))?;
        let (value, form) = match declared {
            Some(form) => (ctx.coerced(&item, &form)?, form),
            None => ctx.whole(&item)?,
        };
        operands.push(value);
        initial.push((ctx.ty(value).clone(), form));
    }
    let captured = ctx.captures(&[body])?;
    let control = [Type::new(DType::I64, []), Type::new(DType::Bool, [])];
    let steady = steady(ctx, body, &control, initial, &[], &captured, 1)?;
    let forms = steady.forms();
    operands.extend(captured.iter().map(|(_, value)| *value));
    let outer: Vec<Type> = operands.iter().map(|&value| ctx.ty(value).clone()).collect();
    let outer: Vec<&Type> = outer.iter().collect();
    let mut types = steady.carried(ctx);
    let length = match most.filter(|_| starts && goes_on(&steady.body)) {
        Some(most) => most.maximum(&Dim::ZERO),
        None => ctx.fresh("loop"),
    };
    for mut ty in steady.slices(ctx, carried + 1, &outer)? {
        ty.shape.insert(0, length.clone());
        types.push(ty);
    }
    let count = types.len();
    let id = ctx.add_node(Op::Loop { body: Arc::new(steady.body), carried, types }, &operands)?;
    Ok(opened(ctx, results(id, count), &forms))
}

/// At most `trips` iterations of what `build` adds: it takes the iteration's number and the carried values, and gives the condition of
/// the next iteration and the carried values after this one. The body may use the graphs in `used`. Gives the carried values.
pub(super) fn carried_loop<'a, 'o>(
    ctx: &mut Ctx<'a, 'o>,
    trips: Value,
    initial: &[Value],
    used: &[&view::Graph<'a>],
    mut build: impl FnMut(&mut Ctx<'a, 'o>, Value, &[Value]) -> Outcome<Vec<Value>>,
) -> Outcome<Vec<Value>> {
    let captured = ctx.captures(used)?;
    let names: Vec<&'a str> = used.iter().flat_map(|graph| graph.captures()).collect();
    let types = initial.iter().map(|&value| ctx.ty(value).clone()).map(|ty| (ty.clone(), form_of(&ty))).collect();
    let steady = steady_of(ctx, types, 1, |ctx, types| {
        let mut inputs = vec![("iteration", Type::new(DType::I64, [])), ("condition", Type::new(DType::Bool, []))];
        inputs.extend(types.iter().map(|(ty, _)| ("carried", ty.clone())));
        let graph = ctx.sub_graph("loop", &inputs, &names, &captured, |ctx, own, _| {
            for value in build(ctx, own[0], &own[2..])? {
                ctx.graph.add_output("carried", value);
            }
            Ok(())
        })?;
        Ok((graph, Vec::new()))
    })?;
    let going = ctx.scalar(DType::Bool, 1.0);
    let operands: Vec<Value> = [trips, going]
        .into_iter()
        .chain(initial.iter().copied())
        .chain(captured.iter().map(|(_, value)| *value))
        .collect();
    let types = steady.carried(ctx);
    let id = ctx.add_node(Op::Loop { body: Arc::new(steady.body), carried: initial.len(), types }, &operands)?;
    Ok(results(id, initial.len()))
}

/// Whether a body that is entered with a true condition always gives a true one.
fn goes_on(body: &Graph) -> bool {
    let Some(output) = body.outputs().first() else { return false };
    match &body[output.value.node].op {
        Op::Input { index, .. } => *index == 1,
        Op::Constant { value } => value.numbers().is_ok_and(|numbers| numbers.to_i64() == [1]),
        _ => false,
    }
}

fn scan<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let body = node.attr_graph("body")?;
    let shift = usize::from(!node.since(9));
    if shift == 1 && ctx.item(node, 0).is_some() {
        return Err(unsupported("sequence lengths of a scan"));
    }
    let count = node.inputs().len().saturating_sub(shift);
    let scanned = usize::try_from(node.attr_int("num_scan_inputs")?).ok().filter(|&n| n > 0 && n <= count);
    let scanned = scanned.ok_or_else(|| invalid(format!("`num_scan_inputs` does not fit {count} inputs")))?;
    let states = count - scanned;
    if body.inputs().len() != count || body.outputs().len() < states {
        return Err(invalid(format!("its body does not take {count} values and give {states} states")));
    }
    let operands = (0..count).map(|index| ctx.value(node, index + shift)).collect::<Outcome<Vec<_>>>()?;
    let stacked = body.outputs().len() - states;
    if shift == 0 {
        let list = |name: &str, length: usize| -> Outcome<Vec<i64>> {
            let list = node.attr_ints_opt(name)?.map_or_else(|| vec![0; length], <[i64]>::to_vec);
            if list.len() == length { Ok(list) } else { Err(invalid(format!("`{name}` has not {length} entries"))) }
        };
        let plan = Plan {
            states,
            input_axes: list("scan_input_axes", scanned)?,
            input_reverse: list("scan_input_directions", scanned)?.iter().map(|&d| d != 0).collect(),
            output_axes: list("scan_output_axes", stacked)?,
            output_reverse: list("scan_output_directions", stacked)?.iter().map(|&d| d != 0).collect(),
        };
        let captured = ctx.captures(&[&body])?;
        return plan.add(ctx, &body, &operands, &captured);
    }
    let reverse = node.attr_ints_opt("directions")?.map_or_else(|| vec![0; scanned], <[i64]>::to_vec);
    let plan = Plan {
        states,
        input_axes: vec![0; scanned],
        input_reverse: reverse.iter().map(|&d| d != 0).collect(),
        output_axes: vec![0; stacked],
        output_reverse: vec![false; stacked],
    };
    over_batch(ctx, &body, &plan, &operands)
}

/// The attributes of a scan.
struct Plan {
    states: usize,
    input_axes: Vec<i64>,
    input_reverse: Vec<bool>,
    output_axes: Vec<i64>,
    output_reverse: Vec<bool>,
}

impl Plan {
    /// Adds the scan; the captured values follow `operands`.
    fn add<'a>(
        &self,
        ctx: &mut Ctx<'a, '_>,
        body: &view::Graph<'a>,
        operands: &[Value],
        captured: &[(&'a str, Value)],
    ) -> Outcome<Vec<Value>> {
        let (states, scanned) = operands.split_at(self.states);
        let (mut slices, mut input_axes, mut length) = (Vec::new(), Vec::new(), Dim::ONE);
        if self.input_reverse.len() != scanned.len() {
            return Err(invalid("there are not as many directions as scanned inputs"));
        }
        for (&value, &axis) in scanned.iter().zip(&self.input_axes) {
            let mut ty = ctx.ty(value).clone();
            let axis = axis_of(axis, ty.rank())?;
            length = ty.shape.remove(axis);
            input_axes.push(axis);
            slices.push(ty);
        }
        let initial = |&value: &Value| {
            let ty = ctx.ty(value).clone();
            let form = Form::Tensor(ty.dtype, Some(ty.rank()));
            (ty, form)
        };
        let initial: Vec<(Type, Form)> = states.iter().map(initial).collect();
        let steady = steady(ctx, body, &[], initial, &slices, captured, 0)?;
        let all: Vec<Value> = operands.iter().copied().chain(captured.iter().map(|(_, value)| *value)).collect();
        let outer: Vec<Type> = all.iter().map(|&value| ctx.ty(value).clone()).collect();
        let outer: Vec<&Type> = outer.iter().collect();
        let mut types = steady.carried(ctx);
        let mut output_axes = Vec::new();
        for (mut ty, &axis) in steady.slices(ctx, self.states, &outer)?.into_iter().zip(&self.output_axes) {
            let axis = axis_of(axis, ty.rank() + 1)?;
            ty.shape.insert(axis, length.clone());
            output_axes.push(axis);
            types.push(ty);
        }
        let count = types.len();
        let op = Op::ScanLoop {
            body: Arc::new(steady.body),
            states: self.states,
            input_axes,
            input_reverse: self.input_reverse.clone(),
            output_axes,
            output_reverse: self.output_reverse.clone(),
            types,
        };
        let id = ctx.add_node(op, &all)?;
        Ok(results(id, count))
    }
}

/// The first version of the operator scans each batch element for itself: a scan over the batch whose body is the scan.
fn over_batch<'a>(
    ctx: &mut Ctx<'a, '_>,
    body: &view::Graph<'a>,
    plan: &Plan,
    operands: &[Value],
) -> Outcome<Vec<Value>> {
    let captured = ctx.captures(&[body])?;
    let mut batch = Dim::ONE;
    let mut inputs = Vec::with_capacity(operands.len());
    for &value in operands {
        let mut ty = ctx.ty(value).clone();
        if ty.rank() == 0 {
            return Err(Fault::Invalid("an operand has no batch axis".into()).into());
        }
        batch = ty.shape.remove(0);
        inputs.push(ty);
    }
    let inputs: Vec<(&str, Type)> = inputs.into_iter().map(|ty| ("element", ty)).collect();
    let graph = ctx.sub_graph("batch", &inputs, &body.captures(), &captured, |ctx, own, captured| {
        for value in plan.add(ctx, body, own, captured)? {
            ctx.graph.add_output("result", value);
        }
        Ok(())
    })?;
    let mut types = Vec::new();
    for index in 0..graph.outputs().len() {
        let mut ty = output_type(&graph, index)?;
        ty.shape.insert(0, batch.clone());
        types.push(ty);
    }
    let (count, scanned) = (types.len(), operands.len());
    let op = Op::ScanLoop {
        body: Arc::new(graph),
        states: 0,
        input_axes: vec![0; scanned],
        input_reverse: vec![false; scanned],
        output_axes: vec![0; count],
        output_reverse: vec![false; count],
        types,
    };
    let all: Vec<Value> = operands.iter().copied().chain(captured.iter().map(|(_, value)| *value)).collect();
    let id = ctx.add_node(op, &all)?;
    Ok(results(id, count))
}
