//! ONNX's own conformance cases, one test each.
//!
//! The cases are data made by `generate.py` into `target/conformance`, at the first run. Where that is not
//! possible (no Python, no registry) nothing is run and standard error says so; with `CI=true` it is a failure.
//!
//! `not_passing.txt` lists the cases that are known to fail. A case that fails must be on it, a case
//! that passes must not: the list only ever tells the truth. A known failure is run too and shown as
//! ignored. `TARSIA_CONFORMANCE_BLESS=1` rewrites the lines of the cases that were run.

mod cases;
#[path = "../support/isolated.rs"]
mod isolated;
mod not_passing;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use isolated::Workers;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use not_passing::NotPassing;

/// Longest time of one case; they are small, so one that takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Address space of one worker, bytes: a runaway case must not take the machine with it.
const MEMORY_LIMIT: u64 = 8 << 30;
/// Rewrites the list instead of checking it.
const BLESS: &str = "TARSIA_CONFORMANCE_BLESS";

/// How each case ended, by name; the error is the reason.
type Verdicts = BTreeMap<String, Result<(), String>>;

fn main() -> ExitCode {
    isolated::serve_if_worker(|folder| run_case(Path::new(folder)));
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let cases = match cases::all() {
        Ok(cases) => cases,
        Err(reason) => return without_cases(&arguments, &reason),
    };
    let bless = std::env::var_os(BLESS).is_some_and(|v| v == "1");
    let listed = Arc::new(NotPassing::read());
    let verdicts = Arc::new(Mutex::new(Verdicts::new()));
    let workers = Arc::new(Workers::new(TIME_LIMIT, MEMORY_LIMIT));

    let mut trials: Vec<Trial> = Vec::with_capacity(cases.len() + 1);
    for (name, folder) in &cases {
        let (name, folder) = (name.clone(), folder.display().to_string());
        let (listed, verdicts, workers) = (listed.clone(), verdicts.clone(), workers.clone());
        trials.push(Trial::ignorable_test(name.clone(), move || {
            // Reasons are kept in the list, which must be the same on every machine.
            let verdict = workers.run(&folder).map_err(|reason| reason.replace(&folder, &name));
            let outcome = judge(&name, &verdict, &listed, bless);
            verdicts.lock().unwrap_or_else(PoisonError::into_inner).insert(name, verdict);
            outcome
        }));
    }
    if !bless {
        let (listed, known) = (listed.clone(), cases.keys().cloned().collect());
        trials.push(Trial::test("not_passing_list", move || listed.check(&known).map_err(Failed::from)));
    }

    let conclusion = libtest_mimic::run(&arguments, trials);
    let verdicts = std::mem::take(&mut *verdicts.lock().unwrap_or_else(PoisonError::into_inner));
    if !verdicts.is_empty() {
        println!("{}", totals(&verdicts));
    }
    if bless {
        listed.blessed(&verdicts, &cases).write();
    }
    conclusion.exit_code()
}

/// Compiles the model in `folder`, runs it on each of its data sets and compares: the one place
/// where this harness meets the library.
fn run_case(folder: &Path) -> Result<(), String> {
    let _ = folder;
    Err("the library cannot compare yet".to_owned())
}

/// What a verdict means for the test run, given the list.
fn judge(name: &str, verdict: &Result<(), String>, listed: &NotPassing, bless: bool) -> Result<Completion, Failed> {
    match (verdict, listed.contains(name)) {
        (Ok(()), true) if !bless => {
            Err(format!("passes now: remove the line `{name}` from tests/conformance/not_passing.txt").into())
        }
        (Err(reason), false) if !bless => Err(reason.into()),
        (Err(reason), _) => Ok(Completion::ignored_with(reason.lines().next().unwrap_or_default())),
        (Ok(()), _) => Ok(Completion::Completed),
    }
}

/// One line: passed of run, by suite.
fn totals(verdicts: &Verdicts) -> String {
    let mut suites: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (name, verdict) in verdicts {
        let suite = name.split('/').next().unwrap_or(name);
        let (passed, run) = suites.entry(suite).or_default();
        *passed += usize::from(verdict.is_ok());
        *run += 1;
    }
    let (passed, run) = suites.values().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
    let parts: Vec<String> = suites.iter().map(|(suite, (passed, run))| format!("{suite} {passed}/{run}")).collect();
    format!("conformance: {}, all {passed}/{run}", parts.join(", "))
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
