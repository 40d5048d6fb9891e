//! `tarsia simulate` on the examples: every program has a time, one of equal cores tells the same as every core, and what the
//! command writes is what it says.

use std::{collections::BTreeMap, path::Path, process::Command};

use tarsia::{Limits, Phase, SimOptions, SimReport, Symbol, compile, load, machine, simulate};

/// How far a time may be from that of the simulation of every core, where what is in the cache differs.
const SAME: f64 = 0.01;

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).to_string_lossy().into_owned()
}

fn tarsia(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_tarsia"))
        .arg("simulate")
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .expect("the command runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The report with one of equal cores, and with every core.
fn both(model: &str, sizes: i64) -> [SimReport; 2] {
    let target = machine("twopipe").expect("a machine");
    let start = load(model.as_ref(), Limits::default(), &target).expect("a model");
    let program = compile(start, Phase::Tiles, &target).expect("compiles").program.expect("a program");
    let bindings: BTreeMap<Symbol, i64> = program.symbols().into_iter().map(|symbol| (symbol, sizes)).collect();
    [false, true].map(|full| {
        let options = SimOptions { full, bottlenecks: false, ..SimOptions::default() };
        simulate(&program, &target, &bindings, &options).expect("a report")
    })
}

#[test]
fn one_of_equal_cores_is_like_every_core() {
    for (model, sizes) in [("digits/digits.onnx", 1), ("digits/digits.onnx", 33), ("deepseek_v3_tiny/model.onnx", 4)] {
        let [quick, full] = both(&example(model), sizes);
        assert_eq!(quick.launches, full.launches);
        for (quick, full) in quick.kernels.iter().zip(&full.kernels) {
            let close = |a: f64, b: f64| (a - b).abs() <= SAME * b;
            assert!(close(quick.cycles, full.cycles), "{}: {} and {}", full.name, quick.cycles, full.cycles);
            assert!(close(quick.flops(), full.flops()), "{}: {} and {}", full.name, quick.flops(), full.flops());
            let (a, b) = (quick.bytes.cache_read, full.bytes.cache_read);
            assert!(close(a, b), "{}: {a} and {b} bytes", full.name);
        }
    }
}

#[test]
fn times_and_outputs_and_a_trace_as_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace.json");
    let trace = trace.to_str().expect("a name");
    let digits = example("digits");
    let out = tarsia(&[&digits, "--target", "twopipe", "--json", "--trace", trace]);
    let found: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert!(found["microseconds"].as_f64().expect("a number") > 0.0);
    assert_eq!(found["launches"].as_u64(), Some(found["kernels"].as_array().expect("kernels").len() as u64));
    assert!(found["outputs"][0]["top"].is_array(), "outputs are there unless only times are asked for");
    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(trace).expect("a trace")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let nodes = |event: &serde_json::Value| event["args"]["nodes"].to_string();
    assert!(events.iter().any(|event| event["ph"] == "X" && nodes(event).contains("conv2")), "nodes of the model");
}

#[test]
fn two_machines_beside_each_other() {
    let out = tarsia(&[&example("digits"), "--target", "twopipe", "--against", "cpu", "--timing-only"]);
    let text = String::from_utf8(out).expect("text");
    for word in ["twopipe us", "cpu us", "ratio", "in all"] {
        assert!(text.contains(word), "`{word}` is not in\n{text}");
    }
}
