//! The verifier: whether a program keeps the rules of the IR and of its machine.
//!
//! ```text
//! Tiled          ids, ranks, types, bounds, capacities, order of reads and writes, buffers and steps
//!   Routed       spaces, layouts and types that units take; data paths that exist and do what a copy asks
//!     Placed     addresses: capacity, alignment of tiles and of their parts, no two tiles alive at once in the same bytes
//!       Synchronised   events: every dependence between pipes and cores is ordered, every signal is taken once; what is read
//!                      was written; items do not meet
//! ```
//! Each stage checks what the ones before it check. All faults are found at once and shown under the lines they are about. Bounds
//! that depend on symbols are proven; those that cannot be are returned as [`BindCheck`]s, to be decided when the symbols are known.
//! Time and memory are bounded by the program's size, whatever it says.

mod bind;
mod instr;
mod kernel;
mod place;
mod prove;
mod shapes;
mod steps;
mod sync;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::{
    Machine, Program,
    text::{Anchor, Listing, listing},
};

pub use bind::{BindCheck, Violated};
pub(crate) use instr::{Runner, runner};
pub use instr::{access_transforms, compute_type, transforms};
pub use place::{Life, lives};
pub use prove::Variable;
pub use steps::in_place_pairs;

/// How far a program has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Cut into tiles; operands may be in spaces that the units do not reach.
    Tiled,
    /// Every operand is where its unit takes it.
    Routed,
    /// Every tile has an address.
    Placed,
    /// Pipes are ordered by events.
    Synchronised,
}

/// Everything wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    listing: Listing,
    faults: Vec<(Anchor, String)>,
}

/// More faults than this are counted, not kept.
const MOST: usize = 200;

/// Checks a program for a machine. Gives what remains to be checked when its symbols are bound, in the program and those nested in it.
///
/// # Errors
/// All faults, with the lines they are about.
pub fn verify(program: &Program, machine: &Machine, stage: Stage) -> Result<Vec<BindCheck>, Faults> {
    check(program, Some((machine, stage)))
}

/// What remains to be checked when the symbols of a program (not of those nested in it) are bound.
///
/// # Errors
/// As [`verify`] without a machine.
pub fn bind_checks(program: &Program) -> Result<Vec<BindCheck>, Faults> {
    let checks = check(program, None)?;
    Ok(checks.into_iter().filter(|check| check.anchor.first() != Some(&crate::text::part::STEP)).collect())
}

fn check(program: &Program, machine: Option<(&Machine, Stage)>) -> Result<Vec<BindCheck>, Faults> {
    let mut report = Report::default();
    steps::program(program, machine, &Default::default(), &mut report);
    if report.faults.is_empty() {
        return Ok(report.checks);
    }
    report.faults.sort();
    report.faults.dedup();
    Err(Faults { listing: listing(program), faults: report.faults })
}

/// Faults and open checks as they are found.
struct Report {
    path: Anchor,
    faults: Vec<(Anchor, String)>,
    checks: Vec<BindCheck>,
    budget: prove::Budget,
}

impl Default for Report {
    fn default() -> Report {
        // Terms of expressions that proofs may look at in one program: seconds at worst.
        Report { path: Vec::new(), faults: Vec::new(), checks: Vec::new(), budget: prove::Budget(20_000_000) }
    }
}

impl Report {
    fn fault(&mut self, message: impl Into<String>) {
        if self.faults.len() < MOST {
            self.faults.push((self.path.clone(), message.into()));
        }
    }

    fn fault_if(&mut self, wrong: bool, message: impl FnOnce() -> String) {
        if wrong {
            self.fault(message());
        }
    }

    /// Runs `f` one level deeper in the program.
    fn at<T>(&mut self, path: &[u32], f: impl FnOnce(&mut Report) -> T) -> T {
        let depth = self.path.len();
        self.path.extend_from_slice(path);
        let result = f(self);
        self.path.truncate(depth);
        result
    }
}

impl Faults {
    /// Places and messages, in the order of the listing.
    pub fn iter(&self) -> impl Iterator<Item = (&Anchor, &str)> {
        self.faults.iter().map(|(anchor, message)| (anchor, message.as_str()))
    }

    /// The line that shows an anchor, or the one it is part of.
    fn line(&self, anchor: &[u32]) -> Option<usize> {
        (0..=anchor.len()).rev().find_map(|end| self.listing.lines.iter().position(|line| line.anchor == anchor[..end]))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        writeln!(f, "the program breaks {count}{} rules:", if count == MOST { " or more" } else { "" })?;
        let (mut shown, mut kernel) = (None, None);
        for (anchor, message) in &self.faults {
            let line = self.line(anchor);
            if let Some((at, line)) = line.and_then(|at| Some((at, self.listing.lines.get(at)?)))
                && shown != Some(at)
            {
                shown = Some(at);
                kernel = self.write_enclosing(f, anchor, kernel)?;
                writeln!(f, "{:5} | {:indent$}{}", at + 1, "", line.text, indent = 2 * line.indent)?;
            }
            writeln!(f, "      ^ {message}")?;
        }
        Ok(())
    }
}

impl Faults {
    /// The line that opens the kernel, for statements inside one, unless it is shown already. Gives the line shown last.
    fn write_enclosing(
        &self,
        f: &mut fmt::Formatter<'_>,
        anchor: &[u32],
        shown: Option<usize>,
    ) -> Result<Option<usize>, fmt::Error> {
        let kernel = anchor.windows(2).position(|pair| pair[0] == crate::text::part::KERNEL);
        let Some(at) = kernel.filter(|at| anchor.len() > at + 2).and_then(|at| self.line(&anchor[..at + 2])) else {
            return Ok(None);
        };
        if shown != Some(at) {
            let line = &self.listing.lines[at];
            writeln!(f, "{:5} | {:indent$}{}", at + 1, "", line.text, indent = 2 * line.indent)?;
        }
        Ok(Some(at))
    }
}

impl std::error::Error for Faults {}
