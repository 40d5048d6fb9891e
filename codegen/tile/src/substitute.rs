//! Replacing symbols in statements.

use tarsia_tensor::{Dim, Symbol};

use crate::{Axis, Instr, Opcode, Operand, Region, Stmt, View};

/// What a symbol is replaced with; those without stay.
type Replace<'a> = &'a dyn Fn(&Symbol) -> Option<Dim>;

fn all(dims: &[Dim], replace: Replace) -> Vec<Dim> {
    dims.iter().map(|dim| dim.substitute(replace)).collect()
}

impl Stmt {
    /// The statement with symbols replaced everywhere they are read.
    pub fn substitute(&self, replace: Replace) -> Stmt {
        let block = |body: &[Stmt]| body.iter().map(|stmt| stmt.substitute(replace)).collect();
        match self {
            Stmt::For { var, end, step, body } => {
                Stmt::For { var: var.clone(), end: end.substitute(replace), step: *step, body: block(body) }
            }
            Stmt::If { condition, then, otherwise } => {
                Stmt::If { condition: condition.substitute(replace), then: block(then), otherwise: block(otherwise) }
            }
            Stmt::Instr(instr) => Stmt::Instr(instr.substitute(replace)),
        }
    }
}

impl Instr {
    /// The instruction with symbols replaced.
    pub fn substitute(&self, replace: Replace) -> Instr {
        let all = |operands: &[Operand]| operands.iter().map(|operand| operand.substitute(replace)).collect();
        Instr { op: self.op.substitute(replace), dst: all(&self.dst), src: all(&self.src) }
    }
}

impl Opcode {
    fn substitute(&self, replace: Replace) -> Opcode {
        match self {
            Opcode::SetEvent { from, to, event } => {
                Opcode::SetEvent { from: from.clone(), to: to.clone(), event: event.substitute(replace) }
            }
            Opcode::WaitEvent { from, to, event } => {
                Opcode::WaitEvent { from: from.clone(), to: to.clone(), event: event.substitute(replace) }
            }
            op => op.clone(),
        }
    }
}

impl Operand {
    /// The operand with symbols replaced.
    pub fn substitute(&self, replace: Replace) -> Operand {
        match self {
            Operand::Tile(Region { tile, slot, offset, size }) => Operand::Tile(Region {
                tile: *tile,
                slot: slot.substitute(replace),
                offset: all(offset, replace),
                size: all(size, replace),
            }),
            Operand::Global(View { param, axes, size, fill }) => {
                let axis = |axis: &Axis| Axis {
                    start: axis.start.substitute(replace),
                    steps: axis.steps.iter().map(|(at, step)| (*at, step.substitute(replace))).collect(),
                };
                let axes = axes.iter().map(axis).collect();
                Operand::Global(View { param: *param, axes, size: all(size, replace), fill: *fill })
            }
            Operand::Index(dim) => Operand::Index(dim.substitute(replace)),
            Operand::Scalar(symbol, bound) => Operand::Scalar(symbol.clone(), bound.substitute(replace)),
            Operand::Real(value) => Operand::Real(*value),
        }
    }
}
