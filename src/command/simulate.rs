//! `tarsia simulate`.

mod table;

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde::Serialize;
use tarsia::{DType, Error, Machine, Phase, Session, SimOptions, SimReport, Tensor, read_set, tile};

use super::{
    ChoiceArguments, LimitArguments, SessionArguments, may_write, model_of, print_json, run as runs, spinner, values,
};

/// Most instructions of a timeline.
const SPANS: usize = 400_000;

/// Tells how long a model takes on a machine, and what each kernel is held up by.
///
/// The model is compiled for the machine and its program is simulated: every pipe of every core has a clock, events order them, and
/// memories are shared. Then it is run, on this computer but with the machine's kernels and number formats, and its outputs are
/// printed as `tarsia run` does. A program (a dump of the stage `tiles`, or a compiled file) is simulated as it is, and so are the
/// scheduled kernels that the vendor's open compiler leaves (`module.hivm.opt.mlir`).
///
/// For every kernel the table gives its time without the start of the kernel, its part of the total, what holds it up and how long it
/// would take if that cost nothing, how much of what the machine's units and memory allow it attains, and its busiest pipes. What
/// holds a kernel up is a pipe, `memory` (the bandwidth of device memory), `cache` (that of the cache), `latency` (events and the
/// starting of instructions), `launch` (it is shorter than its start), or `balance`: no resource alone. docs/simulator.md says
/// what is modelled and what is not.
///
/// Examples:
///   tarsia simulate model.onnx --target twopipe
///   tarsia simulate model.onnx --target ascend910b2 --timing-only --size batch=16 --trace model.json
///   tarsia simulate model.onnx --target ascend910b2 --against ascend910b4 --timing-only
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The model, a dump or a compiled file; or a folder with one model.
    model: PathBuf,
    /// The machine: the name of a built-in one, or a description file (.toml); for a program the one that it is for if absent.
    #[arg(long, value_name = "MACHINE")]
    target: Option<String>,
    /// Compile for and simulate so many of the machine's cores; a group that shares one item of work counts as one.
    #[arg(long, value_name = "N")]
    cores: Option<usize>,
    /// Only times: no outputs.
    #[arg(long)]
    timing_only: bool,
    /// Simulate every core and every iteration, instead of one of equal ones.
    #[arg(long)]
    full: bool,
    /// A size; unknown sizes are those of the inputs, or 1.
    #[arg(long, value_name = "SYMBOL=N")]
    size: Vec<values::SizeArgument>,
    /// An input: FILE (.npy, .npz, .pb or .safetensors), in the order of the inputs, or NAME=FILE.
    #[arg(long, short, value_name = "[NAME=]FILE")]
    input: Vec<values::InputFile>,
    /// Seed of random inputs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Compare with another machine (a name, or a file .toml), or with another model or program.
    #[arg(long, value_name = "MACHINE|MODEL")]
    against: Option<String>,
    /// Write what every pipe does when, for https://ui.perfetto.dev and chrome://tracing.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write every output to this folder as NAME.npy.
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
    /// How many kernels to list, and of each output how many of the largest entries.
    #[arg(long, default_value_t = 25)]
    top: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    session: SessionArguments,
    #[command(flatten)]
    choice: ChoiceArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

/// What --json prints.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    report: &'a SimReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<&'a SimReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<Vec<runs::OutputSummary>>,
}

/// A program and what it is simulated on.
struct Subject {
    program: tile::Program,
    machine: Machine,
    data_set: Option<PathBuf>,
    /// What reading it added.
    notes: Vec<String>,
}

/// Compiles, simulates, runs, prints.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    if let Some(path) = &arguments.trace {
        may_write(path, arguments.force)?;
    }
    let progress = spinner("compiling");
    let subject = arguments.subject(&arguments.model, arguments.target.as_deref())?;
    let other = arguments.against.as_deref().map(|other| arguments.other(other)).transpose()?;
    progress.set_message("simulating");
    let spans = if arguments.trace.is_some() { SPANS } else { 0 };
    let inputs = arguments.inputs(&subject)?;
    let report = arguments.simulate(&subject, inputs.as_deref(), spans)?;
    let against = other.map(|other| arguments.simulate(&other, None, 0)).transpose()?;
    progress.finish_and_clear();
    if let Some(path) = &arguments.trace {
        write_trace(path, &report, &subject.machine)?;
    }
    let outputs = match inputs {
        Some(inputs) => Some(arguments.outputs(subject.program, &inputs)?),
        None => None,
    };
    if arguments.json {
        print_json(&Json { report: &report, against: against.as_ref(), outputs })?;
        return Ok(ExitCode::SUCCESS);
    }
    match &against {
        Some(against) => table::print_side_by_side(&report, against, arguments.top),
        None => table::print(&report, arguments.top),
    }
    for output in outputs.iter().flatten() {
        runs::print(output);
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn machine(&self, target: &str) -> Result<Machine, Error> {
        let machine = tarsia::machine(target)?;
        match self.cores {
            Some(count) => tarsia::with_cores(&machine, count),
            None => Ok(machine),
        }
    }

    fn subject(&self, model: &Path, target: Option<&str>) -> Result<Subject, Error> {
        let (model, data_set) = model_of(model)?;
        let mut machine = self.machine(target.unwrap_or("cpu"))?;
        let tarsia::Loaded { start, notes } = tarsia::read(&model, self.limits.limits(), &machine)?;
        if let (tarsia::Start::Program(program), None) = (&start, target) {
            machine = self.machine(&program.target)?;
        }
        let compiled = tarsia::compile_with(start, Phase::Tiles, &machine, self.options())?;
        let program = compiled.program.ok_or_else(|| Error::Usage("nothing to simulate".into()))?;
        Ok(Subject { program, machine, data_set, notes })
    }

    /// Forms and kernels are chosen for the sizes that are simulated.
    fn options(&self) -> tarsia::Options {
        let mut options = self.choice.options();
        let given = values::by_symbol(&self.size);
        given.into_iter().for_each(|(symbol, size)| _ = options.sizes.entry(symbol).or_insert(size));
        options
    }

    /// The same model for another machine, or another model or program.
    fn other(&self, other: &str) -> Result<Subject, Error> {
        let described = Path::new(other).extension().is_some_and(|extension| extension == "toml");
        if described || !Path::new(other).exists() {
            return self.subject(&self.model, Some(other));
        }
        self.subject(Path::new(other), self.target.as_deref())
    }

    /// The inputs to run it with; none if only times are asked for.
    fn inputs(&self, subject: &Subject) -> Result<Option<Vec<Tensor>>, Error> {
        if self.timing_only {
            return Ok(None);
        }
        if let Some(note) = subject.notes.first() {
            return Err(Error::Usage(format!("{note}; it can be timed, not run: give --timing-only")));
        }
        let limits = self.limits.limits();
        let ports = ports(&subject.program);
        let known = subject.known(&limits)?;
        values::inputs(&ports, &self.input, known, &self.size, self.seed, &limits).map(Some)
    }

    fn simulate(&self, subject: &Subject, inputs: Option<&[Tensor]>, spans: usize) -> Result<SimReport, Error> {
        let shapes: Vec<Option<Vec<usize>>> = match inputs {
            Some(inputs) => inputs.iter().map(|tensor| Some(tensor.shape().to_vec())).collect(),
            None if self.size.is_empty() => {
                let known = subject.known(&self.limits.limits())?;
                known.iter().map(|tensor| tensor.as_ref().map(|tensor| tensor.shape().to_vec())).collect()
            }
            None => Vec::new(),
        };
        let bindings = values::symbols(&subject.program, &shapes, &self.size)?;
        let options = SimOptions { full: self.full, spans, ..SimOptions::default() };
        let mut report = tarsia::simulate(&subject.program, &subject.machine, &bindings, &options)?;
        report.notes.extend(subject.notes.iter().cloned());
        Ok(report)
    }

    fn outputs(&self, program: tile::Program, inputs: &[Tensor]) -> Result<Vec<runs::OutputSummary>, Error> {
        let names: Vec<String> = program.outputs.iter().map(|port| port.name.clone()).collect();
        let session = Session::new(program, &self.session.options(self.limits))?;
        let outputs = session.run(inputs)?;
        if let Some(folder) = &self.output {
            runs::write(folder, &names, &outputs, self.force)?;
        }
        let top = self.top.min(5);
        Ok(names.iter().zip(&outputs).map(|(name, tensor)| runs::summary(name, tensor, top)).collect())
    }
}

impl Subject {
    /// The inputs of the first data set.
    fn known(&self, limits: &tarsia::Limits) -> Result<Vec<Option<Tensor>>, Error> {
        match &self.data_set {
            Some(set) => read_set(set, "input", self.program.inputs.len(), limits),
            None => Ok(Vec::new()),
        }
    }
}

fn ports(program: &tile::Program) -> Vec<(tile::Port, DType)> {
    program.inputs.iter().map(|port| (port.clone(), program.buffers[port.buffer.0 as usize].dtype)).collect()
}

fn write_trace(path: &Path, report: &SimReport, machine: &Machine) -> Result<(), Error> {
    let io = |reason| Error::Io { path: path.to_owned(), reason };
    let mut file = BufWriter::new(std::fs::File::create(path).map_err(io)?);
    report.timeline.write(&mut file, 1e6 * machine.seconds(1.0)).map_err(io)?;
    file.flush().map_err(io)
}
