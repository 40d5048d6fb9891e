//! The one place where the harnesses meet the library.

use std::path::PathBuf;

/// A model folder and how to run it. Its text form is what a worker process is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The model with its test data and tolerance.
    pub folder: PathBuf,
    /// How to compile and run it.
    pub setting: Setting,
}

/// How a model is compiled and run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The machine to compile for.
    pub target: &'static str,
    /// How many of its cores; all where absent.
    pub cores: Option<usize>,
    /// `f32` or `f16`.
    pub precision: &'static str,
    /// Threads of the session.
    pub threads: usize,
    /// `avx512`, `avx2` or `portable`; the best one of the machine where absent.
    pub simd: Option<&'static str>,
}

impl Setting {
    /// All cores of a machine, f32, one thread with the best instructions.
    pub const fn of(target: &'static str) -> Setting {
        Setting { target, cores: None, precision: "f32", threads: 1, simd: None }
    }
}

impl Case {
    /// `TARGET CORES PRECISION THREADS SIMD FOLDER`; CORES 0 and SIMD `best` where absent.
    pub fn to_text(&self) -> String {
        let Setting { target, cores, precision, threads, simd } = self.setting;
        let (cores, simd) = (cores.unwrap_or(0), simd.unwrap_or("best"));
        format!("{target} {cores} {precision} {threads} {simd} {}", self.folder.display())
    }

    fn parse(text: &str) -> Option<Case> {
        let mut parts = text.splitn(6, ' ');
        let target = parts.next()?;
        let target = tarsia::Machine::builtin_names().find(|known| *known == target)?;
        let cores = Some(parts.next()?.parse().ok()?).filter(|&cores| cores > 0);
        let precision = parts.next()?;
        let precision = ["f32", "f16"].into_iter().find(|known| *known == precision)?;
        let threads = parts.next()?.parse().ok()?;
        let simd = match parts.next()? {
            "best" => None,
            name => Some(*["avx512", "avx2", "portable"].iter().find(|known| **known == name)?),
        };
        let setting = Setting { target, cores, precision, threads, simd };
        Some(Case { folder: parts.next()?.into(), setting })
    }
}

/// Compiles the model of a case (in its text form), runs it on each of its data sets and compares. The error
/// says what went wrong first.
pub fn compare(case: &str) -> Result<(), String> {
    let Case { folder, setting } = Case::parse(case).ok_or_else(|| format!("not a case: `{case}`"))?;
    let mut options = tarsia::SessionOptions { threads: setting.threads, ..Default::default() };
    if let Some(isa) = setting.simd {
        options.isa = Some(isa.parse().map_err(|e| format!("{e}"))?);
    }
    let mut machine = tarsia::machine(setting.target).map_err(|e| e.to_string())?;
    if let Some(cores) = setting.cores {
        machine = tarsia::with_cores(&machine, cores).map_err(|e| e.to_string())?;
    }
    let compilation = tarsia::Options { precision: setting.precision.parse()?, ..Default::default() };
    let reports = tarsia::compare_folder(&folder, tarsia::Limits::default(), &machine, compilation, &options)
        .map_err(|e| e.to_string())?;
    let failed = reports.iter().find_map(|report| {
        let output = report.outputs.iter().find(|output| !output.reason.is_empty())?;
        Some(format!("{}: {}: {}", report.set, output.name, output.reason))
    });
    failed.map_or(Ok(()), Err)
}
