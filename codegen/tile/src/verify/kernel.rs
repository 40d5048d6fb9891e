//! One kernel: its declarations, then its statements in order, with what is known at each of them.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};
use tarsia_tensor::{Dim, Symbol};

use super::{
    BindCheck, Report, Stage, place,
    prove::{Context, Variable},
    sync,
};
use crate::{
    Access, Instr, Kernel, Lanes, Layout, Machine, Opcode, Operand, Param, ParamId, Region, Stmt, Tile, machine::Space,
    text::part,
};

/// Statements nested deeper than this are refused.
const DEPTH: usize = 64;
/// More checks than this are left to no one.
const CHECKS: usize = 20_000;

/// The state of checking one kernel.
pub(super) struct Check<'k, 'r> {
    pub kernel: &'k Kernel,
    pub machine: Option<(&'k Machine, Stage)>,
    pub context: Context,
    pub report: &'r mut Report,
    /// Number of faults before the current instruction.
    pub faults_before: usize,
    /// Goals already proven, and how much was known then.
    proven: FxHashMap<Dim, (usize, usize)>,
    /// Tiles that a statement has written so far.
    written: Vec<bool>,
    variables: FxHashSet<Symbol>,
    /// Names that may stand in expressions: symbols of the program and variables in scope.
    known: FxHashSet<Symbol>,
}

/// Checks a kernel; `symbols` are those of the program.
pub(super) fn kernel(
    kernel: &Kernel,
    machine: Option<(&Machine, Stage)>,
    symbols: &BTreeSet<Symbol>,
    report: &mut Report,
) {
    let before = report.faults.len();
    let mut check = Check {
        kernel,
        machine,
        context: Context::default(),
        report,
        faults_before: 0,
        proven: FxHashMap::default(),
        written: vec![false; kernel.tiles.len()],
        variables: FxHashSet::default(),
        known: symbols.iter().cloned().collect(),
    };
    check.declarations();
    for (var, size) in &kernel.grid {
        check.report.path.push(part::GRID);
        check.dim(size);
        check.declare(var);
        check.report.path.pop();
        check.enter(Variable { symbol: var.clone(), high: size.clone() - Dim::ONE, step: 1 });
    }
    check.lanes();
    check.report.path.push(part::BODY);
    check.body(&kernel.body, 0);
    check.report.path.pop();
    if let Some((machine, stage)) = machine
        && report.faults.len() == before
    {
        if stage >= Stage::Placed {
            place::placed(kernel, machine, report);
        }
        if stage >= Stage::Synchronised && report.faults.len() == before {
            sync::synchronised(kernel, machine, report);
        }
    }
}

impl Check<'_, '_> {
    /// The lanes are cores that the machine has, and their variable is one.
    fn lanes(&mut self) {
        let Some(Lanes { var, count, space }) = &self.kernel.lanes else { return };
        self.report.path.push(part::LANES);
        self.report.fault_if(*count == 0, || "there is at least one lane".into());
        if let Some((machine, _)) = self.machine {
            let kind = machine.cores.iter().find(|core| core.spaces.contains(space) && core.lanes >= *count);
            self.report.fault_if(kind.is_none(), || {
                format!("{} has no {count} cores with a space `{space}` that work on one item", machine.name)
            });
        }
        self.declare(var);
        self.report.path.pop();
        self.enter(Variable { symbol: var.clone(), high: Dim::from(count.saturating_sub(1)), step: 1 });
    }

    fn declarations(&mut self) {
        let mut names = FxHashMap::<&str, ()>::default();
        for (at, param) in self.kernel.params.iter().enumerate() {
            self.report.path.extend([part::PARAM, at as u32]);
            let twice = names.insert(&param.name, ()).is_some();
            self.report.fault_if(twice, || format!("there are two parameters `{}`", param.name));
            self.report.fault_if(!param.dtype.is_numeric(), || "kernels do not compute with strings".into());
            let matrix = matches!(param.layout, Layout::RowMajor) || param.shape.len() == 2;
            self.report.fault_if(!matrix, || format!("a fractal has 2 axes, not {}", param.shape.len()));
            param.shape.iter().for_each(|dim| self.dim(dim));
            self.report.path.truncate(self.report.path.len() - 2);
        }
        let mut names = FxHashMap::<&str, ()>::default();
        for (at, tile) in self.kernel.tiles.iter().enumerate() {
            self.report.path.extend([part::TILE, at as u32]);
            let twice = names.insert(&tile.name, ()).is_some();
            self.report.fault_if(twice, || format!("there are two tiles `{}`", tile.name));
            self.tile(tile);
            self.report.path.truncate(self.report.path.len() - 2);
        }
    }

    fn tile(&mut self, tile: &Tile) {
        self.report.fault_if(tile.slots == 0, || "a tile has at least one slot".into());
        let matrix = matches!(tile.layout, Layout::RowMajor) || tile.shape.len() == 2;
        self.report.fault_if(!matrix, || format!("a fractal has 2 axes, not {}", tile.shape.len()));
        self.report.fault_if(!tile.dtype.is_numeric(), || "kernels do not compute with strings".into());
        let Some((machine, stage)) = self.machine else { return };
        let Some(space) = machine.space(&tile.space) else {
            let names: Vec<&str> = machine.spaces.iter().map(|space| space.name.as_str()).collect();
            let text = format!("{} has no space `{}`; it has {}", machine.name, tile.space, names.join(", "));
            return self.report.fault(text);
        };
        self.report.fault_if(space.scope != crate::machine::Scope::Core, || {
            format!("`{}` is shared by the chip: it has no tiles", space.name)
        });
        self.report.fault_if(stage >= Stage::Routed && !space.allows(&tile.layout, tile.dtype), || {
            format!("`{}` does not hold {} in layout {}", space.name, tile.dtype, tile.layout)
        });
        let bytes = tile_bytes(tile).and_then(|bytes| bytes.checked_mul(tile.slots));
        match bytes {
            Some(bytes) if bytes as u64 <= space.bytes => {}
            Some(bytes) => self.report.fault(too_large(self.kernel, tile, space, bytes)),
            None => self.report.fault("the size of the tile overflows"),
        }
    }

    fn declare(&mut self, symbol: &Symbol) {
        let fresh = self.variables.insert(symbol.clone()) && !self.known.contains(symbol);
        self.report.fault_if(!fresh, || format!("the name `{symbol}` is used for something else too"));
    }

    /// Every name in an expression is one of a symbol or of a variable in scope.
    pub(super) fn dim(&mut self, dim: &Dim) {
        if dim.as_const().is_some() {
            return;
        }
        for symbol in dim.symbols() {
            if !self.known.contains(&symbol) {
                self.report.fault(format!("`{symbol}` is neither a symbol of the program nor a variable here"));
            }
        }
    }

    fn enter(&mut self, variable: Variable) {
        self.known.insert(variable.symbol.clone());
        self.context.push(variable);
    }

    fn leave(&mut self, mark: (usize, usize)) {
        for variable in &self.context.variables()[mark.0..] {
            self.known.remove(&variable.symbol);
        }
        self.context.reset(mark);
        // What was proven with less than is known now still holds.
        self.proven.retain(|_, known| known.0 <= mark.0 && known.1 <= mark.1);
    }

    fn body(&mut self, body: &[Stmt], depth: usize) {
        if depth > DEPTH {
            return self.report.fault("statements are nested too deeply");
        }
        let mark = self.context.mark();
        for (at, stmt) in body.iter().enumerate() {
            self.report.path.push(at as u32);
            self.stmt(stmt, depth);
            self.report.path.pop();
        }
        // Scalars live to the end of the block that defines them.
        self.leave(mark);
    }

    fn stmt(&mut self, stmt: &Stmt, depth: usize) {
        match stmt {
            Stmt::Instr(instr) => {
                self.instruction(instr);
                self.order(instr);
            }
            Stmt::For { var, end, step, body } => {
                self.dim(end);
                self.declare(var);
                if *step <= 0 {
                    return self.report.fault(format!("a loop's step is positive, not {step}"));
                }
                let mark = self.context.mark();
                let last = (end.clone() - Dim::ONE).floor_div(&Dim::Const(*step)) * Dim::Const(*step);
                self.enter(Variable { symbol: var.clone(), high: last, step: *step });
                self.nested(0, body, depth);
                self.leave(mark);
            }
            Stmt::If { condition, then, otherwise } => {
                self.dim(condition);
                let mark = self.context.mark();
                self.context.assume(condition.clone() - Dim::ONE);
                self.nested(0, then, depth);
                self.leave(mark);
                self.context.assume(-condition.clone());
                self.nested(1, otherwise, depth);
                self.leave(mark);
            }
        }
    }

    fn nested(&mut self, block: u32, body: &[Stmt], depth: usize) {
        self.report.path.push(block);
        self.body(body, depth + 1);
        self.report.path.pop();
    }

    /// Tiles are written before they are read, parameters accessed as they say, scalars defined.
    fn order(&mut self, instr: &Instr) {
        for operand in &instr.src {
            self.read(operand);
        }
        for operand in &instr.dst {
            if instr.op.reads_destination() {
                self.read(operand);
            }
            match operand {
                Operand::Tile(Region { tile, .. }) => {
                    if let Some(written) = self.written.get_mut(tile.0 as usize) {
                        *written = true;
                    }
                }
                Operand::Global(view) => self.access(view.param, |access| access != Access::Read, "writes"),
                Operand::Scalar(symbol, bound) => {
                    self.declare(symbol);
                    self.enter(Variable { symbol: symbol.clone(), high: bound.clone(), step: 1 });
                }
                _ => {}
            }
            if let Operand::Global(view) = operand
                && view.fill.is_some()
            {
                self.report.fault("a fill is for reading: writes stay inside");
            }
        }
        if let Opcode::SetEvent { event, .. } | Opcode::WaitEvent { event, .. } = &instr.op {
            self.dim(event);
        }
    }

    fn read(&mut self, operand: &Operand) {
        match operand {
            Operand::Tile(region) => {
                let unwritten = self.written.get(region.tile.0 as usize) == Some(&false);
                let kernel = self.kernel;
                self.report.fault_if(unwritten, || {
                    format!(
                        "the tile `{}` is read before anything is written to it",
                        kernel.tiles[region.tile.0 as usize].name
                    )
                });
            }
            // Reading back what this work item wrote is in order; what others wrote would not be, which no check here sees.
            Operand::Global(view) => self.access(view.param, |_| true, "reads"),
            _ => {}
        }
    }

    fn access(&mut self, param: ParamId, allowed: impl Fn(Access) -> bool, verb: &str) {
        if let Some(param) = self.kernel.params.get(param.0 as usize) {
            self.report.fault_if(!allowed(param.access), || {
                format!("the kernel {verb} `{}` against its declaration", param.name)
            });
        }
    }

    /// `left <= right` must hold here: proven, or left to be checked when the symbols are known.
    pub(super) fn require(&mut self, left: Dim, right: Dim, what: impl FnOnce() -> String) {
        let goal = right.clone() - left.clone();
        if goal.as_const().is_some_and(|value| value >= 0) || self.proven.contains_key(&goal) {
            return;
        }
        if self.context.proves(&goal, &mut self.report.budget) {
            self.proven.insert(goal, self.context.mark());
            return;
        }
        let (variables, facts) = self.context.relevant(&goal);
        let anchor = self.report.path.clone();
        let check = BindCheck { what: what(), anchor, left, right, variables, facts };
        let hopeless = check.facts.is_empty() && self.context.interval(&goal).high < 0;
        if hopeless || check.symbols().is_empty() {
            if let Err(violated) = check.check(&|_| None) {
                self.report.fault(violated.to_string());
            }
        } else if self.report.checks.len() < CHECKS {
            self.report.checks.push(check);
        } else {
            self.report.fault("too many bounds depend on the symbols");
        }
    }

    /// `a == b` must hold here.
    pub(super) fn require_equal(&mut self, a: &Dim, b: &Dim, what: impl Fn() -> String) {
        if a != b {
            self.require(a.clone(), b.clone(), &what);
            self.require(b.clone(), a.clone(), &what);
        }
    }
}

/// What does not fit where, and what would.
fn too_large(kernel: &Kernel, tile: &Tile, space: &Space, bytes: usize) -> String {
    let tensor =
        moved(&kernel.body, kernel, tile).map_or_else(String::new, |param| format!(", a part of `{}`,", param.name));
    let copies = if tile.slots > 1 { format!(" in {} copies", tile.slots) } else { String::new() };
    let needed = format!("`{}`{tensor} takes {bytes} bytes{copies}, `{}` has {}", tile.name, space.name, space.bytes);
    // The axes are shortened one after the other, whole blocks of a fractal, until it fits.
    let mut smaller = tile.clone();
    for axis in 0..tile.shape.len() {
        let block = match tile.layout {
            Layout::Fractal(fractal) => fractal.block[axis.min(1)],
            Layout::RowMajor => 1,
        };
        let mut fits = |blocks: usize| {
            smaller.shape[axis] = blocks * block;
            let bytes = tile_bytes(&smaller).and_then(|bytes| bytes.checked_mul(tile.slots));
            bytes.is_some_and(|bytes| bytes as u64 <= space.bytes)
        };
        let (mut most, mut too_many) = (0, tile.shape[axis].div_ceil(block));
        while most + 1 < too_many {
            let middle = most + (too_many - most) / 2;
            if fits(middle) { most = middle } else { too_many = middle }
        }
        smaller.shape[axis] = most.max(1) * block;
        if most > 0 {
            return format!("{needed}: at most {}{:?} fit", tile.dtype, smaller.shape);
        }
    }
    format!("{needed}: not even one element fits")
}

/// The parameter that a tile holds a part of: the first that is copied to it or from it.
fn moved<'k>(body: &[Stmt], kernel: &'k Kernel, tile: &Tile) -> Option<&'k Param> {
    let is_it = |operand: &Operand| matches!(operand, Operand::Tile(region) if kernel.tiles.get(region.tile.0 as usize).is_some_and(|t| t.name == tile.name));
    body.iter().find_map(|stmt| match stmt {
        Stmt::For { body, .. } => moved(body, kernel, tile),
        Stmt::If { then, otherwise, .. } => moved(then, kernel, tile).or_else(|| moved(otherwise, kernel, tile)),
        Stmt::Instr(instr) => match (&instr.op, instr.dst.as_slice(), instr.src.as_slice()) {
            (Opcode::Copy { .. }, [end], [Operand::Global(view)])
            | (Opcode::Copy { .. }, [Operand::Global(view)], [end])
                if is_it(end) =>
            {
                kernel.params.get(view.param.0 as usize)
            }
            _ => None,
        },
    })
}

/// Bytes of one copy of a tile.
pub(super) fn tile_bytes(tile: &Tile) -> Option<usize> {
    tile.layout.elements(&tile.shape).and_then(|count| tile.dtype.bytes_of(count))
}
