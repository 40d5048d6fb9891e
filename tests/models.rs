//! Every model folder with test data, compiled and compared, one test per folder and setting.
//!
//! The folders are those of `examples/`, of `tests/models/`, of the folder that the environment variable
//! `TARSIA_MODELS` names, and, with two of the settings, the trained models that `tests/shipped/fetch.py` downloads. Settings: one
//! thread and two with the machine's best instructions, one thread with less, half precision, the machine with two pipes, and the Ascend
//! 910B2 with all and with few of its cores in both precisions. A model that cannot be downloaded is shown as ignored.
//! `models_not_passing.txt` lists what is known to fail; see `support/suite.rs`.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Arguments;
use support::library::{self, Case, Setting};
use support::shipped;
use support::suite::Suite;

/// The settings that the shipped models, which are larger, are run in.
const SHIPPED: &[&str] = &["1-thread", "2-threads"];

fn main() -> ExitCode {
    support::isolated::serve_if_worker(library::compare);
    let (mut cases, mut skipped) = (BTreeMap::new(), BTreeMap::new());
    let shipped = match shipped::all() {
        Ok(shipped) => shipped,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    skipped.extend(shipped.missing.into_iter().map(|(name, reason)| (format!("shipped/{name}"), reason)));
    let shipped = shipped.folders.into_iter().map(|(name, folder)| (format!("shipped/{name}"), folder));
    for (name, folder) in folders().into_iter().chain(shipped) {
        for (label, setting) in settings() {
            if SHIPPED.contains(&label) || !name.starts_with("shipped/") {
                cases.insert(format!("{name}@{label}"), Case { folder: folder.clone(), setting });
            }
        }
    }
    Suite {
        name: "models",
        not_passing: "tests/models_not_passing.txt",
        time_limit: Duration::from_secs(120),
        cases,
        skipped,
    }
    .run(Arguments::from_args())
}

/// What this machine can do, by name.
fn settings() -> Vec<(&'static str, Setting)> {
    let (cpu, ascend) = (Setting::of("cpu"), Setting::of("ascend910b2"));
    let mut settings = vec![
        ("1-thread", cpu),
        ("2-threads", Setting { threads: 2, ..cpu }),
        ("portable", Setting { simd: Some("portable"), ..cpu }),
        ("f16", Setting { precision: "f16", ..cpu }),
        ("twopipe", Setting::of("twopipe")),
        ("ascend910b2", ascend),
        ("ascend910b2-3-cores", Setting { cores: Some(3), ..ascend }),
        ("ascend910b2-f16", Setting { precision: "f16", ..ascend }),
        ("ascend910b2-3-cores-f16", Setting { cores: Some(3), precision: "f16", ..ascend }),
    ];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        settings.push(("avx2", Setting { simd: Some("avx2"), ..cpu }));
    }
    settings
}

/// All model folders by name: `examples/…`, `models/…`, `more/…`.
fn folders() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut groups = vec![("examples", root.join("examples")), ("models", root.join("tests/models"))];
    groups.extend(std::env::var_os("TARSIA_MODELS").map(|more| ("more", PathBuf::from(more))));
    let mut folders = BTreeMap::new();
    for (group, parent) in groups {
        let entries = std::fs::read_dir(&parent).unwrap_or_else(|e| panic!("{}: {e}", parent.display()));
        for folder in entries.map(|entry| entry.expect("readable").path()) {
            if folder.join("test_data_set_0").is_dir() {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                folders.insert(format!("{group}/{name}"), folder);
            }
        }
    }
    folders
}
