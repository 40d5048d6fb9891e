//! The calibration as a document.

use std::fmt::Write as _;

use tarsia_tile::Machine;

use super::{Calibration, Outcome, Pair};

/// Writes it.
pub(super) fn write(machine: &Machine, calibration: &Calibration) -> String {
    let mut out = format!(
        "# Calibration of the timing simulator\n\n\
         Written by `tarsia calibrate --target {}`; a test keeps it current. Published measurements, rebuilt as programs of the tile\n\
         IR, beside the time that the simulator gives them. Times in microseconds, without the launch of the kernel.\n\n",
        machine.name
    );
    summary(&mut out, calibration);
    out.push_str(
        "## Data copies\n\nCANN sample `data_copy`, 12288 × 12288 (or × 12287) numbers of 16 bits on all cores.\n\n",
    );
    table(&mut out, &calibration.copies);
    out.push_str(
        "\n## Product of 8192 × 8192 × 8192\n\nCANN sample `matmul_high_performance`, f16, the right matrix transposed. The time of \
         `aic_fix` counts its wait for the\nproduct in the first four rows and in the last, as the profiler does where the unit flag \
         is set. The last three rows are one\nprogram here: constants in place of computed sizes and draining while the product \
         still runs are not modelled.\n\n",
    );
    table(&mut out, &calibration.products);
    out.push_str(
        "\n## Sum of 8192 × 8192\n\nCANN sample `add_high_performance`, f16, the second of two equal launches.\n\n",
    );
    table(&mut out, &calibration.sums);
    out.push_str("\n## Predictions\n\nRows of the same samples whose own times were not fitted to. They are no independent check: the rates of the path and of the\ncache, and the time of reads of one address, were fitted to rows beside them.\n\n");
    table(&mut out, &calibration.predictions);
    out.push_str(NOTES);
    parameters(&mut out, machine);
    out
}

fn summary(out: &mut String, calibration: &Calibration) {
    let kernels = |rows: &[Outcome]| rows.iter().map(|row| row.kernel).collect::<Vec<_>>();
    let pipes = |rows: &[Outcome]| rows.iter().flat_map(|row| row.pipes.iter().map(|(_, pair)| *pair)).collect();
    let _ = writeln!(out, "| | rows | median error | largest | within 20 % |\n|---|---|---|---|---|");
    for (name, pairs) in [
        ("copies", kernels(&calibration.copies)),
        ("products", kernels(&calibration.products)),
        ("pipes of the products", pipes(&calibration.products)),
        ("sums", kernels(&calibration.sums)),
        ("predictions", kernels(&calibration.predictions)),
    ] {
        let errors = sorted(&pairs);
        let within = errors.iter().filter(|error| **error <= 0.2).count();
        let _ = writeln!(
            out,
            "| {name} | {} | {:.1} % | {:.1} % | {within} |",
            errors.len(),
            100.0 * errors.get(errors.len() / 2).copied().unwrap_or(0.0),
            100.0 * errors.last().copied().unwrap_or(0.0),
        );
    }
    out.push('\n');
}

/// Absolute errors, smallest first.
fn sorted(pairs: &[Pair]) -> Vec<f64> {
    let mut errors: Vec<f64> = pairs.iter().map(|pair| pair.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    errors
}

fn table(out: &mut String, rows: &[Outcome]) {
    let _ = writeln!(out, "| | measured | simulated | error |\n|---|---:|---:|---:|");
    for row in rows {
        line(out, &row.name, &row.kernel);
        for (pipe, pair) in &row.pipes {
            line(out, &format!("&emsp;`{pipe}`"), pair);
        }
    }
}

fn line(out: &mut String, name: &str, pair: &Pair) {
    let Pair { measured, simulated } = pair;
    let _ = writeln!(out, "| {name} | {measured:.1} | {simulated:.1} | {:+.1} % |", 100.0 * pair.error());
}

/// What explains the rows, and what does not.
const NOTES: &str = "
## What the model says

- A move occupies its pipe for `startup + head (if the pipe was idle) + bursts × (burst + missed × miss) + requested bytes / rate`
  cycles. Two rows of a single core (2 loads of 64 + 64 and of 128 + 256 runs of 128 bytes: 514 and 1380 cycles) give start-up, head and
  cycles of a run; the step from 4 to 16 blocks of A in L1 (runs of 256 and 1024 bytes) gives the rate.
- Runs that do not begin at multiples of 128 bytes cost all the lines of 512 bytes that they touch: 2.0 for runs of 512 bytes, 1.25 for
  runs of 2048. Both rows with 12287 columns follow from it.
- Device memory is one rate that all cores share; reads and evictions add. The cache holds what was used last, and what was written
  until it must make room: the sum without hints moves 402 MB (each run evicts what the last one wrote), with them 268.
- Cores that read one address at one time wait for each other, a fixed time for every request. The row in which 48 cores read the same
  gives the time; half of the difference between the splits 2 × 12 and 4 × 6 follows.
- A product takes its granules and 9 cycles; 53 more if the pipe was idle: both single-core rows (61 and 63 cycles), the split over
  cores, and the time of `aic_m` with several K blocks a load (16 cycles on average) follow.
- Loads into L0 take `bytes / rate + 23.5` cycles; 17 % longer beside a write into L1.
- The queue of a pipe of the cube core holds 40 entries, events included; 32 are documented. The fixpipe's wait begins when it is issued:
  five rows count it, and it reaches back by 5.2 to 5.6 blocks of depth of 8 entries each, and with the unit flag by 8 of 4.75.
- Results that begin between multiples of 32 bytes are written at 3.9 cycles for each 32 bytes that they meet: the row 2 × 12, whose
  columns begin at odd multiples of 2 bytes on half of the cores.

## What it does not explain

- The times of all pipes fall together, by 1.03, 1.06 and 1.09, from *L1 16 and 8 blocks deep* to *unit flag*: the quotients of
  `aic_m`, `aic_mte1` and `aic_fix` stay within 1 %. That is what clocks of 1.70, 1.75, 1.80 and 1.85 GHz would do. The simulator runs at
  the nominal clock; measured against the inferred ones, the errors of `aic_m` in these rows would be below 2 %.
";

/// The numbers of the machine that were fitted.
fn parameters(out: &mut String, machine: &Machine) {
    out.push_str("\n## Fitted numbers\n\nAs the machine's description gives them.\n\n");
    for (what, source) in machine.sources() {
        if source.contains("fitted:") {
            let _ = writeln!(out, "- {what}: {source}");
        }
    }
}
