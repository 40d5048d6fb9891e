//! What a graph tells of a value by looking at its producers.

use tarsia_graph::{BinaryFn, Graph, Kind, Op, ReduceFn, UnaryFn, Value};

/// How far producers are followed.
const DEPTH: usize = 12;

/// The number that all elements of a value are.
pub fn splat(graph: &Graph, value: Value) -> Option<f64> {
    const LARGEST: usize = 4096;
    match &graph[value.node].op {
        Op::Constant { value } if value.count() <= LARGEST => {
            let numbers = value.numbers().ok()?.to_f64();
            let first = *numbers.first()?;
            numbers.iter().all(|&x| x == first).then_some(first)
        }
        Op::Broadcast { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } => {
            splat(graph, *graph.operands(value.node).first()?)
        }
        _ => None,
    }
}

/// Whether no element can be negative.
pub fn non_negative(graph: &Graph, value: Value) -> bool {
    non_negative_within(graph, value, DEPTH)
}

fn non_negative_within(graph: &Graph, value: Value, depth: usize) -> bool {
    if depth == 0 {
        return false;
    }
    let operands = graph.operands(value.node);
    let operand = |i: usize| operands.get(i).is_some_and(|&v| non_negative_within(graph, v, depth - 1));
    match &graph[value.node].op {
        Op::Constant { value } => {
            value.count() <= 4096 && value.numbers().is_ok_and(|n| n.to_f64().iter().all(|&x| x >= 0.0))
        }
        Op::Iota { .. } | Op::Size { .. } | Op::ArgReduce { .. } | Op::Softmax { .. } => true,
        Op::Sort { .. } | Op::TopK { .. } if value.output == 1 => true,
        Op::Host { function, .. } if function == crate::experts::NON_ZERO => true,
        Op::Unary(UnaryFn::Exp | UnaryFn::Sigmoid | UnaryFn::Abs) => true,
        Op::Binary(BinaryFn::Add | BinaryFn::Mul | BinaryFn::Div | BinaryFn::Min) => operand(0) && operand(1),
        Op::Binary(BinaryFn::Max) => operand(0) || operand(1),
        Op::Binary(BinaryFn::Mod) => operand(1),
        Op::Cast { dtype, .. } => dtype.bits() >= graph.ty(operands[0]).dtype.bits() && operand(0),
        Op::Gather { .. } | Op::TakeAlong { .. } => operand(0),
        Op::Concat { .. } => (0..operands.len()).all(operand),
        Op::Select {} => operand(1) && operand(2),
        Op::Reduce { function: ReduceFn::Sum | ReduceFn::Max | ReduceFn::Min, .. } => operand(0),
        op if op.kind() == Kind::Movement && !matches!(op, Op::Pad { .. }) => operand(0),
        _ => false,
    }
}

/// Whether a value counts 0, 1, 2 … along one axis of `size` elements and has no other.
pub fn is_count(graph: &Graph, value: Value) -> bool {
    let ty = graph.ty(value);
    match &graph[value.node].op {
        Op::Iota { shape, axis, .. } => shape.iter().enumerate().all(|(i, dim)| i == *axis || dim.is(1)),
        Op::Constant { value } if ty.dtype.is_integer() && value.count() > 1 => {
            let counts = |n: tarsia_tensor::Numbers| n.to_i64().iter().enumerate().all(|(i, &x)| x == i as i64);
            ty.shape.iter().filter(|dim| !dim.is(1)).count() == 1 && value.numbers().is_ok_and(counts)
        }
        Op::Reshape { shape } => {
            shape.iter().filter(|dim| !dim.is(1)).count() == 1 && is_count(graph, graph.operands(value.node)[0])
        }
        Op::Cast { dtype, .. } if dtype.is_integer() => is_count(graph, graph.operands(value.node)[0]),
        _ => false,
    }
}
