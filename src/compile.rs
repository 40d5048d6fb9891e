//! The pipeline, one straight line of named phases.
//!
//! ```text
//! file ─ import ─► Graph ─ optimise, recentre ─► Graph ─ cover, half ─► Graph of kernels ─ lower ─► Program
//! ```

use std::{
    collections::BTreeMap,
    fmt, io,
    path::Path,
    str::FromStr,
    time::{Duration, Instant},
};

use tarsia_graph::{Graph, Op, Type};
use tarsia_lower::{Choices, TileSize};
use tarsia_onnx::{Limits, Model, Source};
use tarsia_tensor::DType;
use tarsia_tile::{Machine, Program};

use crate::{Error, cost};

/// A stage of the pipeline, named after what it yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The imported graph.
    Graph,
    /// The graph after rewriting.
    Optimised,
    /// The graph of kernels.
    Kernels,
    /// The tile program.
    Tiles,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Phase; 4] = [Phase::Graph, Phase::Optimised, Phase::Kernels, Phase::Tiles];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Graph => "graph",
            Phase::Optimised => "optimised",
            Phase::Kernels => "kernels",
            Phase::Tiles => "tiles",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Phase, String> {
        let known = Phase::ALL.map(Phase::name).join(", ");
        Phase::ALL
            .into_iter()
            .find(|p| p.name() == text)
            .ok_or_else(|| format!("`{text}` is no phase; there are {known}"))
    }
}

/// A file that compilation can start from.
#[derive(Debug)]
pub enum Start {
    /// A graph, imported or read from a dump.
    Graph(Graph),
    /// A dumped graph of kernels.
    Kernels(Graph),
    /// A dumped or compiled program.
    Program(Program),
}

/// In which type models in f32 are stored and multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As the model says.
    #[default]
    F32,
    /// Storage and products in f16, everything else inside kernels in f32; inputs and outputs keep their types.
    F16,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Precision, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "f16" => Ok(Precision::F16),
            _ => Err(format!("`{text}` is no precision; there are f32, f16")),
        }
    }
}

/// How to compile.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keep explanations: the report tells by which rules ops were derived.
    pub explain: bool,
    /// Storage and products.
    pub precision: Precision,
    /// The sizes by symbol that forms and kernels are chosen for. What is compiled is right for all sizes.
    pub sizes: BTreeMap<String, i64>,
    /// Tiles of a size that is given instead of chosen.
    pub tiles: Vec<TileSize>,
}

impl Options {
    fn choices(&self) -> Choices {
        Choices { sizes: self.sizes.clone(), tiles: self.tiles.clone() }
    }

    fn cover(&self) -> tarsia_passes::cover::Options {
        let hints = self.sizes.clone();
        tarsia_passes::cover::Options { hints, ..tarsia_passes::cover::Options::default() }
    }
}

/// What compilation makes of a model.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The graph as imported.
    pub graph: Option<Graph>,
    /// The graph after rewriting, and the report.
    pub optimised: Option<(Graph, tarsia_passes::Report)>,
    /// The graph of kernels, and why it is cut so.
    pub kernels: Option<(Graph, tarsia_passes::cover::Decisions)>,
    /// How every value between kernels is stored, where a precision was asked for.
    pub storage: Vec<tarsia_passes::Storage>,
    /// The tile program.
    pub program: Option<Program>,
    /// The sizes by symbol that everything was chosen for, and tiles that were given.
    pub choices: Choices,
    /// How long each phase took.
    pub times: Vec<(Phase, Duration)>,
}

impl Compiled {
    /// Writes the text of a stage, with all of its data: [`load`] reads it back.
    ///
    /// # Errors
    /// If there is no such stage, or `out` does not take the text.
    pub fn dump(&self, phase: Phase, out: &mut dyn io::Write) -> Result<(), Error> {
        let missing = || Error::Usage(format!("this file starts after the stage `{phase}`"));
        let written = match phase {
            Phase::Graph => write!(out, "{}", self.graph.as_ref().ok_or_else(missing)?),
            Phase::Optimised => write!(out, "{}", self.optimised.as_ref().ok_or_else(missing)?.0),
            Phase::Kernels => write!(out, "{}", self.kernels.as_ref().ok_or_else(missing)?.0),
            Phase::Tiles => tarsia_tile::text::write(self.program.as_ref().ok_or_else(missing)?, out),
        };
        written.map_err(|reason| Error::Io { path: format!("the text of the stage `{phase}`").into(), reason })
    }
}

/// What a file holds.
#[derive(Debug)]
pub struct Loaded {
    /// The model or program.
    pub start: Start,
    /// What reading added to it, for the user.
    pub notes: Vec<String>,
}

/// Reads a model, a dump, a compiled file or a module of the vendor's scheduled kernels, any of them compressed by gzip if need be,
/// or on standard input ([`STANDARD_INPUT`]); what it is tells its content. A dumped program is verified for the machine it
/// names: `machine`, or one that comes with the compiler.
///
/// # Errors
/// If the file cannot be read, is none of these, or is broken.
pub fn load(path: &Path, limits: Limits, machine: &Machine) -> Result<Start, Error> {
    read(path, limits, machine).map(|loaded| loaded.start)
}

/// As [`load`], with the notes.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path, limits: Limits, machine: &Machine) -> Result<Loaded, Error> {
    start(open(path, &limits)?, &limits, machine)
}

/// What bytes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Compiled,
    Graph,
    Program,
    Module,
    Model,
}

impl Form {
    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Form::Compiled => "compiled program",
            Form::Graph => "dumped graph",
            Form::Program => "dumped program",
            Form::Module => "scheduled kernels",
            Form::Model => "ONNX model",
        }
    }
}

/// What a source holds, as its first bytes tell; a model if nothing else.
pub(crate) fn form(source: &Source) -> Form {
    /// As much of a file as tells what it is.
    const HEAD: usize = 4096;
    let head = source.bytes().get(..HEAD).unwrap_or(source.bytes());
    match head {
        head if head.starts_with(&tarsia_tile::artifact::MAGIC) => Form::Compiled,
        head if head.starts_with(b"graph ") => Form::Graph,
        head if head.starts_with(b"program ") => Form::Program,
        head if tarsia_hivm::import::is_module(&String::from_utf8_lossy(head)) => Form::Module,
        _ => Form::Model,
    }
}

/// Parses, verifies or imports what a source holds.
pub(crate) fn start(source: Source, limits: &Limits, machine: &Machine) -> Result<Loaded, Error> {
    let wrong = |reason: String| Error::Text { path: source.label().into(), reason };
    let alone = |start| Loaded { start, notes: Vec::new() };
    match form(&source) {
        Form::Compiled => {
            let limits = tarsia_tile::artifact::Limits::default();
            let program = tarsia_tile::artifact::read_for(source.bytes().clone(), &limits, machine);
            Ok(alone(Start::Program(program.map_err(|e| wrong(e.to_string()))?)))
        }
        Form::Graph => {
            let graph = text(&source, limits)?.parse::<Graph>().map_err(|e| wrong(e.to_string()))?;
            let has_kernels = graph.node_ids().any(|id| matches!(graph[id].op, Op::Kernel { .. }));
            Ok(alone(if has_kernels { Start::Kernels(graph) } else { Start::Graph(graph) }))
        }
        Form::Program => {
            let program = text(&source, limits)?.parse::<Program>().map_err(|e| wrong(e.to_string()))?;
            let stage = tarsia_tile::verify::Stage::Synchronised;
            let named = if program.target == machine.name { machine.clone() } else { self::machine(&program.target)? };
            tarsia_tile::verify::verify(&program, &named, stage).map_err(|e| wrong(e.to_string()))?;
            Ok(alone(Start::Program(program)))
        }
        Form::Module => {
            let options = tarsia_hivm::import::Options::default();
            let imported = tarsia_hivm::import::import(text(&source, limits)?, machine, &options);
            let imported = imported.map_err(|e| wrong(e.to_string()))?;
            Ok(Loaded { start: Start::Program(imported.program), notes: imported.notes })
        }
        Form::Model => {
            let model = Model::from_source(source, *limits)?;
            Ok(alone(Start::Graph(tarsia_onnx::import(&model, &tarsia_onnx::Options::default())?)))
        }
    }
}

/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// The bytes behind a path, unpacked; [`STANDARD_INPUT`] is read to its end.
///
/// # Errors
/// If they cannot be read, or pass the limits.
pub fn open(path: &Path, limits: &Limits) -> Result<Source, Error> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok(Source::from_reader("standard input", std::io::stdin().lock(), limits)?);
    }
    Ok(Source::open(path, limits)?)
}

fn text<'a>(source: &'a Source, limits: &Limits) -> Result<&'a str, Error> {
    let wrong = |reason: String| Error::Text { path: source.label().into(), reason };
    let size = source.bytes().len() as u64;
    // Constants are in base64 in a dump.
    if size > limits.max_bytes.saturating_mul(2) {
        return Err(wrong(format!("{size} bytes of text are more than the limit allows")));
    }
    std::str::from_utf8(source.bytes()).map_err(|e| wrong(e.to_string()))
}

/// Compiles for a machine up to and including `last`.
///
/// # Errors
/// If a phase fails.
pub fn compile(start: Start, last: Phase, machine: &Machine) -> Result<Compiled, Error> {
    compile_with(start, last, machine, Options::default())
}

/// Compiles up to and including `last`.
///
/// # Errors
/// If a phase fails, or tiles are given for a program that has its own.
pub fn compile_with(start: Start, last: Phase, machine: &Machine, options: Options) -> Result<Compiled, Error> {
    let mut compiled = Compiled { choices: options.choices(), ..Compiled::default() };
    let mut clock = Instant::now();
    let mut lap = |times: &mut Vec<(Phase, Duration)>, phase| {
        times.push((phase, clock.elapsed()));
        clock = Instant::now();
    };
    let loaded = matches!(start, Start::Kernels(_));
    let kernels = match start {
        Start::Program(program) => {
            if let Some(tile) = options.tiles.first() {
                return Err(Error::Usage(format!("`{tile}` is asked for, but the program has its tiles already")));
            }
            compiled.program = Some(program);
            return Ok(compiled);
        }
        Start::Kernels(kernels) => (kernels, tarsia_passes::cover::Decisions::default()),
        Start::Graph(graph) => {
            let graph = &*compiled.graph.insert(graph);
            if last == Phase::Graph {
                return Ok(compiled);
            }
            let mut optimised = optimise(graph, machine, &options)?;
            if multiplies_bytes_only(machine) {
                optimised.0 = tarsia_passes::recentre(&optimised.0, CONSTANT_BYTES).map_err(internal("recentre"))?.0;
            }
            lap(&mut compiled.times, Phase::Optimised);
            let kernels = if last > Phase::Optimised { Some(cover(&optimised.0, machine, &options)?) } else { None };
            compiled.optimised = Some(optimised);
            lap(&mut compiled.times, Phase::Kernels);
            match kernels {
                Some(kernels) => kernels,
                None => return Ok(compiled),
            }
        }
    };
    let (mut kernels, decisions) = kernels;
    if last >= Phase::Kernels && options.precision == Precision::F16 {
        (kernels, compiled.storage) = tarsia_passes::half(&kernels).map_err(internal("half"))?;
    }
    if !loaded {
        let wants =
            |op: &Op, image: &Type, weights: &Type| tarsia_lower::wants_channels_last(machine, op, image, weights);
        let worth = |ty: &Type, times: usize| elements(ty, &options.sizes).saturating_mul(times as i64) >= TURNED;
        let liking = tarsia_passes::Liking { wants: &wants, worth: &worth };
        kernels = tarsia_passes::channels_last(&kernels, liking).map_err(internal("channels_last"))?;
    }
    let kernels = &compiled.kernels.insert((kernels, decisions)).0;
    if last == Phase::Tiles {
        compiled.program = Some(lower(kernels, machine, &compiled.choices)?);
        lap(&mut compiled.times, Phase::Tiles);
    }
    Ok(compiled)
}

/// An image of so many elements, counted as often as they are read, is worth a kernel that changes the order in which they are stored.
const TURNED: i64 = 1 << 18;

/// Elements of a value, what is not known taken to be 1.
fn elements(ty: &Type, sizes: &BTreeMap<String, i64>) -> i64 {
    let count = ty.count().eval(&|symbol| Some(sizes.get(symbol.name()).copied().unwrap_or(1)));
    count.unwrap_or(0)
}

/// How many bytes of constants may be computed where products are rewritten.
const CONSTANT_BYTES: usize = 256 << 20;

fn internal(phase: &'static str) -> impl Fn(tarsia_passes::PassError) -> Error {
    move |e| Error::Pass { phase, reason: e.to_string() }
}

/// Whether a machine multiplies integers of one byte but no wider ones.
fn multiplies_bytes_only(machine: &Machine) -> bool {
    machine.product(DType::I8, DType::I8).is_some() && machine.product(DType::I32, DType::I32).is_none()
}

/// Rewriting into the form whose kernels take least time on the machine.
///
/// # Errors
/// If a pass fails.
pub fn optimise(graph: &Graph, machine: &Machine, options: &Options) -> Result<(Graph, tarsia_passes::Report), Error> {
    let (model, cover) = (cost::model(machine), options.cover());
    let extract = tarsia_passes::cover::ByKernels { model: &model, options: &cover };
    let explain = options.explain;
    let options = tarsia_passes::Options { extract: &extract, explain, ..tarsia_passes::Options::default() };
    tarsia_passes::optimise(graph, &options).map_err(internal("optimise"))
}

/// Covering with kernels.
///
/// # Errors
/// If the pass fails.
pub fn cover(
    graph: &Graph,
    machine: &Machine,
    options: &Options,
) -> Result<(Graph, tarsia_passes::cover::Decisions), Error> {
    tarsia_passes::cover::cover(graph, &cost::model(machine), &options.cover()).map_err(internal("cover"))
}

/// Lowering to the machine's tile program.
///
/// # Errors
/// If some kernel has none, or a tile that is given does not fit.
pub fn lower(kernels: &Graph, machine: &Machine, choices: &Choices) -> Result<Program, Error> {
    tarsia_lower::lower(kernels, machine, choices).map_err(Error::Lower)
}

/// The machine of this name, or that a description file (`.toml`) describes.
///
/// # Errors
/// If there is none, or the description is wrong.
pub fn machine(target: &str) -> Result<Machine, Error> {
    let path = Path::new(target);
    let described = path.extension().is_some_and(|extension| extension == "toml");
    let machine = if described { Machine::load(path) } else { Machine::builtin(target) };
    machine.map_err(|e| Error::Usage(e.to_string()))
}

/// The machine with only so many cores (of groups of them, where several work on one item).
///
/// # Errors
/// If it has not so many.
pub fn with_cores(machine: &Machine, count: usize) -> Result<Machine, Error> {
    machine.with_cores(count).map_err(|e| Error::Usage(e.to_string()))
}
