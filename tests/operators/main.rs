//! What becomes of every operator: `docs/operators.md` is current, and operators compute in every element type of their signatures.
//!
//! Both rest on the conformance cases. The table tells what importing them gives, with all inputs as run-time data and with those after the
//! first known. A retyped case is a case of one operator with another element type in place of a type variable: it must compile, and run
//! to what the reference evaluation gives. `TARSIA_BLESS=1 cargo test --release --test operators` writes the table.

#[path = "../conformance/cases.rs"]
mod cases;
#[path = "../support/isolated.rs"]
mod isolated;
mod retype;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use isolated::Workers;
use libtest_mimic::{Arguments, Failed, Trial};
use onnx_protobuf::{ModelProto, NodeProto, TensorProto};
use protobuf::Message;

/// Address space of a worker, bytes.
const MEMORY: u64 = 4 << 30;

/// A case of one operator.
pub struct OfOne {
    /// Where it lies.
    pub folder: PathBuf,
    /// The model.
    pub model: ModelProto,
}

fn main() -> ExitCode {
    isolated::serve_if_worker(retype::attempt);
    let arguments = Arguments::from_args();
    let folders = match cases::all() {
        Ok(folders) => folders,
        Err(reason) => {
            eprintln!("\n*** the operators were NOT tested: {reason}\n");
            let in_ci = std::env::var_os("CI").is_some_and(|v| v == "true");
            return if in_ci { ExitCode::FAILURE } else { libtest_mimic::run(&arguments, Vec::new()).exit_code() };
        }
    };
    let mut by_operator: BTreeMap<(String, String), Vec<PathBuf>> = BTreeMap::new();
    for folder in folders.into_values() {
        if let Some((operator, _)) = of_one(&folder) {
            by_operator.entry(operator).or_default().push(folder);
        }
    }
    let workers = Arc::new(Workers::new(Duration::from_secs(120), MEMORY));
    let mut trials = Vec::new();
    for ((domain, name), folders) in &by_operator {
        let paths: BTreeSet<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let case = paths.into_iter().collect::<Vec<_>>().join("\n");
        let case = serde_json::to_string(&case).expect("a string is JSON");
        let workers = workers.clone();
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        trials.push(Trial::test(format!("retyped/{domain}/{name}"), move || workers.run(&case).map_err(Failed::from)));
    }
    trials.push(Trial::test("docs/operators.md", move || table::is_current(&by_operator).map_err(Failed::from)));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Domain and name of the operator that a case is about, and the case; `None` if it is about several. A gradient is of other nodes: a
/// case that has one is about it.
fn of_one(folder: &Path) -> Option<((String, String), OfOne)> {
    let bytes = std::fs::read(folder.join("model.onnx")).ok()?;
    let model = ModelProto::parse_from_bytes(&bytes).ok()?;
    let nodes = &model.graph.node;
    let gradient = nodes.iter().find(|node| node.op_type == "Gradient");
    let first = gradient.or(nodes.first())?;
    let same = |node: &NodeProto| (&node.domain, &node.op_type) == (&first.domain, &first.op_type);
    let alone = model.functions.is_empty() && (gradient.is_some() || nodes.iter().all(same));
    let domain = if first.domain == "ai.onnx" { String::new() } else { first.domain.clone() };
    alone.then(|| ((domain, first.op_type.clone()), OfOne { folder: folder.to_owned(), model: model.clone() }))
}

/// The tensors of the first set of a case; `None` for an input that is none.
fn first_set(case: &OfOne) -> Vec<Option<TensorProto>> {
    let set = case.folder.join("test_data_set_0");
    let read = |k: usize| {
        let bytes = std::fs::read(set.join(format!("input_{k}.pb"))).ok()?;
        let tensor = TensorProto::parse_from_bytes(&bytes).ok()?;
        (tensor.data_type != 0).then_some(tensor)
    };
    (0..case.model.graph.input.len()).map(read).collect()
}

/// Imports a model.
fn import(model: &ModelProto) -> Result<tarsia::graph::Graph, tarsia::Error> {
    let bytes = model.write_to_bytes().expect("models encode");
    let model = tarsia_onnx::Model::from_bytes(bytes.into(), None, tarsia::Limits::default())?;
    Ok(tarsia_onnx::import(&model, &tarsia_onnx::Options::default())?)
}
