//! `docs/operators.md`: one row for every operator of ONNX and for those of other domains that are imported.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tarsia::graph::{Graph, Op};
use tarsia_onnx::signature;
use tarsia_tensor::{DType, host};

use crate::{OfOne, first_set, import, of_one};

const HEAD: &str = "# Operators

What becomes of every ONNX operator. Written by `TARSIA_BLESS=1 cargo test --release --test operators` from the operator table and from
what the conformance cases import to; a test keeps it current.

- **versions**: the operator-set versions that define the operator anew; each is imported with its own semantics.
- **types**: the element types that its inputs may have, of all versions.
- **runs**: `tiles` is compiled to tile kernels. `host` runs a function on the host, with the reason. `tiles, or host` is compiled where
  the operands that decide the result's shape are known when the model is compiled or follow from its shapes, and calls the named host
  function where only run-time data give them.
- **made of**: the core ops that it becomes; fusion starts from these. Nothing: it is done when the model is imported.
";

/// What stands in the table for an operator that no case has alone: no table is written or compared with it.
const NO_CASE: &str = "no case of it alone";

/// What the cases of an operator import to.
#[derive(Default)]
struct Evidence {
    ops: BTreeSet<String>,
    /// Host functions with all inputs as run-time data, and where those after the first are known.
    at_run_time: BTreeSet<String>,
    always: BTreeSet<String>,
    cases: usize,
    /// Cases without a host function where inputs after the first are known.
    compiled: usize,
}

impl Evidence {
    fn is_host(&self) -> bool {
        self.cases > 0 && self.compiled == 0
    }
}

/// Writes the table or compares it.
pub fn is_current(by_operator: &BTreeMap<(String, String), Vec<PathBuf>>) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let text = text(by_operator);
    let unknown: Vec<&str> = text.lines().filter(|line| line.contains(NO_CASE)).collect();
    if !unknown.is_empty() {
        return Err(format!(
            "no case shows what these become; tests/conformance/contrib has cases:\n{}",
            unknown.join("\n")
        ));
    }
    if std::env::var_os("TARSIA_BLESS").is_some() {
        return std::fs::write(&path, text).map_err(|e| e.to_string());
    }
    let found = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if found == text {
        return Ok(());
    }
    let differs = found.lines().zip(text.lines()).find(|(a, b)| a != b);
    Err(format!("docs/operators.md is not current, TARSIA_BLESS=1 writes it; the first line that differs: {differs:?}"))
}

fn text(by_operator: &BTreeMap<(String, String), Vec<PathBuf>>) -> String {
    let mut names: BTreeMap<(&str, &str), ()> = signature::operators().into_iter().map(|name| (name, ())).collect();
    names.extend(tarsia_onnx::operators().into_iter().map(|name| (name, ())));
    let mut text = HEAD.to_owned();
    let mut domain = None;
    let rows: Vec<((&str, &str), Evidence)> = names
        .into_keys()
        .map(|(domain, name)| {
            let folders = by_operator.get(&(domain.to_owned(), name.to_owned()));
            ((domain, name), evidence(folders.map_or(&[][..], Vec::as_slice)))
        })
        .collect();
    for ((of, name), evidence) in &rows {
        if domain != Some(*of) {
            domain = Some(*of);
            let all = rows.iter().filter(|((other, _), _)| other == of);
            let removed = |name: &str| signature::versions(of, name).last().is_some_and(|version| version.removed);
            let all = all.filter(|((_, name), _)| !removed(name));
            let (count, host) = (all.clone().count(), all.filter(|(_, evidence)| evidence.is_host()).count());
            let shown = if of.is_empty() { "ai.onnx" } else { of };
            let _ = write!(text, "\n## {shown}\n\n{count} operators, {host} of them on the host.\n\n");
            text += "| operator | versions | types | runs | made of |\n|---|---|---|---|---|\n";
        }
        let _ = writeln!(text, "{}", row(of, name, evidence));
    }
    text
}

fn row(domain: &str, name: &str, evidence: &Evidence) -> String {
    let versions = signature::versions(domain, name);
    let shown = versions.iter().map(|version| match version.removed {
        true => format!("removed in {}", version.since),
        false => version.since.to_string(),
    });
    let list = |set: &BTreeSet<String>| set.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let reasons = |set: &BTreeSet<String>| {
        let why: BTreeSet<&str> = set.iter().filter_map(|name| host::find(name)).map(|row| row.why).collect();
        why.into_iter().collect::<Vec<_>>().join("; ")
    };
    let runs = match evidence {
        Evidence { cases: 0, .. } if versions.last().is_some_and(|version| version.removed) => "–".to_owned(),
        Evidence { cases: 0, .. } => NO_CASE.to_owned(),
        evidence if evidence.is_host() => {
            format!("host, {}: {}", list(&evidence.always), reasons(&evidence.always))
        }
        evidence if evidence.at_run_time.is_empty() && evidence.always.is_empty() => "tiles".to_owned(),
        evidence => {
            let all: BTreeSet<String> = evidence.at_run_time.union(&evidence.always).cloned().collect();
            format!("tiles, or host ({})", list(&all))
        }
    };
    let versions = shown.collect::<Vec<_>>().join(", ");
    format!("| {name} | {versions} | {} | {runs} | {} |", types(domain, name), list(&evidence.ops))
}

/// The element types of an operator's inputs, or of its outputs if it has no inputs.
fn types(domain: &str, name: &str) -> String {
    let mut found: BTreeSet<DType> = BTreeSet::new();
    for version in signature::versions(domain, name) {
        let parameters = if version.inputs.is_empty() { &version.outputs } else { &version.inputs };
        found.extend(parameters.iter().take(1).flat_map(|parameter| version.dtypes(parameter)));
    }
    let all: BTreeSet<DType> = DType::ALL.iter().copied().collect();
    let wide: BTreeSet<DType> = all.iter().copied().filter(|dtype| dtype.bits() >= 8).collect();
    let common = |floats: &[DType]| -> BTreeSet<DType> {
        let integers = DType::ALL.iter().copied().filter(|dtype| dtype.is_integer() && dtype.bits() >= 8);
        integers.chain(floats.iter().copied()).collect()
    };
    let floats = [DType::F16, DType::BF16, DType::F32, DType::F64];
    let numbers = common(&floats);
    if found == all {
        return "all".into();
    }
    let named = [(&wide, "all of 8 bits and more"), (&numbers, "integers and floats of 8 to 64 bits")];
    for (set, name) in named {
        if !set.is_empty() && set.is_subset(&found) {
            let rest: Vec<&str> = found.difference(set).map(|dtype| dtype.name()).collect();
            return [&[name][..], &rest].concat().join(", ");
        }
    }
    found.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ")
}

fn evidence(folders: &[PathBuf]) -> Evidence {
    let mut evidence = Evidence::default();
    for folder in folders {
        let Some((_, case)) = of_one(folder) else { continue };
        let Ok(graph) = import(&case.model) else { continue };
        evidence.cases += 1;
        let (ops, host) = contents(&graph);
        evidence.ops.extend(ops);
        evidence.at_run_time.extend(host);
        let known = import(&with_known_inputs(&case)).map_or_else(|_| contents(&graph), |graph| contents(&graph));
        evidence.compiled += usize::from(known.1.is_empty());
        evidence.ops.extend(known.0);
        evidence.always.extend(known.1);
    }
    evidence
}

/// The model with the inputs after the first as initialisers, and the first where it is a list of integers or one.
fn with_known_inputs(case: &OfOne) -> onnx_protobuf::ModelProto {
    let mut model = case.model.clone();
    let graph = model.graph.mut_or_insert_default();
    let is_list = |tensor: &onnx_protobuf::TensorProto| {
        let dtype = DType::from_onnx(tensor.data_type);
        tensor.dims.len() <= 1 && dtype.is_some_and(|dtype| dtype.is_integer())
    };
    for (k, tensor) in first_set(case).into_iter().enumerate() {
        if let Some(mut tensor) = tensor.filter(|tensor| k > 0 || is_list(tensor)) {
            tensor.name.clone_from(&graph.input[k].name);
            graph.initializer.push(tensor);
        }
    }
    model
}

/// The names of a graph's ops and of its host functions, those of sub-graphs too.
fn contents(graph: &Graph) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut ops, mut host) = (BTreeSet::new(), BTreeSet::new());
    for id in graph.node_ids() {
        match &graph[id].op {
            Op::Host { function, .. } => drop(host.insert(function.clone())),
            Op::Input { .. } | Op::Constant { .. } | Op::Size { .. } => {}
            op => drop(ops.insert(op.name().to_owned())),
        }
        for inner in graph[id].op.subgraphs() {
            let (more_ops, more_host) = contents(inner);
            ops.extend(more_ops);
            host.extend(more_host);
        }
    }
    (ops, host)
}
