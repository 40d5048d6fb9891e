//! Where the time of a run goes: a table for people, a trace for `chrome://tracing` and Perfetto.

use std::{collections::BTreeMap, io::Write, path::Path};

use serde::Serialize;
use tarsia::{Error, StepTime};

/// Rows of the table unless all are asked for.
const ROWS: usize = 25;

/// The least time of one step over several runs.
struct Row<'a> {
    step: &'a StepTime,
    microseconds: f64,
}

/// Prints the steps that take longest, and what each kind of kernel takes together.
pub fn print(times: &[StepTime]) {
    let mut rows = fastest(times);
    let total: f64 = rows.iter().map(|row| row.microseconds).sum();
    let share = |time: f64| 100.0 * time / total.max(f64::MIN_POSITIVE);
    let mut kinds: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for row in &rows {
        let kind = row.step.name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        let entry = kinds.entry(kind).or_default();
        *entry = (entry.0 + 1, entry.1 + row.microseconds);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    anstream::println!("{:>12} {:>6}  {:>7}  kind", "us", "%", "kernels");
    for (kind, (count, time)) in kinds {
        anstream::println!("{time:>12.1} {:>6.1}  {count:>7}  {kind}", share(time));
    }
    rows.sort_by(|a, b| b.microseconds.total_cmp(&a.microseconds));
    anstream::println!("\n{:>12} {:>6}  {:>7}  {:<20} nodes of the model", "us", "%", "items", "kernel");
    for Row { step, microseconds } in rows.iter().take(ROWS) {
        let share = share(*microseconds);
        let nodes = step.origin.join(", ");
        anstream::println!("{microseconds:>12.1} {share:>6.1}  {:>7}  {:<20} {nodes}", step.items, step.name);
    }
    if rows.len() > ROWS {
        anstream::println!("and {} more", rows.len() - ROWS);
    }
}

/// By step of its program: the fastest time, in order of first appearance.
fn fastest(times: &[StepTime]) -> Vec<Row<'_>> {
    let mut place: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for step in times {
        let microseconds = step.nanoseconds as f64 / 1e3;
        let at = *place.entry((&step.program, step.step)).or_insert(rows.len());
        match rows.get_mut(at) {
            Some(row) => row.microseconds = row.microseconds.min(microseconds),
            None => rows.push(Row { step, microseconds }),
        }
    }
    rows
}

/// A complete event of the trace event format.
#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    cat: &'a str,
    ph: &'static str,
    ts: f64,
    dur: f64,
    pid: u32,
    tid: u32,
    args: Arguments<'a>,
}

#[derive(Serialize)]
struct Arguments<'a> {
    nodes: &'a [String],
    items: usize,
}

/// Writes the steps of the runs, in order, as a trace.
///
/// # Errors
/// If the file cannot be written.
pub fn write_trace(path: &Path, times: &[StepTime]) -> Result<(), Error> {
    let io = |reason| Error::Io { path: path.to_owned(), reason };
    let events = times.iter().map(|step| Event {
        name: &step.name,
        cat: &step.program,
        ph: "X",
        ts: step.start_nanoseconds as f64 / 1e3,
        dur: step.nanoseconds as f64 / 1e3,
        pid: 0,
        tid: 0,
        args: Arguments { nodes: &step.origin, items: step.items },
    });
    let text = serde_json::to_vec(&events.collect::<Vec<_>>()).map_err(|e| Error::Usage(e.to_string()))?;
    std::fs::File::create(path).and_then(|mut file| file.write_all(&text)).map_err(io)
}
