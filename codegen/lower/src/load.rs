//! Operands of matrix products on their way to the unit's stage.

use std::cell::OnceCell;

use rustc_hash::FxHashMap;
use tarsia_graph::{Graph, Op, Type, Value, access::Index};
use tarsia_tensor::{DType, Dim, Symbol};
use tarsia_tile::{
    Layout, Opcode, Operand, Region, TileId, View,
    machine::{GLOBAL, Transform},
    verify::access_transforms,
};

use crate::{
    builder::KernelBuilder,
    deal::{deal_pieces, dealt_axis, lanes, piece_of, room},
    emit::{Emitter, Leaf, Span},
    kept::Kept,
    nest::Nest,
    ring::{COPIES, Ring, copy_of},
};

/// A copy of a tile of the stage that has as many as a ring; the first load that fills it makes the tile.
#[derive(Clone)]
pub(crate) struct Staged<'a> {
    pub tile: &'a OnceCell<TileId>,
    pub slot: Dim,
}

/// An operand that is to be brought to its stage, as a matrix.
#[derive(Clone)]
pub(crate) struct Load<'a> {
    pub body: &'a Graph,
    pub nest: &'a Nest,
    pub leaves: &'a FxHashMap<Value, Leaf>,
    pub value: Value,
    pub index: &'a [Index],
    /// What is read where the index leaves the value.
    pub fill: Option<f64>,
    /// Left operand 0, right operand 1.
    pub which: usize,
    /// The groups that are rows and columns.
    pub rows: &'a [usize],
    pub columns: &'a [usize],
    /// The element type in the stage.
    pub dtype: DType,
    /// What to fill, if several loads fill it.
    pub staged: Option<Staged<'a>>,
    /// How many chunks were brought before, where what comes through the exchange space is to use its copies in turn.
    pub turn: Option<Dim>,
    /// What stays in the exchange space for several items.
    pub kept: Option<&'a Kept>,
}

impl Load<'_> {
    /// The operand over a box in its stage.
    pub fn stage(&self, builder: &mut KernelBuilder, spans: &[Span]) -> Result<Region, String> {
        let space = builder.target.stages[self.which].clone().ok_or("the unit has no stage")?;
        let (rows, dtype) = (self.rows, self.dtype);
        let (height, width) = (extent(rows, spans), extent(self.columns, spans));
        let size = vec![height.0, width.0];
        let stage = |builder: &mut KernelBuilder, transposed: bool| {
            let layout = builder.target.stage_layout(&space, dtype, transposed);
            let shape = vec![height.1, width.1];
            let (tile, slot) = match &self.staged {
                Some(Staged { tile, slot }) => {
                    (*tile.get_or_init(|| builder.copies(&space, dtype, shape, layout, COPIES)), slot.clone())
                }
                None => (builder.tile(&space, dtype, shape, layout), Dim::ZERO),
            };
            Region { slot, ..Region::at_origin(tile, size.clone()) }
        };
        let op = Opcode::Copy { rows: rows.len() };
        let axes: Vec<usize> = rows.iter().chain(self.columns).copied().collect();
        let source = self.loadable(builder, spans, &axes)?;
        let joined = if source.is_none() { self.joined(builder, spans, &axes)? } else { None };
        if let (Some(kept), Some(turn)) = (self.kept, &self.turn)
            && joined.is_none()
            && let straight = source.clone().filter(|source| !turned(source))
            && (straight.is_some() || kept.is_whole())
            && let Some(ring) = self.ring(builder)
        {
            let staged = stage(builder, false);
            kept.stage(builder, (self, &ring, turn), (&axes, spans), (&staged, straight))?;
            return Ok(staged);
        }
        if let Some(source) = source {
            let staged = stage(builder, turned(&source));
            builder.instr(op, vec![Operand::Tile(staged.clone())], vec![source]);
            return Ok(staged);
        }
        if let Some(parts) = joined {
            let staged = stage(builder, turned(&parts[0].source));
            for Joined { source, axis, offset, size } in parts {
                let mut part = staged.clone();
                (part.offset[axis], part.size[axis]) = (offset, size);
                builder.instr(op.clone(), vec![Operand::Tile(part)], vec![source]);
            }
            return Ok(staged);
        }
        let staged = stage(builder, false);
        match builder.target.exchange.is_some() {
            true => self.computed(builder, (&axes, spans), staged.clone())?,
            false => self.bring(builder, (&axes, spans), &staged)?,
        }
        Ok(staged)
    }

    /// Fills the stage with what vector cores compute and put into the exchange space: there they are a chunk ahead.
    fn computed(
        &self,
        builder: &mut KernelBuilder,
        (axes, spans): (&[usize], &[Span]),
        staged: Region,
    ) -> Result<(), String> {
        let turn = self.turn.as_ref();
        let ring = turn.and_then(|turn| Some((self.ring(builder)?, copy_of(turn))));
        let copies = if ring.is_some() { COPIES } else { 1 };
        let mut whole = self.exchanged(builder, (axes, spans), copies)?;
        if let Some((ring, slot)) = &ring {
            whole.slot = slot.clone();
            ring.take(builder, slot);
        }
        self.bring(builder, (axes, spans), &whole)?;
        if let Some((ring, slot)) = &ring {
            ring.pass(builder, slot);
        }
        self.take(builder, staged, whole);
        if let Some((ring, slot)) = &ring {
            ring.free(builder, slot);
        }
        Ok(())
    }

    /// Moves what is in the exchange space to the stage.
    pub fn take(&self, builder: &mut KernelBuilder, staged: Region, exchanged: Region) {
        let fractal = matches!(builder.layout_of(exchanged.tile), Layout::Fractal(_));
        let op = Opcode::Copy { rows: if fractal { 1 } else { self.rows.len() } };
        builder.instr(op, vec![Operand::Tile(staged)], vec![Operand::Tile(exchanged)]);
    }

    /// A tile for the operand in the exchange space, of which there are so many copies: in the layout of its stage, if vector cores can lay
    /// it down so, since then it is moved there in long runs.
    pub fn exchanged(
        &self,
        builder: &mut KernelBuilder,
        (axes, spans): (&[usize], &[Span]),
        copies: usize,
    ) -> Result<Region, String> {
        let target = builder.target;
        let exchange = target.exchange.as_deref().ok_or("nothing is exchanged")?;
        let stage = target.stages[self.which].as_deref().unwrap_or_default();
        let layout = target.stage_layout(stage, self.dtype, false);
        let allows = |space: &str| target.machine.space(space).is_some_and(|space| space.allows(&layout, self.dtype));
        let whole = self.dealt_granule(builder, (axes, spans), &layout).is_some();
        if allows(exchange) && allows(&target.vector_space) && whole {
            let (height, width) = (extent(self.rows, spans), extent(self.columns, spans));
            let tile = builder.copies(exchange, self.dtype, vec![height.1, width.1], layout, copies);
            return Ok(Region::at_origin(tile, vec![height.0, width.0]));
        }
        let (size, capacity): (Vec<Dim>, Vec<usize>) =
            axes.iter().map(|&group| (spans[group].size.clone(), spans[group].capacity)).unzip();
        let tile = builder.aligned_copies(exchange, self.dtype, capacity, copies);
        Ok(Region::at_origin(tile, size))
    }

    /// The steps in which rows of an operand are dealt out to vector cores so that every share and piece is whole blocks of a layout; `None`
    /// if they cannot be, or something else than rows is dealt out.
    fn dealt_granule(
        &self,
        builder: &KernelBuilder,
        (axes, spans): (&[usize], &[Span]),
        layout: &Layout,
    ) -> Option<usize> {
        let Layout::Fractal(fractal) = layout else { return None };
        let axis = dealt_axis(axes, 1, spans, &|group| !self.nest.is_whole(group));
        let Side { axis: side, outer, inner } = self.side_of(axis);
        let (size, row) = extent(&inner[1..], spans);
        let granule = (1..=fractal.block[0]).find(|granule| (granule * row).is_multiple_of(fractal.block[0]))?;
        let capacity = spans[axes[axis]].capacity;
        let share = capacity.div_ceil(lanes(builder, capacity));
        let whole = share.is_multiple_of(granule) && size.is(row as i64);
        (side == 0 && extent(&outer, spans).1 <= 1 && whole).then_some(granule)
    }

    fn side_of(&self, axis: usize) -> Side {
        let side = usize::from(axis >= self.rows.len());
        let (outer, inner) = [self.rows, self.columns][side].split_at(axis - side * self.rows.len());
        Side { axis: side, outer: outer.to_vec(), inner: inner.to_vec() }
    }

    /// The signals of what vector cores put into the exchange space.
    fn ring(&self, builder: &mut KernelBuilder) -> Option<Ring> {
        let stage = builder.target.stages[self.which].clone()?;
        let (vectors, exchange) = (builder.target.vector_space.clone(), builder.target.exchange.clone()?);
        Ring::through(builder, &vectors, &exchange, &stage)
    }

    /// Has the vector cores compute the operand, each its share, and lay it down in a tile: of its axes, or as a matrix of fractals.
    pub fn bring(
        &self,
        builder: &mut KernelBuilder,
        (axes, spans): (&[usize], &[Span]),
        whole: &Region,
    ) -> Result<(), String> {
        let cuttable = |group: usize| !self.nest.is_whole(group);
        let layout = builder.layout_of(whole.tile);
        let fractal = matches!(layout, Layout::Fractal(_));
        // A piece of fractals begins at a block, whatever its rows are made of.
        let (granule, axis) = match builder.target.exchange.is_some() {
            true => {
                let granule = self.dealt_granule(builder, (axes, spans), &layout).unwrap_or(1);
                (granule, dealt_axis(axes, 1, spans, &cuttable))
            }
            false => {
                let granule = block_side(builder, whole);
                (granule, dealt_axis(axes, granule, spans, &cuttable))
            }
        };
        let room = room(builder);
        deal_pieces(builder, (axes, axis), granule, room, spans, |builder, spans, place| {
            let source = self.vectors(builder, spans.clone(), axes)?;
            if !fractal {
                builder.copy(Operand::Tile(piece_of(whole, axes, &spans, place)), source);
                return Ok(());
            }
            let Side { axis, outer, inner } = self.side_of(place.axis);
            if extent(&outer, &spans).1 > 1 {
                return Err("a computed operand whose outer axis must not be cut".into());
            }
            let mut part = whole.clone();
            part.offset[axis] = place.offset * extent(&inner[1..], &spans).0;
            part.size[axis] = extent(&inner, &spans).0;
            let op = Opcode::Copy { rows: self.rows.len() };
            builder.instr(op, vec![Operand::Tile(part)], vec![source]);
            Ok(())
        })
    }

    /// The operand's place in device memory, if it is there element for element.
    fn as_it_lies(
        &self,
        builder: &mut KernelBuilder,
        spans: &[Span],
        axes: &[usize],
    ) -> Result<Option<Operand>, String> {
        let mut emitter = Emitter::over(builder, self.body, self.nest, self.leaves, spans.to_vec(), axes.to_vec());
        let source = match self.fill {
            Some(fill) => emitter.filled(self.value, self.index, fill).ok(),
            None => emitter.raw(self.value, self.index)?,
        };
        let Some(source) = source else { return Ok(None) };
        // What is the same along an axis is repeated on its way.
        let Operand::Global(view) = &source else { return Ok(None) };
        let whole = view.size == emitter.whole().0;
        Ok((whole && builder.param_of(view.param).dtype == self.dtype).then_some(source))
    }

    /// The operand's place in device memory, if a path brings it to its stage as it is.
    fn loadable(&self, builder: &mut KernelBuilder, spans: &[Span], axes: &[usize]) -> Result<Option<Operand>, String> {
        let Some(source) = self.as_it_lies(builder, spans, axes)? else { return Ok(None) };
        let Operand::Global(view) = &source else { return Ok(None) };
        let mut needed = access_transforms(&source, &Layout::RowMajor);
        needed.push(Transform::Layout);
        let target = builder.target;
        let stage = target.stages[self.which].as_deref().unwrap_or_default();
        let path = target.machine.path(GLOBAL, stage, &needed);
        let param = builder.param_of(view.param);
        let in_runs = match target.stage_layout(stage, self.dtype, false) {
            Layout::Fractal(fractal) if target.exchange.is_some() => {
                in_runs(view, &param.shape, self.rows.len(), fractal.block[1])
            }
            _ => true,
        };
        Ok((path.is_some() && in_runs).then_some(source))
    }

    /// The parts of an operand that is a joining along a whole axis of it, if each is loaded from device memory as it is and begins at a
    /// block of the stage's layout.
    fn joined(
        &self,
        builder: &mut KernelBuilder,
        spans: &[Span],
        axes: &[usize],
    ) -> Result<Option<Vec<Joined>>, String> {
        let node = &self.body[self.value.node];
        let Op::Concat { axis: along } = node.op else { return Ok(None) };
        let is_whole = |&group: &usize| self.nest.depends(&self.index[along..=along], group);
        let sides = [self.rows, self.columns].map(|groups| groups.iter().copied().filter(is_whole).collect::<Vec<_>>());
        let (axis, group) = match (sides[0].as_slice(), sides[1].as_slice()) {
            ([group], []) if self.rows.len() == 1 => (0, *group),
            ([], [group]) if self.columns.len() == 1 => (1, *group),
            _ => return Ok(None),
        };
        let stage = builder.target.stages[self.which].clone().ok_or("the unit has no stage")?;
        let block = builder.target.stage_block(&stage, self.dtype);
        let operands = self.body.operands(self.value.node);
        let types: Vec<&Type> = operands.iter().map(|&operand| self.body.ty(operand)).collect();
        let indices = self.nest.operand_indices(node, &types, self.index).map_err(|o| format!("{o:?}"))?;
        let mut parts = Vec::new();
        let mut offset = 0;
        for ((&value, ty), index) in operands.iter().zip(&types).zip(&indices) {
            let Some(size) = ty.shape[along].as_usize() else { return Ok(None) };
            let mut spans = spans.to_vec();
            spans[group] = Span { start: Dim::from(offset), size: Dim::from(size), capacity: size };
            let part = Load { value, index, ..self.clone() };
            let (true, Some(source)) = (offset % block == 0, part.loadable(builder, &spans, axes)?) else {
                return Ok(None);
            };
            parts.push(Joined { source, axis, offset: Dim::from(offset), size: Dim::from(size) });
            offset += size;
        }
        let alike = parts.windows(2).all(|pair| turned(&pair[0].source) == turned(&pair[1].source));
        Ok((alike && !parts.is_empty()).then_some(parts))
    }

    /// The operand over a box, in the vectors' memory or as it is in device memory.
    fn vectors(&self, builder: &mut KernelBuilder, spans: Vec<Span>, axes: &[usize]) -> Result<Operand, String> {
        if self.fill.is_none()
            && let Some(source) = self.as_it_lies(builder, &spans, axes)?
        {
            return Ok(source);
        }
        let mut emitter = Emitter::over(builder, self.body, self.nest, self.leaves, spans, axes.to_vec());
        let source = match self.fill {
            Some(fill) => emitter.shifted(self.value, self.index, Some(fill))?,
            None => emitter.value(self.value, self.index)?,
        };
        // The stage holds whole matrices.
        let whole = emitter.whole();
        Ok(emitter.repeated(source, self.body.ty(self.value).dtype, whole))
    }
}

/// A side of an operand's matrix: 0 for rows, 1 for columns; the groups outside of the one that is dealt out, and that one with those inside.
struct Side {
    axis: usize,
    outer: Vec<usize>,
    inner: Vec<usize>,
}

/// A part of a joined operand: where it is in device memory, and in the stage along which axis.
struct Joined {
    source: Operand,
    axis: usize,
    offset: Dim,
    size: Dim,
}

/// Whether an operand lies transposed in device memory.
fn turned(source: &Operand) -> bool {
    access_transforms(source, &Layout::RowMajor).contains(&Transform::Transpose)
}

/// Whether the rows or the columns of a matrix in device memory are runs that begin at blocks of its stage: a path lays down runs, not
/// elements.
fn in_runs(view: &View, shape: &[Dim], rows: usize, width: usize) -> bool {
    let unit = |axis: usize| Dim::product(&shape[axis + 1..]);
    let step = |of: usize| {
        let steps = view.axes.iter().enumerate().flat_map(|(axis, at)| at.steps.iter().map(move |step| (axis, step)));
        steps
            .filter(|(_, (along, _))| *along == of)
            .fold(Dim::ZERO, |sum, (axis, (_, by))| sum + by.clone() * unit(axis))
    };
    let whole_blocks = |dim: &Dim| dim.exact_div(&Dim::from(width)).is_some();
    let is_run = |axes: std::ops::Range<usize>| {
        let (mut length, mut ended) = (Dim::ONE, false);
        for axis in axes.rev().filter(|&axis| view.size[axis].range().high > 1) {
            ended |= step(axis) != length;
            if ended && !whole_blocks(&length) {
                return false;
            }
            length = length * view.size[axis].clone();
        }
        true
    };
    is_run(0..rows) || is_run(rows..view.size.len())
}

/// The part of an axis from `start`; all parts are whole where the size is a multiple.
pub(crate) fn part_of(size: &Dim, start: Dim, part: usize) -> Span {
    let whole = size.as_usize().is_some_and(|size| size.is_multiple_of(part));
    let left = size.clone() - start.clone();
    let length = if whole { Dim::from(part) } else { left.minimum(&Dim::from(part)) };
    Span { start, size: length, capacity: part }
}

/// Spans of a block of at most `room` elements over some groups, whole groups from the innermost out: what is cut becomes a grid axis, of
/// which the variable of the longest is given. Groups outside of a cut one are a single index.
pub(crate) fn cut_block(
    builder: &mut KernelBuilder,
    nest: &Nest,
    groups: &[usize],
    mut room: usize,
    spans: &mut [Span],
) -> Option<Symbol> {
    let mut cut = None;
    for &group in groups.iter().rev() {
        let size = nest.size(group);
        let part = builder.target.estimate(&size).unwrap_or(room).clamp(1, room.max(1));
        if size.as_usize() == Some(part) {
            spans[group] = Span { start: Dim::ZERO, size, capacity: part };
            room /= part;
            continue;
        }
        let place = builder.grid(size.ceil_div(&Dim::from(part)));
        if part == 1 {
            spans[group] = Span::point(place);
            continue;
        }
        // An outer axis can only be taken along if the inner ones are whole or a single index.
        room = 1;
        cut = place.as_symbol().cloned();
        spans[group] = part_of(&size, place * Dim::from(part), part);
    }
    cut
}

/// Size and capacity of some groups together.
pub(crate) fn extent(groups: &[usize], spans: &[Span]) -> (Dim, usize) {
    groups.iter().fold((Dim::ONE, 1usize), |(size, capacity), &group| {
        (size * spans[group].size.clone(), capacity.saturating_mul(spans[group].capacity))
    })
}

/// The longer side of a block of a tile's layout.
pub(crate) fn block_side(builder: &KernelBuilder, region: &Region) -> usize {
    match builder.layout_of(region.tile) {
        Layout::Fractal(fractal) => fractal.block[0].max(fractal.block[1]),
        Layout::RowMajor => 1,
    }
}
