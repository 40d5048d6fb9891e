//! Gathers and scatters: rows moved at computed indices.
//!
//! Indices are checked when they are used; one that is out of range is an error of the run that names the node.

use rustc_hash::FxHashMap;
use tarsia_graph::{Graph, NodeId, Op, ScatterFn, Value, access::Index};
use tarsia_tensor::Dim;
use tarsia_tile::{Axis, Opcode, Operand, ParamId, View};

use crate::{
    builder::KernelBuilder,
    emit::{Emitter, Leaf, Span},
    map::{Target, capacities, open_grid},
    nest::{Nest, compute_dtype, stored_dtype},
};

/// Elements of a tile.
const TILE_ELEMENTS: usize = 4096;

/// Lowers a body with one gather or scatter; gathers may have an epilogue.
pub(crate) fn lower_index(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Target,
) -> Result<(), String> {
    match body[anchor].op {
        Op::Gather { .. } | Op::TakeAlong { .. } => gather(builder, body, anchor, leaves, target),
        _ if target.value != anchor.into() => Err("a scatter with an epilogue".into()),
        Op::ScatterRows { function } => scatter(builder, body, anchor, leaves, target, function, None),
        Op::ScatterAlong { function, axis } => scatter(builder, body, anchor, leaves, target, function, Some(axis)),
        _ => Err("neither gather nor scatter".into()),
    }
}

fn param_of(leaves: &FxHashMap<Value, Leaf>, value: Value) -> Result<ParamId, String> {
    match leaves.get(&value) {
        Some(Leaf::Param(param)) => Ok(*param),
        _ => Err("indexing a computed value".into()),
    }
}

/// Result axes: outer, indices, inner. Tiles are over all of them; one gather per tile needs the indices to vary along one axis.
fn gather(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Target,
) -> Result<(), String> {
    let operands = body.operands(anchor);
    let (data, indices) = (operands[0], operands[1]);
    let mut nest = Nest::trace_until(body, &[target.value], &|value| value == anchor.into())?;
    let root = nest.root.clone();
    let result =
        nest.index_of(body, target.value, &root, anchor.into()).ok_or("the gather is used at several indices")?;
    let rank = body.ty(indices).rank();
    let (axis, at, along): (usize, Vec<Index>, Vec<Index>) = match body[anchor].op {
        Op::Gather { axis } => {
            let mut along = result[..axis].to_vec();
            along.push(Index::fixed(Dim::ZERO));
            along.extend_from_slice(&result[axis + rank..]);
            (axis, result[axis..axis + rank].to_vec(), along)
        }
        Op::TakeAlong { axis } => {
            let mut along = result.clone();
            along[axis] = Index::fixed(Dim::ZERO);
            (axis, result.clone(), along)
        }
        _ => return Err("no gather".into()),
    };
    // A gather instruction picks one index per row of its first axis: the innermost group that the indices depend on is
    // that axis, and groups that only the data depend on are the row.
    let varying: Vec<usize> = (0..nest.groups.len()).filter(|&group| nest.depends(&at, group)).collect();
    // A single index is an axis of size 1.
    let picked = Some(varying.last().copied().unwrap_or_else(|| nest.unit_group()));
    let fixed = |group: usize| (varying.contains(&group) && Some(group) != picked).then_some(1);
    let inner = |group: usize| (Some(group) == picked && nest.depends(&along, group)).then_some(1);
    let fixed = |group: usize| fixed(group).or(inner(group));
    let most = builder.elements(TILE_ELEMENTS);
    let capacity = capacities(builder.target, &nest, most, &fixed);
    let spans = open_grid(builder, &nest, &capacity);
    let mut axes: Vec<usize> = picked.into_iter().collect();
    axes.extend((0..nest.groups.len()).filter(|&group| Some(group) != picked && spans[group].capacity != 1));
    let source = param_of(leaves, data)?;
    let picks = param_of(leaves, indices)?;
    let data_shape = body.ty(data).shape.clone();
    let source = builder.reshaped(source, data_shape);
    let index_shape = body.ty(indices).shape.clone();
    let mut emitter = Emitter::over(builder, body, &nest, leaves, spans.clone(), axes.clone());
    let mut view = emitter.axes_view(source, &along);
    let index_view = emitter.view(picks, &index_shape, &at);
    let tile = emitter.tile(body.ty(anchor.into()).dtype, &result);
    let rows = tile.size.first().cloned().unwrap_or(Dim::ONE);
    // View axis 0 of the data is the picked axis; the index takes the place of its step.
    view.size = tile.size.clone();
    for other in view.axes.iter_mut() {
        if inner(axes[0]).is_some() {
            // Along a single index the data do not step.
            other.steps.retain(|(along, _)| *along != 0);
        }
    }
    let Some(indexed) = view.axes.get_mut(axis) else { return Err("no such axis".into()) };
    indexed.steps.push((0, Dim::ONE));
    let index_dtype = emitter.builder.param_of(picks).dtype;
    let index_tile = emitter.builder.scratch(index_dtype, &[spans_capacity(&spans, picked)], &[rows]);
    let flat = View { size: vec![index_tile.size[0].clone()], ..index_view };
    let flat = View { axes: vec![first_axis_only(&flat.axes[0])], ..flat };
    emitter.builder.copy(Operand::Tile(index_tile.clone()), Operand::Global(flat));
    // Rows are picked as they lie in memory and converted afterwards.
    let stored = emitter.builder.param_of(source).dtype;
    let found = match stored == compute_dtype(body.ty(anchor.into()).dtype) {
        true => tile.clone(),
        false => {
            let (size, capacity) = emitter.extent(&result);
            emitter.builder.scratch(stored, &capacity, &size)
        }
    };
    emitter.builder.instr(
        Opcode::Gather,
        vec![Operand::Tile(found.clone())],
        vec![Operand::Global(view), Operand::Tile(index_tile)],
    );
    if found != tile {
        emitter.builder.copy(Operand::Tile(tile.clone()), Operand::Tile(found));
    }
    let mut gathered = leaves.clone();
    gathered.insert(anchor.into(), Leaf::Tile(Operand::Tile(tile)));
    Emitter::over(builder, body, &nest, &gathered, spans, axes).store(target.value, &root, target.param)
}

fn spans_capacity(spans: &[Span], group: Option<usize>) -> usize {
    group.map_or(1, |group| spans[group].capacity)
}

fn first_axis_only(axis: &Axis) -> Axis {
    Axis { start: axis.start.clone(), steps: axis.steps.iter().filter(|(axis, _)| *axis == 0).cloned().collect() }
}

/// Copies the operand, then applies all updates in order, in one work item: updates may meet.
fn scatter(
    builder: &mut KernelBuilder,
    body: &Graph,
    anchor: NodeId,
    leaves: &FxHashMap<Value, Leaf>,
    target: &Target,
    function: ScatterFn,
    along: Option<usize>,
) -> Result<(), String> {
    let operands = body.operands(anchor);
    let data = body.ty(operands[0]).clone();
    let updates = body.ty(operands[2]).clone();
    let params = [param_of(leaves, operands[0])?, param_of(leaves, operands[1])?, param_of(leaves, operands[2])?];
    whole_copy(builder, params[0], target.param, &data.count())?;
    let result = builder.reshaped(target.param, data.shape.clone());
    let updates_param = builder.reshaped(params[2], updates.shape.clone());
    let rank = data.rank();
    let axis = along.unwrap_or(0);
    // Loops over everything but one run of indices (scatter along) or the row (scatter rows).
    let chunk = builder.target.elements(256);
    let index_dtype = builder.param_of(params[1]).dtype;
    let dtype = stored_dtype(data.dtype);
    let outer: Vec<usize> = match along {
        Some(axis) => (0..rank).filter(|&a| a != axis).collect(),
        None => Vec::new(),
    };
    nested(builder, &outer, &updates.shape, vec![Dim::ZERO; rank], &mut |builder, at| {
        builder.for_each(updates.shape[axis].clone(), chunk as i64, |builder, start| {
            let count = (updates.shape[axis].clone() - start.clone()).minimum(&Dim::from(chunk));
            let picks = builder.scratch(index_dtype, &[chunk], std::slice::from_ref(&count));
            let mut position = at.to_vec();
            position[axis] = start.clone();
            let (base, step) = match along {
                Some(axis) => (linear(&updates.shape, &position), Dim::product(&updates.shape[axis + 1..])),
                None => (start.clone(), Dim::ONE),
            };
            let index_view = View {
                param: params[1],
                axes: vec![Axis { start: base, steps: vec![(0, step)] }],
                size: vec![count.clone()],
                fill: None,
            };
            builder.copy(Operand::Tile(picks.clone()), Operand::Global(index_view));
            let row: Vec<usize> = if along.is_some() { Vec::new() } else { (1..rank).collect() };
            rows(builder, &row, &updates.shape, position, &mut |builder, position, inner| {
                let place = |param: ParamId, indexed: bool| {
                    let axis_of = |a: usize| {
                        let start = if indexed && a == axis { Dim::ZERO } else { position[a].clone() };
                        let mut steps = Vec::new();
                        if a == axis {
                            steps.push((0, Dim::ONE));
                        } else if inner.as_ref().is_some_and(|(last, ..)| *last == a) {
                            steps.push((1, Dim::ONE));
                        }
                        Axis { start, steps }
                    };
                    let mut size = vec![count.clone()];
                    size.extend(inner.as_ref().map(|(_, size, _)| size.clone()));
                    View { param, axes: (0..rank).map(axis_of).collect(), size, fill: None }
                };
                let source = place(updates_param, false);
                let mut capacity = vec![chunk];
                capacity.extend(inner.as_ref().map(|(_, _, capacity)| *capacity));
                let values = builder.scratch(dtype, &capacity, &source.size);
                builder.copy(Operand::Tile(values.clone()), Operand::Global(source));
                let dst = place(result, true);
                builder.instr(
                    Opcode::Scatter { function },
                    vec![Operand::Global(dst)],
                    vec![Operand::Tile(values), Operand::Tile(picks.clone())],
                );
                Ok(())
            })
        })
    })
}

/// Copies all elements of one parameter to another of the same type.
fn whole_copy(builder: &mut KernelBuilder, from: ParamId, to: ParamId, count: &Dim) -> Result<(), String> {
    let view = |param, start: Dim, size: &Dim| {
        let axes = vec![Axis { start, steps: vec![(0, Dim::ONE)] }];
        Operand::Global(View { param, axes, size: vec![size.clone()], fill: None })
    };
    if builder.target.copies_globally {
        builder.copy(view(to, Dim::ZERO, count), view(from, Dim::ZERO, count));
        return Ok(());
    }
    let part = builder.elements(TILE_ELEMENTS);
    let dtype = builder.param_of(from).dtype;
    builder.for_each(count.clone(), part as i64, |builder, start| {
        let size = (count.clone() - start.clone()).minimum(&Dim::from(part));
        let tile = Operand::Tile(builder.scratch(dtype, &[part], std::slice::from_ref(&size)));
        builder.copy(tile.clone(), view(from, start.clone(), &size));
        builder.copy(view(to, start, &size), tile);
        Ok(())
    })
}

fn linear(shape: &[Dim], position: &[Dim]) -> Dim {
    shape.iter().zip(position).fold(Dim::ZERO, |at, (size, index)| at * size.clone() + index.clone())
}

fn nested(
    builder: &mut KernelBuilder,
    axes: &[usize],
    shape: &[Dim],
    at: Vec<Dim>,
    body: &mut dyn FnMut(&mut KernelBuilder, &[Dim]) -> Result<(), String>,
) -> Result<(), String> {
    let Some((&axis, rest)) = axes.split_first() else { return body(builder, &at) };
    builder.for_each(shape[axis].clone(), 1, |builder, i| {
        let mut at = at.clone();
        at[axis] = i;
        nested(builder, rest, shape, at, body)
    })
}

/// Loops over a row's axes, the last one in chunks: gives the position and (axis, size, capacity) of the chunk.
fn rows(
    builder: &mut KernelBuilder,
    axes: &[usize],
    shape: &[Dim],
    at: Vec<Dim>,
    body: &mut dyn FnMut(&mut KernelBuilder, &[Dim], Option<(usize, Dim, usize)>) -> Result<(), String>,
) -> Result<(), String> {
    const CHUNK: usize = 64;
    match axes {
        [] => body(builder, &at, None),
        [axis] => builder.for_each(shape[*axis].clone(), CHUNK as i64, |builder, start| {
            let size = (shape[*axis].clone() - start.clone()).minimum(&Dim::from(CHUNK));
            let mut at = at.clone();
            at[*axis] = start;
            body(builder, &at, Some((*axis, size, CHUNK)))
        }),
        [axis, rest @ ..] => builder.for_each(shape[*axis].clone(), 1, |builder, i| {
            let mut at = at.clone();
            at[*axis] = i;
            rows(builder, rest, shape, at, body)
        }),
    }
}
