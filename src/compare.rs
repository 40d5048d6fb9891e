//! Comparing a model's results with the expected ones of its folder, and finding where they part.

use std::path::Path;

use serde::Serialize;
use tarsia_graph::{Graph, NodeId, Op, Value, eval};
use tarsia_lower::Choices;
use tarsia_onnx::Limits;
use tarsia_runtime::Session;
use tarsia_tensor::{Class, DType, Tensor};
use tarsia_tile::Machine;

use crate::{
    Error,
    compile::{self, Compiled, Phase},
    folder::{Folder, Tolerance, read_set},
};

/// How far one output is off.
#[derive(Clone, Debug, Serialize)]
pub struct OutputError {
    /// The output's name.
    pub name: String,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest difference relative to the expected value.
    pub max_rel: f64,
    /// Elements beyond the tolerance.
    pub wrong: usize,
    /// Elements in all.
    pub count: usize,
    /// Why it fails, in words; empty if it passes.
    pub reason: String,
}

/// The result of one data set.
#[derive(Clone, Debug, Serialize)]
pub struct SetReport {
    /// The data set's folder name.
    pub set: String,
    /// Its outputs.
    pub outputs: Vec<OutputError>,
}

impl SetReport {
    /// Whether every output is within the tolerance.
    pub fn passes(&self) -> bool {
        self.outputs.iter().all(|output| output.reason.is_empty())
    }
}

/// Compiles the model of a folder once and runs every data set through tiles.
///
/// # Errors
/// If the folder is incomplete, compilation fails, or a run fails.
pub fn compare_folder(
    path: &Path,
    limits: Limits,
    machine: &Machine,
    compilation: compile::Options,
    options: &tarsia_runtime::Options,
) -> Result<Vec<SetReport>, Error> {
    let folder = Folder::open(path)?;
    let start = compile::load(&folder.model, limits, machine)?;
    let tolerance = folder.tolerance.at(compilation.precision);
    let compiled = compile::compile_with(start, Phase::Tiles, machine, compilation)?;
    let program = compiled.program.ok_or_else(|| Error::Usage("nothing was compiled".into()))?;
    let names: Vec<String> = program.outputs.iter().map(|port| port.name.clone()).collect();
    let inputs = program.inputs.len();
    let session = Session::new(program, options)?;
    let run = |set: &std::path::PathBuf| {
        let given = set_inputs(set, inputs, &limits)?;
        let expected = read_set(set, "output", names.len(), &limits)?;
        let found = session.run(&given)?;
        Ok(report(set, &names, &expected, &found, tolerance))
    };
    folder.sets.iter().map(run).collect()
}

/// The inputs of a data set; all of them must be there.
///
/// # Errors
/// If one is missing or broken.
pub fn set_inputs(set: &Path, count: usize, limits: &Limits) -> Result<Vec<Tensor>, Error> {
    let given = read_set(set, "input", count, limits)?;
    let missing = |k| Error::Usage(format!("{}: input_{k}.pb is missing", set.display()));
    given.into_iter().enumerate().map(|(k, tensor)| tensor.ok_or_else(|| missing(k))).collect()
}

fn report(
    set: &Path,
    names: &[String],
    expected: &[Option<Tensor>],
    found: &[Tensor],
    tolerance: Tolerance,
) -> SetReport {
    let outputs = names.iter().zip(expected).zip(found);
    SetReport {
        set: set.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        outputs: outputs
            .filter_map(|((name, expected), found)| Some(difference(name, expected.as_ref()?, found, tolerance)))
            .collect(),
    }
}

/// Compares two values element by element; NaN equals NaN. Maps are compared key by key.
pub fn difference(name: &str, expected: &Tensor, found: &Tensor, tolerance: Tolerance) -> OutputError {
    let mut error = OutputError {
        name: name.to_owned(),
        max_abs: 0.0,
        max_rel: 0.0,
        wrong: 0,
        count: expected.count(),
        reason: String::new(),
    };
    if expected.dtype() != found.dtype() || expected.shape() != found.shape() {
        let text = |tensor: &Tensor| format!("{}{:?}", tensor.dtype(), tensor.shape());
        error.reason = format!("expected {}, found {}", text(expected), text(found));
        return error;
    }
    if let (Some(a), Some(b)) = (expected.values(), found.values()) {
        return whole_difference(error, (expected.shape().is_empty(), a, b), tolerance);
    }
    if expected.dtype().class() == Class::String {
        if expected != found {
            error.reason = "strings differ".to_owned();
        }
        return error;
    }
    let (Ok(a), Ok(b)) = (expected.numbers(), found.numbers()) else { return error };
    if tolerance.random {
        let (low, high) = a.to_f64().iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
        error.wrong = b.to_f64().iter().filter(|&&x| !(low..=high).contains(&x)).count();
        if error.wrong > 0 {
            error.reason = format!("{} of {} elements are not in {low}..={high}", error.wrong, error.count);
        }
        return error;
    }
    // Two steps of a narrow type, whose results depend on the order of sums and on what is rounded between two ops: ONNX's own runner
    // has it so for bf16.
    let rtol = match expected.dtype() {
        DType::BF16 => tolerance.rtol.max(1.0 / 64.0),
        DType::F16 => tolerance.rtol.max(1.0 / 512.0),
        _ => tolerance.rtol,
    };
    for (x, y) in a.to_f64().into_iter().zip(b.to_f64()) {
        if x == y || x.is_nan() && y.is_nan() {
            continue;
        }
        let off = (x - y).abs();
        let off = if off.is_nan() { f64::INFINITY } else { off };
        error.max_abs = error.max_abs.max(off);
        error.max_rel = error.max_rel.max(off / x.abs().max(f64::MIN_POSITIVE));
        if off > tolerance.atol + rtol * x.abs() || off.is_infinite() {
            error.wrong += 1;
        }
    }
    if error.wrong > 0 {
        error.reason = format!("{} of {} elements are off, by up to {:.3e}", error.wrong, error.count, error.max_abs);
    }
    error
}

/// The difference of values that are made of values: sequences of equal length, or maps.
fn whole_difference(
    mut error: OutputError,
    (is_map, expected, found): (bool, &[Tensor], &[Tensor]),
    tolerance: Tolerance,
) -> OutputError {
    let sorted = |pair: &Tensor| is_map.then(|| sorted_map(pair)).flatten();
    for (at, (a, b)) in expected.iter().zip(found).enumerate() {
        let (a, b) = (sorted(a).unwrap_or_else(|| a.clone()), sorted(b).unwrap_or_else(|| b.clone()));
        let inner = difference(&error.name, &a, &b, tolerance);
        error.max_abs = error.max_abs.max(inner.max_abs);
        error.max_rel = error.max_rel.max(inner.max_rel);
        error.wrong += inner.wrong;
        if error.reason.is_empty() && !inner.reason.is_empty() {
            error.reason = if is_map { inner.reason } else { format!("element {at}: {}", inner.reason) };
        }
    }
    error
}

/// The keys and values of a map in the order of the keys.
fn sorted_map(pair: &Tensor) -> Option<Tensor> {
    let [keys, values] = pair.values()? else { return None };
    let mut order: Vec<usize> = (0..keys.count()).collect();
    match (keys.strings(), keys.numbers()) {
        (Some(strings), _) => order.sort_by(|&a, &b| strings[a].cmp(&strings[b])),
        (None, Ok(numbers)) => {
            let numbers = numbers.to_i64();
            order.sort_by_key(|&i| numbers[i]);
        }
        _ => return None,
    }
    let arranged = |tensor: &Tensor| tensor.rearranged(&[order.len()], order.iter().copied()).ok();
    Tensor::from_values(&[2], vec![arranged(keys)?, arranged(values)?]).ok()
}

/// Where a model's results leave the tolerance first.
#[derive(Clone, Debug, Serialize)]
pub struct Divergence {
    /// The first phase whose results differ from the expected ones.
    pub phase: String,
    /// The first node of that phase whose value differs from the phase before, if it can be told.
    pub node: Option<String>,
    /// How far it is off.
    pub error: OutputError,
}

/// Walks the phases for one data set: graph, optimised, kernels (by reference evaluation), tiles.
///
/// # Errors
/// If the model does not compile, or an evaluation fails.
pub fn bisect(
    compiled: &Compiled,
    inputs: &[Tensor],
    expected: &[Option<Tensor>],
    tolerance: Tolerance,
    machine: &Machine,
) -> Result<Option<Divergence>, Error> {
    let stages = [
        (Phase::Graph, compiled.graph.as_ref()),
        (Phase::Optimised, compiled.optimised.as_ref().map(|(graph, _)| graph)),
        (Phase::Kernels, compiled.kernels.as_ref().map(|(graph, _)| graph)),
    ];
    let mut before: Option<&Graph> = None;
    for (phase, graph) in stages {
        let Some(graph) = graph else { continue };
        let found = eval::run(graph, inputs)?;
        if let Some(error) = first_error(graph, expected, &found, tolerance) {
            let node = match before {
                Some(before) => first_changed(before, graph, inputs, tolerance)?,
                None => None,
            };
            return Ok(Some(Divergence { phase: phase.to_string(), node, error }));
        }
        before = Some(graph);
    }
    let Some((kernels, _)) = &compiled.kernels else { return Ok(None) };
    tiles_divergence((kernels, &compiled.choices), inputs, tolerance, machine)
}

fn first_error(
    graph: &Graph,
    expected: &[Option<Tensor>],
    found: &[Tensor],
    tolerance: Tolerance,
) -> Option<OutputError> {
    let outputs = graph.outputs().iter().zip(expected).zip(found);
    let mut errors = outputs.filter_map(|((output, e), f)| Some(difference(&output.name, e.as_ref()?, f, tolerance)));
    errors.find(|error| !error.reason.is_empty())
}

fn describe(graph: &Graph, id: NodeId) -> String {
    let names: Vec<&str> = graph[id].origin.names().collect();
    format!("%{} = {} ({})", id.index(), graph[id].op.name(), names.join(", "))
}

/// The first node of `after` whose value differs from the node of `before` with the same origin and type.
fn first_changed(
    before: &Graph,
    after: &Graph,
    inputs: &[Tensor],
    tolerance: Tolerance,
) -> Result<Option<String>, Error> {
    let options = eval::Options::default();
    let (old, new) = (eval::trace(before, inputs, &options)?, eval::trace(after, inputs, &options)?);
    for id in after.node_ids() {
        let same =
            |other: &NodeId| before[*other].origin == after[id].origin && before[*other].types == after[id].types;
        let partners: Vec<NodeId> = before.node_ids().filter(same).collect();
        let agrees = |other: &NodeId| {
            let pairs = old[other.index()].iter().zip(&new[id.index()]);
            pairs.into_iter().all(|(a, b)| difference("", a, b, tolerance).reason.is_empty())
        };
        if !partners.is_empty() && !partners.iter().any(agrees) {
            return Ok(Some(describe(after, id)));
        }
    }
    Ok(None)
}

/// Runs the kernels with every value as an output and compares each with its reference evaluation.
fn tiles_divergence(
    (kernels, choices): (&Graph, &Choices),
    inputs: &[Tensor],
    tolerance: Tolerance,
    machine: &Machine,
) -> Result<Option<Divergence>, Error> {
    let mut open = kernels.clone();
    let mut watched = Vec::new();
    for id in kernels.node_ids().filter(|&id| !matches!(kernels[id].op, Op::Constant { .. } | Op::Input { .. })) {
        for output in 0..kernels[id].types.len() {
            open.add_output(&format!("watch{}_{output}", id.index()), Value { node: id, output: output as u32 });
            watched.push((id, output));
        }
    }
    let program = compile::lower(&open, machine, choices)?;
    let session = Session::new(program, &tarsia_runtime::Options::default())?;
    let found = session.run(inputs)?;
    let expected = eval::trace(kernels, inputs, &eval::Options::default())?;
    let skip = kernels.outputs().len();
    for ((id, output), found) in watched.into_iter().zip(&found[skip..]) {
        let error = difference(&format!("%{}", id.index()), &expected[id.index()][output], found, tolerance);
        if !error.reason.is_empty() {
            return Ok(Some(Divergence { phase: Phase::Tiles.to_string(), node: Some(describe(kernels, id)), error }));
        }
    }
    Ok(None)
}
