//! When the operands of an attention come to the stage: two copies of each, filled ahead of the products that take them.
//!
//! ```text
//! stage                                           products
//! values 0 1                                      scores of keys 0 1, which came in the pass before
//! keys 2 3 4 …                                    scores of keys 2 3 4 …
//! weights 0 1; keys 0 1 of the next pass
//! values and weights 2 3 4 …                      parts of values 0 1 2 …
//! ```
//! While scores are computed there is time to bring values, and while parts are computed keys come: neither kind of product begins with
//! waiting, and device memory, where keys come from, is used at an even rate.

use std::cell::OnceCell;

use tarsia_tensor::Dim;
use tarsia_tile::{Layout, Opcode, Operand, Region, TileId};

use super::Work;
use crate::{
    builder::KernelBuilder,
    emit::Span,
    load::{Load, Staged, part_of},
    ring::{COPIES, Ring, copy_of},
};

/// A tile of the stage, made by the first load, and its signals.
pub(super) struct Stage {
    tile: OnceCell<TileId>,
    ring: Ring,
}

impl Stage {
    pub fn new(ring: Ring) -> Stage {
        Stage { tile: OnceCell::new(), ring }
    }

    /// A copy that has been filled.
    fn filled(&self, slot: &Dim, size: Vec<Dim>) -> Result<Region, String> {
        let tile = *self.tile.get().ok_or("an operand that is never loaded")?;
        Ok(Region { slot: slot.clone(), ..Region::at_origin(tile, size) })
    }

    pub fn wait(&self, builder: &mut KernelBuilder, slot: &Dim) {
        self.ring.wait(builder, slot);
    }

    pub fn free(&self, builder: &mut KernelBuilder, slot: &Dim) {
        self.ring.free(builder, slot);
    }
}

impl Work<'_, '_> {
    /// The number of the pass's first block of keys among all blocks, and of the block after it, if all chunks have as many.
    pub(super) fn blocks_of_keys(&self) -> [Dim; 2] {
        let (side, share) = (self.plan.side, self.plan.share());
        let all = self.plan.chunk.div_ceil(side);
        let first = |pass: Dim| {
            self.number.clone() * Dim::from(all) + (pass * Dim::from(share / side)).minimum(&Dim::from(all))
        };
        [self.pass.clone(), self.pass.clone() + Dim::ONE].map(first)
    }

    /// The keys whose scores are made in its pass.
    pub(super) fn keys(&self) -> Span {
        let share = self.plan.share();
        let before = self.pass.clone() * Dim::from(share);
        let rest = (self.chunk.size.clone() - before.clone()).maximum(&Dim::ZERO);
        match self.plan.passes() {
            1 => self.chunk.clone(),
            _ => Span {
                start: self.chunk.start.clone() + before,
                size: rest.minimum(&Dim::from(share)),
                capacity: share,
            },
        }
    }

    /// The copies of the stage that hold the queries, the keys from a place in the pass on, and the values and weights.
    pub(super) fn slot_of_queries(&self) -> Dim {
        if self.pipeline.ahead { self.item.clone() } else { Dim::ZERO }
    }

    pub(super) fn slot_of_keys(&self, start: &Dim) -> Dim {
        copy_of(&(self.blocks_of_keys()[0].clone() + start.floor_div(&Dim::from(self.plan.side))))
    }

    pub(super) fn slot_of_values(&self, start: &Dim) -> Dim {
        let steps = self.plan.chunk.div_ceil(self.plan.staged);
        let pass = self.number.clone() * Dim::from(self.plan.passes()) + self.pass.clone();
        copy_of(&(pass * Dim::from(steps) + start.floor_div(&Dim::from(self.plan.staged))))
    }

    pub(super) fn queries(&self) -> Result<Region, String> {
        let size = vec![self.size.clone(), Dim::from(self.plan.head)];
        self.pipeline.queries.filled(&self.slot_of_queries(), size)
    }

    /// The keys from a place in the pass on.
    pub(super) fn staged_keys(&self, start: &Dim, width: &Dim) -> Result<Region, String> {
        let size = vec![Dim::from(self.plan.head), width.clone()];
        self.pipeline.keys.filled(&self.slot_of_keys(start), size)
    }

    /// The weights and the values from a place in the chunk on.
    pub(super) fn staged_values(&self, start: &Dim, depth: &Dim) -> Result<[Region; 2], String> {
        let (slot, pipeline) = (self.slot_of_values(start), self.pipeline);
        let weights = pipeline.staged_weights.get().ok_or("weights that are never loaded")?;
        let weights = Region {
            slot: slot.clone(),
            ..Region::at_origin(*weights, vec![self.size.clone(), depth.clone()])
        };
        Ok([weights, pipeline.values.filled(&slot, vec![depth.clone(), self.values().size])?])
    }

    /// The columns of the values that its pass takes.
    pub(super) fn values(&self) -> Span {
        let from = self.pass.clone() * Dim::from(self.plan.wide);
        part_of(&Dim::from(self.plan.columns), from, self.plan.wide)
    }

    /// What the scores of a pass begin with.
    pub(super) fn bring_first(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        (0..COPIES).try_for_each(|block| self.bring_first_keys(builder, block))?;
        self.bring_first_queries(builder)
    }

    /// One of the first blocks of keys, if there is such a block.
    pub(super) fn bring_first_keys(&self, builder: &mut KernelBuilder, block: usize) -> Result<(), String> {
        let start = Dim::from(block * self.plan.side);
        let left = self.keys().size - start.clone();
        builder.if_positive(left, |builder| self.bring_keys(builder, start), |_| Ok(()))
    }

    /// The queries, in the first pass of an item.
    pub(super) fn bring_first_queries(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        let first = self.is_first.minimum(&(Dim::ONE - self.pass.clone()));
        builder.if_positive(first, |builder| self.bring_queries(builder), |_| Ok(()))
    }

    fn bring_queries(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        let (stage, slot) = (&self.pipeline.queries, self.slot_of_queries());
        let groups = [self.attention.groups[2]];
        let copies = if self.pipeline.ahead { COPIES } else { 1 };
        stage.ring.take(builder, &slot);
        let staged = Some(Staged { tile: &stage.tile, copies, slot: slot.clone() });
        let queries = Load { staged, ..self.load(0, 0, &self.plan.rows, &groups) }.stage(builder, &self.spans)?;
        stage.ring.filled(builder, &slot);
        builder.ordered.insert(queries.tile);
        Ok(())
    }

    /// Brings the keys from a place in the pass on.
    pub(super) fn bring_keys(&self, builder: &mut KernelBuilder, start: Dim) -> Result<(), String> {
        let [_, keys, head, _] = self.attention.groups;
        let (stage, slot, chunk) = (&self.pipeline.keys, self.slot_of_keys(&start), self.keys());
        let mut spans = self.spans.clone();
        let part = part_of(&chunk.size, start.clone(), self.plan.side);
        spans[keys] = Span { start: chunk.start + start, ..part };
        stage.ring.take(builder, &slot);
        let staged = Some(Staged { tile: &stage.tile, copies: COPIES, slot: slot.clone() });
        Load { staged, ..self.load(1, 1, &[head], &[keys]) }.stage(builder, &spans)?;
        stage.ring.filled(builder, &slot);
        Ok(())
    }

    /// Calls `bring` for the places of the first values.
    fn first_values(
        &self,
        builder: &mut KernelBuilder,
        bring: impl FnOnce(&mut KernelBuilder, Dim) -> Result<(), String>,
    ) -> Result<(), String> {
        let most = Dim::from(COPIES * self.plan.staged);
        builder.for_each(self.chunk.size.minimum(&most), self.plan.staged as i64, bring)
    }

    /// The values that the parts of a pass begin with; their weights come later.
    pub(super) fn bring_first_values(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        self.first_values(builder, |builder, start| self.bring_values(builder, &start))
    }

    pub(super) fn bring_first_weights(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        let wait = |builder: &mut KernelBuilder| {
            self.pipeline.weights.1.wait(builder, &self.copy);
            Ok::<(), String>(())
        };
        builder.if_positive(Dim::ONE - self.pass.clone(), wait, |_| Ok(()))?;
        self.first_values(builder, |builder, start| self.bring_weights(builder, &start))
    }

    pub(super) fn bring_values(&self, builder: &mut KernelBuilder, start: &Dim) -> Result<(), String> {
        let [_, keys, _, columns] = self.attention.groups;
        let (stage, slot) = (&self.pipeline.values, self.slot_of_values(start));
        let mut spans = self.spans.clone();
        let part = part_of(&self.chunk.size, start.clone(), self.plan.staged);
        spans[keys] = Span { start: self.chunk.start.clone() + start.clone(), ..part };
        spans[columns] = self.values();
        stage.ring.take(builder, &slot);
        let staged = Some(Staged { tile: &stage.tile, copies: COPIES, slot });
        Load { staged, ..self.load(2, 1, &[keys], &[columns]) }.stage(builder, &spans)?;
        Ok(())
    }

    /// Brings the weights of values that have been brought.
    pub(super) fn bring_weights(&self, builder: &mut KernelBuilder, start: &Dim) -> Result<(), String> {
        let (plan, slot) = (self.plan, self.slot_of_values(start));
        let depth = part_of(&self.chunk.size, start.clone(), plan.staged).size;
        let stage = builder.target.stages[0].clone().ok_or("the unit has no stage")?;
        let layout: Layout = builder.target.stage_layout(&stage, plan.dtype, false);
        let shape = vec![plan.capacity, plan.staged];
        let tile = self.pipeline.staged_weights.get_or_init(|| builder.copies(&stage, plan.dtype, shape, layout, COPIES));
        let weights =
            Region { slot: slot.clone(), ..Region::at_origin(*tile, vec![self.size.clone(), depth.clone()]) };
        let whole = (0, self.size.clone());
        let source = self.exchanged(self.pipeline.weights.0, &self.copy, &whole, start.clone(), depth);
        let op = Opcode::Copy { rows: plan.rows.len() };
        builder.instr(op, vec![Operand::Tile(weights)], vec![Operand::Tile(source)]);
        self.pipeline.values.ring.filled(builder, &slot);
        Ok(())
    }
}
