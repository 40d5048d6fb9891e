//! Fractal tiles of the cube core and what device memory gives them and takes: a matrix is laid down in columns of fractals, run by run.

use tarsia_tensor::{DType, Dim};
use tarsia_tile::{Fractal, Layout, Operand, Order, Region, Tile, TileId, View};

use super::{
    Emitter, Missing, Result,
    array::{Array, Home, Piece, divisible},
    cube::hivm_space,
};

/// Rows of a fractal, in every layout of the cube core.
const ROWS: usize = 16;

impl Emitter<'_> {
    /// Device memory to a fractal tile: one `nd2nz` for a matrix, a loop where the rows lie in several axes.
    pub fn load_fractal(
        &mut self,
        to: &Region,
        tile: &Tile,
        fractal: Fractal,
        source: &Operand,
        rows: usize,
    ) -> Result<()> {
        if matches!(source, Operand::Global(view) if view.fill.is_some()) {
            return Err(Missing("a load into fractals that fills what lies outside".into()));
        }
        if let Operand::Global(view) = source
            && let Layout::Fractal(_) = self.param(view.param)?.layout
        {
            return self.load_packed(to, tile, fractal, view);
        }
        let array = self.array(source)?;
        if self.fractals(source).is_some() {
            return self.load_exchanged(to, tile, fractal, &array);
        }
        if array.space != "gm" || array.dtype != tile.dtype {
            return Err(Missing(format!("a fractal of {} from {} of {}", tile.dtype, array.space, array.dtype)));
        }
        let rows = if array.size.len() == 2 { 1 } else { rows };
        let groups = [(0..rows).collect::<Vec<_>>(), (rows..array.size.len()).collect()];
        let turned = self.turned(to.tile, fractal, &array, &groups);
        let stored = Stored::new(tile, turned)?;
        let [far, near] = if stored.turned { [&groups[1], &groups[0]] } else { [&groups[0], &groups[1]] };
        let missing = || Missing("a matrix whose rows are not consecutive elements".into());
        let near = Line::new(&array, near, stored.width).filter(Line::is_consecutive).ok_or_else(missing)?;
        let far = Line::new(&array, far, 1).ok_or_else(|| Missing("rows in several axes".into()))?;
        let (row0, column0) =
            if stored.turned { (&to.offset[1], &to.offset[0]) } else { (&to.offset[0], &to.offset[1]) };
        let to_base = self.fractal_base(to.tile, tile)?;
        self.nest(&Line::loops([&far, &near], &array), &mut |this, index| {
            let (rows, columns) = index.split_at(far.looped.len());
            let offset = array.offset.clone() + far.elements(rows, &array) + near.elements(columns, &array);
            let from =
                array.with(offset, vec![far.length.clone(), near.length.clone()], vec![far.step.clone(), Dim::ONE]);
            let at = (&(row0.clone() + far.place(rows)), &(column0.clone() + near.place(columns)));
            let target = stored.part(&to_base, &to.slot, at, &near.length, to.tile);
            let (from, target) = (this.piece(&from)?, this.piece(&target)?);
            this.w.line(&format!(
                "hivm.hir.nd2nz {{dst_continuous}} ins({} : {}) outs({} : {})",
                from.name, from.ty, target.name, target.ty
            ));
            Ok(())
        })
    }

    /// Columns of fractals that lie in device memory as they do in the tile: each is one run.
    fn load_packed(&mut self, to: &Region, tile: &Tile, fractal: Fractal, view: &View) -> Result<()> {
        let param = self.param(view.param)?.clone();
        let turned = fractal.inner == Order::N;
        if self.cube.turned.insert(to.tile, turned).is_some_and(|known| known != turned) {
            return Err(Missing(format!("`{}` row by row and column by column", tile.name)));
        }
        let ordered = |stored: [Dim; 2]| if turned { [stored[1].clone(), stored[0].clone()] } else { stored };
        let [start, size, shape] = [
            [self.in_turns(&view.axes[0].start), self.in_turns(&view.axes[1].start)],
            [view.size[0].clone(), view.size[1].clone()],
            [param.shape[0].clone(), param.shape[1].clone()],
        ]
        .map(ordered);
        let (rows, columns) = if turned { (1, 0) } else { (0, 1) };
        let unit = |axis: usize| matches!(view.axes[axis].steps.as_slice(), [(of, by)] if *of == axis && by.is(1));
        let stored = Stored::new(tile, turned)?;
        let expected = if turned { [stored.width, ROWS] } else { [ROWS, stored.width] };
        let same = param.layout == tile.layout && fractal.block == expected && param.dtype == tile.dtype;
        let aligned = divisible(&start[1], stored.width as i64);
        let aligned = aligned && divisible(&to.offset[columns], stored.width as i64);
        if !(same && unit(0) && unit(1) && aligned) {
            return Err(Missing(format!("a part of `{}` in {} as {}", param.name, param.layout, tile.layout)));
        }
        let width = Dim::from(stored.width);
        let (count, run) = (size[1].ceil_div(&width), size[0].clone() * width.clone());
        let pitch = shape[0].ceil_div(&Dim::from(ROWS)) * Dim::from(ROWS) * width.clone();
        let offset = start[1].floor_div(&width) * pitch.clone() + start[0].clone() * width;
        let far = Array {
            base: self.params[view.param.0 as usize].clone(),
            dtype: param.dtype,
            spelled: None,
            space: "gm".into(),
            offset,
            size: vec![count, run],
            step: vec![pitch, Dim::ONE],
            home: Home::Global(view.param),
        };
        let base = self.fractal_base(to.tile, tile)?;
        let at = stored.offset(&to.slot, (&to.offset[rows], &to.offset[columns]));
        let near = base.with(at, far.size.clone(), vec![Dim::from(stored.capacity * stored.width), Dim::ONE]);
        let (far, near) = (self.piece(&far)?, self.piece(&near)?);
        self.w.line(&format!("hivm.hir.load ins({} : {}) outs({} : {})", far.name, far.ty, near.name, near.ty));
        Ok(())
    }

    /// Columns of fractals that vector cores have laid down: each is one run.
    fn load_exchanged(&mut self, to: &Region, tile: &Tile, fractal: Fractal, array: &Array) -> Result<()> {
        let known = self.cube.turned.insert(to.tile, false);
        let stored = Stored::new(tile, false)?;
        let same = fractal.inner == Order::Z && fractal.block == [ROWS, stored.width] && array.dtype == tile.dtype;
        if known == Some(true) || !same || !divisible(&to.offset[1], stored.width as i64) {
            return Err(Missing(format!("columns of fractals as a part of `{}`", tile.name)));
        }
        let run = array.size[1].clone() * array.size[2].clone();
        let size = vec![array.size[0].clone(), run];
        let far = array.with(array.offset.clone(), size.clone(), vec![array.step[0].clone(), Dim::ONE]);
        let base = self.fractal_base(to.tile, tile)?;
        let at = stored.offset(&to.slot, (&to.offset[0], &to.offset[1]));
        let near = base.with(at, size, vec![Dim::from(stored.capacity * stored.width), Dim::ONE]);
        let (far, near) = (self.piece(&far)?, self.piece(&near)?);
        self.w.line(&format!("hivm.hir.load ins({} : {}) outs({} : {})", far.name, far.ty, near.name, near.ty));
        Ok(())
    }

    /// Only the product's macro sees how a tile lies, so it lies as the load can write it: rows are what is consecutive in memory.
    fn turned(&mut self, id: TileId, fractal: Fractal, array: &Array, groups: &[Vec<usize>; 2]) -> bool {
        if let Some(turned) = self.cube.turned.get(&id) {
            return *turned;
        }
        let width = 256 / array.dtype.bits();
        let consecutive = |group: &[usize]| Line::new(array, group, width).is_some_and(|line| line.is_consecutive());
        let declared = fractal.inner == Order::N;
        let turned = if consecutive(&groups[usize::from(!declared)]) { declared } else { !declared };
        self.cube.turned.insert(id, turned);
        turned
    }

    /// All copies of a fractal tile as one flat memref.
    fn fractal_base(&mut self, id: TileId, tile: &Tile) -> Result<Array> {
        let base = match self.cube.moved.get(&id).copied() {
            Some(address) => self.base_at(tile, address)?,
            None => self.tile_base(id)?,
        };
        Ok(Array {
            base,
            dtype: tile.dtype,
            spelled: None,
            space: hivm_space(&tile.space)?.to_owned(),
            offset: Dim::ZERO,
            size: Vec::new(),
            step: Vec::new(),
            home: Home::Tile(id),
        })
    }

    pub fn operand(&mut self, region: &Region) -> Result<(Piece, bool)> {
        let tile = self.tile(region.tile)?.clone();
        let turned = self.cube.turned.get(&region.tile).copied();
        let turned = turned.ok_or_else(|| Missing("an operand that was not loaded from device memory".into()))?;
        let stored = Stored::new(&tile, turned)?;
        let base = self.fractal_base(region.tile, &tile)?;
        let (at, size) = ((&region.offset[0], &region.offset[1]), (&region.size[0], &region.size[1]));
        let (at, size) = if stored.turned { ((at.1, at.0), (size.1, size.0)) } else { (at, size) };
        let part = stored.part(&base, &region.slot, at, size.1, region.tile);
        Ok((self.piece(&part)?, stored.turned))
    }

    /// The part of an accumulator that holds a product: columns of fractals as high as the product.
    pub fn accumulator(&mut self, region: &Region, size: &[Dim]) -> Result<Piece> {
        let tile = self.tile(region.tile)?.clone();
        let base = self.fractal_base(region.tile, &tile)?;
        let rows =
            self.product_rows(region).ok_or_else(|| Missing("an accumulator whose rows are not known".into()))?;
        let block = Dim::from(ROWS);
        let height = rows.ceil_div(&block);
        let capacity = tile.layout.elements(&tile.shape).unwrap_or(0);
        let pitch = height * Dim::from(ROWS * ROWS);
        let offset = region.slot.clone() * Dim::from(if tile.slots > 1 { capacity } else { 0 })
            + region.offset[1].floor_div(&block) * pitch.clone()
            + region.offset[0].clone() * block.clone();
        let size = vec![size[1].ceil_div(&block), size[0].ceil_div(&block), block.clone(), block.clone()];
        let step = vec![pitch, Dim::from(ROWS * ROWS), block, Dim::ONE];
        self.piece(&base.with(offset, size, step))
    }

    /// Rows of the product in a slot of an accumulator; where another expression names the slot, those of every slot if they are the same.
    fn product_rows(&self, region: &Region) -> Option<Dim> {
        let slots = self.cube.rows.get(&region.tile)?;
        let same = slots.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let found = slots.iter().find(|(slot, _)| *slot == region.slot).or(slots.last().filter(|_| same));
        found.map(|(_, rows)| rows.clone())
    }

    /// An accumulator to device memory.
    pub fn drain(&mut self, from: &Region, to: &Operand, rows: usize) -> Result<()> {
        let source = self.tile(from.tile)?.dtype;
        let array = self.array(to)?;
        let quantise = match (source, array.dtype) {
            (a, b) if a == b => "",
            (DType::F32, DType::F16) => ", pre_quant = #hivm.fixpipe_pre_quant_mode<F322F16>",
            (DType::F32, DType::BF16) => ", pre_quant = #hivm.fixpipe_pre_quant_mode<F322BF16>",
            (a, b) => return Err(Missing(format!("an accumulator of {a} written as {b}"))),
        };
        let rows = if array.size.len() == 2 { 1 } else { rows };
        let groups = [(0..rows).collect::<Vec<_>>(), (rows..array.size.len()).collect()];
        let missing = || Missing("a product written to elements that are not neighbours".into());
        let columns = Line::new(&array, &groups[1], ROWS).filter(Line::is_consecutive).ok_or_else(missing)?;
        let rows = Line::new(&array, &groups[0], 1).ok_or_else(|| Missing("rows in several axes".into()))?;
        self.nest(&Line::loops([&rows, &columns], &array), &mut |this, index| {
            let (row, column) = index.split_at(rows.looped.len());
            let mut part = from.clone();
            part.offset[0] = part.offset[0].clone() + rows.place(row);
            part.offset[1] = part.offset[1].clone() + columns.place(column);
            let offset = array.offset.clone() + rows.elements(row, &array) + columns.elements(column, &array);
            let size = [rows.length.clone(), columns.length.clone()];
            let target = array.with(offset, size.to_vec(), vec![rows.step.clone(), Dim::ONE]);
            let (source, target) = (this.accumulator(&part, &size)?, this.piece(&target)?);
            this.w.line(&format!(
                "hivm.hir.fixpipe {{dma_mode = #hivm.dma_mode<nz2nd>{quantise}}} ins({} : {}) outs({} : {})",
                source.name, source.ty, target.name, target.ty
            ));
            Ok(())
        })
    }
}

/// A fractal tile as HIVM sees it: columns of fractals of a matrix that lies row by row in memory, the tile's own or its transpose.
struct Stored {
    turned: bool,
    /// Elements of 32 bytes.
    width: usize,
    /// Rows that there is room for, whole fractals.
    capacity: usize,
    /// Elements of one copy.
    elements: usize,
    slots: usize,
}

impl Stored {
    fn new(tile: &Tile, turned: bool) -> Result<Stored> {
        let width = 256 / tile.dtype.bits();
        let (rows, columns) = if turned { (tile.shape[1], tile.shape[0]) } else { (tile.shape[0], tile.shape[1]) };
        let capacity = rows.next_multiple_of(ROWS);
        let elements = tile.layout.elements(&tile.shape).unwrap_or(0);
        if capacity * columns.next_multiple_of(width) > elements {
            return Err(Missing(format!("{} as rows of 32 bytes in the memory of `{}`", tile.dtype, tile.name)));
        }
        Ok(Stored { turned, width, capacity, elements, slots: tile.slots })
    }

    /// Columns of the stored matrix from a row on, as `[columns of fractals][fractals][16][32 bytes]`.
    fn part(&self, base: &Array, slot: &Dim, at: (&Dim, &Dim), columns: &Dim, tile: TileId) -> Array {
        let width = Dim::from(self.width);
        let (pitch, offset) = (Dim::from(self.capacity * self.width), self.offset(slot, at));
        // The templates of products take the room for rows, which is the pitch of columns, from the sizes.
        let size = vec![columns.ceil_div(&width), Dim::from(self.capacity / ROWS), Dim::from(ROWS), width.clone()];
        let step = vec![pitch, Dim::from(ROWS * self.width), width, Dim::ONE];
        Array { home: Home::Tile(tile), ..base.with(offset, size, step) }
    }

    /// Elements before a row and column.
    fn offset(&self, slot: &Dim, at: (&Dim, &Dim)) -> Dim {
        let width = Dim::from(self.width);
        let slot = if self.slots > 1 { slot.clone() * Dim::from(self.elements) } else { Dim::ZERO };
        slot + at.1.floor_div(&width) * Dim::from(self.capacity * self.width) + at.0.clone() * width
    }
}

/// Axes of an array as the rows or columns of a matrix: the last ones as a single axis, and loops over the others.
struct Line {
    /// Axes that are looped over, with the rows or columns that one step along each of them is.
    looped: Vec<(usize, Dim)>,
    /// Rows or columns of a turn.
    length: Dim,
    /// Elements from one to the next.
    step: Dim,
}

impl Line {
    /// `None` if a turn does not begin at a multiple of `block` rows or columns.
    fn new(array: &Array, axes: &[usize], block: usize) -> Option<Line> {
        let at_most_one = |axis: &usize| array.size[*axis].range().high <= 1;
        let (single, axes): (Vec<usize>, Vec<usize>) = axes.iter().partition(|axis| at_most_one(axis));
        // Such an axis may be empty, which its loop sees.
        let single = single.into_iter().filter(|&axis| !array.size[axis].is(1));
        let mut looped: Vec<(usize, Dim)> = single.map(|axis| (axis, Dim::ZERO)).collect();
        let start = (0..=axes.len()).find(|&start| one_axis(array, &axes[start..]).is_some())?;
        let (length, step) = one_axis(array, &axes[start..])?;
        let mut unit = length.clone();
        for &axis in axes[..start].iter().rev() {
            if !divisible(&unit, block as i64) {
                return None;
            }
            looped.push((axis, unit.clone()));
            unit = unit * array.size[axis].clone();
        }
        Some(Line { looped, length, step })
    }

    fn is_consecutive(&self) -> bool {
        self.step.is(1) || self.length.is(1)
    }

    /// Turns of the loops of two of them.
    fn loops(lines: [&Line; 2], array: &Array) -> Vec<Dim> {
        lines.iter().flat_map(|line| &line.looped).map(|(axis, _)| array.size[*axis].clone()).collect()
    }

    /// The row or column at which a turn begins.
    fn place(&self, index: &[Dim]) -> Dim {
        let parts = self.looped.iter().zip(index).map(|((_, unit), at)| unit.clone() * at.clone());
        parts.fold(Dim::ZERO, |sum, part| sum + part)
    }

    /// Elements before a turn's first.
    fn elements(&self, index: &[Dim], array: &Array) -> Dim {
        let parts = self.looped.iter().zip(index).map(|((axis, _), at)| array.step[*axis].clone() * at.clone());
        parts.fold(Dim::ZERO, |sum, part| sum + part)
    }
}

/// Axes as a single one: size and step.
pub fn one_axis(array: &Array, axes: &[usize]) -> Option<(Dim, Dim)> {
    let axes: Vec<usize> = axes.iter().copied().filter(|&axis| !array.size[axis].is(1)).collect();
    let follows = |pair: &[usize]| array.step[pair[0]] == array.step[pair[1]].clone() * array.size[pair[1]].clone();
    if !axes.windows(2).all(follows) {
        return None;
    }
    let size = Dim::product(axes.iter().map(|&axis| &array.size[axis]));
    Some((size, axes.last().map_or(Dim::ONE, |&axis| array.step[axis].clone())))
}
