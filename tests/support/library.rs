//! The one place where the harnesses meet the library.

use std::path::PathBuf;

/// A model folder and how to run it. Its text form is what a worker process is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The model with its test data and tolerance.
    pub folder: PathBuf,
    /// The machine to compile for.
    pub target: &'static str,
    /// Threads of the session.
    pub threads: usize,
    /// `avx512`, `avx2` or `portable`; the best one of the machine where absent.
    pub simd: Option<&'static str>,
}

impl Case {
    /// `TARGET THREADS SIMD FOLDER`, SIMD `best` where absent.
    pub fn to_text(&self) -> String {
        format!("{} {} {} {}", self.target, self.threads, self.simd.unwrap_or("best"), self.folder.display())
    }

    fn parse(text: &str) -> Option<Case> {
        let mut parts = text.splitn(4, ' ');
        let target = parts.next()?;
        let target = tarsia::Machine::builtin_names().find(|known| *known == target)?;
        let threads = parts.next()?.parse().ok()?;
        let simd = match parts.next()? {
            "best" => None,
            name => Some(*["avx512", "avx2", "portable"].iter().find(|known| **known == name)?),
        };
        Some(Case { target, folder: parts.next()?.into(), threads, simd })
    }
}

/// Compiles the model of a case (in its text form), runs it on each of its data sets and compares. The error
/// says what went wrong first.
pub fn compare(case: &str) -> Result<(), String> {
    let case = Case::parse(case).ok_or_else(|| format!("not a case: `{case}`"))?;
    let mut options = tarsia::SessionOptions { threads: case.threads, ..Default::default() };
    if let Some(isa) = case.simd {
        options.isa = Some(isa.parse().map_err(|e| format!("{e}"))?);
    }
    let machine = tarsia::machine(case.target).map_err(|e| e.to_string())?;
    let reports = tarsia::compare_folder(&case.folder, tarsia::Limits::default(), &machine, &options)
        .map_err(|e| e.to_string())?;
    let failed = reports.iter().find_map(|report| {
        let output = report.outputs.iter().find(|output| !output.reason.is_empty())?;
        Some(format!("{}: {}: {}", report.set, output.name, output.reason))
    });
    failed.map_or(Ok(()), Err)
}
