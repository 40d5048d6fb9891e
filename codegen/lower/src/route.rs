//! Routing: every operand gets to where its unit takes it.
//!
//! ```text
//! mmad c <- a, b                 t0 (l1)  <- a     a data path, or a chain of them through other spaces
//!                         ──►    t1 (l0a) <- t0
//!                                mmad c <- t1, …
//! ```
//! An instruction that its unit takes as it is stays. Of several units the one with the cheapest moves is taken, of several chains of
//! paths the cheapest. Nothing here knows a machine: spaces, layouts and paths are those of the description.

use tarsia_tensor::{BinaryFn, DType, Dim};
use tarsia_tile::{
    Instr, Kernel, Layout, Machine, Opcode, Operand, Region, Stmt, Tile, TileId, View,
    machine::{End, GLOBAL, OperandRule, Scope, Transfer, Unit},
    optable::{Class, Role},
    verify::access_transforms,
};

/// Inserts moves until every instruction can run.
///
/// # Errors
/// If no unit computes an instruction, or no data paths bring an operand there; says which.
pub(crate) fn route(kernel: &mut Kernel, machine: &Machine) -> Result<(), String> {
    let body = std::mem::take(&mut kernel.body);
    kernel.body = Router { kernel, machine }.block(body)?;
    Ok(())
}

struct Router<'k, 'm> {
    kernel: &'k mut Kernel,
    machine: &'m Machine,
}

/// An array as routing sees it.
#[derive(Clone)]
struct Shape {
    size: Vec<Dim>,
    capacity: Vec<usize>,
}

impl Router<'_, '_> {
    fn block(&mut self, body: Vec<Stmt>) -> Result<Vec<Stmt>, String> {
        let mut routed = Vec::with_capacity(body.len());
        for stmt in body {
            match stmt {
                Stmt::Instr(instr) => self.instr(instr, &mut routed)?,
                Stmt::For { var, end, step, body } => {
                    routed.push(Stmt::For { var, end, step, body: self.block(body)? });
                }
                Stmt::If { condition, then, otherwise } => {
                    let (then, otherwise) = (self.block(then)?, self.block(otherwise)?);
                    routed.push(Stmt::If { condition, then, otherwise });
                }
            }
        }
        Ok(routed)
    }

    fn instr(&mut self, instr: Instr, out: &mut Vec<Stmt>) -> Result<(), String> {
        let class = instr.op.row().class;
        let Err(complaint) = (match class {
            Class::Sync => Ok(()),
            _ => self.machine.pipe_of(self.kernel, &instr).map(|_| ()),
        }) else {
            return self.as_it_is(instr, out);
        };
        match (class, &instr.op) {
            (Class::Move, Opcode::Copy { rows }) => {
                let (dst, src) = (single(&instr.dst)?, single(&instr.src)?);
                self.carry(dst, src, *rows, out)
            }
            _ => self.staged(&instr, complaint, out),
        }
    }

    /// An instruction that can run as it is; a copy still goes another way where that is faster than the one path that does all of it.
    fn as_it_is(&mut self, instr: Instr, out: &mut Vec<Stmt>) -> Result<(), String> {
        if let (Opcode::Copy { rows }, [dst], [src]) = (&instr.op, instr.dst.as_slice(), instr.src.as_slice())
            && self.machine.has_concurrent_pipes()
            && self.shape(dst).is_ok()
            && self.shape(src).is_ok()
        {
            let begin = (self.kernel.tiles.len(), out.len());
            match self.carry(dst.clone(), src.clone(), *rows, out) {
                Ok(()) => return Ok(()),
                Err(_) => {
                    self.kernel.tiles.truncate(begin.0);
                    out.truncate(begin.1);
                }
            }
        }
        out.push(Stmt::Instr(instr));
        Ok(())
    }

    /// Runs an instruction on copies of the operands that its unit does not take where they are.
    fn staged(&mut self, instr: &Instr, complaint: String, out: &mut Vec<Stmt>) -> Result<(), String> {
        let units: Vec<Unit> = self.units(instr).into_iter().cloned().collect();
        let mut best: Option<(f64, Vec<Stmt>, Kernel)> = None;
        let mut reason = complaint;
        for unit in units {
            // Try it on a copy of the declarations, to see what it costs.
            let declarations = Kernel { body: Vec::new(), ..self.kernel.clone() };
            let mut attempt = Vec::new();
            let result = self.on_unit(instr, &unit, &mut attempt);
            let tried = std::mem::replace(self.kernel, declarations);
            match result {
                Ok(cycles) if best.as_ref().is_none_or(|(least, ..)| cycles < *least) => {
                    best = Some((cycles, attempt, tried));
                }
                Ok(_) => {}
                Err(why) => reason = why,
            }
        }
        let (_, stmts, declarations) = best.ok_or(reason)?;
        *self.kernel = declarations;
        out.extend(stmts);
        Ok(())
    }

    /// The units that compute an instruction, wherever its operands are.
    fn units(&self, instr: &Instr) -> Vec<&Unit> {
        let class = instr.op.row().class;
        let dtype = |operand: &Operand| self.dtype(operand);
        let computes = |unit: &&Unit| match class {
            Class::Matrix => {
                let types = [instr.dst.first(), instr.src.first(), instr.src.get(1)].map(|o| o.and_then(dtype));
                unit.products.iter().any(|product| types == [Some(product.acc), Some(product.a), Some(product.b)])
            }
            _ => {
                let function = instr.op.function();
                let computed = tarsia_tile::verify::compute_type(self.kernel, instr);
                computed.is_some_and(|dtype| unit.rate(class, function, dtype).is_some())
            }
        };
        self.machine.units(class).filter(computes).collect()
    }

    /// The instruction with its operands where `unit` takes them. Gives the cycles of all moves.
    fn on_unit(&mut self, instr: &Instr, unit: &Unit, out: &mut Vec<Stmt>) -> Result<f64, String> {
        let row = instr.op.row();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut moved = Instr { op: instr.op.clone(), dst: Vec::new(), src: Vec::new() };
        for (role, operand) in row.src.iter().zip(&instr.src) {
            let place = self.place(unit, role, operand, false)?;
            if let Some(place) = &place {
                self.carry(place.clone(), operand.clone(), 1, &mut before)?;
            }
            moved.src.push(place.unwrap_or_else(|| operand.clone()));
        }
        for (role, operand) in row.dst.iter().zip(&instr.dst) {
            let place = self.place(unit, role, operand, true)?;
            if let Some(place) = &place {
                if instr.op.reads_destination() && self.carry(place.clone(), operand.clone(), 1, &mut before).is_err() {
                    return self.added(instr, out);
                }
                self.carry(operand.clone(), place.clone(), 1, &mut after)?;
            }
            moved.dst.push(place.unwrap_or_else(|| operand.clone()));
        }
        let cycles = self.cycles(&before) + self.cycles(&after);
        out.append(&mut before);
        out.push(Stmt::Instr(moved));
        out.append(&mut after);
        Ok(cycles)
    }

    /// An accumulating product whose unit cannot be given what is there already: the product by itself, then a sum.
    fn added(&mut self, instr: &Instr, out: &mut Vec<Stmt>) -> Result<f64, String> {
        let (Opcode::Mmad { .. }, [dst]) = (&instr.op, instr.dst.as_slice()) else {
            return Err(format!("nothing brings the destination of `{}` to its unit", instr.op));
        };
        let shape = self.shape(dst)?;
        let dtype = self.dtype(dst).ok_or("a product into no array")?;
        let (space, layout) = self.home(dst);
        let product = self.tile(&space, layout, dtype, &shape);
        let alone =
            Instr { op: Opcode::Mmad { accumulate: false }, dst: vec![product.clone()], src: instr.src.clone() };
        let mut stmts = Vec::new();
        self.instr(alone, &mut stmts)?;
        let sum = Instr { op: Opcode::Binary(BinaryFn::Add), dst: vec![dst.clone()], src: vec![dst.clone(), product] };
        self.instr(sum, &mut stmts)?;
        let cycles = self.cycles(&stmts);
        out.append(&mut stmts);
        Ok(cycles)
    }

    /// A new tile where `unit` takes this operand; `None` if it takes the operand where it is.
    fn place(&mut self, unit: &Unit, role: &Role, operand: &Operand, written: bool) -> Result<Option<Operand>, String> {
        let Some(dtype) = self.dtype(operand) else { return Ok(None) };
        let rule = unit.operand(role.name, written);
        let rule = rule.ok_or_else(|| format!("unit `{}` has no operand `{}`", unit.name, role.name))?;
        let (space, layout) = self.home(operand);
        if rule.allows(&space, &layout, dtype) {
            return Ok(None);
        }
        let scratch = |rule: &OperandRule| {
            let core = |name: &&String| self.machine.space(name).is_some_and(|space| space.scope == Scope::Core);
            rule.spaces.iter().find(core).cloned()
        };
        let (Some(space), Some(layout)) = (scratch(rule), rule.preferred_layout(dtype)) else {
            return Err(format!("unit `{}` takes `{}` from no scratch space in {dtype}", unit.name, role.name));
        };
        let shape = self.shape(operand)?;
        Ok(Some(self.tile(&space, layout, dtype, &shape)))
    }

    /// `dst = src` by the cheapest data paths.
    fn carry(&mut self, dst: Operand, src: Operand, rows: usize, out: &mut Vec<Stmt>) -> Result<(), String> {
        let (to, from) = (self.end(&dst)?, self.end(&src)?);
        let (target, source) = (self.shape_beside(&dst, &src)?, self.shape_beside(&src, &dst)?);
        let fractal = |end: &End| matches!(end.layout, Layout::Fractal(_));
        let transfer = Transfer {
            spread: target.size.len() == source.size.len()
                && target.size.iter().zip(&source.size).any(|(to, from)| from.is(1) && !to.is(1)),
            matrix: target.size.len() == 2 || source.size.len() == 2,
            plane: target.size.len() == 2 && source.size.len() == 2,
            elements: target.capacity.iter().fold(1usize, |n, &side| n.saturating_mul(side)),
            from,
            to,
        };
        let machine = self.machine;
        let hops = machine.transfer(&transfer).map_err(|e| e.to_string())?;
        let Some((_, between)) = hops.split_last() else { return Err("a transfer of no steps".into()) };
        let mut current = src;
        for hop in between {
            // Fractals have the axes of the end that is one, other tiles those of the end that is none.
            let wide = if hop.spread { &target } else { &source };
            let shape = match (hop.layout, fractal(&transfer.from), fractal(&transfer.to)) {
                (Layout::Fractal(_), true, false) | (Layout::RowMajor, false, true) => &source,
                (Layout::Fractal(_), false, true) | (Layout::RowMajor, true, false) => &target,
                (Layout::Fractal(_), ..) if source.size.len() != target.size.len() => {
                    if source.size.len() == 2 {
                        &source
                    } else {
                        &target
                    }
                }
                _ => wide,
            };
            let mut shape = shape.clone();
            if let (Layout::RowMajor, Layout::Fractal(fractal)) = (hop.layout, transfer.to.layout)
                && let Some(row) = shape.capacity.last_mut()
            {
                // Rows that become rows of fractals begin as these do.
                *row = row.next_multiple_of(fractal.block[1]);
            }
            let next = self.tile(&hop.path.to, hop.layout, hop.dtype, &shape);
            let rows = self.rows_of(&next, &current, rows);
            out.push(copy(next.clone(), current, rows));
            current = next;
        }
        let rows = self.rows_of(&dst, &current, rows);
        out.push(copy(dst, current, rows));
        Ok(())
    }

    /// How many axes of what is copied are rows: one from fractals to fractals.
    fn rows_of(&self, dst: &Operand, src: &Operand, rows: usize) -> usize {
        let matrix = |operand: &Operand| matches!(self.home(operand).1, Layout::Fractal(_));
        if matrix(dst) && matrix(src) { 1 } else { rows }
    }

    fn end(&self, operand: &Operand) -> Result<End, String> {
        let dtype = self.dtype(operand).ok_or("an operand is no array")?;
        let (space, layout) = self.home(operand);
        let access = access_transforms(operand, &layout);
        Ok(End { space, layout, dtype, access })
    }

    fn dtype(&self, operand: &Operand) -> Option<DType> {
        match operand {
            Operand::Tile(region) => self.kernel.tiles.get(region.tile.0 as usize).map(|tile| tile.dtype),
            Operand::Global(view) => self.kernel.params.get(view.param.0 as usize).map(|param| param.dtype),
            _ => None,
        }
    }

    /// Space and layout of an array.
    fn home(&self, operand: &Operand) -> (String, Layout) {
        match operand {
            Operand::Tile(region) => {
                let tile = &self.kernel.tiles[region.tile.0 as usize];
                (tile.space.clone(), tile.layout)
            }
            Operand::Global(view) => (GLOBAL.to_owned(), self.kernel.params[view.param.0 as usize].layout),
            _ => (GLOBAL.to_owned(), Layout::RowMajor),
        }
    }

    /// Sizes of an array, and how large they can get.
    fn shape(&self, operand: &Operand) -> Result<Shape, String> {
        let bound = |size: &Dim| usize::try_from(size.range().high.max(1)).ok().filter(|&n| n < 1 << 32);
        match operand {
            Operand::Tile(Region { tile, size, .. }) => {
                let room = &self.kernel.tiles[tile.0 as usize].shape;
                let capacity = size.iter().zip(room).map(|(size, &room)| bound(size).unwrap_or(room).min(room));
                Ok(Shape { size: size.clone(), capacity: capacity.collect() })
            }
            Operand::Global(View { size, .. }) => {
                let unbounded = |size: &Dim| format!("a tile for {size} elements of device memory has no bound");
                let capacity = size.iter().map(|size| bound(size).ok_or_else(|| unbounded(size)));
                Ok(Shape { size: size.clone(), capacity: capacity.collect::<Result<_, String>>()? })
            }
            _ => Err("an operand is no array".into()),
        }
    }

    /// The shape of one end of a copy. A view without bounds holds no more than the tile of the same sizes at the other end.
    fn shape_beside(&self, operand: &Operand, other: &Operand) -> Result<Shape, String> {
        let Err(unbounded) = self.shape(operand) else { return self.shape(operand) };
        match (operand, self.shape(other)) {
            (Operand::Global(view), Ok(shape)) if view.size == shape.size => Ok(shape),
            _ => Err(unbounded),
        }
    }

    /// A new tile; a fractal has the first axis as rows and the others together as columns.
    fn tile(&mut self, space: &str, layout: Layout, dtype: DType, shape: &Shape) -> Operand {
        let Shape { mut size, mut capacity } = shape.clone();
        if matches!(layout, Layout::Fractal(_)) && size.len() != 2 {
            let rest = size.split_off(size.len().min(1));
            size.push(Dim::product(&rest));
            let rest = capacity.split_off(capacity.len().min(1));
            capacity.push(rest.iter().fold(1usize, |n, &side| n.saturating_mul(side)));
        }
        let id = TileId(self.kernel.tiles.len() as u32);
        let (name, space) = (format!("t{}", id.0), space.to_owned());
        self.kernel.tiles.push(Tile { name, space, dtype, shape: capacity, layout, slots: 1, address: None });
        Operand::Tile(Region::at_origin(id, size))
    }

    /// Cycles of the moves among some statements.
    fn cycles(&self, stmts: &[Stmt]) -> f64 {
        let bytes = |operand: &Operand| {
            let elements = self.shape(operand).map_or(0, |shape| shape.capacity.iter().product::<usize>());
            elements * self.dtype(operand).map_or(0, |dtype| dtype.bits()) / 8
        };
        let cost = |stmt: &Stmt| match stmt {
            Stmt::Instr(Instr { op: Opcode::Copy { .. }, dst, src }) => {
                let (to, from) = (self.home(&dst[0]).0, self.home(&src[0]).0);
                self.machine.path(&from, &to, &[]).map_or(0.0, |path| self.machine.path_cycles(path, bytes(&dst[0])))
            }
            _ => 0.0,
        };
        stmts.iter().map(cost).sum()
    }
}

fn copy(dst: Operand, src: Operand, rows: usize) -> Stmt {
    Stmt::Instr(Instr { op: Opcode::Copy { rows }, dst: vec![dst], src: vec![src] })
}

fn single(operands: &[Operand]) -> Result<Operand, String> {
    operands.first().cloned().ok_or_else(|| "a copy takes two arrays".to_owned())
}
