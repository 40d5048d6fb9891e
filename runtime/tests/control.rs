//! Host functions, branches, loops and scans: nested programs, shapes that data determine.

mod programs;

use programs::*;
use tarsia_runtime::RunError;
use tarsia_tensor::{BinaryFn, DType, Tensor};
use tarsia_tile::*;

/// A one-launch kernel `y = f(x, number)` over `n` elements in one work item.
fn with_number(function: BinaryFn, dtype: DType, size: &str, number: f64) -> K {
    let mut k = kernel("with_number", &[]);
    let (x, y) = (k.param(dtype, &[size], Access::Read), k.param(dtype, &[size], Access::Write));
    let sources = vec![v(x, &["0"], &[size]), Operand::Real(number)];
    k.instr(Opcode::Binary(function), vec![v(y, &["0"], &[size])], sources);
    k
}

fn apply(function: BinaryFn, number: f64) -> Program {
    let mut p = P::new("apply");
    let args = [p.input("x", DType::F32, &["n"]), p.temp(DType::F32, &["n"])];
    p.output("y", args[1]);
    p.launch(with_number(function, DType::F32, "n", number), &args);
    p.0
}

#[test]
fn a_branch_is_chosen_by_data() {
    let mut p = P::new("branch");
    let (c, x) = (p.input("c", DType::Bool, &[]), p.input("x", DType::F32, &["n"]));
    let y = p.temp(DType::F32, &["n"]);
    let z = p.temp(DType::F32, &["n"]);
    let operands = vec![p.port("x", x)];
    let (then_branch, else_branch) = (Box::new(apply(BinaryFn::Mul, 2.0)), Box::new(apply(BinaryFn::Add, 100.0)));
    p.0.steps.push(Step::If { condition: c, then_branch, else_branch, operands, results: vec![y] });
    p.launch(with_number(BinaryFn::Sub, DType::F32, "n", 1.0), &[y, z]);
    p.output("z", z);
    p.output("y", y);
    let x = f32s(&[2], &[1.0, 5.0]);
    let run =
        |c: u8| run_everywhere(&p.0, &[Tensor::new(DType::Bool, &[], vec![c].into()).expect("a tensor"), x.clone()]);
    assert_eq!(run(1), [f32s(&[2], &[1.0, 9.0]), f32s(&[2], &[2.0, 10.0])]);
    assert_eq!(run(0), [f32s(&[2], &[100.0, 104.0]), f32s(&[2], &[101.0, 105.0])]);
}

/// Carries a vector that grows by one element per iteration, stacks its last element, stops when that exceeds 20.
fn growing() -> Program {
    let mut b = P::new("body");
    let (i, c) = (b.input("i", DType::I64, &[]), b.input("c", DType::Bool, &[]));
    let (old, step) = (b.input("old", DType::F32, &["k"]), b.input("step", DType::F32, &["1"]));
    let (new, last, go) = (b.temp(DType::F32, &["k + 1"]), b.temp(DType::F32, &[]), b.temp(DType::Bool, &[]));
    let _ = (i, c);
    let mut k = kernel("grow", &[]);
    let (from, by) = (k.param(DType::F32, &["k"], Access::Read), k.param(DType::F32, &["1"], Access::Read));
    let (to, end) = (k.param(DType::F32, &["k + 1"], Access::Update), k.param(DType::F32, &["1"], Access::Write));
    let goes_on = k.param(DType::Bool, &["1"], Access::Write);
    k.copy(v(to, &["0"], &["k"]), v(from, &["0"], &["k"]));
    let sources = vec![v(from, &["k - 1"], &["1"]), v(by, &["0"], &["1"])];
    k.instr(Opcode::Binary(BinaryFn::Add), vec![v(end, &["0"], &["1"])], sources);
    k.copy(v(to, &["k"], &["1"]), v(end, &["0"], &["1"]));
    k.instr(
        Opcode::Binary(BinaryFn::Le),
        vec![v(goes_on, &["0"], &["1"])],
        vec![v(end, &["0"], &["1"]), Operand::Real(20.0)],
    );
    b.launch(k, &[old, step, new, last, go]);
    b.output("go", go);
    b.output("new", new);
    b.output("last", last);
    b.0
}

#[test]
fn loops_carry_values_of_changing_shape() {
    let mut p = P::new("loop");
    let (trips, c) = (p.input("trips", DType::I64, &[]), p.input("c", DType::Bool, &[]));
    let (x, step) = (p.input("x", DType::F32, &["n"]), p.input("step", DType::F32, &["1"]));
    let (grown, lasts) = (p.temp(DType::F32, &["grown"]), p.temp(DType::F32, &["iterations"]));
    let after = p.temp(DType::F32, &["grown"]);
    let ports = |p: &P| LoopStep {
        body: growing(),
        trip_count: p.port("trips", trips),
        condition: p.port("c", c),
        carried: vec![p.port("x", x)],
        captured: vec![p.port("step", step)],
        results: vec![grown, lasts],
    };
    let step_ = Step::Loop(Box::new(ports(&p)));
    p.0.steps.push(step_);
    p.launch(with_number(BinaryFn::Mul, DType::F32, "grown", 2.0), &[grown, after]);
    p.output("after", after);
    p.output("lasts", lasts);
    let run = |trips: i64, go: u8, step: f32| {
        let go = Tensor::new(DType::Bool, &[], vec![go].into()).expect("a tensor");
        run_everywhere(&p.0, &[Tensor::scalar(trips), go, f32s(&[1], &[1.0]), f32s(&[1], &[step])])
    };
    assert_eq!(run(2, 1, 3.0), [f32s(&[3], &[2.0, 8.0, 14.0]), f32s(&[2], &[4.0, 7.0])]);
    assert_eq!(run(100, 1, 10.0), [f32s(&[3], &[2.0, 22.0, 42.0]), f32s(&[2], &[11.0, 21.0])]);
    assert_eq!(run(100, 0, 10.0), [f32s(&[1], &[2.0]), f32s(&[0], &[])]);
    assert_eq!(run(0, 1, 10.0), [f32s(&[1], &[2.0]), f32s(&[0], &[])]);
}

#[test]
fn scans_slice_and_stack_along_axes_and_directions() {
    // state' = state + slice; stacked: state'.
    let mut b = P::new("body");
    let (state, slice) = (b.input("state", DType::F32, &["n"]), b.input("slice", DType::F32, &["n"]));
    let next = b.temp(DType::F32, &["n"]);
    let mut k = kernel("add", &[]);
    let (x, y) = (k.param(DType::F32, &["n"], Access::Read), k.param(DType::F32, &["n"], Access::Read));
    let z = k.param(DType::F32, &["n"], Access::Write);
    k.instr(
        Opcode::Binary(BinaryFn::Add),
        vec![v(z, &["0"], &["n"])],
        vec![v(x, &["0"], &["n"]), v(y, &["0"], &["n"])],
    );
    b.launch(k, &[state, slice, next]);
    b.output("next", next);
    b.output("stacked", next);
    for (axis, out_axis, from_end, out_from_end) in
        [(0, 0, false, false), (1, 0, false, true), (0, 1, true, false), (1, 1, true, true)]
    {
        let mut p = P::new("scan");
        let x_shape = if axis == 0 { ["t", "n"] } else { ["n", "t"] };
        let y_shape = if out_axis == 0 { ["t", "n"] } else { ["n", "t"] };
        let (s, x) = (p.input("s", DType::F32, &["n"]), p.input("x", DType::F32, &x_shape));
        let (last, stacked) = (p.temp(DType::F32, &["n"]), p.temp(DType::F32, &y_shape));
        let step = ScanStep {
            body: b.0.clone(),
            states: vec![p.port("s", s)],
            inputs: vec![(p.port("x", x), axis, from_end)],
            captured: vec![],
            outputs: vec![(out_axis, out_from_end)],
            results: vec![last, stacked],
        };
        p.0.steps.push(Step::Scan(Box::new(step)));
        p.output("last", last);
        p.output("stacked", stacked);
        let (n, t) = (2usize, 3usize);
        let x = noise(n * t, 4);
        let at = |i: usize, j: usize| f64::from(if axis == 0 { x[i * n + j] } else { x[j * t + i] });
        let mut state = vec![1.0, 2.0];
        let mut rows = vec![vec![0.0; n]; t];
        for i in 0..t {
            let source = if from_end { t - 1 - i } else { i };
            (0..n).for_each(|j| state[j] += at(source, j));
            rows[if out_from_end { t - 1 - i } else { i }] = state.clone();
        }
        let expected: Vec<f64> = match out_axis {
            0 => rows.concat(),
            _ => (0..n).flat_map(|j| rows.iter().map(move |row| row[j])).collect(),
        };
        let shape = if axis == 0 { [t, n] } else { [n, t] };
        let outputs = run_everywhere(&p.0, &[f32s(&[n], &[1.0, 2.0]), f32s(&shape, &x)]);
        near(&outputs[0], &[n], &state, 1e-6);
        near(&outputs[1], &if out_axis == 0 { [t, n] } else { [n, t] }, &expected, 1e-6);
    }
}

/// `nonzero(x)`, then a kernel over as many elements as it finds.
fn found() -> P {
    let mut p = P::new("found");
    let x = p.input("x", DType::F32, &["n"]);
    let (places, doubled) = (p.temp(DType::I64, &["1", "count"]), p.temp(DType::I64, &["count"]));
    let before = p.temp(DType::F32, &["n"]);
    p.launch(with_number(BinaryFn::Sub, DType::F32, "n", 1.0), &[x, before]);
    let operands = vec![p.port("x", before)];
    let step = Step::Host { function: "nonzero".into(), ints: vec![], reals: vec![], operands, results: vec![places] };
    p.0.steps.push(step);
    p.launch(with_number(BinaryFn::Mul, DType::I64, "count", 2.0), &[places, doubled]);
    p.output("places", places);
    p.output("doubled", doubled);
    p
}

#[test]
fn host_results_bind_symbols() {
    let p = found();
    for (x, expected) in
        [(vec![1.0f32, 2.0, 0.0, 1.0, 5.0], vec![1i64, 2, 4]), (vec![1.0; 4], vec![]), (vec![3.0], vec![0])]
    {
        let doubled: Vec<i64> = expected.iter().map(|x| 2 * x).collect();
        let outputs = run_everywhere(&p.0, &[f32s(&[x.len()], &x)]);
        assert_eq!(outputs, [i64s(&[1, expected.len()], &expected), i64s(&[expected.len()], &doubled)]);
    }
    // The same session, with other results on the same shapes.
    for session in sessions(&p.0) {
        for count in [3usize, 0, 2, 3] {
            let x: Vec<f32> = (0..3).map(|i| if i < count { 0.0 } else { 1.0 }).collect();
            assert_eq!(session.run(&[f32s(&[3], &x)]).expect("runs")[1].count(), count);
        }
    }
}

#[test]
fn wrong_results_of_host_functions_are_errors() {
    let mut p = found();
    p.0.buffers[1].dtype = DType::I32;
    p.0.kernels[1].params.iter_mut().for_each(|param| param.dtype = DType::I32);
    p.0.buffers[2].dtype = DType::I32;
    let error = fails(&p.0, &[f32s(&[2], &[0.0; 2])]);
    assert!(matches!(&error, RunError::Control { step: 1, reason } if reason.contains("i64")), "{error}");
    let mut p = found();
    if let Step::Host { function, .. } = &mut p.0.steps[1] {
        *function = "no_such".into();
    }
    assert!(matches!(fails(&p.0, &[f32s(&[2], &[0.0; 2])]), RunError::Host(_)));
}
