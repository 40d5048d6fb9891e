//! The cube core: loads into fractal tiles, products, and the way out of the accumulators.
//!
//! HIVM has no instruction that loads an operand of the matrix unit: its macro `mmadL1` takes whole tiles of the memory before and
//! loads, multiplies and keeps order inside. So a load of an operand is only noted, a product names the noted tiles, and a loop that
//! walks along the depth of two tiles becomes one product:
//!
//! ```text
//! for k0 in 0..K step c { a <- A[.., k0 +: c]; b <- B[k0 +: c, ..]; acc (+)= a·b }   =>   mmadL1(A, B, k0 == 0)
//! ```
//!
//! Events between loading and multiplying vanish with the loads. An event that says that a tile has been read moves behind the last
//! product that reads it.

use std::collections::BTreeMap;

use tarsia_tensor::{DType, Dim, Symbol};
use tarsia_tile::{Fractal, Instr, Layout, Opcode, Operand, Order, Region, Stmt, Tile, TileId, View, optable::Class};

use super::{
    Core, Emitter, Missing, Result,
    array::{Array, Home, Piece},
    kernel::tile_bytes,
};

/// Rows of a fractal, in every layout of the cube core.
const ROWS: usize = 16;

/// What the cube core's function knows while it is written.
#[derive(Default)]
pub struct Cube {
    /// For every operand tile, the tile region that it was loaded from.
    staged: BTreeMap<TileId, Region>,
    /// For every tile that products read, whether it holds the transpose of its matrix.
    turned: BTreeMap<TileId, bool>,
    /// Rows of the product that an accumulator holds.
    rows: BTreeMap<TileId, Dim>,
    /// New addresses of the tiles that products read, which live longer here than in the program.
    moved: BTreeMap<TileId, usize>,
}

/// A product's first operand of a folded loop, its second one, and whether it begins the sum.
struct Folded<'k> {
    product: &'k Instr,
    left: Region,
    right: Region,
    begins: Begin,
}

/// When a product replaces what the accumulator holds.
#[derive(Clone)]
enum Begin {
    Always(bool),
    /// Where this is positive.
    When(Dim),
}

impl Emitter<'_> {
    /// Statements of the cube core.
    pub fn cube_block(&mut self, body: &[Stmt]) -> Result<()> {
        let mut late: BTreeMap<usize, Vec<&Instr>> = BTreeMap::new();
        for (at, stmt) in body.iter().enumerate() {
            match stmt {
                Stmt::Instr(instr) if self.is_read_event(instr) => match self.last_reader(body, at) {
                    Some(reader) => {
                        self.check_no_wait(body, at, reader, instr)?;
                        late.entry(reader).or_default().push(instr);
                    }
                    None => self.stmt(stmt)?,
                },
                stmt => match self.folded(stmt) {
                    Some(folded) => self.product(folded.product, &folded.left, &folded.right, folded.begins)?,
                    None => self.stmt(stmt)?,
                },
            }
            for instr in late.remove(&at).unwrap_or_default() {
                self.instr(instr)?;
            }
        }
        Ok(())
    }

    /// The pipe that loads operands, and that of the matrix unit.
    fn product_pipes(&self) -> (String, String) {
        let unit = self.machine.units(Class::Matrix).next();
        let matrix = unit.map(|unit| unit.pipe.clone()).unwrap_or_default();
        let feeds = self.machine.paths.iter().find(|path| self.is_operand_space(&path.to));
        (feeds.map(|path| path.pipe.clone()).unwrap_or_default(), matrix)
    }

    fn is_operand_space(&self, space: &str) -> bool {
        let roles = ["a", "b"];
        let rules = self
            .machine
            .units(Class::Matrix)
            .flat_map(|unit| roles.iter().filter_map(|role| unit.operand(role, false)));
        rules.into_iter().any(|rule| rule.spaces.iter().any(|name| name == space))
    }

    fn is_accumulator_space(&self, space: &str) -> bool {
        let mut rules = self.machine.units(Class::Matrix).filter_map(|unit| unit.operand("acc", true));
        rules.any(|rule| rule.spaces.iter().any(|name| name == space))
    }

    /// Whether an event is one between the macro's own pipes.
    pub fn is_inside_product(&self, from: &str, to: &str) -> bool {
        let (feed, matrix) = self.product_pipes();
        self.core == Core::Cube && [from, to].iter().all(|pipe| *pipe == feed || *pipe == matrix)
    }

    /// Whether an instruction says that operands have been read.
    fn is_read_event(&self, instr: &Instr) -> bool {
        let (feed, matrix) = self.product_pipes();
        matches!(&instr.op, Opcode::SetEvent { from, to, .. } if *from == feed && *to != matrix)
    }

    /// The operand tile that a statement loads, and from where.
    fn staging<'s>(&self, stmt: &'s Stmt) -> Option<(&'s Region, &'s Region)> {
        let Stmt::Instr(Instr { op: Opcode::Copy { .. }, dst, src }) = stmt else { return None };
        let (Some(Operand::Tile(to)), Some(Operand::Tile(from))) = (dst.first(), src.first()) else { return None };
        let tile = self.kernel.tiles.get(to.tile.0 as usize)?;
        self.is_operand_space(&tile.space).then_some((to, from))
    }

    /// The last statement of a block that multiplies with operands loaded before `at` in the block.
    fn last_reader(&self, body: &[Stmt], at: usize) -> Option<usize> {
        let mut loaded: Vec<TileId> = body[..at].iter().filter_map(|stmt| Some(self.staging(stmt)?.0.tile)).collect();
        let mut last = None;
        for (later, stmt) in body.iter().enumerate().skip(at + 1) {
            if multiplies_with(stmt, &loaded) {
                last = Some(later);
            }
            if let Some((to, _)) = self.staging(stmt) {
                loaded.retain(|tile| *tile != to.tile);
            }
        }
        last
    }

    /// An event can only move behind a product that does not come after the wait for it.
    fn check_no_wait(&self, body: &[Stmt], at: usize, reader: usize, set: &Instr) -> Result<()> {
        let Opcode::SetEvent { from, to, event } = &set.op else { return Ok(()) };
        let waits = |stmt: &Stmt| {
            matches!(stmt, Stmt::Instr(Instr { op: Opcode::WaitEvent { from: a, to: b, event: id }, .. })
                if a == from && b == to && id == event)
        };
        if body[at + 1..reader].iter().any(waits) {
            return Err(Missing("a product's operand whose memory is used again before the product".into()));
        }
        Ok(())
    }

    /// A loop along the depth of two tiles, or a branch between the first product of a sum and the others.
    fn folded<'k>(&self, stmt: &'k Stmt) -> Option<Folded<'k>> {
        match stmt {
            Stmt::If { .. } => {
                let (product, begins) = self.begin_of(stmt)?;
                let (left, right) = self.operands(product)?;
                Some(Folded { product, left, right, begins })
            }
            Stmt::For { var, end, step, body } => self.folded_loop(var, end, *step, body),
            Stmt::Instr(_) => None,
        }
    }

    fn operands(&self, product: &Instr) -> Option<(Region, Region)> {
        let part = |operand: &Operand| match operand {
            Operand::Tile(region) => self.cube.staged.get(&region.tile).cloned(),
            _ => None,
        };
        Some((part(product.src.first()?)?, part(product.src.get(1)?)?))
    }

    /// A product, or a branch between two that differ in whether they add.
    fn begin_of<'k>(&self, stmt: &'k Stmt) -> Option<(&'k Instr, Begin)> {
        match stmt {
            Stmt::Instr(instr) => match instr.op {
                Opcode::Mmad { accumulate } => Some((instr, Begin::Always(!accumulate))),
                _ => None,
            },
            Stmt::If { condition, then, otherwise } => match (then.as_slice(), otherwise.as_slice()) {
                ([Stmt::Instr(first)], [Stmt::Instr(other)]) => {
                    let kinds = (&first.op, &other.op);
                    let (Opcode::Mmad { accumulate: false }, Opcode::Mmad { accumulate: true }) = kinds else {
                        return None;
                    };
                    let same = first.dst == other.dst && first.src == other.src;
                    same.then_some((first, Begin::When(condition.clone())))
                }
                _ => None,
            },
            Stmt::For { .. } => None,
        }
    }

    fn folded_loop<'k>(&self, var: &Symbol, end: &Dim, step: i64, body: &'k [Stmt]) -> Option<Folded<'k>> {
        let (mut staged, mut product) = (self.cube.staged.clone(), None);
        let mut loaded = Vec::new();
        for stmt in body {
            if let Some((to, from)) = self.staging(stmt) {
                staged.insert(to.tile, from.clone());
                loaded.push(to.tile);
            } else if let Some(found) = self.begin_of(stmt) {
                if product.replace(found).is_some() {
                    return None;
                }
            } else if self.concerns(stmt) && !self.is_inner_event(stmt) {
                return None;
            }
        }
        let (product, begins) = product?;
        let part = |operand: Option<&Operand>| match operand {
            Some(Operand::Tile(region)) if loaded.contains(&region.tile) => staged.get(&region.tile).cloned(),
            _ => None,
        };
        let left = along(part(product.src.first())?, 1, var, end, step)?;
        let right = along(part(product.src.get(1))?, 0, var, end, step)?;
        let Some(Operand::Tile(acc)) = product.dst.first() else { return None };
        let free = |dim: &Dim| !dim.symbols().contains(var);
        if !acc.offset.iter().chain(&acc.size).chain([&acc.slot]).all(free) {
            return None;
        }
        let begins = match begins {
            Begin::Always(true) => return None,
            Begin::Always(false) => Begin::Always(false),
            Begin::When(condition) => Begin::When(at_start(&condition, var, step)?),
        };
        Some(Folded { product, left, right, begins })
    }

    fn is_inner_event(&self, stmt: &Stmt) -> bool {
        match stmt {
            Stmt::Instr(Instr {
                op: Opcode::SetEvent { from, to, .. } | Opcode::WaitEvent { from, to, .. }, ..
            }) => self.is_inside_product(from, to),
            _ => false,
        }
    }

    /// An instruction of the cube core.
    pub fn cube(&mut self, instr: &Instr, pipe: &str) -> Result<()> {
        if let Opcode::Mmad { accumulate } = instr.op {
            let missing = || Missing("operands that were not loaded here".into());
            let (left, right) = self.operands(instr).ok_or_else(missing)?;
            return self.product(instr, &left, &right, Begin::Always(!accumulate));
        }
        let Opcode::Copy { rows } = instr.op else { return Err(Missing(format!("`{}` on {pipe}", instr.op))) };
        if let Operand::Tile(to) = &instr.dst[0] {
            let tile = self.tile(to.tile)?.clone();
            if self.is_operand_space(&tile.space) {
                let Operand::Tile(from) = &instr.src[0] else {
                    return Err(Missing("an operand from device memory".into()));
                };
                self.cube.staged.insert(to.tile, from.clone());
                return Ok(());
            }
            if let Layout::Fractal(fractal) = tile.layout {
                return self.load_fractal(to, &tile, fractal, &instr.src[0], rows);
            }
        }
        match &instr.src[0] {
            Operand::Tile(from) if self.is_accumulator_space(&self.tile(from.tile)?.space) => {
                self.drain(&from.clone(), &instr.dst[0], rows)
            }
            _ => Err(Missing("this copy on the cube core".into())),
        }
    }

    /// Device memory to a fractal tile: one `nd2nz` for a matrix, a loop where the rows lie in several axes.
    fn load_fractal(
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
        let aligned = super::array::divisible(&start[1], stored.width as i64);
        if !(same && unit(0) && unit(1) && aligned && to.offset[columns].is(0)) {
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
        let at = stored.offset(&to.slot, (&to.offset[rows], &Dim::ZERO));
        let near = base.with(at, far.size.clone(), vec![Dim::from(stored.capacity * stored.width), Dim::ONE]);
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

    /// The macro that loads both operands and multiplies.
    fn product(&mut self, product: &Instr, left: &Region, right: &Region, begins: Begin) -> Result<()> {
        let Operand::Tile(acc) = &product.dst[0] else { return Err(Missing("a product into device memory".into())) };
        if !acc.offset[0].is(0) {
            return Err(Missing("a product into lower rows of an accumulator".into()));
        }
        let (m, n, k) = (acc.size[0].clone(), acc.size[1].clone(), left.size[1].clone());
        self.cube.rows.insert(acc.tile, m.clone());
        let (a, a_turned) = self.operand(left)?;
        let (b, b_turned) = self.operand(right)?;
        let c = self.accumulator(acc, &acc.size.clone())?;
        let begins = match begins {
            Begin::Always(value) => self.w.hoisted(&format!("arith.constant {value}")),
            Begin::When(condition) => {
                let (condition, zero) = (self.w.index(&condition)?, self.w.integer(0));
                self.w.value(&format!("arith.cmpi sgt, {condition}, {zero} : index"))
            }
        };
        let attributes: Vec<&str> = [(a_turned, "a_transpose"), (b_turned, "b_transpose")]
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| *name)
            .collect();
        let attributes = if attributes.is_empty() { String::new() } else { format!(" {{{}}}", attributes.join(", ")) };
        let (m, k, n) = (self.w.index(&m)?, self.w.index(&k)?, self.w.index(&n)?);
        self.w.line(&format!(
            "hivm.hir.mmadL1{attributes} ins({}, {}, {begins}, {m}, {k}, {n} : {}, {}, i1, index, index, index) outs({} : {})",
            a.name, b.name, a.ty, b.ty, c.name, c.ty
        ));
        Ok(())
    }

    fn operand(&mut self, region: &Region) -> Result<(Piece, bool)> {
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
    fn accumulator(&mut self, region: &Region, size: &[Dim]) -> Result<Piece> {
        let tile = self.tile(region.tile)?.clone();
        let base = self.fractal_base(region.tile, &tile)?;
        let rows = self
            .cube
            .rows
            .get(&region.tile)
            .cloned()
            .ok_or_else(|| Missing("an accumulator without a product".into()))?;
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

    /// An accumulator to device memory.
    fn drain(&mut self, from: &Region, to: &Operand, rows: usize) -> Result<()> {
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

    /// Gives the tiles that products read addresses of their own where the program lets them overlap: here they live on until the
    /// product.
    pub fn move_overlapping(&mut self) -> Result<()> {
        let sources: Vec<(usize, &Tile)> =
            self.kernel.tiles.iter().enumerate().filter(|(_, tile)| self.feeds_products(tile)).collect();
        let range = |tile: &Tile| (tile.address.unwrap_or(0), tile.address.unwrap_or(0) + tile_bytes(tile));
        let meet = |a: &Tile, b: &Tile| range(a).0 < range(b).1 && range(b).0 < range(a).1;
        let overlap = sources.iter().enumerate().any(|(at, (_, a))| sources[at + 1..].iter().any(|(_, b)| meet(a, b)));
        if !overlap {
            return Ok(());
        }
        let (mut next, mut moved) = (0, BTreeMap::new());
        for (at, tile) in sources {
            moved.insert(TileId(at as u32), next);
            next += tile_bytes(tile).next_multiple_of(512);
            let bytes = self.machine.space(&tile.space).map_or(0, |space| space.bytes as usize);
            if next > bytes {
                return Err(Missing(format!(
                    "{next} bytes of {} for tiles that live until the product; there are {bytes}",
                    tile.space
                )));
            }
        }
        self.cube.moved = moved;
        Ok(())
    }

    fn feeds_products(&self, tile: &Tile) -> bool {
        let operand = self.is_operand_space(&tile.space) || self.is_accumulator_space(&tile.space);
        let blocked = matches!(tile.layout, Layout::Fractal(fractal) if fractal.block != [1, 1]);
        blocked && !operand && tile.space != self.workspace_space
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

/// HIVM's name of a memory of the cube core.
pub fn hivm_space(space: &str) -> Result<&'static str> {
    Ok(match space {
        "l1" => "cbuf",
        "l0a" => "ca",
        "l0b" => "cb",
        "l0c" => "cc",
        "ub" => "ub",
        _ => return Err(Missing(format!("the memory `{space}`"))),
    })
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
            if !super::array::divisible(&unit, block as i64) {
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
fn one_axis(array: &Array, axes: &[usize]) -> Option<(Dim, Dim)> {
    let axes: Vec<usize> = axes.iter().copied().filter(|&axis| !array.size[axis].is(1)).collect();
    let follows = |pair: &[usize]| array.step[pair[0]] == array.step[pair[1]].clone() * array.size[pair[1]].clone();
    if !axes.windows(2).all(follows) {
        return None;
    }
    let size = Dim::product(axes.iter().map(|&axis| &array.size[axis]));
    Some((size, axes.last().map_or(Dim::ONE, |&axis| array.step[axis].clone())))
}

/// Whether a statement multiplies with one of these operand tiles.
fn multiplies_with(stmt: &Stmt, tiles: &[TileId]) -> bool {
    match stmt {
        Stmt::For { body, .. } => body.iter().any(|stmt| multiplies_with(stmt, tiles)),
        Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).any(|stmt| multiplies_with(stmt, tiles)),
        Stmt::Instr(instr) => {
            let reads = |operand: &Operand| matches!(operand, Operand::Tile(region) if tiles.contains(&region.tile));
            matches!(instr.op, Opcode::Mmad { .. }) && instr.src.iter().any(reads)
        }
    }
}

/// A region that a loop walks along one axis, as the region that it covers in all.
fn along(region: Region, axis: usize, var: &Symbol, end: &Dim, step: i64) -> Option<Region> {
    let (factor, base) = region.offset[axis].linear_in(var)?;
    let rest = end.clone() - Dim::symbol(var.name());
    let size = &region.size[axis];
    let cut = *size == Dim::Const(step).minimum(&rest);
    let whole = size.is(step) && super::array::divisible(end, step);
    let free = |dim: &Dim| !dim.symbols().contains(var);
    let others =
        region.offset.iter().zip(&region.size).enumerate().all(|(at, (a, b))| at == axis || free(a) && free(b));
    if !(factor.is(1) && (cut || whole) && others && free(&region.slot)) {
        return None;
    }
    let mut all = region;
    all.offset[axis] = base;
    all.size[axis] = end.clone();
    Some(all)
}

/// The condition of the first turn, if it can hold in no other: it falls by at least as much per turn as it can be above zero.
fn at_start(condition: &Dim, var: &Symbol, step: i64) -> Option<Dim> {
    let (factor, rest) = condition.linear_in(var)?;
    let falls = factor.as_const().filter(|&factor| factor < 0)?.checked_mul(-step)?;
    (rest.range().high <= falls).then_some(rest)
}
