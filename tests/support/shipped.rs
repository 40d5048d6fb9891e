//! The trained models that packages ship: fetched at the first run by `tests/shipped/fetch.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is there of the models.
#[derive(Default)]
pub struct Shipped {
    /// The folder of each model.
    pub folders: BTreeMap<String, PathBuf>,
    /// The models that could not be downloaded, with the reason.
    pub missing: BTreeMap<String, String>,
}

/// Fetches what is not there yet. A model that cannot be downloaded is missing; the error says what else went wrong, such as a
/// checksum that differs.
pub fn all() -> Result<Shipped, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
    let out = target.join("shipped");
    let status = Command::new("python3").arg(root.join("tests/shipped/fetch.py")).arg(&out).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("tests/shipped/fetch.py failed: {status}")),
        Err(error) => {
            eprintln!("\n*** the shipped models were NOT run: cannot start python3: {error}\n");
            return Ok(Shipped::default());
        }
    }
    let mut shipped = Shipped::default();
    for line in read(&out.join("missing"))?.lines() {
        let (name, reason) = line.split_once(": ").unwrap_or((line, ""));
        shipped.missing.insert(name.to_owned(), reason.to_owned());
    }
    if !shipped.missing.is_empty() {
        eprintln!("\n*** {} shipped models were NOT run: they could not be downloaded\n", shipped.missing.len());
    }
    let entries = std::fs::read_dir(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    for folder in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if folder.join("entry").is_file() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            shipped.folders.insert(name, folder);
        }
    }
    Ok(shipped)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
