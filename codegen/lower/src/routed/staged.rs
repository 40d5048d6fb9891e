//! Routed contractions on machines whose unit takes its operands through a stage: the vector cores pick and gather rows, the matrix core
//! multiplies them.
//!
//! ```text
//! for each expert, share of the columns (grid):
//!     for each chunk of the ids:  picks = positions with this expert's id                 vector cores
//!         for each block of picks:
//!             gathered = x[picks]                            device memory ─► vectors ─► exchange
//!             for each block of columns:
//!                 acc = gathered · weights[expert]           exchange, device memory ─► stage ─► unit
//!                 results[picks] = acc                       unit ─► exchange ─► vectors ─► device memory
//! ```
//! A share is all columns where there are experts enough for all cores, so that rows are picked and gathered once for all of them.

use tarsia_graph::{BinaryFn, ScatterFn, Value};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Axis, Layout, Opcode, Operand, Region, TileId, View, machine::GLOBAL};

use super::{Routed, along};
use crate::{
    blocks::{Lies, Problem, Staged, choose_staged},
    builder::KernelBuilder,
    load::part_of,
    matrix::staged::{Types, pieces},
};

/// Ids that are looked through at once.
const IDS: usize = 16384;
/// How often other tiles are halved before there are fewer ids at once.
const LARGE: usize = 3;
/// Ids that are loaded at once.
const LOADED: usize = 512;
/// Rows of a block at most.
const ROWS: usize = 128;
/// The longest run of a row that is gathered at once.
const RUN: usize = 2048;

/// Sizes of one kernel.
struct Plan {
    block: Staged,
    depth: usize,
    columns: usize,
    /// Columns of a share, and how many shares there are.
    share: usize,
    shares: usize,
    types: Types,
    exchange: String,
    stages: [String; 2],
    packed: bool,
    /// Ids that are looked through at once.
    ids: usize,
    /// Elements that are gathered at once, and that are stored at once.
    gathered: usize,
    stored: usize,
}

/// Emits the contraction; `false` if it does not fit this machine in this form.
pub(super) fn lower(routed: &mut Routed, builder: &mut KernelBuilder, constant: Option<Value>) -> Result<bool, String> {
    let Some(plan) = routed.plan(builder, constant) else { return Ok(false) };
    let [ids, experts, _, _] = routed.size.clone();
    let expert = builder.grid(experts);
    let share = builder.grid(Dim::from(plan.shares)) * Dim::from(plan.share);
    let most = plan.ids;
    let work = Work { routed, plan: &plan };
    builder.for_each(ids.clone(), most as i64, |builder, start| {
        let size = part_of(&ids, start.clone(), most).size;
        let (positions, count) = work.pick(builder, &expert, (&start, &size, most))?;
        builder.for_each(count.clone(), plan.block.rows as i64, |builder, from| {
            let rows = (count.clone() - from.clone()).minimum(&Dim::from(plan.block.rows));
            let picks = Region { offset: vec![from], size: vec![rows], ..positions.clone() };
            let gathered = work.gather(builder, &picks)?;
            let here = (Dim::from(plan.columns) - share.clone()).minimum(&Dim::from(plan.share));
            builder.for_each(here.clone(), plan.block.columns as i64, |builder, at| {
                let width = part_of(&here, at.clone(), plan.block.columns).size;
                let first = share.clone() + at;
                let sum = work.multiply(builder, &expert, gathered, &picks.size[0], (&first, &width))?;
                work.store(builder, &sum, &picks, (&first, &width))
            })
        })
    })?;
    Ok(true)
}

impl Routed {
    /// `None` if the machine is not of this kind, or has no product of these types.
    fn plan(&mut self, builder: &mut KernelBuilder, constant: Option<Value>) -> Option<Plan> {
        let target = builder.target;
        let stages = [target.stages[0].clone()?, target.stages[1].clone()?];
        let exchange = target.exchange.clone()?;
        let [ids, experts, depth, columns] = &self.size.clone();
        let (depth, columns) = (depth.as_usize()?, columns.as_usize()?);
        let experts = target.estimate(experts)?.max(1);
        let dtype = builder.param_of(self.x).dtype;
        let (unit, product) = target.machine.product(dtype, dtype)?;
        let fits = product.acc == DType::F32 && builder.param_of(self.weights).dtype == dtype;
        if !fits || depth == 0 || columns == 0 {
            return None;
        }
        let cores = target.machine.core(&unit.core).map_or(1, |core| core.count).max(1);
        let types = [dtype, dtype, product.acc];
        let layout = target.stage_layout(&stages[1], dtype, true);
        let straight = target.machine.path(GLOBAL, &stages[1], &[]).is_some();
        let packed = constant.filter(|_| straight).and_then(|leaf| self.pack(builder, leaf, dtype, layout)).is_some();
        let lies = match (layout, packed) {
            (Layout::Fractal(fractal), true) => Lies::InStrips(fractal.block[0]),
            _ if self.stride[1].is(1) => Lies::AlongDepth,
            _ => Lies::AlongSide,
        };
        // Half as many again as an expert has on average, so that most have one block.
        let known = target.estimate(ids);
        // Chunks of ids become smaller last: an expert's weights are read once for each.
        let chunk = target.elements(IDS << LARGE).min(IDS).min(known.unwrap_or(IDS)).max(1);
        let average = known.map(|ids| ids.min(chunk).div_ceil(experts));
        // Half of what ids and positions leave is for what is gathered, half for what is stored, twice each.
        let left = target.bytes_of(&target.vector_space).saturating_sub(8 * chunk + 32 * LOADED) / 2;
        let gathered = target.elements(left / (2 * dtype.bits().div_ceil(8)));
        let stored = target.elements(left / (2 * (4 + dtype.bits().div_ceil(8))));
        let rows = average.map_or(ROWS, |average| (average + average / 2).next_multiple_of(16).clamp(16, ROWS));
        let problem = Problem {
            size: [Some(rows), Some(columns), Some(depth)],
            inner: 1,
            batches: experts,
            types,
            lies: [Lies::AlongDepth, lies],
            stays: [false; 2],
            result: None,
        };
        let block = choose_staged(target, None, &problem);
        let blocks = columns.div_ceil(block.columns);
        let wanted = if experts >= cores { 1 } else { (2 * cores).div_ceil(experts).min(blocks) };
        let share = blocks.div_ceil(wanted) * block.columns;
        let shares = columns.div_ceil(share);
        Some(Plan {
            block,
            depth,
            columns,
            share,
            shares,
            types,
            exchange,
            stages,
            packed,
            ids: chunk,
            gathered,
            stored,
        })
    }
}

struct Work<'a> {
    routed: &'a Routed,
    plan: &'a Plan,
}

impl Work<'_> {
    /// The positions of an expert among a chunk of the ids, and how many they are.
    fn pick(
        &self,
        builder: &mut KernelBuilder,
        expert: &Dim,
        (start, size, most): (&Dim, &Dim, usize),
    ) -> Result<(Region, Dim), String> {
        let sizes = std::slice::from_ref(size);
        let ids = builder.scratch(DType::I32, &[most], sizes);
        let stored = builder.param_of(self.routed.ids).dtype;
        let loaded = builder.target.elements(LOADED).min(most);
        builder.for_each(size.clone(), loaded as i64, |builder, at| {
            let length = part_of(size, at.clone(), loaded).size;
            let view = View {
                param: self.routed.ids,
                axes: vec![along(start.clone() + at.clone(), 0)],
                size: vec![length.clone()],
                fill: None,
            };
            let part = Operand::Tile(Region { offset: vec![at], size: vec![length.clone()], ..ids.clone() });
            if stored == DType::I32 {
                builder.copy(part, Operand::Global(view));
                return Ok::<(), String>(());
            }
            let come = Operand::Tile(builder.scratch(stored, &[loaded], &[length]));
            builder.copy(come.clone(), Operand::Global(view));
            builder.copy(part, come);
            Ok(())
        })?;
        let positions = builder.scratch(DType::I32, &[most], sizes);
        let count = builder.symbol("n");
        builder.instr(
            Opcode::SelectRows,
            vec![Operand::Tile(positions.clone()), Operand::Scalar(count.clone(), size.clone())],
            vec![Operand::Tile(ids), Operand::Index(expert.clone()), Operand::Index(start.clone())],
        );
        Ok((positions, count.into()))
    }

    /// Deals rows out to the vector cores in pieces of `most`: `body` gets the first row of a piece and how many it has.
    fn deal(
        &self,
        builder: &mut KernelBuilder,
        rows: &Dim,
        most: usize,
        body: impl FnOnce(&mut KernelBuilder, Dim, Dim) -> Result<(), String>,
    ) -> Result<(), String> {
        let lanes = builder.target.lanes.max(1);
        let share = self.plan.block.rows.div_ceil(lanes);
        let lane = if lanes > 1 { builder.lane() } else { Dim::ZERO };
        builder.for_each(Dim::from(share), most as i64, |builder, start| {
            let first = lane * Dim::from(share) + start.clone();
            let piece = part_of(&Dim::from(share), start, most).size;
            let here = piece.minimum(&(rows.clone() - first.clone())).maximum(&Dim::ZERO);
            body(builder, first, here)
        })
    }

    /// The picked rows of x, in the exchange space.
    fn gather(&self, builder: &mut KernelBuilder, picks: &Region) -> Result<TileId, String> {
        let Plan { block, depth, types: [dtype, ..], exchange, .. } = self.plan;
        let gathered = builder.tile(exchange, *dtype, vec![block.rows, *depth], Layout::RowMajor);
        let run = (*depth).min(RUN);
        let most = (self.plan.gathered / run).clamp(1, block.rows);
        self.deal(builder, &picks.size[0], most, |builder, first, rows| {
            let index = self.source_rows(builder, picks, (&first, &rows, most));
            builder.for_each(Dim::from(*depth), run as i64, |builder, at| {
                let length = part_of(&Dim::from(*depth), at.clone(), run).size;
                let size = vec![rows.clone(), length];
                let tile = builder.scratch(*dtype, &[most, run], &size);
                let axes = vec![Axis { start: Dim::ZERO, steps: vec![(0, Dim::ONE)] }, along(at.clone(), 1)];
                let view = View { param: self.routed.x, axes, size: size.clone(), fill: None };
                let source = vec![Operand::Global(view), Operand::Tile(index)];
                builder.instr(Opcode::Gather, vec![Operand::Tile(tile.clone())], source);
                let part = Region { tile: gathered, slot: Dim::ZERO, offset: vec![first.clone(), at], size };
                builder.copy(Operand::Tile(part), Operand::Tile(tile));
                Ok(())
            })
        })?;
        Ok(gathered)
    }

    /// The rows of x that some picks take.
    fn source_rows(
        &self,
        builder: &mut KernelBuilder,
        picks: &Region,
        (first, rows, most): (&Dim, &Dim, usize),
    ) -> Region {
        let picked = part_of_picks(picks, first, rows);
        if self.routed.repeat.is(1) {
            return picked;
        }
        let divided = builder.scratch(DType::I32, &[most], std::slice::from_ref(rows));
        let source = vec![Operand::Tile(picked), Operand::Index(self.routed.repeat.clone())];
        builder.instr(Opcode::Binary(BinaryFn::Div), vec![Operand::Tile(divided.clone())], source);
        divided
    }

    /// Gathered rows times columns of the expert's weights.
    fn multiply(
        &self,
        builder: &mut KernelBuilder,
        expert: &Dim,
        gathered: TileId,
        rows: &Dim,
        (first, width): (&Dim, &Dim),
    ) -> Result<Region, String> {
        let Plan { block, depth, types, stages, .. } = self.plan;
        let target = builder.target;
        let chunk = block.stage[0].min(block.stage[1]).min(*depth);
        let left = target.stage_layout(&stages[0], types[0], false);
        let space = target.matrix_spaces[2].clone();
        let acc = builder.tile(&space, types[2], vec![block.rows, block.columns], target.accumulator);
        let acc = Region::at_origin(acc, vec![rows.clone(), width.clone()]);
        builder.for_each(Dim::from(*depth), chunk as i64, |builder, start| {
            let size = part_of(&Dim::from(*depth), start.clone(), chunk).size;
            let lhs = builder.tile(&stages[0], types[0], vec![block.rows, chunk], left);
            let lhs = Region::at_origin(lhs, vec![rows.clone(), size.clone()]);
            let offset = vec![Dim::ZERO, start.clone()];
            let source = Region { tile: gathered, slot: Dim::ZERO, offset, size: lhs.size.clone() };
            builder.copy(Operand::Tile(lhs.clone()), Operand::Tile(source));
            let (view, layout) = self.weights(builder, expert, (&start, &size), (first, width));
            let rhs = builder.tile(&stages[1], types[1], vec![chunk, block.columns], layout);
            let rhs = Region::at_origin(rhs, vec![size, width.clone()]);
            builder.copy(Operand::Tile(rhs.clone()), Operand::Global(view));
            pieces(builder, &acc, [lhs, rhs], (block.piece, chunk), (*types, None), start)
        })?;
        Ok(acc)
    }

    /// A part of an expert's weights in device memory, and the layout in which the stage holds it.
    fn weights(
        &self,
        builder: &KernelBuilder,
        expert: &Dim,
        (start, size): (&Dim, &Dim),
        (first, width): (&Dim, &Dim),
    ) -> (View, Layout) {
        let Routed { weights, stride: [e, k, n], .. } = self.routed;
        let axes = match self.plan.packed {
            true => {
                vec![along(expert.clone() * Dim::from(self.plan.depth) + start.clone(), 0), along(first.clone(), 1)]
            }
            false => {
                let origin = expert.clone() * e.clone() + start.clone() * k.clone() + first.clone() * n.clone();
                vec![Axis { start: origin, steps: vec![(0, k.clone()), (1, n.clone())] }]
            }
        };
        let transposed = self.plan.packed || k.is(1);
        let layout = builder.target.stage_layout(&self.plan.stages[1], self.plan.types[1], transposed);
        (View { param: *weights, axes, size: vec![size.clone(), width.clone()], fill: None }, layout)
    }

    /// Stores a block of sums to the results at the picks.
    fn store(
        &self,
        builder: &mut KernelBuilder,
        sum: &Region,
        picks: &Region,
        (first, width): (&Dim, &Dim),
    ) -> Result<(), String> {
        let Plan { block, types, exchange, .. } = self.plan;
        let shape = vec![block.rows, block.columns];
        let through = Region { tile: builder.tile(exchange, types[2], shape, Layout::RowMajor), ..sum.clone() };
        builder.copy(Operand::Tile(through.clone()), Operand::Tile(sum.clone()));
        let most = (self.plan.stored / block.columns).clamp(1, block.rows);
        self.deal(builder, &picks.size[0], most, |builder, row, rows| {
            let (size, capacity) = (vec![rows.clone(), width.clone()], [most, block.columns]);
            let mut part = Region { size: size.clone(), ..through.clone() };
            part.offset[0] = row.clone();
            let mut tile = builder.scratch(types[2], &capacity, &size);
            builder.copy(Operand::Tile(tile.clone()), Operand::Tile(part));
            let stored = builder.param_of(self.routed.result).dtype;
            if stored != types[2] {
                let rounded = builder.scratch(stored, &capacity, &size);
                builder.copy(Operand::Tile(rounded.clone()), Operand::Tile(tile));
                tile = rounded;
            }
            let axes = vec![Axis { start: Dim::ZERO, steps: vec![(0, Dim::ONE)] }, along(first.clone(), 1)];
            let view = View { param: self.routed.result, axes, size, fill: None };
            let source = vec![Operand::Tile(tile), Operand::Tile(part_of_picks(picks, &row, &rows))];
            builder.instr(Opcode::Scatter { function: ScatterFn::Set }, vec![Operand::Global(view)], source);
            Ok(())
        })
    }
}

fn part_of_picks(picks: &Region, first: &Dim, rows: &Dim) -> Region {
    let offset = vec![picks.offset[0].clone() + first.clone()];
    Region { offset, size: vec![rows.clone()], ..picks.clone() }
}
