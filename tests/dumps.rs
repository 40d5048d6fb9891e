//! Every stage of every model can be written, read back and run, and computes the same bytes.

use std::path::{Path, PathBuf};

use tarsia::{
    Compiled, Folder, Limits, Machine, Options, Phase, Precision, Session, SessionOptions, Tensor, compile_with,
    difference, load, set_inputs, tile::Program,
};

const PHASES: [Phase; 4] = [Phase::Graph, Phase::Optimised, Phase::Kernels, Phase::Tiles];

/// The model folders that come with the project.
fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inside = |path: &str| std::fs::read_dir(root.join(path)).expect("readable");
    let entries = inside("examples").chain(inside("tests/models")).map(|entry| entry.expect("readable").path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("meta.json").exists()).collect();
    folders.sort();
    assert!(folders.len() > 20, "{folders:?}");
    folders
}

fn compiled(path: &Path, last: Phase, machine: &Machine, precision: Precision) -> Compiled {
    let start = load(path, Limits::default(), machine).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let options = Options { precision, ..Options::default() };
    compile_with(start, last, machine, options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn run(program: Option<Program>, inputs: &[Tensor]) -> Vec<Tensor> {
    let session = Session::new(program.expect("compiled to the end"), &SessionOptions::default());
    session.expect("a session").run(inputs).expect("it runs")
}

#[test]
fn every_dump_runs_and_gives_the_same_bytes() {
    check(&tarsia::machine("cpu").expect("the default target"), Precision::F32, &PHASES);
}

#[test]
fn dumps_of_kernels_and_tiles_in_half_precision_give_the_same_bytes() {
    let machine = tarsia::machine("ascend910b2").expect("a built-in target");
    check(&machine, Precision::F16, &[Phase::Kernels, Phase::Tiles]);
}

fn check(machine: &Machine, precision: Precision, phases: &[Phase]) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    for folder in folders() {
        let folder = Folder::open(&folder).expect("a model folder");
        let whole = compiled(&folder.model, Phase::Tiles, machine, precision);
        let count = whole.program.as_ref().expect("a program").inputs.len();
        let inputs = set_inputs(&folder.sets[0], count, &Limits::default()).expect("a data set");
        let expected = run(whole.program.clone(), &inputs);
        for &phase in phases {
            let path = scratch.path().join(format!("model.{phase}"));
            let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("created"));
            whole.dump(phase, &mut file).expect("written");
            drop(file);
            // What is after the choice of a precision has it already.
            let found = run(compiled(&path, Phase::Tiles, machine, Precision::F32).program, &inputs);
            let place = format!("{}: {phase}", folder.model.display());
            match phase {
                // A graph does not say that it has been optimised, so it is again: other kernels may round elsewhere.
                Phase::Optimised => {
                    for (a, b) in expected.iter().zip(&found) {
                        let error = difference(&place, a, b, folder.tolerance);
                        assert!(error.reason.is_empty(), "{place}: {}", error.reason);
                    }
                }
                _ => assert!(found == expected, "{place}"),
            }
        }
    }
}
