//! Random graphs drawn over the core-op table mean the same at every stage: as drawn, rewritten, cut into kernels, and as tile programs
//! that run.
//!
//! A graph has up to 30 ops of all families, mixed element types and symbolic sizes; `tarsia_graph::random` sees to it that it is
//! valid and that rounding in another order cannot make a difference beyond the tolerance. The tiles run on the CPU with and without
//! its vector instructions, and on the machine with two pipes, where copies and arithmetic are synchronised.
//!
//! `TARSIA_GRAPHS=N` draws N graphs instead of 200 (the run is 2000), `TARSIA_SEED=S` begins at another seed. A failure names its
//! seed and prints the graph made small; fixed ones are kept in `cases/`, as `NAME.graph` with its inputs in `NAME.inputs.graph`.

#[path = "../support/isolated.rs"]
mod isolated;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use isolated::Workers;
use libtest_mimic::{Arguments, Failed, Trial};
use tarsia::graph::{Graph, eval, random};
use tarsia::{Isa, Options, Phase, Session, SessionOptions, Start, Tensor};

/// The most that rounding may make of a difference: `random::Options` asks for less, as every stage rounds anew.
const TOLERANCE: f64 = 0.05;
/// Graphs of one trial.
const BATCH: u64 = 20;
/// Address space of a worker, bytes.
const MEMORY: u64 = 8 << 30;

fn main() -> ExitCode {
    isolated::serve_if_worker(attempt);
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |v| v.parse().expect("a number"));
    let (first, count) = (number("TARSIA_SEED", 0), number("TARSIA_GRAPHS", 200));
    println!("graphs of the seeds {first} to {}", first.saturating_add(count).saturating_sub(1));
    let workers = Arc::new(Workers::new(Duration::from_secs(600), MEMORY));
    let batches = (0..count).step_by(BATCH as usize).map(|start| {
        let (from, size) = (first + start, BATCH.min(count - start));
        (format!("seeds/{from}..{}", from + size), format!("{from} {size}"))
    });
    let kept = kept().into_iter().map(|name| (format!("cases/{name}"), name));
    let trials = kept.chain(batches).map(|(name, case)| {
        let workers = workers.clone();
        Trial::test(name, move || workers.run(&case).map_err(Failed::from))
    });
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn cases() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/cases")
}

/// The names of the kept graphs.
fn kept() -> Vec<String> {
    let files = std::fs::read_dir(cases()).into_iter().flatten().filter_map(Result::ok);
    let names = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".graph")?.to_owned()));
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".inputs")).collect();
    names.sort();
    names
}

/// A case is `FIRST COUNT` or the name of a kept graph.
fn attempt(case: &str) -> Result<(), String> {
    let Some((first, count)) = case.split_once(' ') else {
        let read = |suffix: &str| {
            let path = cases().join(format!("{case}{suffix}"));
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            text.parse::<Graph>().map_err(|e| format!("{}: {e}", path.display()))
        };
        let inputs = eval::run(&read(".inputs.graph")?, &[]).map_err(|e| e.to_string())?;
        return check(&read(".graph")?, &inputs, case.len() as u64);
    };
    let (first, count): (u64, u64) = (first.parse().expect("a number"), count.parse().expect("a number"));
    let failures: Vec<String> = (first..first + count).filter_map(|seed| one(seed).err()).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// The graph of a seed; if it fails, small.
fn one(seed: u64) -> Result<(), String> {
    let options = random::Options::default();
    let (graph, inputs) = random::graph(seed, &options);
    let Err(reason) = guarded(&graph, &inputs, seed) else { return Ok(()) };
    let fails =
        |graph: &Graph, inputs: &[Tensor]| eval::run(graph, inputs).is_ok() && guarded(graph, inputs, seed).is_err();
    let small = random::shrink(&graph, &inputs, &fails);
    let reason = guarded(&small, &inputs, seed).err().unwrap_or(reason);
    Err(format!("TARSIA_SEED={seed}: {reason}\n{small}"))
}

/// As [`check`], a panic being a failure.
fn guarded(graph: &Graph, inputs: &[Tensor], seed: u64) -> Result<(), String> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(graph, inputs, seed)));
    outcome.unwrap_or_else(|_| Err(isolated::last_panic()))
}

/// Compares every stage with the reference evaluation of the graph as it was drawn.
fn check(graph: &Graph, inputs: &[Tensor], seed: u64) -> Result<(), String> {
    let expected = eval::run(graph, inputs).map_err(|error| format!("the reference evaluation: {error}"))?;
    for target in ["cpu", "twopipe"] {
        let machine = tarsia::machine(target).map_err(|e| e.to_string())?;
        let start = Start::Graph(graph.clone());
        let compiled = match tarsia::compile_with(start, Phase::Tiles, &machine, Options::default()) {
            // The CPU computes everything in all types; the other machine has f32 and few others.
            Err(tarsia::Error::Lower(_)) if target != "cpu" => continue,
            compiled => compiled.map_err(|error| format!("compiling for {target}: {error}"))?,
        };
        let (optimised, kernels) =
            (compiled.optimised.map(|(graph, _)| graph), compiled.kernels.map(|(graph, _)| graph));
        for (stage, graph) in [("rewritten", optimised), ("as kernels", kernels)] {
            let graph = graph.ok_or("a stage is missing")?;
            let found = eval::run(&graph, inputs).map_err(|error| format!("{stage} for {target}: {error}"))?;
            compare(&expected, &found).map_err(|error| format!("{stage} for {target}: {error}"))?;
        }
        let program = compiled.program.ok_or("no program")?;
        let isa = seed.is_multiple_of(2).then_some(Isa::Portable);
        let options = SessionOptions { threads: 1 + (seed / 2 % 2) as usize, isa, ..SessionOptions::default() };
        let session = Session::new(program, &options).map_err(|error| format!("tiles for {target}: {error}"))?;
        let found = match session.run(inputs) {
            // Rows that its small memory does not hold.
            Err(tarsia_runtime::RunError::Sizes { .. }) if target != "cpu" => continue,
            found => found.map_err(|error| format!("running tiles for {target}: {error}"))?,
        };
        compare(&expected, &found).map_err(|error| format!("running tiles for {target}: {error}"))?;
    }
    Ok(())
}

fn compare(expected: &[Tensor], found: &[Tensor]) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("{} outputs instead of {}", found.len(), expected.len()));
    }
    for (number, (e, f)) in expected.iter().zip(found).enumerate() {
        if (e.dtype(), e.shape()) != (f.dtype(), f.shape()) {
            let (e, f) = ((e.dtype(), e.shape()), (f.dtype(), f.shape()));
            return Err(format!("output {number} is {f:?} instead of {e:?}"));
        }
        let (Ok(x), Ok(y)) = (e.numbers(), f.numbers()) else {
            if e == f {
                continue;
            }
            return Err(format!("output {number} has other texts"));
        };
        let close = |x: f64, y: f64| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= TOLERANCE;
        if let Some(at) = x.to_f64().into_iter().zip(y.to_f64()).position(|(x, y)| !close(x, y)) {
            let (x, y) = (x.to_f64()[at], y.to_f64()[at]);
            return Err(format!("element {at} of output {number} is {y} instead of {x}"));
        }
    }
    Ok(())
}
