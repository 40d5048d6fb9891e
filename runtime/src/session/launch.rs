//! Launching a kernel over the pool.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::bind::BoundKernel;
use super::state::Machine;
use crate::error::RunError;
use crate::exec::code::Code;
use crate::exec::worker::Launch;

/// A launch that takes less than this many nanoseconds is over before other threads have come to help.
const SHORT: u64 = 6000;

/// Runs all work items of a kernel: on the pool, or by the caller alone where the last launch was short.
///
/// # Errors
/// The failure of the lowest work item that failed.
pub fn launch(code: &Code, bound: &BoundKernel, args: &[*mut u8], machine: &mut Machine) -> Result<(), RunError> {
    machine.workers.begin();
    let (isa, seed) = (machine.isa, machine.seed);
    let launch = Launch { code, registers: &bound.registers, grid: &bound.grid, args, isa, seed };
    let failed = AtomicBool::new(false);
    let failure: Mutex<Option<(usize, String)>> = Mutex::new(None);
    let workers = &*machine.workers;
    let run = |worker: usize, item: usize| {
        if failed.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: the pool runs one task at a time with a worker's number, and `workers` is borrowed by this run alone;
        // the buffers behind the arguments have as many elements as the parameters (checked when the kernel was bound).
        if let Err(reason) = unsafe { workers.run_item(worker, item, &launch) } {
            failed.store(true, Ordering::Relaxed);
            let mut failure = super::lock(&failure);
            if failure.as_ref().is_none_or(|(first, _)| item < *first) {
                *failure = Some((item, reason));
            }
        }
    };
    let short = (1..SHORT).contains(&bound.nanoseconds.load(Ordering::Relaxed));
    let begin = Instant::now();
    if code.serial || short {
        (0..bound.items).for_each(|item| run(0, item));
    } else {
        machine.pool.run(bound.items, &run);
    }
    let nanoseconds = begin.elapsed().as_nanos().clamp(1, u128::from(u64::MAX)) as u64;
    bound.nanoseconds.store(nanoseconds, Ordering::Relaxed);
    match super::lock(&failure).take() {
        None => Ok(()),
        Some((item, reason)) => Err(RunError::Kernel {
            kernel: code.name.clone(),
            origin: if code.origin.is_empty() {
                "no node".to_owned()
            } else {
                format!("`{}`", code.origin.join("`, `"))
            },
            reason: format!("work item {item}: {reason}"),
        }),
    }
}
