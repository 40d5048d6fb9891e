//! `tarsia check`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use owo_colors::OwoColorize;
use tarsia::{Check, Error, OperatorUse, Size};

use super::{ChoiceArguments, LimitArguments, TargetArgument, model_of, print_json, spinner};

/// Says whether a model compiles, and what it takes, without running it.
///
/// Everything that stands in the way is listed at once, with the node it is about: what is wrong
/// with the file, operators and types that are not supported, kernels that the target has no
/// program for. The exit code is 2 then, and 0 for a model that compiles.
///
/// Shown are:
///   file       what it is, its operator sets, the tool that wrote it
///   inputs     with element types and sizes, as are the outputs
///   weights    constant tensors in the file and beside it
///   operators  by count; nodes of functions and sub-graphs count once each
///   kernels    what the target launches, by kind; bodies of loops and branches count once
///   host       what runs on the host between the kernels, why, and for which nodes
///   memory     constants as the kernels read them, inputs, outputs, and the most that values
///              between kernels take at once
///   FLOPs      arithmetic operations of one run: a multiply-add is two, a function of one
///              element one, moving data nothing
///
/// Memory and FLOPs are functions of the sizes that the inputs decide, and numbers too where
/// --assume gives those. A size that only the data decide (the length of a loop, how many
/// elements are not zero) has a symbol that --assume may set as well.
///
/// Examples:
///   tarsia check model.onnx
///   tarsia check model.onnx --assume batch=8 --assume seq=512
///   tarsia check model.onnx --weights shapes --target ascend910b2 --json
///   gunzip -c model.onnx.gz | tarsia check -
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The model, a dump or a compiled file, `-` for standard input; or a folder with one model.
    model: PathBuf,
    /// Print JSON: one object with all that is known, numbers and formulas apart.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgument,
    #[command(flatten)]
    choice: ChoiceArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

/// Checks and prints.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let (model, _) = model_of(&arguments.model)?;
    let machine = arguments.target.machine()?;
    let progress = spinner("checking");
    let check = tarsia::check(&model, arguments.limits.limits(), &machine, &arguments.choice.options())?;
    progress.finish_and_clear();
    if arguments.json {
        print_json(&check)?;
    } else {
        print(&check, &model.display().to_string());
    }
    Ok(if check.compiles { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn print(check: &Check, model: &str) {
    let verdict = match check.problems.len() {
        0 => format!("{} {}", "compiles for".green(), check.target),
        problems => format!("does not compile: {}", count(problems, "problem")).red().to_string(),
    };
    anstream::println!("{}: {verdict}", plain(model).bold());
    for finding in &check.problems {
        anstream::println!("  {} {}", "-".red(), plain(&finding.problem));
    }
    if !check.form.is_empty() {
        line("file", &file(check));
    }
    let ports = |label: &str, ports: &[tarsia::PortType]| {
        let width = ports.iter().map(|port| plain(&port.name).chars().count()).max().unwrap_or(0);
        for (i, port) in ports.iter().enumerate() {
            line(if i == 0 { label } else { "" }, &format!("{:width$}  {}", plain(&port.name), plain(&port.ty)));
        }
    };
    ports("inputs", &check.inputs);
    ports("outputs", &check.outputs);
    if check.weights > 0 {
        line("weights", &format!("{}, {}", count(check.weights, "tensor"), bytes(check.weight_bytes)));
    }
    operators(&check.operators);
    placing(check);
    needs(check);
}

fn file(check: &Check) -> String {
    let mut parts = vec![check.form.to_owned()];
    if let Some(version) = check.ir_version {
        parts.push(format!("IR version {version}"));
    }
    parts.extend(check.opsets.iter().map(|set| format!("{} {}", plain(&set.domain), set.version)));
    if !check.producer.is_empty() {
        parts.push(format!("made by {}", plain(&check.producer)));
    }
    parts.join(", ")
}

fn operators(operators: &[OperatorUse]) {
    let width = operators.iter().map(|operator| plain(&operator.name).chars().count()).max().unwrap_or(0);
    let nodes: usize = operators.iter().map(|operator| operator.count).sum();
    if nodes > 0 {
        line("operators", &format!("{}, {}", count(nodes, "node"), count(operators.len(), "operator")));
    }
    for operator in operators {
        let version = operator.version.map(|version| format!(" {version}")).unwrap_or_default();
        let note = match (operator.function, operator.supported) {
            (true, _) => "  a function of the model".to_owned(),
            (_, false) => format!("  {}", "not supported".red()),
            _ => String::new(),
        };
        let (name, domain) = (plain(&operator.name), plain(&operator.domain));
        line("", &format!("{:>5} {name:width$}  {domain}{version}{note}", operator.count));
    }
}

fn placing(check: &Check) {
    if !check.kernels.is_empty() {
        let all: usize = check.kernels.values().sum();
        let kinds: Vec<String> = check.kernels.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        line("kernels", &format!("{all}: {}", kinds.join(", ")));
    }
    for (i, work) in check.host.iter().enumerate() {
        /// Nodes that are named; the rest are counted.
        const NAMED: usize = 4;
        let mut nodes: Vec<String> = work.nodes.iter().take(NAMED).map(|node| plain(node)).collect();
        if work.nodes.len() > NAMED {
            nodes.push(format!("and {} more", work.nodes.len() - NAMED));
        }
        let nodes = if nodes.is_empty() { String::new() } else { format!(" ({})", nodes.join(", ")) };
        let what = format!("{} {}: {}{nodes}", work.count, work.function, work.reason);
        line(if i == 0 { "host" } else { "" }, &what);
    }
    if check.host.is_empty() && !check.kernels.is_empty() {
        line("host", "nothing");
    }
}

fn needs(check: &Check) {
    if let Some(memory) = &check.memory {
        line("memory", &format!("constants  {}", bytes(memory.constants)));
        let held = |what: &str, size: &Size| line("", &format!("{what:<9}  {}", formula(size, " bytes", bytes)));
        held("inputs", &memory.inputs);
        held("outputs", &memory.outputs);
        held("values", &memory.buffers);
        if let Some(arena) = memory.arena {
            line("", &format!("allocated  {}", bytes(arena)));
        }
    }
    if let Some(flops) = &check.flops {
        line("FLOPs", &formula(flops, "", |count| scaled(count as f64, 1000.0, &["", " k", " M", " G", " T", " P"])));
    }
    let formulas = check.memory.iter().flat_map(|memory| [&memory.inputs, &memory.outputs, &memory.buffers]);
    if formulas.chain(&check.flops).any(|size| size.value.is_none()) && !check.symbols.is_empty() {
        let symbols: Vec<String> = check.symbols.iter().map(|symbol| plain(symbol)).collect();
        line("", &format!("{} as numbers: --assume SYMBOL=N for {}", "Sizes".dimmed(), symbols.join(", ")));
    }
}

fn line(label: &str, text: &str) {
    anstream::println!("  {:<10}{text}", label);
}

/// A formula with its value, or only the one that says something.
fn formula(size: &Size, unit: &str, show: impl Fn(u64) -> String) -> String {
    /// Longer formulas are cut; JSON has them whole.
    const LONGEST: usize = 160;
    let mut formula = plain(&size.formula);
    if formula.chars().count() > LONGEST {
        let end = formula.char_indices().nth(LONGEST).map_or(formula.len(), |(at, _)| at);
        let end = formula.get(..end).and_then(|head| head.rfind(' ')).unwrap_or(end);
        formula = format!("{} …", formula.get(..end).unwrap_or_default());
    }
    match size.value.and_then(|value| u64::try_from(value).ok()) {
        Some(value) if size.formula.parse::<i64>().is_ok() => show(value),
        Some(value) => format!("{formula}{unit} = {}", show(value)),
        None => formula + unit,
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn bytes(number: u64) -> String {
    match number {
        0..1024 => count(number as usize, "byte"),
        _ => scaled(number as f64, 1024.0, &["", " KiB", " MiB", " GiB", " TiB"]),
    }
}

fn scaled(mut count: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while count >= step && unit + 1 < units.len() {
        (count, unit) = (count / step, unit + 1);
    }
    if unit == 0 { format!("{count}") } else { format!("{count:.1}{}", units[unit]) }
}

/// Text of a file as it may reach a terminal.
fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
