//! Branches whose condition only run-time data tell.

use std::sync::Arc;

use tarsia_graph::{Graph, Op, Type, Value};
use tarsia_tensor::Dim;

use super::{inner_symbols, known_truth, opened, output_type, outside, results};
use crate::{
    Node,
    import::{Ctx, Form, Item, Outcome, invalid, unsupported},
    view,
};

pub(super) fn branch<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Item>> {
    let (yes, no) = (node.attr_graph("then_branch")?, node.attr_graph("else_branch")?);
    if let Some(condition) = known_truth(ctx.item(node, 0), ctx) {
        return ctx.inline(if condition { &yes } else { &no }, &[]);
    }
    if let Some(squeezed) = squeezing(ctx, &yes, &no)? {
        return Ok(vec![squeezed]);
    }
    let condition = ctx.value(node, 0)?;
    let condition = ctx.reshape(condition, &[])?;
    let captured = ctx.captures(&[&yes, &no])?;
    let (mut then_branch, mut else_branch, forms) = branches(ctx, &yes, &no, &captured)?;
    level_single_elements(&mut then_branch, &mut else_branch)?;
    let outer: Vec<Type> = captured.iter().map(|(_, value)| ctx.ty(*value).clone()).collect();
    let outer: Vec<&Type> = outer.iter().collect();
    let inner = &inner_symbols(&then_branch, &outer) | &inner_symbols(&else_branch, &outer);
    let mut types = Vec::with_capacity(then_branch.outputs().len());
    for index in 0..then_branch.outputs().len() {
        let (a, b) = (output_type(&then_branch, index)?, output_type(&else_branch, index)?);
        if a.dtype != b.dtype || a.rank() != b.rank() {
            return Err(unsupported(format!("output {index} that is {a} in one branch and {b} in the other")));
        }
        let pairs = a.shape.iter().zip(&b.shape);
        let shape: Vec<Dim> =
            pairs.map(|(x, y)| if x == y { outside(ctx, x, &inner, "if") } else { ctx.fresh("if") }).collect();
        types.push(Type::new(a.dtype, shape));
    }
    let count = types.len();
    let operands: Vec<Value> = std::iter::once(condition).chain(captured.iter().map(|(_, value)| *value)).collect();
    let op = Op::If { then_branch: Arc::new(then_branch), else_branch: Arc::new(else_branch), types };
    let id = ctx.add_node(op, &operands)?;
    Ok(opened(ctx, results(id, count), &forms))
}

/// A single element with more axes in one branch than in the other has them in both: which form an exporter gives it in a branch is
/// an accident, and arithmetic on it is the same.
fn level_single_elements(yes: &mut Graph, no: &mut Graph) -> Outcome<()> {
    for index in 0..yes.outputs().len() {
        let (a, b) = (output_type(yes, index)?, output_type(no, index)?);
        if a.dtype == b.dtype && a.rank() != b.rank() && a.count().is(1) && b.count().is(1) {
            let (graph, shape) = if a.rank() < b.rank() { (&mut *yes, b.shape) } else { (&mut *no, a.shape) };
            let value = graph.outputs()[index].value;
            let origin = graph[value.node].origin.clone();
            let value = graph.add(Op::Reshape { shape }, &[value], origin)?.into();
            graph.replace_output(index, value);
        }
    }
    Ok(())
}

/// Both branches, and the forms of the outputs that are whole values.
fn branches<'a>(
    ctx: &mut Ctx<'a, '_>,
    yes: &view::Graph<'a>,
    no: &view::Graph<'a>,
    captured: &[(&'a str, Value)],
) -> Outcome<(Graph, Graph, Vec<Option<Form>>)> {
    let mut targets: Vec<Option<Form>> = yes.outputs().iter().map(Ctx::declared_whole).collect();
    loop {
        let (then_branch, a) = ctx.body(yes, &[], &targets, captured)?;
        let (else_branch, b) = ctx.body(no, &[], &targets, captured)?;
        if a.len() != b.len() {
            return Err(invalid("its branches differ in their number of outputs"));
        }
        let mut joined = Vec::with_capacity(a.len());
        for (index, (a, b)) in a.iter().zip(&b).enumerate() {
            let differ = || invalid(format!("output {index} that is {a:?} in one branch and {b:?} in the other"));
            let target = targets.get(index).and_then(Option::as_ref).unwrap_or(&Form::Any);
            joined.push(match a.is_whole() || b.is_whole() {
                true => Some(a.join(b).and_then(|form| form.join(target)).ok_or_else(differ)?),
                false => targets.get(index).cloned().flatten(),
            });
        }
        if joined == targets {
            return Ok((then_branch, else_branch, joined));
        }
        targets = joined;
    }
}

/// TorchScript's `squeeze`, an `If` that squeezes an axis if it has size 1 and else passes its input on: a result of two ranks, of
/// which only the lower one is meant. That the axis has size 1 is checked when the sizes are known.
fn squeezing<'a>(ctx: &mut Ctx<'a, '_>, yes: &view::Graph<'a>, no: &view::Graph<'a>) -> Outcome<Option<Item>> {
    let (Some(squeeze), Some(identity)) = (only_node(yes, "Squeeze"), only_node(no, "Identity")) else {
        return Ok(None);
    };
    let x = match ctx.item(&squeeze, 0) {
        Some(&Item::Tensor(x)) if squeeze.input(0) == identity.input(0) => x,
        _ => return Ok(None),
    };
    let items = ctx.inline(yes, &[])?;
    let Some(&Item::Tensor(squeezed)) = items.first() else { return Ok(None) };
    let ty = ctx.ty(squeezed).clone();
    let shape = ctx.dims_vector(&ty.shape)?;
    let op = Op::Host { function: "reshape".into(), ints: vec![1], reals: Vec::new(), types: vec![ty] };
    Ok(Some(ctx.add(op, &[x, shape])?.into()))
}

/// The node of a body that has no other one but constants, if it has this operator.
fn only_node<'a>(body: &view::Graph<'a>, operator: &str) -> Option<Node<'a>> {
    let mut nodes = body.nodes().filter(|node| node.op_type() != "Constant");
    let only = nodes.next().filter(|node| node.domain().is_empty() && node.op_type() == operator)?;
    (nodes.next().is_none() && body.outputs().len() == 1).then_some(only)
}
