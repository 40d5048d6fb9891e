//! What `tarsia explain` says of the two examples: a change of rules, costs or kernels is a difference to read.

use std::{path::Path, process::Command};

use tarsia::{Options, Phase};

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).to_string_lossy().into_owned()
}

fn explain(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tarsia")).arg("explain").args(arguments).output().expect("the command runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_kernel_of_the_digit_classifier() {
    insta::assert_snapshot!(explain(&[&example("digits")]));
}

#[test]
fn the_attention_of_one_layer_of_deepseek() {
    insta::assert_snapshot!(explain(&[&example("deepseek_v3_tiny"), "Softmax_259"]));
}

#[test]
fn why_two_nodes_are_not_in_one_kernel() {
    insta::assert_snapshot!(explain(&[&example("digits"), "conv2", "--with", "pool"]));
}

#[test]
fn the_same_twice_and_as_json() {
    let model = example("deepseek_v3_tiny");
    let first = explain(&[&model, "--json"]);
    assert_eq!(first, explain(&[&model, "--json"]));
    for field in ["\"chosen\"", "\"lost\"", "\"refused\"", "\"derivations\"", "\"rms-norm\""] {
        assert!(first.contains(field), "{field} is not in the report");
    }
}

#[test]
fn explanations_change_no_kernel() {
    for name in ["digits", "deepseek_v3_tiny"] {
        let machine = tarsia::machine("cpu").expect("the default target");
        let model = tarsia::Folder::open(Path::new(&example(name))).expect("a model folder").model;
        let compiled = |explain| {
            let start = tarsia::load(&model, tarsia::Limits::default(), &machine).expect("it loads");
            tarsia::compile_with(start, Phase::Kernels, &machine, Options { explain, ..Options::default() })
                .expect("it compiles")
        };
        let (plain, explained) = (compiled(false), compiled(true));
        // All ops of the classifier are chosen as they are.
        let derivations =
            |compiled: &tarsia::Compiled| compiled.optimised.as_ref().map(|(_, report)| report.derivations.len());
        assert_eq!(derivations(&plain), Some(0), "{name}");
        assert_eq!(derivations(&explained) > Some(0), name != "digits", "{name}");
        assert!(plain.kernels.expect("kernels").0 == explained.kernels.expect("kernels").0, "{name}");
    }
}
