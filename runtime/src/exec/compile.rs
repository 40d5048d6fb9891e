//! Decoding: from a kernel of the tile IR to flat code, once per kernel.

use std::collections::{BTreeMap, BTreeSet};

use tarsia_tensor::{DType, Dim, Symbol};
use tarsia_tile::{Instr, Kernel, Layout, Opcode, Operand as Ir, Region, Stmt, View};

use super::code::{Code, Op, OperandId, ParamCode, Pc};
use super::copy::encode;
use super::expr::{BOUND, Reg, Registers};
use super::nest::MAX_RANK;
use super::operand::{Blocked, Clip, ClipAxis, Form, Memory, Operand, PerAxis};

/// Where tiles begin: a multiple of this many bytes in each space.
const ALIGNMENT: usize = 64;

/// The code of a kernel.
///
/// # Errors
/// What is wrong with the kernel.
pub fn compile(kernel: &Kernel) -> Result<Code, String> {
    let mut registers = Registers::new();
    let symbols = outer_symbols(kernel);
    let symbols: Vec<(Symbol, Reg)> = symbols.into_iter().map(|s| (s.clone(), registers.define(&s, BOUND))).collect();
    let (tiles, slot_elements, scratch_bytes) = place(kernel)?;
    let mut compiler = Compiler {
        kernel,
        registers,
        ops: Vec::new(),
        operands: Vec::new(),
        tables: Vec::new(),
        slot_elements,
        pipes: Vec::new(),
    };
    let params = compiler.params()?;
    let item = compiler.registers.open();
    let mut grid = Vec::new();
    for (var, size) in &kernel.grid {
        let size = compiler.dim(size)?;
        grid.push((compiler.registers.define(var, item), size));
    }
    compiler.ops.push(Op::Calc(item));
    compiler.block(&kernel.body)?;
    let Compiler { registers, ops, operands, tables, .. } = compiler;
    let serial = params.iter().any(|param| param.written && param.dtype.bits() < 8);
    Ok(Code {
        name: kernel.name.clone(),
        origin: kernel.origin.clone(),
        ops,
        operands,
        tables,
        calcs: registers.finish(),
        symbols,
        grid,
        tiles,
        scratch_bytes,
        params,
        serial,
    })
}

/// The symbols that a kernel does not define itself.
fn outer_symbols(kernel: &Kernel) -> BTreeSet<Symbol> {
    let (mut used, mut own) = (BTreeSet::new(), BTreeSet::new());
    kernel.params.iter().flat_map(|param| &param.shape).for_each(|dim| dim.collect_symbols(&mut used));
    for (var, size) in &kernel.grid {
        own.insert(var.clone());
        size.collect_symbols(&mut used);
    }
    collect(&kernel.body, &mut used, &mut own);
    used.difference(&own).cloned().collect()
}

fn collect(body: &[Stmt], used: &mut BTreeSet<Symbol>, own: &mut BTreeSet<Symbol>) {
    for stmt in body {
        match stmt {
            Stmt::For { var, end, body, .. } => {
                own.insert(var.clone());
                end.collect_symbols(used);
                collect(body, used, own);
            }
            Stmt::If { condition, then, otherwise } => {
                condition.collect_symbols(used);
                collect(then, used, own);
                collect(otherwise, used, own);
            }
            Stmt::Instr(instr) => {
                instr.dst.iter().chain(&instr.src).for_each(|operand| collect_operand(operand, used, own))
            }
        }
    }
}

fn collect_operand(operand: &Ir, used: &mut BTreeSet<Symbol>, own: &mut BTreeSet<Symbol>) {
    let mut dim = |dim: &Dim| dim.collect_symbols(used);
    match operand {
        Ir::Tile(region) => region.offset.iter().chain(&region.size).chain([&region.slot]).for_each(dim),
        Ir::Global(view) => {
            view.size.iter().for_each(&mut dim);
            for axis in &view.axes {
                dim(&axis.start);
                axis.steps.iter().for_each(|(_, step)| dim(step));
            }
        }
        Ir::Real(_) => {}
        Ir::Index(index) => dim(index),
        Ir::Scalar(symbol, bound) => {
            own.insert(symbol.clone());
            bound.collect_symbols(used);
        }
    }
}

/// Offsets of tiles in one block of scratch memory, elements per slot, and the block's size in bytes. Tiles without an
/// address follow those that have one.
fn place(kernel: &Kernel) -> Result<(Vec<usize>, Vec<usize>, usize), String> {
    let too_large = |name: &str| format!("the tile `{name}` is larger than memory");
    let mut slots = Vec::new();
    let mut sizes = Vec::new();
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for tile in &kernel.tiles {
        let elements = tile.layout.elements(&tile.shape).ok_or_else(|| too_large(&tile.name))?;
        let bytes = tile.dtype.bytes_of(elements).ok_or_else(|| too_large(&tile.name))?;
        slots.push(if tile.dtype.bits() < 8 { bytes * (8 / tile.dtype.bits().max(1)) } else { elements });
        let total = bytes.checked_mul(tile.slots.max(1)).ok_or_else(|| too_large(&tile.name))?;
        sizes.push(total);
        let end = ends.entry(&tile.space).or_default();
        if let Some(address) = tile.address {
            if address % (tile.dtype.bits() / 8).max(1) != 0 {
                return Err(format!("the tile `{}` is not aligned to its elements", tile.name));
            }
            *end = (*end).max(address.checked_add(total).ok_or_else(|| too_large(&tile.name))?);
        }
    }
    let mut addresses = Vec::new();
    for (tile, size) in kernel.tiles.iter().zip(&sizes) {
        let end = ends.entry(&tile.space).or_default();
        addresses.push(match tile.address {
            Some(address) => address,
            None => {
                let address = end.checked_next_multiple_of(ALIGNMENT).ok_or_else(|| too_large(&tile.name))?;
                *end = address.checked_add(*size).ok_or_else(|| too_large(&tile.name))?;
                address
            }
        });
    }
    let mut bases: BTreeMap<&str, usize> = BTreeMap::new();
    let mut total = 0usize;
    for (space, size) in &ends {
        bases.insert(space, total);
        total = size
            .checked_next_multiple_of(ALIGNMENT)
            .and_then(|size| total.checked_add(size))
            .ok_or_else(|| too_large(space))?;
    }
    let tiles = kernel.tiles.iter().zip(addresses).map(|(tile, address)| bases[tile.space.as_str()] + address);
    Ok((tiles.collect(), slots, total))
}

struct Compiler<'a> {
    kernel: &'a Kernel,
    registers: Registers,
    ops: Vec<Op>,
    operands: Vec<Operand>,
    tables: Vec<Vec<ClipAxis>>,
    slot_elements: Vec<usize>,
    pipes: Vec<(&'a str, &'a str)>,
}

impl<'a> Compiler<'a> {
    fn dim(&mut self, dim: &Dim) -> Result<Reg, String> {
        self.registers.dim(dim).map_err(|symbol| format!("`{symbol}` is used where it is not defined"))
    }

    fn dims(&mut self, dims: &[Dim]) -> Result<PerAxis, String> {
        dims.iter().map(|dim| self.dim(dim)).collect()
    }

    fn params(&mut self) -> Result<Vec<ParamCode>, String> {
        let kernel = self.kernel;
        let mut params = Vec::new();
        for param in &kernel.params {
            if matches!(param.layout, Layout::Fractal(_)) && param.shape.len() != 2 {
                return Err(format!("the parameter `{}` is blocked but does not have two axes", param.name));
            }
            let elements = self.dim(&param.layout.symbolic_elements(&param.shape))?;
            let written = param.access != tarsia_tile::Access::Read;
            params.push(ParamCode { name: param.name.clone(), dtype: param.dtype, elements, written });
        }
        Ok(params)
    }

    fn here(&self) -> Pc {
        self.ops.len() as Pc
    }

    fn block(&mut self, body: &'a [Stmt]) -> Result<(), String> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &'a Stmt) -> Result<(), String> {
        match stmt {
            Stmt::For { var, end, step, body } => {
                if *step <= 0 {
                    return Err(format!("the loop over `{var}` does not advance"));
                }
                let end = self.dim(end)?;
                let scope = self.registers.open();
                let var = self.registers.define(var, scope);
                let enter = self.here();
                self.ops.push(Op::Loop { var, end, exit: 0 });
                let head = self.here();
                self.ops.push(Op::Calc(scope));
                self.block(body)?;
                self.ops.push(Op::Next { var, end, step: *step, head });
                self.ops[enter as usize] = Op::Loop { var, end, exit: self.here() };
            }
            Stmt::If { condition, then, otherwise } => {
                let condition = self.dim(condition)?;
                let branch = self.here();
                self.ops.push(Op::Branch { condition, otherwise: 0 });
                self.block(then)?;
                let jump = self.here();
                if !otherwise.is_empty() {
                    self.ops.push(Op::Jump(0));
                }
                self.ops[branch as usize] = Op::Branch { condition, otherwise: self.here() };
                if !otherwise.is_empty() {
                    self.block(otherwise)?;
                    self.ops[jump as usize] = Op::Jump(self.here());
                }
            }
            Stmt::Instr(instr) => {
                self.instr(instr).map_err(|reason| format!("`{}`: {reason}", instr.op))?;
            }
        }
        Ok(())
    }

    fn instr(&mut self, instr: &'a Instr) -> Result<(), String> {
        let row = instr.op.row();
        if (instr.dst.len(), instr.src.len()) != (row.dst.len(), row.src.len()) {
            return Err("the number of operands is wrong".to_owned());
        }
        let (dst, src) = (&instr.dst[..], &instr.src[..]);
        let op = match &instr.op {
            Opcode::Copy { rows } => {
                Op::Copy { dst: self.array(&dst[0])?, src: self.array(&src[0])?, rows: *rows as u32 }
            }
            Opcode::Fill => Op::Copy { dst: self.array(&dst[0])?, src: self.value(instr, 0)?, rows: 0 },
            Opcode::Iota { axis, step } => {
                Op::Iota { dst: self.array(&dst[0])?, start: self.integer(&src[0])?, axis: *axis as u32, step: *step }
            }
            Opcode::Unary(function) => {
                Op::Unary { function: *function, dst: self.array(&dst[0])?, a: self.value(instr, 0)? }
            }
            Opcode::Binary(function) => {
                let (a, b) = (self.value(instr, 0)?, self.value(instr, 1)?);
                Op::Binary { function: *function, dst: self.array(&dst[0])?, a, b }
            }
            Opcode::Select => {
                let (condition, a, b) = (self.value(instr, 0)?, self.value(instr, 1)?, self.value(instr, 2)?);
                Op::Select { dst: self.array(&dst[0])?, condition, a, b }
            }
            Opcode::MulAdd => {
                let (a, b, c) = (self.value(instr, 0)?, self.value(instr, 1)?, self.value(instr, 2)?);
                Op::MulAdd { dst: self.array(&dst[0])?, a, b, c }
            }
            Opcode::Mmad { accumulate } => {
                let (a, b) = (self.array(&src[0])?, self.array(&src[1])?);
                Op::Mmad { accumulate: *accumulate, dst: self.array(&dst[0])?, a, b }
            }
            Opcode::SetEvent { from, to, event } => return self.event(from, to, event, 1),
            Opcode::WaitEvent { from, to, event } => return self.event(from, to, event, -1),
            Opcode::Barrier { .. } => return Ok(()),
            _ => self.structured(instr)?,
        };
        self.ops.push(op);
        if let Op::SelectRows { .. } | Op::ReadScalar { .. } = op {
            let scope = self.registers.last_scope();
            self.ops.push(Op::Calc(scope));
        }
        Ok(())
    }

    /// Reductions, indexed accesses and the like.
    fn structured(&mut self, instr: &Instr) -> Result<Op, String> {
        let (dst, src) = (&instr.dst[..], &instr.src[..]);
        Ok(match &instr.op {
            Opcode::Reduce { function, axis, accumulate } => {
                let (dst, src) = (self.array(&dst[0])?, self.array(&src[0])?);
                if *function == tarsia_tensor::ReduceFn::Mean {
                    return Err("a mean is not a tile instruction".to_owned());
                }
                Op::Reduce { function: *function, axis: *axis as u32, accumulate: *accumulate, dst, src }
            }
            Opcode::ArgReduce { function, axis, last, accumulate } => {
                let (value, index) = (self.array(&dst[0])?, self.array(&dst[1])?);
                let (src, base) = (self.array(&src[0])?, self.integer(&src[1])?);
                let (function, last, accumulate) = (*function, *last, *accumulate);
                Op::ArgReduce { function, axis: *axis as u32, last, accumulate, value, index, src, base }
            }
            Opcode::Scan { function, axis, exclusive, reverse } => {
                let (dst, src, first) = (self.array(&dst[0])?, self.array(&src[0])?, self.value(instr, 1)?);
                let (function, exclusive, reverse) = (*function, *exclusive, *reverse);
                Op::Scan { function, axis: *axis as u32, exclusive, reverse, dst, src, first }
            }
            Opcode::Gather => {
                let (table, axes) = self.table(&src[0])?;
                Op::Gather { dst: self.array(&dst[0])?, table, axes, index: self.array(&src[1])? }
            }
            Opcode::Scatter { function } => {
                let (table, axes) = self.table(&dst[0])?;
                Op::Scatter { function: *function, table, axes, src: self.array(&src[0])?, index: self.array(&src[1])? }
            }
            Opcode::SelectRows => {
                let (dst0, src0) = (self.array(&dst[0])?, self.array(&src[0])?);
                let (equal, base) = (self.integer(&src[1])?, self.integer(&src[2])?);
                let (count, bound) = self.scalar(&dst[1])?;
                Op::SelectRows { dst: dst0, src: src0, equal, base, count, bound }
            }
            Opcode::ReadScalar => {
                let src = self.array(&src[0])?;
                let (to, bound) = self.scalar(&dst[0])?;
                Op::ReadScalar { src, to, bound }
            }
            Opcode::Sort { descending } => self.ordered(*descending, dst, src)?,
            Opcode::TopK { largest } => self.ordered(*largest, dst, src)?,
            Opcode::Random { normal, seed } => {
                let (normal, seed, dst) = (*normal, *seed, self.array(&dst[0])?);
                match &src[0] {
                    Ir::Tile(_) | Ir::Global(_) => Op::RandomAt { normal, seed, dst, src: self.array(&src[0])? },
                    start => Op::Random { normal, seed, dst, start: self.integer(start)? },
                }
            }
            other => return Err(format!("`{other}` has no decoding")),
        })
    }

    fn ordered(&mut self, descending: bool, dst: &[Ir], src: &[Ir]) -> Result<Op, String> {
        let (values, indices, src) = (self.array(&dst[0])?, self.array(&dst[1])?, self.array(&src[0])?);
        Ok(Op::Sort { descending, values, indices, src })
    }

    /// Pairs of signals and waits are followed in debug builds; otherwise program order is all there is.
    fn event(&mut self, from: &'a str, to: &'a str, event: &Dim, change: i8) -> Result<(), String> {
        if cfg!(debug_assertions) {
            let known = self.pipes.iter().position(|pair| *pair == (from, to));
            let pipes = known.unwrap_or(self.pipes.len());
            if known.is_none() {
                self.pipes.push((from, to));
            }
            let event = self.dim(event)?;
            self.ops.push(Op::Event { pipes: pipes as u32, event, change });
        }
        Ok(())
    }

    /// Opens the scope of a scalar: its register and that of its bound.
    fn scalar(&mut self, operand: &Ir) -> Result<(Reg, Reg), String> {
        let Ir::Scalar(symbol, bound) = operand else { return Err("a destination must be a scalar".to_owned()) };
        let bound = self.dim(bound)?;
        let scope = self.registers.open();
        Ok((self.registers.define(symbol, scope), bound))
    }

    fn integer(&mut self, operand: &Ir) -> Result<Reg, String> {
        match operand {
            Ir::Index(dim) => self.dim(dim),
            Ir::Real(value) => Ok(self.registers.constant(*value as i64)),
            _ => Err("an operand must be an immediate".to_owned()),
        }
    }

    /// Source `i`, an array or an immediate in the type of the others.
    fn value(&mut self, instr: &Instr, i: usize) -> Result<OperandId, String> {
        let operand = match &instr.src[i] {
            Ir::Real(value) => {
                let dtype = self.immediate_type(instr, i)?;
                Operand::Number(encode(dtype, *value), dtype)
            }
            Ir::Index(dim) => Operand::Index(self.dim(dim)?, self.immediate_type(instr, i)?),
            array => return self.array(array),
        };
        self.push(operand)
    }

    fn immediate_type(&self, instr: &Instr, i: usize) -> Result<DType, String> {
        let result = self.dtype(&instr.dst[0]);
        let others = || instr.src.iter().find_map(|operand| self.dtype(operand));
        let dtype = match &instr.op {
            Opcode::Select if i == 0 => Some(DType::Bool),
            op if op.is_predicate() => Some(others().unwrap_or(DType::F64)),
            _ => result,
        };
        dtype.ok_or_else(|| "an operand's tile or parameter does not exist".to_owned())
    }

    fn dtype(&self, operand: &Ir) -> Option<DType> {
        match operand {
            Ir::Tile(region) => self.kernel.tiles.get(region.tile.0 as usize).map(|tile| tile.dtype),
            Ir::Global(view) => self.kernel.params.get(view.param.0 as usize).map(|param| param.dtype),
            _ => None,
        }
    }

    fn push(&mut self, operand: Operand) -> Result<OperandId, String> {
        self.operands.push(operand);
        Ok((self.operands.len() - 1) as OperandId)
    }

    fn array(&mut self, operand: &Ir) -> Result<OperandId, String> {
        let memory = match operand {
            Ir::Tile(region) => self.region(region)?,
            Ir::Global(view) => self.view(view)?,
            _ => return Err("an operand must be a tile or a view".to_owned()),
        };
        if memory.size.len() > MAX_RANK {
            return Err(format!("an operand has more than {MAX_RANK} axes"));
        }
        if !memory.dtype.is_numeric() {
            return Err("strings are not data of tile instructions".to_owned());
        }
        self.push(Operand::Memory(memory))
    }

    fn region(&mut self, region: &Region) -> Result<Memory, String> {
        let kernel = self.kernel;
        let tile = kernel.tiles.get(region.tile.0 as usize).ok_or("an operand's tile does not exist")?;
        if region.offset.len() != tile.shape.len() || region.size.len() != tile.shape.len() {
            return Err(format!("the box in `{}` has another number of axes than the tile", tile.name));
        }
        let slot_elements = self.slot_elements[region.tile.0 as usize] as i64;
        let slot = self.dim(&region.slot)?;
        let per_slot = self.registers.constant(slot_elements);
        let start = self.registers.mul(slot, per_slot);
        let length = self.registers.constant(slot_elements.saturating_mul(tile.slots.max(1) as i64));
        let (offset, size) = (self.dims(&region.offset)?, self.dims(&region.size)?);
        let whole: Vec<Reg> = tile.shape.iter().map(|&size| self.registers.constant(size as i64)).collect();
        let strides = self.row_major(&whole);
        let mut memory = Memory {
            dtype: tile.dtype,
            pointer: region.tile.0,
            offset: start,
            stride: strides.iter().copied().collect(),
            size,
            length,
            form: Form::Strided,
        };
        match tile.layout {
            Layout::RowMajor => {
                let parts: Vec<Reg> = offset.iter().zip(&strides).map(|(&o, &s)| self.registers.mul(o, s)).collect();
                memory.offset = self.registers.sum(parts.into_iter().chain([start]));
            }
            Layout::Fractal(fractal) => {
                let [rows, columns] = whole[..] else {
                    return Err(format!("`{}` is blocked but no matrix", tile.name));
                };
                memory.form = Form::Blocked(Blocked { fractal, rows, columns, row: offset[0], column: offset[1] });
            }
        }
        Ok(memory)
    }

    fn row_major(&mut self, shape: &[Reg]) -> Vec<Reg> {
        let mut strides = vec![0; shape.len()];
        let mut step = self.registers.constant(1);
        for (stride, &size) in strides.iter_mut().zip(shape).rev() {
            *stride = step;
            step = self.registers.mul(step, size);
        }
        strides
    }

    /// The buffer axes of a view, with registers for starts, steps and extents.
    fn axes(&mut self, view: &View) -> Result<Vec<ClipAxis>, String> {
        let kernel = self.kernel;
        let param = kernel.params.get(view.param.0 as usize).ok_or("an operand's parameter does not exist")?;
        if view.axes.len() != param.shape.len() {
            return Err(format!("the view of `{}` has another number of axes than the parameter", param.name));
        }
        let mut axes = Vec::new();
        for (axis, extent) in view.axes.iter().zip(&param.shape) {
            let mut steps = smallvec::SmallVec::new();
            for (of, step) in &axis.steps {
                if *of >= view.size.len() {
                    return Err(format!("the view of `{}` steps along axis {of}, which it does not have", param.name));
                }
                steps.push((*of, self.dim(step)?));
            }
            axes.push(ClipAxis { start: self.dim(&axis.start)?, extent: self.dim(extent)?, steps });
        }
        Ok(axes)
    }

    fn view(&mut self, view: &View) -> Result<Memory, String> {
        let axes = self.axes(view)?;
        let kernel = self.kernel;
        let param = &kernel.params[view.param.0 as usize];
        let size = self.dims(&view.size)?;
        let zero = self.registers.constant(0);
        let length = self.dim(&param.layout.symbolic_elements(&param.shape))?;
        let mut memory = Memory {
            dtype: param.dtype,
            pointer: (kernel.tiles.len() + view.param.0 as usize) as u32,
            offset: zero,
            stride: smallvec::smallvec![zero; size.len()],
            size,
            length,
            form: Form::Strided,
        };
        if let Layout::Fractal(fractal) = param.layout {
            memory.form = self.blocked_view(view, &axes, fractal)?;
            return Ok(memory);
        }
        let extents: Vec<Reg> = axes.iter().map(|axis| axis.extent).collect();
        let strides = self.row_major(&extents);
        let mut offset = Vec::new();
        let mut parts: Vec<Vec<Reg>> = vec![Vec::new(); view.size.len()];
        for (axis, &stride) in axes.iter().zip(&strides) {
            offset.push(self.registers.mul(axis.start, stride));
            for &(of, step) in &axis.steps {
                parts[of].push(self.registers.mul(step, stride));
            }
        }
        memory.offset = self.registers.sum(offset);
        memory.stride = parts.into_iter().map(|parts| self.registers.sum(parts)).collect();
        if let Some(fill) = view.fill {
            memory.form = Form::Clipped(Box::new(Clip { fill: encode(param.dtype, fill), axes }));
        }
        Ok(memory)
    }

    /// A box of a blocked parameter: its two axes are those of the view.
    fn blocked_view(&mut self, view: &View, axes: &[ClipAxis], fractal: tarsia_tile::Fractal) -> Result<Form, String> {
        let plain =
            |i: usize| matches!(axes[i].steps[..], [(of, step)] if of == i && self.registers.known(step) == Some(1));
        if view.size.len() != 2 || !plain(0) || !plain(1) || view.fill.is_some() {
            return Err("a view of a blocked parameter must be a box of it".to_owned());
        }
        let (rows, columns) = (axes[0].extent, axes[1].extent);
        Ok(Form::Blocked(Blocked { fractal, rows, columns, row: axes[0].start, column: axes[1].start }))
    }

    /// A view that is indexed by data along its first axis.
    fn table(&mut self, operand: &Ir) -> Result<(OperandId, u32), String> {
        let Ir::Global(view) = operand else { return Err("the table must be a view of a parameter".to_owned()) };
        if view.fill.is_some() || view.size.is_empty() {
            return Err("the table must have an axis and no fill".to_owned());
        }
        let axes = self.axes(view)?;
        if !axes.iter().any(|axis| axis.steps.iter().any(|(of, _)| *of == 0)) {
            return Err("the table's first axis does not step along the parameter".to_owned());
        }
        let memory = self.view(view)?;
        if !matches!(memory.form, Form::Strided) {
            return Err("the table must not be blocked".to_owned());
        }
        self.tables.push(axes);
        Ok((self.push(Operand::Memory(memory))?, (self.tables.len() - 1) as u32))
    }
}
