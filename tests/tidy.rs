//! The rules of this repository that no compiler checks: module contracts, dependency arrows, what
//! must not appear in the sources, and that the documentation names the command that CI runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each crate may depend on among ours: arrows point down the pipeline, never up.
const ARROWS: &[(&str, &[&str])] = &[
    ("tarsia-tensor", &[]),
    ("tarsia-graph", &["tarsia-tensor"]),
    ("tarsia-tile", &["tarsia-tensor"]),
    ("tarsia-onnx", &["tarsia-tensor", "tarsia-graph"]),
    ("tarsia-passes", &["tarsia-tensor", "tarsia-graph"]),
    ("tarsia-lower", &["tarsia-tensor", "tarsia-graph", "tarsia-tile"]),
    ("tarsia-hivm", &["tarsia-tensor", "tarsia-tile"]),
    ("tarsia-runtime", &["tarsia-tensor", "tarsia-tile"]),
    ("tarsia-sim", &["tarsia-tensor", "tarsia-tile"]),
    (
        "tarsia",
        &[
            "tarsia-tensor",
            "tarsia-graph",
            "tarsia-onnx",
            "tarsia-passes",
            "tarsia-tile",
            "tarsia-lower",
            "tarsia-hivm",
            "tarsia-runtime",
            "tarsia-sim",
        ],
    ),
];

/// The only names on the top level, beside dot files and `target`.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "codegen",
    "docs",
    "examples",
    "frontend",
    "passes",
    "runtime",
    "rustfmt.toml",
    "src",
    "tests",
];

/// The command that runs every test.
const TEST_COMMAND: &str = "cargo test --release";

#[test]
fn every_module_states_its_contract() {
    check(
        rust_files()
            .into_iter()
            .filter(|(_, text)| !text.starts_with("//!"))
            .map(|(path, _)| format!("{}: starts without a `//!` contract", path.display())),
    );
}

#[test]
fn no_placeholders() {
    // Split, so that this file does not name them.
    let banned = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!("), concat!("#[ign", "ore")];
    check(find_in(rust_files(), &banned));
}

#[test]
fn input_paths_cannot_panic_by_unwrap() {
    let input = ["frontend/onnx/src", "src"].map(|folder| root().join(folder));
    let files = rust_files().into_iter().filter(|(path, _)| input.iter().any(|folder| path.starts_with(folder)));
    let files = files.filter(|(path, _)| {
        !path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
    });
    check(find_in(files.map(|(path, text)| (path, without_tests(&text))).collect(), &[".unwrap()", ".expect("]));
}

#[test]
fn unsafe_only_in_kernels_and_maps() {
    let files = rust_files()
        .into_iter()
        .filter(|(path, text)| !path.starts_with(root().join("runtime")) && !text.contains("memmap2"));
    check(find_in(files.collect(), &[concat!("unsa", "fe {"), concat!("unsa", "fe fn"), concat!("unsa", "fe impl")]));
}

#[test]
fn dependency_arrows_point_down() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut faults = Vec::new();
    let manifests = files(&root()).into_iter().filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"));
    for path in manifests {
        let manifest: toml::Table =
            std::fs::read_to_string(&path).expect("readable").parse().expect("a manifest is TOML");
        let name = manifest["package"]["name"].as_str().expect("a package has a name");
        let Some(allowed) = arrows.get(name) else {
            faults.push(format!("{}: the crate `{name}` has no row in the table of arrows", path.display()));
            continue;
        };
        for section in ["dependencies", "build-dependencies"] {
            let names = manifest.get(section).and_then(|t| t.as_table()).into_iter().flat_map(|t| t.keys());
            let wrong = names.filter(|n| n.starts_with("tarsia") && !allowed.contains(&n.as_str()));
            faults.extend(wrong.map(|n| format!("{}: `{name}` must not depend on `{n}`", path.display())));
        }
    }
    check(faults.into_iter());
}

#[test]
fn readme_and_ci_name_the_same_test_command() {
    for file in ["README.md", ".ci/run"] {
        let text = std::fs::read_to_string(root().join(file)).expect(file);
        // The one that runs everything is the last; long suites of their own come before.
        let last = text.lines().map(str::trim).rfind(|line| line.starts_with("cargo test"));
        assert_eq!(last, Some(TEST_COMMAND), "{file}");
    }
}

#[test]
fn nothing_names_a_machine() {
    let texts = files(&root()).into_iter().filter(|path| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        matches!(extension, "rs" | "toml" | "md" | "py" | "txt" | "json" | "snap" | "graph" | "tile")
            && !path.ends_with("tests/tidy.rs")
    });
    let texts = texts.filter_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)));
    check(find_in(texts.collect(), &["/work/", "/root/", "/home/", concat!("../", "shared")]));
}

#[test]
fn top_level_is_as_agreed() {
    let names = std::fs::read_dir(root()).expect("readable").map(|entry| entry.expect("readable").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let strangers =
        names.filter(|name| !name.starts_with('.') && name != "target" && !TOP_LEVEL.contains(&name.as_str()));
    check(strangers.map(|name| format!("{name}: not one of the agreed names on the top level")));
}

#[test]
fn test_models_stay_small() {
    let bytes: u64 =
        files(&root().join("tests/models")).iter().map(|path| path.metadata().expect("readable").len()).sum();
    assert!(bytes < 25_000_000, "tests/models holds {bytes} bytes, more than 25 MB");
}

/// Fails with all faults at once.
fn check(faults: impl Iterator<Item = String>) {
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Every line outside comments in which one of `banned` occurs.
fn find_in(files: Vec<(PathBuf, String)>, banned: &[&str]) -> impl Iterator<Item = String> {
    files.into_iter().flat_map(move |(path, text)| {
        let is_rust = path.extension().is_some_and(|e| e == "rs");
        let lines = text.lines().enumerate().filter(|(_, line)| !(is_rust && line.trim_start().starts_with("//")));
        let hits = lines.flat_map(|(i, line)| banned.iter().filter(|b| line.contains(**b)).map(move |b| (i + 1, *b)));
        hits.map(|(line, word)| format!("{}:{line}: `{word}`", path.display())).collect::<Vec<_>>()
    })
}

/// The text up to the test module, which stands at the end of a file.
fn without_tests(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// Every Rust source of the workspace with its text.
fn rust_files() -> Vec<(PathBuf, String)> {
    let sources = files(&root()).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    sources.map(|path| (path.clone(), std::fs::read_to_string(path).expect("sources are UTF-8"))).collect()
}

/// All files below a folder, sorted, but what is built or hidden.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("readable").map(|e| e.expect("readable").path()).collect();
    entries.sort();
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with('.') && name != "target"
    };
    let ours = entries.into_iter().filter(is_ours);
    ours.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
