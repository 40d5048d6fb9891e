//! Pooling.

use tarsia_graph::{ArgReduceFn, BinaryFn, Op, ReduceFn, UnaryFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{
    Importer::{One, Values},
    Row, Rows,
    convolution::{Window, spatial, spatial_list},
};
use crate::{
    Node,
    import::{Ctx, Outcome, invalid, unsupported},
};

pub(super) const ROWS: Rows = &[
    Row::new("AveragePool", 1, One(average_pool)),
    Row::new("GlobalAveragePool", 1, One(|ctx, node| global(ctx, node, ReduceFn::Mean))),
    Row::new("GlobalLpPool", 2, One(global_lp_pool)),
    Row::new("GlobalMaxPool", 1, One(|ctx, node| global(ctx, node, ReduceFn::Max))),
    Row::new("LpPool", 2, One(lp_pool)),
    Row::new("MaxPool", 1, Values(max_pool)),
    Row::new("MaxUnpool", 9, One(max_unpool)),
];

/// The window of a node over the spatial axes of `x`, and how far the last one reaches over the padded end.
pub(super) fn window<'a>(ctx: &Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<(Window, Vec<usize>)> {
    let sizes = spatial(ctx, x)?;
    let kernel: Option<Vec<usize>> =
        node.attr_ints("kernel_shape")?.iter().map(|&size| usize::try_from(size).ok().filter(|&s| s > 0)).collect();
    let window = Window::of(node, kernel.ok_or_else(|| invalid("`kernel_shape` has a size below 1"))?, &sizes)?;
    let overhang = overhang(node, &window, &sizes)?;
    Ok((window, overhang))
}

/// How far the last window reaches over the padded end with `ceil_mode`, per spatial axis. A window that would start in the padding
/// after the end is left out.
fn overhang(node: &Node<'_>, window: &Window, sizes: &[Dim]) -> Outcome<Vec<usize>> {
    let count = sizes.len();
    if !node.since(10) || !node.attr_bool_or("ceil_mode", false)? {
        return Ok(vec![0; count]);
    }
    let mut overhang = Vec::with_capacity(count);
    for (axis, size) in sizes.iter().enumerate() {
        let stride = window.strides[axis];
        if stride == 1 {
            overhang.push(0);
            continue;
        }
        let size = size
            .as_usize()
            .ok_or_else(|| unsupported(format!("`ceil_mode` on an axis of size {size}; give that size")))?;
        let room = size + window.low[axis] + window.high[axis];
        let first = window.reach(axis).saturating_add(1);
        let steps =
            room.checked_sub(first).ok_or_else(|| invalid(format!("a window of {first} on {room} elements")))?;
        let mut last = steps.div_ceil(stride) * stride;
        if last >= size + window.low[axis] && last >= stride {
            last -= stride;
        }
        overhang.push(last.saturating_add(first).saturating_sub(room));
    }
    Ok(overhang)
}

/// The reduction of windows on the spatial axes, with `extra` more padding at the end.
fn reduce_windows(ctx: &mut Ctx<'_, '_>, function: ReduceFn, x: Value, w: &Window, extra: &[usize]) -> Outcome<Value> {
    let all = |outer: usize, list: &[usize]| [&[outer, outer][..], list].concat();
    let high: Vec<usize> = w.high.iter().zip(extra).map(|(high, extra)| high.saturating_add(*extra)).collect();
    let op = Op::WindowReduce {
        function,
        window: all(1, &w.kernel),
        strides: all(1, &w.strides),
        low: all(0, &w.low),
        high: all(0, &high),
        dilations: all(1, &w.dilations),
    };
    ctx.add(op, &[x])
}

fn average_pool<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    averages(ctx, node, x)
}

/// The averages of a float operand's windows.
pub(super) fn averages<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, mut x: Value) -> Outcome<Value> {
    let (mut window, overhang) = window(ctx, node, x)?;
    if window.edges.is_some() && !node.attr_bool_or("count_include_pad", false)? {
        return averages_within(ctx, x, &window);
    }
    x = window.padded(ctx, x, 0.0)?;
    if node.attr_bool_or("count_include_pad", false)? {
        let zero = ctx.scalar_like(x, 0.0);
        let all = |list: &[usize]| [0, 0].iter().chain(list).map(|&size| Dim::from(size)).collect::<Vec<_>>();
        x = ctx.pad(x, zero, all(&window.low), all(&window.high))?;
        window.low.fill(0);
        window.high.fill(0);
    }
    reduce_windows(ctx, ReduceFn::Mean, x, &window, &overhang)
}

/// The averages of what lies inside of the operand, of windows on padding that depends on symbols: sums over counts.
fn averages_within(ctx: &mut Ctx<'_, '_>, x: Value, window: &Window) -> Outcome<Value> {
    let (one, shape) = (ctx.scalar_like(x, 1.0), ctx.shape(x));
    let ones = ctx.broadcast(one, &[&[Dim::ONE, Dim::ONE][..], &shape[2..]].concat())?;
    let none = vec![0; window.kernel.len()];
    let mut sum = |x: Value| -> Outcome<Value> {
        let x = window.padded(ctx, x, 0.0)?;
        reduce_windows(ctx, ReduceFn::Sum, x, window, &none)
    };
    let (sums, counts) = (sum(x)?, sum(ones)?);
    ctx.binary(BinaryFn::Div, sums, counts)
}

fn lp_pool<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let (window, overhang) = window(ctx, node, x)?;
    let x = window.padded(ctx, x, 0.0)?;
    lp_norm(ctx, node, x, |ctx, powers| reduce_windows(ctx, ReduceFn::Sum, powers, &window, &overhang))
}

fn global_lp_pool<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let axes: Vec<usize> = (2..ctx.rank(x)).collect();
    lp_norm(ctx, node, x, |ctx, powers| ctx.reduce(ReduceFn::Sum, powers, &axes))
}

/// `(Σ |x|^p)^(1/p)`.
fn lp_norm<'a, 'o>(
    ctx: &mut Ctx<'a, 'o>,
    node: &Node<'a>,
    x: Value,
    sum: impl FnOnce(&mut Ctx<'a, 'o>, Value) -> Outcome<Value>,
) -> Outcome<Value> {
    let p = node.attr_int_or("p", 2)?;
    if p < 1 {
        return Err(invalid(format!("`p` is {p}")));
    }
    let size = ctx.unary(UnaryFn::Abs, x)?;
    let powers = ctx.with_scalar(BinaryFn::Pow, size, p as f64)?;
    let total = sum(ctx, powers)?;
    ctx.with_scalar(BinaryFn::Pow, total, 1.0 / p as f64)
}

fn global<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, function: ReduceFn) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let axes: Vec<usize> = (2..ctx.rank(x)).collect();
    ctx.reduce(function, x, &axes)
}

/// The largest elements of the windows of an operand.
pub(super) fn maxima<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    let (window, overhang) = window(ctx, node, x)?;
    let x = window.padded(ctx, x, lowest(ctx.dtype(x)))?;
    reduce_windows(ctx, ReduceFn::Max, x, &window, &overhang)
}

fn max_pool<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    let (window, overhang) = window(ctx, node, x)?;
    if window.edges.is_some() && node.output(1).is_some() {
        return Err(unsupported("positions with `auto_pad` on an axis whose size is not known; give it, or `pads`"));
    }
    let x = window.padded(ctx, x, lowest(ctx.dtype(x)))?;
    let y = reduce_windows(ctx, ReduceFn::Max, x, &window, &overhang)?;
    if node.output(1).is_none() {
        return Ok(vec![y]);
    }
    let column_major = node.attr_bool_or("storage_order", false)?;
    Ok(vec![y, max_positions(ctx, x, &window, &overhang, column_major)?])
}

/// A value that no element is below.
fn lowest(dtype: DType) -> f64 {
    match dtype {
        DType::U8 => 0.0,
        DType::I8 => -128.0,
        dtype if dtype.is_float() => f64::NEG_INFINITY,
        _ => f64::from(i32::MIN),
    }
}

/// Position in the whole input of each window's largest element, the first among equals: the windows' elements are put side by side
/// by one strided slice per place in the window.
fn max_positions(
    ctx: &mut Ctx<'_, '_>,
    x: Value,
    w: &Window,
    overhang: &[usize],
    column_major: bool,
) -> Outcome<Value> {
    const MOST_PLACES: usize = 1024;
    let places = w.kernel.iter().try_fold(1usize, |n, &k| n.checked_mul(k)).filter(|&n| n <= MOST_PLACES);
    let places =
        places.ok_or_else(|| unsupported(format!("positions in windows of more than {MOST_PLACES} elements")))?;
    let (shape, count) = (ctx.shape(x), w.kernel.len());
    let lowest = ctx.scalar_like(x, lowest(ctx.dtype(x)));
    let edge = |list: Vec<usize>| [0, 0].into_iter().chain(list).map(Dim::from).collect::<Vec<_>>();
    let high = w.high.iter().zip(overhang).map(|(high, extra)| high.saturating_add(*extra)).collect();
    let padded = ctx.pad(x, lowest, edge(w.low.clone()), edge(high))?;
    let room = ctx.shape(padded);
    let mut sizes = shape[..2].to_vec();
    for axis in 0..count {
        let steps = room[axis + 2].clone() - Dim::from(w.reach(axis)) - Dim::ONE;
        sizes.push(steps.floor_div(&Dim::from(w.strides[axis])) + Dim::ONE);
    }
    let place = |mut at: usize| {
        let mut index = vec![0; count];
        for axis in (0..count).rev() {
            index[axis] = at % w.kernel[axis];
            at /= w.kernel[axis];
        }
        index
    };
    let mut columns = Vec::with_capacity(places);
    let column_shape = [&sizes[..], &[Dim::ONE]].concat();
    for at in 0..places {
        let index = place(at);
        let starts =
            (0..count + 2).map(|i| if i < 2 { 0 } else { index[i - 2] * w.dilations[i - 2] }).map(Dim::from).collect();
        let steps = (0..count + 2).map(|i| if i < 2 { 1 } else { w.strides[i - 2] as i64 }).collect();
        let slice = ctx.add(Op::Slice { starts, sizes: sizes.clone(), steps }, &[padded])?;
        columns.push(ctx.reshape(slice, &column_shape)?);
    }
    let side_by_side = ctx.concat(&columns, count + 2)?;
    let best = ctx.add(Op::ArgReduce { function: ArgReduceFn::Max, axis: count + 2, last: false }, &[side_by_side])?;
    let mut best = ctx.reshape(best, &sizes)?;
    // Row-major position: ((n·C + c)·H + h)·W + w, or with the spatial axes in column-major order.
    let mut weights = vec![Dim::ONE; count];
    let mut weight = Dim::ONE;
    let order: Vec<usize> = if column_major { (0..count).collect() } else { (0..count).rev().collect() };
    for axis in order {
        weights[axis] = weight.clone();
        weight = weight * shape[axis + 2].clone();
    }
    let mut terms = Vec::new();
    for (axis, weight) in [(0, shape[1].clone() * weight.clone()), (1, weight)] {
        let count = ctx.iota(DType::I64, &sizes, axis)?;
        let weight = ctx.dim_scalar(&weight, DType::I64)?;
        terms.push(ctx.binary(BinaryFn::Mul, count, weight)?);
    }
    for axis in (0..count).rev() {
        let within = ctx.with_scalar(BinaryFn::Mod, best, w.kernel[axis] as f64)?;
        best = ctx.with_scalar(BinaryFn::Div, best, w.kernel[axis] as f64)?;
        let within = ctx.with_scalar(BinaryFn::Mul, within, w.dilations[axis] as f64)?;
        let start = ctx.iota(DType::I64, &sizes, axis + 2)?;
        let start = ctx.with_scalar(BinaryFn::Mul, start, w.strides[axis] as f64)?;
        let at = ctx.binary(BinaryFn::Add, start, within)?;
        let at = ctx.with_scalar(BinaryFn::Sub, at, w.low[axis] as f64)?;
        let weight = ctx.dim_scalar(&weights[axis], DType::I64)?;
        terms.push(ctx.binary(BinaryFn::Mul, at, weight)?);
    }
    let (&first, rest) = terms.split_first().ok_or_else(|| invalid("it has no axes"))?;
    rest.iter().try_fold(first, |sum, &term| ctx.binary(BinaryFn::Add, sum, term))
}

/// Puts each element at the position that max pooling found it at, zeros elsewhere.
fn max_unpool<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, positions) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let (shape, sizes) = (ctx.shape(x), spatial(ctx, x)?);
    let count = sizes.len();
    let kernel = spatial_list(node, "kernel_shape", count, 1, 1)?;
    let strides = spatial_list(node, "strides", count, 1, 1)?;
    let pads = spatial_list(node, "pads", 2 * count, 0, 0)?;
    let mut inferred = shape[..2].to_vec();
    for axis in 0..count {
        let spread = (sizes[axis].clone() - Dim::ONE) * Dim::from(strides[axis]) + Dim::from(kernel[axis]);
        inferred.push(spread - Dim::from(pads[axis]) - Dim::from(pads[axis + count]));
    }
    // Positions count in the shape without `output_shape`: what that adds lies after the end.
    let flat = [Dim::product(&inferred)];
    let zero = ctx.scalar_like(x, 0.0);
    let zeros = ctx.broadcast(zero, &flat)?;
    let many = [Dim::product(&shape)];
    let (positions, x) = (ctx.reshape(positions, &many)?, ctx.reshape(x, &many)?);
    let op = Op::ScatterRows { function: tarsia_graph::ScatterFn::Set };
    let y = ctx.add(op, &[zeros, positions, x])?;
    let y = ctx.reshape(y, &inferred)?;
    let rank = inferred.len();
    match ctx.dims_opt(node, 2) {
        None => Ok(y),
        Some(Some(result)) => {
            if result.len() != rank {
                return Err(invalid(format!("`output_shape` has {} entries for {rank} axes", result.len())));
            }
            let high = result.iter().zip(&inferred).map(|(to, from)| to.clone() - from.clone()).collect();
            ctx.pad(y, zero, vec![Dim::ZERO; rank], high)
        }
        Some(None) => {
            let result = ctx.value(node, 2)?;
            let own = ctx.dims_vector(&inferred)?;
            let high = ctx.binary(BinaryFn::Sub, result, own)?;
            let low = ctx.ints(&vec![0; rank])?;
            let amounts = ctx.concat(&[low, high], 0)?;
            let dtype = ctx.dtype(y);
            ctx.host("pad", vec![0], &[y, amounts, zero], dtype, rank)
        }
    }
}
