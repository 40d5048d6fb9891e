//! Attention where matrix products and vectors run on different cores: a pipeline of three steps over chunks of keys.
//!
//! ```text
//! turn i      matrix core                                          vector cores (rows dealt out)
//!   chunk i       scores = q·kᵀ                  ─► exchange
//!   chunk i-1                                       exchange ─►        weights, running maximum and sum ─► exchange
//!                 part = weights·v  ◄─ exchange
//!   chunk i-2                                       exchange ─►        acc = acc·factor + part
//! ```
//! In every turn the three steps work on different chunks, so that neither kind of core waits for the other. Scores, weights and
//! parts are rings of two copies in the exchange space; the unit's memories are rings that both products share.

use tarsia_graph::{BinaryFn, NodeId, ReduceFn, UnaryFn};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Layout, Opcode, Operand, Region, TileId, optable::Class};

use super::Attention;
use crate::{
    builder::KernelBuilder,
    emit::{Emitter, Leaf, Span},
    load::{Load, Place, deal_pieces, part_of},
    map::Target,
    ring::{COPIES, Ring},
};

/// Rows and columns of one product.
const SIDE: usize = 128;
/// Rows of a work item.
const ROWS: usize = 256;
/// Keys of a chunk.
const KEYS: usize = 1024;
/// Elements of a ring's copy are a multiple of this, so that copies are aligned.
const COPY: usize = 256;
/// Keys of the weights and values that the stage holds.
const STAGED: usize = 256;

/// Sizes and places of one kernel.
struct Plan {
    /// Groups that are rows: along them queries differ, keys and values do not.
    rows: Vec<usize>,
    spans: Vec<Span>,
    /// Rows together.
    size: Dim,
    capacity: usize,
    /// Keys of a chunk, and of what the stage holds.
    chunk: usize,
    staged: usize,
    /// Depth of one product.
    piece: usize,
    head: usize,
    columns: usize,
    /// Element types of operands and sums.
    dtype: DType,
    sum: DType,
    /// Whether a mask is added to the scores.
    masked: bool,
    pipes: Pipes,
}

/// Tiles and rings.
struct Pipeline {
    scores: (TileId, Ring),
    weights: (TileId, Ring),
    parts: (TileId, Ring),
    acc: (TileId, Ring),
    operands: ([TileId; 2], Ring),
}

/// What each vector core keeps of its rows.
struct States {
    max: TileId,
    sum: TileId,
    factor: TileId,
    acc: TileId,
}

/// Emits the attention and stores `target`; `false` if it does not fit this machine in this form.
pub(super) fn lower(
    attention: &Attention,
    builder: &mut KernelBuilder,
    anchor: NodeId,
    target: &Target,
) -> Result<bool, String> {
    let Some(plan) = attention.plan(builder) else { return Ok(false) };
    let pipeline = Pipeline::new(builder, &plan);
    let work = Work { attention, plan: &plan, pipeline: &pipeline };
    let states = work.states(builder);
    let queries = work.load(0, 0, &plan.rows, &attention.groups[2..3]).stage(builder, &plan.spans)?;
    let keys = attention.nest.size(attention.groups[1]);
    let count = keys.ceil_div(&Dim::from(plan.chunk));
    let chunk_at = |index: Dim| part_of(&keys, index * Dim::from(plan.chunk), plan.chunk);
    builder.for_each(count.clone() + Dim::from(2usize), 1, |builder, turn| {
        let none = |_: &mut KernelBuilder| Ok(());
        let before = turn.clone() - Dim::ONE;
        builder.if_positive(
            count.clone() - turn.clone(),
            |builder| work.scores(builder, &queries, &chunk_at(turn.clone()), &copy_of(&turn)),
            none,
        )?;
        builder.if_positive(
            turn.minimum(&(count.clone() + Dim::ONE - turn.clone())),
            |builder| {
                let (chunk, copy) = (chunk_at(before.clone()), copy_of(&before));
                work.weights(builder, &states, &chunk, &copy)?;
                work.parts(builder, &chunk, &copy)
            },
            none,
        )?;
        builder.if_positive(
            before.clone(),
            |builder| work.update(builder, &states, &copy_of(&(before.clone() - Dim::ONE))),
            none,
        )
    })?;
    work.finish(builder, &states, anchor, target)?;
    Ok(true)
}

fn copy_of(turn: &Dim) -> Dim {
    turn.modulo(&Dim::from(COPIES))
}

impl Attention<'_> {
    /// `None` if the machine is not of this kind, or a head does not fit.
    fn plan(&self, builder: &mut KernelBuilder) -> Option<Plan> {
        let target = builder.target;
        target.stages.iter().all(Option::is_some).then_some(())?;
        let pipes = Pipes::of(target)?;
        let [queries, keys, head, columns] = self.groups;
        let types = [0, 1, 2].map(|i| self.body.ty(self.operands[i]).dtype);
        let own = types[1] == types[0] && types[2] == types[0];
        let product = target.machine.product(types[0], types[0]).filter(|(_, p)| own && p.acc == DType::F32);
        let dtype = if product.is_some() { types[0] } else { self.dtype };
        let (_, product) = target.machine.product(dtype, dtype)?;
        let (sum, bytes) = (product.acc, dtype.bits() / 8);
        let (head_size, column_size) = (self.nest.size(head).as_usize()?, self.nest.size(columns).as_usize()?);
        let alone = |g: &usize| {
            !self.nest.is_sum(*g)
                && *g != columns
                && self.nest.depends(&self.indices[0], *g)
                && !self.nest.depends(&self.indices[1], *g)
                && !self.nest.depends(&self.indices[2], *g)
        };
        let mut rows: Vec<usize> = (0..self.nest.groups.len()).filter(alone).filter(|&g| g != queries).collect();
        rows.push(queries);
        let unit = target.matrix_spaces.each_ref().map(|space| target.bytes_of(space));
        let granule = product.granule[2].max(target.stage_block(target.stages[0].as_deref()?, dtype));
        let piece = unit[0].min(unit[1]) / (COPIES * SIDE * bytes) / granule * granule;
        let (stage, vector) = (target.bytes_of(target.stages[0].as_deref()?), target.bytes_of(&target.vector_space));
        let sizes: Vec<Option<usize>> = rows.iter().map(|&g| self.nest.size(g).as_usize()).collect();
        let all = sizes.iter().try_fold(1usize, |n, size| Some(n.saturating_mul((*size)?)));
        // Only rows along one axis are cut into several products.
        let most = if rows.len() > 1 { SIDE } else { ROWS };
        let most = target.elements(ROWS << 2).min(most).min(all.unwrap_or(most).max(1).next_multiple_of(16));
        let fits = |&(rows, staged): &(usize, usize)| {
            let held = rows * head_size + COPIES * (head_size * SIDE + rows * staged + staged * SIDE);
            held * bytes <= stage && rows.div_ceil(target.lanes.max(1)) * column_size * 4 <= vector / 10 * 7
        };
        let candidates = (0..5).map(|shift| most >> shift).filter(|&rows| rows >= 16.min(most));
        let pairs = candidates.flat_map(|rows| [STAGED, STAGED / 2].map(|staged| (rows, staged)));
        let (block, staged) = pairs.into_iter().find(|pair| fits(pair))?;
        if piece == 0 || unit[2] < COPIES * SIDE * SIDE * 4 {
            return None;
        }
        let chunk = self.nest.size(keys).as_usize().map_or(KEYS, |size| size.clamp(1, KEYS));
        let mut plan = Plan {
            rows,
            spans: Vec::new(),
            size: Dim::ONE,
            capacity: 1,
            chunk,
            staged: staged.min(chunk),
            piece,
            head: head_size,
            columns: column_size,
            dtype,
            sum,
            masked: self.operands.len() > 3,
            pipes,
        };
        self.cut(builder, &mut plan, block);
        Some(plan)
    }

    /// Grid axes for all but rows within a block.
    fn cut(&self, builder: &mut KernelBuilder, plan: &mut Plan, block: usize) {
        let [_, _, head, columns] = self.groups;
        let mut spans = vec![Span::point(Dim::ZERO); self.nest.groups.len()];
        for group in (0..self.nest.groups.len()).filter(|&g| !self.nest.is_sum(g) && g != columns) {
            if !plan.rows.contains(&group) {
                spans[group] = Span::point(builder.grid(self.nest.size(group)));
            }
        }
        for group in [head, columns] {
            let size = self.nest.size(group);
            let capacity = size.as_usize().unwrap_or(1);
            spans[group] = Span { start: Dim::ZERO, size, capacity };
        }
        let mut room = block;
        for &group in plan.rows.iter().rev() {
            let size = self.nest.size(group);
            let part = size.as_usize().unwrap_or(room).clamp(1, room.max(1));
            if size.as_usize() == Some(part) {
                spans[group] = Span { start: Dim::ZERO, size, capacity: part };
                room /= part;
                continue;
            }
            // An outer axis can only be taken along if the inner ones are whole.
            room = 1;
            let place = builder.grid(size.ceil_div(&Dim::from(part)));
            spans[group] = part_of(&size, place * Dim::from(part), part);
        }
        (plan.size, plan.capacity) = crate::load::extent(&plan.rows, &spans);
        plan.spans = spans;
    }
}

/// The pipes that take part.
struct Pipes {
    drain: String,
    read: String,
    write: String,
    load: String,
    feed: String,
    matrix: String,
}

impl Pipes {
    /// `None` if some path is missing, or the cores have too few events between them.
    fn of(target: &crate::target::Target) -> Option<Pipes> {
        let machine = &target.machine;
        let pipe = |from: &str, to: &str| machine.path(from, to, &[]).map(|path| path.pipe.clone());
        let (exchange, stage) = (target.exchange.as_deref()?, target.stages[0].as_deref()?);
        let [left, right, unit] = &target.matrix_spaces;
        let pipes = Pipes {
            drain: pipe(unit, exchange)?,
            read: pipe(exchange, &target.vector_space)?,
            write: pipe(&target.vector_space, exchange)?,
            load: pipe(exchange, stage)?,
            feed: pipe(stage, left)?,
            matrix: machine.units(Class::Matrix).next()?.pipe.clone(),
        };
        let events =
            |a: &str, b: &str, rings: usize| machine.event_ids(a, b).min(machine.event_ids(b, a)) > COPIES * rings;
        let enough = events(&pipes.drain, &pipes.read, 2)
            && events(&pipes.write, &pipes.load, 1)
            && events(&pipes.matrix, &pipes.drain, 1)
            && events(&pipes.feed, &pipes.matrix, 1);
        (enough && pipe(stage, right)? == pipes.feed).then_some(pipes)
    }
}

impl Pipeline {
    fn new(builder: &mut KernelBuilder, plan: &Plan) -> Pipeline {
        let target = builder.target;
        let exchange = target.exchange.clone().unwrap_or_default();
        let [left, right, unit] = target.matrix_spaces.clone();
        let Pipes { drain, read, write, load, feed, matrix } = &plan.pipes;
        let ring = |builder: &mut KernelBuilder, a: &str, b: &str, index| Ring::new(builder, a, b, 1 + COPIES * index);
        let rows: Vec<usize> = plan.rows.iter().map(|&group| plan.spans[group].capacity).collect();
        // Copies begin at multiples of what any space asks for.
        let wide = |width: usize| rows.iter().copied().chain([width.next_multiple_of(COPY)]).collect::<Vec<_>>();
        let layouts = target.matrix_layouts_for(plan.dtype);
        let accumulator = target.accumulator;
        let high = plan.capacity.min(SIDE);
        let tiles = [
            builder.ring_tile(&exchange, plan.sum, wide(plan.chunk), Layout::RowMajor),
            builder.ring_tile(&exchange, plan.dtype, wide(plan.chunk), Layout::RowMajor),
            builder.ring_tile(&exchange, plan.sum, wide(plan.columns), Layout::RowMajor),
            builder.ring_tile(&unit, plan.sum, vec![high, SIDE], accumulator),
        ];
        let operands = [
            builder.ring_tile(&left, plan.dtype, vec![high, plan.piece], layouts[0]),
            builder.ring_tile(&right, plan.dtype, vec![plan.piece, SIDE], layouts[1]),
        ];
        Pipeline {
            scores: (tiles[0], ring(builder, drain, read, 0)),
            weights: (tiles[1], ring(builder, write, load, 0)),
            parts: (tiles[2], ring(builder, drain, read, 1)),
            acc: (tiles[3], ring(builder, matrix, drain, 0)),
            operands: (operands, ring(builder, feed, matrix, 0)),
        }
    }
}

struct Work<'w, 'a> {
    attention: &'w Attention<'a>,
    plan: &'w Plan,
    pipeline: &'w Pipeline,
}

impl Work<'_, '_> {
    fn load<'l>(&'l self, operand: usize, which: usize, rows: &'l [usize], columns: &'l [usize]) -> Load<'l> {
        let attention = self.attention;
        Load {
            body: attention.body,
            nest: attention.nest,
            leaves: attention.leaves,
            value: attention.operands[operand],
            index: &attention.indices[operand],
            fill: None,
            which,
            rows,
            columns,
            dtype: self.plan.dtype,
        }
    }

    /// The rows of a product: their number is cut into blocks.
    fn blocks(&self) -> Vec<(usize, Dim)> {
        let Plan { capacity, size, .. } = self.plan;
        let block = |start: usize| {
            let rest = size.clone() - Dim::from(start);
            let rows = match size.as_usize() {
                Some(size) => Dim::from(size.saturating_sub(start).min(SIDE)),
                None if *capacity <= SIDE => size.clone(),
                None => rest.minimum(&Dim::from(SIDE)).maximum(&Dim::ZERO),
            };
            (start, rows)
        };
        (0..*capacity).step_by(SIDE).map(block).collect()
    }

    /// A ring's copy in the exchange space: some rows (of a block of a product) and columns.
    fn exchanged(&self, tile: TileId, copy: &Dim, (start, rows): &(usize, Dim), from: Dim, width: Dim) -> Region {
        let spans = &self.plan.spans;
        let mut size: Vec<Dim> = self.plan.rows.iter().map(|&group| spans[group].size.clone()).collect();
        let mut offset = vec![Dim::ZERO; size.len()];
        if self.plan.capacity > SIDE {
            (offset[0], size[0]) = (Dim::from(*start), rows.clone());
        }
        offset.push(from);
        size.push(width);
        Region { tile, slot: copy.clone(), offset, size }
    }

    /// One product of staged operands, added to a copy of the unit's tile where `progress` is positive.
    fn product(
        &self,
        builder: &mut KernelBuilder,
        (lhs, rhs): (&Region, &Region),
        acc: &Region,
        (count, most): (Dim, usize),
        progress: Dim,
    ) -> Result<(), String> {
        let ([left, right], ring) = &self.pipeline.operands;
        let depth = rhs.size[0].clone();
        let pieces = most.div_ceil(self.plan.piece);
        let piece = self.plan.piece;
        builder.for_each(depth.clone(), piece as i64, |builder, start| {
            let number = count.clone() * Dim::from(pieces) + start.floor_div(&Dim::from(piece));
            let (copy, part) = (copy_of(&number), part_of(&depth, start.clone(), piece).size);
            ring.take(builder, &copy);
            let mut operands = Vec::new();
            for (tile, source, axis) in [(left, lhs, 1), (right, rhs, 0)] {
                let mut source = source.clone();
                source.offset[axis] = source.offset[axis].clone() + start.clone();
                source.size[axis] = part.clone();
                let region = Region { slot: copy.clone(), ..Region::at_origin(*tile, source.size.clone()) };
                builder.copy(Operand::Tile(region.clone()), Operand::Tile(source));
                operands.push(Operand::Tile(region));
            }
            ring.pass(builder, &copy);
            let begun = progress.clone() + start;
            let product = |builder: &mut KernelBuilder, accumulate: bool| {
                builder.instr(Opcode::Mmad { accumulate }, vec![Operand::Tile(acc.clone())], operands.clone());
                Ok::<(), String>(())
            };
            builder.if_positive(
                Dim::ONE - begun,
                |builder| product(builder, false),
                |builder| product(builder, true),
            )?;
            ring.free(builder, &copy);
            Ok(())
        })
    }

    /// Scores of a chunk of keys.
    fn scores(&self, builder: &mut KernelBuilder, queries: &Region, chunk: &Span, copy: &Dim) -> Result<(), String> {
        let [_, keys, head, _] = self.attention.groups;
        let ((tile, ring), (acc, drained)) = (&self.pipeline.scores, &self.pipeline.acc);
        let (blocks, heads) = (self.blocks(), [head]);
        ring.take(builder, copy);
        builder.for_each(chunk.size.clone(), SIDE as i64, |builder, start| {
            let mut spans = self.plan.spans.clone();
            let part = part_of(&chunk.size, start.clone(), SIDE);
            let width = part.size.clone();
            spans[keys] = Span { start: chunk.start.clone() + start.clone(), ..part };
            let staged = self.load(1, 1, &heads, &[keys]).stage(builder, &spans)?;
            for (at, block) in blocks.iter().enumerate() {
                let number = start.floor_div(&Dim::from(SIDE)) * Dim::from(blocks.len()) + Dim::from(at);
                let slot = copy_of(&number);
                let mut lhs = queries.clone();
                (lhs.offset[0], lhs.size[0]) = (Dim::from(block.0), block.1.clone());
                let region =
                    Region { slot: slot.clone(), ..Region::at_origin(*acc, vec![block.1.clone(), width.clone()]) };
                drained.take(builder, &slot);
                self.product(builder, (&lhs, &staged), &region, (number, self.plan.head), Dim::ZERO)?;
                drained.pass(builder, &slot);
                let to = self.exchanged(*tile, copy, block, start.clone(), width.clone());
                let op = Opcode::Copy { rows: self.plan.rows.len() };
                builder.instr(op, vec![Operand::Tile(to)], vec![Operand::Tile(region)]);
                drained.free(builder, &slot);
            }
            Ok::<(), String>(())
        })?;
        ring.filled(builder, copy);
        Ok(())
    }

    /// Weights times values of a chunk.
    fn parts(&self, builder: &mut KernelBuilder, chunk: &Span, copy: &Dim) -> Result<(), String> {
        let [_, keys, _, columns] = self.attention.groups;
        let ((weights, given), (parts, ring)) = (&self.pipeline.weights, &self.pipeline.parts);
        let (acc, drained) = &self.pipeline.acc;
        let (blocks, rows, wide) = (self.blocks(), [keys], [columns]);
        let stage = builder.target.stages[0].clone().ok_or("the unit has no stage")?;
        let layout = builder.target.stage_layout(&stage, self.plan.dtype, false);
        given.wait(builder, copy);
        ring.take(builder, copy);
        builder.for_each(Dim::from(self.plan.columns), SIDE as i64, |builder, from| {
            let all = part_of(&Dim::from(self.plan.columns), from.clone(), SIDE);
            let slot = |at: usize| match blocks.len() {
                1 => copy_of(&from.floor_div(&Dim::from(SIDE))),
                _ => copy_of(&Dim::from(at)),
            };
            let sums: Vec<Region> = blocks
                .iter()
                .enumerate()
                .map(|(at, block)| Region {
                    slot: slot(at),
                    ..Region::at_origin(*acc, vec![block.1.clone(), all.size.clone()])
                })
                .collect();
            sums.iter().for_each(|sum| drained.take(builder, &sum.slot));
            builder.for_each(chunk.size.clone(), self.plan.staged as i64, |builder, start| {
                let mut spans = self.plan.spans.clone();
                let part = part_of(&chunk.size, start.clone(), self.plan.staged);
                let depth = part.size.clone();
                spans[keys] = Span { start: chunk.start.clone() + start.clone(), ..part };
                spans[columns] = all.clone();
                let values = self.load(2, 1, &rows, &wide).stage(builder, &spans)?;
                let tile = builder.tile(&stage, self.plan.dtype, vec![self.plan.capacity, self.plan.staged], layout);
                let lhs = Region::at_origin(tile, vec![self.plan.size.clone(), depth.clone()]);
                let whole = (0, self.plan.size.clone());
                let source = self.exchanged(*weights, copy, &whole, start.clone(), depth);
                let op = Opcode::Copy { rows: self.plan.rows.len() };
                builder.instr(op, vec![Operand::Tile(lhs.clone())], vec![Operand::Tile(source)]);
                for (at, (block, sum)) in blocks.iter().zip(&sums).enumerate() {
                    let mut lhs = lhs.clone();
                    (lhs.offset[0], lhs.size[0]) = (Dim::from(block.0), block.1.clone());
                    let number =
                        start.floor_div(&Dim::from(self.plan.staged)) * Dim::from(blocks.len()) + Dim::from(at);
                    self.product(builder, (&lhs, &values), sum, (number, self.plan.staged), start.clone())?;
                }
                Ok::<(), String>(())
            })?;
            for (block, sum) in blocks.iter().zip(&sums) {
                drained.pass(builder, &sum.slot);
                let to = self.exchanged(*parts, copy, block, from.clone(), all.size.clone());
                let op = Opcode::Copy { rows: self.plan.rows.len() };
                builder.instr(op, vec![Operand::Tile(to)], vec![Operand::Tile(sum.clone())]);
                drained.free(builder, &sum.slot);
            }
            Ok::<(), String>(())
        })?;
        given.free(builder, copy);
        ring.filled(builder, copy);
        Ok(())
    }

    /// What every vector core keeps, cleared.
    fn states(&self, builder: &mut KernelBuilder) -> States {
        let shares = crate::load::share(builder, &self.plan.rows, &self.plan.spans);
        let tile = |builder: &mut KernelBuilder, width: usize| {
            let shape: Vec<usize> = shares.iter().copied().chain([width]).collect();
            let size: Vec<Dim> = shape.iter().map(|&side| Dim::from(side)).collect();
            builder.scratch(DType::F32, &shape, &size)
        };
        let (max, sum) = (tile(builder, 1), tile(builder, 1));
        let acc = tile(builder, self.plan.columns);
        let factor: Vec<usize> = shares.iter().map(|share| share.next_multiple_of(8)).chain([1]).collect();
        let space = builder.target.vector_space.clone();
        let factor = builder.ring_tile(&space, DType::F32, factor, Layout::RowMajor);
        for (region, value) in [(&max, f64::from(f32::MIN)), (&sum, 0.0), (&acc, 0.0)] {
            builder.instr(Opcode::Fill, vec![Operand::Tile(region.clone())], vec![Operand::Real(value)]);
        }
        States { max: max.tile, sum: sum.tile, factor, acc: acc.tile }
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
    fn weights(&self, builder: &mut KernelBuilder, states: &States, chunk: &Span, copy: &Dim) -> Result<(), String> {
        let keys = self.attention.groups[1];
        let (filled, given) = (&self.pipeline.scores.1, &self.pipeline.weights.1);
        filled.wait(builder, copy);
        given.take(builder, copy);
        let mut all = self.plan.spans.clone();
        all[keys] = chunk.clone();
        let axes: Vec<usize> = self.plan.rows.iter().copied().chain([keys]).collect();
        let room = room(builder, self.plan, chunk.capacity.max(1));
        deal_pieces(builder, (&axes, self.plan.rows.len()), 1, room, &all, |builder, spans, place| {
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
        let (come, tile) =
            (builder.scratch(DType::F32, &capacity, &size), builder.scratch(DType::F32, &capacity, &size));
        builder.copy(Operand::Tile(come.clone()), exchanged(self.pipeline.scores.0));
        let column = |builder: &mut KernelBuilder| {
            let (mut shape, mut part) = (capacity.clone(), size.clone());
            (shape[axes.len() - 1], part[axes.len() - 1]) = (1, Dim::ONE);
            builder.scratch(DType::F32, &shape, &part)
        };
        let (next, total) = (column(builder), column(builder));
        let rounded = builder.scratch(self.plan.dtype, &capacity, &size);
        // Two halves of the piece take turns, so that no instruction waits for the one before it.
        let half = |region: &Region| halves(region, place.axis, capacity[place.axis]);
        let state = |tile, copy: &Dim| half(&self.state(tile, spans, place, Dim::ONE, copy.clone()));
        let (tiles, nexts, totals) = (half(&tile), half(&next), half(&total));
        let (maxima, sums) = (state(states.max, &Dim::ZERO), state(states.sum, &Dim::ZERO));
        let factors = state(states.factor, copy);
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
        builder.copy(Operand::Tile(rounded.clone()), Operand::Tile(tile.clone()));
        builder.copy(exchanged(self.pipeline.weights.0), Operand::Tile(rounded));
        each(builder, Opcode::Copy { rows: 1 }, &maxima, &[&nexts]);
        each(builder, reduce(ReduceFn::Sum), &totals, &[&tiles]);
        each(builder, binary(BinaryFn::Mul), &sums, &[&sums, &factors]);
        each(builder, binary(BinaryFn::Add), &sums, &[&sums, &totals]);
        Ok(())
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

    /// Adds a part to what each vector core keeps.
    fn update(&self, builder: &mut KernelBuilder, states: &States, copy: &Dim) -> Result<(), String> {
        let (parts, filled) = &self.pipeline.parts;
        let columns = self.attention.groups[3];
        let axes: Vec<usize> = self.plan.rows.iter().copied().chain([columns]).collect();
        filled.wait(builder, copy);
        let room = room(builder, self.plan, self.plan.columns);
        deal_pieces(builder, (&axes, self.plan.rows.len()), 1, room, &self.plan.spans, |builder, spans, place| {
            let capacity: Vec<usize> = axes.iter().map(|&group| spans[group].capacity).collect();
            let size: Vec<Dim> = axes.iter().map(|&group| spans[group].size.clone()).collect();
            let mut source = Region { slot: copy.clone(), ..Region::at_origin(*parts, size.clone()) };
            source.offset[place.axis] = place.offset.clone();
            let part = builder.scratch(DType::F32, &capacity, &size);
            builder.copy(Operand::Tile(part.clone()), Operand::Tile(source));
            let acc = Operand::Tile(self.state(states.acc, &spans, &place, Dim::from(self.plan.columns), Dim::ZERO));
            let factor = Operand::Tile(self.state(states.factor, &spans, &place, Dim::ONE, copy.clone()));
            builder.instr(Opcode::Binary(BinaryFn::Mul), vec![acc.clone()], vec![acc.clone(), factor]);
            builder.instr(Opcode::Binary(BinaryFn::Add), vec![acc.clone()], vec![acc, Operand::Tile(part)]);
            Ok(())
        })?;
        filled.free(builder, copy);
        Ok(())
    }

    /// The result, and what else the kernel makes of it.
    fn finish(
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
        deal_pieces(builder, (&axes, self.plan.rows.len()), 1, room, &self.plan.spans, |builder, spans, place| {
            let state = |tile, width| self.state(tile, &spans, &place, width, Dim::ZERO);
            let acc = Operand::Tile(state(states.acc, Dim::from(self.plan.columns)));
            let sum = Operand::Tile(state(states.sum, Dim::ONE));
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
