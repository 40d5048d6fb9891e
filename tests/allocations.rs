//! A run in steady state allocates nothing: once a bound session has run, the heap is left alone.
//!
//! The counter sees all threads, so there is one test in this file.

use std::alloc::System;
use std::path::Path;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tarsia::{Folder, Limits, Phase, Session, SessionOptions, set_inputs};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations and reallocations in a number of runs, after some that were not counted.
fn counted(folder: &str, threads: usize) -> usize {
    let (limits, machine) = (Limits::default(), tarsia::machine("cpu").expect("the default target"));
    let folder = Folder::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect("a folder with a model");
    let start = tarsia::load(&folder.model, limits, &machine).expect("the model can be read");
    let program = tarsia::compile(start, Phase::Tiles, &machine).expect("it compiles").program.expect("to the end");
    let inputs = set_inputs(&folder.sets[0], program.inputs.len(), &limits).expect("the set has all inputs");
    let session = Session::new(program, &SessionOptions { threads, ..SessionOptions::default() }).expect("a session");
    let shapes: Vec<&[usize]> = inputs.iter().map(tarsia::Tensor::shape).collect();
    let bytes: Vec<&[u8]> = inputs.iter().map(|tensor| &tensor.bytes()[..]).collect();
    let mut bound = session.bind(&shapes).expect("the shapes fit");
    for _ in 0..3 {
        bound.run(&bytes).expect("it runs");
    }
    let region = Region::new(HEAP);
    for _ in 0..5 {
        bound.run(&bytes).expect("it runs");
    }
    let change = region.change();
    change.allocations + change.reallocations
}

#[test]
fn runs_in_steady_state_leave_the_heap_alone() {
    assert!(counted_by_hand(), "the counter counts");
    for folder in ["examples/digits", "examples/deepseek_v3_tiny", "tests/models/resnet_small_legacy_op13"] {
        for threads in [1, 2] {
            assert_eq!(counted(folder, threads), 0, "{folder} with {threads} threads");
        }
    }
}

/// Whether an allocation is seen, or the test could not fail.
fn counted_by_hand() -> bool {
    let region = Region::new(HEAP);
    std::hint::black_box(Vec::<u8>::with_capacity(std::hint::black_box(100)));
    region.change().allocations == 1
}
