//! The list of cases that do not pass yet: `KIND/CASE # reason` a line, sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::Verdicts;

const HEADER: &str = "\
# Conformance cases that do not pass yet, with the first line of the reason.
# A case that passes must leave the list; TARSIA_CONFORMANCE_BLESS=1 cargo test --release --test conformance rewrites it.
";
/// Reasons are cut to this many characters.
const REASON: usize = 140;

/// Reason by case name.
pub struct NotPassing {
    cases: BTreeMap<String, String>,
    /// What is wrong with the file itself.
    faults: Vec<String>,
}

impl NotPassing {
    /// Reads the checked-in list; a missing file is an empty list.
    pub fn read() -> NotPassing {
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        let mut list = NotPassing { cases: BTreeMap::new(), faults: Vec::new() };
        let mut last = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let (name, reason) = line.split_once('#').unwrap_or((line, ""));
            let name = name.trim().to_owned();
            if name <= last {
                list.faults.push(format!("`{name}` is not in order, or there twice"));
            }
            list.cases.insert(name.clone(), reason.trim().to_owned());
            last = name;
        }
        list
    }

    /// Whether a case is known to fail.
    pub fn contains(&self, name: &str) -> bool {
        self.cases.contains_key(name)
    }

    /// An error for a list that is unsorted or names cases that do not exist.
    pub fn check(&self, known: &BTreeSet<String>) -> Result<(), String> {
        let strangers =
            self.cases.keys().filter(|name| !known.contains(*name)).map(|name| format!("there is no case `{name}`"));
        let faults: Vec<String> = self.faults.iter().cloned().chain(strangers).collect();
        if faults.is_empty() { Ok(()) } else { Err(format!("not_passing.txt: {}", faults.join("; "))) }
    }

    /// The list as the verdicts of this run have it; cases that were not run keep their line.
    pub fn blessed(&self, verdicts: &Verdicts, known: &BTreeMap<String, PathBuf>) -> NotPassing {
        let mut cases = self.cases.clone();
        cases.retain(|name, _| known.contains_key(name));
        for (name, verdict) in verdicts {
            match verdict {
                Ok(()) => cases.remove(name),
                Err(reason) => cases.insert(name.clone(), first_line(reason)),
            };
        }
        NotPassing { cases, faults: Vec::new() }
    }

    /// Writes the checked-in list.
    pub fn write(&self) {
        let lines = self.cases.iter().map(|(name, reason)| match reason.as_str() {
            "" => format!("{name}\n"),
            reason => format!("{name} # {reason}\n"),
        });
        let text = HEADER.to_owned() + &lines.collect::<String>();
        std::fs::write(path(), text).expect("tests/conformance/not_passing.txt can be written");
    }
}

fn first_line(reason: &str) -> String {
    reason.lines().next().unwrap_or_default().trim().chars().take(REASON).collect()
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/not_passing.txt")
}
