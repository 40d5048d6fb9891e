//! Reading the vendor's scheduled kernels into the tile IR.
//!
//! ```text
//! module.hivm.opt.mlir ─ parse ─► ops ─ eval ─► statements on arrays ─ place ─► Program
//!                                          │
//!                                calls of the library: template, vector, cube
//! ```
//! The vendor's open compiler leaves kernels with explicit addresses, flags, loops and calls of its template library. Index arithmetic
//! becomes index expressions over the block index (the grid variable), the sub-block index (the lane) and loop variables; a call becomes
//! the instructions that the template issues when it is executed. A kernel of two functions, one for each kind of core, becomes one
//! kernel with the cube cores' statements first: every kind of core has its own queues, so that their order does not matter.
//!
//! The text is bounded in depth and size by itself; whatever cannot be read is an error with its place, all of them at once.

mod affine;
mod cube;
mod draft;
mod eval;
mod parse;
mod place;
mod template;
mod text;
mod types;
mod value;
mod vector;

#[cfg(test)]
mod tests;

use std::fmt;

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{
    Access, Buffer, BufferId, BufferKind, Instr, Kernel, KernelId, Lanes, Layout, Machine, Opcode, Operand, Param,
    Port, Program, Step, Stmt,
};
use thiserror::Error;

use draft::{Draft, Op};
use eval::Reader;
use parse::{Function, Module};
use text::{Cursor, Fault};
use value::{Array, Root, Value};

/// How to read a module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How many blocks each kernel is launched with; otherwise what the module says, or else all cores.
    pub blocks: Option<usize>,
}

/// A module as a program.
#[derive(Clone, Debug)]
pub struct Imported {
    /// A launch per kernel, in the module's order.
    pub program: Program,
    /// What the program adds to the text, for the user.
    pub notes: Vec<String>,
}

/// Everything in a module that cannot be read.
#[derive(Debug, Error)]
pub struct ImportError {
    /// Line and column, both from 1, and what is wrong.
    pub faults: Vec<(usize, usize, String)>,
    /// Faults beyond those kept.
    pub more: usize,
}

/// More faults than this are counted, not kept.
const MOST: usize = 50;

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines =
            self.faults.iter().map(|(line, column, message)| format!("line {line}, column {column}: {message}"));
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))?;
        if self.more > 0 { write!(f, "\nand {} more", self.more) } else { Ok(()) }
    }
}

impl ImportError {
    fn new(source: &str, mut faults: Vec<Fault>) -> ImportError {
        faults.sort_by(|a, b| (a.at, &a.message).cmp(&(b.at, &b.message)));
        faults.dedup();
        let more = faults.len().saturating_sub(MOST);
        faults.truncate(MOST);
        let place = |at: usize| {
            let before = source.get(..at).unwrap_or(source);
            let line = before.matches('\n').count() + 1;
            (line, before.chars().rev().take_while(|c| *c != '\n').count() + 1)
        };
        let faults = faults.into_iter().map(|fault| {
            let (line, column) = place(fault.at);
            (line, column, fault.message)
        });
        ImportError { faults: faults.collect(), more }
    }
}

/// Whether a file that begins like this is a module of the vendor's.
pub fn is_module(head: &str) -> bool {
    let line = head.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("//"));
    line.is_some_and(|line| {
        line.starts_with("module {")
            || line.starts_with("module attributes")
            || line.starts_with("func.func ")
            || line.starts_with('#') && line.contains("= affine_map<")
    })
}

/// Reads a module of scheduled kernels.
///
/// # Errors
/// If something in it cannot be read; names all of it.
pub fn import(source: &str, machine: &Machine, options: &Options) -> Result<Imported, ImportError> {
    let module = parse::module(source).map_err(|fault| ImportError::new(source, vec![fault]))?;
    let mut builder = Builder::new(&module, machine, options);
    let mut entries = module.functions.iter().filter(|function| is_entry(function)).peekable();
    if entries.peek().is_none() {
        builder
            .faults
            .push(Fault::new(0, "there is no kernel: no function with a body is a device entry (`hacc.entry`)"));
    }
    let mut kernels: Vec<(&str, Vec<&Function<'_>>)> = Vec::new();
    for entry in entries {
        let name = entry.name.trim_end_matches("_mix_aic").trim_end_matches("_mix_aiv");
        match kernels.iter_mut().find(|(known, parts)| *known == name && entry.name != name && parts.len() < 2) {
            Some((_, parts)) => parts.push(entry),
            None => kernels.push((name, vec![entry])),
        }
    }
    kernels.into_iter().for_each(|(name, parts)| builder.kernel(name, parts));
    if builder.faults.is_empty() {
        return Ok(Imported { program: builder.program, notes: builder.notes });
    }
    Err(ImportError::new(source, builder.faults))
}

fn is_entry(function: &Function<'_>) -> bool {
    function.body.is_some() && function.has("hacc.entry") && !function.has("hacc.function_kind<HOST>")
}

/// `aic` or `aiv`: the kind of core that a function is for.
fn core(function: &Function<'_>) -> &'static str {
    if function.has("func_core_type<AIC>") { "aic" } else { "aiv" }
}

struct Builder<'m> {
    module: &'m Module<'m>,
    machine: &'m Machine,
    options: &'m Options,
    program: Program,
    notes: Vec<String>,
    faults: Vec<Fault>,
}

impl<'m> Builder<'m> {
    fn new(module: &'m Module<'m>, machine: &'m Machine, options: &'m Options) -> Builder<'m> {
        let program = Program { name: "module".into(), target: machine.name.clone(), ..Program::default() };
        Builder { module, machine, options, program, notes: Vec::new(), faults: Vec::new() }
    }

    /// One kernel of one function, or of one for each kind of core.
    fn kernel(&mut self, name: &str, mut parts: Vec<&'m Function<'m>>) {
        parts.sort_by_key(|part| core(part));
        let lanes = self.machine.cores.iter().find(|kind| kind.name == "aiv").map_or(1, |kind| kind.lanes);
        let joined = parts.len() > 1;
        let blocks = self.blocks(&parts);
        let mut params = Vec::new();
        let mut reader = Reader::new(self.module, blocks, if joined { lanes as i64 } else { 1 });
        if !joined {
            reader.lane = Dim::ZERO;
        }
        let mut bodies = Vec::new();
        for part in &parts {
            let arguments = self.arguments(part, &mut params);
            reader.out.core = core(part);
            reader.out.begin();
            reader.function(part, arguments);
            bodies.push(reader.out.end());
        }
        self.faults.append(&mut reader.faults);
        if joined {
            self.join(name, &mut bodies);
        }
        let drafts: Vec<Draft> = bodies.into_iter().flatten().collect();
        let (body, placer) = place::Placer::place(std::mem::take(&mut reader.out.tiles), &drafts);
        self.faults.extend(placer.faults.clone());
        let accesses = accesses(&body, params.len());
        for (param, access) in params.iter_mut().zip(&accesses) {
            param.access = *access;
        }
        let kernel = Kernel {
            name: name.to_owned(),
            origin: parts.iter().map(|part| part.name.to_owned()).collect(),
            params,
            tiles: placer.tiles.clone(),
            grid: vec![(Symbol::new("%block"), Dim::Const(blocks))],
            lanes: joined.then(|| Lanes { var: Symbol::new("%lane"), count: lanes, space: "ub".into() }),
            body,
        };
        self.check(&kernel, &placer.origins);
        self.launch(kernel, &parts);
    }

    /// How many blocks a kernel is launched with.
    fn blocks(&self, parts: &[&Function<'_>]) -> i64 {
        let said = || {
            parts
                .iter()
                .chain(&self.module.functions.iter().collect::<Vec<_>>())
                .find_map(|f| f.number("hacc.block_dim"))
        };
        let kind = parts.first().map_or("aiv", |part| core(part));
        let cores = || self.machine.cores.iter().find(|known| known.name == kind).map(|kind| kind.count as i64);
        let asked = self.options.blocks.map(|blocks| blocks as i64);
        asked.or_else(said).or_else(cores).unwrap_or(1).clamp(1, 1 << 20)
    }

    /// What the arguments of a function stand for. The parts of a kernel have the same parameters.
    fn arguments(&mut self, function: &Function<'_>, params: &mut Vec<Param>) -> Vec<Value> {
        let mut values = Vec::new();
        let mut next = 0;
        for argument in &function.arguments {
            let mut ty = argument.ty;
            if !ty.peek("memref") {
                values.push(Value::Opaque);
                continue;
            }
            match parameter(argument.name, &mut ty) {
                Ok((param, sizes)) => {
                    let root = Root::Param(next);
                    values.push(Value::Array(Array::dense(root, param.dtype, sizes)));
                    match params.get(next) {
                        Some(known) if (known.dtype, &known.shape) != (param.dtype, &param.shape) => {
                            let message = "the functions of one kernel differ in this parameter";
                            self.faults.push(Fault::new(argument.ty.at(), message));
                        }
                        Some(_) => {}
                        None => params.push(param),
                    }
                    next += 1;
                }
                Err(fault) => {
                    self.faults.push(fault);
                    values.push(Value::Unread);
                }
            }
        }
        values
    }

    /// Makes the vector cores wait for the cube core where the text does not say so, and drops the barriers at the ends, which are for
    /// one kind of core each.
    fn join(&mut self, name: &str, bodies: &mut [Vec<Draft>]) {
        for body in bodies.iter_mut() {
            let ends = |draft: &Draft| matches!(draft, Draft::Op(Op { op: Opcode::Barrier { pipe: None }, .. }));
            while body.last().is_some_and(ends) {
                body.pop();
            }
        }
        let [cube, vector] = bodies else { return };
        let crosses = |drafts: &[Draft]| any_event(drafts, &|from, to| from.split('_').next() != to.split('_').next());
        if crosses(cube) || crosses(vector) {
            return;
        }
        let (from, to) = ("aic_fix".to_owned(), "aiv_mte2".to_owned());
        let event = |op| Draft::Op(Op { at: 0, op, dst: Vec::new(), src: Vec::new() });
        cube.push(event(Opcode::SetEvent { from: from.clone(), to: to.clone(), event: Dim::ZERO }));
        vector.insert(0, event(Opcode::WaitEvent { from, to, event: Dim::ZERO }));
        self.notes.push(format!(
            "{name}: the text has no flags between the cube and the vector cores; here each vector core waits for the cube core of its own block"
        ));
    }

    /// Pipes and events that the machine does not have, and instructions that nothing on it runs; `origins` are their places.
    fn check(&mut self, kernel: &Kernel, origins: &[usize]) {
        let machine = self.machine;
        let mut origins = origins.iter();
        each_instr(&kernel.body, &mut |instr| {
            let wrong = match &instr.op {
                Opcode::SetEvent { from, to, .. } | Opcode::WaitEvent { from, to, .. } => (machine.event_ids(from, to)
                    == 0)
                    .then(|| format!("{} has no events from `{from}` to `{to}`", machine.name)),
                Opcode::Barrier { pipe } => pipe.as_ref().and_then(|pipe| {
                    (!machine.has_pipe(pipe)).then(|| format!("{} has no pipe `{pipe}`", machine.name))
                }),
                _ => machine.pipe_of(kernel, instr).err(),
            };
            let at = origins.next().copied().unwrap_or_default();
            self.faults.extend(wrong.map(|message| Fault::new(at, message)));
        });
    }

    /// Adds a kernel with buffers of its own.
    fn launch(&mut self, kernel: Kernel, parts: &[&Function<'_>]) {
        let mut memrefs = parts.first().into_iter().flat_map(|part| &part.arguments).filter(|a| a.ty.peek("memref"));
        let mut args = Vec::new();
        for param in &kernel.params {
            let argument = memrefs.next();
            let role = argument.map_or("", |argument| argument.ty.rest());
            let shape = argument.and_then(|argument| types::Memref::read(&mut argument.ty.clone()).ok());
            let shape: Vec<Dim> = shape.map_or_else(
                || param.shape.clone(),
                |ty| ty.sizes.iter().map(|n| Dim::Const(n.unwrap_or(0))).collect(),
            );
            let id = BufferId(self.program.buffers.len() as u32);
            let name = format!("{}_{}", kernel.name, param.name);
            let kind = if param.access == Access::Read { BufferKind::Input } else { BufferKind::Temporary };
            let port = Port { name: name.clone(), buffer: id, shape };
            match (kind, role.contains("arg_type<workspace>")) {
                (BufferKind::Input, _) => self.program.inputs.push(port),
                (_, false) => self.program.outputs.push(port),
                _ => {}
            }
            let (dtype, shape) = (param.dtype, param.shape.clone());
            self.program.buffers.push(Buffer { name, dtype, shape, layout: Layout::RowMajor, kind });
            args.push(id);
        }
        if self.program.kernels.is_empty() {
            self.program.name.clone_from(&kernel.name);
        }
        let id = KernelId(self.program.kernels.len() as u32);
        self.program.kernels.push(kernel);
        self.program.steps.push(Step::Launch { kernel: id, args, in_place: Vec::new() });
    }
}

/// A parameter of one axis, and the sizes that the text gives it.
fn parameter(name: &str, ty: &mut Cursor<'_>) -> text::Result<(Param, Vec<Dim>)> {
    let at = *ty;
    let memref = types::Memref::read(ty)?;
    let sizes: Option<Vec<Dim>> = memref.sizes.iter().map(|size| size.map(Dim::Const)).collect();
    let sizes =
        sizes.ok_or_else(|| at.fault(format!("the size of `{name}` is not known; give the module fixed sizes")))?;
    let elements = sizes.iter().try_fold(1i64, |n, size| n.checked_mul(size.as_const()?).filter(|n| *n < 1 << 48));
    let elements = elements.ok_or_else(|| at.fault("no memory holds so many elements"))?;
    if memref.space != "gm" || memref.strides.is_some() {
        return Err(at.fault("parameters are dense arrays in device memory"));
    }
    let name = name.trim_start_matches('%').to_owned();
    let shape = vec![Dim::Const(elements)];
    Ok((Param { name, dtype: memref.dtype, shape, layout: Layout::RowMajor, access: Access::Read }, sizes))
}

/// What a body does to each parameter.
fn accesses(body: &[Stmt], count: usize) -> Vec<Access> {
    let mut found = vec![Access::Read; count];
    each_instr(body, &mut |instr| {
        for operand in &instr.dst {
            if let Operand::Global(view) = operand
                && let Some(access) = found.get_mut(view.param.0 as usize)
            {
                *access = Access::Write;
            }
        }
    });
    found
}

fn each_instr<'s>(body: &'s [Stmt], visit: &mut dyn FnMut(&'s Instr)) {
    for stmt in body {
        match stmt {
            Stmt::Instr(instr) => visit(instr),
            Stmt::For { body, .. } => each_instr(body, visit),
            Stmt::If { then, otherwise, .. } => {
                each_instr(then, visit);
                each_instr(otherwise, visit);
            }
        }
    }
}

fn each_op(drafts: &[Draft], visit: &mut dyn FnMut(&Op)) {
    for draft in drafts {
        match draft {
            Draft::Op(op) => visit(op),
            Draft::For { body, .. } => each_op(body, visit),
            Draft::If { then, otherwise, .. } => {
                each_op(then, visit);
                each_op(otherwise, visit);
            }
        }
    }
}

/// Whether some event between these pipes is set or waited for.
fn any_event(drafts: &[Draft], test: &dyn Fn(&str, &str) -> bool) -> bool {
    let mut found = false;
    each_op(drafts, &mut |op| {
        if let Opcode::SetEvent { from, to, .. } | Opcode::WaitEvent { from, to, .. } = &op.op {
            found |= test(from, to);
        }
    });
    found
}
