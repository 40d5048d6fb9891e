//! `tarsia compile`.

use std::{
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use tarsia::{Error, Phase};

use super::{LimitArguments, PrecisionArgument, TargetArgument, may_write, model_of, spinner};

/// Compiles a model to a file that runs without the compiler, or prints a stage.
///
/// Every printed stage is complete: it can be given to any other command in place of the model.
#[derive(Args)]
pub struct Arguments {
    /// The model, or a dump; or a folder with one model.
    model: PathBuf,
    /// Stop at this stage and print it: graph, optimised, kernels or tiles.
    #[arg(long, value_name = "STAGE")]
    emit: Option<Phase>,
    /// Where to write; a stage goes to standard output if absent, a compiled model beside the current folder as NAME.tarsia.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: TargetArgument,
    #[command(flatten)]
    precision: PrecisionArgument,
    #[command(flatten)]
    limits: LimitArguments,
}

/// Compiles and writes.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let (model, _) = model_of(&arguments.model)?;
    let output = match (&arguments.output, arguments.emit) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(PathBuf::from(model.file_stem().unwrap_or_default()).with_extension("tarsia")),
    };
    if let Some(path) = &output {
        may_write(path, arguments.force)?;
    }
    let machine = arguments.target.machine()?;
    let progress = spinner("compiling");
    let last = arguments.emit.unwrap_or(Phase::Tiles);
    let start = tarsia::load(&model, arguments.limits.limits(), &machine)?;
    let compiled = tarsia::compile_with(start, last, &machine, arguments.precision.options())?;
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
    match (arguments.emit, &output) {
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
