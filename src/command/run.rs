//! `tarsia run`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Serialize;
use tarsia::{Class, Error, Phase, Session, Tensor, read_set, tensors};

use super::{ChoiceArguments, LimitArguments, SessionArguments, TargetArgument, model_of, print_json, spinner, values};

/// Runs a model once and prints or writes its results.
///
/// Inputs that no file is given for are those of the first data set, where the model is a folder with test data, and else drawn at
/// random. Every output is printed with its largest entries, so that a classifier shows its classes with their probabilities.
#[derive(Args)]
pub struct Arguments {
    /// The model, a dump or a compiled file; or a folder with one model.
    model: PathBuf,
    /// An input: FILE (.npy, .npz, .pb or .safetensors), in the order of the inputs, or NAME=FILE.
    #[arg(long, short, value_name = "[NAME=]FILE")]
    input: Vec<values::InputFile>,
    /// A size for random inputs; unknown sizes are 1.
    #[arg(long, value_name = "SYMBOL=N")]
    size: Vec<values::SizeArgument>,
    /// Seed of random inputs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write every output to this folder as NAME.npy, or NAME.pb where it is of texts, a sequence or a map.
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
    /// How many of the largest entries to print per output.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    session: SessionArguments,
    #[command(flatten)]
    target: TargetArgument,
    #[command(flatten)]
    choice: ChoiceArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

/// An output as it is printed.
#[derive(Serialize)]
pub(super) struct OutputSummary {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    /// Largest entries of the last axis of the first row: index and value.
    top: Vec<(usize, f64)>,
    /// The texts, or what is inside of a sequence or a map.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    elements: Vec<String>,
}

/// Loads, compiles, runs, prints.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let limits = arguments.limits.limits();
    let (model, data_set) = model_of(&arguments.model)?;
    let machine = arguments.target.machine()?;
    let progress = spinner("compiling");
    let start = tarsia::load(&model, limits, &machine)?;
    let compiled = tarsia::compile_with(start, Phase::Tiles, &machine, arguments.choice.options())?;
    progress.finish_and_clear();
    let program = compiled.program.ok_or_else(|| Error::Usage("nothing to run".into()))?;
    let ports: Vec<_> =
        program.inputs.iter().map(|port| (port.clone(), program.buffers[port.buffer.0 as usize].dtype)).collect();
    let names: Vec<String> = program.outputs.iter().map(|port| port.name.clone()).collect();
    let known = data_set.map_or(Ok(Vec::new()), |set| read_set(&set, "input", ports.len(), &limits))?;
    let inputs = values::inputs(&ports, &arguments.input, known, &arguments.size, arguments.seed, &limits)?;
    let session = Session::new(program, &arguments.session.options(arguments.limits))?;
    let outputs = session.run(&inputs)?;
    if let Some(folder) = &arguments.output {
        write(folder, &names, &outputs, arguments.force)?;
    }
    let summaries: Vec<OutputSummary> =
        names.iter().zip(&outputs).map(|(name, tensor)| summary(name, tensor, arguments.top)).collect();
    if arguments.json {
        print_json(&summaries)?;
    } else {
        summaries.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes outputs as NAME.npy, texts and whole values as NAME.pb.
pub(super) fn write(folder: &std::path::Path, names: &[String], outputs: &[Tensor], force: bool) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|reason| Error::Io { path: folder.to_owned(), reason })?;
    for (i, (name, tensor)) in names.iter().zip(outputs).enumerate() {
        // Output names are the model's: whatever is no plain character must not become a path.
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        let stem = if plain.trim_matches('.').is_empty() { format!("output_{i}") } else { plain };
        let extension = if tensors::has_npy(tensor) { "npy" } else { "pb" };
        let path = folder.join(format!("{stem}.{extension}"));
        super::may_write(&path, force)?;
        match extension {
            "npy" => tensors::write_npy(&path, tensor)?,
            _ => tensors::write_pb(&path, name, tensor)?,
        }
    }
    Ok(())
}

/// What is printed of an output.
pub(super) fn summary(name: &str, tensor: &Tensor, top: usize) -> OutputSummary {
    let row = tensor.shape().last().copied().unwrap_or(1).max(1);
    let mut entries: Vec<(usize, f64)> = match tensor.numbers() {
        Ok(numbers) => numbers.to_f64().into_iter().take(row).enumerate().collect(),
        Err(_) => Vec::new(),
    };
    if tensor.dtype().class() == Class::Float {
        entries.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    entries.truncate(top);
    OutputSummary {
        name: name.to_owned(),
        dtype: tensor.dtype().to_string(),
        shape: tensor.shape().to_vec(),
        top: entries,
        elements: elements(tensor, top),
    }
}

/// The first texts or whole values of a tensor, in words.
fn elements(tensor: &Tensor, top: usize) -> Vec<String> {
    let texts = tensor.strings().unwrap_or_default().iter().map(|text| format!("{:?}", String::from_utf8_lossy(text)));
    let values = tensor.values().unwrap_or_default().iter().map(|value| format!("{value:?}"));
    texts.chain(values).take(top).collect()
}

/// Prints an output for people.
pub(super) fn print(output: &OutputSummary) {
    anstream::println!("{}: {}{:?}", output.name, output.dtype, output.shape);
    for (index, value) in &output.top {
        anstream::println!("  {index:>6}  {value:.6}");
    }
    for element in &output.elements {
        anstream::println!("  {element}");
    }
}
