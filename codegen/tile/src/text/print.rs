//! Writing programs: first a list of lines, each anchored to the thing it shows, so that faults can point at lines.

use std::fmt::{self, Write as _};
use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tarsia_tensor::{Absent, Content, Dim};

use super::operand::KernelNames;
use crate::{
    Access, Buffer, BufferId, BufferKind, Constant, Kernel, Lanes, LoopStep, Port, Program, ScanStep, Step, Stmt, Tile,
    name::Name,
};

/// What a line shows: a path through the program. Its first number is one of the constants; then follow indices.
pub type Anchor = Vec<u32>;

/// First numbers of anchors.
pub mod part {
    /// A buffer, by index.
    pub const BUFFER: u32 = 1;
    /// An input port.
    pub const INPUT: u32 = 2;
    /// An output port.
    pub const OUTPUT: u32 = 3;
    /// A kernel; inside it follow the numbers below.
    pub const KERNEL: u32 = 4;
    /// A step; inside it, the number of a nested program.
    pub const STEP: u32 = 5;
    /// A constant.
    pub const CONSTANT: u32 = 6;
    /// In a kernel: a parameter.
    pub const PARAM: u32 = 1;
    /// In a kernel: a tile.
    pub const TILE: u32 = 2;
    /// In a kernel: the grid.
    pub const GRID: u32 = 3;
    /// In a kernel: the body; then the index of a statement, then 0 or 1 for a block inside, and so on.
    pub const BODY: u32 = 4;
    /// In a kernel: the cores that share an item.
    pub const LANES: u32 = 5;
}

/// Whether constants are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// In base64: the text is the whole program.
    Inline,
    /// Only their sizes: for reading; such a text is not accepted back.
    Elided,
}

/// One line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it shows.
    pub anchor: Anchor,
    /// Levels of indentation.
    pub indent: usize,
    /// The text.
    pub text: String,
}

/// A program as lines.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Listing {
    /// From the first to the last.
    pub lines: Vec<Line>,
}

/// The text of a program.
pub fn print(program: &Program, data: Data) -> String {
    let mut printer = Printer::new(data);
    printer.program(program);
    printer.listing.to_string()
}

/// Writes the text of a program, with the data of its constants.
///
/// # Errors
/// If `out` does not take it.
pub fn write(program: &Program, out: &mut dyn io::Write) -> io::Result<()> {
    let mut printer = Printer::new(Data::Inline);
    printer.program(program);
    write!(out, "{}", printer.listing)
}

/// The lines of a program, without the data of its constants.
pub fn listing(program: &Program) -> Listing {
    let mut printer = Printer::new(Data::Elided);
    printer.program(program);
    printer.listing
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        listing(self).fmt(f)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer::new(Data::Elided);
        printer.kernel(self);
        printer.listing.fmt(f)
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{:indent$}{}", "", line.text, indent = 2 * line.indent))
    }
}

struct Printer {
    listing: Listing,
    path: Anchor,
    indent: usize,
    data: Data,
}

impl Printer {
    fn new(data: Data) -> Printer {
        Printer { listing: Listing::default(), path: Vec::new(), indent: 0, data }
    }

    fn line(&mut self, text: String) {
        self.listing.lines.push(Line { anchor: self.path.clone(), indent: self.indent, text });
    }

    /// Runs `f` one level deeper in the program.
    fn at(&mut self, path: &[u32], f: impl FnOnce(&mut Printer)) {
        let depth = self.path.len();
        self.path.extend_from_slice(path);
        f(self);
        self.path.truncate(depth);
    }

    /// `f`'s lines between braces; `open` ends in one.
    fn block(&mut self, open: String, f: impl FnOnce(&mut Printer)) {
        self.line(open);
        self.indent += 1;
        f(self);
        self.indent -= 1;
    }

    fn program(&mut self, program: &Program) {
        let names = names(program.buffers.iter().map(|buffer| buffer.name.as_str()));
        let kernels = names_of_kernels(program);
        self.block(format!("program {} for {} {{", Name(&program.name), Name(&program.target)), |p| {
            for (at, buffer) in program.buffers.iter().enumerate() {
                p.at(&[part::BUFFER, at as u32], |p| p.line(buffer_text(buffer)));
            }
            for (at, port) in program.inputs.iter().enumerate() {
                p.at(&[part::INPUT, at as u32], |p| p.line(format!("input {}", port_text(port, &names))));
            }
            for (at, port) in program.outputs.iter().enumerate() {
                p.at(&[part::OUTPUT, at as u32], |p| p.line(format!("output {}", port_text(port, &names))));
            }
            for (at, kernel) in program.kernels.iter().enumerate() {
                p.at(&[part::KERNEL, at as u32], |p| p.kernel(kernel));
            }
            for (at, step) in program.steps.iter().enumerate() {
                p.at(&[part::STEP, at as u32], |p| p.step(step, program, &names, &kernels));
            }
            for (at, constant) in program.constants.iter().enumerate() {
                p.at(&[part::CONSTANT, at as u32], |p| p.constant(constant));
            }
        });
        self.line("}".to_owned());
    }

    fn constant(&mut self, constant: &Constant) {
        /// Bytes in a line: 160 characters.
        const BYTES: usize = 120;
        if self.data == Data::Elided {
            return self.line(format!("data {} bytes elided", constant.data.len()));
        }
        let bytes = match &constant.data {
            Content::Bytes(bytes) => bytes,
            Content::Absent(Absent { origin, bytes }) => {
                return self.line(format!("data {bytes} bytes absent {}", Name(origin)));
            }
        };
        self.block(format!("data {} bytes {{", bytes.len()), |p| {
            bytes.chunks(BYTES).for_each(|chunk| p.line(STANDARD.encode(chunk)));
        });
        self.line("}".to_owned());
    }

    fn kernel(&mut self, kernel: &Kernel) {
        let names = KernelNames::new(kernel);
        let origin: Vec<String> = kernel.origin.iter().map(|name| Name(name).to_string()).collect();
        let from = if origin.is_empty() { String::new() } else { format!(" from {}", origin.join(", ")) };
        self.block(format!("kernel {}{from} {{", Name(&kernel.name)), |p| {
            for (at, param) in kernel.params.iter().enumerate() {
                let access = match param.access {
                    Access::Read => "read",
                    Access::Write => "write",
                    Access::Update => "update",
                };
                let (dtype, shape, layout) = (param.dtype, dims(&param.shape), param.layout);
                let text = format!("param {}: {dtype}[{shape}] {layout} {access}", Name(&param.name));
                p.at(&[part::PARAM, at as u32], |p| p.line(text));
            }
            for (at, tile) in kernel.tiles.iter().enumerate() {
                p.at(&[part::TILE, at as u32], |p| p.line(tile_text(tile)));
            }
            if !kernel.grid.is_empty() {
                let axes: Vec<String> = kernel.grid.iter().map(|(var, size)| format!("{var} < {size}")).collect();
                p.at(&[part::GRID], |p| p.line(format!("grid {}", axes.join(", "))));
            }
            if let Some(Lanes { var, count, space }) = &kernel.lanes {
                p.at(&[part::LANES], |p| p.line(format!("lanes {var} < {count} in {}", Name(space))));
            }
            p.at(&[part::BODY], |p| p.body(&kernel.body, &names));
        });
        self.line("}".to_owned());
    }

    fn body(&mut self, body: &[Stmt], names: &KernelNames) {
        for (at, stmt) in body.iter().enumerate() {
            self.at(&[at as u32], |p| p.stmt(stmt, names));
        }
    }

    fn stmt(&mut self, stmt: &Stmt, names: &KernelNames) {
        match stmt {
            Stmt::For { var, end, step, body } => {
                self.block(format!("for {var} in 0..{end} step {step} {{"), |p| p.at(&[0], |p| p.body(body, names)));
            }
            Stmt::If { condition, then, otherwise } => {
                self.block(format!("if {condition} > 0 {{"), |p| p.at(&[0], |p| p.body(then, names)));
                if !otherwise.is_empty() {
                    self.block("} else {".to_owned(), |p| p.at(&[1], |p| p.body(otherwise, names)));
                }
            }
            Stmt::Instr(instr) => return self.line(names.instruction(instr)),
        }
        self.line("}".to_owned());
    }

    fn step(&mut self, step: &Step, program: &Program, names: &[String], kernels: &[String]) {
        match step {
            Step::Launch { kernel, args, in_place } => {
                let name = kernels.get(kernel.0 as usize).cloned().unwrap_or_else(|| format!("#{}", kernel.0));
                let args: Vec<String> = args.iter().map(|arg| buffer_name(*arg, names)).collect();
                let mut text = format!("launch {name}({})", args.join(", "));
                if !in_place.is_empty() {
                    let params = program.kernels.get(kernel.0 as usize).map(KernelNames::new).unwrap_or_default();
                    let pairs: Vec<String> =
                        in_place.iter().map(|(r, w)| format!("{} -> {}", params.param(*r), params.param(*w))).collect();
                    let _ = write!(text, " in_place {}", pairs.join(", "));
                }
                self.line(text);
            }
            Step::Host { function, ints, reals, operands, results } => {
                let ints: Vec<String> = ints.iter().map(ToString::to_string).collect();
                let reals: Vec<String> = reals.iter().map(|real| format!("{real:?}")).collect();
                let (operands, results) = (ports(operands, names), buffers(results, names));
                let function = Name(function);
                self.line(format!(
                    "host {function}[{}][{}]({operands}) -> ({results})",
                    ints.join(", "),
                    reals.join(", ")
                ));
            }
            Step::If { condition, then_branch, else_branch, operands, results } => {
                let condition = buffer_name(*condition, names);
                let (operands, results) = (ports(operands, names), buffers(results, names));
                let open = format!("if {condition}({operands}) -> ({results}) {{");
                self.block(open, |p| p.at(&[0], |p| p.program(then_branch)));
                self.block("} else {".to_owned(), |p| p.at(&[1], |p| p.program(else_branch)));
                self.line("}".to_owned());
            }
            Step::Loop(step) => self.loop_step(step, names),
            Step::Scan(step) => self.scan_step(step, names),
        }
    }

    fn loop_step(&mut self, step: &LoopStep, names: &[String]) {
        let (trip, condition) = (port_text(&step.trip_count, names), port_text(&step.condition, names));
        let (carried, captured) = (ports(&step.carried, names), ports(&step.captured, names));
        let results = buffers(&step.results, names);
        let open = format!("loop({trip}, {condition})({carried})({captured}) -> ({results}) {{");
        self.block(open, |p| p.at(&[0], |p| p.program(&step.body)));
        self.line("}".to_owned());
    }

    fn scan_step(&mut self, step: &ScanStep, names: &[String]) {
        let direction = |reverse: &bool| if *reverse { " reverse" } else { "" };
        let inputs: Vec<String> = step
            .inputs
            .iter()
            .map(|(port, axis, reverse)| format!("{} axis {axis}{}", port_text(port, names), direction(reverse)))
            .collect();
        let outputs: Vec<String> =
            step.outputs.iter().map(|(axis, reverse)| format!("axis {axis}{}", direction(reverse))).collect();
        let (states, captured) = (ports(&step.states, names), ports(&step.captured, names));
        let (inputs, outputs, results) = (inputs.join(", "), outputs.join(", "), buffers(&step.results, names));
        let open = format!("scan({states})({inputs})({captured})({outputs}) -> ({results}) {{");
        self.block(open, |p| p.at(&[0], |p| p.program(&step.body)));
        self.line("}".to_owned());
    }
}

/// How things are referred to: by name, or by `#index` where the name is not unique.
pub(super) fn names<'a>(all: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let mut counts = rustc_hash::FxHashMap::<&str, usize>::default();
    all.clone().for_each(|name| *counts.entry(name).or_default() += 1);
    let unique = |(at, name): (usize, &str)| if counts[name] == 1 { Name(name).to_string() } else { format!("#{at}") };
    all.enumerate().map(unique).collect()
}

fn names_of_kernels(program: &Program) -> Vec<String> {
    names(program.kernels.iter().map(|kernel| kernel.name.as_str()))
}

fn buffer_name(buffer: BufferId, names: &[String]) -> String {
    match names.get(buffer.0 as usize) {
        Some(name) => format!("@{name}"),
        None => format!("@#{}", buffer.0),
    }
}

fn buffers(ids: &[BufferId], names: &[String]) -> String {
    ids.iter().map(|id| buffer_name(*id, names)).collect::<Vec<_>>().join(", ")
}

fn port_text(port: &Port, names: &[String]) -> String {
    format!("{}: {}[{}]", Name(&port.name), buffer_name(port.buffer, names), dims(&port.shape))
}

fn ports(ports: &[Port], names: &[String]) -> String {
    ports.iter().map(|port| port_text(port, names)).collect::<Vec<_>>().join(", ")
}

fn buffer_text(buffer: &Buffer) -> String {
    let kind = match buffer.kind {
        BufferKind::Input => "input".to_owned(),
        BufferKind::Constant(index) => format!("constant {index}"),
        BufferKind::Temporary => "temporary".to_owned(),
    };
    format!("buffer {}: {}[{}] {} {kind}", Name(&buffer.name), buffer.dtype, dims(&buffer.shape), buffer.layout)
}

fn tile_text(tile: &Tile) -> String {
    let shape: Vec<String> = tile.shape.iter().map(ToString::to_string).collect();
    let mut text = format!("tile {}: {}[{}] {}", Name(&tile.name), tile.dtype, shape.join(", "), tile.layout);
    let _ = write!(text, " in {}", Name(&tile.space));
    if tile.slots != 1 {
        let _ = write!(text, " slots {}", tile.slots);
    }
    if let Some(address) = tile.address {
        let _ = write!(text, " at {address}");
    }
    text
}

/// Sizes in a row.
pub(super) fn dims(dims: &[Dim]) -> String {
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
