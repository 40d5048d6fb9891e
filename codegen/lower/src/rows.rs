//! Kernels with reductions along row axes: softmax, norms, sums, arg-reductions, cumulative sums.
//!
//! Where a row fits a tile, it is read once and everything happens in scratch. Longer rows (or rows of unknown length that
//! turn out longer) are read in chunks, once for every level of reductions that depend on each other, and once for the result.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use tarsia_graph::{Graph, Op, ReduceFn, Type, Value, access::Index};
use tarsia_tensor::Dim;
use tarsia_tile::{Opcode, Operand};

use crate::{
    builder::KernelBuilder,
    emit::{Emitter, Leaf, Span, identity, tile_axes},
    map::{Target, capacities, open_grid, turned_side, turned_sides},
    nest::{Nest, linear},
};

/// Elements of a tile; rows up to this length are handled in one pass.
const TILE_ELEMENTS: usize = 8 * 1024;
/// Rows of unknown length are expected to be at most this long; longer ones take several passes.
const EXPECTED_ROW: usize = 4096;
/// Chunk of a long row.
const CHUNK: usize = 2048;

/// Lowers a body with reductions.
pub(crate) fn lower_rows(
    builder: &mut KernelBuilder,
    body: &Graph,
    leaves: &FxHashMap<Value, Leaf>,
    targets: &[Target],
) -> Result<(), String> {
    let roots: Vec<Value> = targets.iter().map(|target| target.value).collect();
    let nest = Nest::trace(body, &roots)?;
    let rows: Vec<usize> = (0..nest.groups.len()).filter(|&group| nest.is_row(group)).collect();
    let length = Dim::product(rows.iter().map(|&group| nest.size(group)).collect::<Vec<_>>().iter());
    let (most, most_expected) = (builder.elements(TILE_ELEMENTS), builder.target.elements(EXPECTED_ROW));
    let most_expected = most_expected.min(most);
    let expected = length.as_usize().unwrap_or(most_expected);
    // Several row groups share what is expected of one: 4096, 64 · 64, 16 · 16 · 16 …
    let unknown = 1 << (most_expected.ilog2() as usize / rows.len().max(1));
    let sides = turned_sides(builder, body, &nest, leaves, &roots);
    let row = |group: usize| nest.is_row(group).then(|| nest.size(group).as_usize().unwrap_or(unknown));
    let length: usize = rows.iter().filter_map(|&group| row(group)).fold(1, usize::saturating_mul);
    let single = |group: usize| row(group).or_else(|| Some(turned_side(&sides, group)?.min(most / length).max(1)));
    let capacity = capacities(builder.target, &nest, most, &single);
    let spans = open_grid(builder, &nest, &capacity);
    // Positive exactly where every row group fits its capacity.
    let fits = rows
        .iter()
        .map(|&g| Dim::from(capacity[g]) - nest.size(g) + Dim::ONE)
        .reduce(|a, b| a.minimum(&b))
        .unwrap_or(Dim::ONE);
    // A cumulative reduction needs its whole row at once; one longer than its tile is an error of the run.
    let cumulative = body.node_ids().any(|id| matches!(body[id].op, Op::Scan { .. }));
    let fits = if cumulative {
        Dim::ONE
    } else if expected <= most {
        fits
    } else {
        Dim::ZERO
    };
    builder.if_positive(
        fits,
        |builder| one_pass(builder, body, &nest, leaves, targets, spans.clone()),
        |builder| many_passes(builder, body, &nest, leaves, targets, &rows, spans.clone()),
    )
}

fn one_pass(
    builder: &mut KernelBuilder,
    body: &Graph,
    nest: &Nest,
    leaves: &FxHashMap<Value, Leaf>,
    targets: &[Target],
    spans: Vec<Span>,
) -> Result<(), String> {
    let axes = tile_order(builder, body, nest, leaves, targets, &spans);
    let mut emitter = Emitter::over(builder, body, nest, leaves, spans, axes);
    for target in targets {
        emitter.store(target.value, &nest.root, target.param)?;
    }
    Ok(())
}

/// The axes of tiles. Where nothing but what rows are reduced to is stored, vectors that work in a memory of their own take them as they lie
/// in memory: what is innermost there is innermost in the tile, rows or not.
fn tile_order(
    builder: &KernelBuilder,
    body: &Graph,
    nest: &Nest,
    leaves: &FxHashMap<Value, Leaf>,
    targets: &[Target],
    spans: &[Span],
) -> Vec<usize> {
    let mut axes = tile_axes(spans);
    let reduced = (0..nest.groups.len()).all(|group| !nest.is_row(group) || !nest.depends(&nest.root, group));
    let (Some(target), true) = (targets.first(), reduced && !builder.target.direct) else { return axes };
    let params = leaves.iter().filter(|(_, leaf)| matches!(leaf, Leaf::Param(_))).map(|(value, _)| *value);
    let read = params.filter_map(|leaf| Some((leaf, nest.index_of(body, target.value, &nest.root, leaf)?)));
    let whole = |(_, index): &(Value, Vec<Index>)| axes.iter().all(|&group| nest.depends(index, group));
    let Some((leaf, index)) = read.filter(whole).min_by_key(|(leaf, _)| *leaf) else { return axes };
    let position = linear(&body.ty(leaf).shape, &index);
    let unit = |&group: &usize| nest.groups[group].last().is_some_and(|&axis| position.step(axis).is(1));
    if let Some(at) = axes.iter().position(unit) {
        let innermost = axes.remove(at);
        axes.push(innermost);
    }
    axes
}

type Finished = BTreeMap<(Value, Vec<Index>), Operand>;

/// Chunks of one row group at a time; the other row groups are walked index by index.
fn many_passes(
    builder: &mut KernelBuilder,
    body: &Graph,
    nest: &Nest,
    leaves: &FxHashMap<Value, Leaf>,
    targets: &[Target],
    rows: &[usize],
    spans: Vec<Span>,
) -> Result<(), String> {
    if body.node_ids().any(|id| matches!(body[id].op, Op::Scan { .. } | Op::ArgReduce { .. })) && rows.len() > 1 {
        return Err("a cumulative or index reduction along several long axes".into());
    }
    let outer = spans;
    // Accumulators outlive the loops over chunks, so the tiles of all loops have the same axes.
    let along = tile_order(builder, body, nest, leaves, targets, &outer);
    let mut finished = Finished::new();
    for (value, index) in reductions(body, nest, targets)? {
        let node = &body[value.node];
        let operand = body.operands(value.node)[0];
        let ty = body.ty(operand);
        let inner = nest.operand_indices(node, &[ty], &index).map_err(|o| format!("{o:?}"))?.swap_remove(0);
        let mut setup = Emitter::over(builder, body, nest, leaves, outer.clone(), along.clone());
        let target = setup.tile(node.types[0].dtype, &index);
        match &node.op {
            Op::Reduce { function, axes } => {
                let start = Operand::Real(identity(*function));
                builder.instr(Opcode::Fill, vec![Operand::Tile(target.clone())], vec![start]);
                chunks(builder, nest, rows, &outer, &mut |builder, spans| {
                    let mut emitter = Emitter::over(builder, body, nest, leaves, spans, along.clone());
                    emitter.finish(finished.clone());
                    let (source, extent) = (emitter.value(operand, &inner)?, emitter.extent(&inner));
                    let source = emitter.repeated(source, ty.dtype, extent);
                    emitter.reduce_into(node, ty, &inner, &index, source, &target, true).map(|_| ())
                })?;
                if *function == ReduceFn::Mean {
                    let count = Dim::product(axes.iter().map(|&axis| &ty.shape[axis]));
                    Emitter::over(builder, body, nest, leaves, outer.clone(), along.clone())
                        .divide(&Operand::Tile(target.clone()), count);
                }
            }
            Op::ArgReduce { function, last, .. } => {
                let best =
                    Emitter::over(builder, body, nest, leaves, outer.clone(), along.clone()).tile(ty.dtype, &index);
                let worst = match function {
                    tarsia_graph::ArgReduceFn::Min => f64::INFINITY,
                    tarsia_graph::ArgReduceFn::Max => f64::NEG_INFINITY,
                };
                builder.instr(Opcode::Fill, vec![Operand::Tile(best.clone())], vec![Operand::Real(worst)]);
                builder.instr(Opcode::Fill, vec![Operand::Tile(target.clone())], vec![Operand::Real(0.0)]);
                chunks(builder, nest, rows, &outer, &mut |builder, spans| {
                    let start = Operand::Index(spans[rows[0]].start.clone());
                    let mut emitter = Emitter::over(builder, body, nest, leaves, spans, along.clone());
                    emitter.finish(finished.clone());
                    let (source, extent) = (emitter.value(operand, &inner)?, emitter.extent(&inner));
                    let source = emitter.repeated(source, ty.dtype, extent);
                    let dst = vec![Operand::Tile(best.clone()), Operand::Tile(target.clone())];
                    let axis =
                        emitter.axes.iter().position(|&group| group == rows[0]).ok_or("an index along no axis")?;
                    let op = Opcode::ArgReduce { function: *function, axis, last: *last, accumulate: true };
                    emitter.builder.instr(op, dst, vec![source, start]);
                    Ok(())
                })?;
            }
            other => return Err(format!("`{}` along a row that does not fit a tile", other.name())),
        }
        finished.insert((value, index), Operand::Tile(target));
    }
    let depends_on_rows = rows.iter().any(|&group| nest.depends(&nest.root, group));
    let store = &mut |builder: &mut KernelBuilder, spans: Vec<Span>| {
        let mut emitter = Emitter::over(builder, body, nest, leaves, spans, along.clone());
        emitter.finish(finished.clone());
        for target in targets {
            emitter.store(target.value, &nest.root, target.param)?;
        }
        Ok(())
    };
    if depends_on_rows {
        chunks(builder, nest, rows, &outer, store)
    } else {
        let spans =
            outer.iter().enumerate().map(|(g, s)| if rows.contains(&g) { Span::point(Dim::ZERO) } else { s.clone() });
        store(builder, spans.collect())
    }
}

/// Loops over all chunks of the rows; what must be whole in a tile is not cut.
fn chunks(
    builder: &mut KernelBuilder,
    nest: &Nest,
    rows: &[usize],
    spans: &[Span],
    body: &mut dyn FnMut(&mut KernelBuilder, Vec<Span>) -> Result<(), String>,
) -> Result<(), String> {
    let Some((&group, rest)) = rows.split_first() else { return body(builder, spans.to_vec()) };
    if nest.is_whole(group) {
        return chunks(builder, nest, rest, spans, body);
    }
    // Only the innermost row group is cut into chunks.
    let part = if rest.iter().all(|&group| nest.is_whole(group)) { builder.elements(CHUNK) } else { 1 };
    let size = nest.size(group);
    builder.for_each(size.clone(), part as i64, |builder, start| {
        let mut spans = spans.to_vec();
        let left = size - start.clone();
        spans[group] = Span { start, size: left.minimum(&Dim::from(part)), capacity: part };
        chunks(builder, nest, rest, &spans, body)
    })
}

/// All reductions with the index of their result, operands before users.
fn reductions(body: &Graph, nest: &Nest, targets: &[Target]) -> Result<Vec<(Value, Vec<Index>)>, String> {
    let mut found: Vec<(Value, Vec<Index>)> = Vec::new();
    let mut stack: Vec<(Value, Vec<Index>)> = targets.iter().map(|t| (t.value, nest.root.clone())).collect();
    let mut seen = std::collections::BTreeSet::new();
    while let Some((value, index)) = stack.pop() {
        if !seen.insert((value, index.clone())) {
            continue;
        }
        let node = &body[value.node];
        let operands = body.operands(value.node);
        if operands.is_empty() {
            continue;
        }
        let types: Vec<&Type> = operands.iter().map(|&operand| body.ty(operand)).collect();
        let indices = nest.operand_indices(node, &types, &index).map_err(|o| format!("{o:?}"))?;
        stack.extend(operands.iter().copied().zip(indices));
        if matches!(node.op, Op::Reduce { .. } | Op::ArgReduce { .. } | Op::Scan { .. }) {
            found.push((value, index));
        }
    }
    // Node order is topological.
    found.sort();
    Ok(found)
}
