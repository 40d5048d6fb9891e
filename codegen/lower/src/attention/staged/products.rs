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
    load::{Load, Staged, part_of},
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

    /// The number of one of the chunk's blocks of keys among all blocks, if all chunks have as many.
    pub(super) fn block_number(&self, block: &Dim) -> Dim {
        self.number.clone() * Dim::from(self.plan.blocks_of_keys()[1]) + block.clone()
    }

    /// Scores of some blocks of a chunk of keys.
    pub(super) fn scores(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        let (copy, chunk, side, [first, last]) = (&self.copy, &self.chunk, self.plan.side, self.ends.clone());
        let there = chunk.size.ceil_div(&Dim::from(side));
        let [from, to] = self.blocks.clone().map(|block| block.minimum(&there));
        let count = to - from.clone();
        let mut staged = None;
        let groups = [self.attention.groups[2]];
        let ((staged_queries, own), ahead) = (&self.pipeline.queries, self.pipeline.ahead);
        let item = if ahead { self.item.clone() } else { Dim::ZERO };
        builder.if_positive(
            self.is_first.minimum(&first),
            |builder| {
                own.take(builder, &item);
                let load = self.load(0, 0, &self.plan.rows, &groups);
                let two = Staged { tile: staged_queries, slot: item.clone() };
                let load = Load { staged: ahead.then_some(two), ..load };
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
        let (blocks, heads) = (self.blocks_of_rows(), [head]);
        let none = |_: &mut KernelBuilder| Ok::<(), String>(());
        let take = |builder: &mut KernelBuilder| {
            ring.take(builder, copy);
            Ok(())
        };
        builder.if_positive(first, take, none)?;
        builder.for_each(count.clone(), 1, |builder, turn| {
            let mut spans = self.spans.clone();
            let block_of_keys = from.clone() + turn.clone();
            let start = block_of_keys.clone() * Dim::from(side);
            let part = part_of(&chunk.size, start.clone(), side);
            let width = part.size.clone();
            spans[keys] = Span { start: chunk.start.clone() + start.clone(), ..part };
            let staged = self.load(1, 1, &heads, &[keys]).stage(builder, &spans)?;
            for (at, block) in blocks.iter().enumerate() {
                let block_number = self.block_number(&block_of_keys);
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
                        place: turn.clone(),
                        first: Dim::ONE - turn.clone(),
                        last: turn.clone() + Dim::from(2usize) - count.clone(),
                        kept: COPIES,
                    },
                    count => Chain::of(number, Some(1), block_number, at, count),
                };
                self.product(builder, [&lhs, &staged], &region, self.plan.head, &Dim::ZERO, &chain)?;
                drained.pass(builder, &slot);
                let to = self.exchanged(*tile, copy, block, start.clone(), width.clone());
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
        let (size, staged, sums) = (&self.chunk.size, self.plan.staged, self.sums());
        let steps = |builder: &mut KernelBuilder, end: Dim| {
            builder.for_each(end, staged as i64, |builder, start| self.step(builder, &sums, &start))
        };
        // The unit keeps the weights of both of the last steps, if they are of one block of rows and one piece.
        let keeps = sums.len() > 1 && sums.len() == self.strips().len() && staged <= self.plan.piece;
        let count = size.as_usize().map(|size| size.div_ceil(staged)).filter(|_| keeps);
        let Some(before) = count.and_then(|count| count.checked_sub(COPIES)) else {
            return steps(builder, size.clone());
        };
        if before > 0 {
            steps(builder, Dim::from(before * staged))?;
        }
        self.last_steps(builder, &sums, before)
    }

    /// Adds the products of the weights and values from a place in the chunk on to all sums, which leave if they are the last.
    fn step(&self, builder: &mut KernelBuilder, sums: &[Sum], start: &Dim) -> Result<(), String> {
        let (staged, ring, width) = (self.plan.staged, &self.pipeline.values.1, self.strips().len());
        let step = start.floor_div(&Dim::from(staged));
        let operands = self.bring(builder, start, &step)?;
        let last = start.clone() + Dim::from(staged + 1) - self.chunk.size.clone();
        ring.wait(builder, &copy_of(&step));
        for (at, sum) in sums.iter().enumerate() {
            let number = step.clone() * Dim::from(sums.len()) + Dim::from(at);
            let chain = match (sums.len() / width, width) {
                (1, 1) => Chain::of(number, None, step.clone(), 0, 1),
                (height, 1) => Chain::of(number, Some(1), step.clone(), at, height),
                (height, _) => {
                    let group = step.clone() * Dim::from(height) + Dim::from(at / width);
                    Chain::of(number, Some(0), group, at % width, width)
                }
            };
            self.add(builder, sum, (&operands, start), &chain)?;
            builder.if_positive(last.clone(), |builder| self.leave(builder, sum), |_| Ok(()))?;
        }
        ring.free(builder, &copy_of(&step));
        Ok(())
    }

    /// The last steps, after so many: one sum after the other is completed, so that each leaves while the next one is computed.
    fn last_steps(&self, builder: &mut KernelBuilder, sums: &[Sum], before: usize) -> Result<(), String> {
        let ring = &self.pipeline.values.1;
        let steps = (before..before + COPIES).map(|step| (Dim::from(step), Dim::from(step * self.plan.staged)));
        let operands = steps.map(|(step, start)| Ok((self.bring(builder, &start, &step)?, copy_of(&step))));
        let operands = operands.collect::<Result<Vec<_>, String>>()?;
        for (at, sum) in sums.iter().enumerate() {
            for turn in 0..COPIES {
                let number = Dim::from(before * sums.len() + at * COPIES + turn);
                let progress = Dim::from(before + turn);
                // Every other sum goes back, with the weights of the step that the one before has ended with.
                let turn = if at % 2 == 0 { turn } else { COPIES - 1 - turn };
                let (operands, slot) = &operands[turn];
                if at == 0 {
                    ring.wait(builder, slot);
                }
                let group = Dim::from(before + turn);
                self.add(builder, sum, (operands, &progress), &Chain::of(number, Some(0), group, at, sums.len()))?;
                if at + 1 == sums.len() {
                    ring.free(builder, slot);
                }
            }
            self.leave(builder, sum)?;
        }
        Ok(())
    }

    /// The sums of a pass: blocks of rows and strips of columns.
    fn sums(&self) -> Vec<Sum> {
        let (blocks, strips) = (self.blocks_of_rows(), self.strips());
        let both = blocks.iter().flat_map(|block| strips.iter().map(move |strip| (block.clone(), strip.clone())));
        let sum = |(at, (block, strip)): (usize, ((usize, Dim), (usize, Dim)))| {
            let slot = copy_of(&(self.sums.clone() + Dim::from(at)));
            let size = vec![block.1.clone(), strip.1.clone()];
            Sum { acc: Region { slot, ..Region::at_origin(self.pipeline.acc.0, size) }, block, strip }
        };
        both.enumerate().map(sum).collect()
    }

    /// The columns of the values that its pass takes.
    fn columns(&self) -> Span {
        let from = self.pass.clone() * Dim::from(self.plan.wide);
        part_of(&Dim::from(self.plan.columns), from, self.plan.wide)
    }

    /// The strips of columns of one product each.
    fn strips(&self) -> Vec<(usize, Dim)> {
        let columns = self.columns();
        let strip = |start: usize| {
            let rest = columns.size.clone() - Dim::from(start);
            (start, rest.minimum(&Dim::from(SIDE)).maximum(&Dim::ZERO))
        };
        (0..columns.capacity).step_by(SIDE).map(strip).collect()
    }

    /// Brings weights and values from a place in the chunk on, the operands of its step of this number.
    fn bring(&self, builder: &mut KernelBuilder, start: &Dim, step: &Dim) -> Result<[Region; 2], String> {
        let [_, keys, _, columns] = self.attention.groups;
        let ([weights, values], ring) = (&self.pipeline.values.0, &self.pipeline.values.1);
        let (plan, slot) = (self.plan, copy_of(step));
        let mut spans = self.spans.clone();
        let part = part_of(&self.chunk.size, start.clone(), plan.staged);
        let depth = part.size.clone();
        spans[keys] = Span { start: self.chunk.start.clone() + start.clone(), ..part };
        spans[columns] = self.columns();
        ring.take(builder, &slot);
        let staged = Some(Staged { tile: values, slot: slot.clone() });
        let values = Load { staged, ..self.load(2, 1, &[keys], &[columns]) }.stage(builder, &spans)?;
        let stage = builder.target.stages[0].clone().ok_or("the unit has no stage")?;
        let layout = builder.target.stage_layout(&stage, plan.dtype, false);
        let shape = vec![plan.capacity, plan.staged];
        let tile = *weights.get_or_init(|| builder.copies(&stage, plan.dtype, shape, layout, COPIES));
        let weights = Region { slot: slot.clone(), ..Region::at_origin(tile, vec![self.size.clone(), depth.clone()]) };
        let whole = (0, self.size.clone());
        let source = self.exchanged(self.pipeline.weights.0, &self.copy, &whole, start.clone(), depth);
        let op = Opcode::Copy { rows: plan.rows.len() };
        builder.instr(op, vec![Operand::Tile(weights.clone())], vec![Operand::Tile(source)]);
        ring.filled(builder, &slot);
        Ok([weights, values])
    }

    /// Adds the product of weights and values to a sum, which is at its beginning where `progress` is 0.
    fn add(
        &self,
        builder: &mut KernelBuilder,
        Sum { acc, block, strip }: &Sum,
        ([weights, values], progress): (&[Region; 2], &Dim),
        chain: &Chain,
    ) -> Result<(), String> {
        let (mut lhs, mut rhs) = (weights.clone(), values.clone());
        (lhs.offset[0], lhs.size[0]) = (Dim::from(block.0), block.1.clone());
        (rhs.offset[1], rhs.size[1]) = (Dim::from(strip.0), strip.1.clone());
        let take = |builder: &mut KernelBuilder| {
            self.pipeline.acc.1.take(builder, &acc.slot);
            Ok::<(), String>(())
        };
        builder.if_positive(Dim::ONE - progress.clone(), take, |_| Ok(()))?;
        self.product(builder, [&lhs, &rhs], acc, self.plan.staged, progress, chain)
    }

    /// Moves a sum to the vector cores.
    fn leave(&self, builder: &mut KernelBuilder, Sum { acc, block, strip }: &Sum) -> Result<(), String> {
        let drained = &self.pipeline.acc.1;
        drained.pass(builder, &acc.slot);
        let from = self.columns().start + Dim::from(strip.0);
        let to = self.exchanged(self.pipeline.parts.0, &self.copy, block, from, strip.1.clone());
        let op = Opcode::Copy { rows: self.plan.rows.len() };
        builder.instr(op, vec![Operand::Tile(to)], vec![Operand::Tile(acc.clone())]);
        drained.free(builder, &acc.slot);
        Ok(())
    }
}

/// A sum of products in the unit: its rows and columns.
struct Sum {
    acc: Region,
    block: (usize, Dim),
    strip: (usize, Dim),
}
