//! From statements to nodes: expressions compiled, instructions with their pipes and operands.

use std::collections::BTreeMap;

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Instr, Kernel, Machine, Opcode, Operand, Stmt, machine::GLOBAL, optable::Class};

use super::{Node, OperandCode, PipeKind, TileCode, Work};
use crate::{
    SimError,
    expr::{Expr, Names},
    memory::MemoryCode,
};

/// What is collected on the way.
pub(super) struct Compiler<'k> {
    pub kernel: &'k Kernel,
    pub machine: &'k Machine,
    pub pipes: Vec<PipeKind>,
    pub names: Names,
    /// How many values a grid or loop variable takes, by name.
    pub extents: BTreeMap<Symbol, Expr>,
    pub works: Vec<Work<'k>>,
    pub loops: usize,
}

impl<'k> Compiler<'k> {
    /// The nodes of a block.
    ///
    /// # Errors
    /// If a symbol is unbound, or an instruction runs nowhere.
    pub fn block(&mut self, body: &'k [Stmt]) -> Result<Vec<Node>, SimError> {
        body.iter().map(|stmt| self.stmt(stmt)).collect()
    }

    fn stmt(&mut self, stmt: &'k Stmt) -> Result<Node, SimError> {
        match stmt {
            Stmt::For { var, end, step, body } => {
                let end = self.names.expr(end)?;
                let step = (*step).max(1);
                let count = Expr::sum(step - 1, vec![(1, vec![end.clone()])]);
                self.extents.insert(var.clone(), Expr::FloorDiv(Box::new([count, Expr::Const(step)])));
                let last = self.names.range(&end).1.saturating_sub(1).max(0);
                let var = self.names.define_multiple(var, step, (0, last));
                let id = self.loops;
                self.loops += 1;
                Ok(Node::Loop { var, end, step, body: self.block(body)?, id, depends: Vec::new(), varies: false })
            }
            Stmt::If { condition, then, otherwise } => {
                let condition = self.names.expr(condition)?;
                Ok(Node::If { condition, then: self.block(then)?, otherwise: self.block(otherwise)? })
            }
            Stmt::Instr(instr) => self.instr(instr),
        }
    }

    fn pipe(&self, name: &str) -> Result<usize, SimError> {
        let found = self.pipes.iter().position(|pipe| pipe.name == name);
        found.ok_or_else(|| self.fault(format!("the machine has no pipe `{name}`")))
    }

    fn fault(&self, reason: String) -> SimError {
        SimError::Kernel { kernel: self.kernel.name.clone(), reason }
    }

    fn instr(&mut self, instr: &'k Instr) -> Result<Node, SimError> {
        match &instr.op {
            Opcode::SetEvent { from, to, event } => {
                Ok(Node::Set { from: self.pipe(from)?, to: self.pipe(to)?, event: self.names.expr(event)? })
            }
            Opcode::WaitEvent { from, to, event } => {
                Ok(Node::Wait { from: self.pipe(from)?, to: self.pipe(to)?, event: self.names.expr(event)? })
            }
            Opcode::Barrier { pipe } => Ok(Node::Barrier(pipe.as_deref().map(|name| self.pipe(name)).transpose()?)),
            _ => self.work(instr),
        }
    }

    fn work(&mut self, instr: &'k Instr) -> Result<Node, SimError> {
        let pipe = self.machine.pipe_of(self.kernel, instr).map_err(|reason| self.fault(reason))?;
        let pipe = self.pipe(pipe)?;
        let class = instr.op.row().class;
        let path = match class {
            Class::Move => {
                let path = self.machine.path_of(self.kernel, instr).map_err(|reason| self.fault(reason))?;
                self.machine.paths.iter().position(|other| std::ptr::eq(other, path))
            }
            _ => None,
        };
        let mut work = Work {
            instr,
            class,
            pipe,
            role: 0,
            path,
            label: label(self.kernel, instr),
            operands: Vec::new(),
            memory: Vec::new(),
            key: Vec::new(),
            scalar: None,
        };
        let destinations = instr.dst.iter().map(|operand| (operand, true));
        for (operand, written) in destinations.chain(instr.src.iter().map(|operand| (operand, false))) {
            let read = !written || instr.op.reads_destination();
            work.operands.push(self.operand(operand, written, read)?);
            if let Operand::Global(view) = operand {
                let indexed = matches!(class, Class::Gather | Class::Scatter);
                let code = MemoryCode::new(self.kernel, &self.names, view, written, read, indexed)?;
                work.memory.push(code);
            }
            if let Operand::Scalar(symbol, bound) = operand {
                let value = self.scalar(instr, bound)?;
                let (least, most) = self.names.range(&value);
                work.scalar = Some((self.names.define(symbol, (least.min(0), most.max(0))), value));
            }
        }
        let sizes = work.operands.iter().flat_map(|operand| &operand.size);
        let slots = work.operands.iter().filter_map(|operand| operand.tile.as_ref().map(|tile| &tile.slot));
        let shapes = work.memory.iter().flat_map(MemoryCode::shape);
        work.key = sizes.chain(slots).chain(shapes).filter(|expr| expr.constant().is_none()).cloned().collect();
        self.works.push(work);
        Ok(Node::Work(self.works.len() - 1))
    }

    fn operand(&self, operand: &Operand, written: bool, read: bool) -> Result<OperandCode, SimError> {
        let exprs = |dims: &[Dim]| dims.iter().map(|dim| self.names.expr(dim)).collect::<Result<Vec<_>, _>>();
        let bits = self.kernel.dtype_of(operand).map_or(0, |dtype| dtype.bits());
        match operand {
            Operand::Tile(region) => {
                let tile = self.kernel.tiles.get(region.tile.0 as usize);
                let tile = tile.ok_or_else(|| self.fault(format!("there is no tile {}", region.tile.0)))?;
                let elements = tile.layout.elements(&tile.shape).unwrap_or(0);
                let backing = self.machine.space(&tile.space).and_then(|space| space.backing.as_deref());
                let code = TileCode {
                    tile: region.tile,
                    slot: self.names.expr(&region.slot)?,
                    address: tile.address,
                    slot_bytes: tile.dtype.bytes_of(elements).unwrap_or(0),
                    backed: backing == Some(GLOBAL),
                };
                Ok(OperandCode { size: exprs(&region.size)?, tile: Some(code), bits, written, read })
            }
            Operand::Global(view) => Ok(OperandCode { size: exprs(&view.size)?, tile: None, bits, written, read }),
            Operand::Real(_) | Operand::Index(_) | Operand::Scalar(..) => Ok(OperandCode::default()),
        }
    }

    /// The value that a scalar is taken to have. Positions that match one of several numbers are taken to be spread evenly over
    /// these; anything else has its bound.
    fn scalar(&self, instr: &Instr, bound: &Dim) -> Result<Expr, SimError> {
        let bound = self.names.expr(bound)?;
        let (Opcode::SelectRows, Some(Operand::Index(wanted))) = (&instr.op, instr.src.get(1)) else {
            return Ok(bound);
        };
        let mut values = Vec::new();
        for symbol in wanted.symbols() {
            values.extend(self.extents.get(&symbol).cloned());
        }
        let mut values = Expr::sum(0, vec![(1, values)]);
        let range = wanted.range();
        if let Some(most) = range.high.checked_sub(range.low).and_then(|most| most.checked_add(1)) {
            values = Expr::Min(Box::new([values, Expr::Const(most)]));
        }
        let rounded = Expr::sum(-1, vec![(1, vec![bound.clone()]), (1, vec![values.clone()])]);
        let share = Expr::FloorDiv(Box::new([rounded, values]));
        Ok(Expr::Min(Box::new([share, bound])))
    }
}

/// `opcode destinations <- sources`, without sizes.
fn label(kernel: &Kernel, instr: &Instr) -> String {
    let name = |operand: &Operand| match operand {
        Operand::Tile(region) => {
            kernel.tiles.get(region.tile.0 as usize).map_or("?".into(), |t| format!("%{}", t.name))
        }
        Operand::Global(view) => {
            kernel.params.get(view.param.0 as usize).map_or("?".into(), |p| format!("@{}", p.name))
        }
        Operand::Real(value) => value.to_string(),
        Operand::Index(value) => format!("({value})"),
        Operand::Scalar(symbol, _) => symbol.name().to_owned(),
    };
    let list = |operands: &[Operand]| operands.iter().map(name).collect::<Vec<_>>().join(", ");
    format!("{} {} <- {}", instr.op, list(&instr.dst), list(&instr.src))
}
