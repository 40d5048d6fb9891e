//! Machines as files: an invented chip compiles, verifies and runs models like a built-in one, and a wrong file is told all that is
//! wrong with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tarsia::Machine;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn tarsia(arguments: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_tarsia"))
        .args(arguments)
        .current_dir(ROOT)
        .env("NO_COLOR", "1")
        .env_remove("TARSIA_ISA")
        .output();
    command.expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_invented_chip_runs_models() {
    for model in ["examples/digits", "examples/deepseek_v3_tiny"] {
        let output = tarsia(&["compare", model, "--target", "examples/machines/plover.toml"]);
        assert!(output.status.success(), "{model}: {}{}", text(&output.stdout), text(&output.stderr));
    }
}

#[test]
fn an_invented_chip_is_used_as_described() {
    let output =
        tarsia(&["compile", "examples/digits", "--target", "examples/machines/plover.toml", "--emit", "tiles"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let tiles = text(&output.stdout);
    assert!(tiles.contains("for plover"), "the program is for the chip");
    assert!(tiles.contains("from=compute to=store"), "its third pipe stores results");
}

/// Files beside each other in a folder of their own.
fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

#[test]
fn wrong_descriptions_are_told_everything() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let variant = |rest: &str| format!("extends = \"twopipe\"\nname = \"mine\"\ndescription = \"mine\"\n{rest}");
    let cases = [
        ("an unknown key", variant("[[path]]\nfrom = \"gm\"\nto = \"ub\"\npipe = \"move\"\nburst_cycle = 3\n")),
        ("an unknown table", variant("[[spaces]]\nname = \"ub\"\n")),
        ("an unknown base", "extends = \"threepipe\"\nname = \"mine\"\n".to_owned()),
        ("a base that is no name", "extends = 3\nname = \"mine\"\n".to_owned()),
        ("a circle", "extends = \"circle.toml\"\nname = \"mine\"\n".to_owned()),
        (
            "a row to remove that is not there",
            variant("[[path]]\nfrom = \"l1\"\nto = \"gm\"\npipe = \"move\"\nremove = true\n"),
        ),
        ("a new row without what it needs", variant("[[space]]\nname = \"l2\"\nbytes = 1024\n")),
        (
            "many contradictions",
            variant(
                "[clock]\nhertz = -1.0\n[launch]\ncycles = nan\n[[core]]\nname = \"core\"\npipes = [\"move\"]\nqueue = 0\n\
                 [[space]]\nname = \"gm\"\nrequests = { unit = 0, line = 100, source = \"x\" }\n\
                 [[space]]\nname = \"ub\"\nalignment = 33\nbanks = { groups = 0, read_conflict = 0.5 }\n\
                 [[path]]\nfrom = \"gm\"\nto = \"ub\"\npipe = \"move\"\nbytes_per_cycle = 0.0\nburst_cycles = -1.0\n\
                 [[unit]]\nname = \"vector\"\nstep_bytes = 0\n",
            ),
        ),
    ];
    let mut listing = String::from("What a wrong machine description is told.\n");
    for (what, text_of_file) in cases {
        let path = write(folder.path(), if what == "a circle" { "circle.toml" } else { "mine.toml" }, &text_of_file);
        let output = tarsia(&["targets", &path.display().to_string()]);
        assert_eq!(output.status.code(), Some(2), "{what}");
        listing += &format!("\n{what}:\n{}", text(&output.stderr));
    }
    insta::assert_snapshot!(listing.replace(&folder.path().display().to_string(), "FOLDER"));
}

#[test]
fn machines_are_listed_and_printed() {
    let list = tarsia(&["targets"]);
    for name in Machine::builtin_names() {
        assert!(text(&list.stdout).contains(name), "{name} is listed");
        let one = tarsia(&["targets", name, "--json"]);
        let json: serde_json::Value = serde_json::from_slice(&one.stdout).expect("JSON");
        assert_eq!(json["name"], name);
        assert!(json["clock"]["source"].is_string());
    }
}

#[test]
fn every_number_has_a_source() {
    for name in Machine::builtin_names() {
        let machine = Machine::builtin(name).expect("a built-in machine");
        for (what, source) in machine.sources() {
            assert!(source.len() >= 5, "{name}: {what} has no source");
        }
    }
}
