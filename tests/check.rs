//! `tarsia check`: what it tells of models that compile and of models that do not, as text and as JSON; and models from gzip files
//! and standard input.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use flate2::{Compression, write::GzEncoder};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The arguments after `tarsia`, run at the root of the repository.
fn tarsia(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tarsia"));
    command.args(arguments).current_dir(ROOT).env("NO_COLOR", "1").env_remove("TARSIA_ISA");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("the command starts");
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// What is printed, with the exit code.
fn shown(arguments: &[&str], input: &[u8]) -> String {
    let output = tarsia(arguments, input);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("$ tarsia {}\n{out}{err}exit code {}\n", arguments.join(" "), output.status.code().expect("it exits"))
}

/// As [`shown`], of JSON, laid out.
fn shown_json(arguments: &[&str], input: &[u8]) -> String {
    let output = tarsia(arguments, input);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    serde_json::to_string_pretty(&value).expect("JSON")
}

/// Problems of every kind that import finds.
const PROBLEMS: &str = r#"
<ir_version: 10, opset_import: ["" : 20, "vendor" : 1], producer_name: "hand">
several_problems (float[N, 8] x, opaque(vendor, Thing) s) => (float[N, 8] y)
<float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}>
{
  [scale] a = Mul (x, w)
  [magic] b = vendor.Magic (a)
  [unheard] c = Frobnicate (a)
  [axis] d = Softmax <axis = 7> (a)
  [poisoned] e = Relu (b)
  y = Add (d, e)
}
"#;

#[test]
fn models_that_compile() {
    let mut text = shown(&["check", "examples/digits", "--assume", "batch=2"], &[]);
    text += &shown(&["check", "tests/models/yolo_tiny_nms"], &[]);
    text += &shown(&["check", "tests/models/loop_greedy_decode", "--assume", "B=2", "--assume", "loop_0=10"], &[]);
    insta::assert_snapshot!(text);
    insta::assert_snapshot!(
        "digits_json",
        shown_json(&["check", "examples/digits", "--json", "--assume", "batch=2"], &[])
    );
    insta::assert_snapshot!("yolo_json", shown_json(&["check", "tests/models/yolo_tiny_nms", "--json"], &[]));
}

#[test]
fn every_problem_is_listed() {
    let wrong_names = PROBLEMS.replace("(d, e)", "(d, nobody)").replace("8] w =", "7] w =");
    let mut text = shown(&["check", "-"], PROBLEMS.as_bytes());
    text += &shown(&["check", "-"], wrong_names.as_bytes());
    text += &shown(&["check", "-"], b"<ir_version: 10> g (float x) => y");
    text += &shown(&["check", "-"], b"hello");
    text += &shown(&["check", "absent.onnx"], &[]);
    insta::assert_snapshot!(text);
    insta::assert_snapshot!("problems_json", shown_json(&["check", "-", "--json"], PROBLEMS.as_bytes()));
}

#[test]
fn every_stage_and_form_can_be_checked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let whole = shown_json(&["check", "examples/digits", "--json"], &[]);
    let whole: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
    for stage in ["graph", "optimised", "kernels", "tiles", ""] {
        let file = at(&format!("digits{stage}"));
        let emit = ["compile", "examples/digits", "--output", &file, "--emit", stage];
        let output = tarsia(if stage.is_empty() { &emit[..4] } else { &emit }, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes = std::fs::read(&file).expect("written");
        for (arguments, input) in [(["check", &file, "--json"], &[][..]), (["check", "-", "--json"], &gzip(&bytes))] {
            let json = shown_json(&arguments, input);
            let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            assert_eq!(json["compiles"], true, "{stage}");
            for key in ["inputs", "outputs", "memory", "symbols"] {
                assert_eq!(json[key], whole[key], "{stage}: {key}");
            }
        }
    }
}

#[test]
fn standard_input_and_gzip_files_stand_for_models_everywhere() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = std::fs::read(Path::new(ROOT).join("examples/digits/digits.onnx")).expect("the example");
    let file = folder.path().join("digits.onnx.gz");
    std::fs::write(&file, gzip(&model)).expect("written");
    let seven = ["--input", "examples/digits/seven.npy"];
    let run = |model: &str, input: &[u8]| shown(&["run", model, seven[0], seven[1]], input);
    let expected = run("examples/digits/digits.onnx", &[]);
    let (_, expected) = expected.split_once('\n').expect("a line with the command");
    let path = file.to_string_lossy().into_owned();
    let folder = folder.path().to_string_lossy().into_owned();
    for (name, input) in [("-", &model[..]), ("-", &gzip(&model)), (&path, &[]), (&folder, &[])] {
        assert_eq!(run(name, input).split_once('\n').map(|(_, rest)| rest), Some(expected), "{name}");
    }
    let graph = tarsia(&["compile", "-", "--emit", "graph"], &model).stdout;
    assert_eq!(run("-", &graph).split_once('\n').map(|(_, rest)| rest), Some(expected), "a dump");
    let nameless = shown(&["compile", "-"], &model);
    assert!(
        nameless.contains("name the file to write with --output") && nameless.contains("exit code 2"),
        "{nameless}"
    );
}

/// What is told as a formula is what the memory plan takes when the sizes are bound.
#[test]
fn memory_is_that_of_the_plan() {
    let machine = tarsia::machine("cpu").expect("it is built in");
    let models =
        ["examples/digits/digits.onnx", "tests/models/gpt2_tiny_kv/model.onnx", "tests/models/scan_rnn/model.onnx"];
    for model in models {
        let path = Path::new(ROOT).join(model);
        let symbols = tarsia::check(&path, tarsia::Limits::default(), &machine, &tarsia::Options::default());
        let symbols = symbols.expect("it is there").symbols;
        let sizes = symbols.into_iter().zip([3, 5, 7, 11]).collect();
        let options = tarsia::Options { sizes, ..tarsia::Options::default() };
        let check = tarsia::check(&path, tarsia::Limits::default(), &machine, &options).expect("it is there");
        let memory = check.memory.expect("it compiles");
        let start = tarsia::load(&path, tarsia::Limits::default(), &machine).expect("it loads");
        let compiled =
            tarsia::compile_with(start, tarsia::Phase::Tiles, &machine, options.clone()).expect("it compiles");
        let program = compiled.program.expect("to the end");
        let plan = tarsia::tile::Plan::new(&program);
        let arena = plan.bind(&|symbol| options.sizes.get(symbol.name()).copied(), usize::MAX).expect("it has a place");
        let bodies = program.steps.iter().any(|step| matches!(step, tarsia::tile::Step::Scan(_)));
        let (told, most) = (memory.buffers.value.expect("all sizes are given"), plan.most_alive(&arena) as i64);
        assert!(if bodies { told > most } else { told == most }, "{model}: {told} of {most}");
        assert_eq!(memory.arena, Some(arena.bytes() as u64), "{model}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
