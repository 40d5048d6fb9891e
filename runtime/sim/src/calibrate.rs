//! Calibration: published measurements, rebuilt as programs, beside what the simulator says of them, as a document.
//!
//! ```text
//! measured (rows) ─► programs (tile IR) ─► simulate ─► Outcome (measured, simulated, error) ─► document (Markdown)
//! ```

mod document;
mod measured;
mod programs;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tarsia_tile::Machine;

use crate::{KernelReport, Options, SimError};
use measured::{Program, Row};

/// Measured and simulated time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Microseconds.
    pub measured: f64,
    /// Microseconds.
    pub simulated: f64,
}

/// A published measurement and its simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What was measured.
    pub name: String,
    /// Of the whole kernel.
    pub kernel: Pair,
    /// Of its pipes, where they were measured.
    pub pipes: Vec<(String, Pair)>,
    /// Whether parameters of the machine were fitted to it.
    pub fitted: bool,
}

/// All outcomes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// Reads of matrices.
    pub copies: Vec<Outcome>,
    /// A large product in nine steps.
    pub products: Vec<Outcome>,
    /// An element-wise sum.
    pub sums: Vec<Outcome>,
    /// Rows whose own times were not fitted to.
    pub predictions: Vec<Outcome>,
}

impl Pair {
    /// By what part the simulated time is too long (negative: too short).
    pub fn error(&self) -> f64 {
        self.simulated / self.measured - 1.0
    }
}

/// Simulates every published measurement.
///
/// # Errors
/// If the machine does not run the programs: they are for chips with its pipes and spaces.
pub fn calibrate(machine: &Machine) -> Result<Calibration, SimError> {
    let mut known = Vec::new();
    let mut all = |rows: Vec<Row>| rows.iter().map(|row| outcome(row, machine, &mut known)).collect::<Result<_, _>>();
    Ok(Calibration {
        copies: all(measured::copies())?,
        products: all(measured::ladder())?,
        sums: all(measured::sums())?,
        predictions: all(measured::predictions())?,
    })
}

/// The document of a calibration: tables, how the model works, what it does not explain.
pub fn document(machine: &Machine, calibration: &Calibration) -> String {
    document::write(machine, calibration)
}

type Known = Vec<(Program, bool, KernelReport)>;

fn outcome(row: &Row, machine: &Machine, known: &mut Known) -> Result<Outcome, SimError> {
    let report = report(row, machine, known)?;
    let times = row.part as f64;
    let microseconds = |cycles: f64| machine.seconds(cycles) * 1e6 * times;
    let mut pipes = Vec::new();
    for measured in row.pipes {
        let Some(pipe) = report.pipes.iter().find(|pipe| pipe.name == measured.pipe) else { continue };
        // The report's mean is over all cores of the machine, what was measured is over those that work.
        let count = machine.core(&pipe.core).map_or(1, |core| core.count) as f64;
        let idle = count / (report.groups as f64).clamp(1.0, count);
        let cycles = pipe.busy_cycles + if measured.waiting { pipe.waiting_cycles } else { 0.0 };
        let simulated = microseconds(cycles) * idle;
        pipes.push((measured.pipe.to_owned(), Pair { measured: measured.microseconds, simulated }));
    }
    let kernel = Pair { measured: row.microseconds, simulated: microseconds(report.cycles) };
    Ok(Outcome { name: row.name.to_owned(), kernel, pipes, fitted: row.fitted })
}

fn program(row: &Row, machine: &Machine) -> Result<tarsia_tile::Program, SimError> {
    match &row.program {
        Program::Product(product) => product.program(&machine.name),
        Program::Reads(reads) => reads.program(&machine.name),
        Program::Sum(sum) => sum.program(&machine.name),
    }
}

/// The report of a row's program; rows that are one program are simulated once.
fn report(row: &Row, machine: &Machine, known: &mut Known) -> Result<KernelReport, SimError> {
    let same =
        |(program, past_cache, _): &&(Program, bool, _)| *program == row.program && *past_cache == row.past_cache;
    if let Some((_, _, report)) = known.iter().find(same) {
        return Ok(report.clone());
    }
    let program = program(row, machine)?;
    let options = Options { bottlenecks: false, past_cache: row.past_cache, ..Options::default() };
    let report = crate::simulate(&program, machine, &BTreeMap::new(), &options)?.kernels.pop();
    let report = report.ok_or_else(|| SimError::Shapes("a calibration program launches nothing".into()))?;
    known.push((row.program, row.past_cache, report.clone()));
    Ok(report)
}
