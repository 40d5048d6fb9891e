//! `tarsia explain`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use owo_colors::OwoColorize;
use tarsia::{Error, Phase};

use super::{LimitArguments, TargetArgument, model_of, print_json};

/// Says why the model's nodes are computed in these kernels: the chosen cut, the losing ones with their costs, and why no larger one
/// is possible.
#[derive(Args)]
pub struct Arguments {
    /// The model or a graph dump; or a folder with one model.
    model: PathBuf,
    /// Only kernels that compute a node whose name contains this text.
    node: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgument,
    #[command(flatten)]
    limits: LimitArguments,
}

/// Compiles to kernels and prints the decisions.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let machine = arguments.target.machine()?;
    let start = tarsia::load(&model_of(&arguments.model)?.0, arguments.limits.limits(), &machine)?;
    let compiled = tarsia::compile(start, Phase::Kernels, &machine)?;
    let (_, mut decisions) = compiled.kernels.ok_or_else(|| Error::Usage("this file starts after covering".into()))?;
    if let Some(text) = &arguments.node {
        decisions.kernels.retain(|decision| decision.chosen.origin.iter().any(|name| name.contains(text.as_str())));
    }
    if arguments.json {
        print_json(&decisions)?;
    } else {
        decisions.kernels.iter().for_each(print);
        for node in &decisions.uncovered {
            anstream::println!("%{} {} is in no kernel: {}", node.node, node.op, node.reason);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(decision: &tarsia::Decision) {
    let chosen = &decision.chosen;
    anstream::println!("%{} {}: {}", decision.node, decision.kind.bold(), chosen.ops.join(" "));
    anstream::println!("    of {}", chosen.origin.join(", "));
    anstream::println!("    {:.2} us alone, reads {} values", chosen.time * 1e6, chosen.operands);
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
