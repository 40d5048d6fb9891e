//! Reductions over axes.

use tarsia_graph::{BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{Importer::One, Row, Rows, axes, runtime_axes};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[
    Row::new("ReduceL1", 1, One(|ctx, node| reduce(ctx, node, l1))),
    Row::new("ReduceL2", 1, One(|ctx, node| reduce(ctx, node, l2))),
    Row::new("ReduceLogSum", 1, One(|ctx, node| reduce(ctx, node, log_sum))),
    Row::new("ReduceLogSumExp", 1, One(|ctx, node| reduce(ctx, node, log_sum_exp))),
    Row::new("ReduceMax", 1, One(|ctx, node| reduce(ctx, node, |ctx, x, axes| extreme(ctx, ReduceFn::Max, x, axes)))),
    Row::new("ReduceMean", 1, One(|ctx, node| reduce(ctx, node, mean))),
    Row::new("ReduceMin", 1, One(|ctx, node| reduce(ctx, node, |ctx, x, axes| extreme(ctx, ReduceFn::Min, x, axes)))),
    Row::new("ReduceProd", 1, One(|ctx, node| reduce(ctx, node, |ctx, x, axes| ctx.reduce(ReduceFn::Prod, x, axes)))),
    Row::new("ReduceSum", 1, One(|ctx, node| reduce(ctx, node, |ctx, x, axes| ctx.reduce(ReduceFn::Sum, x, axes)))),
    Row::new("ReduceSumSquare", 1, One(|ctx, node| reduce(ctx, node, sum_square))),
];

/// A reduction of a value over axes, which stay with size 1.
type Reduction = fn(&mut Ctx<'_, '_>, Value, &[usize]) -> Outcome<Value>;

fn reduce<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, reduction: Reduction) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let keep = node.attr_bool_or("keepdims", true)?;
    if ctx.dims_opt(node, 1) == Some(None) {
        return reduce_at_run_time(ctx, node, x, keep, reduction);
    }
    let given = axes(ctx, node, 1, rank)?.filter(|axes| !axes.is_empty());
    let axes = match given {
        Some(mut axes) => {
            axes.sort_unstable();
            axes
        }
        // Over no axes, what is done to each element is still done.
        None if node.attr_bool_or("noop_with_empty_axes", false)? => Vec::new(),
        None => (0..rank).collect(),
    };
    let y = reduction(ctx, x, &axes)?;
    if keep { Ok(y) } else { ctx.squeeze(y, &axes) }
}

/// With more axes there would be too many sets of them to choose from.
const MOST_AXES: usize = 8;

/// A reduction whose axes are run-time data: the data choose among the results for every set of so many axes, each padded to the
/// operand's shape, and the padding is cut off what was chosen.
fn reduce_at_run_time<'a>(
    ctx: &mut Ctx<'a, '_>,
    node: &Node<'a>,
    x: Value,
    keep: bool,
    reduction: Reduction,
) -> Outcome<Value> {
    let shape = ctx.shape(x);
    let rank = shape.len();
    if rank > MOST_AXES {
        return Err(unsupported(format!("axes that run-time data give, of more than {MOST_AXES}")));
    }
    let given = ctx.value(node, 1)?;
    let (flags, count) = runtime_axes(ctx, given, rank)?;
    if count > rank {
        return Err(invalid(format!("{count} axes are given for {rank}")));
    }
    let all = count == 0 && !node.attr_bool_or("noop_with_empty_axes", false)?;
    if all || count == 0 {
        let axes: Vec<usize> = if all { (0..rank).collect() } else { Vec::new() };
        let y = reduction(ctx, x, &axes)?;
        return if keep { Ok(y) } else { ctx.squeeze(y, &axes) };
    }
    // Every set of axes of the given number is a candidate; the data choose among results of one broadcast shape.
    let mut chosen: Option<Value> = None;
    let zero = ctx.scalar_like(x, 0.0);
    for axes in subsets(rank, count) {
        let y = reduction(ctx, x, &axes)?;
        let room = |(size, own): (&Dim, &Dim)| size.maximum(&Dim::ONE) - own.clone();
        let high = shape.iter().zip(&ctx.shape(y)).map(room).collect();
        let y = ctx.pad(y, zero, vec![Dim::ZERO; rank], high)?;
        chosen = Some(match chosen {
            None => y,
            Some(other) => {
                let fits = ctx.ints(&(0..rank).map(|axis| i64::from(axes.contains(&axis))).collect::<Vec<_>>())?;
                let same = ctx.binary(BinaryFn::Eq, flags, fits)?;
                let same = ctx.cast(same, DType::I64)?;
                let same = ctx.reduce(ReduceFn::Min, same, &[0])?;
                let same = ctx.squeeze(same, &[0])?;
                let same = ctx.with_scalar(BinaryFn::Eq, same, 1.0)?;
                ctx.select(same, y, other)?
            }
        });
    }
    let y = chosen.unwrap_or(x);
    let sizes = ctx.dims_vector(&shape)?;
    let one = ctx.scalar(DType::I64, 1.0);
    let reduced = ctx.with_scalar(BinaryFn::Eq, flags, 1.0)?;
    let kept = ctx.select(reduced, one, sizes)?;
    let zeros = ctx.ints(&vec![0; rank])?;
    let dtype = ctx.dtype(y);
    let y = ctx.host("slice", Vec::new(), &[y, zeros, kept], dtype, rank)?;
    if keep {
        return Ok(y);
    }
    // The axes that stay, in order: a stable sort brings their flags to the front.
    let sorted = ctx.add_node(Op::Sort { axis: 0, descending: false }, &[flags])?;
    let order = Value { node: sorted, output: 1 };
    let order = ctx.slice_axis(order, 0, Dim::ZERO, Dim::from(rank - count), 1)?;
    let rest = ctx.add(Op::Gather { axis: 0 }, &[sizes, order])?;
    ctx.reshape_at_run_time(y, rest)
}

/// All sets of `count` axes below `rank`, in order.
fn subsets(rank: usize, count: usize) -> Vec<Vec<usize>> {
    let mut sets = vec![Vec::new()];
    for _ in 0..count {
        sets = sets
            .into_iter()
            .flat_map(|set: Vec<usize>| {
                let first = set.last().map_or(0, |last| last + 1);
                (first..rank).map(move |axis| [&set[..], &[axis]].concat())
            })
            .collect();
    }
    sets
}

/// The mean; of integers the quotient of sum and count.
fn mean(ctx: &mut Ctx<'_, '_>, x: Value, axes: &[usize]) -> Outcome<Value> {
    let dtype = ctx.dtype(x);
    if dtype.is_float() {
        return ctx.reduce(ReduceFn::Mean, x, axes);
    }
    let shape = ctx.shape(x);
    let count = Dim::product(axes.iter().filter_map(|&axis| shape.get(axis)));
    let sum = ctx.reduce(ReduceFn::Sum, x, axes)?;
    let count = ctx.dim_scalar(&count, dtype)?;
    ctx.binary(BinaryFn::Div, sum, count)
}

fn extreme(ctx: &mut Ctx<'_, '_>, function: ReduceFn, x: Value, axes: &[usize]) -> Outcome<Value> {
    if ctx.dtype(x) != DType::Bool {
        return ctx.reduce(function, x, axes);
    }
    let wide = ctx.cast(x, DType::U8)?;
    let y = ctx.reduce(function, wide, axes)?;
    ctx.cast(y, DType::Bool)
}

fn l1(ctx: &mut Ctx<'_, '_>, x: Value, axes: &[usize]) -> Outcome<Value> {
    let size = ctx.unary(UnaryFn::Abs, x)?;
    ctx.reduce(ReduceFn::Sum, size, axes)
}

fn sum_square(ctx: &mut Ctx<'_, '_>, x: Value, axes: &[usize]) -> Outcome<Value> {
    let square = ctx.binary(BinaryFn::Mul, x, x)?;
    ctx.reduce(ReduceFn::Sum, square, axes)
}

fn l2(ctx: &mut Ctx<'_, '_>, x: Value, axes: &[usize]) -> Outcome<Value> {
    in_floats(ctx, x, |ctx, x| {
        let sum = sum_square(ctx, x, axes)?;
        ctx.unary(UnaryFn::Sqrt, sum)
    })
}

fn log_sum(ctx: &mut Ctx<'_, '_>, x: Value, axes: &[usize]) -> Outcome<Value> {
    in_floats(ctx, x, |ctx, x| {
        let sum = ctx.reduce(ReduceFn::Sum, x, axes)?;
        ctx.unary(UnaryFn::Log, sum)
    })
}

/// `log Σ exp x`, with the largest element taken out so that no exponential overflows.
fn log_sum_exp(ctx: &mut Ctx<'_, '_>, x: Value, axes: &[usize]) -> Outcome<Value> {
    in_floats(ctx, x, |ctx, x| {
        if axes.is_empty() {
            return Ok(x);
        }
        let max = ctx.reduce(ReduceFn::Max, x, axes)?;
        // An infinite maximum (also that of no elements) would give ∞ - ∞.
        let infinite = ctx.unary(UnaryFn::IsInf, max)?;
        let zero = ctx.scalar_like(max, 0.0);
        let shift = ctx.select(infinite, zero, max)?;
        let shifted = ctx.binary(BinaryFn::Sub, x, shift)?;
        let powers = ctx.unary(UnaryFn::Exp, shifted)?;
        let sum = ctx.reduce(ReduceFn::Sum, powers, axes)?;
        let log = ctx.unary(UnaryFn::Log, sum)?;
        ctx.binary(BinaryFn::Add, log, shift)
    })
}

/// `f` on floats: integers are converted to f64 and the result back, f16 and bf16 to f32.
fn in_floats<'a, 'o>(
    ctx: &mut Ctx<'a, 'o>,
    x: Value,
    f: impl FnOnce(&mut Ctx<'a, 'o>, Value) -> Outcome<Value>,
) -> Outcome<Value> {
    let dtype = ctx.dtype(x);
    let wide = if dtype.is_float() { ctx.widen(x)? } else { ctx.cast(x, DType::F64)? };
    let y = f(ctx, wide)?;
    ctx.cast(y, dtype)
}
