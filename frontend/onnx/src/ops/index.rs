//! Reading and writing at computed positions.
//!
//! An index tuple (the last axis of ONNX's index tensors) becomes one flat index into the operand with its indexed axes joined, so that
//! all of these are `gather` along axis 0 and `scatter_rows`. Two special cases cost nothing at run time and are what exporters mean
//! most of the time: one index per tuple needs no joining, and indices that count evenly along axes of their own are a slice (`Region`).

use tarsia_graph::{BinaryFn, Op, ScatterFn, Value};
use tarsia_tensor::{DType, Dim};

use super::{Importer::One, Row, Rows};
use crate::{
    Node,
    import::{Ctx, Outcome, axis_of, invalid},
};

pub(super) const ROWS: Rows = &[
    Row::new("GatherND", 11, One(gather_nd)),
    Row::new("Scatter", 9, One(scatter_elements)).until(11),
    Row::new("ScatterElements", 11, One(scatter_elements)),
    Row::new("ScatterND", 11, One(scatter_nd)),
    Row::new("TensorScatter", 24, One(tensor_scatter)),
];

/// The index tensors of a tuple, one per indexed axis, all of the same shape.
struct Tuple {
    parts: Vec<Value>,
    shape: Vec<Dim>,
}

/// Takes the last axis of an index tensor apart, one part for each indexed axis, of which there are at most `rank`.
fn tuple(ctx: &mut Ctx<'_, '_>, indices: Value, rank: usize) -> Outcome<Tuple> {
    let mut shape = ctx.shape(indices);
    let count = shape.pop().and_then(|dim| dim.as_usize()).filter(|&count| count > 0);
    let count = count.ok_or_else(|| invalid("the last axis of the indices has no known size above 0"))?;
    if count > rank {
        return Err(invalid(format!("tuples of {count} indices for {rank} axes")));
    }
    if !matches!(ctx.dtype(indices), DType::I32 | DType::I64) {
        return Err(invalid(format!("indices are {}, not i32 or i64", ctx.dtype(indices))));
    }
    let last = shape.len();
    let joined = match &ctx.graph[indices.node].op {
        Op::Concat { axis } if *axis == last => Some(ctx.graph.operands(indices.node)),
        _ => None,
    };
    let columns = joined.filter(|columns| columns.iter().all(|&column| ctx.shape(column)[last].is(1)));
    let mut parts = Vec::with_capacity(count);
    for at in 0..count {
        let column = match columns.as_ref().and_then(|columns| columns.get(at)) {
            Some(&column) => column,
            None => ctx.slice_axis(indices, last, Dim::from(at), Dim::ONE, 1)?,
        };
        parts.push(ctx.reshape(column, &shape)?);
    }
    Ok(Tuple { parts, shape })
}

/// A part of an operand that indices counting evenly go through: per indexed axis where it starts, and which axis of the indices
/// counts along it, by how much.
struct Region {
    starts: Vec<Dim>,
    along: Vec<Option<usize>>,
    steps: Vec<i64>,
}

impl Region {
    /// The region that tuples go through; `batch` leading axes of operand and indices correspond.
    fn of(ctx: &Ctx<'_, '_>, tuple: &Tuple, operand: &[Dim], batch: usize) -> Option<Region> {
        let mut region =
            Region { starts: vec![Dim::ZERO; batch], along: (0..batch).map(Some).collect(), steps: vec![1; batch] };
        for (part, size) in tuple.parts.iter().zip(operand.get(batch..)?) {
            let affine = ctx.affine(*part)?;
            let range = affine.base.range();
            let start = if range.low >= 0 {
                affine.base.clone()
            } else if range.high < 0 && affine.is_uniform() {
                affine.base.clone() + size.clone()
            } else {
                return None;
            };
            let (along, step) = affine.single_axis()?.map_or((None, 1), |(axis, step)| (Some(axis), step));
            if step < 1 || along.is_some() && region.along.contains(&along) {
                return None;
            }
            region.starts.push(start);
            region.along.push(along);
            region.steps.push(step);
        }
        Some(region)
    }

    /// How many places the region has along each indexed axis.
    fn sizes(&self, indices: &[Dim]) -> Vec<Dim> {
        self.along.iter().map(|along| along.and_then(|axis| indices.get(axis).cloned()).unwrap_or(Dim::ONE)).collect()
    }

    /// The indexed axes that some axis of the indices counts along, in the order of those.
    fn moving(&self) -> Vec<usize> {
        let mut axes: Vec<usize> = (0..self.along.len()).filter(|&axis| self.along[axis].is_some()).collect();
        axes.sort_by_key(|&axis| self.along[axis]);
        axes
    }
}

/// `result[b…, i…, k…] = x[b…, indices[b…, i…, :]…, k…]`.
pub(super) fn gather_nd<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, indices) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let batch = usize::try_from(node.attr_int_or("batch_dims", 0)?).map_err(|_| invalid("`batch_dims` is negative"))?;
    let tuple = tuple(ctx, indices, ctx.rank(x))?;
    let (shape, depth) = (ctx.shape(x), batch.saturating_add(tuple.parts.len()));
    if depth > shape.len() || batch > tuple.shape.len() {
        return Err(invalid(format!(
            "tuples of {} after {batch} batch axes for {} axes",
            tuple.parts.len(),
            shape.len()
        )));
    }
    if let Some(region) = Region::of(ctx, &tuple, &shape, batch) {
        return read_region(ctx, x, &tuple, &region);
    }
    if let (0, [part]) = (batch, tuple.parts.as_slice()) {
        let indices = ctx.indices(*part, &shape[0])?;
        return ctx.add(Op::Gather { axis: 0 }, &[x, indices]);
    }
    let flat = flat_indices(ctx, &tuple, &shape[..depth], batch)?;
    let joined = [&[Dim::product(&shape[..depth])], &shape[depth..]].concat();
    let x = ctx.reshape(x, &joined)?;
    ctx.add(Op::Gather { axis: 0 }, &[x, flat])
}

/// The elements of a region, arranged as the indices that go through it.
fn read_region(ctx: &mut Ctx<'_, '_>, x: Value, tuple: &Tuple, region: &Region) -> Outcome<Value> {
    let shape = ctx.shape(x);
    let (depth, rank) = (region.starts.len(), shape.len());
    let mut starts = region.starts.clone();
    let mut sizes = region.sizes(&tuple.shape);
    let mut steps = region.steps.clone();
    starts.resize(rank, Dim::ZERO);
    sizes.extend_from_slice(&shape[depth..]);
    steps.resize(rank, 1);
    let whole = sizes == shape && starts.iter().all(|start| start.is(0)) && steps.iter().all(|&step| step == 1);
    let part = if whole { x } else { ctx.add(Op::Slice { starts, sizes: sizes.clone(), steps }, &[x])? };
    // Axes that no index counts along have size 1 and go to the end of the indexed ones, where the reshape drops them.
    let moving = region.moving();
    let still = (0..depth).filter(|axis| region.along[*axis].is_none());
    let perm: Vec<usize> = moving.iter().copied().chain(still).chain(depth..rank).collect();
    let part = ctx.transpose(part, &perm)?;
    let counted = |axis: usize| region.along.contains(&Some(axis));
    let mut result: Vec<Dim> =
        tuple.shape.iter().enumerate().map(|(i, d)| if counted(i) { d.clone() } else { Dim::ONE }).collect();
    result.extend_from_slice(&shape[depth..]);
    let part = ctx.reshape(part, &result)?;
    ctx.broadcast(part, &[&tuple.shape[..], &shape[depth..]].concat())
}

/// Row-major positions in the axes `sizes`, the first `batch` of which count with the indices.
fn flat_indices(ctx: &mut Ctx<'_, '_>, tuple: &Tuple, sizes: &[Dim], batch: usize) -> Outcome<Value> {
    let mut flat: Option<Value> = None;
    for (axis, size) in sizes.iter().enumerate() {
        let part = match axis.checked_sub(batch).and_then(|at| tuple.parts.get(at)) {
            Some(&part) => ctx.indices(part, size)?,
            None => ctx.iota(DType::I64, &tuple.shape, axis)?,
        };
        let part = ctx.cast(part, DType::I64)?;
        flat = Some(match flat {
            None => part,
            Some(outer) => {
                let size = ctx.dim_scalar(size, DType::I64)?;
                let scaled = ctx.binary(BinaryFn::Mul, outer, size)?;
                ctx.binary(BinaryFn::Add, scaled, part)?
            }
        });
    }
    flat.ok_or_else(|| invalid("its indices are empty"))
}

/// How an update meets what is there.
fn reduction(node: &Node<'_>) -> Outcome<ScatterFn> {
    Ok(match node.attr_str_or("reduction", "none")? {
        "none" => ScatterFn::Set,
        "add" => ScatterFn::Add,
        "mul" => ScatterFn::Mul,
        "min" => ScatterFn::Min,
        "max" => ScatterFn::Max,
        other => return Err(invalid(format!("`reduction` is `{other}`"))),
    })
}

/// `x` with `x[indices[i…, :]…, k…] ∘= updates[i…, k…]`.
fn scatter_nd<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, indices, updates) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let function = reduction(node)?;
    let tuple = tuple(ctx, indices, ctx.rank(x))?;
    let (shape, depth) = (ctx.shape(x), tuple.parts.len());
    if depth > shape.len() || ctx.rank(updates) + depth != tuple.shape.len() + shape.len() {
        return Err(invalid(format!(
            "tuples of {depth} and updates with {} axes for {} axes",
            ctx.rank(updates),
            shape.len()
        )));
    }
    let whole = [&tuple.shape[..], &shape[depth..]].concat();
    let updates = ctx.reshape(updates, &whole)?;
    if function == ScatterFn::Set
        && let Some(region) = Region::of(ctx, &tuple, &shape, 0)
        && region.steps.iter().all(|&step| step == 1)
        && (0..tuple.shape.len()).all(|axis| tuple.shape[axis].is(1) || region.along.contains(&Some(axis)))
    {
        let updates = as_region(ctx, updates, &tuple, &region, &shape)?;
        return write_region(ctx, x, updates, &region.starts, 0);
    }
    let flat = if let [part] = tuple.parts.as_slice() {
        ctx.indices(*part, &shape[0])?
    } else {
        flat_indices(ctx, &tuple, &shape[..depth], 0)?
    };
    let many = Dim::product(&tuple.shape);
    let flat = ctx.reshape(flat, std::slice::from_ref(&many))?;
    let rows = [&[Dim::product(&shape[..depth])], &shape[depth..]].concat();
    let updates = ctx.reshape(updates, &[&[many], &shape[depth..]].concat())?;
    let x = ctx.reshape(x, &rows)?;
    let y = ctx.add(Op::ScatterRows { function }, &[x, flat, updates])?;
    ctx.reshape(y, &shape)
}

/// Updates arranged as indices, rearranged as the region of the operand that they are written to.
fn as_region(ctx: &mut Ctx<'_, '_>, updates: Value, tuple: &Tuple, region: &Region, shape: &[Dim]) -> Outcome<Value> {
    let depth = region.starts.len();
    let moving = region.moving();
    let sizes = region.sizes(&tuple.shape);
    let order: Vec<Dim> = moving.iter().map(|&axis| sizes[axis].clone()).collect();
    let updates = ctx.reshape(updates, &[&order[..], &shape[depth..]].concat())?;
    let mut sorted = moving.clone();
    sorted.sort_unstable();
    let place = |axis: &usize| moving.iter().position(|other| other == axis).unwrap_or_default();
    let perm: Vec<usize> = sorted.iter().map(place).chain(moving.len()..moving.len() + shape.len() - depth).collect();
    let updates = ctx.transpose(updates, &perm)?;
    ctx.reshape(updates, &[&sizes[..], &shape[depth..]].concat())
}

/// `x` with the region from `starts` on, whose shape is that of `part`, replaced; the axes before `axis` are replaced as a whole.
fn write_region(ctx: &mut Ctx<'_, '_>, x: Value, part: Value, starts: &[Dim], axis: usize) -> Outcome<Value> {
    let Some(start) = starts.get(axis) else { return Ok(part) };
    let (from, size) = (ctx.size(x, axis)?, ctx.size(part, axis)?);
    if start.is(0) && from == size {
        return write_region(ctx, x, part, starts, axis + 1);
    }
    let end = start.clone() + size.clone();
    let below = partial(ctx, part, x, starts, axis + 1)?;
    let middle = if below {
        let middle = cut(ctx, x, axis, start, &size)?;
        write_region(ctx, middle, part, starts, axis + 1)?
    } else {
        part
    };
    let mut parts = Vec::with_capacity(3);
    if !start.is(0) {
        parts.push(cut(ctx, x, axis, &Dim::ZERO, start)?);
    }
    parts.push(middle);
    let rest = from - end.clone();
    if !rest.is(0) {
        parts.push(cut(ctx, x, axis, &end, &rest)?);
    }
    ctx.concat(&parts, axis)
}

/// Whether a region leaves out some of the operand on an axis from `axis` on.
fn partial(ctx: &Ctx<'_, '_>, part: Value, x: Value, starts: &[Dim], axis: usize) -> Outcome<bool> {
    for (axis, start) in starts.iter().enumerate().skip(axis) {
        if !start.is(0) || ctx.size(x, axis)? != ctx.size(part, axis)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A slice of `size` elements; of something joined along that axis, the parts themselves where they are cut between.
fn cut(ctx: &mut Ctx<'_, '_>, x: Value, axis: usize, start: &Dim, size: &Dim) -> Outcome<Value> {
    let operands = ctx.graph.operands(x.node);
    match &ctx.graph[x.node].op {
        Op::Concat { axis: joined } if *joined == axis => {
            let mut at = Dim::ZERO;
            for part in operands {
                if at == *start && ctx.size(part, axis)? == *size {
                    return Ok(part);
                }
                at = at + ctx.size(part, axis)?;
            }
        }
        Op::Transpose { perm } => {
            let perm = perm.clone();
            let inner = cut(ctx, operands[0], perm[axis], start, size)?;
            return ctx.transpose(inner, &perm);
        }
        Op::Broadcast { shape } => {
            let mut shape = shape.clone();
            let from = ctx.shape(operands[0]);
            let repeated = match (axis + from.len()).checked_sub(shape.len()) {
                None => true,
                Some(own) => from[own].is(1),
            };
            if repeated {
                shape[axis] = size.clone();
                return ctx.broadcast(operands[0], &shape);
            }
        }
        _ => {}
    }
    ctx.slice_axis(x, axis, start.clone(), size.clone(), 1)
}

fn scatter_elements<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (x, indices, updates) = (ctx.value(node, 0)?, ctx.value(node, 1)?, ctx.value(node, 2)?);
    let axis = axis_of(node.attr_int_or("axis", 0)?, ctx.rank(x))?;
    let size = ctx.size(x, axis)?;
    let indices = ctx.indices(indices, &size)?;
    ctx.add(Op::ScatterAlong { function: reduction(node)?, axis }, &[x, indices, updates])
}

/// Writes the newest positions of a cache along its sequence axis, per batch element from a position of its own.
fn tensor_scatter<'a>(ctx: &mut Ctx<'a, '_>, node: &Node<'a>) -> Outcome<Value> {
    let (cache, update) = (ctx.value(node, 0)?, ctx.value(node, 1)?);
    let axis = axis_of(node.attr_int_or("axis", -2)?, ctx.rank(cache))?;
    let circular = match node.attr_str_or("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(invalid(format!("`mode` is `{other}`"))),
    };
    let (length, shape) = (ctx.size(cache, axis)?, ctx.shape(update));
    if axis == 0 || shape.len() != ctx.rank(cache) {
        return Err(invalid("the sequence axis is the batch axis, or the update has another number of axes"));
    }
    let Some(starts) = ctx.value_opt(node, 2)? else {
        return write_region(ctx, cache, update, &vec![Dim::ZERO; shape.len()], 0);
    };
    let mut column = vec![Dim::ONE; shape.len()];
    column[0] = ctx.ty(starts).count();
    let starts = ctx.reshape(starts, &column)?;
    let starts = ctx.cast(starts, DType::I64)?;
    let mut counted = vec![Dim::ONE; shape.len()];
    counted[axis] = shape[axis].clone();
    let steps = ctx.iota(DType::I64, &counted, axis)?;
    let mut places = ctx.binary(BinaryFn::Add, starts, steps)?;
    if circular {
        let length = ctx.dim_scalar(&length, DType::I64)?;
        places = ctx.binary(BinaryFn::Mod, places, length)?;
    }
    let places = ctx.broadcast(places, &shape)?;
    ctx.add(Op::ScatterAlong { function: ScatterFn::Set, axis }, &[cache, places, update])
}
