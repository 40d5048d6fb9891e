//! A list of cases that do not pass yet: `GROUP/CASE # reason` a line, sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::suite::Verdicts;

const HEADER: &str = "\
# Cases that do not pass yet, with the first line of the reason. A case that passes must leave the list:
# TARSIA_BLESS=1 cargo test --release --test SUITE rewrites it.
";
/// Reasons are cut to this many characters.
const REASON: usize = 140;

/// Reason by case name.
pub struct NotPassing {
    file: &'static str,
    cases: BTreeMap<String, String>,
    /// What is wrong with the file itself.
    faults: Vec<String>,
}

impl NotPassing {
    /// Reads the list `file`, relative to the root of the repository; a missing file is an empty list.
    pub fn read(file: &'static str) -> NotPassing {
        let mut list = NotPassing { file, cases: BTreeMap::new(), faults: Vec::new() };
        let text = std::fs::read_to_string(list.path()).unwrap_or_default();
        let mut last = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let (name, reason) = line.split_once(" #").unwrap_or((line, ""));
            let name = name.trim().to_owned();
            if name <= last {
                list.faults.push(format!("`{name}` is not in order, or there twice"));
            }
            list.cases.insert(name.clone(), reason.trim().to_owned());
            last = name;
        }
        list
    }

    /// The list's file, relative to the root of the repository.
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// Whether a case is known to fail.
    pub fn contains(&self, name: &str) -> bool {
        self.cases.contains_key(name)
    }

    /// An error for a list that is unsorted or names cases that do not exist in a group that does: a group
    /// may be missing where its data is.
    pub fn check(&self, names: &[String]) -> Result<(), String> {
        let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let groups: BTreeSet<&str> = names.iter().map(|name| group(name)).collect();
        let strangers = self.cases.keys().filter(|name| groups.contains(group(name)) && !known.contains(name.as_str()));
        let strangers = strangers.map(|name| format!("there is no case `{name}`"));
        let faults: Vec<String> = self.faults.iter().cloned().chain(strangers).collect();
        if faults.is_empty() { Ok(()) } else { Err(format!("{}: {}", self.file, faults.join("; "))) }
    }

    /// The list as the verdicts of this run have it; cases that were not run keep their line while they exist.
    pub fn blessed(&self, verdicts: &Verdicts, names: &[String]) -> NotPassing {
        let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let groups: BTreeSet<&str> = names.iter().map(|name| group(name)).collect();
        let mut cases = self.cases.clone();
        cases.retain(|name, _| known.contains(name.as_str()) || !groups.contains(group(name)));
        for (name, verdict) in verdicts {
            match verdict {
                Ok(()) => cases.remove(name),
                Err(reason) => cases.insert(name.clone(), first_line(reason)),
            };
        }
        NotPassing { file: self.file, cases, faults: Vec::new() }
    }

    /// Writes the list to its file; an empty list has none.
    pub fn write(&self) {
        if self.cases.is_empty() {
            std::fs::remove_file(self.path()).ok();
            return;
        }
        let lines = self.cases.iter().map(|(name, reason)| match reason.as_str() {
            "" => format!("{name}\n"),
            reason => format!("{name} # {reason}\n"),
        });
        let text = HEADER.to_owned() + &lines.collect::<String>();
        std::fs::write(self.path(), text).expect("the list of known failures can be written");
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(self.file)
    }
}

fn group(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

fn first_line(reason: &str) -> String {
    reason.lines().next().unwrap_or_default().trim().chars().take(REASON).collect()
}
