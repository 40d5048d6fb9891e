//! A suite of cases, one test each, with a checked-in list of those known to fail.
//!
//! A case that fails must be on the list, a case that passes must not: the list only ever tells the
//! truth. A known failure is run too, and shown as ignored. `TARSIA_BLESS=1` rewrites the lines of the cases that were run.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::isolated::Workers;
use super::library::Case;
use super::not_passing::NotPassing;

/// Address space of one worker, bytes: a runaway case must not take the machine with it.
const MEMORY_LIMIT: u64 = 8 << 30;
/// Rewrites the list instead of checking it.
const BLESS: &str = "TARSIA_BLESS";

/// How each case ended, by name; the error is the reason.
pub type Verdicts = BTreeMap<String, Result<(), String>>;

/// Cases under names `GROUP/…`.
pub struct Suite {
    /// Names the suite in the line of totals.
    pub name: &'static str,
    /// The list of known failures, relative to the root of the repository.
    pub not_passing: &'static str,
    /// Longest time of one case.
    pub time_limit: Duration,
    /// What to run, by name.
    pub cases: BTreeMap<String, Case>,
    /// Reasons not to run a case, by name: shown as ignored.
    pub skipped: BTreeMap<String, String>,
}

impl Suite {
    /// Runs the suite as a test binary does, and prints a line of totals by group at the end.
    pub fn run(self, mut arguments: Arguments) -> ExitCode {
        arguments.test_threads.get_or_insert(2);
        let bless = std::env::var_os(BLESS).is_some_and(|v| v == "1");
        let listed = Arc::new(NotPassing::read(self.not_passing));
        let verdicts = Arc::new(Mutex::new(Verdicts::new()));
        let mut trials = self.trials(&listed, &verdicts, bless);
        for (name, reason) in &self.skipped {
            let reason = reason.clone();
            trials.push(Trial::ignorable_test(name.clone(), move || Ok(Completion::ignored_with(reason))));
        }
        let names: Vec<String> = self.cases.keys().cloned().collect();
        if !bless {
            let (listed, names) = (listed.clone(), names.clone());
            trials.push(Trial::test("not_passing_list", move || listed.check(&names).map_err(Failed::from)));
        }

        let conclusion = libtest_mimic::run(&arguments, trials);
        let verdicts = std::mem::take(&mut *verdicts.lock().unwrap_or_else(PoisonError::into_inner));
        if !verdicts.is_empty() {
            println!("{}: {}\n", self.name, totals(&verdicts));
        }
        if bless {
            listed.blessed(&verdicts, &names).write();
        }
        conclusion.exit_code()
    }

    fn trials(&self, listed: &Arc<NotPassing>, verdicts: &Arc<Mutex<Verdicts>>, bless: bool) -> Vec<Trial> {
        let workers = Arc::new(Workers::new(self.time_limit, MEMORY_LIMIT));
        let trial = |(name, case): (&String, &Case)| {
            let (name, case) = (name.clone(), case.clone());
            let (listed, verdicts, workers) = (listed.clone(), verdicts.clone(), workers.clone());
            Trial::ignorable_test(name.clone(), move || {
                let verdict = workers.run(&case.to_text());
                // Reasons are kept in the list, which must be the same on every machine.
                let verdict = verdict.map_err(|reason| reason.replace(&case.folder.display().to_string(), &name));
                let outcome = judge(&name, &verdict, &listed, bless);
                verdicts.lock().unwrap_or_else(PoisonError::into_inner).insert(name, verdict);
                outcome
            })
        };
        self.cases.iter().map(trial).collect()
    }
}

/// What a verdict means for the test run, given the list.
fn judge(name: &str, verdict: &Result<(), String>, listed: &NotPassing, bless: bool) -> Result<Completion, Failed> {
    match (verdict, listed.contains(name)) {
        (Ok(()), true) if !bless => Err(format!("passes now: remove the line `{name}` from {}", listed.file()).into()),
        (Err(reason), false) if !bless => Err(reason.into()),
        (Err(reason), _) => Ok(Completion::ignored_with(reason.lines().next().unwrap_or_default())),
        (Ok(()), _) => Ok(Completion::Completed),
    }
}

/// Passed of run, by group and of all.
fn totals(verdicts: &Verdicts) -> String {
    let mut groups: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (name, verdict) in verdicts {
        let (passed, run) = groups.entry(name.split('/').next().unwrap_or(name)).or_default();
        *passed += usize::from(verdict.is_ok());
        *run += 1;
    }
    let (passed, run) = groups.values().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
    let parts: Vec<String> = groups.iter().map(|(group, (passed, run))| format!("{group} {passed}/{run}")).collect();
    format!("{}, all {passed}/{run}", parts.join(", "))
}
