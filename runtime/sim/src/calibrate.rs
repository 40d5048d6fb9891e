//! Calibration: published measurements as programs, and what the simulator says of them.

mod measured;
mod programs;

use std::collections::BTreeMap;

use tarsia_tile::Machine;

use crate::{KernelReport, Options, SimError};
use measured::{Program, Row};

fn run(row: &Row, machine: &Machine) -> Result<KernelReport, SimError> {
    let program = match &row.program {
        Program::Product(product) => product.program(&machine.name),
        Program::Reads(reads) => reads.program(&machine.name),
        Program::Sum(sum) => sum.program(&machine.name),
    }?;
    let options = Options { bottlenecks: false, past_cache: row.past_cache, ..Options::default() };
    let mut report = crate::simulate(&program, machine, &BTreeMap::new(), &options)?;
    report.kernels.pop().ok_or_else(|| SimError::Shapes("nothing is launched".into()))
}

/// Prints everything.
pub fn trial(machine: &Machine, only: &str) {
    for row in measured::copies().into_iter().chain(measured::ladder()).chain(measured::sums()) {
        if !row.name.contains(only) {
            continue;
        }
        let start = std::time::Instant::now();
        match run(&row, machine) {
            Err(e) => println!("{}: {e}", row.name),
            Ok(r) => {
                let us = |c: f64| machine.seconds(c) * 1e6;
                let m = row.kernel.unwrap();
                println!(
                    "{:50} {:10.1} {:10.1} {:+6.1}%   [{:.1?}]",
                    row.name,
                    m,
                    us(r.cycles),
                    (us(r.cycles) / m - 1.0) * 100.0,
                    start.elapsed()
                );
                for (p, m) in row.pipes {
                    let q = r.pipes.iter().find(|q| q.name == *p).unwrap();
                    let count = 24.0;
                    let used = if *p == "aiv_v" || *p == "aiv_mte2" { 48.0 } else { count };
                    let f = used / if r.groups == 0 { 1.0 } else { if used == 48.0 { 48.0 } else { r.groups as f64 } };
                    println!(
                        "      {:10} {:10.1} {:10.1} {:+6.1}%   {:10.1}",
                        p,
                        m,
                        us(q.busy_cycles * f),
                        (us(q.busy_cycles * f) / m - 1.0) * 100.0,
                        us(q.waiting_cycles * f + q.busy_cycles * f)
                    );
                }
                println!(
                    "      mem {:.3e}+{:.3e} cache {:.3e}",
                    r.bytes.memory_read, r.bytes.memory_written, r.bytes.cache_read
                );
            }
        }
    }
}
