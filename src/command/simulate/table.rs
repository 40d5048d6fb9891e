//! The report for people: a line per kernel, the slowest first.

use owo_colors::OwoColorize;
use tarsia::{KernelReport, SimReport};

/// Pipes that are named for each kernel.
const PIPES: usize = 3;

/// Prints one report.
pub fn print(report: &SimReport, top: usize) {
    summary(report);
    anstream::println!(
        "\n{:>12} {:>6} {:>4}  {:<26} {:>9}  {:<44} {:<24} nodes of the model",
        "us",
        "%",
        "x",
        "held up by (us without)",
        "roofline",
        "busiest pipes",
        "kernel"
    );
    let mut kernels: Vec<&KernelReport> = report.kernels.iter().collect();
    kernels.sort_by(|a, b| b.microseconds.total_cmp(&a.microseconds));
    let total = report.microseconds.max(f64::MIN_POSITIVE);
    let scale = report.microseconds / report.cycles.max(f64::MIN_POSITIVE);
    for kernel in kernels.iter().take(top) {
        let held = format!("{} ({:.1})", kernel.bottleneck.resource, kernel.bottleneck.cycles_if_free * scale);
        let roofline = format!("{:.0} %", 100.0 * kernel.roofline.fraction);
        anstream::println!(
            "{:>12.1} {:>6.1} {:>4}  {held:<26} {roofline:>9}  {:<44} {:<24} {}",
            kernel.microseconds,
            100.0 * kernel.microseconds / total,
            kernel.launches,
            busiest(kernel),
            kernel.name,
            kernel.origin.join(", ")
        );
    }
    if kernels.len() > top {
        anstream::println!("and {} more", kernels.len() - top);
    }
    report.notes.iter().for_each(|note| anstream::println!("note: {note}"));
}

fn summary(report: &SimReport) {
    let scale = report.microseconds / report.cycles.max(f64::MIN_POSITIVE);
    anstream::println!(
        "{} on {}: {} us, {} launches that take {:.1} us to start",
        report.program.bold(),
        report.target,
        format!("{:.1}", report.microseconds).bold(),
        report.launches,
        report.launch_cycles * scale
    );
    let bytes = &report.bytes;
    anstream::println!(
        "device memory {} read, {} written; cache {} read, {} written; exchanged by cores {}; {:.3e} operations",
        amount(bytes.memory_read),
        amount(bytes.memory_written),
        amount(bytes.cache_read),
        amount(bytes.cache_written),
        amount(bytes.exchanged),
        report.flops
    );
}

fn amount(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}

fn busiest(kernel: &KernelReport) -> String {
    let mut pipes: Vec<_> = kernel.pipes.iter().filter(|pipe| pipe.busy_cycles > 0.0).collect();
    pipes.sort_by(|a, b| b.utilisation.total_cmp(&a.utilisation));
    let pipes = pipes.iter().take(PIPES).map(|pipe| format!("{} {:.0} %", pipe.name, 100.0 * pipe.utilisation));
    pipes.collect::<Vec<_>>().join(", ")
}

/// Prints two reports beside each other: kernels that compute the same nodes, or have the same name, on one line.
pub fn print_side_by_side(a: &SimReport, b: &SimReport, top: usize) {
    summary(a);
    summary(b);
    let mut rows = rows(a, b);
    let time = |kernel: Option<&KernelReport>| kernel.map_or(0.0, |kernel| kernel.microseconds);
    rows.sort_by(|x, y| time(y.0).max(time(y.1)).total_cmp(&time(x.0).max(time(x.1))));
    let (first, second) = match a.target == b.target {
        true => (a.program.as_str(), b.program.as_str()),
        false => (a.target.as_str(), b.target.as_str()),
    };
    let (first, second) = (format!("{first} us"), format!("{second} us"));
    anstream::println!("\n{first:>20} {second:>20} {:>7}  {:<14} {:<14} kernel", "ratio", "held up by", "and by");
    let cell = |kernel: Option<&KernelReport>| kernel.map_or("-".into(), |k| format!("{:.1}", k.microseconds));
    let held = |kernel: Option<&KernelReport>| kernel.map_or("-".into(), |k| k.bottleneck.resource.clone());
    for (x, y) in rows.iter().take(top) {
        let ratio = match (x, y) {
            (Some(x), Some(y)) if x.microseconds > 0.0 => format!("{:.2}", y.microseconds / x.microseconds),
            _ => "-".to_owned(),
        };
        let name = x.or(*y).map_or("", |kernel| kernel.name.as_str());
        anstream::println!("{:>20} {:>20} {ratio:>7}  {:<14} {:<14} {name}", cell(*x), cell(*y), held(*x), held(*y));
    }
    if rows.len() > top {
        anstream::println!("and {} more", rows.len() - top);
    }
    let total = format!("{:.2}", b.microseconds / a.microseconds.max(f64::MIN_POSITIVE));
    anstream::println!("{:>20.1} {:>20.1} {total:>7}  in all", a.microseconds, b.microseconds);
    let notes = a.notes.iter().chain(b.notes.iter().filter(|note| !a.notes.contains(note)));
    notes.for_each(|note| anstream::println!("note: {note}"));
}

type Row<'a> = (Option<&'a KernelReport>, Option<&'a KernelReport>);

fn rows<'a>(a: &'a SimReport, b: &'a SimReport) -> Vec<Row<'a>> {
    let mut left: Vec<&KernelReport> = b.kernels.iter().collect();
    let mut rows: Vec<Row<'a>> = Vec::new();
    for kernel in &a.kernels {
        let nodes = left.iter().position(|other| !kernel.origin.is_empty() && other.origin == kernel.origin);
        let same = nodes.or_else(|| left.iter().position(|other| other.name == kernel.name));
        rows.push((Some(kernel), same.map(|at| left.remove(at))));
    }
    rows.extend(left.into_iter().map(|kernel| (None, Some(kernel))));
    rows
}
