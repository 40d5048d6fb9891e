//! `tarsia targets`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use tarsia::{Error, Machine};

use super::print_json;

/// Lists the machines that programs can be compiled for, or prints one.
///
/// A machine is a description: cores, memories, data paths, units, events, and their rates, each with its source. The listing of one
/// gives the sources as numbers in brackets, explained at its end. A file of one's own works like a built-in machine; it can say
/// `extends = "NAME"` and what differs (docs/machines.md).
///
/// Examples:
///   tarsia targets
///   tarsia targets ascend910b2
///   tarsia targets ./mychip.toml --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// A machine: a name, or a description file (.toml).
    machine: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A machine in the list.
#[derive(Serialize)]
struct Entry {
    name: String,
    extends: Option<String>,
    description: String,
}

/// Prints what was asked for.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    match &arguments.machine {
        Some(name) => print(&tarsia::machine(name)?, arguments.json)?,
        None => list(arguments.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(machine: &Machine, json: bool) -> Result<(), Error> {
    if json {
        return print_json(machine);
    }
    print!("{}", machine.print());
    Ok(())
}

fn list(json: bool) -> Result<(), Error> {
    let machines = Machine::builtin_names().map(tarsia::machine).collect::<Result<Vec<_>, _>>()?;
    let entries =
        machines.into_iter().map(|Machine { name, extends, description, .. }| Entry { name, extends, description });
    let entries: Vec<Entry> = entries.collect();
    if json {
        return print_json(&entries);
    }
    let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    for Entry { name, description, .. } in &entries {
        println!("{name:width$}  {description}");
    }
    Ok(())
}
