//! What the matrix core does of an attention in steps: scores from queries and keys, parts from weights and values.
//!
//! ```text
//! pass 0: scores of the first keys of a chunk, parts for the first columns of the values of the chunk before     operands of the one
//! pass 1: scores of the next keys,             parts for the next columns                                        come during the other
//! ```

use tarsia_tensor::Dim;
use tarsia_tile::{Opcode, Operand, Region};

use super::{SIDE, Work};
use crate::{
    builder::KernelBuilder,
    emit::Span,
    load::{Load, part_of},
    ring::{COPIES, copy_of},
};

/// Where a product is among those that follow each other with one of their operands the same: every other one of them goes through the
/// depth backwards, so that the pieces which the one before has left in the unit's memory are not loaded again.
struct Chain {
    /// The number of the product.
    number: Dim,
    /// The operand that is the same, left 0 or right 1; the number of the chain, and of the product in it.
    shared: Option<usize>,
    group: Dim,
    place: Dim,
    /// Positive for the first and for the last of the chain.
    first: Dim,
    last: Dim,
    /// How many pieces of the operand one product leaves to the next: not all copies in a short chain, whose end would be waited for.
    kept: usize,
}

impl Chain {
    /// A product of a chain of known length.
    fn of(number: Dim, shared: Option<usize>, group: Dim, place: usize, count: usize) -> Chain {
        let is = |end: usize| if place == end { Dim::ONE } else { Dim::ZERO };
        Chain { number, shared, group, place: Dim::from(place), first: is(0), last: is(count - 1), kept: 1 }
    }
}

impl Work<'_, '_> {
    /// One product of staged operands, added to a copy of the unit's tile where `progress` is positive.
    fn product(
        &self,
        builder: &mut KernelBuilder,
        operands: [&Region; 2],
        acc: &Region,
        most: usize,
        progress: &Dim,
        chain: &Chain,
    ) -> Result<(), String> {
        let depth = operands[1].size[0].clone();
        let pieces = most.div_ceil(self.plan.piece);
        let turns = match depth.as_usize() {
            Some(depth) => depth.div_ceil(self.plan.piece),
            None => pieces,
        };
        let kept = Dim::from(chain.kept.min(pieces) - 1);
        let shared = chain.shared.filter(|_| pieces == 1 || depth.as_usize().is_some());
        let walk = |builder: &mut KernelBuilder, backward: bool| {
            builder.for_each(depth.clone(), self.plan.piece as i64, |builder, start| {
                let turn = start.floor_div(&Dim::from(self.plan.piece));
                let left = Dim::from(turns) - Dim::ONE - turn.clone();
                let piece = if backward { left.clone() } else { turn.clone() };
                let number = |which: usize| match shared {
                    Some(shared) if shared == which => chain.group.clone() * Dim::from(pieces) + piece.clone(),
                    _ => chain.number.clone() * Dim::from(pieces) + turn.clone(),
                };
                let when = |which: usize, first: &Dim| if shared == Some(which) { first.clone() } else { Dim::ONE };
                let at = piece.clone() * Dim::from(self.plan.piece);
                let part = part_of(&depth, at.clone(), self.plan.piece).size;
                let mut regions = Vec::new();
                for (which, source) in operands.iter().enumerate() {
                    let (tile, ring) = &self.pipeline.operands[which];
                    let (mut source, axis, slot) = ((*source).clone(), 1 - which, copy_of(&number(which)));
                    source.offset[axis] = source.offset[axis].clone() + at.clone();
                    source.size[axis] = part.clone();
                    let region = Region { slot, ..Region::at_origin(*tile, source.size.clone()) };
                    let load = |builder: &mut KernelBuilder| {
                        ring.take(builder, &region.slot);
                        builder.copy(Operand::Tile(region.clone()), Operand::Tile(source));
                        ring.pass(builder, &region.slot);
                        Ok::<(), String>(())
                    };
                    builder.if_positive(
                        when(which, &chain.first.maximum(&(turn.clone() - kept.clone()))),
                        load,
                        |_| Ok(()),
                    )?;
                    regions.push(region);
                }
                let sources: Vec<Operand> = regions.iter().cloned().map(Operand::Tile).collect();
                let multiply = |builder: &mut KernelBuilder, accumulate: bool| {
                    builder.instr(Opcode::Mmad { accumulate }, vec![Operand::Tile(acc.clone())], sources.clone());
                    Ok::<(), String>(())
                };
                let begins = Dim::ONE - progress.clone() - start.clone();
                builder.if_positive(begins, |builder| multiply(builder, false), |builder| multiply(builder, true))?;
                for (which, region) in regions.iter().enumerate() {
                    let free = |builder: &mut KernelBuilder| {
                        self.pipeline.operands[which].1.free(builder, &region.slot);
                        Ok::<(), String>(())
                    };
                    builder.if_positive(
                        when(which, &chain.last.maximum(&(left.clone() - kept.clone()))),
                        free,
                        |_| Ok(()),
                    )?;
                }
                Ok(())
            })
        };
        let turned = if shared.is_some() && pieces > 1 { chain.place.modulo(&Dim::from(2usize)) } else { Dim::ZERO };
        builder.if_positive(turned, |builder| walk(builder, true), |builder| walk(builder, false))
    }

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
    fn keys(&self) -> Span {
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

    /// Scores of a pass's share of a chunk of keys.
    pub(super) fn scores(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        let (copy, pass) = (&self.copy, &self.pass);
        let chunk = self.keys();
        let first = Dim::ONE - pass.clone();
        let last = pass.clone() + Dim::from(2usize) - Dim::from(self.plan.passes());
        let mut staged = None;
        let groups = [self.attention.groups[2]];
        let (own, ahead) = (&self.pipeline.queries, self.pipeline.ahead);
        let item = if ahead { self.item.clone() } else { Dim::ZERO };
        builder.if_positive(
            self.is_first.minimum(&first),
            |builder| {
                own.take(builder, &item);
                let load = self.load(0, 0, &self.plan.rows, &groups);
                let load = Load { copy: ahead.then(|| item.clone()), ..load };
                let queries = load.stage(builder, &self.spans)?;
                own.pass(builder, &item);
                builder.ordered.insert(queries.tile);
                staged = Some(queries);
                Ok::<(), String>(())
            },
            |_| Ok(()),
        )?;
        let queries = staged.ok_or("queries that are never loaded")?;
        let [_, keys, head, _] = self.attention.groups;
        let ((tile, ring), (acc, drained)) = (&self.pipeline.scores, &self.pipeline.acc);
        let (blocks, heads) = (self.blocks(), [head]);
        let none = |_: &mut KernelBuilder| Ok::<(), String>(());
        let take = |builder: &mut KernelBuilder| {
            ring.take(builder, copy);
            Ok(())
        };
        builder.if_positive(first, take, none)?;
        builder.for_each(chunk.size.clone(), self.plan.side as i64, |builder, start| {
            let mut spans = self.spans.clone();
            let part = part_of(&chunk.size, start.clone(), self.plan.side);
            let width = part.size.clone();
            spans[keys] = Span { start: chunk.start.clone() + start.clone(), ..part };
            let staged = self.load(1, 1, &heads, &[keys]).stage(builder, &spans)?;
            for (at, block) in blocks.iter().enumerate() {
                let block_number = self.blocks_of_keys()[0].clone() + start.floor_div(&Dim::from(self.plan.side));
                let number = block_number.clone() * Dim::from(blocks.len()) + Dim::from(at);
                let slot = copy_of(&number);
                let mut lhs = queries.clone();
                (lhs.offset[0], lhs.size[0]) = (Dim::from(block.0), block.1.clone());
                let region =
                    Region { slot: slot.clone(), ..Region::at_origin(*acc, vec![block.1.clone(), width.clone()]) };
                drained.take(builder, &slot);
                let chain = match blocks.len() {
                    1 => Chain {
                        number,
                        shared: Some(0),
                        group: Dim::ZERO,
                        place: start.floor_div(&Dim::from(self.plan.side)),
                        first: Dim::ONE - start.clone(),
                        last: start.clone() + Dim::from(self.plan.side + 1) - chunk.size.clone(),
                        kept: COPIES,
                    },
                    count => Chain::of(number, Some(1), block_number, at, count),
                };
                self.product(builder, [&lhs, &staged], &region, self.plan.head, &Dim::ZERO, &chain)?;
                drained.pass(builder, &slot);
                let at = pass.clone() * Dim::from(self.plan.share()) + start.clone();
                let to = self.exchanged(*tile, copy, block, at, width.clone());
                let op = Opcode::Copy { rows: self.plan.rows.len() };
                builder.instr(op, vec![Operand::Tile(to)], vec![Operand::Tile(region)]);
                drained.free(builder, &slot);
            }
            Ok::<(), String>(())
        })?;
        let filled = |builder: &mut KernelBuilder| {
            ring.filled(builder, copy);
            Ok(())
        };
        builder.if_positive(last.clone(), filled, none)?;
        let free = |builder: &mut KernelBuilder| {
            own.free(builder, &item);
            Ok(())
        };
        builder.if_positive(self.is_last.minimum(&last), free, none)
    }

    /// Weights times a pass's values of a chunk.
    pub(super) fn parts(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        let (given, ring, pass) = (&self.pipeline.weights.1, &self.pipeline.parts.1, &self.pass);
        let none = |_: &mut KernelBuilder| Ok::<(), String>(());
        let begin = |builder: &mut KernelBuilder| {
            given.wait(builder, &self.copy);
            ring.take(builder, &self.copy);
            Ok(())
        };
        builder.if_positive(Dim::ONE - pass.clone(), begin, none)?;
        builder.if_positive(self.any.clone(), |builder| self.part(builder), none)?;
        let end = |builder: &mut KernelBuilder| {
            given.free(builder, &self.copy);
            ring.filled(builder, &self.copy);
            Ok(())
        };
        builder.if_positive(pass.clone() + Dim::from(2usize) - Dim::from(self.plan.passes()), end, none)
    }

    fn part(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        let (chunk, copy) = (&self.chunk, &self.copy);
        let [_, keys, _, columns] = self.attention.groups;
        let (weights, parts) = (&self.pipeline.weights.0, &self.pipeline.parts.0);
        let (acc, drained) = &self.pipeline.acc;
        let (blocks, rows, wide) = (self.blocks(), [keys], [columns]);
        let stage = builder.target.stages[0].clone().ok_or("the unit has no stage")?;
        let layout = builder.target.stage_layout(&stage, self.plan.dtype, false);
        let from = self.pass.clone() * Dim::from(self.plan.wide);
        let all = part_of(&Dim::from(self.plan.columns), from.clone(), self.plan.wide);
        let strips = strips(&all);
        let products = blocks.iter().flat_map(|block| strips.iter().map(move |strip| (block, strip)));
        let products: Vec<(&(usize, Dim), &(usize, Dim))> = products.collect();
        let slot = |at: usize| copy_of(&(self.sums.clone() + Dim::from(at)));
        let sum = |(at, (block, strip)): (usize, &(&(usize, Dim), &(usize, Dim)))| Region {
            slot: slot(at),
            ..Region::at_origin(*acc, vec![block.1.clone(), strip.1.clone()])
        };
        let sums: Vec<Region> = products.iter().enumerate().map(sum).collect();
        builder.for_each(chunk.size.clone(), self.plan.staged as i64, |builder, start| {
            let mut spans = self.spans.clone();
            let part = part_of(&chunk.size, start.clone(), self.plan.staged);
            let depth = part.size.clone();
            spans[keys] = Span { start: chunk.start.clone() + start.clone(), ..part };
            spans[columns] = all.clone();
            let values = self.load(2, 1, &rows, &wide).stage(builder, &spans)?;
            let tile = builder.tile(&stage, self.plan.dtype, vec![self.plan.capacity, self.plan.staged], layout);
            let lhs = Region::at_origin(tile, vec![self.size.clone(), depth.clone()]);
            let whole = (0, self.size.clone());
            let source = self.exchanged(*weights, copy, &whole, start.clone(), depth);
            let op = Opcode::Copy { rows: self.plan.rows.len() };
            builder.instr(op, vec![Operand::Tile(lhs.clone())], vec![Operand::Tile(source)]);
            for (at, ((block, strip), sum)) in products.iter().zip(&sums).enumerate() {
                let (mut lhs, mut values) = (lhs.clone(), values.clone());
                (lhs.offset[0], lhs.size[0]) = (Dim::from(block.0), block.1.clone());
                (values.offset[1], values.size[1]) = (Dim::from(strip.0), strip.1.clone());
                let step = start.floor_div(&Dim::from(self.plan.staged));
                let number = step.clone() * Dim::from(products.len()) + Dim::from(at);
                let (height, width) = (blocks.len(), strips.len());
                let chain = match (height, width) {
                    (1, 1) => Chain::of(number, None, step, 0, 1),
                    (_, 1) => Chain::of(number, Some(1), step, at, height),
                    _ => {
                        let group = step * Dim::from(height) + Dim::from(at / width);
                        Chain::of(number, Some(0), group, at % width, width)
                    }
                };
                let take = |builder: &mut KernelBuilder| {
                    drained.take(builder, &sum.slot);
                    Ok::<(), String>(())
                };
                builder.if_positive(Dim::ONE - start.clone(), take, |_| Ok(()))?;
                self.product(builder, [&lhs, &values], sum, self.plan.staged, &start, &chain)?;
            }
            Ok::<(), String>(())
        })?;
        for ((block, strip), sum) in products.iter().zip(&sums) {
            drained.pass(builder, &sum.slot);
            let from = from.clone() + Dim::from(strip.0);
            let to = self.exchanged(*parts, copy, block, from, strip.1.clone());
            let op = Opcode::Copy { rows: self.plan.rows.len() };
            builder.instr(op, vec![Operand::Tile(to)], vec![Operand::Tile(sum.clone())]);
            drained.free(builder, &sum.slot);
        }
        Ok(())
    }
}

/// The strips of columns of one product each.
fn strips(columns: &Span) -> Vec<(usize, Dim)> {
    let strip = |start: usize| {
        let rest = columns.size.clone() - Dim::from(start);
        (start, rest.minimum(&Dim::from(SIDE)).maximum(&Dim::ZERO))
    };
    (0..columns.capacity).step_by(SIDE).map(strip).collect()
}
