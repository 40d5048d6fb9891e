//! `tarsia inspect`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tarsia::{Error, Phase, graph::Graph, tile};

use super::{ChoiceArguments, LimitArguments, TargetArgument, model_of, print_json};

/// Shows what compilation makes of a model, without its data.
#[derive(Args)]
pub struct Arguments {
    /// The model, a dump or a compiled file; or a folder with one model.
    model: PathBuf,
    /// What to show.
    #[arg(long, short, value_enum, default_value = "kernels")]
    stage: Stage,
    /// Only nodes, kernels or buffers whose name or origin contains this text.
    #[arg(long, short, value_name = "TEXT")]
    node: Option<String>,
    /// Draw the graph as DOT.
    #[arg(long)]
    dot: bool,
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

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Stage {
    /// The imported graph.
    Graph,
    /// The graph after rewriting.
    Optimised,
    /// The graph of kernels.
    Kernels,
    /// The tile program.
    Tiles,
    /// Buffers, their sizes and lifetimes.
    Memory,
    /// Constants and their bytes.
    Constants,
    /// The estimated time of every kernel.
    Costs,
    /// How long each phase of compilation took, and what it did.
    Phases,
}

/// One line of a listing.
#[derive(Serialize)]
struct Row {
    name: String,
    what: String,
    origin: Vec<String>,
}

/// Compiles as far as needed and prints.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let last = match arguments.stage {
        Stage::Graph => Phase::Graph,
        Stage::Optimised => Phase::Optimised,
        Stage::Kernels | Stage::Costs => Phase::Kernels,
        _ => Phase::Tiles,
    };
    let machine = arguments.target.machine()?;
    let start = tarsia::load(&model_of(&arguments.model)?.0, arguments.limits.limits(), &machine)?;
    let compiled = tarsia::compile_with(start, last, &machine, arguments.choice.options())?;
    let missing = || Error::Usage("this file starts after that stage".into());
    let rows = match arguments.stage {
        Stage::Graph | Stage::Optimised | Stage::Kernels => {
            let graph = match arguments.stage {
                Stage::Graph => compiled.graph.as_ref(),
                Stage::Optimised => compiled.optimised.as_ref().map(|(graph, _)| graph),
                _ => compiled.kernels.as_ref().map(|(graph, _)| graph),
            };
            let graph = graph.ok_or_else(missing)?;
            if arguments.dot {
                anstream::println!("{}", tarsia::graph::dot::dot(graph));
                return Ok(ExitCode::SUCCESS);
            }
            if arguments.node.is_none() && !arguments.json {
                anstream::println!("{}", tarsia::graph::text::listing(graph, tarsia::graph::text::Data::Elided));
                return Ok(ExitCode::SUCCESS);
            }
            node_rows(graph)
        }
        Stage::Costs => cost_rows(&compiled.kernels.as_ref().ok_or_else(missing)?.1),
        Stage::Phases => phase_rows(&compiled),
        stage => {
            let program = compiled.program.as_ref().ok_or_else(missing)?;
            match stage {
                Stage::Tiles if arguments.node.is_none() && !arguments.json => {
                    anstream::println!("{}", tile::text::listing(program));
                    return Ok(ExitCode::SUCCESS);
                }
                Stage::Tiles => kernel_rows(program),
                Stage::Constants => buffer_rows(program, true),
                _ => buffer_rows(program, false),
            }
        }
    };
    show(arguments, rows)
}

fn show(arguments: &Arguments, rows: Vec<Row>) -> Result<ExitCode, Error> {
    let wanted = |row: &Row| match &arguments.node {
        Some(text) => row.name.contains(text.as_str()) || row.origin.iter().any(|name| name.contains(text.as_str())),
        None => true,
    };
    let rows: Vec<Row> = rows.into_iter().filter(wanted).collect();
    if arguments.json {
        print_json(&rows)?;
    } else {
        for row in rows {
            let origin = if row.origin.is_empty() { String::new() } else { format!("  # {}", row.origin.join(", ")) };
            anstream::println!("{:<12} {}{origin}", row.name, row.what);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn node_rows(graph: &Graph) -> Vec<Row> {
    let row = |id: tarsia::graph::NodeId| {
        let node = &graph[id];
        let operands: Vec<String> = graph.operands(id).iter().map(|v| format!("%{}", v.node.index())).collect();
        let types: Vec<String> = node.types.iter().map(ToString::to_string).collect();
        Row {
            name: format!("%{}", id.index()),
            what: format!("{}({}) : {}", node.op.name(), operands.join(", "), types.join(", ")),
            origin: node.origin.names().map(str::to_owned).collect(),
        }
    };
    graph.node_ids().map(row).collect()
}

fn kernel_rows(program: &tile::Program) -> Vec<Row> {
    let row = |kernel: &tile::Kernel| Row {
        name: kernel.name.clone(),
        what: kernel.to_string(),
        origin: kernel.origin.clone(),
    };
    program.kernels.iter().map(row).collect()
}

fn buffer_rows(program: &tile::Program, constants: bool) -> Vec<Row> {
    let is_constant = |buffer: &tile::Buffer| matches!(buffer.kind, tile::BufferKind::Constant(_));
    let row = |buffer: &tile::Buffer| {
        let shape: Vec<String> = buffer.shape.iter().map(ToString::to_string).collect();
        let bytes = buffer.layout.symbolic_elements(&buffer.shape) * tarsia::Dim::from(buffer.dtype.bits() / 8);
        let what = format!("{}[{}] {bytes} bytes", buffer.dtype, shape.join(", "));
        Row { name: buffer.name.clone(), what, origin: Vec::new() }
    };
    program.buffers.iter().filter(|buffer| is_constant(buffer) == constants).map(row).collect()
}

fn cost_rows(decisions: &tarsia::Decisions) -> Vec<Row> {
    let row = |decision: &tarsia::Decision| Row {
        name: format!("%{}", decision.node),
        what: format!("{:.2} us, {}: {}", decision.chosen.time * 1e6, decision.kind, decision.chosen.ops.join(" ")),
        origin: decision.chosen.origin.clone(),
    };
    decisions.kernels.iter().map(row).collect()
}

fn phase_rows(compiled: &tarsia::Compiled) -> Vec<Row> {
    let time = |(phase, time): &(Phase, std::time::Duration)| {
        let did = match (phase, &compiled.optimised) {
            (Phase::Optimised, Some((_, report))) => format!(": {}", report.summary()),
            _ => String::new(),
        };
        let what = format!("{:.2} ms{did}", time.as_secs_f64() * 1e3);
        Row { name: phase.to_string(), what, origin: Vec::new() }
    };
    compiled.times.iter().map(time).collect()
}
