//! The walk through a kernel's statements: what is for the other kind of core is left out.

use std::collections::BTreeSet;

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Instr, Kernel, Opcode, Operand, Stmt};

use super::{
    Core, Emitter, Result,
    kernel::core_of,
    sync::{split, visit},
};

impl Emitter<'_> {
    /// Statements, what is not for this core left out.
    pub fn block(&mut self, body: &[Stmt]) -> Result<()> {
        if self.core == Core::Cube {
            return self.cube_block(body);
        }
        let Some(guard) = self.guard.clone() else { return body.iter().try_for_each(|stmt| self.stmt(stmt)) };
        let mut rest = body;
        while let Some(first) = rest.first() {
            if self.has_cross(first) {
                self.stmt(first)?;
                rest = &rest[1..];
                continue;
            }
            let count = rest.iter().take_while(|stmt| !self.has_cross(stmt)).count();
            let (part, after) = rest.split_at(count);
            rest = after;
            if !part.iter().any(|stmt| self.concerns(stmt)) {
                continue;
            }
            self.w.open(&format!("scf.if {guard} {{"));
            self.guard = None;
            self.hazards.forget();
            let written = part.iter().try_for_each(|stmt| self.stmt(stmt));
            self.hazards.forget();
            self.guard = Some(guard.clone());
            self.w.close("}");
            written?;
        }
        Ok(())
    }

    /// Whether cores wait for each other in a statement.
    fn has_cross(&self, stmt: &Stmt) -> bool {
        let mut found = false;
        each_instr(std::slice::from_ref(stmt), &mut |instr| found |= self.is_exchanged(instr));
        visit(std::slice::from_ref(stmt), &mut |op| {
            if let Opcode::SetEvent { from, to, .. } | Opcode::WaitEvent { from, to, .. } = op {
                found |= matches!((split(from), split(to)), (Ok(a), Ok(b)) if a.0 != b.0);
            }
        });
        found
    }

    /// Whether this core has something to do in a statement.
    pub fn concerns(&self, stmt: &Stmt) -> bool {
        match stmt {
            Stmt::For { body, .. } => body.iter().any(|stmt| self.concerns(stmt)),
            Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).any(|stmt| self.concerns(stmt)),
            Stmt::Instr(instr) => match &instr.op {
                Opcode::SetEvent { from, .. } => split(from).is_ok_and(|(core, _)| core == self.core),
                Opcode::WaitEvent { to, .. } => split(to).is_ok_and(|(core, _)| core == self.core),
                Opcode::Barrier { .. } => true,
                _ if self.is_exchanged(instr) => true,
                _ => core_of(self.kernel, self.machine, instr).is_ok_and(|core| core == Some(self.core)),
            },
        }
    }

    pub fn stmt(&mut self, stmt: &Stmt) -> Result<()> {
        if !self.concerns(stmt) {
            return Ok(());
        }
        match stmt {
            Stmt::For { var, end, step, body } => {
                let name = self.w.open_for(end, *step)?;
                self.w.bind(var, name.clone());
                self.counted(var, &name, *step);
                self.hazards.forget();
                let written = self.block(body);
                self.hazards.forget();
                self.w.close("}");
                written
            }
            Stmt::If { condition, then, otherwise } => self.branch(condition, then, otherwise),
            Stmt::Instr(instr) => self.instr(instr),
        }
    }

    /// Gives the turns of a loop a symbol of their own, of which the loop's variable is a multiple.
    fn counted(&mut self, var: &Symbol, name: &str, step: i64) {
        if step == 1 {
            self.turns.remove(var);
            return;
        }
        let by = self.w.integer(step);
        let turn = self.w.value(&format!("arith.divui {name}, {by} : index"));
        // No variable of a program has such a name.
        let symbol = Symbol::new(&format!("{name} turn"));
        self.w.bind(&symbol, turn);
        self.turns.insert(var.clone(), Dim::symbol(symbol.name()) * Dim::from(step as usize));
    }

    /// An offset in which multiples are seen.
    pub fn in_turns(&self, offset: &Dim) -> Dim {
        offset.substitute(&|symbol: &Symbol| self.turns.get(symbol).cloned())
    }

    fn branch(&mut self, condition: &Dim, then: &[Stmt], otherwise: &[Stmt]) -> Result<()> {
        let (value, zero) = (self.w.index(condition)?, self.w.integer(0));
        let holds = self.w.value(&format!("arith.cmpi sgt, {value}, {zero} : index"));
        self.w.open(&format!("scf.if {holds} {{"));
        self.hazards.forget();
        self.block(then)?;
        if !otherwise.is_empty() {
            self.w.close("} else {");
            self.w.open_again();
            self.hazards.forget();
            self.block(otherwise)?;
        }
        self.hazards.forget();
        self.w.close("}");
        Ok(())
    }
}

pub fn each_instr(body: &[Stmt], see: &mut dyn FnMut(&Instr)) {
    for stmt in body {
        match stmt {
            Stmt::For { body, .. } => each_instr(body, see),
            Stmt::If { then, otherwise, .. } => {
                each_instr(then, see);
                each_instr(otherwise, see);
            }
            Stmt::Instr(instr) => see(instr),
        }
    }
}

/// The sizes that the kernel is given: every symbol that shapes and expressions name and the kernel does not define.
pub fn symbols(kernel: &Kernel) -> Vec<Symbol> {
    let (mut used, mut defined) = (BTreeSet::new(), BTreeSet::new());
    kernel.params.iter().flat_map(|param| &param.shape).for_each(|dim| dim.collect_symbols(&mut used));
    for (symbol, size) in &kernel.grid {
        defined.insert(symbol.clone());
        size.collect_symbols(&mut used);
    }
    if let Some(lanes) = &kernel.lanes {
        defined.insert(lanes.var.clone());
    }
    symbols_of(&kernel.body, &mut used, &mut defined);
    used.difference(&defined).cloned().collect()
}

fn symbols_of(body: &[Stmt], used: &mut BTreeSet<Symbol>, defined: &mut BTreeSet<Symbol>) {
    for stmt in body {
        match stmt {
            Stmt::For { var, end, body, .. } => {
                defined.insert(var.clone());
                end.collect_symbols(used);
                symbols_of(body, used, defined);
            }
            Stmt::If { condition, then, otherwise } => {
                condition.collect_symbols(used);
                symbols_of(then, used, defined);
                symbols_of(otherwise, used, defined);
            }
            Stmt::Instr(instr) => {
                if let Opcode::SetEvent { event, .. } | Opcode::WaitEvent { event, .. } = &instr.op {
                    event.collect_symbols(used);
                }
                for operand in instr.dst.iter().chain(&instr.src) {
                    match operand {
                        Operand::Tile(region) => {
                            let dims = region.offset.iter().chain(&region.size).chain([&region.slot]);
                            dims.for_each(|dim| dim.collect_symbols(used));
                        }
                        Operand::Global(view) => {
                            view.size.iter().for_each(|dim| dim.collect_symbols(used));
                            for axis in &view.axes {
                                axis.start.collect_symbols(used);
                                axis.steps.iter().for_each(|(_, dim)| dim.collect_symbols(used));
                            }
                        }
                        Operand::Index(dim) => dim.collect_symbols(used),
                        Operand::Scalar(symbol, bound) => {
                            defined.insert(symbol.clone());
                            bound.collect_symbols(used);
                        }
                        Operand::Real(_) => {}
                    }
                }
            }
        }
    }
}
