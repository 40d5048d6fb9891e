//! Exported models: each one is imported, evaluated by the reference evaluation on its test data, and compared.
//!
//! The models are those of the repository and those in the folder that `TARSIA_MODELS` names, in ONNX's test layout with a
//! `meta.json` that tells the tolerance. Operators of other domains than ONNX's own are the only reason to leave one out.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tarsia_graph::{Graph, eval};
use tarsia_onnx::{Fault, ImportError, Limits, Model, Options, data, import};
use tarsia_tensor::{DType, Tensor};

/// Domains whose operators are not imported.
const OTHER_DOMAINS: [&str; 2] = ["com.microsoft", "ai.onnx.ml"];

/// Elements that one evaluation may hold: the models are small, and what takes more is wrong.
const MOST_ELEMENTS: usize = 1 << 27;

#[test]
fn models_give_what_their_test_data_say() {
    let mut failures = Vec::new();
    let models = models();
    assert!(models.len() > 20, "only {} models were found", models.len());
    for (name, folder) in models {
        match check(&folder) {
            Ok(()) => {}
            Err(reason) => failures.push(format!("{name}: {reason}")),
        }
    }
    assert!(failures.is_empty(), "{} models fail:\n{}", failures.len(), failures.join("\n"));
}

/// Folders of models by name.
fn models() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut parents = vec![root.join("tests/models"), root.join("examples")];
    parents.extend(std::env::var_os("TARSIA_MODELS").map(PathBuf::from));
    let mut models = BTreeMap::new();
    for parent in parents {
        for entry in fs::read_dir(&parent).unwrap_or_else(|error| panic!("{}: {error}", parent.display())) {
            let folder = entry.unwrap().path();
            if folder.join("model.onnx").exists() {
                models.insert(folder.file_name().unwrap().to_string_lossy().into_owned(), folder);
            }
        }
    }
    models
}

fn check(folder: &Path) -> Result<(), String> {
    let model = Model::open(&folder.join("model.onnx"), Limits::default()).map_err(|error| error.to_string())?;
    let graph = match import(&model, &Options::default()) {
        Ok(graph) => graph,
        Err(error) if only_other_domains(&error) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let meta = fs::read_to_string(folder.join("meta.json")).map_err(|error| error.to_string())?;
    let meta: serde_json::Value = serde_json::from_str(&meta).map_err(|error| error.to_string())?;
    let number = |name: &str| meta[name].as_f64().ok_or_else(|| format!("meta.json has no `{name}`"));
    let (relative, absolute) = (number("rtol")?, number("atol")?);
    for set in 0.. {
        let set = folder.join(format!("test_data_set_{set}"));
        if !set.exists() {
            break;
        }
        let label = |text: String| format!("{}: {text}", set.file_name().unwrap_or_default().to_string_lossy());
        compare(&graph, &set, relative, absolute).map_err(label)?;
    }
    Ok(())
}

/// Whether all that is wrong is operators of other domains.
fn only_other_domains(error: &ImportError) -> bool {
    let ImportError::Model { problems, .. } = error else { return false };
    problems.as_slice().iter().all(|problem| {
        let foreign = |domain: &str| OTHER_DOMAINS.contains(&domain);
        matches!(problem.fault(), Fault::UnknownOperator)
            && problem.place().node.as_ref().is_some_and(|node| foreign(&node.domain))
    })
}

fn compare(graph: &Graph, set: &Path, relative: f64, absolute: f64) -> Result<(), String> {
    let inputs: Vec<Tensor> = tensors(set, "input")?;
    let inputs: Vec<Tensor> =
        graph.inputs().iter().zip(inputs).map(|((_, id), x)| fitted(graph[*id].types[0].rank(), x)).collect();
    let options = eval::Options { elements: MOST_ELEMENTS, ..eval::Options::default() };
    let outputs = eval::run_within(graph, &inputs, &options).map_err(|error| error.to_string())?;
    let expected = tensors(set, "output")?;
    if outputs.len() < expected.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), expected.len()));
    }
    for (i, (found, expected)) in outputs.iter().zip(&expected).enumerate() {
        if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
            return Err(format!("output {i} is {found:?} instead of {expected:?}"));
        }
        let values =
            |tensor: &Tensor| tensor.numbers().map(|numbers| numbers.to_f64()).map_err(|error| error.to_string());
        let (found_values, expected_values) = (values(found)?, values(expected)?);
        // In bf16 a close choice of experts may turn out otherwise, and with it one row; all the same most rows agree.
        if expected.dtype() == DType::BF16 && cosine(&found_values, &expected_values) > 0.98 {
            continue;
        }
        for (at, (x, y)) in found_values.iter().zip(&expected_values).enumerate() {
            let near = x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= absolute + relative * y.abs();
            if !near {
                return Err(format!("output {i}: element {at} is {x} instead of {y}"));
            }
        }
    }
    Ok(())
}

/// Cosine of the angle between two lists of numbers.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Test data write some scalars with an axis of size 1.
fn fitted(rank: usize, tensor: Tensor) -> Tensor {
    if rank == 0 && tensor.count() == 1 { tensor.reshaped(&[]).unwrap_or(tensor) } else { tensor }
}

fn tensors(set: &Path, kind: &str) -> Result<Vec<Tensor>, String> {
    let files = (0..).map(|i| set.join(format!("{kind}_{i}.pb"))).take_while(|path| path.exists());
    files
        .map(|path| data::read_tensor(&path, &Limits::default()).map(|(_, tensor)| tensor).map_err(|e| e.to_string()))
        .collect()
}
