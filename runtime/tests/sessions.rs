//! Sessions: allocations in steady state, memory limits, repeated binding, outputs in place, profiles, bad programs.

mod programs;

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;

use programs::*;
use tarsia_runtime::{Options, RunError, Session};
use tarsia_tensor::{BinaryFn, DType, ReduceFn, Tensor, UnaryFn};
use tarsia_tile::*;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: forwards to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        // A thread that ends may allocate after its counter is gone.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Memory) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(data, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Three launches through temporaries: rows minus their maximum, exponentials, and a product with a constant.
fn pipeline() -> Program {
    let mut p = P::new("pipeline");
    let x = p.input("x", DType::F32, &["n", "16"]);
    let w = p.constant(&f32s(&[16, 8], &noise(128, 3)));
    let (a, b, y) =
        (p.temp(DType::F32, &["n", "16"]), p.temp(DType::F32, &["n", "16"]), p.temp(DType::F32, &["n", "8"]));
    let mut k = kernel("center", &[("g", "n")]);
    let (from, to) =
        (k.param(DType::F32, &["n", "16"], Access::Read), k.param(DType::F32, &["n", "16"], Access::Write));
    let top = k.tile(DType::F32, &[1, 1]);
    let row = |p| v(p, &["g", "0"], &["1", "16"]);
    let op = Opcode::Reduce { function: ReduceFn::Max, axis: 1, accumulate: false };
    k.instr(op, vec![t(top, &["1", "1"])], vec![row(from)]);
    k.instr(Opcode::Binary(BinaryFn::Sub), vec![row(to)], vec![row(from), t(top, &["1", "1"])]);
    p.launch(k, &[x, a]);
    let mut k = kernel("exp", &[("g", "n")]);
    let (from, to) =
        (k.param(DType::F32, &["n", "16"], Access::Read), k.param(DType::F32, &["n", "16"], Access::Write));
    k.instr(Opcode::Unary(UnaryFn::Exp), vec![row(to)], vec![row(from)]);
    p.launch(k, &[a, b]);
    let mut k = kernel("product", &[("g", "n")]);
    let (from, to) = (k.param(DType::F32, &["n", "16"], Access::Read), k.param(DType::F32, &["n", "8"], Access::Write));
    let weights = k.param(DType::F32, &["16", "8"], Access::Read);
    let op = Opcode::Mmad { accumulate: false };
    k.instr(op, vec![v(to, &["g", "0"], &["1", "8"])], vec![row(from), v(weights, &["0", "0"], &["16", "8"])]);
    p.launch(k, &[b, y, w]);
    p.output("y", y);
    p.0
}

fn bytes(tensor: &Tensor) -> &[u8] {
    tensor.bytes()
}

#[test]
fn a_steady_run_allocates_nothing() {
    for session in sessions(&pipeline()) {
        let x = f32s(&[9, 16], &noise(144, 1));
        let expected = session.run(std::slice::from_ref(&x)).expect("runs");
        let mut bound = session.bind(&[&[9, 16]]).expect("binds");
        let mut output = vec![0f32; 72];
        let place: &mut [u8] = bytemuck::cast_slice_mut(&mut output);
        for _ in 0..3 {
            bound.run(&[bytes(&x)]).expect("runs");
            bound.run_into(&[bytes(&x)], &mut [&mut *place]).expect("runs");
        }
        let before = ALLOCATIONS.with(Cell::get);
        for _ in 0..10 {
            bound.run(&[bytes(&x)]).expect("runs");
            bound.run_into(&[bytes(&x)], &mut [&mut *place]).expect("runs");
        }
        assert_eq!(ALLOCATIONS.with(Cell::get), before, "allocations in {} steady runs", 20);
        assert_eq!(bound.output(0), &expected[0].bytes()[..]);
        assert_eq!(&*place, &expected[0].bytes()[..]);
    }
}

#[test]
fn sizes_change_from_run_to_run() {
    let session = Session::new(pipeline(), &Options::default()).expect("a valid program");
    for n in [0usize, 3, 100, 1, 3, 40, 7, 100] {
        let x = noise(n * 16, 2);
        let output = &session.run(&[f32s(&[n, 16], &x)]).expect("runs")[0];
        let w = noise(128, 3);
        let mut expected = Vec::new();
        for row in x.chunks(16) {
            let top = row.iter().fold(f64::MIN, |a, &b| a.max(b.into()));
            let exp: Vec<f64> = row.iter().map(|&x| (f64::from(x) - top).exp()).collect();
            expected.extend((0..8).map(|j| (0..16).map(|p| exp[p] * f64::from(w[p * 8 + j])).sum::<f64>()));
        }
        near(output, &[n, 8], &expected, 1e-5);
    }
}

#[test]
fn sessions_are_shared_by_threads() {
    let session = Session::new(pipeline(), &Options { threads: 2, ..Options::default() }).expect("a valid program");
    let x = f32s(&[50, 16], &noise(800, 1));
    let expected = session.run(std::slice::from_ref(&x)).expect("runs");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(session.run(std::slice::from_ref(&x)).expect("runs"), expected);
                }
            });
        }
    });
}

#[test]
fn memory_is_limited() {
    let options = Options { memory_limit: 100_000, ..Options::default() };
    let session = Session::new(pipeline(), &options).expect("a valid program");
    assert!(session.run(&[f32s(&[10, 16], &[0.0; 160])]).is_ok());
    let error = session.run(&[f32s(&[2000, 16], &[0.0; 32000])]).expect_err("too large");
    assert!(
        matches!(error, RunError::Plan(PlanError::Limit { limit: 100_000, .. }) | RunError::Memory { .. }),
        "{error}"
    );
    assert!(session.run(&[f32s(&[10, 16], &[0.0; 160])]).is_ok());
}

#[test]
fn inputs_and_constants_may_pass_through() {
    let mut p = P::new("through");
    let x = p.input("x", DType::F32, &["n"]);
    let c = p.constant(&i64s(&[2], &[5, 6]));
    p.output("x", x);
    p.output("c", c);
    p.0.outputs.push(Port { name: "folded".into(), buffer: x, shape: ds(&["n", "1"]) });
    let x = f32s(&[3], &[1.0, 2.0, 3.0]);
    let outputs = run_everywhere(&p.0, std::slice::from_ref(&x));
    assert_eq!(outputs, [x.clone(), i64s(&[2], &[5, 6]), x.reshaped(&[3, 1]).expect("as many")]);
    for session in sessions(&p.0) {
        let mut bound = session.bind(&[&[3]]).expect("binds");
        let (mut a, mut b, mut c) = ([0u8; 12], [0u8; 16], [0u8; 12]);
        bound.run_into(&[x.bytes()], &mut [&mut a, &mut b, &mut c]).expect("runs");
        assert_eq!((&a[..], &c[..]), (&x.bytes()[..], &x.bytes()[..]));
        bound.run(&[x.bytes()]).expect("runs");
        assert_eq!(bound.output(1), bytemuck::cast_slice::<i64, u8>(&[5, 6]));
    }
}

#[test]
fn misaligned_inputs_and_outputs_are_copied() {
    let session = Session::new(pipeline(), &Options::default()).expect("a valid program");
    let x = f32s(&[2, 16], &noise(32, 1));
    let expected = session.run(std::slice::from_ref(&x)).expect("runs");
    let mut shifted = vec![0u8; 129];
    shifted[1..].copy_from_slice(x.bytes());
    let mut output = [0u8; 65];
    let mut bound = session.bind(&[&[2, 16]]).expect("binds");
    bound.run_into(&[&shifted[1..]], &mut [&mut output[1..]]).expect("runs");
    assert_eq!(&output[1..], &expected[0].bytes()[..]);
    let error = bound.run_into(&[&shifted[1..]], &mut [&mut output[..]]).expect_err("one byte too many");
    assert!(matches!(&error, RunError::Bytes { name, expected: 64, found: 65 } if name == "y"), "{error}");
    let error = bound.run(&[&shifted]).expect_err("one byte too many");
    assert!(matches!(&error, RunError::Bytes { name, .. } if name == "x"), "{error}");
}

#[test]
fn steps_are_timed_on_request() {
    let options = Options { profile: true, ..Options::default() };
    let session = Session::new(pipeline(), &options).expect("a valid program");
    session.run(&[f32s(&[4, 16], &[0.0; 64])]).expect("runs");
    let times = session.take_profile();
    let names: Vec<(&str, usize)> = times.iter().map(|time| (time.name.as_str(), time.items)).collect();
    assert_eq!(names, [("center", 4), ("exp", 4), ("product", 4)]);
    assert_eq!(times[1].origin, ["node_exp"]);
    assert!(session.take_profile().is_empty());
}

#[test]
fn programs_that_refer_to_nothing_are_refused() {
    let refused = |change: &dyn Fn(&mut Program)| {
        let mut program = pipeline();
        change(&mut program);
        let result = Session::new(program, &Options::default());
        let error = result.and_then(|session| session.run(&[f32s(&[1, 16], &[0.0; 16])])).expect_err("refused");
        assert!(
            matches!(error, RunError::Malformed { .. } | RunError::Kernel { .. } | RunError::Size { .. }),
            "{error}"
        );
    };
    let first = |program: &mut Program, f: &dyn Fn(&mut Instr)| {
        if let Some(Stmt::Instr(instr)) = program.kernels[0].body.first_mut() {
            f(instr);
        }
    };
    refused(&|p| p.outputs[0].buffer = BufferId(99));
    refused(&|p| p.buffers[0].dtype = DType::F64);
    refused(&|p| p.buffers[1].shape = ds(&["16", "9"]));
    refused(&|p| p.buffers[2].shape = ds(&["n", "15"]));
    refused(&|p| p.kernels[1].params.truncate(1));
    refused(&|p| first(p, &|instr| instr.dst.clear()));
    refused(&|p| first(p, &|instr| instr.dst = vec![t(TileId(7), &["1", "1"])]));
    refused(&|p| first(p, &|instr| instr.src = vec![v(ParamId(0), &["q", "0"], &["1", "16"])]));
    refused(&|p| first(p, &|instr| instr.src = vec![v(ParamId(0), &["g", "1"], &["1", "16"])]));
    refused(&|p| first(p, &|instr| instr.src = vec![v(ParamId(0), &["g", "0"], &["2", "8"])]));
}

#[test]
fn events_must_come_in_pairs() {
    let with = |order: &[bool]| {
        let mut program = pipeline();
        let pipes = || ("move".to_owned(), "vector".to_owned(), d("g"));
        for &set in order {
            let (from, to, event) = pipes();
            let op = if set { Opcode::SetEvent { from, to, event } } else { Opcode::WaitEvent { from, to, event } };
            program.kernels[0].body.push(Stmt::Instr(Instr { op, dst: vec![], src: vec![] }));
        }
        Session::new(program, &Options::default()).and_then(|s| s.run(&[f32s(&[2, 16], &[0.0; 32])]))
    };
    assert!(with(&[true, false, true, false]).is_ok());
    if cfg!(debug_assertions) {
        assert!(with(&[false, true]).is_err());
        assert!(with(&[true]).is_err());
    }
}
