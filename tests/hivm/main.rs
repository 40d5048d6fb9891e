//! Every kernel of every model, exported for the Ascend 910B2 and run through the vendor's open tools (docs/hivm.md).
//!
//! ```text
//! model ─compile─► program ─export─► NAME.mlir, NAME.flagless.mlir, NAME.planned.mlir ─┐
//!                     └─each kernel on random data in our runtime─► NAME.case.json ────┴─► validate.py
//! ```
//!
//! Every kernel is exported; a sample is validated, and all with `TARSIA_HIVM=all`. Where the tools cannot be installed the test is shown as
//! ignored, with the reason.

mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use tarsia::hivm::export::{Form, Module, export};
use tarsia::tile::Program;

/// The chip that the vendor's tools know.
const TARGET: &str = "ascend910b2";
/// Kernels that are run through the tools where not all are asked for, spread over all of them: about two minutes on two cores.
const SAMPLE: usize = 300;
/// The most kernels, as a share of all, that the dialect may not express.
const MOST_UNSUPPORTED: f64 = 0.05;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = Trial::test("every_kernel_passes_the_vendors_tools", || every_kernel().map_err(Failed::from));
    if arguments.list {
        return libtest_mimic::run(&arguments, vec![trial]).exit_code();
    }
    let trial = match prepare_tools() {
        Ok(()) => trial,
        Err(reason) => {
            println!("the vendor's tools cannot be installed: {reason}");
            trial.with_ignored_flag(true)
        }
    };
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn work() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hivm")
}

/// Runs a script of this folder.
fn script(name: &str, arguments: &[PathBuf]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-u").arg(root().join("tests/hivm").join(name)).args(arguments);
    command
}

fn prepare_tools() -> Result<(), String> {
    let output = script("tools.py", &[work().join("tools")]).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(text) }
}

fn every_kernel() -> Result<(), String> {
    let folder = work().join("kernels");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| e.to_string())?;
    }
    let counts = written(&folder)?;
    for (name, reason) in &counts.not_compiled {
        println!("{name}: {}", reason.lines().next().unwrap_or_default());
    }
    for (name, missing) in &counts.unsupported {
        println!("not in HIVM: {name}: {missing}");
    }
    let all = counts.exported + counts.unsupported.len();
    let share = counts.unsupported.len() as f64 / all.max(1) as f64;
    println!(
        "{} models compiled, {} did not; {all} kernels, {} of them ({:.1} %) cannot be expressed; {} different ones, {} with reference results",
        counts.models,
        counts.not_compiled.len(),
        counts.unsupported.len(),
        100.0 * share,
        counts.seen.len(),
        counts.cases,
    );
    let mut validate = script("validate.py", &[work().join("tools"), folder]);
    if std::env::var_os("TARSIA_HIVM").is_none_or(|all| all != "all") {
        validate.arg(SAMPLE.to_string());
    }
    let status = validate.status().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err("kernels do not pass the vendor's tools, see above".into());
    }
    if share > MOST_UNSUPPORTED {
        return Err(format!("{} of {all} kernels cannot be expressed", counts.unsupported.len()));
    }
    Ok(())
}

/// Compiles every model and writes its kernels; a line for each, so that progress is seen.
fn written(folder: &Path) -> Result<Counts, String> {
    let (models, counts) = (Mutex::new(models().into_iter()), Mutex::new(Counts::default()));
    let worker = || -> Result<(), String> {
        loop {
            let next = lock(&models).next();
            let Some((name, model)) = next else { return Ok(()) };
            match program(&model) {
                Ok(program) => write_kernels(&program, &folder.join(&name), &counts)?,
                Err(reason) => {
                    lock(&counts).not_compiled.insert(name.clone(), reason);
                }
            }
            println!("exported {name}");
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a model made the exporter panic")?)
    })?;
    Ok(counts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Counts {
    models: usize,
    not_compiled: BTreeMap<String, String>,
    exported: usize,
    unsupported: BTreeMap<String, String>,
    cases: usize,
    seen: BTreeSet<String>,
}

/// The model folders by name.
fn models() -> BTreeMap<String, PathBuf> {
    let mut parents = vec![root().join("examples"), root().join("tests/models")];
    parents.extend(std::env::var_os("TARSIA_MODELS").map(PathBuf::from));
    let mut found = BTreeMap::new();
    for parent in parents {
        let entries =
            std::fs::read_dir(&parent).map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
        for folder in entries.unwrap_or_default() {
            if let Ok(opened) = tarsia::Folder::open(&folder) {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.insert(name, opened.model);
            }
        }
    }
    found
}

fn program(model: &Path) -> Result<Program, String> {
    let machine = tarsia::machine(TARGET).map_err(|e| e.to_string())?;
    let start = tarsia::load(model, tarsia::Limits::default(), &machine).map_err(|e| e.to_string())?;
    let compiled = tarsia::compile(start, tarsia::Phase::Tiles, &machine).map_err(|e| e.to_string())?;
    compiled.program.ok_or_else(|| "no program".into())
}

/// Writes the three forms of each kernel, and its case; kernels with the same text as an earlier one are left out.
fn write_kernels(program: &Program, folder: &Path, counts: &Mutex<Counts>) -> Result<(), String> {
    let machine = tarsia::machine(TARGET).map_err(|e| e.to_string())?;
    let forms = [(Form::Placed, ""), (Form::Flagless, ".flagless"), (Form::Planned, ".planned")];
    let exports = forms.map(|(form, suffix)| (export(program, &machine, form), suffix));
    let mut kernels = BTreeMap::new();
    tarsia::hivm::export::collect(program, "", &mut kernels);
    let model = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let new: Vec<bool> = {
        let mut counts = lock(counts);
        counts.models += 1;
        counts.exported += exports[0].0.modules.len();
        for (kernel, missing) in &exports[0].0.unsupported {
            counts.unsupported.insert(format!("{model}/{kernel}"), missing.to_string());
        }
        let text = |module: &Module| module.text.replace(&module.name, "kernel");
        exports[0].0.modules.iter().map(|module| counts.seen.insert(text(module))).collect()
    };
    std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
    for (at, module) in exports[0].0.modules.iter().enumerate().filter(|(at, _)| new[*at]) {
        for (export, suffix) in &exports {
            let path = folder.join(format!("{}{suffix}.mlir", module.name));
            std::fs::write(path, &export.modules[at].text).map_err(|e| e.to_string())?;
        }
        match cases::case(kernels[&module.name], module, &machine) {
            Ok(case) => {
                cases::write(&case, folder, &module.name).map_err(|e| e.to_string())?;
                lock(counts).cases += 1;
            }
            Err(reason) => {
                let path = folder.join(format!("{}.nocase", module.name));
                std::fs::write(path, reason).map_err(|e| e.to_string())?;
            }
        }
    }
    Ok(())
}
