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

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Instr, Layout, Opcode, Operand, Region, Stmt, Tile, TileId, optable::Class};

use super::{Core, Emitter, Missing, Result, kernel::tile_bytes};

/// What the cube core's function knows while it is written.
#[derive(Default)]
pub struct Cube {
    /// For every operand tile, the tile region that it was loaded from.
    staged: BTreeMap<TileId, Region>,
    /// For every tile that products read, whether it holds the transpose of its matrix.
    pub turned: BTreeMap<TileId, bool>,
    /// Rows of the product that a slot of an accumulator holds.
    pub rows: BTreeMap<TileId, Vec<(Dim, Dim)>>,
    /// New addresses of the tiles that products read, which live longer here than in the program.
    pub moved: BTreeMap<TileId, usize>,
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

    /// The macro that loads both operands and multiplies.
    fn product(&mut self, product: &Instr, left: &Region, right: &Region, begins: Begin) -> Result<()> {
        let Operand::Tile(acc) = &product.dst[0] else { return Err(Missing("a product into device memory".into())) };
        if !acc.offset[0].is(0) {
            return Err(Missing("a product into lower rows of an accumulator".into()));
        }
        let (m, n, k) = (acc.size[0].clone(), acc.size[1].clone(), left.size[1].clone());
        let slots = self.cube.rows.entry(acc.tile).or_default();
        slots.retain(|(slot, _)| *slot != acc.slot);
        slots.push((acc.slot.clone(), m.clone()));
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
        let blocked = matches!(tile.layout, Layout::Fractal(fractal) if fractal.block != [1, 1]);
        let staged = hivm_space(&tile.space).is_ok_and(|space| space == "cbuf");
        blocked && staged
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
