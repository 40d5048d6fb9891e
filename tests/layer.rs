//! A layer of DeepSeek-V3 at full size, of whose weights only types and shapes are there, and its toy twin that is run.
//!
//! The heap is measured, and the meter sees all threads: tests here take turns.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use peak_alloc::PeakAlloc;
use tarsia::{
    Compiled, Error, Folder, Limits, Machine, Options, Phase, Session, SessionOptions, SimOptions, Symbol, Weights,
    compare_folder,
    graph::{Graph, Op},
    tile::{Program, artifact},
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

const DECODE: [(&str, i64); 4] = [("batch", 96), ("seq", 1), ("past_len", 4096), ("total_len", 4097)];
const PREFILL: [(&str, i64); 4] = [("batch", 1), ("seq", 4096), ("past_len", 0), ("total_len", 4096)];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn full() -> PathBuf {
    example("deepseek_v3_layer/full/model.onnx")
}

fn shapes() -> Limits {
    Limits { weights: Weights::Shapes, ..Limits::default() }
}

fn options(sizes: &[(&str, i64)]) -> Options {
    Options { sizes: sizes.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect(), ..Options::default() }
}

fn compiled(model: &Path, last: Phase, machine: &Machine, sizes: &[(&str, i64)]) -> Compiled {
    let start = tarsia::load(model, shapes(), machine).expect("it can be read");
    tarsia::compile_with(start, last, machine, options(sizes)).expect("it compiles")
}

fn program() -> Program {
    compiled(&full(), Phase::Tiles, &tarsia::machine("cpu").expect("built in"), &DECODE).program.expect("to the end")
}

/// For each attention: heads of the queries, heads of the keys, and their depth.
fn heads(graph: &Graph) -> Vec<[Option<usize>; 3]> {
    let attends = |id: &tarsia::graph::NodeId| matches!(graph[*id].op, Op::Attention { .. });
    let shapes = |id: tarsia::graph::NodeId| {
        let operands = graph.operands(id);
        let (q, k) = (&graph.ty(operands[0]).shape, &graph.ty(operands[1]).shape);
        [q[1].as_usize(), k[1].as_usize(), k[3].as_usize()]
    };
    graph.node_ids().filter(attends).map(shapes).collect()
}

#[test]
fn the_full_layer_is_compiled_without_its_weights() {
    let _turn = turn();
    for sizes in [DECODE, PREFILL] {
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let machine = tarsia::machine("cpu").expect("built in");
        let program = compiled(&full(), Phase::Tiles, &machine, &sizes).program.expect("to the end");
        let weights: usize = program.constants.iter().map(|constant| constant.data.len()).sum();
        assert!(weights > 22_000_000_000, "all weights are constants of the program: {weights} bytes");
        let most = HEAP.peak_usage() - before;
        assert!(most < 256 << 20, "compilation took {most} bytes at most");
    }
}

#[test]
fn the_full_layer_is_timed_in_few_steps() {
    let _turn = turn();
    for sizes in [DECODE, PREFILL] {
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let machine = tarsia::machine("ascend910b2").expect("built in");
        let program = compiled(&full(), Phase::Tiles, &machine, &sizes).program.expect("to the end");
        let bindings = sizes.iter().map(|(name, size)| (Symbol::new(name), *size)).collect();
        let options = SimOptions { spans: 400_000, ..SimOptions::default() };
        let report = tarsia::simulate(&program, &machine, &bindings, &options).expect("a report");
        let instructions: f64 = report.kernels.iter().map(|kernel| kernel.instructions).sum();
        let walked: u64 = report.kernels.iter().map(|kernel| kernel.walked).sum();
        println!("{sizes:?}: {:.0} us, {walked} of {instructions} instructions walked", report.microseconds);
        assert!(report.kernels.iter().all(|kernel| kernel.cycles.is_finite()) && report.microseconds > 0.0);
        // A quarter of a microsecond for each.
        assert!(walked < 50_000_000, "{walked} instructions of {instructions} were walked for {sizes:?}");
        assert!(!report.timeline.spans.is_empty());
        let most = HEAP.peak_usage() - before;
        assert!(most < 1 << 30, "compiling and timing took {most} bytes at most");
    }
}

#[test]
fn weights_that_are_absent_are_an_error_without_the_option() {
    let _turn = turn();
    let machine = tarsia::machine("cpu").expect("built in");
    let error = tarsia::load(&full(), Limits::default(), &machine).expect_err("the weights are absent").to_string();
    assert!(error.contains("model.onnx.data"), "{error}");
}

#[test]
fn what_needs_the_weights_says_that_they_are_absent() {
    let _turn = turn();
    let program = program();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let saved = artifact::save(&program, file.path()).expect_err("there is nothing to save").to_string();
    let ran =
        Session::new(program, &SessionOptions::default()).err().expect("there is nothing to run with").to_string();
    for error in [saved, ran] {
        assert!(error.contains("model.onnx.data") && error.contains("absent"), "{error}");
    }
}

#[test]
fn every_dump_says_what_is_absent_and_can_be_read() {
    let _turn = turn();
    let machine = tarsia::machine("cpu").expect("built in");
    let all = compiled(&full(), Phase::Tiles, &machine, &DECODE);
    for phase in Phase::ALL {
        let mut text = Vec::new();
        all.dump(phase, &mut text).expect("it can be written");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("absent \"") && text.contains("model.onnx.data at 0"), "{phase} does not say so");
        assert!(text.len() < 1 << 20, "{phase} has {} bytes of text", text.len());
        let again = if phase == Phase::Tiles {
            let program: Program = text.parse().expect("it parses");
            tarsia::tile::text::print(&program, tarsia::tile::text::Data::Inline)
        } else {
            text.parse::<Graph>().expect("it parses").to_string()
        };
        assert_eq!(again, text, "{phase}");
    }
}

#[test]
fn decoding_takes_the_absorbed_form_of_attention_and_prefill_the_expanded_one() {
    let _turn = turn();
    for target in ["cpu", "ascend910b2"] {
        let machine = tarsia::machine(target).expect("built in");
        let optimised = |sizes| compiled(&full(), Phase::Optimised, &machine, sizes).optimised.expect("optimised").0;
        assert_eq!(heads(&optimised(&DECODE)), [[Some(128), Some(1), Some(576)]], "{target}");
        let prefill = heads(&optimised(&PREFILL));
        assert!(prefill.iter().all(|found| *found == [Some(128), Some(128), Some(192)]), "{target}: {prefill:?}");
    }
}

#[test]
fn explain_tells_the_rules_of_the_absorbed_form() {
    let _turn = turn();
    let model = full();
    let explain = |sizes: &[(&str, i64)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tarsia"));
        command.arg("explain").arg(&model).args(["--weights", "shapes"]);
        sizes.iter().for_each(|(name, size)| _ = command.args(["--assume", &format!("{name}={size}")]));
        let output = command.output().expect("the command runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let (decode, prefill) = (explain(&DECODE), explain(&PREFILL));
    for rule in ["attention-latent-keys-shared-mask", "attention-latent-values-mask", "attention-one-head-mask"] {
        assert!(decode.contains(rule), "{rule} is not told");
        assert!(!prefill.contains(rule), "{rule} is told of prefill");
    }
}

#[test]
fn both_forms_give_the_expected_outputs() -> Result<(), Error> {
    let _turn = turn();
    let machine = tarsia::machine("cpu")?;
    for name in ["deepseek_v3_layer", "deepseek_v3_tiny"] {
        let folder = Folder::open(&example(name))?;
        for (sizes, shared) in [(DECODE, true), (PREFILL, false)] {
            let optimised = compiled(&folder.model, Phase::Optimised, &machine, &sizes).optimised.expect("optimised").0;
            let found = heads(&optimised);
            assert_eq!(shared, found.iter().any(|[_, keys, _]| *keys == Some(1)), "{name}: {found:?}");
            let session = SessionOptions { threads: 1, ..SessionOptions::default() };
            let reports = compare_folder(&example(name), Limits::default(), &machine, options(&sizes), &session)?;
            assert_eq!(reports.len(), 3);
            for report in &reports {
                assert!(report.passes(), "{name}, {}: {:?}", report.set, report.outputs);
            }
        }
    }
    Ok(())
}
