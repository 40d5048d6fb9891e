//! `tarsia compile`.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use tarsia::{Error, Phase};

use super::{ChoiceArguments, LimitArguments, TargetArgument, may_write, model_of, spinner};

/// Compiles a model to a file that runs without the compiler, or prints a stage.
///
/// Every printed stage is complete: it can be given to any other command in place of the model.
#[derive(Args)]
pub struct Arguments {
    /// The model, or a dump; or a folder with one model.
    model: PathBuf,
    /// Stop at this stage and print it: graph, optimised, kernels or tiles; or hivm, a folder of MLIR modules for the vendor's
    /// compiler.
    #[arg(long, value_name = "STAGE")]
    emit: Option<Emit>,
    /// Where to write; a stage goes to standard output if absent, a compiled model beside the current folder as NAME.tarsia.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: TargetArgument,
    #[command(flatten)]
    choice: ChoiceArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

/// What `--emit` names.
#[derive(Clone, Copy)]
enum Emit {
    Phase(Phase),
    Hivm,
}

impl std::str::FromStr for Emit {
    type Err = String;

    fn from_str(text: &str) -> Result<Emit, String> {
        if text == "hivm" { Ok(Emit::Hivm) } else { text.parse().map(Emit::Phase) }
    }
}

/// Compiles and writes.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let (model, _) = model_of(&arguments.model)?;
    let emit = match arguments.emit {
        Some(Emit::Hivm) => return run_hivm(arguments, &model),
        Some(Emit::Phase(phase)) => Some(phase),
        None => None,
    };
    let output = match (&arguments.output, emit) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(compiled_name(&model)?),
    };
    if let Some(path) = &output {
        may_write(path, arguments.force)?;
    }
    let machine = arguments.target.machine()?;
    let progress = spinner("compiling");
    let last = emit.unwrap_or(Phase::Tiles);
    let start = tarsia::load(&model, arguments.limits.limits(), &machine)?;
    let compiled = tarsia::compile_with(start, last, &machine, arguments.choice.options())?;
    progress.finish_and_clear();
    for (phase, time) in &compiled.times {
        tracing::info!("{phase}: {:.1} ms", time.as_secs_f64() * 1e3);
    }
    if let Some((_, report)) = &compiled.optimised {
        tracing::info!("{}", report.summary());
    }
    for storage in &compiled.storage {
        tracing::info!("{} {}: {}", storage.dtype, storage.origin.join(", "), storage.reason);
    }
    match (emit, &output) {
        (Some(phase), Some(path)) => {
            let io = |reason| Error::Io { path: path.clone(), reason };
            let mut file = BufWriter::new(std::fs::File::create(path).map_err(io)?);
            compiled.dump(phase, &mut file)?;
            file.flush().map_err(io)?;
        }
        (Some(phase), None) => compiled.dump(phase, &mut BufWriter::new(std::io::stdout().lock()))?,
        (None, path) => {
            let program = compiled.program.as_ref().ok_or_else(|| Error::Usage("nothing was compiled".into()))?;
            let path = path.as_deref().unwrap_or(std::path::Path::new("model.tarsia"));
            let fail =
                |e: tarsia::tile::artifact::ArtifactError| Error::Text { path: path.to_owned(), reason: e.to_string() };
            tarsia::tile::artifact::save(program, path).map_err(fail)?;
            anstream::println!("{}", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `model.tarsia` for `folder/model.onnx.gz`.
fn compiled_name(model: &Path) -> Result<PathBuf, Error> {
    if model == Path::new(tarsia::STANDARD_INPUT) {
        return Err(Error::Usage("a model on standard input has no name; name the file to write with --output".into()));
    }
    let plain = if model.extension().is_some_and(|e| e == "gz") { model.with_extension("") } else { model.to_owned() };
    Ok(PathBuf::from(plain.file_stem().unwrap_or_default()).with_extension("tarsia"))
}

/// Compiles and writes a folder of HIVM modules; says which kernels are missing there, and why.
fn run_hivm(arguments: &Arguments, model: &Path) -> Result<ExitCode, Error> {
    let folder = arguments.output.as_deref();
    let folder = folder.ok_or_else(|| Error::Usage("--emit hivm writes a folder; name it with --output".into()))?;
    may_write(folder, arguments.force)?;
    let machine = arguments.target.machine()?;
    let start = tarsia::load(model, arguments.limits.limits(), &machine)?;
    let compiled = tarsia::compile_with(start, Phase::Tiles, &machine, arguments.choice.options())?;
    let program = compiled.program.as_ref().ok_or_else(|| Error::Usage("nothing was compiled".into()))?;
    let export = tarsia::hivm::export::export(program, &machine, tarsia::hivm::export::Form::Placed);
    let planned = tarsia::hivm::export::export(program, &machine, tarsia::hivm::export::Form::Planned);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|reason| Error::Io { path, reason })
    };
    std::fs::create_dir_all(folder).map_err(|reason| Error::Io { path: folder.to_owned(), reason })?;
    for module in &export.modules {
        write(&format!("{}.mlir", module.name), &module.text)?;
    }
    for module in &planned.modules {
        write(&format!("{}.planned.mlir", module.name), &module.text)?;
    }
    write("manifest.json", &export.manifest)?;
    for (kernel, missing) in &export.unsupported {
        anstream::eprintln!("{kernel}: not in HIVM: {missing}");
    }
    anstream::println!("{}: {} kernels", folder.display(), export.modules.len());
    Ok(ExitCode::SUCCESS)
}
