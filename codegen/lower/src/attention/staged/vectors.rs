//! What the vector cores do of an attention in steps: weights from scores, sums of parts, and the result. Rows are dealt out; each core
//! keeps the running maximum, sum and result of its rows.

use std::convert::Infallible;

use tarsia_graph::{BinaryFn, NodeId, ReduceFn, UnaryFn};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Layout, Opcode, Operand, Region, TileId};

use super::{Plan, Work};
use crate::{
    builder::KernelBuilder,
    deal::{Place, deal_pieces, dealt_axis, share},
    emit::{Emitter, Leaf, Span},
    map::Target,
};

/// What each vector core keeps of its rows.
pub(super) struct States {
    max: TileId,
    sum: TileId,
    factor: TileId,
    acc: TileId,
}

impl Work<'_, '_> {
    /// What every vector core keeps; of what belongs to a chunk so many copies.
    pub(super) fn states(&self, builder: &mut KernelBuilder, copies: usize) -> States {
        let shares = share(builder, &self.plan.rows, &self.spans);
        let space = builder.target.vector_space.clone();
        // Copies begin where vectors may begin.
        let mut ring: Vec<usize> = shares.iter().copied().chain([1]).collect();
        if let Some(longest) = ring.iter_mut().max() {
            *longest = longest.next_multiple_of(8);
        }
        let tile = |builder: &mut KernelBuilder, width: usize| {
            let shape = shares.iter().copied().chain([width]).collect();
            builder.tile(&space, DType::F32, shape, Layout::RowMajor)
        };
        States {
            max: tile(builder, 1),
            acc: tile(builder, self.plan.columns),
            sum: builder.copies(&space, DType::F32, ring.clone(), Layout::RowMajor, copies),
            factor: builder.copies(&space, DType::F32, ring, Layout::RowMajor, copies),
        }
    }

    /// Sets all of a state where an item begins.
    fn clear(&self, builder: &mut KernelBuilder, state: TileId, value: f64) {
        let fill = |builder: &mut KernelBuilder| {
            let size = builder.capacity_of(state).iter().map(|&side| Dim::from(side)).collect();
            let all = Operand::Tile(Region::at_origin(state, size));
            builder.instr(Opcode::Fill, vec![all], vec![Operand::Real(value)]);
            Ok::<(), Infallible>(())
        };
        let Ok(()) = builder.if_positive(self.is_first.clone(), fill, |_| Ok(()));
    }

    /// The axis along which rows are dealt out.
    fn dealt(&self) -> usize {
        dealt_axis(&self.plan.rows, 1, &self.spans, &|_| true)
    }

    /// The part of a state that belongs to a piece of rows.
    fn state(&self, tile: TileId, spans: &[Span], place: &Place, width: Dim, copy: Dim) -> Region {
        let mut size: Vec<Dim> = self.plan.rows.iter().map(|&group| spans[group].size.clone()).collect();
        let mut offset = vec![Dim::ZERO; size.len() + 1];
        offset[place.axis] = place.within.clone();
        size.push(width);
        Region { tile, slot: copy, offset, size }
    }

    /// Weights of a chunk from its scores; the running maximum and sum.
    pub(super) fn weights(&self, builder: &mut KernelBuilder, states: &States) -> Result<(), String> {
        let (chunk, copy) = (&self.chunk, &self.copy);
        self.clear(builder, states.max, f64::from(f32::MIN));
        let keys = self.attention.groups[1];
        let (filled, given) = (&self.pipeline.scores.1, &self.pipeline.weights.1);
        filled.wait(builder, copy);
        given.take(builder, copy);
        let mut all = self.spans.clone();
        all[keys] = chunk.clone();
        let axes: Vec<usize> = self.plan.rows.iter().copied().chain([keys]).collect();
        let room = room(builder, self.plan, chunk.capacity.max(1));
        let dealt = self.dealt();
        deal_pieces(builder, (&axes, dealt), 1, room, &all, |builder, spans, place| {
            self.weights_of_piece(builder, states, (&axes, &spans, &place), copy)
        })?;
        filled.free(builder, copy);
        given.filled(builder, copy);
        Ok(())
    }

    fn weights_of_piece(
        &self,
        builder: &mut KernelBuilder,
        states: &States,
        (axes, spans, place): (&[usize], &[Span], &Place),
        copy: &Dim,
    ) -> Result<(), String> {
        let capacity: Vec<usize> = axes.iter().map(|&group| spans[group].capacity).collect();
        let size: Vec<Dim> = axes.iter().map(|&group| spans[group].size.clone()).collect();
        let exchanged = |tile: TileId| {
            let mut whole = Region { slot: copy.clone(), ..Region::at_origin(tile, size.clone()) };
            whole.offset[place.axis] = place.offset.clone();
            Operand::Tile(whole)
        };
        // What comes and what is computed are different tiles, so that the next piece can come early.
        let come = builder.scratch(DType::F32, &capacity, &size);
        builder.copy(Operand::Tile(come.clone()), exchanged(self.pipeline.scores.0));
        let rounded = builder.scratch(self.plan.dtype, &capacity, &size);
        // Two halves of the piece take turns, so that no instruction waits for the one before it: what is computed of them are tiles of
        // their own.
        let half = |region: &Region| halves(region, place.axis, capacity[place.axis]);
        let apart = |builder: &mut KernelBuilder, width: usize, size: &[Dim]| -> Vec<Region> {
            let whole = Region::at_origin(come.tile, size.to_vec());
            let parts = half(&whole);
            let rows = capacity[place.axis].div_ceil(parts.len());
            let mut room = capacity.clone();
            (room[place.axis], room[axes.len() - 1]) = (rows, width);
            parts.iter().map(|part| builder.scratch(DType::F32, &room, &part.size)).collect()
        };
        let (width, mut column) = (capacity[axes.len() - 1], size.clone());
        column[axes.len() - 1] = Dim::ONE;
        let tiles = apart(builder, width, &size);
        let (nexts, totals) = (apart(builder, 1, &column), apart(builder, 1, &column));
        let state = |tile, copy: &Dim| half(&self.state(tile, spans, place, Dim::ONE, copy.clone()));
        let maxima = state(states.max, &Dim::ZERO);
        let [sums, before] = [&self.kept, &self.before].map(|copy| state(states.sum, copy));
        let factors = state(states.factor, &self.kept);
        self.masked(builder, (&half(&come), &tiles), (&half, place.axis), axes, spans)?;
        let each = |builder: &mut KernelBuilder, op: Opcode, dst: &[Region], src: &[&[Region]]| {
            for (i, dst) in dst.iter().enumerate() {
                let sources = src.iter().map(|regions| Operand::Tile(regions[i].clone())).collect();
                builder.instr(op.clone(), vec![Operand::Tile(dst.clone())], sources);
            }
        };
        let (binary, reduce) = (Opcode::Binary, |function| {
            let axis = axes.len() - 1;
            Opcode::Reduce { function, axis, accumulate: false }
        });
        each(builder, reduce(ReduceFn::Max), &nexts, &[&tiles]);
        each(builder, binary(BinaryFn::Max), &nexts, &[&nexts, &maxima]);
        each(builder, binary(BinaryFn::Sub), &tiles, &[&tiles, &nexts]);
        each(builder, binary(BinaryFn::Sub), &factors, &[&maxima, &nexts]);
        each(builder, Opcode::Unary(UnaryFn::Exp), &tiles, &[&tiles]);
        each(builder, Opcode::Unary(UnaryFn::Exp), &factors, &[&factors]);
        each(builder, Opcode::Copy { rows: 1 }, &half(&rounded), &[&tiles]);
        builder.copy(exchanged(self.pipeline.weights.0), Operand::Tile(rounded));
        each(builder, Opcode::Copy { rows: 1 }, &maxima, &[&nexts]);
        each(builder, reduce(ReduceFn::Sum), &totals, &[&tiles]);
        // The sum before is that of another item where one begins.
        let begin = |builder: &mut KernelBuilder| {
            each(builder, Opcode::Copy { rows: 1 }, &sums, &[&totals]);
            Ok(())
        };
        let go_on = |builder: &mut KernelBuilder| {
            each(builder, binary(BinaryFn::Mul), &sums, &[&before, &factors]);
            each(builder, binary(BinaryFn::Add), &sums, &[&sums, &totals]);
            Ok(())
        };
        builder.if_positive(self.is_first.clone(), begin, go_on)
    }

    /// Scales the parts of a tile of scores and adds the mask; `half` cuts the mask as the scores are cut.
    fn masked(
        &self,
        builder: &mut KernelBuilder,
        (come, tiles): (&[Region], &[Region]),
        (half, axis): (&dyn Fn(&Region) -> Vec<Region>, usize),
        axes: &[usize],
        spans: &[Span],
    ) -> Result<(), String> {
        let attention = self.attention;
        let scale = Operand::Real(attention.scale);
        let Some(&mask) = attention.operands.get(3) else {
            for (from, to) in come.iter().zip(tiles) {
                let (from, to) = (Operand::Tile(from.clone()), Operand::Tile(to.clone()));
                builder.instr(Opcode::Binary(BinaryFn::Mul), vec![to], vec![from, scale.clone()]);
            }
            return Ok(());
        };
        let (body, nest, leaves) = (attention.body, attention.nest, attention.leaves);
        let mut emitter = Emitter::over(builder, body, nest, leaves, spans.to_vec(), axes.to_vec());
        let mask = emitter.value(mask, &attention.indices[3])?;
        // A mask that is the same for all of the dealt rows is not cut.
        let masks = match &mask {
            Operand::Tile(region) if builder.capacity_of(region.tile)[axis] > 1 => {
                half(region).into_iter().map(Operand::Tile).collect()
            }
            _ => vec![mask.clone(); tiles.len()],
        };
        for ((from, to), mask) in come.iter().zip(tiles).zip(masks) {
            let (from, to) = (Operand::Tile(from.clone()), Operand::Tile(to.clone()));
            builder.instr(Opcode::MulAdd, vec![to], vec![from, scale.clone(), mask]);
        }
        Ok(())
    }

    /// Adds a part to what each vector core keeps; there is none where there are no keys.
    pub(super) fn update(&self, builder: &mut KernelBuilder, states: &States) -> Result<(), String> {
        let filled = &self.pipeline.parts.1;
        self.clear(builder, states.acc, 0.0);
        filled.wait(builder, &self.copy);
        builder.if_positive(self.any.clone(), |builder| self.add_part(builder, states), |_| Ok(()))?;
        filled.free(builder, &self.copy);
        Ok(())
    }

    fn add_part(&self, builder: &mut KernelBuilder, states: &States) -> Result<(), String> {
        let (parts, copy) = (self.pipeline.parts.0, &self.copy);
        let columns = self.attention.groups[3];
        let axes: Vec<usize> = self.plan.rows.iter().copied().chain([columns]).collect();
        let room = room(builder, self.plan, self.plan.columns);
        let dealt = self.dealt();
        deal_pieces(builder, (&axes, dealt), 1, room, &self.spans, |builder, spans, place| {
            let capacity: Vec<usize> = axes.iter().map(|&group| spans[group].capacity).collect();
            let size: Vec<Dim> = axes.iter().map(|&group| spans[group].size.clone()).collect();
            let mut source = Region { slot: copy.clone(), ..Region::at_origin(parts, size.clone()) };
            source.offset[place.axis] = place.offset.clone();
            let part = builder.scratch(DType::F32, &capacity, &size);
            builder.copy(Operand::Tile(part.clone()), Operand::Tile(source));
            let acc = Operand::Tile(self.state(states.acc, &spans, &place, Dim::from(self.plan.columns), Dim::ZERO));
            let factor = Operand::Tile(self.state(states.factor, &spans, &place, Dim::ONE, self.kept.clone()));
            builder.instr(Opcode::Binary(BinaryFn::Mul), vec![acc.clone()], vec![acc.clone(), factor]);
            builder.instr(Opcode::Binary(BinaryFn::Add), vec![acc.clone()], vec![acc, Operand::Tile(part)]);
            Ok(())
        })
    }

    /// The result, and what else the kernel makes of it.
    pub(super) fn finish(
        &self,
        builder: &mut KernelBuilder,
        states: &States,
        anchor: NodeId,
        target: &Target,
    ) -> Result<(), String> {
        let attention = self.attention;
        let columns = attention.groups[3];
        let axes: Vec<usize> = self.plan.rows.iter().copied().chain([columns]).collect();
        let room = room(builder, self.plan, self.plan.columns);
        let dealt = self.dealt();
        deal_pieces(builder, (&axes, dealt), 1, room, &self.spans, |builder, spans, place| {
            let state = |tile, width, copy: &Dim| self.state(tile, &spans, &place, width, copy.clone());
            let acc = Operand::Tile(state(states.acc, Dim::from(self.plan.columns), &Dim::ZERO));
            let sum = Operand::Tile(state(states.sum, Dim::ONE, &self.kept));
            builder.instr(Opcode::Binary(BinaryFn::Div), vec![acc.clone()], vec![acc.clone(), sum]);
            let mut finished = attention.leaves.clone();
            finished.insert(anchor.into(), Leaf::Tile(acc));
            let mut emitter = Emitter::over(builder, attention.body, attention.nest, &finished, spans, axes.clone());
            emitter.store(target.value, &attention.nest.root, target.param)
        })
    }
}

/// A region's rows in two parts, where there are several.
fn halves(region: &Region, axis: usize, capacity: usize) -> Vec<Region> {
    if capacity < 2 {
        return vec![region.clone()];
    }
    let first = capacity.div_ceil(2);
    let whole = region.size[axis].clone();
    let (mut low, mut high) = (region.clone(), region.clone());
    low.size[axis] = whole.minimum(&Dim::from(first));
    high.size[axis] = (whole - Dim::from(first)).maximum(&Dim::ZERO);
    high.offset[axis] = high.offset[axis].clone() + Dim::from(first);
    vec![low, high]
}

/// Elements of a piece: what is left of the vectors' memory holds two copies of what comes and of what goes.
fn room(builder: &KernelBuilder, plan: &Plan, row: usize) -> usize {
    let target = builder.target;
    let kept = plan.capacity.div_ceil(target.lanes.max(1)) * plan.columns * 4;
    let left = target.bytes_of(&target.vector_space).saturating_sub(kept);
    // Rows come twice in f32, are computed in one more tile and go twice in what products take; a mask comes twice too.
    let halves = if plan.masked { 12 } else { 8 };
    let most = left / 4 * 2 / halves;
    target.elements(most).max(row.min(most))
}
