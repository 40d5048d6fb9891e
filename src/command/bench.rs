//! `tarsia bench`.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use tarsia::{Error, Folder, Phase, Session, Tensor, Tolerance, difference, read_set, set_inputs};

use super::{ChoiceArguments, LimitArguments, SessionArguments, TargetArgument, print_json, profile};

/// Measures how long a model takes on the first data set of its folder.
///
/// The last line of the output with --json is an object: median_ms, min_ms, load_ms (reading and compiling), first_ms (the first run),
/// rss_mb (largest resident memory), match (whether the outputs are the expected ones).
#[derive(Args)]
pub struct Arguments {
    /// A folder in ONNX's layout.
    folder: PathBuf,
    /// Least number of timed runs.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Least time of all timed runs together, in seconds.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    min_time: f64,
    /// Print how long compilation's phases and the kernels take.
    #[arg(long)]
    profile: bool,
    /// Write the kernels' times as a trace that chrome://tracing and Perfetto show.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    session: SessionArguments,
    #[command(flatten)]
    target: TargetArgument,
    #[command(flatten)]
    choice: ChoiceArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

#[derive(Serialize)]
struct Measured {
    median_ms: f64,
    min_ms: f64,
    load_ms: f64,
    first_ms: f64,
    rss_mb: f64,
    #[serde(rename = "match")]
    matches: bool,
    runs: usize,
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let limits = arguments.limits.limits();
    let folder = Folder::open(&arguments.folder)?;
    let set = folder.sets.first().ok_or_else(|| Error::Usage("the folder has no data set".into()))?;
    let machine = arguments.target.machine()?;
    let begin = Instant::now();
    let start = tarsia::load(&folder.model, limits, &machine)?;
    let read = begin.elapsed();
    let compiled = tarsia::compile_with(start, Phase::Tiles, &machine, arguments.choice.options())?;
    let phases = compiled.times;
    let program = compiled.program.ok_or_else(|| Error::Usage("nothing was compiled".into()))?;
    let names: Vec<String> = program.outputs.iter().map(|port| port.name.clone()).collect();
    let inputs = set_inputs(set, program.inputs.len(), &limits)?;
    let mut options = arguments.session.options(arguments.limits);
    options.profile = arguments.profile || arguments.trace.is_some();
    let session = Session::new(program, &options)?;
    let load = begin.elapsed();
    let begin = Instant::now();
    let outputs = session.run(&inputs)?;
    let first = begin.elapsed();
    let expected = read_set(set, "output", names.len(), &limits)?;
    let matches = agree(&expected, &outputs, folder.tolerance.at(arguments.choice.precision));
    let times = measure(&session, &inputs, arguments)?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let measured = Measured {
        median_ms: ms(times[times.len() / 2]),
        min_ms: ms(times[0]),
        load_ms: ms(load),
        first_ms: ms(first),
        rss_mb: peak_memory_mb(),
        matches,
        runs: times.len(),
    };
    let profile = session.take_profile();
    if arguments.profile {
        let phases = phases.iter().map(|(phase, time)| format!("{phase} {:.1} ms", ms(*time)));
        anstream::println!("read {:.1} ms, {}\n", ms(read), phases.collect::<Vec<_>>().join(", "));
        profile::print(&profile);
        anstream::println!();
    }
    if let Some(path) = &arguments.trace {
        profile::write_trace(path, &profile)?;
    }
    if arguments.json {
        print_json(&measured)?;
    } else {
        anstream::println!(
            "median {:.3} ms, fastest {:.3} ms of {} runs",
            measured.median_ms,
            measured.min_ms,
            measured.runs
        );
        anstream::println!(
            "load {:.1} ms, first run {:.1} ms, memory {:.0} MB",
            measured.load_ms,
            measured.first_ms,
            measured.rss_mb
        );
        anstream::println!("outputs {}", if matches { "as expected" } else { "differ from the expected ones" });
    }
    Ok(ExitCode::SUCCESS)
}

fn agree(expected: &[Option<Tensor>], found: &[Tensor], tolerance: Tolerance) -> bool {
    let pairs = expected.iter().zip(found).filter_map(|(e, f)| Some((e.as_ref()?, f)));
    pairs.into_iter().all(|(e, f)| difference("", e, f, tolerance).reason.is_empty())
}

/// The times of all runs, sorted.
fn measure(session: &Session, inputs: &[Tensor], arguments: &Arguments) -> Result<Vec<Duration>, Error> {
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < arguments.runs.max(1) || begin.elapsed().as_secs_f64() < arguments.min_time {
        let start = Instant::now();
        session.run(inputs)?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times)
}

/// Largest resident memory so far, as Linux counts it; 0 where that is not told.
fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}
