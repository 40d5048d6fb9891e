//! Kernels that compute every element of their results by itself.

use rustc_hash::FxHashMap;
use tarsia_graph::{Graph, Value, access::Index};
use tarsia_tensor::Dim;
use tarsia_tile::ParamId;

use crate::{
    builder::KernelBuilder,
    emit::{Emitter, Leaf, Span},
    nest::{Nest, linear},
};

/// Elements of a tile in a point-wise kernel: a few of them fit the innermost cache together.
const TILE_ELEMENTS: usize = 2048;

/// Either side of a tile that is turned around: runs of memory of 128 bytes at least, and tiles enough for many cores.
const TURNED_SIDE: usize = 64;

/// Where a kernel writes one of its results.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The computed value.
    pub value: Value,
    /// The parameter, one axis.
    pub param: ParamId,
}

/// Lowers a body without anchors.
pub(crate) fn lower_map(
    builder: &mut KernelBuilder,
    body: &Graph,
    leaves: &FxHashMap<Value, Leaf>,
    targets: &[Target],
) -> Result<(), String> {
    let roots: Vec<Value> = targets.iter().map(|target| target.value).collect();
    let nest = Nest::trace(body, &roots)?;
    let sides = turned_sides(builder, body, &nest, leaves, &roots);
    let fixed = |group: usize| turned_side(&sides, group);
    let most = builder.elements(TILE_ELEMENTS);
    let capacity = capacities(builder.target, &nest, most, &fixed);
    let spans = open_grid(builder, &nest, &capacity);
    let mut emitter = Emitter::new(builder, body, &nest, leaves, spans);
    for target in targets {
        emitter.store(target.value, &nest.root, target.param)?;
    }
    Ok(())
}

/// How much of a group a tile holds where two others are turned around in it: only matrices are turned.
pub(crate) fn turned_side(sides: &[(usize, usize)], group: usize) -> Option<usize> {
    let side = sides.iter().find(|(known, _)| *known == group).map(|(_, side)| *side);
    side.or((!sides.is_empty()).then_some(1))
}

/// The two groups of which one is innermost in a leaf and the other in the result, and how much of each a tile holds: what is turned
/// around in scratch comes and goes in runs of that many elements.
pub(crate) fn turned_sides(
    builder: &KernelBuilder,
    body: &Graph,
    nest: &Nest,
    leaves: &FxHashMap<Value, Leaf>,
    roots: &[Value],
) -> Vec<(usize, usize)> {
    let Some(&root) = roots.first() else { return Vec::new() };
    if !builder.target.turns(body.ty(root).dtype) {
        return Vec::new();
    }
    let innermost = |value: Value, index: &[Index]| {
        let position = linear(&body.ty(value).shape, index);
        let steps_by_one = |axes: &Vec<usize>| axes.last().is_some_and(|&axis| position.step(axis).is(1));
        nest.groups.iter().position(steps_by_one)
    };
    let Some(inner) = innermost(root, &nest.root) else { return Vec::new() };
    let side = |group: usize| {
        let most = builder.target.tile().map(|tile| tile[0].isqrt().max(1));
        let most = most.unwrap_or_else(|| builder.target.elements(TURNED_SIDE));
        (group, nest.size(group).as_usize().unwrap_or(most).clamp(1, most))
    };
    let params = leaves.iter().filter(|(_, leaf)| matches!(leaf, Leaf::Param(_))).map(|(value, _)| *value);
    let others = params.filter_map(|leaf| innermost(leaf, &nest.index_of(body, root, &nest.root, leaf)?));
    match others.filter(|&group| group != inner).min() {
        Some(other) => {
            // A short side leaves room for the other.
            let mut sides = [side(inner), side(other)];
            let most = builder.target.elements(TILE_ELEMENTS);
            for at in 0..2 {
                let (group, room) = (sides[at].0, most / sides[1 - at].1.max(1));
                let size = nest.size(group).as_usize().unwrap_or(room);
                sides[at].1 = sides[at].1.max(size.min(room)).max(1);
            }
            sides.to_vec()
        }
        None => Vec::new(),
    }
}

/// How much of every group a tile holds: whole groups from the innermost out, up to `budget` elements. `fixed` sets
/// some beforehand, but never cuts a group that was asked for whole.
pub(crate) fn capacities(
    target: &crate::target::Target,
    nest: &Nest,
    budget: usize,
    fixed: &dyn Fn(usize) -> Option<usize>,
) -> Vec<usize> {
    let mut capacity: Vec<Option<usize>> = (0..nest.groups.len())
        .map(|group| match nest.is_whole(group) {
            true => Some(nest.size(group).as_usize().unwrap_or(budget)),
            false => fixed(group),
        })
        .collect();
    let mut room = budget / capacity.iter().flatten().product::<usize>().max(1);
    for group in (0..nest.groups.len()).rev() {
        if capacity[group].is_none() {
            let part = target.estimate(&nest.size(group)).unwrap_or(usize::MAX).clamp(1, room.max(1));
            capacity[group] = Some(part);
            room /= part;
        }
    }
    capacity.into_iter().flatten().collect()
}

/// Opens one grid axis per group that a tile does not hold whole, and gives the box of a work item.
pub(crate) fn open_grid(builder: &mut KernelBuilder, nest: &Nest, capacity: &[usize]) -> Vec<Span> {
    (0..nest.groups.len())
        .map(|group| {
            let (size, part) = (nest.size(group), capacity[group]);
            // Row groups and groups that were asked for whole are not cut.
            if nest.is_row(group) || nest.is_whole(group) || size.as_usize() == Some(part) {
                return Span { start: Dim::ZERO, size, capacity: part };
            }
            let start = builder.grid(size.ceil_div(&Dim::from(part))) * Dim::from(part);
            let rest = size - start.clone();
            Span { start, size: rest.minimum(&Dim::from(part)), capacity: part }
        })
        .collect()
}
