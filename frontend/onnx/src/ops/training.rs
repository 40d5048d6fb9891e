//! Training: gradients, and optimisers, which take one step for each tensor of parameters.
//!
//! Inputs of optimisers are the rate, the number of updates so far, then the parameters, their gradients and each kind of state, as many of each as there
//! are tensors of parameters; outputs are the new parameters and states in that order.

use tarsia_graph::{BinaryFn, UnaryFn, Value, derivative};

use super::{Importer::Values, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

/// The domain of the operators here.
const DOMAIN: &str = "ai.onnx.preview.training";

pub(super) const ROWS: Rows = &[
    Row::new("Adagrad", 1, Values(|ctx, node| step(ctx, node, 1, adagrad))).of(DOMAIN),
    Row::new("Adam", 1, Values(|ctx, node| step(ctx, node, 2, adam))).of(DOMAIN),
    Row::new("Gradient", 1, Values(gradient)).of(DOMAIN),
    Row::new("Momentum", 1, Values(|ctx, node| step(ctx, node, 1, momentum))).of(DOMAIN),
];

/// The derivatives of `y` by `xs`, all of which are names of the graph, where the inputs are in place of `xs` and `zs`.
fn gradient<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let (y, xs) = (node.attr_str("y")?, node.attr_strs("xs")?);
    let zs = node.attr_strs_opt("zs")?.unwrap_or_default();
    let inputs = ctx.values(node)?;
    if inputs.len() != xs.len() + zs.len() {
        return Err(invalid(format!(
            "{} inputs for {} names `xs` and {} names `zs`",
            inputs.len(),
            xs.len(),
            zs.len()
        )));
    }
    let y = ctx.value_named(y)?;
    let names = xs.iter().chain(&zs).map(|name| ctx.value_named(name)).collect::<Outcome<Vec<Value>>>()?;
    for (&name, &input) in names.iter().zip(&inputs) {
        if ctx.ty(name) != ctx.ty(input) {
            return Err(invalid(format!("{} in place of {}", ctx.ty(input), ctx.ty(name))));
        }
    }
    let origin = ctx.origin.clone();
    let found = derivative::gradients(&mut ctx.graph, y, &names, &inputs, &origin);
    let mut found = found.map_err(|error| unsupported(error.to_string()))?;
    found.truncate(xs.len());
    Ok(found)
}

/// One tensor of parameters with what an update looks at.
struct Parameters {
    rate: Value,
    updates: Value,
    values: Value,
    gradient: Value,
    states: Vec<Value>,
}

/// The new parameters and states.
type Update = for<'a> fn(&mut Ctx<'a, '_>, &Node<'a>, Parameters) -> Outcome<Vec<Value>>;

fn step<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, states: usize, update: Update) -> Outcome<Vec<Value>> {
    let inputs = ctx.values(node)?;
    let [rate, updates, tensors @ ..] = inputs.as_slice() else { return Err(invalid("it has no rate")) };
    let count = tensors.len() / (2 + states);
    if count == 0 || count * (2 + states) != tensors.len() {
        return Err(invalid(format!("{} inputs", inputs.len())));
    }
    let mut results = vec![Vec::with_capacity(count); 1 + states];
    for i in 0..count {
        let (rate, updates) = (ctx.cast(*rate, ctx.dtype(tensors[i]))?, ctx.cast(*updates, ctx.dtype(tensors[i]))?);
        let parameters = Parameters {
            rate: ctx.reshape(rate, &[])?,
            updates: ctx.reshape(updates, &[])?,
            values: tensors[i],
            gradient: tensors[count + i],
            states: (0..states).map(|state| tensors[(2 + state) * count + i]).collect(),
        };
        for (results, value) in results.iter_mut().zip(update(ctx, node, parameters)?) {
            results.push(value);
        }
    }
    Ok(results.concat())
}

/// `a·x + b·y`.
fn blend(ctx: &mut Ctx<'_, '_>, a: f64, x: Value, b: f64, y: Value) -> Outcome<Value> {
    let (x, y) = (ctx.with_scalar(BinaryFn::Mul, x, a)?, ctx.with_scalar(BinaryFn::Mul, y, b)?);
    ctx.binary(BinaryFn::Add, x, y)
}

fn number<'a>(node: &Node<'a>, name: &str, default: f32) -> Outcome<f64> {
    Ok(f64::from(node.attr_f32_or(name, default)?))
}

/// `x - rate·d`.
fn descend(ctx: &mut Ctx<'_, '_>, x: Value, rate: Value, d: Value) -> Outcome<Value> {
    let d = ctx.binary(BinaryFn::Mul, rate, d)?;
    ctx.binary(BinaryFn::Sub, x, d)
}

/// Duchi et al., JMLR 12 (2011): each rate falls with the root of the sum of the squared gradients.
fn adagrad<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, p: Parameters) -> Outcome<Vec<Value>> {
    let (decay, norm) = (number(node, "decay_factor", 0.0)?, number(node, "norm_coefficient", 0.0)?);
    let slowed = ctx.with_scalar(BinaryFn::Mul, p.updates, decay)?;
    let slowed = ctx.with_scalar(BinaryFn::Add, slowed, 1.0)?;
    let rate = ctx.binary(BinaryFn::Div, p.rate, slowed)?;
    let gradient = blend(ctx, norm, p.values, 1.0, p.gradient)?;
    let square = ctx.binary(BinaryFn::Mul, gradient, gradient)?;
    let sum = ctx.binary(BinaryFn::Add, p.states[0], square)?;
    let root = ctx.unary(UnaryFn::Sqrt, sum)?;
    let root = ctx.with_scalar(BinaryFn::Add, root, number(node, "epsilon", 0.0)?)?;
    let direction = ctx.binary(BinaryFn::Div, gradient, root)?;
    Ok(vec![descend(ctx, p.values, rate, direction)?, sum])
}

/// Kingma and Ba, ICLR 2015: running means of the gradient and of its square, corrected for their start at 0.
fn adam<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, p: Parameters) -> Outcome<Vec<Value>> {
    let (alpha, beta) = (number(node, "alpha", 0.9)?, number(node, "beta", 0.999)?);
    let gradient = blend(ctx, number(node, "norm_coefficient", 0.0)?, p.values, 1.0, p.gradient)?;
    let mean = blend(ctx, alpha, p.states[0], 1.0 - alpha, gradient)?;
    let square = ctx.binary(BinaryFn::Mul, gradient, gradient)?;
    let square = blend(ctx, beta, p.states[1], 1.0 - beta, square)?;
    let root = ctx.unary(UnaryFn::Sqrt, square)?;
    let root = ctx.with_scalar(BinaryFn::Add, root, number(node, "epsilon", 0.0)?)?;
    // 1 - factor^updates; nothing is corrected before the first update.
    let started = |ctx: &mut Ctx<'a, '_>, factor: f64| {
        let base = ctx.scalar_like(p.updates, factor);
        let power = ctx.binary(BinaryFn::Pow, base, p.updates)?;
        let one = ctx.scalar_like(power, 1.0);
        let rest = ctx.binary(BinaryFn::Sub, one, power)?;
        let late = ctx.with_scalar(BinaryFn::Gt, p.updates, 0.0)?;
        ctx.select(late, rest, one)
    };
    let (first, second) = (started(ctx, alpha)?, started(ctx, beta)?);
    let second = ctx.unary(UnaryFn::Sqrt, second)?;
    let rate = ctx.binary(BinaryFn::Mul, p.rate, second)?;
    let rate = ctx.binary(BinaryFn::Div, rate, first)?;
    let direction = ctx.binary(BinaryFn::Div, mean, root)?;
    let values = descend(ctx, p.values, rate, direction)?;
    let kept = 1.0 - number(node, "norm_coefficient_post", 0.0)?;
    Ok(vec![ctx.with_scalar(BinaryFn::Mul, values, kept)?, mean, square])
}

/// Gradient descent with a velocity, as it is or looking ahead (Nesterov).
fn momentum<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, p: Parameters) -> Outcome<Vec<Value>> {
    let alpha = f64::from(node.attr_f32("alpha")?);
    let beta = f64::from(node.attr_f32("beta")?);
    let norm = f64::from(node.attr_f32("norm_coefficient")?);
    let gradient = blend(ctx, norm, p.values, 1.0, p.gradient)?;
    // The first gradient enters the velocity whole.
    let (beta, one) = (ctx.scalar_like(p.updates, beta), ctx.scalar_like(p.updates, 1.0));
    let late = ctx.with_scalar(BinaryFn::Gt, p.updates, 0.0)?;
    let beta = ctx.select(late, beta, one)?;
    let kept = ctx.with_scalar(BinaryFn::Mul, p.states[0], alpha)?;
    let fresh = ctx.binary(BinaryFn::Mul, beta, gradient)?;
    let velocity = ctx.binary(BinaryFn::Add, kept, fresh)?;
    let direction = match node.attr_str("mode")? {
        "standard" => velocity,
        "nesterov" => blend(ctx, 1.0, gradient, alpha, velocity)?,
        other => return Err(invalid(format!("`mode` is `{other}`"))),
    };
    Ok(vec![descend(ctx, p.values, p.rate, direction)?, velocity])
}
