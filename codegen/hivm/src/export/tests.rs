//! Whole texts of exported kernels, and what happens to those that cannot be expressed.

use tarsia_tile::{Machine, Program};

use super::{Form, export};

fn kernels() -> (Program, Machine) {
    let machine = Machine::builtin("ascend910b2").unwrap_or_else(|e| panic!("{e}"));
    let program = include_str!("tests/kernels.tile").parse().unwrap_or_else(|e| panic!("{e}"));
    (program, machine)
}

#[test]
fn texts_of_placed_kernels() {
    let (program, machine) = kernels();
    let export = export(&program, &machine, Form::Placed);
    assert_eq!(export.unsupported, []);
    for module in &export.modules {
        insta::assert_snapshot!(format!("placed_{}", module.name), module.text);
    }
}

#[test]
fn a_planned_kernel_has_neither_addresses_nor_flags() {
    let (program, machine) = kernels();
    for module in export(&program, &machine, Form::Planned).modules {
        for word in ["pointer_cast", "set_flag", "pipe_barrier"] {
            assert!(!module.text.contains(word), "{}: {word}", module.name);
        }
        assert!(module.text.contains("memref.alloc()"), "{}", module.name);
    }
}

#[test]
fn a_flagless_kernel_differs_in_flags_only() {
    let (program, machine) = kernels();
    let without = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !["set_flag", "wait_flag", "pipe_barrier"].iter().any(|word| line.contains(word)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let count = |lines: Vec<String>| lines.iter().filter(|line| line.contains("hivm.hir.")).count();
    let (placed, flagless) = (export(&program, &machine, Form::Placed), export(&program, &machine, Form::Flagless));
    for (a, b) in placed.modules.iter().zip(&flagless.modules) {
        assert_eq!(without(&b.text).len(), b.text.lines().count(), "{}", b.name);
        assert_eq!(count(without(&a.text)), count(without(&b.text)), "{}", a.name);
    }
}

#[test]
fn what_cannot_be_expressed_is_named() {
    let (mut program, machine) = kernels();
    let text = program.to_string().replace("exp %a[0 +: 16, 0 +: 64]", "tan %a[0 +: 16, 0 +: 64]");
    program = text.parse().unwrap_or_else(|e| panic!("{e}"));
    let export = export(&program, &machine, Form::Placed);
    let missing: Vec<String> = export.unsupported.iter().map(|(name, missing)| format!("{name}: {missing}")).collect();
    insta::assert_snapshot!(missing.join("\n"));
    assert_eq!(export.modules.len() + 1, program.kernels.len());
}

#[test]
fn scratch_that_does_not_fit_is_no_silent_overlap() {
    let (program, mut machine) = kernels();
    for space in &mut machine.spaces {
        if space.name == "ub" {
            // The tiles of `select_less` end at 5120: nothing is left for masks.
            space.bytes = 5120;
        }
    }
    let export = export(&program, &machine, Form::Placed);
    let select = export.modules.iter().find(|module| module.name == "select_less");
    let text = &select.map(|module| module.text.clone()).unwrap_or_default();
    // The scalar unit does it instead.
    assert!(text.contains("arith.select") && !text.contains("vsel"), "{text}");
}
