//! Tile programs as HIVM: one MLIR module per kernel, and a manifest that says how they follow each other.
//!
//! ```text
//! Program ──kernel──► module: one function, or an `_mix_aic` and an `_mix_aiv` function where both kinds of core work together
//!    │                   placed: fixed addresses, our own flags │ flagless: no flags │ planned: buffers the vendor places
//!    └──────────────► manifest: buffers, constants, order of launches, arguments, grid
//! ```
//!
//! A kernel that the dialect cannot express is listed with the missing piece; the others are not affected.

mod array;
mod cube;
mod fractal;
mod function;
mod group;
mod indexed;
mod kernel;
mod manifest;
mod moves;
mod pointwise;
mod reduce;
mod scalar;
mod sync;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tarsia_tensor::{Dim, Symbol};
use tarsia_tile::{Kernel, Machine, Program, Step};

use sync::Hazards;
use writer::Writer;

/// Who decides about addresses and order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Our addresses and our flags.
    Placed,
    /// Our addresses, no flags inside a core.
    Flagless,
    /// Buffers without addresses and no flags inside a core: the vendor's compiler plans both.
    Planned,
}

/// What HIVM lacks for a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Result<T> = std::result::Result<T, Missing>;

/// One kernel's module.
#[derive(Clone, Debug)]
pub struct Module {
    /// The kernel's name, a legal identifier, unique in the export.
    pub name: String,
    /// The text.
    pub text: String,
    /// How it is launched.
    pub launch: Launch,
}

/// How a kernel is launched.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Launch {
    /// Names of its functions.
    pub functions: Vec<String>,
    /// Blocks of the launch: cores, or groups of cores for kernels on both kinds.
    pub block_dim: usize,
    /// Arguments after the parameters: sizes, in order.
    pub symbols: Vec<String>,
    /// Bytes of the workspace argument, 0 if there is none.
    pub workspace_bytes: usize,
}

/// A program in HIVM.
#[derive(Debug)]
pub struct Export {
    /// A module for each kernel that can be expressed.
    pub modules: Vec<Module>,
    /// How they follow each other, as JSON.
    pub manifest: String,
    /// The kernels that cannot, each with the missing piece.
    pub unsupported: Vec<(String, Missing)>,
}

/// Writes a placed and synchronised program.
pub fn export(program: &Program, machine: &Machine, form: Form) -> Export {
    let mut found = BTreeMap::new();
    collect(program, "", &mut found);
    let (mut modules, mut unsupported) = (Vec::new(), Vec::new());
    for (name, kernel) in &found {
        match module(kernel, name, machine, form) {
            Ok(module) => modules.push(module),
            Err(missing) => unsupported.push((name.clone(), missing)),
        }
    }
    let manifest = manifest::manifest(program, machine, &modules, &unsupported);
    Export { modules, manifest, unsupported }
}

/// Writes one kernel of a placed and synchronised program.
///
/// # Errors
/// What HIVM lacks.
pub fn module(kernel: &Kernel, name: &str, machine: &Machine, form: Form) -> Result<Module> {
    kernel::module(kernel, name, machine, form)
}

/// The kernels of a program and of the programs inside it, by the names of their modules.
pub fn collect<'p>(program: &'p Program, prefix: &str, found: &mut BTreeMap<String, &'p Kernel>) {
    for kernel in &program.kernels {
        found.insert(format!("{prefix}{}", identifier(&kernel.name)), kernel);
    }
    for (at, step) in program.steps.iter().enumerate() {
        for (part, inner) in inner_programs(step) {
            collect(inner, &format!("{prefix}s{at}{part}_"), found);
        }
    }
}

/// The programs inside a step, each with a letter.
fn inner_programs(step: &Step) -> Vec<(&'static str, &Program)> {
    match step {
        Step::If { then_branch, else_branch, .. } => vec![("t", then_branch), ("e", else_branch)],
        Step::Loop(step) => vec![("b", &step.body)],
        Step::Scan(step) => vec![("b", &step.body)],
        Step::Launch { .. } | Step::Host { .. } => Vec::new(),
    }
}

/// A name with letters, digits and underscores only.
fn identifier(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let text: String = name.chars().map(letter).collect();
    if text.starts_with(|c: char| c.is_ascii_digit()) || text.is_empty() { format!("k{text}") } else { text }
}

/// A kind of core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    Cube,
    Vector,
}

/// One function under construction.
struct Emitter<'a> {
    kernel: &'a Kernel,
    machine: &'a Machine,
    form: Form,
    /// The kind of core that the function is for.
    core: Core,
    /// Whether the kernel has a function for the other kind too.
    mixed: bool,
    /// A condition under which this core does the work; flags between cores are for all.
    guard: Option<String>,
    w: Writer,
    /// Name and type of every parameter.
    params: Vec<(String, String)>,
    /// The space whose tiles lie in device memory.
    workspace_space: String,
    /// Byte offset of this group's workspace, where there is one.
    workspace: Option<String>,
    /// The space of the vector core.
    vector_space: String,
    scratch_start: usize,
    scratch_next: usize,
    scratch_end: usize,
    hazards: Hazards,
    symbols: Vec<Symbol>,
    /// Variables of loops with steps, as multiples of their turns.
    turns: BTreeMap<Symbol, Dim>,
    /// Numbers that one core computes for all of its group: bytes before them in the group's workspace.
    exchanged: BTreeMap<Symbol, usize>,
    /// Parts of the workspace that are arguments of their own.
    areas: BTreeSet<usize>,
    cube: cube::Cube,
}
