//! Models and inputs with mistakes in them: whatever is wrong, Tarsia reports it or computes ONNX's defined result.
//!
//! Each test takes one sound model (the small ones of this repository, and ONNX's conformance cases) and breaks it in
//! ways drawn from a seed, or draws models of one node from an operator's signature (`drawn`); compiles it and, where that
//! succeeds, runs it on broken inputs. A panic, an error of Tarsia's own, an address space beyond 4 GiB or 20 s is a
//! failure, which names its seed.
//!
//! `TARSIA_MISTAKES=N` tries N seeds per model instead of 1 (and 20 N per signature), and `TARSIA_SEED=S` starts at another seed. With `TARSIA_KEEP=FILE` the
//! last broken model is written there.

#[path = "../conformance/cases.rs"]
mod cases;
mod drawn;
#[path = "../support/isolated.rs"]
mod isolated;
mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use isolated::Workers;
use libtest_mimic::{Arguments, Failed, Trial};
use mutate::Random;
use onnx_protobuf::ModelProto;
use protobuf::Message;
use tarsia::{Error, Limits, Numbers, Phase, Session, SessionOptions, Tensor};

/// Address space of a worker, bytes: far more than these models need, far less than what they may declare by mistake.
const MEMORY: u64 = 4 << 30;
/// What the user allows a model to declare, bytes.
const DECLARED: u64 = 256 << 20;
/// Models beyond this size would make the test slow, not better.
const LARGEST_MODEL: u64 = 300_000;

fn main() -> ExitCode {
    isolated::serve_if_worker(attempt);
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |v| v.parse().expect("a number"));
    let (first, count) = (number("TARSIA_SEED", 0), number("TARSIA_MISTAKES", 1));
    let workers = Arc::new(Workers::new(Duration::from_secs(20 + count), MEMORY));
    let trial = |(name, case): (String, String)| {
        let workers = workers.clone();
        Trial::test(name, move || workers.run(&case).map_err(Failed::from))
    };
    let broken = models().into_iter().map(|(name, model)| (name, format!("{first} {count} {}", model.display())));
    let drawn = drawn::operators().into_iter().map(|operator| {
        let case = format!("{first} {} {SIGNATURE}{operator}", count.saturating_mul(DRAWN));
        (format!("{SIGNATURE}{operator}"), case)
    });
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    libtest_mimic::run(&arguments, broken.chain(drawn).map(trial).collect()).exit_code()
}

/// What a case of a signature begins with.
const SIGNATURE: &str = "signature/";
/// Models of one node for each seed of the others.
const DRAWN: u64 = 20;

/// Sound models by name.
fn models() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<(String, PathBuf)> = Vec::new();
    for parent in ["examples", "tests/models"] {
        let entries = std::fs::read_dir(root.join(parent)).expect("readable");
        folders.extend(
            entries
                .filter_map(Result::ok)
                .map(|entry| (format!("{parent}/{}", entry.file_name().display()), entry.path())),
        );
    }
    match cases::all() {
        Ok(cases) => folders.extend(cases),
        Err(reason) => eprintln!("\n*** without ONNX's conformance cases: {reason}\n"),
    }
    folders.sort();
    let small = |path: &Path| path.metadata().is_ok_and(|data| data.len() <= LARGEST_MODEL);
    let found = folders.into_iter().map(|(name, folder)| (name, folder.join("model.onnx")));
    found.filter(|(_, model)| small(model)).collect()
}

/// Breaks a model in as many ways as there are seeds. The case is `FIRST COUNT MODEL` or `FIRST COUNT signature/DOMAIN/OPERATOR`.
fn attempt(case: &str) -> Result<(), String> {
    let mut parts = case.splitn(3, ' ');
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or("not a case");
    let (first, count) = (number()?, number()?);
    let subject = Subject::read(parts.next().ok_or("not a case")?)?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    for seed in first..first.saturating_add(count) {
        let outcome = catch_unwind(AssertUnwindSafe(|| one(&subject, folder.path(), seed)));
        let fault = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(error)) if !error.is_internal() && !error.to_string().is_empty() => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("panicked: {}", isolated::last_panic()),
        };
        return Err(format!("TARSIA_SEED={seed}: {fault}"));
    }
    Ok(())
}

/// What models are made from.
enum Subject {
    Model(Box<ModelProto>, PathBuf),
    Operator(String),
}

impl Subject {
    fn read(text: &str) -> Result<Subject, String> {
        if let Some(operator) = text.strip_prefix(SIGNATURE) {
            return Ok(Subject::Operator(operator.into()));
        }
        let bytes = std::fs::read(text).map_err(|e| e.to_string())?;
        let model = ModelProto::parse_from_bytes(&bytes).map_err(|e| e.to_string())?;
        Ok(Subject::Model(Box::new(model), text.into()))
    }

    /// The model of a seed, and what draws its inputs.
    fn model(&self, seed: u64) -> (ModelProto, Random) {
        match self {
            Subject::Model(model, path) => {
                let (mut model, mut random) = (model.clone(), Random::new(seed, &folder_name(path)));
                if random.below(2) == 0 {
                    known_inputs(&mut model, path);
                }
                mutate::mutate(&mut model, &mut random);
                (*model, random)
            }
            Subject::Operator(operator) => {
                let mut random = Random::new(seed, operator);
                (drawn::model(operator, &mut random), random)
            }
        }
    }
}

/// One model, compiled and run.
fn one(subject: &Subject, folder: &Path, seed: u64) -> Result<(), Error> {
    let (model, mut random) = subject.model(seed);
    let broken = folder.join("model.onnx");
    let bytes = model.write_to_bytes().expect("models encode");
    std::fs::write(&broken, &bytes).expect("the temporary folder is writable");
    if let Some(file) = std::env::var_os("TARSIA_KEEP") {
        std::fs::write(file, &bytes).map_err(|e| Error::Usage(e.to_string()))?;
    }
    let machine = tarsia::machine("cpu")?;
    let limits = Limits { max_bytes: DECLARED, ..Limits::default() };
    let compiled = tarsia::compile(tarsia::load(&broken, limits, &machine)?, Phase::Tiles, &machine)?;
    let program = compiled.program.ok_or_else(|| Error::Usage("nothing was compiled".into()))?;
    let inputs = match subject {
        Subject::Model(_, path) => inputs(&program, path, &mut random),
        Subject::Operator(_) => drawn_inputs(&program, &mut random),
    };
    let options =
        SessionOptions { threads: 1, memory_limit: DECLARED as usize, iteration_limit: 1000, ..Default::default() };
    let session = Session::new(program, &options)?;
    for set in inputs {
        // What a run says is its own affair; that it ends is what is tested, once per set.
        let _ = session.run(&set);
    }
    Ok(())
}

/// Inputs of the declared types, sizes that are symbols being small.
fn drawn_inputs(program: &tarsia::tile::Program, random: &mut Random) -> Vec<Vec<Tensor>> {
    (0..2)
        .map(|_| {
            let symbol = random.below(4);
            let draw = |port: &tarsia::tile::Port| {
                let shape: Vec<usize> = port.shape.iter().map(|size| size.as_usize().unwrap_or(symbol)).collect();
                drawn::tensor(program.buffers[port.buffer.0 as usize].dtype, &shape, random)
            };
            program.inputs.iter().map(draw).collect()
        })
        .collect()
}

fn folder_name(path: &Path) -> String {
    path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}

/// Makes the inputs of the test data initialisers, so that shapes, indices and scales are known at import and can be wrong.
fn known_inputs(model: &mut ModelProto, path: &Path) {
    let graph = model.graph.mut_or_insert_default();
    let Some(set) = path.parent().map(|folder| folder.join("test_data_set_0")) else { return };
    for (k, input) in graph.input.iter().enumerate() {
        let Ok(bytes) = std::fs::read(set.join(format!("input_{k}.pb"))) else { continue };
        if let Ok(mut tensor) = onnx_protobuf::TensorProto::parse_from_bytes(&bytes) {
            tensor.name.clone_from(&input.name);
            graph.initializer.push(tensor);
        }
    }
}

/// The test data where they are, then with one input missing, of another shape, of another type, and full of edges.
fn inputs(program: &tarsia::tile::Program, path: &Path, random: &mut Random) -> Vec<Vec<Tensor>> {
    let set = path.parent().map(|folder| folder.join("test_data_set_0")).unwrap_or_default();
    let read = tarsia::read_set(&set, "input", program.inputs.len(), &Limits::default()).unwrap_or_default();
    let sound: Vec<Tensor> = read.into_iter().map(|tensor| tensor.unwrap_or_else(|| Tensor::scalar(1.0f32))).collect();
    let mut sets = vec![sound.clone()];
    let missing = sound.iter().skip(1).cloned().collect();
    sets.push(missing);
    for change in 0..3 {
        let mut set = sound.clone();
        if set.is_empty() {
            continue;
        }
        let at = random.below(set.len());
        set[at] = broken_tensor(&set[at], change, random);
        sets.push(set);
    }
    sets
}

fn broken_tensor(tensor: &Tensor, change: usize, random: &mut Random) -> Tensor {
    let count = tensor.count();
    let other = match change {
        0 => tensor.reshaped(&[count, 1]).ok(),
        1 => Tensor::from_slice(&[count], &vec![f32::NAN; count]).ok(),
        _ => {
            let edges = Numbers::Int((0..count).map(|_| random.edge()).collect());
            Tensor::from_numbers(tensor.dtype(), tensor.shape(), &edges).ok()
        }
    };
    other.unwrap_or_else(|| Tensor::scalar(0i64))
}
