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

mod schedule;
mod vectors;

use tarsia_graph::NodeId;
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Layout, Opcode, Operand, Region, TileId, machine::GLOBAL, optable::Class};

use super::Attention;
use crate::{
    builder::KernelBuilder,
    emit::Span,
    load::{Load, cut_block, part_of},
    map::Target,
    ring::{COPIES, Ring, copy_of},
};
use schedule::{Schedule, Several, Turn};

/// Rows and columns of one product at most.
const SIDE: usize = 128;
/// Rows of a work item.
const ROWS: usize = 256;
/// Keys of a chunk.
const KEYS: usize = 1024;
/// Elements of a ring's copy are a multiple of this, so that copies are aligned.
const COPY: usize = 256;
/// Keys that the stage holds: of one product of scores, and of weights and values.
const STAGED: [(usize, usize); 5] =
    [(SIDE, 256), (SIDE, 128), (SIDE / 4 * 3, SIDE / 4 * 3), (SIDE / 2, 128), (SIDE / 2, 64)];

/// Sizes and places of one kernel.
struct Plan {
    /// Groups that are rows: along them queries differ, keys and values do not.
    rows: Vec<usize>,
    spans: Vec<Span>,
    /// Rows together at most.
    capacity: usize,
    /// Keys of a chunk, of a product of scores, and of the weights and values that the stage holds.
    chunk: usize,
    side: usize,
    staged: usize,
    /// Columns of the values that the stage holds.
    wide: usize,
    /// Depth of one product.
    piece: usize,
    head: usize,
    columns: usize,
    /// Element types of operands and sums.
    dtype: DType,
    sum: DType,
    /// Whether a mask is added to the scores.
    masked: bool,
    /// Whether the stage has room for the queries of two items.
    ahead: bool,
    /// Whether keys come too slowly if all cores ask for them at once.
    staggered: bool,
    pipes: Pipes,
}

/// Tiles and rings.
struct Pipeline {
    /// Of the queries' copies, of which there may be only one.
    queries: Ring,
    ahead: bool,
    scores: (TileId, Ring),
    weights: (TileId, Ring),
    parts: (TileId, Ring),
    acc: (TileId, Ring),
    operands: [(TileId, Ring); 2],
}

/// Emits the attention and stores `target`; `false` if it does not fit this machine in this form.
pub(super) fn lower(
    attention: &Attention,
    builder: &mut KernelBuilder,
    anchor: NodeId,
    target: &Target,
) -> Result<bool, String> {
    let Some(plan) = attention.plan(builder) else { return Ok(false) };
    let most = most_rows(&plan.rows);
    if builder.target.tile().is_some_and(|sides| sides[0] > most) {
        return Err(format!("rows of its tile are at most {most}"));
    }
    let keys = attention.nest.size(attention.groups[1]);
    let chunks = keys.ceil_div(&Dim::from(plan.chunk)).maximum(&Dim::ONE);
    let several = Several::of(builder, &chunks, (plan.staggered, plan.passes()));
    let pipeline = Pipeline::new(builder, &plan, several.is_some());
    let schedule = Schedule { attention, plan: &plan, pipeline: &pipeline, several, keys, chunks };
    let states = schedule.first().states(builder, COPIES);
    schedule.turns(builder, &|builder, turn| {
        let Turn { scores, weights, parts, update } = turn;
        let none = |_: &mut KernelBuilder| Ok(());
        builder.if_positive(scores.is_due.clone(), |builder| scores.scores(builder), none)?;
        builder.if_positive(weights.is_due.clone(), |builder| weights.weights(builder, &states), none)?;
        builder.if_positive(parts.is_due.clone(), |builder| parts.parts(builder), none)?;
        let finish = |builder: &mut KernelBuilder| {
            update.update(builder, &states)?;
            let last = |builder: &mut KernelBuilder| update.finish(builder, &states, anchor, target);
            builder.if_positive(update.is_last.clone(), last, none)
        };
        builder.if_positive(update.is_due.clone(), finish, none)
    })?;
    Ok(true)
}

impl Plan {
    /// Into how many passes over its keys a chunk's parts are cut.
    fn passes(&self) -> usize {
        self.columns.div_ceil(self.wide).max(1)
    }

    /// Keys whose scores are made in one pass.
    fn share(&self) -> usize {
        self.chunk.div_ceil(self.passes()).next_multiple_of(self.side)
    }
}

/// Only rows along one axis are cut into several products.
fn most_rows(rows: &[usize]) -> usize {
    if rows.len() > 1 { SIDE } else { ROWS }
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
        let sizes: Vec<Option<usize>> = rows.iter().map(|&g| target.estimate(&self.nest.size(g))).collect();
        let all = sizes.iter().try_fold(1usize, |n, size| Some(n.saturating_mul((*size)?)));
        let most = most_rows(&rows);
        let most = target.elements(ROWS << 2).min(most).min(all.unwrap_or(most).max(1).next_multiple_of(16));
        let held = |&(rows, wide, (side, staged)): &(usize, usize, (usize, usize)), queries: usize| {
            (queries * rows * head_size + COPIES * (head_size * side + rows * staged + staged * wide)) * bytes
        };
        let fits = |shape: &(usize, usize, (usize, usize))| {
            let rows = shape.0;
            held(shape, 1) <= stage && rows.div_ceil(target.lanes.max(1)) * column_size * 4 <= vector / 10 * 7
        };
        let asked = builder.asked(&[16, 16]);
        let most = asked.map_or(most, |sides| sides[0].min(all.unwrap_or(usize::MAX)));
        let smaller = if asked.is_some() { 0..1 } else { 0..5 };
        let candidates = smaller.map(|shift| most >> shift).filter(|&rows| rows >= 16.min(most));
        // As many columns as there are accumulators for: long runs of values.
        let widths =
            |rows: usize| [SIDE * COPIES / rows.div_ceil(SIDE).clamp(1, COPIES), SIDE].map(|wide| wide.max(SIDE));
        let shapes = candidates
            .flat_map(|rows| widths(rows).into_iter().flat_map(move |wide| STAGED.map(|keys| (rows, wide, keys))));
        // What is asked for is tried even if it does not fit, so that it can be said what is too large.
        let shape = match asked {
            Some(_) => shapes.clone().find(|shape| fits(shape)).or(shapes.last()),
            None => shapes.into_iter().find(|shape| fits(shape)),
        };
        let shape = shape?;
        let (block, wide, (side, staged)) = shape;
        if piece == 0 || unit[2] < COPIES * SIDE * SIDE * 4 {
            return None;
        }
        let most = asked.map_or(KEYS, |sides| sides[1]);
        let chunk = target.estimate(&self.nest.size(keys)).map_or(most, |size| size.clamp(1, most));
        let mut plan = Plan {
            rows,
            spans: Vec::new(),
            capacity: 1,
            chunk,
            side: side.min(chunk),
            staged: staged.min(chunk),
            wide,
            piece,
            head: head_size,
            columns: column_size,
            dtype,
            sum,
            masked: self.operands.len() > 3,
            ahead: held(&shape, COPIES) <= stage,
            staggered: self.waits_for_keys(target, block, all.map_or(1, |all| all.div_ceil(block)), (dtype, head_size)),
            pipes,
        };
        self.cut(builder, &mut plan, block);
        Some(plan)
    }

    /// Whether the products of `rows` rows with a key take less time than it takes to bring a key of so many elements from device memory
    /// for each of the `uses` items that need it.
    fn waits_for_keys(
        &self,
        target: &crate::target::Target,
        rows: usize,
        uses: usize,
        (dtype, head): (DType, usize),
    ) -> bool {
        let machine = &target.machine;
        let Some((unit, product)) = machine.product(dtype, dtype) else { return false };
        let cores = machine.core(&unit.core).map_or(1, |core| core.count) as f64;
        let memory = machine.space(GLOBAL).and_then(|space| space.bytes_per_cycle).unwrap_or(f64::INFINITY);
        let bytes = (head * dtype.bits()).div_ceil(8) as f64;
        let computed = (rows * head) as f64 / product.per_cycle;
        bytes * cores / (memory * uses as f64) > computed
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
        cut_block(builder, self.nest, &plan.rows, block, &mut spans);
        plan.capacity = crate::load::extent(&plan.rows, &spans).1;
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
            && events(&pipes.feed, &pipes.matrix, 2)
            && events(&pipes.load, &pipes.feed, 1);
        (enough && pipe(stage, right)? == pipes.feed).then_some(pipes)
    }
}

impl Pipeline {
    fn new(builder: &mut KernelBuilder, plan: &Plan, several: bool) -> Pipeline {
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
        let queries = ring(builder, load, feed, 0);
        Pipeline {
            queries,
            ahead: plan.ahead && several,
            scores: (tiles[0], ring(builder, drain, read, 0)),
            weights: (tiles[1], ring(builder, write, load, 0)),
            parts: (tiles[2], ring(builder, drain, read, 1)),
            acc: (tiles[3], ring(builder, matrix, drain, 0)),
            operands: [(operands[0], ring(builder, feed, matrix, 0)), (operands[1], ring(builder, feed, matrix, 1))],
        }
    }
}

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

/// What is to be done for one chunk of one item.
struct Work<'w, 'a> {
    attention: &'w Attention<'a>,
    plan: &'w Plan,
    pipeline: &'w Pipeline,
    spans: Vec<Span>,
    /// Rows together.
    size: Dim,
    /// Its keys; there are some where the item has any.
    chunk: Span,
    any: Dim,
    /// Positive where there is such a chunk, and for the first and for the last one of an item.
    is_due: Dim,
    is_first: Dim,
    is_last: Dim,
    /// Which of the chunk's passes it is, for products.
    pass: Dim,
    /// The number of the first of a pass's parts among the sums that the unit has made.
    sums: Dim,
    /// The chunk's number, and which copies of rings it uses for all of the item and for the chunk.
    number: Dim,
    item: Dim,
    copy: Dim,
    /// Which copies of what vector cores keep for the chunk, and kept for the one before.
    kept: Dim,
    before: Dim,
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
            copy: None,
            turn: None,
            kept: None,
        }
    }

    /// The rows of a product: their number is cut into blocks.
    fn blocks(&self) -> Vec<(usize, Dim)> {
        let (capacity, size) = (&self.plan.capacity, &self.size);
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
        let spans = &self.spans;
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
    fn blocks_of_keys(&self) -> [Dim; 2] {
        let (side, share) = (self.plan.side, self.plan.share());
        let all = self.plan.chunk.div_ceil(side);
        let first = |pass: Dim| {
            self.number.clone() * Dim::from(all) + (pass * Dim::from(share / side)).minimum(&Dim::from(all))
        };
        [self.pass.clone(), self.pass.clone() + Dim::ONE].map(first)
    }

    /// Scores of a pass's share of a chunk of keys.
    fn scores(&self, builder: &mut KernelBuilder) -> Result<(), String> {
        let (copy, pass) = (&self.copy, &self.pass);
        let share = self.plan.share();
        let before = pass.clone() * Dim::from(share);
        let rest = (self.chunk.size.clone() - before.clone()).maximum(&Dim::ZERO);
        let chunk = match self.plan.passes() {
            1 => self.chunk.clone(),
            _ => Span {
                start: self.chunk.start.clone() + before,
                size: rest.minimum(&Dim::from(share)),
                capacity: share,
            },
        };
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
                let at = pass.clone() * Dim::from(share) + start.clone();
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
    fn parts(&self, builder: &mut KernelBuilder) -> Result<(), String> {
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
