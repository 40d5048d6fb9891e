//! Matrix products on machines whose unit takes its operands from small memories of its own, which are filled through a larger stage.
//!
//! ```text
//! for each block of rows and columns (grid):
//!     for each chunk of the depth that the stage holds:      stage(lhs), stage(rhs)        device memory ─► stage
//!         for each piece that the unit's memories hold:      acc += lhs piece · rhs piece  stage ─► unit
//!     result = epilogue(acc)                                 unit ─► device memory, or ─► exchange ─► vector cores
//! ```
//! What vectors compute (a prologue, an epilogue) is dealt out by rows to the vector cores that work with the unit, and cut into pieces
//! that fit their memory. Where vectors do not reach the unit's memory, tiles are exchanged through a space that both reach.

use tarsia_graph::{NodeId, Op, Value};
use tarsia_tensor::{DType, Dim};
use tarsia_tile::{
    Layout, Opcode, Operand, Region,
    machine::{GLOBAL, Transform},
    verify::access_transforms,
};

use super::{Packed, Product, Result_};
use crate::{
    blocks::{Lies, Problem, Staged, choose_staged, staged_granule},
    builder::KernelBuilder,
    deal::{deal, piece_of},
    emit::{Emitter, Leaf, Span},
    kept::Kept,
    load::{Load, block_side, cut_block, extent, part_of},
    nest::linear,
    persist::Grouping,
};

/// Emits the product and stores `target`.
pub(super) fn lower(
    product: &Product,
    builder: &mut KernelBuilder,
    anchor: NodeId,
    target: &Result_,
    constant: &dyn Fn(Value) -> bool,
) -> Result<(), String> {
    let types = product.unit_types(builder);
    let packed = [0, 1].map(|which| product.packed_for_stage(builder, which, types, constant));
    let result = product.is_sum(anchor, target).then(|| builder.param_of(target.param).dtype.bits());
    let block = product.block_for(builder, (types, result), &packed);
    let spans = product.block_spans(builder, block);
    let aligned = |which: usize, packed: &&Packed| product.begins_at_blocks(which, packed, block, &spans);
    let packed = [0, 1].map(|which| packed[which].as_ref().filter(|packed| aligned(which, packed)));
    let acc = product.accumulated(builder, &spans, block, types, packed)?;
    product.finish(builder, anchor, target, &spans, &acc, None)
}

/// Where in an accumulator the rows of a result begin whose first axis is a group: every so many.
pub(super) type Pitched = Option<(usize, usize)>;

/// Element types of left operand, right operand and sum.
pub(crate) type Types = [DType; 3];

impl Product<'_> {
    pub(super) fn unit_types(&self, builder: &KernelBuilder) -> Types {
        let [a, b] = self.operands.map(|operand| self.body.ty(operand).dtype);
        match builder.target.machine.product(a, b) {
            Some((_, product)) => [a, b, product.acc],
            None if self.dtype.is_integer() => [self.accumulator; 3],
            None => [self.dtype, self.dtype, self.accumulator],
        }
    }

    /// Rows and columns of a block, depth of what the stage holds and of what the unit's memories hold.
    fn block_for(
        &self,
        builder: &mut KernelBuilder,
        (types, result): (Types, Option<usize>),
        packed: &[Option<Packed>; 2],
    ) -> Staged {
        let known = |groups: &[usize]| -> Option<usize> {
            let mut sizes = groups.iter().map(|&g| builder.target.estimate(&self.nest.size(g)));
            sizes.try_fold(1usize, |total, size| Some(total.saturating_mul(size?)))
        };
        let others: Vec<usize> = (0..self.nest.groups.len())
            .filter(|g| !self.nest.is_sum(*g) && !self.roles.rows.contains(g) && !self.roles.columns.contains(g))
            .collect();
        let depth = known(&self.roles.depth).map(|depth| depth.saturating_mul(known(&self.roles.outer).unwrap_or(1)));
        let size = [known(&self.roles.rows), known(&self.roles.columns), depth];
        let inner = known(&self.roles.depth[1..]).unwrap_or(1);
        let lies = [0, 1].map(|which| match &packed[which] {
            Some(packed) => Lies::InStrips(packed.block[1 - which]),
            None => self.lies(builder, which),
        });
        let stays = [0, 1].map(|which| packed[which].is_none() && self.may_stay(builder, which));
        let batches = known(&others).unwrap_or(1);
        let asked = builder.asked(&staged_granule(builder.target, types, inner));
        choose_staged(builder.target, asked, &Problem { size, inner, batches, types, lies, stays, result })
    }

    /// Whether several items of a core may share an operand in the exchange space: its chunks are numbered, and the items walked in a loop.
    fn may_stay(&self, builder: &KernelBuilder, which: usize) -> bool {
        let chunks = self.roles.depth.first().and_then(|&group| self.nest.size(group).as_usize());
        let outside = self.roles.outer.is_empty() && ![&self.roles.rows, &self.roles.columns][1 - which].is_empty();
        let machine = &builder.target.machine;
        builder.target.exchange.is_some() && machine.has_concurrent_pipes() && chunks.is_some() && outside
    }

    /// A constant operand in the layout of its stage, so that it is loaded in long runs and without a change of layout.
    pub(super) fn packed_for_stage(
        &self,
        builder: &mut KernelBuilder,
        which: usize,
        types: Types,
        constant: &dyn Fn(Value) -> bool,
    ) -> Option<Packed> {
        let space = builder.target.stages[which].clone()?;
        let layout = builder.target.stage_layout(&space, types[which], which == 1);
        builder.target.machine.path(GLOBAL, &space, &[])?;
        self.pack_constant(builder, which, (types[which], layout), constant)
    }

    /// Whether everything that is loaded of a packed operand begins at a block of its layout.
    fn begins_at_blocks(&self, which: usize, packed: &Packed, block: Staged, spans: &[Span]) -> bool {
        let aligned = |groups: &[usize], capacity: &dyn Fn(usize) -> usize, block: usize| {
            let mut stride = 1usize;
            groups.iter().rev().all(|&group| {
                let size = self.nest.size(group).as_usize().unwrap_or(usize::MAX);
                let step = capacity(group).saturating_mul(stride);
                let begins = size <= capacity(group) || step.is_multiple_of(block);
                stride = stride.saturating_mul(size);
                begins
            })
        };
        let (chunked, whole) = self.roles.depth.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
        let inner: usize = whole.iter().map(|&group| self.nest.size(group).as_usize().unwrap_or(1)).product();
        let part = (block.stage[which] / inner.max(1)).max(1);
        let depth = |group: usize| if group == chunked { part } else { usize::MAX };
        let side = [&self.roles.rows, &self.roles.columns][which];
        aligned(side, &|group| spans[group].capacity, packed.block[which])
            && aligned(&self.roles.depth, &depth, packed.block[1 - which])
    }

    /// Bits of an element of the largest array that a value is computed of.
    fn source_bits(&self, value: Value) -> usize {
        let (mut found, mut left) = (None, vec![value]);
        while let Some(value) = left.pop() {
            let ty = self.body.ty(value);
            if !self.leaves.contains_key(&value) {
                left.extend(self.body.operands(value.node));
                continue;
            }
            let elements = Dim::product(&ty.shape).range().high;
            if found.is_none_or(|(most, _)| elements > most) {
                found = Some((elements, ty.dtype.bits()));
            }
        }
        found.map_or(8, |(_, bits)| bits)
    }

    /// How an operand lies where it is loaded from.
    fn lies(&self, builder: &mut KernelBuilder, which: usize) -> Lies {
        let exchanges = builder.target.exchange.is_some();
        let point = vec![Span::point(Dim::ZERO); self.nest.groups.len()];
        let probe = Emitter::over(builder, self.body, &self.nest, self.leaves, point, Vec::new());
        let along = |groups: &[usize]| {
            let (leaf, index) = probe.leaf_of(self.operands[which], &self.indices[which])?;
            let position = linear(&self.body.ty(leaf).shape, &index);
            let last = self.nest.groups[*groups.last()?].last()?;
            Some(position.step(*last).is(1))
        };
        let sides = [&self.roles.rows, &self.roles.columns][which];
        match (along(&self.roles.depth), along(sides)) {
            (Some(true), _) => Lies::AlongDepth,
            (_, Some(true)) => Lies::AlongSide,
            _ if exchanges => Lies::Exchanged(self.source_bits(self.operands[which])),
            _ if which == 0 => Lies::AlongDepth,
            _ => Lies::AlongSide,
        }
    }

    /// Grid axes for everything but the sums; blocks of rows and columns are walked in bands.
    pub(super) fn block_spans(&self, builder: &mut KernelBuilder, block: Staged) -> Vec<Span> {
        let mut spans: Vec<Span> = (0..self.nest.groups.len()).map(|_| Span::point(Dim::ZERO)).collect();
        for group in (0..self.nest.groups.len()).filter(|&g| !self.nest.is_sum(g)) {
            if !self.roles.rows.contains(&group) && !self.roles.columns.contains(&group) {
                spans[group] = Span::point(builder.grid(self.nest.size(group)));
            }
        }
        let mut axes = [None, None];
        for (side, groups) in [&self.roles.rows, &self.roles.columns].into_iter().enumerate() {
            let room = [block.rows, block.columns][side];
            axes[side] = cut_block(builder, &self.nest, groups, room, &mut spans);
        }
        builder.grouping = match (block.kept, axes) {
            (Some((which, _)), mut axes) => {
                let (across, band) = (axes[which].take(), block.band);
                let (first, last) = (builder.symbol("first"), builder.symbol("last"));
                axes[1 - which].take().map(|along| Grouping::Runs { along, across, band, first, last })
            }
            (None, [Some(rows), Some(columns)]) => Some(Grouping::Bands { rows, columns, band: block.band }),
            _ => None,
        };
        spans
    }

    /// The unit's tile after all sums.
    fn accumulated(
        &self,
        builder: &mut KernelBuilder,
        spans: &[Span],
        block: Staged,
        types: Types,
        packed: [Option<&Packed>; 2],
    ) -> Result<Region, String> {
        let (chunked, whole) = self.roles.depth.split_first().ok_or("a product without depth")?;
        let inner: usize = whole.iter().map(|&group| self.nest.size(group).as_usize().unwrap_or(1)).product();
        let size = self.nest.size(*chunked);
        // One operand may be deeper in the stage than the other, so that it is loaded in longer runs.
        let most = size.as_usize().unwrap_or(usize::MAX).max(1);
        let parts = block.stage.map(|depth| (depth / inner.max(1)).clamp(1, most));
        let outer = usize::from(parts[1] > parts[0]);
        let (part, inner_part) = (parts[outer], parts[1 - outer]);
        let kept = match (block.kept, &builder.grouping) {
            (Some((which, held)), Some(Grouping::Runs { first, last, .. })) => {
                let (first, last, chunks) = (first.clone(), last.clone(), most.div_ceil(parts[which]));
                Some((which, Kept { first, last, chunks, held: held.min(chunks) }))
            }
            _ => None,
        };
        let kept = kept.as_ref();
        let [rows, columns] = self.sides(spans);
        let space = builder.target.matrix_spaces[2].clone();
        let tile = builder.tile(&space, types[2], vec![rows.1, columns.1], builder.target.accumulator);
        let acc = Region::at_origin(tile, vec![rows.0, columns.0]);
        self.sum(builder, &self.roles.outer, spans.to_vec(), &mut |builder, spans| {
            builder.for_each(size.clone(), part as i64, |builder, start| {
                let mut spans = spans.clone();
                spans[*chunked] = part_of(&size, start.clone(), part);
                for &group in whole {
                    let size = self.nest.size(group);
                    spans[group] = Span { start: Dim::ZERO, capacity: size.as_usize().unwrap_or(1), size };
                }
                let turn = start.floor_div(&Dim::from(part));
                let longer = self.staged(builder, outer, &spans, types, packed, (turn.clone(), kept))?;
                let chunk = spans[*chunked].clone();
                builder.for_each(chunk.size.clone(), inner_part as i64, |builder, offset| {
                    let mut spans = spans.clone();
                    let within = part_of(&chunk.size, offset.clone(), inner_part);
                    spans[*chunked] = Span { start: chunk.start.clone() + offset.clone(), ..within };
                    let turn =
                        turn.clone() * Dim::from(part.div_ceil(inner_part)) + offset.floor_div(&Dim::from(inner_part));
                    let shorter = self.staged(builder, 1 - outer, &spans, types, packed, (turn, kept))?;
                    let mut staged = [shorter.clone(), shorter];
                    staged[outer] = longer.clone();
                    if inner_part < parts[outer] {
                        let axis = 1 - outer;
                        (staged[outer].offset[axis], staged[outer].size[axis]) = (offset, spans[*chunked].size.clone());
                    }
                    let summed = self.roles.outer.iter().chain([chunked]);
                    let progress = summed.fold(Dim::ZERO, |sum, &group| sum + spans[group].start.clone());
                    pieces(builder, &acc, staged, (block.piece, inner_part * inner), (types, None), progress)
                })
            })
        })?;
        Ok(acc)
    }

    /// Sizes and capacities of rows and columns of the result's block.
    fn sides(&self, spans: &[Span]) -> [(Dim, usize); 2] {
        [&self.roles.rows, &self.roles.columns].map(|groups| extent(groups, spans))
    }

    /// An operand's chunk in its stage, as a matrix.
    fn staged(
        &self,
        builder: &mut KernelBuilder,
        which: usize,
        spans: &[Span],
        types: Types,
        packed: [Option<&Packed>; 2],
        (turn, kept): (Dim, Option<&(usize, Kept)>),
    ) -> Result<Region, String> {
        let [rows, columns] = self.matrix_axes(which);
        if let (Some(packed), Some(space)) = (packed[which], builder.target.stages[which].clone()) {
            let (height, width) = (extent(rows, spans), extent(columns, spans));
            let layout = builder.param_of(packed.param).layout;
            let tile = builder.tile(&space, types[which], vec![height.1, width.1], layout);
            let staged = Region::at_origin(tile, vec![height.0, width.0]);
            let source = Operand::Global(self.packed_view(packed, which, spans));
            builder.copy(Operand::Tile(staged.clone()), source);
            return Ok(staged);
        }
        let load = Load {
            body: self.body,
            nest: &self.nest,
            leaves: self.leaves,
            value: self.operands[which],
            index: &self.indices[which],
            fill: if which == self.image { self.fill } else { None },
            which,
            rows,
            columns,
            dtype: types[which],
            staged: None,
            turn: Some(turn),
            kept: kept.filter(|(operand, _)| *operand == which).map(|(_, kept)| kept),
        };
        load.stage(builder, spans)
    }

    /// Stores what becomes of the sum.
    pub(super) fn finish(
        &self,
        builder: &mut KernelBuilder,
        anchor: NodeId,
        target: &Result_,
        spans: &[Span],
        acc: &Region,
        pitched: Pitched,
    ) -> Result<(), String> {
        let terms = self.roles.depth.iter().chain(&self.roles.outer);
        let terms = Dim::product(terms.map(|&group| self.nest.size(group)).collect::<Vec<_>>().iter());
        if terms.range().low > 0 {
            let mut stored = true;
            self.rows_of(builder, spans, acc, pitched, &mut |builder, spans, _, acc| {
                stored &= self.store_directly(builder, anchor, target, &spans, &acc);
                Ok(())
            })?;
            if stored {
                return Ok(());
            }
        }
        self.epilogue(builder, (anchor, target), spans, (acc, pitched), terms)
    }

    /// Calls `body` for all of an accumulator, or where its rows are apart for every index of their first axis: with the spans of that part,
    /// its place, and its part of the accumulator.
    fn rows_of(
        &self,
        builder: &mut KernelBuilder,
        spans: &[Span],
        acc: &Region,
        pitched: Pitched,
        body: &mut dyn FnMut(&mut KernelBuilder, Vec<Span>, Dim, Region) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some((group, pitch)) = pitched else { return body(builder, spans.to_vec(), Dim::ZERO, acc.clone()) };
        let rows = &spans[group];
        builder.for_each(rows.size.clone(), 1, |builder, row| {
            let mut part = spans.to_vec();
            part[group] = Span::point(rows.start.clone() + row.clone());
            let mut acc = acc.clone();
            acc.offset[0] = row.clone() * Dim::from(pitch);
            acc.size[0] = extent(&self.roles.rows, &part).0;
            body(builder, part, row, acc)
        })
    }

    /// Whether the result is the sum, in whatever type.
    fn is_sum(&self, anchor: NodeId, target: &Result_) -> bool {
        let mut value = target.value;
        while let Op::Cast { .. } = &self.body[value.node].op
            && self.body.ty(value).dtype.is_float()
        {
            value = self.body.operands(value.node)[0];
        }
        value == Value::from(anchor) && !self.leaves.contains_key(&target.value)
    }

    /// Stores the sum from the unit's memory, if the result is the sum and a path does what is asked of it.
    fn store_directly(
        &self,
        builder: &mut KernelBuilder,
        anchor: NodeId,
        target: &Result_,
        spans: &[Span],
        acc: &Region,
    ) -> bool {
        if !self.is_sum(anchor, target) {
            return false;
        }
        let shape = self.body.ty(target.value).shape.clone();
        let emitter = Emitter::over(builder, self.body, &self.nest, self.leaves, spans.to_vec(), self.result_axes());
        let view = Operand::Global(emitter.view(target.param, &shape, &self.nest.root));
        let (from, to) = (acc_dtype(builder, acc), builder.param_of(target.param).dtype);
        let mut needed = access_transforms(&view, &Layout::RowMajor);
        needed.push(Transform::Layout);
        let machine = &builder.target.machine;
        let path = machine.path(&builder.target.matrix_spaces[2], GLOBAL, &needed);
        if !path.is_some_and(|path| path.converts(from, to)) {
            return false;
        }
        let rows = self.roles.rows.len();
        builder.instr(Opcode::Copy { rows }, vec![view], vec![Operand::Tile(acc.clone())]);
        true
    }

    /// What vectors make of the sum, and stores it.
    fn epilogue(
        &self,
        builder: &mut KernelBuilder,
        (anchor, target): (NodeId, &Result_),
        spans: &[Span],
        (acc, pitched): (&Region, Pitched),
        terms: Dim,
    ) -> Result<(), String> {
        let axes = self.result_axes();
        let capacity: Vec<usize> = axes.iter().map(|&group| spans[group].capacity).collect();
        let size: Vec<Dim> = axes.iter().map(|&group| spans[group].size.clone()).collect();
        let dtype = acc_dtype(builder, acc);
        let finish = |builder: &mut KernelBuilder, spans: Vec<Span>, sum: Region| {
            let mut finished = self.leaves.clone();
            finished.insert(anchor.into(), Leaf::Tile(Operand::Tile(sum)));
            let mut emitter = Emitter::over(builder, self.body, &self.nest, &finished, spans, axes.clone());
            emitter.store(target.value, &self.nest.root, target.param)
        };
        let read = |builder: &mut KernelBuilder, to: &Region, from: Operand| {
            let (copied, cleared) = (Operand::Tile(to.clone()), Operand::Tile(to.clone()));
            builder.if_positive(
                terms.clone(),
                |builder| {
                    builder.copy(copied, from);
                    Ok::<(), String>(())
                },
                |builder| {
                    builder.instr(Opcode::Fill, vec![cleared], vec![Operand::Real(0.0)]);
                    Ok(())
                },
            )
        };
        let piece = |builder: &mut KernelBuilder, spans: &[Span]| {
            let (size, capacity): (Vec<Dim>, Vec<usize>) =
                axes.iter().map(|&group| (spans[group].size.clone(), spans[group].capacity)).unzip();
            builder.scratch(dtype, &capacity, &size)
        };
        let Some(exchange) = builder.target.exchange.clone() else {
            let granule = block_side(builder, acc);
            return deal(builder, &axes, granule, spans, &|_| true, |builder, spans, place| {
                let sum = piece(builder, &spans);
                read(builder, &sum, Operand::Tile(piece_of(acc, &axes, &spans, place)))?;
                finish(builder, spans, sum)
            });
        };
        let tile = builder.tile(&exchange, dtype, capacity, Layout::RowMajor);
        let whole = Region::at_origin(tile, size);
        let op = Opcode::Copy { rows: self.roles.rows.len() };
        builder.if_positive(
            terms.clone(),
            |builder| {
                self.rows_of(builder, spans, acc, pitched, &mut |builder, part, row, acc| {
                    let mut through = whole.clone();
                    if let Some((group, _)) = pitched {
                        let axis = axes.iter().position(|&axis| axis == group).ok_or("rows along no axis")?;
                        (through.offset[axis], through.size[axis]) = (row, part[group].size.clone());
                    }
                    builder.instr(op.clone(), vec![Operand::Tile(through)], vec![Operand::Tile(acc)]);
                    Ok(())
                })
            },
            |_| Ok(()),
        )?;
        deal(builder, &axes, 1, spans, &|_| true, |builder, spans, place| {
            let sum = piece(builder, &spans);
            read(builder, &sum, Operand::Tile(piece_of(&whole, &axes, &spans, place)))?;
            finish(builder, spans, sum)
        })
    }
}

/// Sums up the products of a chunk, piece by piece; `progress` is 0 where the sum begins.
pub(crate) fn pieces(
    builder: &mut KernelBuilder,
    acc: &Region,
    [lhs, rhs]: [Region; 2],
    (piece, most): (usize, usize),
    (types, rows): (Types, Option<usize>),
    progress: Dim,
) -> Result<(), String> {
    let depth = rhs.size[0].clone();
    let piece = piece.min(most).max(1);
    let spaces = builder.target.matrix_spaces.clone();
    builder.for_each(depth.clone(), piece as i64, |builder, start| {
        let part = part_of(&depth, start.clone(), piece).size;
        let mut operands = Vec::with_capacity(2);
        for (which, (staged, axis)) in [(&lhs, 1), (&rhs, 0)].into_iter().enumerate() {
            let mut source = staged.clone();
            source.offset[axis] = source.offset[axis].clone() + start.clone();
            source.size[axis] = part.clone();
            let mut shape = builder.capacity_of(staged.tile).to_vec();
            shape[axis] = piece;
            if let (0, Some(rows)) = (which, rows) {
                shape[0] = rows;
            }
            let layout = builder.target.matrix_layouts_for(types[which])[which];
            let tile = builder.tile(&spaces[which], types[which], shape, layout);
            let operand = Operand::Tile(Region::at_origin(tile, source.size.clone()));
            builder.copy(operand.clone(), Operand::Tile(source));
            operands.push(operand);
        }
        let product = |builder: &mut KernelBuilder, accumulate: bool| {
            builder.instr(Opcode::Mmad { accumulate }, vec![Operand::Tile(acc.clone())], operands.clone());
            Ok::<(), String>(())
        };
        let begun = progress.clone() + start;
        builder.if_positive(Dim::ONE - begun, |builder| product(builder, false), |builder| product(builder, true))
    })
}

fn acc_dtype(builder: &KernelBuilder, acc: &Region) -> DType {
    builder.dtype_of(acc.tile)
}
