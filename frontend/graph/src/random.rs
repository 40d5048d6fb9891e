//! Random graphs drawn from the op table, with inputs that they accept, for differential tests.
//!
//! Each node is evaluated as it is added, so that every graph is valid for its inputs: indices are in range, sizes agree,
//! floats are finite. With a tolerance, the worst error that rounding in another order can do is followed from value to
//! value: no output may be off by more than the tolerance, and ops that jump (rounding, comparing, sorting …) only see floats
//! that every implementation computes exactly. The same seed gives the same graph.

mod arithmetic;
mod shrink;
mod structure;
mod subgraphs;

use tarsia_tensor::{Bindings, Class, DType, Dim, Numbers, Shape, Symbol, Tensor, rng::Stream};

pub use shrink::shrink;

use crate::{Graph, Kind, Op, Origin, Type, Value, eval, infer};

/// What to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Most drawn ops; constants and preparing ops come on top.
    pub nodes: usize,
    /// Element types of inputs; repeat one to draw it more often.
    pub dtypes: Vec<DType>,
    /// Families to draw from (those without a meaning for the types at hand are skipped).
    pub kinds: Vec<Kind>,
    /// Whether some sizes are symbols.
    pub symbols: bool,
    /// Most elements of a value.
    pub elements: usize,
    /// The largest difference that rounding may make in any float of the graph; `None` draws without regard to rounding.
    pub tolerance: Option<f64>,
}

impl Default for Options {
    /// All families and the common types, symbols, up to 30 nodes of up to 4096 elements, tolerance 0.02.
    fn default() -> Options {
        use DType::{BF16, Bool, F16, F32, F64, I8, I32, I64, U8};
        Options {
            nodes: 30,
            dtypes: vec![F32, F32, F32, F32, F16, BF16, F64, I64, I32, I8, U8, Bool],
            kinds: vec![
                Kind::Leaf,
                Kind::Pointwise,
                Kind::Movement,
                Kind::Reduce,
                Kind::Contract,
                Kind::Window,
                Kind::Index,
                Kind::Order,
                Kind::Control,
                Kind::Host,
                Kind::Composite,
            ],
            symbols: true,
            elements: 4096,
            tolerance: Some(0.02),
        }
    }
}

impl Options {
    /// Floats of one type only, integers besides only where ops give them.
    pub fn of(dtype: DType) -> Options {
        Options { dtypes: vec![dtype], ..Options::default() }
    }

    /// The same with these families only.
    pub fn with_kinds(self, kinds: &[Kind]) -> Options {
        Options { kinds: kinds.to_vec(), ..self }
    }
}

/// A graph and inputs for it. Every value that nothing uses is an output.
pub fn graph(seed: u64, options: &Options) -> (Graph, Vec<Tensor>) {
    let mut maker = Maker::new(seed, options);
    for _ in 0..maker.stream.below(3) + 1 {
        maker.draw_input();
    }
    maker.bind_symbols();
    let target = 1 + maker.stream.below(options.nodes.max(1));
    let mut made = 0;
    // Attempts that do not fit what is there cost a try; a graph of few ops is a graph too.
    for _ in 0..target * 20 {
        if made < target && maker.draw_op().is_some() {
            made += 1;
        }
    }
    maker.finish()
}

/// Values beyond this are not made.
const LARGEST: f64 = 1e3;

/// A value of the graph with what it is for the inputs.
#[derive(Clone, Debug)]
struct Known {
    value: Value,
    tensor: Tensor,
    ty: Type,
    /// Largest magnitude.
    bound: f64,
    /// How far rounding can take it; 0 if every implementation gives these very bits.
    error: f64,
}

/// An index into the known values.
type At = usize;

/// What an op does to errors.
#[derive(Clone, Copy, Debug)]
enum Rounding {
    /// Elements are passed on, or computed exactly by everybody.
    None,
    /// The errors of the operands come to this much, and the result rounds.
    Some(f64),
}

struct Maker<'a> {
    options: &'a Options,
    stream: Stream,
    graph: Graph,
    inputs: Vec<Tensor>,
    bindings: Bindings,
    known: Vec<Known>,
    symbols: Vec<Symbol>,
    fresh: usize,
}

impl Maker<'_> {
    fn new(seed: u64, options: &Options) -> Maker<'_> {
        let mut stream = Stream::new(seed as i64);
        let mut bindings = Bindings::new();
        let symbols: Vec<Symbol> = ["n", "m"].map(Symbol::new).into();
        symbols.iter().for_each(|symbol| bindings.set(symbol.clone(), 1 + stream.below(6) as i64));
        let graph = Graph::new(&format!("random_{seed}"));
        Maker { options, stream, graph, inputs: Vec::new(), bindings, known: Vec::new(), symbols, fresh: 0 }
    }

    fn finish(mut self) -> (Graph, Vec<Tensor>) {
        let unused = self.known.iter().filter(|known| {
            let mut users = self.graph.users(known.value.node).into_iter();
            !users.any(|(_, edge)| edge.output == known.value.output)
                && !matches!(self.graph[known.value.node].op, Op::Constant { .. })
        });
        let unused: Vec<Value> = unused.map(|known| known.value).collect();
        for (i, value) in unused.into_iter().enumerate() {
            self.graph.add_output(&format!("y{i}"), value);
        }
        (self.graph, self.inputs)
    }

    fn draw_op(&mut self) -> Option<At> {
        let kind = *self.stream.pick(&self.options.kinds);
        let x = self.stream.below(self.known.len());
        match kind {
            Kind::Leaf => self.draw_leaf(),
            Kind::Pointwise => self.draw_pointwise(x),
            Kind::Movement => self.draw_movement(x),
            Kind::Reduce => self.draw_reduction(x),
            Kind::Contract => self.draw_contraction(x),
            Kind::Window => self.draw_window(x),
            Kind::Index => self.draw_index(x),
            Kind::Order => self.draw_order(x),
            Kind::Control => self.draw_control(x),
            Kind::Host => self.draw_host(x),
            Kind::Composite => self.draw_composite(x),
        }
    }

    /// Adds `op` if it is valid, small enough and, with a tolerance, precise enough.
    fn add(&mut self, op: Op, operands: &[At], rounding: Rounding) -> Option<At> {
        let types: Vec<&Type> = operands.iter().map(|&at| &self.known[at].ty).collect();
        let types = infer(&op, &types).ok()?;
        let tensors: Vec<Tensor> = operands.iter().map(|&at| self.known[at].tensor.clone()).collect();
        let limits = eval::Options { elements: self.options.elements * 64, iterations: 100 };
        let results = eval::op_within(&op, &tensors, &self.bindings, &limits).ok()?;
        let mut bindings = self.bindings.clone();
        let mut made = Vec::with_capacity(results.len());
        for (ty, tensor) in types.iter().zip(results) {
            if tensor.count() > self.options.elements || ty.rank() != tensor.shape().len() {
                return None;
            }
            bindings.learn(ty.shape.iter().zip(tensor.shape()).map(|(dim, &size)| (dim, size as i64))).ok()?;
            let bound = magnitude(&tensor).filter(|&bound| bound <= LARGEST || !ty.dtype.is_float());
            let (bound, error) = match (self.options.tolerance, bound, rounding) {
                (None, bound, _) => (bound.unwrap_or(f64::INFINITY), 0.0),
                (Some(_), None, _) => return None,
                (Some(_), Some(bound), _) if !ty.dtype.is_float() => (bound, 0.0),
                (Some(_), Some(bound), Rounding::None) => {
                    (bound, operands.iter().map(|&at| self.known[at].error).fold(0.0, f64::max))
                }
                (Some(_), Some(bound), Rounding::Some(error)) => (bound, error + bound * epsilon(ty.dtype)),
            };
            if self.options.tolerance.is_some_and(|tolerance| error.is_nan() || error > tolerance) {
                return None;
            }
            made.push((ty.clone(), tensor, bound, error));
        }
        let values: Vec<Value> = operands.iter().map(|&at| self.known[at].value).collect();
        let origin = Origin::of(&format!("{}_{}", op.name(), self.graph.node_count()));
        let node = self.graph.add(op, &values, origin).ok()?;
        self.bindings = bindings;
        let first = self.known.len();
        for (output, (ty, tensor, bound, error)) in made.into_iter().enumerate() {
            let value = Value { node, output: output as u32 };
            self.known.push(Known { value, tensor, ty, bound, error });
        }
        (first < self.known.len()).then_some(first)
    }

    /// A new input; a size is a symbol every other time.
    fn draw_input(&mut self) -> At {
        let dtype = *self.stream.pick(&self.options.dtypes);
        let rank = *self.stream.pick(&[0, 1, 2, 2, 3, 3, 4]);
        let shape = (0..rank).map(|_| self.draw_size()).collect::<Vec<_>>();
        self.add_input(Type::new(dtype, shape))
    }

    /// Adds an input for each symbol that no input determines yet.
    fn bind_symbols(&mut self) {
        let bound = eval::bind(&self.graph, &self.inputs).unwrap_or_default();
        for symbol in self.symbols.clone().into_iter().filter(|s| self.options.symbols && bound.get(s).is_none()) {
            let dtype = *self.stream.pick(&self.options.dtypes);
            self.add_input(Type::new(dtype, [Dim::from(symbol)]));
        }
    }

    fn add_input(&mut self, ty: Type) -> At {
        let sizes = self.bindings.shape(&ty.shape).unwrap_or_default();
        let tensor = self.draw_tensor(ty.dtype, &sizes);
        let value = self.graph.add_input(&format!("x{}", self.inputs.len()), ty.clone());
        self.inputs.push(tensor.clone());
        let bound = magnitude(&tensor).unwrap_or(0.0);
        self.known.push(Known { value, tensor, ty, bound, error: 0.0 });
        self.known.len() - 1
    }

    fn draw_size(&mut self) -> Dim {
        if !self.options.symbols || self.stream.one_in(2) {
            return Dim::from(1 + self.stream.below(5));
        }
        let symbol = Dim::from(self.stream.pick(&self.symbols).clone());
        match self.stream.below(5) {
            0 => symbol + Dim::ONE,
            1 => symbol * Dim::Const(2),
            _ => symbol,
        }
    }

    /// A symbol that stands for nothing yet.
    fn fresh_symbol(&mut self) -> Dim {
        self.fresh += 1;
        Dim::symbol(&format!("k{}", self.fresh))
    }

    fn draw_tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let count = shape.iter().product();
        let numbers = match dtype.class() {
            Class::Float => Numbers::Float((0..count).map(|_| self.stream.between(-2.0, 2.0)).collect()),
            _ if dtype == DType::Bool => Numbers::Uint((0..count).map(|_| self.stream.next_word() & 1).collect()),
            Class::Int => Numbers::Int((0..count).map(|_| self.stream.below(17) as i64 - 8).collect()),
            _ => Numbers::Uint((0..count).map(|_| self.stream.below(17) as u64).collect()),
        };
        tensor_of(dtype, shape, &numbers)
    }

    fn add_constant(&mut self, tensor: Tensor) -> At {
        let ty = Type::of(&tensor);
        let bound = magnitude(&tensor).unwrap_or(0.0);
        let value = self.graph.add_constant(tensor.clone(), Origin::default());
        self.known.push(Known { value, tensor, ty, bound, error: 0.0 });
        self.known.len() - 1
    }

    fn draw_constant(&mut self, dtype: DType, shape: &[usize]) -> At {
        let tensor = self.draw_tensor(dtype, shape);
        self.add_constant(tensor)
    }

    /// A scalar of `dtype`.
    fn scalar(&mut self, dtype: DType, value: f64) -> At {
        let numbers = Numbers::Float(vec![value]).cast(DType::F64, dtype, tarsia_tensor::Overflow::Special);
        self.add_constant(tensor_of(dtype, &[], &numbers))
    }

    fn dtype(&self, at: At) -> DType {
        self.known[at].ty.dtype
    }

    fn is_float(&self, at: At) -> bool {
        self.dtype(at).is_float()
    }

    fn rank(&self, at: At) -> usize {
        self.known[at].ty.rank()
    }

    fn sizes(&self, at: At) -> Shape {
        self.known[at].tensor.shape().into()
    }

    fn bound(&self, at: At) -> f64 {
        self.known[at].bound
    }

    fn error(&self, at: At) -> f64 {
        self.known[at].error
    }

    /// Whether an op that jumps may see this value.
    fn is_exact(&self, at: At) -> bool {
        self.options.tolerance.is_none() || self.known[at].error == 0.0
    }

    /// An axis of a value, if it has one.
    fn draw_axis(&mut self, at: At) -> Option<usize> {
        let rank = self.rank(at);
        (rank > 0).then(|| self.stream.below(rank))
    }

    /// A known value that satisfies `fits`.
    fn find(&mut self, fits: impl Fn(&Known) -> bool) -> Option<At> {
        let found: Vec<At> = (0..self.known.len()).filter(|&at| fits(&self.known[at])).collect();
        (!found.is_empty()).then(|| *self.stream.pick(&found))
    }
}

/// Rounding once in a type, relative. Narrow floats may also be kept wide between ops.
fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 2f64.powi(-50),
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => 2f64.powi(-22),
    }
}

/// The largest magnitude; `None` if a value is not finite.
fn magnitude(tensor: &Tensor) -> Option<f64> {
    let values = tensor.numbers().ok()?.to_f64();
    values.iter().try_fold(0.0, |largest: f64, value| value.is_finite().then(|| largest.max(value.abs())))
}

/// The shapes and counts here are made to fit.
fn tensor_of(dtype: DType, shape: &[usize], numbers: &Numbers) -> Tensor {
    Tensor::from_numbers(dtype, shape, numbers).unwrap_or_else(|_| Tensor::scalar(0f32))
}

#[cfg(test)]
mod tests;
