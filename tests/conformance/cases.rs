//! Finds the conformance cases, and has them made where they are not there yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The scripts that make cases, and the folders in `target` that they make them in.
const SCRIPTS: &[(&str, &str)] = &[("generate.py", "conformance"), ("generate_ml.py", "conformance-ml")];

/// The folder of each case by its name `KIND/CASE`. The error says why the cases could not be made.
pub fn all() -> Result<BTreeMap<String, PathBuf>, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
    let mut cases = BTreeMap::new();
    for (script, folder) in SCRIPTS {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(script);
        let out = target.join(folder);
        if !is_fresh(&out, &script) {
            make(&out, &script)?;
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

/// The script leaves a copy of itself when it is done.
fn is_fresh(out: &Path, script: &Path) -> bool {
    matches!((std::fs::read(out.join("stamp")), std::fs::read(script)), (Ok(stamp), Ok(script)) if stamp == script)
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
