//! The subcommands: one module each, arguments beside what they do.

mod bench;
mod calibrate;
mod check;
mod compare;
mod compile;
mod explain;
mod inspect;
mod profile;
mod run;
mod simulate;
mod targets;
mod values;

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;
use tarsia::{Error, Isa, Limits, Options, SessionOptions, Weights};

/// Compiles ONNX models into tiled programs and runs them.
///
/// A MODEL is an ONNX model (binary or textual), a dump of any stage (`tarsia compile --emit`) or a compiled `.tarsia` file: what it
/// is, its content tells. Any of them may be compressed by gzip, and `-` reads it from standard input. Exit codes: 0 success, 1 an internal error or results that differ, 2 an error in the arguments or files.
#[derive(Parser)]
#[command(name = "tarsia", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Say what is being done, on standard error; twice for details.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    Compile(compile::Arguments),
    Run(run::Arguments),
    Check(check::Arguments),
    Inspect(inspect::Arguments),
    Explain(explain::Arguments),
    Bench(bench::Arguments),
    Compare(compare::Arguments),
    Simulate(simulate::Arguments),
    Targets(targets::Arguments),
    Calibrate(calibrate::Arguments),
}

/// Bounds on what a file may ask for.
#[derive(Args, Clone, Copy)]
struct LimitArguments {
    /// Refuse models that declare more than this many MiB of tensors.
    #[arg(long, value_name = "MIB", default_value_t = 16 << 10)]
    memory_limit: u64,
    /// What must be there of weights in files beside the model: data, or, for a model that is not run, only shapes.
    #[arg(long, value_enum, default_value_t = WeightsArgument::Data)]
    weights: WeightsArgument,
}

/// As [`Weights`].
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum WeightsArgument {
    /// Their data: a file that is absent is an error.
    Data,
    /// Their types and shapes: files may be absent.
    Shapes,
}

impl LimitArguments {
    fn limits(self) -> Limits {
        let weights = match self.weights {
            WeightsArgument::Data => Weights::Data,
            WeightsArgument::Shapes => Weights::Shapes,
        };
        Limits { max_bytes: self.memory_limit.saturating_mul(1 << 20), weights, ..Limits::default() }
    }
}

/// What to compile for.
#[derive(Args, Clone)]
struct TargetArgument {
    /// The machine to compile for: a name that `tarsia targets` lists, or a description file (.toml).
    #[arg(long, value_name = "MACHINE", default_value = "cpu")]
    target: String,
    /// Compile for so many of the machine's cores; a group that shares one item of work counts as one.
    #[arg(long, value_name = "N")]
    cores: Option<usize>,
}

impl TargetArgument {
    fn machine(&self) -> Result<tarsia::Machine, Error> {
        let machine = tarsia::machine(&self.target)?;
        match self.cores {
            Some(count) => tarsia::with_cores(&machine, count),
            None => Ok(machine),
        }
    }
}

/// What forms and kernels are chosen for, and in which type models are computed.
#[derive(Args, Clone)]
struct ChoiceArguments {
    /// Store and multiply models in f32 as f32 or f16. Inputs and outputs keep their types; sums, norms and softmax stay f32.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    precision: tarsia::Precision,
    /// A size to choose forms and kernels for, as seq=1 for decoding; what is compiled is right for all sizes.
    #[arg(long, value_name = "SYMBOL=N")]
    assume: Vec<values::SizeArgument>,
    /// Tiles of a kernel as `tarsia simulate` names it (contract12), or of all of a kind (contract): ROWSxCOLUMNS or ROWSxCOLUMNSxDEPTH
    /// of contract and conv, ROWSxKEYS of attention, ELEMENTS of map, rows, window and index.
    #[arg(long, value_name = "KERNEL=SIZE")]
    tile: Vec<tarsia::TileSize>,
}

impl ChoiceArguments {
    fn options(&self) -> Options {
        let sizes = values::by_symbol(&self.assume);
        Options { precision: self.precision, sizes, tiles: self.tile.clone(), ..Options::default() }
    }
}

/// How a program is run.
#[derive(Args, Clone, Copy)]
struct SessionArguments {
    /// Threads; all cores if absent.
    #[arg(long, short, value_name = "N")]
    threads: Option<usize>,
    /// Highest instruction set to use: avx512, avx2 or portable. Also set by TARSIA_ISA.
    #[arg(long, value_name = "NAME", env = "TARSIA_ISA")]
    isa: Option<Isa>,
    /// Stop a loop of the model after so many iterations.
    #[arg(long, value_name = "N", default_value_t = 1 << 24)]
    iteration_limit: u64,
}

impl SessionArguments {
    fn options(self, limits: LimitArguments) -> SessionOptions {
        let mut options = SessionOptions {
            memory_limit: limits.limits().max_bytes as usize,
            iteration_limit: self.iteration_limit,
            ..SessionOptions::default()
        };
        if let Some(threads) = self.threads {
            options.threads = threads;
        }
        if let Some(isa) = self.isa {
            options.isa = Some(isa);
        }
        options
    }
}

/// Does what the arguments ask for.
///
/// # Errors
/// Whatever goes wrong; the caller prints it.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    match arguments.command {
        Command::Compile(arguments) => compile::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Targets(arguments) => targets::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
    }
}

/// Sends log messages to standard error.
pub fn log(verbose: u8) {
    // What the e-graph library logs about itself is of no use here.
    let level = ["error", "egg=error,info", "egg=error,debug"][usize::from(verbose.min(2))];
    let filter = tracing_subscriber::EnvFilter::try_from_env("TARSIA_LOG").unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}

/// Colour for the word that begins an error message.
pub fn paint_error(text: &str) -> impl Display + '_ {
    text.red().bold().to_string()
}

/// A spinner on standard error while something long goes on; nothing where that is no terminal.
fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// The only model of a folder with its first data set, or the file itself.
fn model_of(path: &Path) -> Result<(PathBuf, Option<PathBuf>), Error> {
    if path == Path::new(tarsia::STANDARD_INPUT) || !path.is_dir() {
        return Ok((path.to_owned(), None));
    }
    let folder = tarsia::Folder::open(path)?;
    Ok((folder.model, folder.sets.into_iter().next()))
}

/// Refuses to replace a file unless asked to.
fn may_write(path: &Path, force: bool) -> Result<(), Error> {
    if path.exists() && !force {
        return Err(Error::Usage(format!("{} exists; give --force to replace it", path.display())));
    }
    Ok(())
}

/// Prints a value as JSON on one line.
fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value).map_err(|e| Error::Usage(e.to_string()))?;
    println!("{text}");
    Ok(())
}
