//! The `tarsia` command as a user meets it: every command that README.md shows works, and every mistake gets a message and an
//! exit code.

use std::path::Path;
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The arguments after `tarsia`, run in `folder` with `examples` in it.
fn tarsia(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tarsia"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env_remove("TARSIA_ISA")
        .output()
        .expect("the command starts")
}

/// An empty folder in which paths of README.md are valid.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&Path::new(ROOT).join("examples"), &folder.path().join("examples"));
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable").path();
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() { copy(&entry, &target) } else { std::fs::copy(&entry, &target).map(|_| ()).expect("copied") }
    }
}

/// Lines of README.md that show a `tarsia` command, in order, without a comment behind it.
fn shown_commands() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).expect("README.md");
    let code = readme.lines().filter_map(|line| line.strip_prefix("    "));
    let commands =
        code.filter_map(|line| line.strip_prefix("tarsia ").or(line.strip_prefix("cargo run --release -- ")));
    commands.map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned()).collect()
}

/// The network that knows file types knows those of this repository. It is fetched; where that is not possible this says so.
#[test]
fn the_example_of_file_types_knows_them() {
    let script = Path::new(ROOT).join("examples/filetype/identify.py");
    let files = ["README.md", "src/main.rs", "examples/digits/digits.onnx", "examples/filetype/identify.py"];
    let run = Command::new("python3")
        .arg(script)
        .args(files)
        .current_dir(ROOT)
        .env("TARSIA", env!("CARGO_BIN_EXE_tarsia"))
        .output();
    let failure = match &run {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = failure {
        assert!(reason.contains("pip") || run.is_err(), "{reason}");
        eprintln!("\n*** the example of file types was NOT run: {reason}\n");
        return;
    }
    let told = String::from_utf8_lossy(&run.expect("it ran").stdout).into_owned();
    for (file, kind) in files.iter().zip(["markdown", "rust", "onnx", "python"]) {
        assert!(told.contains(&format!("{file}: {kind} (")), "{told}");
    }
}

#[test]
fn every_command_of_the_readme_works() {
    let folder = folder();
    let commands = shown_commands();
    assert!(commands.len() >= 8, "README.md shows the tour: {commands:#?}");
    for command in commands {
        let output = tarsia(folder.path(), &command.split_whitespace().collect::<Vec<_>>());
        assert!(output.status.success(), "tarsia {command}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "tarsia {command}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_seven_is_a_seven() {
    let folder = folder();
    let output = tarsia(
        folder.path(),
        &["run", "examples/digits/digits.onnx", "--input", "examples/digits/seven.npy", "--top", "1", "--json"],
    );
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found[0]["top"][0][0], 7, "{found}");
    assert!(found[0]["top"][0][1].as_f64().expect("a number") > 0.9, "{found}");
}

/// Files in every state they should not be in; `probabilities.npy` is sound but no picture.
fn break_files(folder: &Path) {
    let model = std::fs::read(folder.join("examples/digits/digits.onnx")).expect("the model");
    std::fs::write(folder.join("truncated.onnx"), &model[..model.len() / 2]).expect("written");
    std::fs::write(folder.join("empty.onnx"), b"").expect("written");
    std::fs::write(folder.join("picture.onnx"), b"\x89PNG\r\n\x1a\n0000").expect("written");
    let compiled = tarsia(folder, &["compile", "examples/digits/digits.onnx", "-o", "digits.tarsia"]);
    assert!(compiled.status.success());
    let ran = tarsia(folder, &["run", "examples/digits/digits.onnx", "--output", "."]);
    assert!(ran.status.success());
    let mut compiled = std::fs::read(folder.join("digits.tarsia")).expect("the compiled model");
    std::fs::write(folder.join("truncated.tarsia"), &compiled[..compiled.len() - 1]).expect("written");
    compiled[100] ^= 1; // in the program, in front of the constants
    std::fs::write(folder.join("flipped.tarsia"), &compiled).expect("written");
}

#[test]
fn mistakes_are_told_and_change_nothing() {
    let folder = folder();
    break_files(folder.path());
    let digits = "examples/digits/digits.onnx";
    let seven = "examples/digits/seven.npy";
    let deepseek = "examples/deepseek_v3_tiny/model.onnx";
    let ids = "examples/deepseek_v3_tiny/test_data_set_0/input_0.pb";
    let cases: &[&[&str]] = &[
        &["run", "absent.onnx"],
        &["run", "empty.onnx"],
        &["run", "picture.onnx"],
        &["run", "truncated.onnx"],
        &["run", "truncated.tarsia"],
        &["run", "flipped.tarsia"],
        &["run", "examples"],
        &["run", digits, "--input", digits],
        &["run", digits, "--input", ids],
        &["run", digits, "--input", "probabilities.npy"],
        &["run", digits, "--output", "."],
        &["run", digits, "--input", "picture=examples/digits/seven.npy"],
        &["run", digits, "--input", seven, "--input", seven],
        &["run", digits, "--size", "batch"],
        &["run", digits, "--isa", "mmx"],
        &["run", deepseek, "--size", "seq=4", "--size", "past_len=2", "--size", "total_len=4"],
        &["run", digits, "--memory-limit", "0"],
        &["compile", digits, "--emit", "assembly"],
        &["compile", digits, "-o", "digits.tarsia"],
        &["bench", "examples"],
    ];
    let mut text = String::new();
    for arguments in cases {
        let output = tarsia(folder.path(), arguments);
        assert!(output.stdout.is_empty(), "{arguments:?}: an error prints no result");
        text += &format!("$ tarsia {}\n", arguments.join(" "));
        text += &String::from_utf8_lossy(&output.stderr);
        text += &format!("exit code {}\n\n", output.status.code().expect("not killed"));
    }
    // What a compiled file contains changes with the compiler.
    insta::with_settings!({ filters => [(r"have \d+ bytes and has \d+", "have N bytes and has M"), (r"[0-9a-f]{8}", "CHECKSUM")] }, {
        insta::assert_snapshot!(text);
    });
}
