//! `tarsia calibrate`.

use std::process::ExitCode;

use clap::Args;
use tarsia::{Error, sim::calibrate};

use super::TargetArgument;

/// Simulates published measurements, and writes what was measured beside what is simulated (docs/calibration.md).
///
/// The measured programs are rebuilt as tile programs; they are for chips with the pipes and spaces of those that were measured.
///
/// Example:
///   tarsia calibrate --target ascend910b1 > docs/calibration.md
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    target: TargetArgument,
}

/// Prints the document.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let machine = arguments.target.machine()?;
    let calibration = calibrate::calibrate(&machine)?;
    print!("{}", calibrate::document(&machine, &calibration));
    Ok(ExitCode::SUCCESS)
}
