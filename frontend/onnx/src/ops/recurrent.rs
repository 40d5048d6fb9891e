//! Recurrent layers: the product of the whole sequence with the input weights, then a scan over time whose body is the cell.
//!
//! ```text
//! x [time, batch, in] ·Wᵀ + bias ─► [time, batch, gates·hidden] ─┐ slice by slice
//!                                     h, c ─────────────────────► cell ─► h, c, y
//! ```
//!
//! Where sequences are shorter than the longest, the state of an ended one stays and its results are 0.

use std::sync::Arc;

use tarsia_graph::{BinaryFn, Op, Type, UnaryFn, Value};
use tarsia_tensor::{DType, Dim, Tensor};

use super::{
    Importer::Values,
    Row, Rows,
    quantize::{Quantised, product_with_quantised},
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[
    Row::new("GRU", 7, Values(|ctx, node| layer(ctx, node, Kind::Gru))),
    Row::new("LSTM", 7, Values(|ctx, node| layer(ctx, node, Kind::Lstm))),
    Row::new("RNN", 7, Values(|ctx, node| layer(ctx, node, Kind::Simple))),
    // The same LSTM with weights `[directions, in, gates·hidden]` in bytes, and operands that are quantised on the way.
    Row::new("DynamicQuantizeLSTM", 1, Values(|ctx, node| layer(ctx, node, Kind::Lstm))).of("com.microsoft"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Simple,
    Gru,
    Lstm,
}

impl Kind {
    fn gates(self) -> usize {
        match self {
            Kind::Simple => 1,
            Kind::Gru => 3,
            Kind::Lstm => 4,
        }
    }

    /// The activations of one direction, by default.
    fn activations(self) -> &'static [&'static str] {
        match self {
            Kind::Simple => &["Tanh"],
            Kind::Gru => &["Sigmoid", "Tanh"],
            Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// A function with the parameters that some have.
#[derive(Clone, Copy)]
struct Activation {
    function: Function,
    alpha: f64,
    beta: f64,
}

#[derive(Clone, Copy)]
enum Function {
    Plain(UnaryFn),
    Relu,
    Affine,
    LeakyRelu,
    ThresholdedRelu,
    ScaledTanh,
    HardSigmoid,
    Elu,
    Softsign,
}

impl Function {
    /// The function of a name, and its usual parameters where it has some.
    fn of(name: &str) -> Outcome<(Function, Option<f64>, Option<f64>)> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "tanh" => (Function::Plain(UnaryFn::Tanh), None, None),
            "sigmoid" => (Function::Plain(UnaryFn::Sigmoid), None, None),
            "softplus" => (Function::Plain(UnaryFn::Softplus), None, None),
            "relu" => (Function::Relu, None, None),
            "softsign" => (Function::Softsign, None, None),
            "affine" => (Function::Affine, Some(1.0), Some(0.0)),
            "leakyrelu" => (Function::LeakyRelu, Some(0.01), None),
            "thresholdedrelu" => (Function::ThresholdedRelu, Some(1.0), None),
            "scaledtanh" => (Function::ScaledTanh, Some(1.0), Some(1.0)),
            "hardsigmoid" => (Function::HardSigmoid, Some(0.2), Some(0.5)),
            "elu" => (Function::Elu, Some(1.0), None),
            _ => return Err(invalid(format!("the activation `{name}` is none that recurrent layers have"))),
        })
    }
}

/// The activation that a node names, with its parameters, of what the node computes; nothing without the attribute `activation`.
pub(super) fn fused_activation<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    let Some(name) = node.attr_str_opt("activation")?.filter(|name| !name.is_empty()) else { return Ok(x) };
    let listed = node.attr_floats_opt("activation_params")?.unwrap_or_default();
    let parameter = |index: usize, attribute: &str| -> Outcome<Option<f64>> {
        let given = node.attr_f32_opt(attribute)?.or_else(|| listed.get(index).copied());
        Ok(given.map(f64::from))
    };
    let (alpha, beta) = (parameter(0, "activation_alpha")?, parameter(1, "activation_beta")?);
    match name {
        "Clip" => {
            let x = ctx.with_scalar(BinaryFn::Max, x, alpha.unwrap_or(f64::NEG_INFINITY))?;
            ctx.with_scalar(BinaryFn::Min, x, beta.unwrap_or(f64::INFINITY))
        }
        "HardSwish" => {
            let gate = Activation { function: Function::HardSigmoid, alpha: 1.0 / 6.0, beta: 0.5 }.apply(ctx, x)?;
            ctx.binary(BinaryFn::Mul, x, gate)
        }
        "Gelu" => ctx.add(Op::Gelu { tanh: false }, &[x]),
        _ => {
            let alpha = alpha.or(node.attr_f32_opt("leaky_relu_alpha")?.map(f64::from));
            let (function, usual_alpha, usual_beta) = Function::of(name)?;
            let alpha = usual_alpha.map_or(0.0, |usual| alpha.unwrap_or(usual));
            let beta = usual_beta.map_or(0.0, |usual| beta.unwrap_or(usual));
            Activation { function, alpha, beta }.apply(ctx, x)
        }
    }
}

impl Activation {
    /// All activations of a node; parameters are listed for those that have them only.
    fn all(node: &Node<'_>, kind: Kind, directions: usize) -> Outcome<Vec<Activation>> {
        let usual = kind.activations();
        let names = match node.attr_strs_opt("activations")? {
            Some(names) if !names.is_empty() => names,
            _ => usual.repeat(directions),
        };
        if names.len() != usual.len() * directions {
            return Err(invalid(format!("{} activations for {directions} directions", names.len())));
        }
        let parameters = |name: &str| node.attr_floats_opt(name).map(|list| list.unwrap_or_default().iter());
        let (mut alphas, mut betas) = (parameters("activation_alpha")?, parameters("activation_beta")?);
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            let (function, alpha, beta) = Function::of(name)?;
            let given = |list: &mut std::slice::Iter<'_, f32>, usual: Option<f64>| match usual {
                Some(usual) => list.next().map_or(usual, |&value| value.into()),
                None => 0.0,
            };
            all.push(Activation { function, alpha: given(&mut alphas, alpha), beta: given(&mut betas, beta) });
        }
        Ok(all)
    }

    fn apply(&self, ctx: &mut Ctx<'_, '_>, x: Value) -> Outcome<Value> {
        let below = |ctx: &mut Ctx<'_, '_>, negative: Value| {
            let is_below = ctx.with_scalar(BinaryFn::Lt, x, 0.0)?;
            ctx.select(is_below, negative, x)
        };
        let scaled = |ctx: &mut Ctx<'_, '_>| {
            let y = ctx.with_scalar(BinaryFn::Mul, x, self.alpha)?;
            if self.beta == 0.0 { Ok(y) } else { ctx.with_scalar(BinaryFn::Add, y, self.beta) }
        };
        match self.function {
            Function::Plain(function) => ctx.unary(function, x),
            Function::Relu => ctx.with_scalar(BinaryFn::Max, x, 0.0),
            Function::Affine => scaled(ctx),
            Function::LeakyRelu => {
                let negative = ctx.with_scalar(BinaryFn::Mul, x, self.alpha)?;
                below(ctx, negative)
            }
            Function::ThresholdedRelu => {
                let above = ctx.with_scalar(BinaryFn::Ge, x, self.alpha)?;
                let zero = ctx.scalar_like(x, 0.0);
                ctx.select(above, x, zero)
            }
            Function::ScaledTanh => {
                let inner = ctx.with_scalar(BinaryFn::Mul, x, self.beta)?;
                let y = ctx.unary(UnaryFn::Tanh, inner)?;
                ctx.with_scalar(BinaryFn::Mul, y, self.alpha)
            }
            Function::HardSigmoid => {
                let y = scaled(ctx)?;
                let y = ctx.with_scalar(BinaryFn::Max, y, 0.0)?;
                ctx.with_scalar(BinaryFn::Min, y, 1.0)
            }
            Function::Elu => {
                let power = ctx.unary(UnaryFn::Exp, x)?;
                let power = ctx.with_scalar(BinaryFn::Sub, power, 1.0)?;
                let negative = ctx.with_scalar(BinaryFn::Mul, power, self.alpha)?;
                below(ctx, negative)
            }
            Function::Softsign => {
                let size = ctx.unary(UnaryFn::Abs, x)?;
                let size = ctx.with_scalar(BinaryFn::Add, size, 1.0)?;
                ctx.binary(BinaryFn::Div, x, size)
            }
        }
    }
}

/// A layer's operands and attributes, without what differs between directions.
struct Layer {
    kind: Kind,
    x: Value,
    dtype: DType,
    time: Dim,
    batch: Dim,
    hidden: usize,
    /// Batch before time, and before the directions.
    batch_first: bool,
    lengths: Option<Value>,
    clip: Option<f64>,
    activations: Vec<Activation>,
    /// GRU: the reset gate acts after the product with the weights.
    reset_after: bool,
    /// LSTM: the forget gate is what the input gate leaves.
    coupled: bool,
    /// The weights are `[in, gates·hidden]` in bytes with scales and zero points.
    quantised: bool,
}

fn layer<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, kind: Kind) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    let shape = <[Dim; 3]>::try_from(ctx.shape(x)).map_err(|_| invalid("its input has not 3 axes"))?;
    let batch_first = node.attr_bool_or("layout", false)?;
    let [first, second, _] = shape;
    let (time, batch) = if batch_first { (second, first) } else { (first, second) };
    let weights = ctx.value(node, 2)?;
    let quantised = node.op_type() == "DynamicQuantizeLSTM";
    let hidden = ctx
        .size(weights, if quantised { 1 } else { 2 })?
        .as_usize()
        .ok_or_else(|| unsupported("weights whose shape is not known"))?;
    let (direction, directions) = match node.attr_str_or("direction", "forward")? {
        "forward" => (&[false][..], 1),
        "reverse" => (&[true][..], 1),
        "bidirectional" => (&[false, true][..], 2),
        other => return Err(invalid(format!("`direction` is `{other}`"))),
    };
    let lengths = match ctx.known(node, 4).and_then(|known| known.dims()) {
        Some(known) if known.iter().all(|length| *length == time) => None,
        _ => ctx.value_opt(node, 4)?,
    };
    let layer = Layer {
        kind,
        x,
        dtype: ctx.dtype(x),
        time,
        batch,
        hidden,
        batch_first,
        lengths,
        clip: node.attr_f32_opt("clip")?.map(f64::from),
        activations: Activation::all(node, kind, directions)?,
        reset_after: kind == Kind::Gru && node.attr_bool_or("linear_before_reset", false)?,
        coupled: kind == Kind::Lstm && node.attr_bool_or("input_forget", false)?,
        quantised,
    };
    let (mut ys, mut hs, mut cs) = (Vec::new(), Vec::new(), Vec::new());
    for (index, &reverse) in direction.iter().enumerate() {
        let results = layer.run(ctx, node, index, reverse)?;
        let (y, axis) = if batch_first { (ctx.transpose(results[0], &[1, 0, 2])?, 2) } else { (results[0], 1) };
        ys.push(ctx.unsqueeze(y, axis)?);
        let axis = usize::from(batch_first);
        hs.push(ctx.unsqueeze(results[1], axis)?);
        if let Some(&c) = results.get(2) {
            cs.push(ctx.unsqueeze(c, axis)?);
        }
    }
    let axis = usize::from(batch_first);
    let mut results = vec![ctx.concat(&ys, axis + 1)?, ctx.concat(&hs, axis)?];
    if kind == Kind::Lstm {
        results.push(ctx.concat(&cs, axis)?);
    }
    Ok(results)
}

/// A value that a body uses: constant data that it has itself, or an operand of the loop.
enum Part {
    Constant(Tensor),
    Operand(usize),
}

/// The operands of a scan in the making.
#[derive(Default)]
struct Operands {
    values: Vec<Value>,
}

impl Operands {
    fn push(&mut self, value: Value) -> usize {
        self.values.push(value);
        self.values.len() - 1
    }

    fn part(&mut self, ctx: &Ctx<'_, '_>, value: Value) -> Part {
        match ctx.constant(value) {
            Some(tensor) => Part::Constant(tensor),
            None => Part::Operand(self.push(value)),
        }
    }
}

fn in_body(ctx: &mut Ctx<'_, '_>, own: &[Value], part: &Part) -> Outcome<Value> {
    match part {
        Part::Constant(tensor) => Ok(ctx.add_constant(tensor.clone())),
        Part::Operand(index) => own.get(*index).copied().ok_or_else(|| invalid("its body lacks an input")),
    }
}

/// What the cell uses of the weights, beside the sums that come from the input.
struct Cell {
    recurrent: Part,
    /// Scale and zero point of recurrent weights in bytes.
    grain: Option<[Part; 2]>,
    /// GRU: the weights of the candidate, and their bias where it is not in the sums.
    candidate: Option<Part>,
    candidate_bias: Option<Part>,
    peepholes: Option<Part>,
    lengths: Option<Part>,
}

/// `count` rows of axis 0 from `start` on; of constant data a view.
fn rows(ctx: &mut Ctx<'_, '_>, x: Value, start: usize, count: usize) -> Outcome<Value> {
    if let Some(tensor) = ctx.constant(x)
        && let Some((&total, rest)) = tensor.shape().split_first()
        && tensor.dtype().bits().is_multiple_of(8)
        && tensor.dtype().is_numeric()
        && start + count <= total
        && count < total
        && tensor.missing().is_none()
    {
        let row = tensor.bytes().len() / total;
        let data = tensor.bytes().slice(start * row..(start + count) * row);
        let shape: Vec<usize> = [&[count], rest].concat();
        return Ok(ctx.add_constant(Tensor::new(tensor.dtype(), &shape, data)?));
    }
    ctx.slice_axis(x, 0, Dim::from(start), Dim::from(count), 1)
}

/// A product with weights in bytes, of an operand that is quantised on the way.
fn weighed(ctx: &mut Ctx<'_, '_>, spec: &str, x: Value, codes: Value, [scale, zero]: [Value; 2]) -> Outcome<Value> {
    let weights = Quantised { codes, scale, zero: Some(zero) };
    product_with_quantised(ctx, x, weights, |ctx, x, weights| ctx.contract_to(spec, x, weights, DType::I32))
}

/// The part of an operand that belongs to a direction, without that axis.
fn of_direction(ctx: &mut Ctx<'_, '_>, x: Value, direction: usize) -> Outcome<Value> {
    let x = rows(ctx, x, direction, 1)?;
    ctx.squeeze(x, &[0])
}

impl Layer {
    /// Results of all steps, and the last states.
    fn run<'a>(&self, ctx: &mut Ctx<'a, '_>, node: &Node<'a>, direction: usize, reverse: bool) -> Outcome<Vec<Value>> {
        let mut operands = Operands::default();
        let states = if self.kind == Kind::Lstm { 2 } else { 1 };
        for state in 0..states {
            let initial = self.initial(ctx, node, 5 + state, direction)?;
            operands.push(initial);
        }
        let recurrent = ctx.value(node, 2)?;
        let recurrent = of_direction(ctx, recurrent, direction)?;
        let (sums, candidate_bias) = self.sums(ctx, node, direction)?;
        operands.push(sums);
        let mut scanned = 1;
        if self.lengths.is_some() {
            let steps = ctx.iota(DType::I64, std::slice::from_ref(&self.time), 0)?;
            operands.push(steps);
            scanned = 2;
        }
        let cell = self.cell(ctx, node, direction, recurrent, candidate_bias, &mut operands)?;
        let mut inputs = Vec::with_capacity(operands.values.len());
        for (index, &value) in operands.values.iter().enumerate() {
            let mut ty = ctx.ty(value).clone();
            if (states..states + scanned).contains(&index) {
                ty.shape.remove(0);
            }
            inputs.push(("x", ty));
        }
        let functions = &self.activations[direction * self.kind.activations().len()..];
        let body = ctx.sub_graph("cell", &inputs, &[], &[], |ctx, own, _| self.body(ctx, own, &cell, functions))?;
        let state = Type::new(self.dtype, [self.batch.clone(), Dim::from(self.hidden)]);
        let stacked = Type::new(self.dtype, [self.time.clone(), self.batch.clone(), Dim::from(self.hidden)]);
        let op = Op::ScanLoop {
            body: Arc::new(body),
            states,
            input_axes: vec![0; scanned],
            input_reverse: vec![reverse; scanned],
            output_axes: vec![0],
            output_reverse: vec![reverse],
            types: std::iter::repeat_n(state, states).chain([stacked]).collect(),
        };
        let id = ctx.add_node(op, &operands.values)?;
        let result = |output: usize| Value { node: id, output: output as u32 };
        Ok(std::iter::once(result(states)).chain((0..states).map(result)).collect())
    }

    /// The state before the first step, zeros by default.
    fn initial<'a>(&self, ctx: &mut Ctx<'a, '_>, node: &Node<'a>, input: usize, direction: usize) -> Outcome<Value> {
        let Some(given) = ctx.value_opt(node, input)? else {
            let zero = ctx.scalar(self.dtype, 0.0);
            return ctx.broadcast(zero, &[self.batch.clone(), Dim::from(self.hidden)]);
        };
        let axis = usize::from(self.batch_first);
        let part = ctx.slice_axis(given, axis, Dim::from(direction), Dim::ONE, 1)?;
        ctx.squeeze(part, &[axis])
    }

    /// `x·Wᵀ` with all biases but that of a GRU's candidate where it acts inside of the cell, which is given beside.
    fn sums<'a>(&self, ctx: &mut Ctx<'a, '_>, node: &Node<'a>, direction: usize) -> Outcome<(Value, Option<Value>)> {
        let weights = ctx.value(node, 1)?;
        let weights = of_direction(ctx, weights, direction)?;
        let sums = match self.grain(ctx, node, 8, direction)? {
            Some(grain) => weighed(ctx, "tbi,ig->tbg", self.x, weights, grain)?,
            None => {
                let spec = if self.batch_first { "bti,gi->tbg" } else { "tbi,gi->tbg" };
                ctx.contract(spec, self.x, weights)?
            }
        };
        let Some(bias) = ctx.value_opt(node, 3)? else { return Ok((sums, None)) };
        let bias = of_direction(ctx, bias, direction)?;
        let width = self.kind.gates() * self.hidden;
        let (of_input, of_state) = (rows(ctx, bias, 0, width)?, rows(ctx, bias, width, width)?);
        if !self.reset_after {
            let bias = ctx.binary(BinaryFn::Add, of_input, of_state)?;
            return Ok((ctx.binary(BinaryFn::Add, sums, bias)?, None));
        }
        let sums = ctx.binary(BinaryFn::Add, sums, of_input)?;
        let gates = rows(ctx, of_state, 0, 2 * self.hidden)?;
        let zero = ctx.scalar(self.dtype, 0.0);
        let gates = ctx.pad(gates, zero, vec![Dim::ZERO], vec![Dim::from(self.hidden)])?;
        let candidate = rows(ctx, of_state, 2 * self.hidden, self.hidden)?;
        Ok((ctx.binary(BinaryFn::Add, sums, gates)?, Some(candidate)))
    }

    /// Scale and zero point of weights in bytes.
    fn grain<'a>(
        &self,
        ctx: &mut Ctx<'a, '_>,
        node: &Node<'a>,
        input: usize,
        direction: usize,
    ) -> Outcome<Option<[Value; 2]>> {
        if !self.quantised {
            return Ok(None);
        }
        let (scale, zero) = (ctx.value(node, input)?, ctx.value(node, input + 1)?);
        Ok(Some([of_direction(ctx, scale, direction)?, of_direction(ctx, zero, direction)?]))
    }

    fn cell<'a>(
        &self,
        ctx: &mut Ctx<'a, '_>,
        node: &Node<'a>,
        direction: usize,
        recurrent: Value,
        candidate_bias: Option<Value>,
        operands: &mut Operands,
    ) -> Outcome<Cell> {
        let (recurrent, candidate) = if self.kind == Kind::Gru {
            let gates = rows(ctx, recurrent, 0, 2 * self.hidden)?;
            (gates, Some(rows(ctx, recurrent, 2 * self.hidden, self.hidden)?))
        } else {
            (recurrent, None)
        };
        let peepholes = match ctx.value_opt(node, 7)? {
            Some(peepholes) if self.kind == Kind::Lstm => Some(of_direction(ctx, peepholes, direction)?),
            _ => None,
        };
        let lengths = match self.lengths {
            Some(lengths) => {
                let lengths = ctx.cast(lengths, DType::I64)?;
                Some(ctx.reshape(lengths, &[self.batch.clone(), Dim::ONE])?)
            }
            None => None,
        };
        let grain = self.grain(ctx, node, 10, direction)?;
        Ok(Cell {
            recurrent: operands.part(ctx, recurrent),
            grain: grain.map(|grain| grain.map(|value| operands.part(ctx, value))),
            candidate: candidate.map(|value| operands.part(ctx, value)),
            candidate_bias: candidate_bias.map(|value| operands.part(ctx, value)),
            peepholes: peepholes.map(|value| operands.part(ctx, value)),
            lengths: lengths.map(|value| operands.part(ctx, value)),
        })
    }

    /// One step: (h, [c], sums, [step], …) to (h, [c], y).
    fn body(&self, ctx: &mut Ctx<'_, '_>, own: &[Value], cell: &Cell, functions: &[Activation]) -> Outcome<()> {
        let states = if self.kind == Kind::Lstm { 2 } else { 1 };
        let (before, rest) = own.split_at(states);
        let sums = rest[0];
        let mut after = match self.kind {
            Kind::Simple => {
                let recurrent = in_body(ctx, own, &cell.recurrent)?;
                let sum = self.added(ctx, sums, before[0], recurrent)?;
                vec![self.activate(ctx, functions[0], sum)?]
            }
            Kind::Gru => vec![self.gru(ctx, own, sums, cell, functions)?],
            Kind::Lstm => self.lstm(ctx, own, sums, cell, functions)?,
        };
        let mut y = after[0];
        if let Some(lengths) = &cell.lengths {
            let lengths = in_body(ctx, own, lengths)?;
            let running = ctx.binary(BinaryFn::Lt, rest[1], lengths)?;
            for (after, before) in after.iter_mut().zip(before) {
                *after = ctx.select(running, *after, *before)?;
            }
            let zero = ctx.scalar(self.dtype, 0.0);
            y = ctx.select(running, y, zero)?;
        }
        for state in after {
            ctx.graph.add_output("state", state);
        }
        ctx.graph.add_output("y", y);
        Ok(())
    }

    /// `sums + h·Rᵀ`.
    fn added(&self, ctx: &mut Ctx<'_, '_>, sums: Value, h: Value, recurrent: Value) -> Outcome<Value> {
        let product = ctx.contract("bh,gh->bg", h, recurrent)?;
        ctx.binary(BinaryFn::Add, sums, product)
    }

    fn gate(&self, ctx: &mut Ctx<'_, '_>, sums: Value, index: usize) -> Outcome<Value> {
        ctx.slice_axis(sums, 1, Dim::from(index * self.hidden), Dim::from(self.hidden), 1)
    }

    fn activate(&self, ctx: &mut Ctx<'_, '_>, activation: Activation, x: Value) -> Outcome<Value> {
        let x = match self.clip {
            Some(clip) => {
                let x = ctx.with_scalar(BinaryFn::Max, x, -clip)?;
                ctx.with_scalar(BinaryFn::Min, x, clip)?
            }
            None => x,
        };
        activation.apply(ctx, x)
    }

    /// Gates z (update) and r (reset), then the candidate: `h' = (1 - z)·candidate + z·h`.
    fn gru(
        &self,
        ctx: &mut Ctx<'_, '_>,
        own: &[Value],
        sums: Value,
        cell: &Cell,
        functions: &[Activation],
    ) -> Outcome<Value> {
        let h = own[0];
        let both = ctx.slice_axis(sums, 1, Dim::ZERO, Dim::from(2 * self.hidden), 1)?;
        let recurrent = in_body(ctx, own, &cell.recurrent)?;
        let both = self.added(ctx, both, h, recurrent)?;
        let both = self.activate(ctx, functions[0], both)?;
        let (z, r) = (self.gate(ctx, both, 0)?, self.gate(ctx, both, 1)?);
        let weights = cell.candidate.as_ref().ok_or_else(|| invalid("it has no weights"))?;
        let weights = in_body(ctx, own, weights)?;
        let own_sum = self.gate(ctx, sums, 2)?;
        let sum = if self.reset_after {
            let mut product = ctx.contract("bh,gh->bg", h, weights)?;
            if let Some(bias) = &cell.candidate_bias {
                let bias = in_body(ctx, own, bias)?;
                product = ctx.binary(BinaryFn::Add, product, bias)?;
            }
            let reset = ctx.binary(BinaryFn::Mul, r, product)?;
            ctx.binary(BinaryFn::Add, own_sum, reset)?
        } else {
            let reset = ctx.binary(BinaryFn::Mul, r, h)?;
            self.added(ctx, own_sum, reset, weights)?
        };
        let candidate = self.activate(ctx, functions[1], sum)?;
        let one = ctx.scalar(self.dtype, 1.0);
        let rest = ctx.binary(BinaryFn::Sub, one, z)?;
        let new = ctx.binary(BinaryFn::Mul, rest, candidate)?;
        let kept = ctx.binary(BinaryFn::Mul, z, h)?;
        ctx.binary(BinaryFn::Add, new, kept)
    }

    /// Gates i, o, f and the candidate, in this order: `c' = f·c + i·candidate`, `h' = o·activation(c')`.
    fn lstm(
        &self,
        ctx: &mut Ctx<'_, '_>,
        own: &[Value],
        sums: Value,
        cell: &Cell,
        functions: &[Activation],
    ) -> Outcome<Vec<Value>> {
        let (h, c) = (own[0], own[1]);
        let recurrent = in_body(ctx, own, &cell.recurrent)?;
        let sums = match &cell.grain {
            Some([scale, zero]) => {
                let grain = [in_body(ctx, own, scale)?, in_body(ctx, own, zero)?];
                let product = weighed(ctx, "bh,hg->bg", h, recurrent, grain)?;
                ctx.binary(BinaryFn::Add, sums, product)?
            }
            None => self.added(ctx, sums, h, recurrent)?,
        };
        let peepholes = match &cell.peepholes {
            Some(part) => Some(in_body(ctx, own, part)?),
            None => None,
        };
        // What the cell state adds to the sum of a gate.
        let peep = |ctx: &mut Ctx<'_, '_>, sum: Value, index: usize, c: Value| match peepholes {
            Some(all) => {
                let own = rows(ctx, all, index * self.hidden, self.hidden)?;
                let seen = ctx.binary(BinaryFn::Mul, own, c)?;
                ctx.binary(BinaryFn::Add, sum, seen)
            }
            None => Ok(sum),
        };
        let sum = self.gate(ctx, sums, 0)?;
        let sum = peep(ctx, sum, 0, c)?;
        let input = self.activate(ctx, functions[0], sum)?;
        let forget = if self.coupled {
            let one = ctx.scalar(self.dtype, 1.0);
            ctx.binary(BinaryFn::Sub, one, input)?
        } else {
            let sum = self.gate(ctx, sums, 2)?;
            let sum = peep(ctx, sum, 2, c)?;
            self.activate(ctx, functions[0], sum)?
        };
        let sum = self.gate(ctx, sums, 3)?;
        let candidate = self.activate(ctx, functions[1], sum)?;
        let kept = ctx.binary(BinaryFn::Mul, forget, c)?;
        let new = ctx.binary(BinaryFn::Mul, input, candidate)?;
        let c = ctx.binary(BinaryFn::Add, kept, new)?;
        let sum = self.gate(ctx, sums, 1)?;
        let sum = peep(ctx, sum, 1, c)?;
        let output = self.activate(ctx, functions[0], sum)?;
        let shown = functions[2].apply(ctx, c)?;
        Ok(vec![ctx.binary(BinaryFn::Mul, output, shown)?, c])
    }
}
