//! `tarsia explain`.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clap::Args;
use owo_colors::OwoColorize;
use serde::Serialize;
use tarsia::{Decision, Derivation, Error, Options, Phase};

use super::{ChoiceArguments, LimitArguments, TargetArgument, model_of, print_json};

/// Says why the model's nodes are computed in these kernels: by which rules their ops were derived, the chosen cut, the losing
/// ones with their costs, and why no larger one is possible.
#[derive(Args)]
pub struct Arguments {
    /// The model or a graph dump; or a folder with one model.
    model: PathBuf,
    /// Only kernels that compute a node whose name contains this text.
    node: Option<String>,
    /// Say why NODE and a node whose name contains this text are, or are not, in one kernel.
    #[arg(long, value_name = "OTHER", requires = "node")]
    with: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgument,
    #[command(flatten)]
    choice: ChoiceArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

/// A kernel and how its ops came to be.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    decision: Decision,
    derivations: Vec<Derivation>,
}

/// Compiles to kernels and prints the decisions.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let machine = arguments.target.machine()?;
    let options = Options { explain: true, ..arguments.choice.options() };
    let start = tarsia::load(&model_of(&arguments.model)?.0, arguments.limits.limits(), &machine)?;
    let compiled = tarsia::compile_with(start, Phase::Kernels, &machine, options)?;
    let (_, decisions) = compiled.kernels.ok_or_else(|| Error::Usage("this file starts after covering".into()))?;
    let derivations = compiled.optimised.map(|(_, report)| report.derivations).unwrap_or_default();
    for text in arguments.node.iter().chain(&arguments.with) {
        if !decisions.kernels.iter().any(|decision| names(&decision.chosen.origin, text)) {
            return Err(Error::Usage(format!("no kernel computes a node whose name contains `{text}`")));
        }
    }
    if let (Some(node), Some(other)) = (&arguments.node, &arguments.with) {
        let lines = together(&decisions.kernels, [node, other]);
        match arguments.json {
            true => print_json(&lines)?,
            false => lines.iter().for_each(|line| anstream::println!("{line}")),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = |decision: &Decision| arguments.node.as_ref().is_none_or(|text| names(&decision.chosen.origin, text));
    let kernels: Vec<Explained> = (decisions.kernels.into_iter().filter(wanted))
        .map(|decision| Explained { derivations: of_kernel(&decision, &derivations), decision })
        .collect();
    match arguments.json {
        true => print_json(&kernels)?,
        false => {
            kernels.iter().for_each(print);
            for node in decisions.uncovered.iter().filter(|_| arguments.node.is_none()) {
                anstream::println!("%{} {} is in no kernel: {}", node.node, node.op, node.reason);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn names(origin: &[String], text: &str) -> bool {
    origin.iter().any(|name| name.contains(text))
}

/// The derivations that gave a kernel some of its ops, from nodes that it computes.
fn of_kernel(decision: &Decision, derivations: &[Derivation]) -> Vec<Derivation> {
    let ops: BTreeSet<&String> = decision.chosen.ops.iter().collect();
    let origin: BTreeSet<&String> = decision.chosen.origin.iter().collect();
    let gave = |derivation: &&Derivation| {
        derivation.ops.iter().any(|op| ops.contains(op)) && derivation.origin.iter().any(|name| origin.contains(name))
    };
    derivations.iter().filter(gave).cloned().collect()
}

/// Why two nodes, given by parts of their names, are in one kernel or not.
fn together(kernels: &[Decision], nodes: [&str; 2]) -> Vec<String> {
    let mut lines = Vec::new();
    for decision in kernels {
        let place = format!("%{} {}", decision.node, decision.kind);
        match nodes.map(|name| names(&decision.chosen.origin, name)) {
            [true, true] => {
                lines.push(format!("{place}: both are in this kernel"));
                continue;
            }
            [false, false] => continue,
            _ => {}
        }
        let hold_both = |origin: &[String]| nodes.iter().all(|name| names(origin, name));
        for lost in decision.lost.iter().filter(|lost| hold_both(&lost.origin)) {
            let (ops, more) = (lost.ops.join(" "), lost.difference * 1e6);
            lines.push(format!("{place}: together ({ops}) the graph would take {more:.2} us more"));
        }
        for refused in decision.refused.iter().filter(|refused| hold_both(&refused.origin)) {
            lines.push(format!("{place}: together ({}) they are no kernel: {}", refused.ops.join(" "), refused.reason));
        }
    }
    if lines.is_empty() {
        lines.push("no cut that holds both was among the best ones".to_owned());
    }
    lines
}

fn print(kernel: &Explained) {
    let Explained { decision, derivations } = kernel;
    let chosen = &decision.chosen;
    anstream::println!("%{} {}: {}", decision.node, decision.kind.bold(), chosen.ops.join(" "));
    anstream::println!("    of {}", chosen.origin.join(", "));
    anstream::println!("    {:.2} us alone, reads {} values", chosen.time * 1e6, chosen.operands);
    for derivation in derivations {
        let steps: Vec<String> = (derivation.steps.iter())
            .map(|step| format!("{}{}", step.rule, if step.backwards { " (backwards)" } else { "" }))
            .collect();
        anstream::println!("    {} by {}", derivation.ops.join(" "), steps.join(", "));
    }
    for lost in &decision.lost {
        let ops = lost.ops.join(" ");
        anstream::println!(
            "    not {}: {ops} ({:.2} us alone, {:+.2} us in all)",
            lost.kind,
            lost.time * 1e6,
            lost.difference * 1e6
        );
    }
    for refused in &decision.refused {
        anstream::println!("    cannot take in {}: {}", refused.ops.join(" "), refused.reason);
    }
}
