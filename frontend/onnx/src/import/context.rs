//! What importers work in: the graph that grows, what the model's names stand for, and the problems found.

use rustc_hash::{FxHashMap, FxHashSet};
use tarsia_graph::{Graph, GraphError, Kind, Origin, Type, Value, eval};
use tarsia_tensor::{Bindings, Dim, Tensor, TensorError};

use super::{Form, Item, Known, Options, evaluate, symbols::Symbols};
use crate::{
    Dimension, Fault, Model, Node, Problem, Problems, ValueType,
    ops::{self, Importer},
    view,
};

/// Why an importer stops.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An operand could not be imported; that is reported already.
    Poisoned,
    /// A problem that knows its place.
    Problem(Problem),
    /// A problem of the node at hand.
    Fault(Fault),
}

/// What importers give.
pub(crate) type Outcome<T> = Result<T, Stop>;

/// The stop for something right that is not supported.
pub(crate) fn unsupported(what: impl Into<String>) -> Stop {
    Stop::Fault(Fault::Unsupported(what.into()))
}

/// The stop for something that is wrong.
pub(crate) fn invalid(what: impl Into<String>) -> Stop {
    Stop::Fault(Fault::Invalid(what.into()))
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Stop {
        Stop::Problem(problem)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl From<GraphError> for Stop {
    fn from(error: GraphError) -> Stop {
        invalid(error.to_string())
    }
}

impl From<TensorError> for Stop {
    fn from(error: TensorError) -> Stop {
        invalid(error.to_string())
    }
}

/// Nodes and elements of an expression of constants that is evaluated at import.
const FOLDED_NODES: usize = 32;
const FOLDED_ELEMENTS: usize = 4096;

/// The state of an import, and what importers build with (see `build`).
pub(crate) struct Ctx<'a, 'o> {
    /// The graph that grows: the model's, or that of the sub-graph being imported.
    pub graph: Graph,
    /// Where new nodes come from.
    pub origin: Origin,
    /// What the names of the graph or function at hand stand for.
    pub(super) names: FxHashMap<&'a str, Item>,
    /// Values whose elements are known although they are in the graph.
    pub(super) known: FxHashMap<Value, Known>,
    pub(super) symbols: Symbols<'o>,
    problems: Problems,
    /// Names of the nodes whose function bodies are being put in place, each with a slash.
    calls: String,
}

pub(super) fn import(model: &Model, options: &Options) -> Result<Graph, Problems> {
    let source = model.graph();
    let (inputs, mut problems) = input_types(&source);
    let dims = inputs.iter().flat_map(|input| input.shape.iter().copied());
    let symbols = Symbols::new(options, dims);
    let mut ctx = Ctx {
        graph: Graph::new(source.name()),
        origin: Origin::default(),
        names: FxHashMap::default(),
        known: FxHashMap::default(),
        symbols,
        problems: std::mem::take(&mut problems),
        calls: String::new(),
    };
    for value in source.inputs() {
        ctx.names.insert(value.name(), Item::Poison);
    }
    for InputType { name, form, shape } in inputs {
        let mut dims = shape.iter().enumerate().map(|(axis, &dim)| ctx.symbols.dim(dim, name, axis));
        let ty = match form {
            Form::Tensor(dtype, _) => Type::new(dtype, dims.collect::<Vec<_>>()),
            _ => form.whole_type(dims.next().unwrap_or(Dim::ONE)),
        };
        // What no op could give is no input either.
        let same = tarsia_graph::Op::Reshape { shape: ty.shape.clone() };
        if tarsia_graph::infer(&same, &[&ty]).is_err() {
            let text = format!("input `{name}`: {ty} is larger than any memory");
            ctx.problems.push(Problem::new(source.place(), Fault::Invalid(text)));
            continue;
        }
        let value = ctx.graph.add_input(name, ty);
        let item = ctx.opened(value, &form);
        ctx.names.insert(name, item);
    }
    ctx.initializers(&source);
    ctx.nodes(&source);
    for output in source.outputs() {
        let value = match (Ctx::declared_whole(&output), ctx.names.get(output.name()).cloned()) {
            (Some(form), Some(item)) => ctx.coerced(&item, &form),
            (None, Some(item)) if !matches!(item, Item::Tensor(_) | Item::Known(_)) => {
                ctx.whole(&item).map(|(value, _)| value)
            }
            _ => ctx.named(output.name()),
        };
        match value {
            Ok(value) => ctx.graph.add_output(output.name(), value),
            Err(Stop::Poisoned) => {}
            Err(stop) => {
                let text = format!("output `{}`: {}", output.name(), stop_text(stop));
                ctx.problems.push(Problem::new(source.place(), Fault::Unsupported(text)));
            }
        }
    }
    let graph = ctx.graph.without_dead_nodes();
    ctx.problems.or_ok(graph)
}

fn stop_text(stop: Stop) -> String {
    match stop {
        Stop::Poisoned => String::new(),
        Stop::Problem(problem) => problem.to_string(),
        Stop::Fault(fault) => fault.to_string(),
    }
}

/// An input without a default.
struct InputType<'a> {
    name: &'a str,
    form: Form,
    /// Of a tensor its sizes, of a sequence or an optional value its length.
    shape: Vec<Dimension<'a>>,
}

/// The inputs without a default, with their types; a default counts as a constant.
fn input_types<'a>(source: &view::Graph<'a>) -> (Vec<InputType<'a>>, Problems) {
    let constants: FxHashSet<&str> = source.initializers().map(|tensor| tensor.name()).collect();
    let (mut inputs, mut problems) = (Vec::new(), Problems::new());
    for value in source.inputs().into_iter().filter(|value| !constants.contains(value.name())) {
        let mut refuse = |what: &str| {
            let text = format!("input `{}` {what}", value.name());
            problems.push(Problem::new(source.place(), Fault::Unsupported(text)));
        };
        match value.value_type() {
            Ok(Some(ValueType::Tensor(tensor))) => match tensor.shape {
                Some(shape) => inputs.push(InputType {
                    name: value.name(),
                    form: Form::Tensor(tensor.dtype, Some(shape.len())),
                    shape,
                }),
                None => refuse("does not say how many axes it has; give it a shape in the model"),
            },
            Ok(Some(other)) => match Form::declared(&other) {
                Some(form) => inputs.push(InputType { name: value.name(), form, shape: vec![Dimension::Unknown] }),
                None => refuse(&format!(
                    "is {}, and only tensors, sequences, optional values and maps can be",
                    kind(&other)
                )),
            },
            Ok(None) => refuse("has no type; give it one in the model"),
            Err(problem) => problems.push(problem),
        }
    }
    (inputs, problems)
}

fn kind(ty: &ValueType<'_>) -> &'static str {
    match ty {
        ValueType::Tensor(_) => "a tensor",
        ValueType::SparseTensor(_) => "a sparse tensor",
        ValueType::Sequence(_) => "a sequence",
        ValueType::Optional(_) => "optional",
        ValueType::Map { .. } => "a map",
        ValueType::Opaque { .. } => "of an opaque type",
    }
}

// Walking.
impl<'a> Ctx<'a, '_> {
    pub(super) fn initializers(&mut self, source: &view::Graph<'a>) {
        for constant in source.initializers() {
            let item = match constant.tensor() {
                Ok(tensor) => {
                    let origin = Origin::of(constant.name());
                    Item::Tensor(self.graph.add_constant(tensor, origin))
                }
                Err(problem) => {
                    self.problems.push(problem);
                    Item::Poison
                }
            };
            self.names.insert(constant.name(), item);
        }
    }

    pub(super) fn nodes(&mut self, source: &view::Graph<'a>) {
        for node in source.ordered_nodes() {
            let outer = std::mem::replace(&mut self.origin, Origin::of(&format!("{}{}", self.calls, node.name())));
            let mark = self.problems.as_slice().len();
            let items = self.node(&node).unwrap_or_else(|stop| {
                self.report(&node, stop, mark);
                Vec::new()
            });
            let mut items = items.into_iter();
            for name in node.outputs() {
                let item = items.next().unwrap_or(Item::Poison);
                if !name.is_empty() {
                    self.names.insert(name, item);
                }
            }
            self.origin = outer;
        }
    }

    fn report(&mut self, node: &Node<'a>, stop: Stop, mark: usize) {
        let problem = match stop {
            Stop::Poisoned => return,
            Stop::Problem(problem) => problem,
            Stop::Fault(fault) => node.problem(fault),
        };
        let text = problem.to_string();
        // A body that is imported again, as loops do, finds its problems again.
        if !self.problems.as_slice().iter().skip(mark).any(|known| known.to_string() == text) {
            self.problems.push(problem);
        }
    }

    fn node(&mut self, node: &Node<'a>) -> Outcome<Vec<Item>> {
        if let Some(body) = node.call() {
            return self.call(node, &body);
        }
        let row = ops::find(node.domain(), node.op_type()).ok_or(Fault::UnknownOperator)?;
        let version = node.version().ok_or_else(|| Fault::OpsetMissing(node.domain().to_owned()))?;
        if version < row.since {
            return Err(Fault::TooOld { since: row.since }.into());
        }
        if let Some(until) = row.until.filter(|&until| version >= until) {
            return Err(invalid(format!("the operator was removed in version {until}")));
        }
        let faults = self.nonconformities(node, version);
        if !faults.is_empty() {
            faults.into_iter().for_each(|problem| self.problems.push(problem));
            return Err(Stop::Poisoned);
        }
        if node.inputs().iter().any(|name| self.names.get(name.as_str()).is_some_and(Item::is_poisoned)) {
            self.survey_bodies(node);
            return Err(Stop::Poisoned);
        }
        if let Some(known) = evaluate::evaluate(self, node) {
            return Ok(known.into_iter().map(Item::Known).collect());
        }
        match row.import {
            Importer::Unary(function) => {
                let x = self.value(node, 0)?;
                Ok(vec![self.unary(function, x)?.into()])
            }
            Importer::Binary(function) => {
                let (a, b) = ops::operands(self, node)?;
                Ok(vec![self.binary(function, a, b)?.into()])
            }
            Importer::One(import) => Ok(vec![import(self, node)?.into()]),
            Importer::Values(import) => Ok(import(self, node)?.into_iter().map(Item::Tensor).collect()),
            Importer::Items(import) => import(self, node),
        }
    }

    /// Puts the body of a function in place of its call.
    fn call(&mut self, node: &Node<'a>, body: &view::Graph<'a>) -> Outcome<Vec<Item>> {
        let mut names = FxHashMap::default();
        for (position, input) in body.inputs().iter().enumerate() {
            if let Some(item) = node.input(position).and_then(|name| self.names.get(name)) {
                names.insert(input.name(), item.clone());
            }
        }
        let outer = std::mem::replace(&mut self.names, names);
        let depth = self.calls.len();
        self.calls.push_str(&format!("{}/", node.name()));
        self.nodes(body);
        self.calls.truncate(depth);
        let names = std::mem::replace(&mut self.names, outer);
        Ok(body.outputs().iter().map(|output| names.get(output.name()).cloned().unwrap_or(Item::Poison)).collect())
    }

    /// Reports operators that no row knows in the sub-graphs of a node that is not imported itself.
    fn survey_bodies(&mut self, node: &Node<'a>) {
        let bodies: Vec<view::Graph<'a>> = node
            .attrs()
            .flat_map(|attribute| {
                attribute.graph().into_iter().chain(attribute.graphs().unwrap_or_default()).collect::<Vec<_>>()
            })
            .collect();
        for inner in bodies.iter().flat_map(view::Graph::nodes) {
            if inner.call().is_none() && ops::find(inner.domain(), inner.op_type()).is_none() {
                self.problems.push(inner.problem(Fault::UnknownOperator));
            }
            self.survey_bodies(&inner);
        }
    }
}

// Operands.
impl<'a> Ctx<'a, '_> {
    /// What an input of a node stands for; `None` if it is left out.
    pub fn item(&self, node: &Node<'a>, index: usize) -> Option<&Item> {
        self.names.get(node.input(index)?).filter(|item| !matches!(item, Item::Nothing))
    }

    /// The value of a name of the graph at hand.
    pub fn value_named(&mut self, name: &str) -> Outcome<Value> {
        self.named(name)
    }

    /// What a name stands for, be it nothing.
    pub fn raw_item(&self, name: &str) -> Option<Item> {
        self.names.get(name).cloned()
    }

    /// The value of an input that must be there.
    pub fn value(&mut self, node: &Node<'a>, index: usize) -> Outcome<Value> {
        self.value_opt(node, index)?.ok_or(Stop::Fault(Fault::MissingInput(index)))
    }

    /// The value of an input, if it is there.
    pub fn value_opt(&mut self, node: &Node<'a>, index: usize) -> Outcome<Option<Value>> {
        match node.input(index).filter(|name| self.names.contains_key(name)) {
            None => Ok(None),
            Some(_) if self.item(node, index).is_none() => Ok(None),
            Some(name) => self.named(name).map(Some),
        }
    }

    /// `f` with an input of a node standing for another value.
    pub fn with_input<T>(
        &mut self,
        node: &Node<'a>,
        index: usize,
        value: Value,
        f: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        let name = node.input(index).ok_or(Stop::Fault(Fault::MissingInput(index)))?;
        if node.inputs().iter().filter(|other| *other == name).count() > 1 {
            return Err(unsupported(format!("`{name}` as several of its inputs")));
        }
        let own = self.names.insert(name, value.into());
        let result = f(self);
        if let Some(own) = own {
            self.names.insert(name, own);
        }
        result
    }

    /// The values of all inputs, none of which may be left out.
    pub fn values(&mut self, node: &Node<'a>) -> Outcome<Vec<Value>> {
        (0..node.inputs().len()).map(|index| self.value(node, index)).collect()
    }

    /// The value of a name; known elements enter the graph here.
    pub(super) fn named(&mut self, name: &str) -> Outcome<Value> {
        let Some((&name, item)) = self.names.get_key_value(name) else {
            return Err(Fault::Undefined(name.to_owned()).into());
        };
        match item {
            Item::Tensor(value) => Ok(*value),
            Item::Known(known) => {
                let known = known.clone();
                let value = self.materialise(&known)?;
                self.names.insert(name, value.into());
                Ok(value)
            }
            other => {
                let other = other.clone();
                self.item_value(&other)
            }
        }
    }

    /// The value of an item; known elements enter the graph here.
    pub fn item_value(&mut self, item: &Item) -> Outcome<Value> {
        match item {
            Item::Tensor(value) => Ok(*value),
            Item::Known(known) => self.materialise(known),
            Item::Whole(value, Form::Optional(inner)) => {
                let item = self.element(*value, None, inner)?;
                self.item_value(&item)
            }
            Item::Whole(_, Form::Map(..)) => Err(invalid("a map where a tensor is expected")),
            Item::Sequence(_) | Item::Whole(..) => Err(invalid("a sequence where a tensor is expected")),
            Item::Nothing => Err(unsupported("an empty optional value where a tensor is expected")),
            Item::Poison => Err(Stop::Poisoned),
        }
    }

    /// The elements of an input that are known at import.
    pub fn known(&self, node: &Node<'a>, index: usize) -> Option<Known> {
        match self.item(node, index)? {
            Item::Known(known) => Some(known.clone()),
            Item::Tensor(value) => self.known_value(*value),
            _ => None,
        }
    }

    /// The elements of a value that are known at import.
    pub fn known_value(&self, value: Value) -> Option<Known> {
        self.known.get(&value).cloned().or_else(|| Known::of_tensor(&self.folded(value, &mut { FOLDED_NODES })?))
    }

    /// The constant that an input is, if it is one.
    pub fn tensor(&self, node: &Node<'a>, index: usize) -> Option<Tensor> {
        match self.item(node, index)? {
            Item::Known(known) => known.to_tensor(),
            Item::Tensor(value) => self.constant(*value),
            _ => None,
        }
    }

    /// The constant that a value is, if it is one.
    pub fn constant(&self, value: Value) -> Option<Tensor> {
        let known = || self.known.get(&value)?.to_tensor();
        known().or_else(|| self.folded(value, &mut { FOLDED_NODES }))
    }

    /// The value of a small expression of constants, `nodes` bounding its size. This serves operands that decide types, such as the
    /// factors of a resampling; folding for speed is a pass of its own.
    fn folded(&self, value: Value, nodes: &mut usize) -> Option<Tensor> {
        if let Some(constant) = self.graph.constant(value) {
            return Some(constant.clone());
        }
        let node = &self.graph[value.node];
        let small = node.types.iter().all(|ty| ty.count().as_usize().is_some_and(|count| count <= FOLDED_ELEMENTS));
        let plain = node.op.is_pure() && !matches!(node.op.kind(), Kind::Leaf | Kind::Control | Kind::Host);
        *nodes = nodes.checked_sub(1).filter(|_| small && plain)?;
        let operands = self.graph.operands(value.node);
        let tensors = operands.iter().map(|&operand| self.folded(operand, nodes)).collect::<Option<Vec<Tensor>>>()?;
        if tensors.iter().any(|tensor| tensor.count() > FOLDED_ELEMENTS) {
            return None;
        }
        eval::op(&node.op, &tensors, &Bindings::new()).ok()?.into_iter().nth(value.output as usize)
    }

    /// The type of an input, without putting known elements into the graph.
    pub fn input_type(&self, node: &Node<'a>, index: usize) -> Option<Type> {
        match self.item(node, index)? {
            Item::Tensor(value) => Some(self.ty(*value).clone()),
            Item::Known(known) => {
                Some(Type::new(known.dtype, known.shape.iter().map(|&size| Dim::from(size)).collect::<Vec<_>>()))
            }
            _ => None,
        }
    }

    /// A size that only run-time data tell, named after what gives it.
    pub fn fresh(&mut self, what: &str) -> Dim {
        self.symbols.fresh(what)
    }
}

impl Node<'_> {
    /// Whether the node follows the definition that came with this version of its operator set.
    pub(crate) fn since(&self, version: i64) -> bool {
        self.version().is_some_and(|own| own >= version)
    }
}

/// `axis`, counted from the end if negative, below `rank`.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Outcome<usize> {
    let wrapped = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    wrapped
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|&axis| axis < rank)
        .ok_or_else(|| invalid(format!("axis {axis} is not one of a tensor with {rank} axes")))
}
