//! Finds the conformance cases, and has them made where they are not there yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The scripts that make cases, each with the folder of its parts if it has any, and the folders in `target` that they make them in.
const SCRIPTS: &[(&str, Option<&str>, &str)] =
    &[("generate.py", Some("contrib"), "conformance"), ("generate_ml.py", None, "conformance-ml")];

/// The folder of each case by its name `KIND/CASE`. The error says why the cases could not be made.
pub fn all() -> Result<BTreeMap<String, PathBuf>, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
    let mut cases = BTreeMap::new();
    for (script, parts, folder) in SCRIPTS {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
        let mut scripts = vec![here.join(script)];
        if let Some(parts) = parts {
            scripts.extend(python_files(&here.join(parts))?);
        }
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

/// The parts of a script, in the order in which it reads them.
fn python_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "py"));
    files.sort();
    Ok(files)
}

/// The script leaves a copy of itself and its parts when it is done.
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
