//! Reference evaluation: what every op means, slowly and plainly.
//!
//! Floats are computed in f64, integers in 64 bits, and each op rounds once to its result type. Constant folding, the
//! differential tests and `compare --bisect` use this one evaluation; a tile kernel is right where it agrees with it.
//! Before an op is computed its shape rule runs again on the concrete operands, so that sizes which the symbolic rule took
//! to be equal are checked here.

mod contract;
mod control;
mod error;
mod index;
mod movement;
mod order;
mod pointwise;
mod reduce;
mod window;

#[cfg(test)]
mod tests;

use std::cell::Cell;

use smallvec::SmallVec;
use tarsia_tensor::{Bindings, Dim, Numbers, Shape, Tensor, host, rng};

pub use error::{EvalError, Fault};

use crate::{Attr, Graph, Kind, NodeId, Op, Real, Type, Value, infer};

/// Bounds of an evaluation, against hostile programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Elements that may be alive at one time, constants included.
    pub elements: usize,
    /// Loop iterations, summed over all loops.
    pub iterations: u64,
}

impl Default for Options {
    /// 2³¹ elements and 2³² iterations.
    fn default() -> Options {
        Options { elements: 1 << 31, iterations: 1 << 32 }
    }
}

/// The outputs of a graph.
///
/// # Errors
/// If the inputs do not fit the graph's, or an op fails.
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    run_within(graph, inputs, &Options::default())
}

/// The outputs of a graph, within bounds.
///
/// # Errors
/// If the inputs do not fit the graph's, an op fails, or a bound is exceeded.
pub fn run_within(graph: &Graph, inputs: &[Tensor], options: &Options) -> Result<Vec<Tensor>, EvalError> {
    evaluate(graph, inputs, &Bindings::new(), &Meter::new(*options), &mut |_, _| {})
}

/// The results of every node, by node index.
///
/// # Errors
/// As [`run_within`].
pub fn trace(graph: &Graph, inputs: &[Tensor], options: &Options) -> Result<Vec<Vec<Tensor>>, EvalError> {
    let mut values = vec![Vec::new(); graph.node_count()];
    visit(graph, inputs, options, &mut |id, results| values[id.index()] = results.to_vec())?;
    Ok(values)
}

/// Evaluates a graph and shows the results of each of its nodes, in order; the values before a failing node are seen too.
///
/// # Errors
/// As [`run_within`].
pub fn visit(
    graph: &Graph,
    inputs: &[Tensor],
    options: &Options,
    see: &mut dyn FnMut(NodeId, &[Tensor]),
) -> Result<Vec<Tensor>, EvalError> {
    evaluate(graph, inputs, &Bindings::new(), &Meter::new(*options), see)
}

/// The results of one op (any but `input`) under bindings of the symbols in its attributes.
///
/// # Errors
/// If the operands do not fit, an index is out of range, a symbol is unbound, or a bound is exceeded.
pub fn op(op: &Op, operands: &[Tensor], bindings: &Bindings) -> Result<Vec<Tensor>, Fault> {
    op_within(op, operands, bindings, &Options::default())
}

/// The results of one op within bounds; see [`op`].
///
/// # Errors
/// As [`op`].
pub fn op_within(op: &Op, operands: &[Tensor], bindings: &Bindings, options: &Options) -> Result<Vec<Tensor>, Fault> {
    apply(op, operands, bindings, &Meter::new(*options))
}

/// What the symbols of a graph's inputs are for these tensors.
///
/// # Errors
/// If the inputs differ in number, element type, rank or size from the declared ones.
pub fn bind(graph: &Graph, inputs: &[Tensor]) -> Result<Bindings, EvalError> {
    bind_under(graph, inputs, &Bindings::new())
}

/// Elements alive and iterations made so far.
struct Meter {
    options: Options,
    alive: Cell<usize>,
    iterations: Cell<u64>,
}

impl Meter {
    fn new(options: Options) -> Meter {
        Meter { options, alive: Cell::new(0), iterations: Cell::new(0) }
    }

    /// Elements that may still be made.
    fn room(&self) -> usize {
        self.options.elements.saturating_sub(self.alive.get())
    }

    fn check(&self, shapes: &[Shape]) -> Result<(), Fault> {
        let wanted = shapes.iter().try_fold(0usize, |sum, shape| sum.checked_add(tarsia_tensor::element_count(shape)?));
        match wanted {
            Some(wanted) if wanted <= self.room() => Ok(()),
            _ => Err(Fault::TooLarge { shapes: shapes.to_vec(), limit: self.options.elements }),
        }
    }

    fn keep(&self, tensors: &[Tensor]) {
        let count: usize = tensors.iter().map(Tensor::count).sum();
        self.alive.set(self.alive.get().saturating_add(count));
    }

    fn release(&self, tensor: &Tensor) {
        self.alive.set(self.alive.get().saturating_sub(tensor.count()));
    }

    fn iterate(&self) -> Result<(), Fault> {
        self.iterations.set(self.iterations.get() + 1);
        if self.iterations.get() > self.options.iterations {
            return Err(Fault::TooLong(self.options.iterations));
        }
        Ok(())
    }
}

/// Evaluates a graph whose symbols may come from an outer one.
fn evaluate(
    graph: &Graph,
    inputs: &[Tensor],
    outer: &Bindings,
    meter: &Meter,
    see: &mut dyn FnMut(NodeId, &[Tensor]),
) -> Result<Vec<Tensor>, EvalError> {
    if let Some(output) = graph.outputs().iter().find(|output| !exists(graph, output.value)) {
        return Err(EvalError::Output(output.name.clone()));
    }
    let mut bindings = bind_under(graph, inputs, outer)?;
    let mut values = Values::new(graph, meter);
    for id in graph.node_ids() {
        let node = &graph[id];
        let operands = graph.operands(id);
        let results = match &node.op {
            Op::Input { index, .. } => inputs.get(*index).map(|tensor| vec![tensor.clone()]).ok_or(Fault::NoOperand),
            op => values.read(&operands).and_then(|tensors| apply(op, &tensors, &bindings, meter)),
        };
        let results = results
            .and_then(|results| settle(&node.types, &results, &mut bindings).map(|()| results))
            .map_err(|fault| EvalError::at(graph, id, fault))?;
        see(id, &results);
        values.keep(id, results, &operands);
    }
    values.outputs(graph)
}

fn exists(graph: &Graph, value: Value) -> bool {
    graph.dag().node_weight(value.node).is_some_and(|node| (value.output as usize) < node.types.len())
}

/// The values that are still needed.
struct Values<'a> {
    meter: &'a Meter,
    tensors: Vec<SmallVec<[Option<Tensor>; 1]>>,
    /// How often each value will still be read, by a node or as an output.
    uses: Vec<SmallVec<[usize; 1]>>,
}

impl Values<'_> {
    fn new<'a>(graph: &Graph, meter: &'a Meter) -> Values<'a> {
        let mut uses: Vec<SmallVec<[usize; 1]>> =
            graph.node_ids().map(|id| SmallVec::from_elem(0, graph[id].types.len())).collect();
        let read = graph.node_ids().flat_map(|id| graph.operands(id)).chain(graph.outputs().iter().map(|o| o.value));
        read.for_each(|value| uses[value.node.index()][value.output as usize] += 1);
        Values { meter, tensors: vec![SmallVec::new(); graph.node_count()], uses }
    }

    fn read(&self, operands: &[Value]) -> Result<Vec<Tensor>, Fault> {
        let read = |value: &Value| self.tensors[value.node.index()][value.output as usize].clone();
        operands.iter().map(read).collect::<Option<_>>().ok_or(Fault::NoOperand)
    }

    /// Keeps the results of a node that has read its operands, and drops what nobody will read any more.
    fn keep(&mut self, id: NodeId, results: Vec<Tensor>, operands: &[Value]) {
        self.meter.keep(&results);
        let own = (0..results.len() as u32).map(|output| Value { node: id, output });
        self.tensors[id.index()] = results.into_iter().map(Some).collect();
        for value in operands {
            self.uses[value.node.index()][value.output as usize] -= 1;
        }
        for Value { node, output } in operands.iter().copied().chain(own) {
            if self.uses[node.index()][output as usize] == 0
                && let Some(tensor) = self.tensors[node.index()][output as usize].take()
            {
                self.meter.release(&tensor);
            }
        }
    }

    /// The outputs; who called counts them from here on.
    fn outputs(self, graph: &Graph) -> Result<Vec<Tensor>, EvalError> {
        let values: Vec<Value> = graph.outputs().iter().map(|output| output.value).collect();
        let outputs = values.iter().map(|value| {
            self.read(&[*value]).map(|mut one| one.remove(0)).map_err(|fault| EvalError::at(graph, value.node, fault))
        });
        let outputs = outputs.collect();
        self.tensors.iter().flatten().flatten().for_each(|tensor| self.meter.release(tensor));
        outputs
    }
}

fn bind_under(graph: &Graph, inputs: &[Tensor], outer: &Bindings) -> Result<Bindings, EvalError> {
    if inputs.len() != graph.inputs().len() {
        return Err(EvalError::InputCount { expected: graph.inputs().len(), found: inputs.len() });
    }
    let mut bindings = outer.clone();
    let mut pairs: Vec<(&Dim, i64)> = Vec::new();
    for ((name, id), tensor) in graph.inputs().iter().zip(inputs) {
        let ty = &graph[*id].types[0];
        if ty.dtype != tensor.dtype() || ty.rank() != tensor.shape().len() {
            let (expected, found) = (ty.to_string(), Type::of(tensor).to_string());
            return Err(EvalError::Input { name: name.clone(), expected, found });
        }
        let sizes: Vec<(&Dim, i64)> =
            ty.shape.iter().zip(tensor.shape()).map(|(dim, &size)| (dim, size as i64)).collect();
        bindings.learn(sizes.iter().copied()).map_err(|error| EvalError::Bind { name: name.clone(), error })?;
        pairs.extend(sizes);
    }
    // Sizes that an earlier input left open may be determined by a later one.
    bindings.learn(pairs).map_err(|error| EvalError::Bind { name: "all".to_owned(), error })?;
    Ok(bindings)
}

/// Checks results against the declared types and learns the symbols that only the data determine.
fn settle(types: &[Type], results: &[Tensor], bindings: &mut Bindings) -> Result<(), Fault> {
    if types.len() != results.len() {
        return Err(Fault::ResultCount { expected: types.len(), found: results.len() });
    }
    for (ty, tensor) in types.iter().zip(results) {
        if ty.dtype != tensor.dtype() || ty.rank() != tensor.shape().len() {
            return Err(Fault::Result { expected: ty.to_string(), found: Type::of(tensor).to_string() });
        }
        bindings.learn(ty.shape.iter().zip(tensor.shape()).map(|(dim, &size)| (dim, size as i64)))?;
    }
    Ok(())
}

fn apply(op: &Op, x: &[Tensor], bindings: &Bindings, meter: &Meter) -> Result<Vec<Tensor>, Fault> {
    match op {
        Op::Constant { value } => return Ok(vec![value.clone()]),
        Op::Input { .. } => return Err(Fault::NoOperand),
        Op::Size { dim } => return Ok(vec![Tensor::scalar(bindings.eval(dim)?)]),
        Op::Host { function, ints, reals, .. } => {
            let reals: Vec<f64> = reals.iter().map(|Real(value)| *value).collect();
            return Ok(host::call_within(function, ints, &reals, x, meter.room())?);
        }
        _ => {}
    }
    if op.kind() == Kind::Control {
        return control::apply(op, x, bindings, meter);
    }
    // Only a view can be had of data that are absent.
    if !matches!(op, Op::Reshape { .. }) {
        x.iter().try_for_each(Tensor::present)?;
    }
    let op = &with_bound_sizes(op, bindings)?;
    let (types, shapes) = concrete_types(op, x)?;
    meter.check(&shapes)?;
    let shape = shapes.first().ok_or(Fault::NoOperand)?;
    let one = |tensor: Result<Tensor, Fault>| tensor.map(|tensor| vec![tensor]);
    match op.kind() {
        Kind::Leaf => one(leaf(op, shape)),
        Kind::Pointwise => one(pointwise::apply(op, x, shape)),
        Kind::Movement => one(movement::apply(op, x, shape)),
        Kind::Reduce => one(reduce::apply(op, x, shape)),
        Kind::Contract => one(contract::apply(op, x, shape)),
        Kind::Window => one(window::apply(op, x, shape)),
        Kind::Index => one(index::apply(op, x, shape)),
        Kind::Order => order::apply(op, x, shape),
        Kind::Composite => control::composite(op, x, &types, bindings, meter),
        Kind::Control | Kind::Host => Err(Fault::NoOperand),
    }
}

/// The op with every bound symbol of its attributes replaced by its value.
fn with_bound_sizes(op: &Op, bindings: &Bindings) -> Result<Op, Fault> {
    let symbolic = |dims: &[&[Dim]]| dims.iter().any(|dims| dims.iter().any(|dim| dim.as_const().is_none()));
    let open = match op {
        Op::Iota { shape, .. } | Op::Random { shape, .. } | Op::Reshape { shape } | Op::Broadcast { shape } => {
            symbolic(&[shape])
        }
        Op::Slice { starts, sizes, .. } => symbolic(&[starts, sizes]),
        Op::Pad { low, high, .. } => symbolic(&[low, high]),
        Op::TopK { k, .. } => k.as_const().is_none(),
        _ => false,
    };
    if !open {
        return Ok(op.clone());
    }
    let attrs = op.attrs();
    let value = |dim: &Dim| bindings.eval(dim).map(Dim::Const);
    let mut bound = Vec::with_capacity(attrs.len());
    for (name, attr) in attrs {
        bound.push((
            name,
            match attr {
                Attr::Dim(dim) => Attr::Dim(value(&dim)?),
                Attr::Dims(dims) => Attr::Dims(dims.iter().map(value).collect::<Result<_, _>>()?),
                other => other,
            },
        ));
    }
    let get = |name: &str| bound.iter().find(|(n, _)| *n == name).map(|(_, attr)| attr.clone());
    Op::from_attrs(op.name(), &get).map_err(|error| Fault::Op(error.to_string()))
}

/// The result types on concrete operands, with their sizes.
fn concrete_types(op: &Op, x: &[Tensor]) -> Result<(SmallVec<[Type; 1]>, Vec<Shape>), Fault> {
    let operands: Vec<Type> = x.iter().map(Type::of).collect();
    let types = infer(op, &operands.iter().collect::<Vec<_>>())?;
    let none = Bindings::new();
    let shapes = types.iter().map(|ty| none.shape(&ty.shape)).collect::<Result<Vec<Shape>, _>>()?;
    Ok((types, shapes))
}

fn leaf(op: &Op, shape: &Shape) -> Result<Tensor, Fault> {
    let count: usize = shape.iter().product();
    let (dtype, numbers) = match op {
        Op::Iota { dtype, axis, .. } => {
            let inner: usize = shape[axis + 1..].iter().product();
            (*dtype, Numbers::Int((0..count).map(|i| (i / inner % shape[*axis]) as i64).collect()))
        }
        Op::Random { dtype, distribution, seed, .. } => {
            let draw: &dyn Fn(u64) -> f64 = match distribution.as_str() {
                "uniform" => &|i| rng::uniform(*dtype, *seed, i),
                "normal" => &|i| rng::normal(*seed, i),
                other => return Err(Fault::Op(format!("there is no distribution `{other}`"))),
            };
            (*dtype, Numbers::Float((0..count as u64).map(draw).collect()))
        }
        _ => return Err(Fault::NoOperand),
    };
    if !dtype.is_numeric() {
        return Err(Fault::Unsupported(dtype));
    }
    Ok(Tensor::from_numbers(dtype, shape, &numbers)?)
}
