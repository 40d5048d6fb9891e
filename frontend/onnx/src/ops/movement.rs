//! Movement: reshaping, transposing, slicing, joining, repeating.

use tarsia_graph::{BinaryFn, Op, ReduceFn, Type, Value, broadcast_shapes};
use tarsia_tensor::{DType, Dim};

use super::{
    Importer::{One, Values},
    Row, Rows, axes, runtime_axes,
};
use crate::{
    Fault, Node,
    import::{Ctx, Outcome, axis_of, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("Concat", 4, One(concat)),
    Row::new("DepthToSpace", 1, One(depth_to_space)),
    Row::new("Expand", 8, One(expand)),
    Row::new("Flatten", 1, One(flatten)),
    Row::new("Reshape", 5, One(reshape)),
    Row::new("Slice", 1, One(slice)),
    Row::new("SpaceToDepth", 1, One(space_to_depth)),
    Row::new("Split", 2, Values(split)),
    Row::new("Squeeze", 1, One(squeeze)),
    Row::new("Tile", 6, One(tile)),
    Row::new("Transpose", 1, One(transpose)),
    Row::new("Unsqueeze", 1, One(unsqueeze)),
];

fn concat<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let values = ctx.values(node)?;
    let &first = values.first().ok_or(Fault::MissingInput(0))?;
    let axis = axis_of(node.attr_int("axis")?, ctx.rank(first))?;
    ctx.concat(&values, axis)
}

fn transpose<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let rank = ctx.rank(x);
    let perm = match node.attr_ints_opt("perm")? {
        Some(perm) => perm.iter().map(|&axis| axis_of(axis, rank)).collect::<Outcome<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    ctx.transpose(x, &perm)
}

/// All axes before `axis` as one, all others as one.
pub(super) fn flattened(ctx: &mut Ctx<'_, '_>, x: Value, axis: i64) -> Outcome<Value> {
    let shape = ctx.shape(x);
    let rank = shape.len();
    let axis = if axis == rank as i64 { rank } else { axis_of(axis, rank.max(1))?.min(rank) };
    let (outer, inner) = shape.split_at(axis);
    ctx.reshape(x, &[Dim::product(outer), Dim::product(inner)])
}

fn flatten<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    flattened(ctx, x, node.attr_int_or("axis", 1)?)
}

fn squeeze<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let shape = ctx.shape(x);
    if ctx.dims_opt(node, 1) == Some(None) {
        return run_time_squeeze(ctx, node, x);
    }
    let axes = match axes(ctx, node, 1, shape.len())? {
        Some(axes) => axes,
        // The number of axes of a result cannot depend on the data: sizes that are not known are taken not to be 1.
        None => (0..shape.len()).filter(|&axis| shape[axis].is(1)).collect(),
    };
    for &axis in &axes {
        if shape[axis].as_const().is_some_and(|size| size != 1) {
            return Err(invalid(format!(
                "axis {axis} has size {}, and only axes of size 1 can be squeezed",
                shape[axis]
            )));
        }
    }
    ctx.squeeze(x, &axes)
}

/// The sizes whose axes are not given, which a stable sort of the flags brings to the front.
fn run_time_squeeze<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    let shape = ctx.shape(x);
    let given = ctx.value(node, 1)?;
    let (flags, count) = runtime_axes(ctx, given, shape.len())?;
    let rest = shape.len().checked_sub(count).ok_or_else(|| invalid("more axes are given than there are"))?;
    let sorted = ctx.add_node(Op::Sort { axis: 0, descending: false }, &[flags])?;
    let order = ctx.slice_axis(Value { node: sorted, output: 1 }, 0, Dim::ZERO, Dim::from(rest), 1)?;
    let sizes = ctx.dims_vector(&shape)?;
    let sizes = ctx.add(Op::Gather { axis: 0 }, &[sizes, order])?;
    ctx.reshape_at_run_time(x, sizes)
}

/// At each axis that is given size 1, at the others the sizes in order.
fn run_time_unsqueeze<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    let shape = ctx.shape(x);
    let given = ctx.value(node, 1)?;
    let count = ctx.vector_length(given)?;
    let rank = shape.len() + count;
    let (flags, _) = runtime_axes(ctx, given, rank)?;
    let padded: Vec<Dim> = shape.into_iter().chain([Dim::ONE]).collect();
    let sizes = ctx.dims_vector(&padded)?;
    let scan = Op::Scan { function: ReduceFn::Sum, axis: 0, exclusive: false, reverse: false };
    let before = ctx.add(scan, &[flags])?;
    let places = ctx.iota(DType::I64, &[Dim::from(rank)], 0)?;
    let source = ctx.binary(BinaryFn::Sub, places, before)?;
    let source = ctx.with_scalar(BinaryFn::Max, source, 0.0)?;
    let sizes = ctx.add(Op::Gather { axis: 0 }, &[sizes, source])?;
    let new = ctx.with_scalar(BinaryFn::Eq, flags, 1.0)?;
    let one = ctx.scalar(DType::I64, 1.0);
    let sizes = ctx.select(new, one, sizes)?;
    ctx.reshape_at_run_time(x, sizes)
}

fn unsqueeze<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    if ctx.dims_opt(node, 1) == Some(None) {
        return run_time_unsqueeze(ctx, node, x);
    }
    let given = match ctx.const_ints(node, 1, "axes")? {
        Some(axes) => axes.len(),
        None => node.attr_ints("axes")?.len(),
    };
    let rank = ctx.rank(x) + given;
    let axes = axes(ctx, node, 1, rank)?.unwrap_or_default();
    let mut sizes = ctx.shape(x).into_iter();
    let shape: Vec<Dim> =
        (0..rank).map(|axis| if axes.contains(&axis) { Dim::ONE } else { sizes.next().unwrap_or(Dim::ONE) }).collect();
    ctx.reshape(x, &shape)
}

fn reshape<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let from = ctx.shape(x);
    let allow_zero = node.since(14) && node.attr_bool_or("allowzero", false)?;
    let target = match ctx.dims_opt(node, 1) {
        None => return Err(Fault::MissingInput(1).into()),
        Some(Some(target)) => target,
        Some(None) => {
            let shape = ctx.value(node, 1)?;
            let (dtype, rank) = (ctx.dtype(x), ctx.vector_length(shape)?);
            let mut sizes = ctx.fresh_shape("reshape", rank);
            for (size, known) in sizes.iter_mut().zip(ctx.elements(shape)) {
                // 0 and -1 mean something else.
                if let Some(known) = known.filter(|known| known.range().low > 0) {
                    *size = known;
                }
            }
            let types = vec![Type::new(dtype, sizes)];
            let ints = vec![i64::from(allow_zero)];
            let op = Op::Host { function: "reshape".into(), ints, reals: Vec::new(), types };
            return ctx.add(op, &[x, shape]);
        }
    };
    let mut shape = Vec::with_capacity(target.len());
    let mut rest = None;
    for (axis, size) in target.iter().enumerate() {
        match size.as_const() {
            Some(0) if !allow_zero => match from.get(axis) {
                Some(size) => shape.push(size.clone()),
                None => {
                    return Err(invalid(format!(
                        "axis {axis} of the shape is 0, but the input has {} axes",
                        from.len()
                    )));
                }
            },
            Some(-1) if rest.is_some() => return Err(invalid("the shape has -1 more than once")),
            Some(-1) => {
                rest = Some(axis);
                shape.push(Dim::ONE);
            }
            Some(size) if size < 0 => return Err(invalid(format!("the shape has the size {size}"))),
            _ => shape.push(size.clone()),
        }
    }
    if let Some(axis) = rest {
        shape[axis] = remaining(&from, &shape);
    }
    ctx.reshape(x, &shape)
}

/// What `-1` stands for: the elements divided by those of the other axes, which hold 1 in its place.
fn remaining(from: &[Dim], others: &[Dim]) -> Dim {
    // Factors that occur on both sides cancel, also where they may be 0.
    let mut from: Vec<Dim> = from.to_vec();
    let mut others: Vec<Dim> = others.iter().filter(|dim| !dim.is(1)).cloned().collect();
    others.retain(|other| match from.iter().position(|dim| dim == other) {
        Some(at) => {
            from.remove(at);
            false
        }
        None => true,
    });
    let (from, others) = (Dim::product(&from), Dim::product(&others));
    if others.is(0) { Dim::ZERO } else { from.floor_div(&others) }
}

fn expand<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let target = match ctx.dims_opt(node, 1) {
        Some(None) => {
            let shape = ctx.value(node, 1)?;
            let (dtype, rank) = (ctx.dtype(x), ctx.vector_length(shape)?.max(ctx.rank(x)));
            let mut sizes = ctx.fresh_shape("broadcast", rank);
            // A size other than 1 stays what it is.
            for (size, own) in sizes.iter_mut().rev().zip(ctx.shape(x).into_iter().rev()) {
                if own.as_const().is_some_and(|own| own != 1) {
                    *size = own;
                }
            }
            let types = vec![Type::new(dtype, sizes)];
            let op = Op::Host { function: "broadcast".into(), ints: Vec::new(), reals: Vec::new(), types };
            return ctx.add(op, &[x, shape]);
        }
        target => target.flatten().ok_or(Fault::MissingInput(1))?,
    };
    let shape = broadcast_shapes(&ctx.shape(x), &target).map_err(invalid)?;
    ctx.broadcast(x, &shape)
}

fn tile<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let shape = ctx.shape(x);
    let Some(repeats) = ctx.dims_opt(node, 1).ok_or(Fault::MissingInput(1))? else {
        let repeats = ctx.value(node, 1)?;
        let dtype = ctx.dtype(x);
        return ctx.host("tile", Vec::new(), &[x, repeats], dtype, shape.len());
    };
    if repeats.len() != shape.len() {
        return Err(invalid(format!("{} repeats are given for {} axes", repeats.len(), shape.len())));
    }
    tiled(ctx, x, &repeats)
}

/// The operand repeated along each axis: every repeated axis gets an axis of repeats before it, and both become one.
fn tiled(ctx: &mut Ctx<'_, '_>, x: Value, repeats: &[Dim]) -> Outcome<Value> {
    let shape = ctx.shape(x);
    let (mut single, mut repeated, mut result) = (Vec::new(), Vec::new(), Vec::new());
    for (size, times) in shape.iter().zip(repeats) {
        if !times.is(1) {
            single.push(Dim::ONE);
            repeated.push(times.clone());
        }
        single.push(size.clone());
        repeated.push(size.clone());
        result.push(size.clone() * times.clone());
    }
    let x = ctx.reshape(x, &single)?;
    let x = ctx.broadcast(x, &repeated)?;
    ctx.reshape(x, &result)
}

fn split<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Vec<Value>> {
    let x = ctx.value(node, 0)?;
    let axis = axis_of(node.attr_int_or("axis", 0)?, ctx.rank(x))?;
    let given = match ctx.dims_opt(node, 1) {
        Some(None) => return run_time_split(ctx, node, x, axis),
        Some(sizes) => sizes,
        None => node.attr_ints_opt("split")?.map(|sizes| sizes.iter().map(|&size| Dim::Const(size)).collect()),
    };
    let total = ctx.size(x, axis)?;
    let sizes = match given {
        Some(sizes) => sizes,
        None => {
            let parts = match node.attr_int_opt("num_outputs")? {
                Some(parts) => usize::try_from(parts).map_err(|_| invalid("`num_outputs` is negative"))?,
                None => node.outputs().len(),
            };
            if parts == 0 || parts > node.outputs().len().max(1) {
                return Err(invalid(format!("{parts} parts for {} outputs", node.outputs().len())));
            }
            equal_parts(&total, parts)
        }
    };
    if let (Some(total), Some(sum)) =
        (total.as_const(), sizes.iter().cloned().fold(Dim::ZERO, |sum, size| sum + size).as_const())
        && total != sum
    {
        return Err(invalid(format!("the parts have {sum} elements together, and axis {axis} has {total}")));
    }
    let mut start = Dim::ZERO;
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        parts.push(ctx.slice_axis(x, axis, start.clone(), size.clone(), 1)?);
        start = start + size;
    }
    Ok(parts)
}

fn run_time_split<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value, axis: usize) -> Outcome<Vec<Value>> {
    let sizes = ctx.value(node, 1)?;
    let count = ctx.vector_length(sizes)?;
    let Type { dtype, shape } = ctx.ty(x).clone();
    let mut types = Vec::with_capacity(count);
    for _ in 0..count {
        let mut part = shape.clone();
        part[axis] = ctx.fresh("split");
        types.push(Type::new(dtype, part));
    }
    let op = Op::Host { function: "split".into(), ints: vec![axis as i64], reals: Vec::new(), types };
    let parts = ctx.add_node(op, &[x, sizes])?;
    Ok((0..count as u32).map(|output| Value { node: parts, output }).collect())
}

/// Parts of equal size, the last smaller where they do not come out even.
fn equal_parts(total: &Dim, parts: usize) -> Vec<Dim> {
    let whole = total.ceil_div(&Dim::from(parts));
    let even = Dim::from(parts) * whole.clone() == *total;
    let left = |part: usize| total.clone() - Dim::from(part) * whole.clone();
    (0..parts).map(|part| if even { whole.clone() } else { left(part).maximum(&Dim::ZERO).minimum(&whole) }).collect()
}

/// One axis of a slice as the model gives it; sizes may be symbolic.
struct Cut {
    axis: usize,
    start: Dim,
    end: Dim,
    step: i64,
}

fn slice<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let x = ctx.value(node, 0)?;
    let shape = ctx.shape(x);
    let (starts, ends, axes, steps) = if node.since(10) {
        let list = |input: usize| ctx.dims_opt(node, input);
        let (starts, ends) = (list(1).ok_or(Fault::MissingInput(1))?, list(2).ok_or(Fault::MissingInput(2))?);
        let known = |input: usize| match ctx.item(node, input) {
            None => Some(None),
            Some(_) => ctx.known(node, input).and_then(|known| known.ints()).map(Some),
        };
        let (Some(starts), Some(ends), Some(axes), Some(steps)) = (starts, ends, known(3), known(4)) else {
            return run_time_slice(ctx, node, x);
        };
        (starts, ends, axes, steps)
    } else {
        let list = |name| node.attr_ints(name).map(|list| list.iter().map(|&i| Dim::Const(i)).collect::<Vec<_>>());
        (list("starts")?, list("ends")?, node.attr_ints_opt("axes")?.map(<[i64]>::to_vec), None)
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(invalid("starts, ends, axes and steps differ in length"));
    }
    let mut cuts = Vec::with_capacity(axes.len());
    for (i, (start, end)) in starts.into_iter().zip(ends).enumerate() {
        cuts.push(Cut { axis: axis_of(axes[i], shape.len())?, start, end, step: steps[i] });
    }
    let mut first = vec![Dim::ZERO; shape.len()];
    let (mut sizes, mut by) = (shape.clone(), vec![1; shape.len()]);
    for cut in &cuts {
        let (start, size) = clamped(cut, &shape[cut.axis])?;
        (first[cut.axis], sizes[cut.axis], by[cut.axis]) = (start, size, cut.step);
    }
    if sizes == shape && by.iter().all(|&step| step == 1) {
        return Ok(x);
    }
    ctx.add(Op::Slice { starts: first, sizes, steps: by }, &[x])
}

/// First index and number of elements of a cut along an axis of `size`.
fn clamped(cut: &Cut, size: &Dim) -> Outcome<(Dim, Dim)> {
    let last = size.clone() - Dim::ONE;
    let (start, end) = (wrapped(&cut.start, size)?, wrapped(&cut.end, size)?);
    match cut.step {
        0 => Err(invalid("a step is 0")),
        step @ 1.. => {
            let (start, end) = (clamp(&start, &Dim::ZERO, size), clamp(&end, &Dim::ZERO, size));
            let distance = (end - start.clone()).maximum(&Dim::ZERO);
            Ok((start, distance.ceil_div(&Dim::Const(step))))
        }
        step => {
            let step = step.checked_neg().ok_or_else(|| invalid("a step is too large"))?;
            let (start, end) = (clamp(&start, &Dim::Const(-1), &last), clamp(&end, &Dim::Const(-1), &last));
            let distance = (start.clone() - end).maximum(&Dim::ZERO);
            Ok((start.maximum(&Dim::ZERO), distance.ceil_div(&Dim::Const(step))))
        }
    }
}

fn clamp(at: &Dim, low: &Dim, high: &Dim) -> Dim {
    match at.as_const() {
        // The ends of the integers stand for the ends of the axis.
        Some(at) if at >= i64::from(i32::MAX) => high.clone(),
        _ => at.maximum(low).minimum(high),
    }
}

/// An index counted from the end if it is negative.
fn wrapped(at: &Dim, size: &Dim) -> Outcome<Dim> {
    let range = at.range();
    if range.low >= 0 {
        Ok(at.clone())
    } else if range.high < 0 {
        // The ends of the integers stand for the ends of the axis.
        let beyond = at.as_const().is_some_and(|at| at <= i64::from(i32::MIN));
        Ok(if beyond { Dim::Const(-1) } else { at.clone() + size.clone() })
    } else {
        // min(max(at, -1), 0) is -1 for what is negative and else 0.
        let negative = at.maximum(&Dim::Const(-1)).minimum(&Dim::ZERO);
        Ok(at.clone() - size.clone() * negative)
    }
}

/// A slice whose bounds, axes or steps run-time data give.
fn run_time_slice<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>, x: Value) -> Outcome<Value> {
    let (starts, ends) = (ctx.value(node, 1)?, ctx.value(node, 2)?);
    let count = ctx.vector_length(starts)?;
    let axes = match ctx.value_opt(node, 3)? {
        Some(axes) => ctx.indices(axes, &Dim::from(ctx.rank(x)))?,
        None => ctx.ints(&(0..count as i64).collect::<Vec<_>>())?,
    };
    let mut operands = vec![x, starts, ends, axes];
    operands.extend(ctx.value_opt(node, 4)?);
    let (dtype, rank) = (ctx.dtype(x), ctx.rank(x));
    ctx.host("slice", Vec::new(), &operands, dtype, rank)
}

/// `[n, c·b·b, h, w]` to `[n, c, h·b, w·b]`.
fn depth_to_space<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, [n, c, h, w], block) = image(ctx, node)?;
    let depth = c.floor_div(&(block.clone() * block.clone()));
    let b = block.clone();
    let (split, perm) = match node.attr_str_or("mode", "DCR")? {
        "DCR" => ([n.clone(), b.clone(), b.clone(), depth.clone(), h.clone(), w.clone()], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([n.clone(), depth.clone(), b.clone(), b.clone(), h.clone(), w.clone()], [0, 1, 4, 2, 5, 3]),
        other => return Err(invalid(format!("the mode is `{other}`, not DCR or CRD"))),
    };
    let x = ctx.reshape(x, &split)?;
    let x = ctx.transpose(x, &perm)?;
    ctx.reshape(x, &[n, depth, h * block.clone(), w * block])
}

/// `[n, c, h·b, w·b]` to `[n, c·b·b, h, w]`.
fn space_to_depth<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, [n, c, h, w], b) = image(ctx, node)?;
    let (h, w) = (h.floor_div(&b), w.floor_div(&b));
    let x = ctx.reshape(x, &[n.clone(), c.clone(), h.clone(), b.clone(), w.clone(), b.clone()])?;
    let perm = match node.attr_str_or("mode", "DCR")? {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return Err(invalid(format!("the mode is `{other}`, not DCR or CRD"))),
    };
    let x = ctx.transpose(x, &perm)?;
    ctx.reshape(x, &[n, c * b.clone() * b, h, w])
}

fn image<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<(Value, [Dim; 4], Dim)> {
    let x = ctx.value(node, 0)?;
    let shape = <[Dim; 4]>::try_from(ctx.shape(x)).map_err(|_| invalid("its input has not 4 axes"))?;
    let block = node.attr_int("blocksize")?;
    if block < 1 {
        return Err(invalid(format!("the block size is {block}")));
    }
    Ok((x, shape, Dim::Const(block)))
}
