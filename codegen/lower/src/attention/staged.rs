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

mod products;
mod schedule;
mod vectors;

use std::cell::OnceCell;

use tarsia_graph::NodeId;
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Layout, Region, TileId, machine::GLOBAL, optable::Class};

use super::Attention;
use crate::{
    builder::KernelBuilder,
    emit::Span,
    load::{Load, cut_block},
    map::Target,
    ring::{COPIES, Ring},
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
    /// Queries in the stage, made by the first load where there are two copies of them.
    queries: (OnceCell<TileId>, Ring),
    ahead: bool,
    scores: (TileId, Ring),
    weights: (TileId, Ring),
    /// Weights and values in the stage, made by the first loads.
    values: ([OnceCell<TileId>; 2], Ring),
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
    let several = Several::of(builder, &chunks, &plan);
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

    /// Blocks of keys, of one product each, in a pass and in a chunk.
    fn blocks_of_keys(&self) -> [usize; 2] {
        [self.share(), self.chunk].map(|keys| keys.div_ceil(self.side))
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
            && events(&pipes.load, &pipes.feed, 2);
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
            builder.copies(&exchange, plan.sum, wide(plan.chunk), Layout::RowMajor, COPIES),
            builder.copies(&exchange, plan.dtype, wide(plan.chunk), Layout::RowMajor, COPIES),
            builder.copies(&exchange, plan.sum, wide(plan.columns), Layout::RowMajor, COPIES),
            builder.copies(&unit, plan.sum, vec![high, SIDE], accumulator, COPIES),
        ];
        let operands = [
            builder.copies(&left, plan.dtype, vec![high, plan.piece], layouts[0], COPIES),
            builder.copies(&right, plan.dtype, vec![plan.piece, SIDE], layouts[1], COPIES),
        ];
        let queries = (OnceCell::new(), ring(builder, load, feed, 0));
        Pipeline {
            queries,
            ahead: plan.ahead && several,
            scores: (tiles[0], ring(builder, drain, read, 0)),
            weights: (tiles[1], ring(builder, write, load, 0)),
            values: ([OnceCell::new(), OnceCell::new()], ring(builder, load, feed, 1)),
            parts: (tiles[2], ring(builder, drain, read, 1)),
            acc: (tiles[3], ring(builder, matrix, drain, 0)),
            operands: [(operands[0], ring(builder, feed, matrix, 0)), (operands[1], ring(builder, feed, matrix, 1))],
        }
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
    /// For scores: from which to which of the chunk's blocks of keys; positive for the first and for the last ones of a turn.
    blocks: [Dim; 2],
    ends: [Dim; 2],
    /// For parts: which of the chunk's passes it is.
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
            staged: None,
            turn: None,
            kept: None,
        }
    }

    /// The rows of a product: their number is cut into blocks.
    fn blocks_of_rows(&self) -> Vec<(usize, Dim)> {
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
}
