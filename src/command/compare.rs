//! `tarsia compare`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use owo_colors::OwoColorize;
use tarsia::{Error, Folder, Phase, compare_folder, read_set, set_inputs};

use super::{ChoiceArguments, LimitArguments, SessionArguments, TargetArgument, print_json, spinner};

/// Runs a model on the test data of its folder and reports how far every output is off.
///
/// The folder is in ONNX's layout: one model, test_data_set_N/{input,output}_K.pb, and rtol and atol in meta.json. With --bisect the
/// phases of compilation are evaluated one after the other, and the first one whose results leave the tolerance is named with its
/// first node that differs.
#[derive(Args)]
pub struct Arguments {
    /// The folder.
    folder: PathBuf,
    /// Find the phase and node where the results part.
    #[arg(long)]
    bisect: bool,
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

/// Compares, and prints a line per output; the exit code says whether all are within the tolerance.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let progress = spinner("comparing");
    let limits = arguments.limits.limits();
    if arguments.bisect {
        return bisect(arguments);
    }
    let machine = arguments.target.machine()?;
    let (options, session) = (arguments.choice.options(), arguments.session.options(arguments.limits));
    let reports = compare_folder(&arguments.folder, limits, &machine, options, &session)?;
    progress.finish_and_clear();
    let passes = reports.iter().all(tarsia::SetReport::passes);
    if arguments.json {
        print_json(&reports)?;
    } else {
        for report in &reports {
            anstream::println!("{}", report.set.bold());
            for output in &report.outputs {
                let verdict =
                    if output.reason.is_empty() { "ok".green().to_string() } else { output.reason.red().to_string() };
                anstream::println!(
                    "  {}: max abs {:.2e}, max rel {:.2e}: {verdict}",
                    output.name,
                    output.max_abs,
                    output.max_rel
                );
            }
        }
        if reports.is_empty() {
            anstream::println!("there are no data sets in {}", arguments.folder.display());
        }
    }
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn bisect(arguments: &Arguments) -> Result<ExitCode, Error> {
    let limits = arguments.limits.limits();
    let folder = Folder::open(&arguments.folder)?;
    let machine = arguments.target.machine()?;
    let (start, options) = (tarsia::load(&folder.model, limits, &machine)?, arguments.choice.options());
    let tolerance = folder.tolerance.at(options.precision);
    let compiled = tarsia::compile_with(start, Phase::Kernels, &machine, options)?;
    let graph = compiled.graph.as_ref().ok_or_else(|| Error::Usage("there is no graph".into()))?;
    for set in &folder.sets {
        let inputs = set_inputs(set, graph.inputs().len(), &limits)?;
        let expected = read_set(set, "output", graph.outputs().len(), &limits)?;
        if let Some(found) = tarsia::bisect(&compiled, &inputs, &expected, tolerance, &machine)? {
            if arguments.json {
                print_json(&found)?;
            } else {
                let node = found.node.as_deref().unwrap_or("no single node");
                anstream::println!(
                    "{}: {} is the first phase that differs, at {node}",
                    set.display(),
                    found.phase.bold()
                );
                anstream::println!("  {}: {}", found.error.name, found.error.reason);
            }
            return Ok(ExitCode::from(1));
        }
    }
    if !arguments.json {
        anstream::println!("every phase agrees with the expected outputs");
    }
    Ok(ExitCode::SUCCESS)
}
