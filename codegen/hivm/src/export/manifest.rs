//! The manifest: what buffers there are, and in which order the kernels run on them.

use serde_json::{Value, json};
use tarsia_tensor::Dim;
use tarsia_tile::{BufferKind, Machine, Port, Program, Step};

use super::{Missing, Module, identifier, inner_programs};

/// The manifest of a program's export, as JSON text.
pub fn manifest(program: &Program, machine: &Machine, modules: &[Module], unsupported: &[(String, Missing)]) -> String {
    let kernels: serde_json::Map<String, Value> = modules
        .iter()
        .map(|module| {
            let launch = &module.launch;
            let value = json!({
                "file": format!("{}.mlir", module.name),
                "functions": launch.functions,
                "block_dim": launch.block_dim,
                "symbols": launch.symbols,
                "workspace_bytes": launch.workspace_bytes,
            });
            (module.name.clone(), value)
        })
        .collect();
    let missing: serde_json::Map<String, Value> =
        unsupported.iter().map(|(name, missing)| (name.clone(), json!(missing.to_string()))).collect();
    let value = json!({
        "program": program.name,
        "target": machine.name,
        "kernels": kernels,
        "unsupported": missing,
        "main": describe(program, ""),
    });
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

fn shape(dims: &[Dim]) -> Vec<String> {
    dims.iter().map(ToString::to_string).collect()
}

fn port(program: &Program, port: &Port) -> Value {
    let buffer = program.buffers.get(port.buffer.0 as usize).map_or("", |buffer| &buffer.name);
    json!({ "name": port.name, "buffer": buffer, "shape": shape(&port.shape) })
}

/// Buffers and steps of a program; kernels by the names of their modules.
fn describe(program: &Program, prefix: &str) -> Value {
    let buffers: Vec<Value> = program
        .buffers
        .iter()
        .map(|buffer| {
            let kind = match buffer.kind {
                BufferKind::Input => json!("input"),
                BufferKind::Temporary => json!("temporary"),
                BufferKind::Constant(index) => json!({ "constant": index }),
            };
            json!({
                "name": buffer.name,
                "dtype": buffer.dtype.name(),
                "shape": shape(&buffer.shape),
                "layout": buffer.layout.to_string(),
                "kind": kind,
            })
        })
        .collect();
    let steps: Vec<Value> =
        program.steps.iter().enumerate().map(|(at, step)| describe_step(program, prefix, at, step)).collect();
    json!({
        "inputs": program.inputs.iter().map(|input| port(program, input)).collect::<Vec<_>>(),
        "outputs": program.outputs.iter().map(|output| port(program, output)).collect::<Vec<_>>(),
        "buffers": buffers,
        "steps": steps,
    })
}

fn describe_step(program: &Program, prefix: &str, at: usize, step: &Step) -> Value {
    let name = |buffer: &tarsia_tile::BufferId| {
        program.buffers.get(buffer.0 as usize).map_or("", |buffer| &buffer.name).to_owned()
    };
    let mut value = match step {
        Step::Launch { kernel, args, .. } => {
            let kernel =
                program.kernels.get(kernel.0 as usize).map_or(String::new(), |kernel| identifier(&kernel.name));
            json!({ "launch": format!("{prefix}{kernel}"), "arguments": args.iter().map(name).collect::<Vec<_>>() })
        }
        Step::Host { function, ints, reals, operands, results } => json!({
            "host": function,
            "ints": ints,
            "reals": reals,
            "operands": operands.iter().map(|operand| port(program, operand)).collect::<Vec<_>>(),
            "results": results.iter().map(name).collect::<Vec<_>>(),
        }),
        Step::If { condition, operands, results, .. } => json!({
            "if": name(condition),
            "operands": operands.iter().map(|operand| port(program, operand)).collect::<Vec<_>>(),
            "results": results.iter().map(name).collect::<Vec<_>>(),
        }),
        Step::Loop(step) => json!({
            "loop": { "trip_count": port(program, &step.trip_count), "condition": port(program, &step.condition) },
            "carried": step.carried.iter().map(|carried| port(program, carried)).collect::<Vec<_>>(),
            "captured": step.captured.iter().map(|captured| port(program, captured)).collect::<Vec<_>>(),
            "results": step.results.iter().map(name).collect::<Vec<_>>(),
        }),
        Step::Scan(step) => json!({
            "scan": step.inputs.iter().map(|(input, axis, reverse)| json!({ "input": port(program, input), "axis": axis, "reverse": reverse })).collect::<Vec<_>>(),
            "states": step.states.iter().map(|state| port(program, state)).collect::<Vec<_>>(),
            "captured": step.captured.iter().map(|captured| port(program, captured)).collect::<Vec<_>>(),
            "outputs": step.outputs,
            "results": step.results.iter().map(name).collect::<Vec<_>>(),
        }),
    };
    for (part, inner) in inner_programs(step) {
        let key = match part {
            "t" => "then",
            "e" => "else",
            _ => "body",
        };
        value[key] = describe(inner, &format!("{prefix}s{at}{part}_"));
    }
    value
}
