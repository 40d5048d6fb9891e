//! The timing simulator: how long a program takes on a described machine, and why.
//!
//! ```text
//! Program ─ steps ─► launch ─► Code ─┬─ equal cores ─► one of each class, and what the cache holds for it
//!                      │             └─ engine: cores issue, pipes run, events order, memories are shared
//!                   Machine                │
//!                                        Report ─► times, uses, bytes, bottlenecks, timeline
//! ```
//!
//! Nothing is computed: data decide neither costs nor, with the exceptions that [`Report::notes`] names, the number of
//! instructions. The numbers come from the machine description alone.

mod cache;
pub mod calibrate;
mod code;
mod engine;
mod equal;
mod expr;
mod launch;
mod lockstep;
mod memory;
mod price;
mod program;
mod repeat;
mod report;
mod share;
mod trace;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tarsia_tensor::Symbol;
use tarsia_tile::{Kernel, Machine, Program};
use thiserror::Error;

pub use report::{Bottleneck, Bytes, KernelReport, PathReport, PipeReport, Report, Roofline, StepReport};
pub use trace::{Span, Timeline};

/// How to simulate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Every core by itself and every instruction, instead of one of equal cores.
    pub full: bool,
    /// Find out what holds each kernel up, by simulating it again without.
    pub bottlenecks: bool,
    /// How many instructions of the timeline to keep.
    pub spans: usize,
    /// What is read does not come into the cache, as where loads carry a hint that their data is not needed again.
    pub past_cache: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { full: false, bottlenecks: true, spans: 0, past_cache: false }
    }
}

/// Why a program cannot be simulated.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SimError {
    /// A size is not known.
    #[error("the size `{symbol}` is not known: give it a value")]
    Unbound {
        /// Its name.
        symbol: String,
    },
    /// A kernel has something that the machine has not.
    #[error("kernel `{kernel}`: {reason}")]
    Kernel {
        /// The kernel.
        kernel: String,
        /// What.
        reason: String,
    },
    /// Nothing goes on, but not everything is done.
    #[error("kernel `{kernel}` is stuck from cycle {cycle} on: {waiting}")]
    Deadlock {
        /// The kernel.
        kernel: String,
        /// When it got stuck.
        cycle: f64,
        /// Which pipes wait, and for what.
        waiting: String,
    },
    /// A launch that never ends, or nearly.
    #[error("kernel `{kernel}` issues more than {instructions} instructions")]
    TooLong {
        /// The kernel.
        kernel: String,
        /// The limit.
        instructions: u64,
    },
    /// Shapes that do not go together.
    #[error("{0}")]
    Shapes(String),
}

/// The time of a program, its symbols having these values.
///
/// # Errors
/// If a symbol is unbound, an instruction runs nowhere on the machine, or a kernel gets stuck.
pub fn simulate(
    program: &Program,
    machine: &Machine,
    bindings: &BTreeMap<Symbol, i64>,
    options: &Options,
) -> Result<Report, SimError> {
    program::simulate(program, machine, bindings, options)
}

/// The time of one launch of a kernel, whose parameters are not in the cache.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_kernel(
    kernel: &Kernel,
    machine: &Machine,
    bindings: &BTreeMap<Symbol, i64>,
    options: &Options,
) -> Result<KernelReport, SimError> {
    launch::simulate(kernel, machine, bindings, options).map(|(report, _)| report)
}

/// As [`simulate_kernel`], with the timeline.
///
/// # Errors
/// As [`simulate`].
pub fn trace_kernel(
    kernel: &Kernel,
    machine: &Machine,
    bindings: &BTreeMap<Symbol, i64>,
    options: &Options,
) -> Result<(KernelReport, Timeline), SimError> {
    launch::simulate(kernel, machine, bindings, options)
}
