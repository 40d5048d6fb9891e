//! Convolutions of images whose channels are innermost, on machines with a stage: the part of the image under a block of the result is
//! loaded once, and every place of the window multiplies it from another row on.
//!
//! ```text
//!                stage: rows are places of the image, `pitch` for each of its rows        weights
//! for each chunk of channels:
//!     load the image's rows, zeros around them;  load the weights of all places
//!     for each place (a, b) of the window:      acc += image[a·pitch + b ..] · weights[a, b]
//! result row i = acc[i·pitch ..]
//! ```
//! A step of the window of more than 1 is as many phases of the image, each loaded by itself; then places of one phase are neighbours. What
//! lies between the end of one row of the result and the begin of the next is computed and left.

use tarsia_graph::{NodeId, Op, Value};
use tarsia_tensor::Dim;
use tarsia_tile::{Axis, Layout, Operand, ParamId, Region, View};

use super::{
    Packed, Product, Result_, Roles,
    staged::{Types, pieces},
};
use crate::{
    blocks::{Staged, WindowShape, choose_windows, staged_granule},
    builder::{KernelBuilder, Source},
    emit::{Emitter, Leaf, Span},
    load::{extent, part_of},
    nest::{Nest, linear},
};

/// A convolution along two axes of an image; one along a single axis has a first one of size 1.
pub(super) struct Windows<'p, 'a> {
    product: &'p Product<'a>,
    image: Image,
    /// Weights that are known; others come as they lie.
    weights: Option<Packed>,
    /// Per axis of the window; the second one is innermost.
    axes: [Along; 2],
    channels: usize,
    /// The group of the channels.
    summed: usize,
    types: Types,
    /// Rows of the stage for each row of the image.
    pitch: usize,
}

/// The image in memory: batch, two axes (or one), channels.
struct Image {
    param: ParamId,
    zeros: ParamId,
    batch: Dim,
    flat: bool,
}

/// One axis of the window.
#[derive(Clone, Copy, Debug)]
struct Along {
    size: usize,
    result: usize,
    window: usize,
    stride: usize,
    dilation: usize,
    low: usize,
    /// The groups of the result and of the window.
    group: Option<usize>,
    places: Option<usize>,
}

/// Places of the window that see the same elements of the image: every `stride`th from `first`.
#[derive(Clone, Copy)]
struct Phase {
    first: usize,
    count: usize,
}

impl Along {
    fn phases(&self) -> Vec<Phase> {
        let step = self.stride;
        (0..step.min(self.window)).map(|first| Phase { first, count: (self.window - first).div_ceil(step) }).collect()
    }

    /// How far the last place of a phase is from its first, in places of the phase.
    fn reach(&self, phase: Phase) -> usize {
        (phase.count - 1) * self.dilation
    }

    fn longest(&self) -> usize {
        self.phases().into_iter().map(|phase| self.reach(phase)).max().unwrap_or(0)
    }

    /// Of the places of a phase, the first and the end of those that are in the image, and the first one's index there.
    fn inside(&self, phase: Phase) -> (usize, usize, usize) {
        let (low, first) = (self.low, phase.first * self.dilation);
        let begin = low.saturating_sub(first).div_ceil(self.stride);
        let end = (self.size + low).saturating_sub(first).div_ceil(self.stride);
        let most = self.result + self.reach(phase);
        let begin = begin.min(most);
        (begin, end.clamp(begin, most), (begin * self.stride + first).saturating_sub(low))
    }
}

/// The convolution as windows over a stage, if it is one that can be so: see [`Windows`].
///
/// # Errors
/// If generating it fails.
pub(super) fn lower(
    product: &mut Product<'_>,
    builder: &mut KernelBuilder,
    anchor: NodeId,
    target: &Result_,
    constant: &dyn Fn(Value) -> bool,
) -> Result<bool, String> {
    let types = product.unit_types(builder);
    let Some((axes, roles, summed)) = product.window_axes(anchor, target) else { return Ok(false) };
    let before = std::mem::replace(&mut product.roles, roles);
    match Windows::of(product, builder, axes, summed, types, constant) {
        Some(windows) => windows.emit(builder, anchor, target).map(|()| true),
        None => {
            product.roles = before;
            Ok(false)
        }
    }
}

impl Product<'_> {
    /// The axes of a window, what the groups are to its products, and the group of its channels.
    fn window_axes(&self, anchor: NodeId, target: &Result_) -> Option<([Along; 2], Roles, usize)> {
        let Op::Conv { strides, low, dilations, groups, .. } = &self.body[anchor].op else { return None };
        let operands = self.body.operands(anchor);
        let [image, weights] = [operands[0], operands[1]].map(|operand| &self.body.ty(operand).shape);
        let rank = strides.len();
        let simple = (0..rank).all(|i| strides[i] == 1 || dilations[i] == 1);
        if self.image != 0 || *groups != 1 || !(1..=2).contains(&rank) || !simple {
            return None;
        }
        let result = self.nest.index_of(self.body, target.value, &self.nest.root, anchor.into())?;
        let single = |axis: usize| self.nest.groups.iter().position(|group| group.as_slice() == [axis]);
        // A group of its own, or none where the axis has a single index.
        let sum = |key: usize| match self.nest.sums.get(&(key as u8)).map(Vec::as_slice) {
            None => Some(None),
            Some(&[axis]) => single(axis).map(Some),
            Some(_) => None,
        };
        let out = |i: usize| match result[i + 2].steps.as_slice() {
            [] => Some(None),
            [(axis, step)] if step.is(1) && result[i + 2].base.is(0) => single(*axis).map(Some),
            _ => None,
        };
        let known = |dim: &Dim| dim.as_usize().filter(|&size| size > 0);
        let shape = &self.body[anchor].types[0].shape;
        let along = |i: usize| {
            Some(Along {
                size: known(&image[i + 2])?,
                result: known(&shape[i + 2])?,
                window: known(&weights[i + 2])?,
                stride: strides[i],
                dilation: dilations[i],
                low: low[i],
                group: out(i)?,
                places: sum(i + 1)?,
            })
        };
        let flat = Along { size: 1, result: 1, window: 1, stride: 1, dilation: 1, low: 0, group: None, places: None };
        let axes = if rank == 2 { [along(0)?, along(1)?] } else { [flat, along(0)?] };
        if axes.iter().all(|axis| axis.window == 1) {
            return None;
        }
        let summed = sum(0)??;
        let rows: Vec<usize> = axes.iter().filter_map(|axis| axis.group).collect();
        let outer = axes.iter().filter_map(|axis| axis.places).collect();
        let roles = Roles { rows, columns: self.roles.columns.clone(), depth: vec![summed], outer };
        (!roles.rows.is_empty()).then_some((axes, roles, summed))
    }
}

impl<'p, 'a> Windows<'p, 'a> {
    fn of(
        product: &'p Product<'a>,
        builder: &mut KernelBuilder,
        axes: [Along; 2],
        summed: usize,
        types: Types,
        constant: &dyn Fn(Value) -> bool,
    ) -> Option<Windows<'p, 'a>> {
        let nest = &product.nest;
        builder.target.exchange.as_ref()?;
        let weights = product.packed_for_stage(builder, 1, types, constant);
        let channels = nest.size(summed).as_usize()?;
        let point = vec![Span::point(Dim::ZERO); nest.groups.len()];
        let probe = Emitter::over(builder, product.body, nest, product.leaves, point, Vec::new());
        let (leaf, index) = probe.behind_transposes(product.operands[0], &product.indices[0]).ok()?;
        // Batch, image, channels.
        let natural = &product.indices[0];
        let mut expected = vec![natural[0].clone()];
        expected.extend(natural[2..].iter().cloned());
        expected.push(natural[1].clone());
        let Some(Leaf::Param(param)) = product.leaves.get(&leaf) else { return None };
        let (param, shape) = (*param, product.body.ty(leaf).shape.clone());
        if index != expected || probe.builder.param_of(param).dtype != types[0] {
            return None;
        }
        let (leaf, index) = probe.leaf_of(product.operands[1], &product.indices[1])?;
        let stored = probe.leaves.get(&leaf).is_some_and(|leaf| matches!(leaf, Leaf::Param(_)));
        let channel = nest.groups[summed].last().map(|&axis| linear(&product.body.ty(leaf).shape, &index).step(axis));
        let beside = product.body.ty(leaf).dtype == types[1] && channel.is_some_and(|step| step.is(1));
        if weights.is_none() && !(stored && beside) {
            return None;
        }
        let [_, inner] = axes;
        let pitch = inner.result + inner.longest();
        let param = builder.reshaped(param, shape);
        let zeros = vec![Dim::from(pitch), Dim::from(channels)];
        let zeros = builder.param(Source::Zeros, types[0], zeros, Layout::RowMajor, tarsia_tile::Access::Read);
        let image = Image { param, zeros, batch: Dim::ZERO, flat: natural.len() == 3 };
        Some(Windows { product, image, weights, axes, channels, summed, types, pitch })
    }

    fn emit(mut self, builder: &mut KernelBuilder, anchor: NodeId, target: &Result_) -> Result<(), String> {
        let nest = &self.product.nest;
        let shape = self.shape(builder);
        let granule = staged_granule(builder.target, self.types, 1);
        let asked = builder.asked(&[granule[0], granule[1], granule[2]]);
        let (block, chunk) = choose_windows(builder.target, self.types, &shape, asked);
        let spans = self.product.block_spans(builder, block);
        self.image.batch = position(nest, &self.product.indices[0][0], &spans);
        let acc = self.accumulated(builder, &spans, block, chunk)?;
        let apart = self.pitch != self.axes[1].result && self.rows(&spans).1 > 1;
        let pitched = self.axes[0].group.filter(|_| apart).map(|group| (group, self.pitch));
        self.product.finish(builder, anchor, target, &spans, &acc, pitched)
    }

    /// What decides how large blocks are.
    fn shape(&self, builder: &KernelBuilder) -> WindowShape {
        let [outer, inner] = self.axes;
        let nest = &self.product.nest;
        let taken = |group: &usize| {
            nest.is_sum(*group) || self.product.roles.rows.contains(group) || self.product.roles.columns.contains(group)
        };
        let batches = (0..nest.groups.len()).filter(|group| !taken(group));
        let batches = batches.map(|group| builder.target.estimate(&nest.size(group)).unwrap_or(1)).product();
        let columns = self.product.roles.columns.iter();
        let columns = columns.map(|&group| builder.target.estimate(&nest.size(group)).unwrap_or(1)).product();
        WindowShape {
            rows: outer.result,
            width: inner.result,
            pitch: self.pitch,
            reach: outer.longest(),
            places: outer.window * inner.window,
            phases: outer.phases().len() * inner.phases().len(),
            channels: self.channels,
            columns,
            batches,
        }
    }

    /// Rows of the result in a block, and how many there can be.
    fn rows(&self, spans: &[Span]) -> (Dim, usize) {
        self.axes[0].group.map_or((Dim::ONE, 1), |group| (spans[group].size.clone(), spans[group].capacity))
    }

    fn accumulated(
        &self,
        builder: &mut KernelBuilder,
        spans: &[Span],
        block: Staged,
        chunk: usize,
    ) -> Result<Region, String> {
        let (rows, columns) = (self.rows(spans), extent(&self.product.roles.columns, spans));
        let width = self.axes[1].result;
        let places = |rows: Dim| (rows - Dim::ONE) * Dim::from(self.pitch) + Dim::from(width);
        let capacity = (rows.1 - 1) * self.pitch + width;
        let space = builder.target.matrix_spaces[2].clone();
        let tile = builder.tile(&space, self.types[2], vec![capacity, columns.1], builder.target.accumulator);
        let acc = Region::at_origin(tile, vec![places(rows.0), columns.0]);
        let channels = Dim::from(self.channels);
        builder.for_each(channels.clone(), chunk as i64, |builder, start| {
            let mut spans = spans.to_vec();
            spans[self.summed] = part_of(&channels, start.clone(), chunk);
            let weights = self.weights(builder, &spans)?;
            for (number, phases) in self.phases().into_iter().enumerate() {
                let image = self.load(builder, &spans, phases)?;
                let progress = start.clone() + Dim::from(number);
                self.multiply(builder, (&acc, capacity), (&image, &weights), phases, (block.piece, progress))?;
            }
            Ok::<(), String>(())
        })?;
        Ok(acc)
    }

    fn phases(&self) -> Vec<[Phase; 2]> {
        let [outer, inner] = self.axes;
        outer.phases().into_iter().flat_map(|a| inner.phases().into_iter().map(move |b| [a, b])).collect()
    }

    /// The weights of a chunk of channels at all places of the window, place by place.
    fn weights(&self, builder: &mut KernelBuilder, spans: &[Span]) -> Result<Region, String> {
        let space = builder.target.stages[1].clone().ok_or("the unit has no stage")?;
        let layout = match &self.weights {
            Some(packed) => builder.param_of(packed.param).layout,
            None => builder.target.stage_layout(&space, self.types[1], true),
        };
        let (columns, chunk) = (extent(&self.product.roles.columns, spans), &spans[self.summed]);
        let places = self.axes[0].window * self.axes[1].window;
        let tile = builder.tile(&space, self.types[1], vec![places * chunk.capacity, columns.1], layout);
        let size = vec![chunk.size.clone(), columns.0];
        builder.for_each(Dim::from(places), 1, |builder, place| {
            let mut spans = spans.to_vec();
            let width = Dim::from(self.axes[1].window);
            for (axis, at) in self.axes.iter().zip([place.floor_div(&width), place.modulo(&width)]) {
                if let Some(group) = axis.places {
                    spans[group] = Span::point(at);
                }
            }
            let to = Region {
                offset: vec![place * Dim::from(chunk.capacity), Dim::ZERO],
                ..Region::at_origin(tile, size.clone())
            };
            let from = match &self.weights {
                Some(packed) => Operand::Global(self.product.packed_view(packed, 1, &spans)),
                None => self.stored_weights(builder, spans)?,
            };
            builder.copy(Operand::Tile(to), from);
            Ok::<(), String>(())
        })?;
        Ok(Region::at_origin(tile, size))
    }

    /// The weights of a chunk of channels at a place, as they lie in device memory.
    fn stored_weights(&self, builder: &mut KernelBuilder, spans: Vec<Span>) -> Result<Operand, String> {
        let product = self.product;
        let axes: Vec<usize> = [self.summed].iter().chain(&product.roles.columns).copied().collect();
        let mut emitter = Emitter::over(builder, product.body, &product.nest, product.leaves, spans, axes);
        emitter.raw(product.operands[1], &product.indices[1])?.ok_or_else(|| "weights that are not stored".to_owned())
    }

    /// One phase of the image under a block in its stage, zeros around it.
    fn load(&self, builder: &mut KernelBuilder, spans: &[Span], phases: [Phase; 2]) -> Result<Region, String> {
        let space = builder.target.stages[0].clone().ok_or("the unit has no stage")?;
        let [outer, inner] = self.axes;
        let (rows, chunk) = (self.rows(spans), spans[self.summed].clone());
        let reach = outer.reach(phases[0]);
        let layout = builder.target.stage_layout(&space, self.types[0], false);
        // Whole blocks are read, also from the last row on.
        let capacity = (rows.1 + reach) * self.pitch + builder.target.stage_block(&space, self.types[0]);
        let tile = builder.tile(&space, self.types[0], vec![capacity, chunk.capacity], layout);
        let pitch = Dim::from(self.pitch);
        let first = outer.group.map_or(Dim::ZERO, |group| spans[group].start.clone());
        let (begin, end, column) = inner.inside(phases[1]);
        builder.for_each(rows.0.clone() + Dim::from(reach), 1, |builder, row| {
            let place = row.clone() * pitch.clone();
            let to = |begin: usize, end: usize| Region {
                offset: vec![place.clone() + Dim::from(begin), Dim::ZERO],
                ..Region::at_origin(tile, vec![Dim::from(end - begin), chunk.size.clone()])
            };
            let zero = |builder: &mut KernelBuilder, begin: usize, end: usize| {
                if begin < end {
                    let zeros = self.zeros(end - begin, &chunk.size);
                    builder.copy(Operand::Tile(to(begin, end)), Operand::Global(zeros));
                }
            };
            let shift = Dim::from(phases[0].first * outer.dilation) - Dim::from(outer.low);
            let at = (first.clone() + row.clone()) * Dim::from(outer.stride) + shift;
            let size = Dim::from(outer.size);
            let inside = (at.clone() + Dim::ONE).minimum(&(size.clone() - at.clone()));
            builder.if_positive(
                inside,
                |builder| {
                    zero(builder, 0, begin);
                    if begin < end {
                        let at = at.maximum(&Dim::ZERO).minimum(&(size - Dim::ONE));
                        let from = self.view(at, (column, end - begin), &chunk);
                        builder.copy(Operand::Tile(to(begin, end)), Operand::Global(from));
                    }
                    zero(builder, end, self.pitch);
                    Ok::<(), String>(())
                },
                |builder| {
                    zero(builder, 0, self.pitch);
                    Ok(())
                },
            )
        })?;
        Ok(Region::at_origin(tile, vec![Dim::from(capacity), chunk.size]))
    }

    /// Places of one row of the image, as rows of a matrix whose columns are channels.
    fn view(&self, row: Dim, (column, count): (usize, usize), chunk: &Span) -> View {
        let fixed = |start: Dim| Axis { start, steps: Vec::new() };
        let mut axes = vec![fixed(self.image.batch.clone())];
        axes.extend((!self.image.flat).then(|| fixed(row)));
        axes.push(Axis { start: Dim::from(column), steps: vec![(0, Dim::from(self.axes[1].stride))] });
        axes.push(Axis { start: chunk.start.clone(), steps: vec![(1, Dim::ONE)] });
        View { param: self.image.param, axes, size: vec![Dim::from(count), chunk.size.clone()], fill: None }
    }

    fn zeros(&self, count: usize, channels: &Dim) -> View {
        let axes = [0, 1].map(|axis| Axis { start: Dim::ZERO, steps: vec![(axis, Dim::ONE)] });
        let size = vec![Dim::from(count), channels.clone()];
        View { param: self.image.zeros, axes: axes.to_vec(), size, fill: None }
    }

    /// Adds the products of all places of a phase; `progress` is 0 where the sum begins.
    fn multiply(
        &self,
        builder: &mut KernelBuilder,
        (acc, most): (&Region, usize),
        (image, weights): (&Region, &Region),
        phases: [Phase; 2],
        (piece, progress): (usize, Dim),
    ) -> Result<(), String> {
        let [outer, inner] = self.axes;
        let chunk = builder.capacity_of(image.tile)[1];
        builder.for_each(Dim::from(phases[0].count), 1, |builder, a| {
            builder.for_each(Dim::from(phases[1].count), 1, |builder, b| {
                let shift = a.clone() * Dim::from(outer.dilation * self.pitch) + b.clone() * Dim::from(inner.dilation);
                let place =
                    |at: &Dim, axis: &Along, phase: Phase| at.clone() * Dim::from(axis.stride) + Dim::from(phase.first);
                let place = place(&a, &outer, phases[0]) * Dim::from(inner.window) + place(&b, &inner, phases[1]);
                let left = Region {
                    offset: vec![shift, Dim::ZERO],
                    size: vec![acc.size[0].clone(), image.size[1].clone()],
                    ..image.clone()
                };
                let right = Region { offset: vec![place * Dim::from(chunk), Dim::ZERO], ..weights.clone() };
                let begun = progress.clone() + a.clone() + b;
                pieces(builder, acc, [left, right], (piece, chunk), (self.types, Some(most)), begun)
            })
        })
    }
}

/// The value of an index where every group is at the start of its span.
fn position(nest: &Nest, index: &tarsia_graph::access::Index, spans: &[Span]) -> Dim {
    let groups = nest.groups.iter().zip(spans).filter_map(|(group, span)| Some((*group.last()?, span)));
    groups.fold(index.base.clone(), |at, (axis, span)| at + index.step(axis) * span.start.clone())
}
