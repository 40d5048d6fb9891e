//! Finds the conformance cases, and has them made where they are not there yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The scripts that make cases, each with its parts, and the folders in `target` that they make them in.
const SCRIPTS: &[(&[&str], &str)] =
    &[(&["generate.py", "contrib.py"], "conformance"), (&["generate_ml.py"], "conformance-ml")];

/// The folder of each case by its name `KIND/CASE`. The error says why the cases could not be made.
pub fn all() -> Result<BTreeMap<String, PathBuf>, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
    let mut cases = BTreeMap::new();
    for (parts, folder) in SCRIPTS {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
        let scripts: Vec<PathBuf> = parts.iter().map(|part| here.join(part)).collect();
        let out = target.join(folder);
        if !is_fresh(&out, &scripts) {
            make(&out, &scripts[0])?;
        }
        for kind in folders(&out)? {
            for case in folders(&kind)? {
                let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
                cases.insert(format!("{}/{}", name(&kind), name(&case)), case);
            }
        }
    }
    Ok(cases)
}

/// The script leaves a copy of itself and its part when it is done.
fn is_fresh(out: &Path, scripts: &[PathBuf]) -> bool {
    let scripts: std::io::Result<Vec<Vec<u8>>> = scripts.iter().map(std::fs::read).collect();
    matches!((std::fs::read(out.join("stamp")), scripts), (Ok(stamp), Ok(scripts)) if stamp == scripts.concat())
}

fn make(out: &Path, script: &Path) -> Result<(), String> {
    eprintln!("making cases in {} (once)", out.display());
    let status =
        Command::new("python3").arg(script).arg(out).status().map_err(|e| format!("cannot start python3: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", script.display())) }
}

fn folders(parent: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}
