//! ONNX's own conformance cases, those of com.microsoft's operators and of some that ONNX has none of (kind `contrib`), and of classical
//! machine learning (`ml`), one test each.
//!
//! The cases are data made by `generate.py` into `target/conformance`, and by `generate_ml.py` beside it, at the first run. Where that is not
//! possible (no Python, no registry) nothing is run and standard error says so; with `CI=true` it is a failure.
//! All of them pass.

mod cases;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Arguments;
use support::library::{self, Case, Setting};
use support::suite::Suite;

fn main() -> ExitCode {
    support::isolated::serve_if_worker(library::compare);
    let arguments = Arguments::from_args();
    let folders = match cases::all() {
        Ok(folders) => folders,
        Err(reason) => return without_cases(&arguments, &reason),
    };
    let cases =
        folders.into_iter().map(|(name, folder)| (name, Case { folder, setting: Setting::of("cpu") })).collect();
    Suite {
        name: "conformance",
        not_passing: "tests/conformance/not_passing.txt",
        // The cases are small: one that takes longer hangs.
        time_limit: Duration::from_secs(20),
        cases,
        skipped: Default::default(),
    }
    .run(arguments)
}

/// The cases could not be made: skipped loudly, or a failure in CI.
fn without_cases(arguments: &Arguments, reason: &str) -> ExitCode {
    eprintln!("\n*** ONNX's conformance cases were NOT run: {reason}");
    eprintln!("*** they need python3 with venv, and the package registry, at the first run\n");
    if std::env::var_os("CI").is_some_and(|v| v == "true") {
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(arguments, Vec::new()).exit_code()
}
