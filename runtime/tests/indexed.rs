//! Instructions with data-dependent addresses or order: gather, scatter, routed products, scans, sorting, random numbers.

mod programs;

use programs::*;
use tarsia_runtime::RunError;
use tarsia_tensor::{ArgReduceFn, DType, ReduceFn, ScatterFn};
use tarsia_tile::*;

/// `y[j] = table[indices[j]]` for rows of 3 columns.
fn gather() -> Program {
    let mut k = kernel("gather", &[]);
    let table = k.param(DType::F32, &["rows", "3"], Access::Read);
    let (indices, y) = (k.param(DType::I64, &["n"], Access::Read), k.param(DType::F32, &["n", "3"], Access::Write));
    let from = v(table, &["0", "0"], &["n", "3"]);
    k.instr(Opcode::Gather, vec![v(y, &["0", "0"], &["n", "3"])], vec![from, v(indices, &["0"], &["n"])]);
    let mut p = P::new("gather");
    let args = [
        p.input("table", DType::F32, &["rows", "3"]),
        p.input("indices", DType::I64, &["n"]),
        p.temp(DType::F32, &["n", "3"]),
    ];
    p.output("y", args[2]);
    p.launch(k, &args);
    p.0
}

#[test]
fn rows_are_gathered_and_bad_indices_are_errors() {
    let table = noise(4 * 3, 1);
    let indices = [3i64, 0, 3, 1, 2];
    let expected: Vec<f64> =
        indices.iter().flat_map(|&i| table[i as usize * 3..][..3].iter().map(|&x| f64::from(x))).collect();
    let inputs = [f32s(&[4, 3], &table), i64s(&[5], &indices)];
    near(&run_everywhere(&gather(), &inputs)[0], &[5, 3], &expected, 0.0);
    for bad in [4, -1, i64::MAX, i64::MIN] {
        let error = fails(&gather(), &[f32s(&[4, 3], &table), i64s(&[1], &[bad])]);
        let RunError::Kernel { kernel, origin, reason } = &error else { panic!("{error}") };
        assert!(kernel == "gather" && origin == "`node_gather`" && reason.contains(&bad.to_string()), "{error}");
    }
}

#[test]
fn a_table_may_be_flat() {
    // The table's rows are 3 apart in a parameter with one axis; i32 indices; column 1 only.
    let mut k = kernel("flat", &[]);
    let (table, y) = (k.param(DType::F32, &["12"], Access::Read), k.param(DType::F32, &["n"], Access::Write));
    let indices = k.param(DType::I32, &["n"], Access::Read);
    let from = view(table, &[("1", &[(0, "3")])], &["n"], None);
    k.instr(Opcode::Gather, vec![v(y, &["0"], &["n"])], vec![from, v(indices, &["0"], &["n"])]);
    let mut p = P::new("flat");
    let args =
        [p.input("table", DType::F32, &["12"]), p.temp(DType::F32, &["n"]), p.input("indices", DType::I32, &["n"])];
    p.output("y", args[1]);
    p.launch(k, &args);
    let table: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let indices = tarsia_tensor::Tensor::from_slice(&[3], &[2i32, 0, 3]).expect("a tensor");
    near(&run_everywhere(&p.0, &[f32s(&[12], &table), indices])[0], &[3], &[7.0, 1.0, 10.0], 0.0);
    let bad = tarsia_tensor::Tensor::from_slice(&[1], &[4i32]).expect("a tensor");
    assert!(matches!(fails(&p.0, &[f32s(&[12], &table), bad]), RunError::Kernel { .. }));
}

#[test]
fn scattered_updates_combine() {
    for (function, expected) in [
        (ScatterFn::Set, [4.0, 10.0, 2.0]),
        (ScatterFn::Add, [6.0, 20.0, 36.0]),
        (ScatterFn::Mul, [8.0, 100.0, 1.0 * 30.0 * 2.0 * 3.0]),
        (ScatterFn::Min, [2.0, 10.0, 1.0]),
        (ScatterFn::Max, [4.0, 10.0, 30.0]),
    ] {
        for dtype in [DType::F32, DType::I64, DType::F16] {
            let mut k = kernel("scatter", &[]);
            let (x, y) = (k.param(dtype, &["3"], Access::Read), k.param(dtype, &["3"], Access::Update));
            let (updates, indices) = (k.param(dtype, &["n"], Access::Read), k.param(DType::I64, &["n"], Access::Read));
            k.copy(v(y, &["0"], &["3"]), v(x, &["0"], &["3"]));
            let sources = vec![v(updates, &["0"], &["n"]), v(indices, &["0"], &["n"])];
            k.instr(Opcode::Scatter { function }, vec![v(y, &["0"], &["n"])], sources);
            let mut p = P::new("scatter");
            let args = [
                p.input("x", dtype, &["3"]),
                p.temp(dtype, &["3"]),
                p.input("u", dtype, &["n"]),
                p.input("i", DType::I64, &["n"]),
            ];
            p.output("y", args[1]);
            p.launch(k, &args);
            let values = |v: &[f64]| {
                tarsia_tensor::Tensor::from_numbers(dtype, &[v.len()], &tarsia_tensor::Numbers::Float(v.to_vec()))
                    .expect("a tensor")
            };
            let cast = |v: &[f64]| {
                let numbers =
                    tarsia_tensor::Numbers::Float(v.to_vec()).cast(DType::F64, dtype, tarsia_tensor::Overflow::Special);
                tarsia_tensor::Tensor::from_numbers(dtype, &[v.len()], &numbers).unwrap_or_else(|_| values(v))
            };
            let inputs = [cast(&[2.0, 10.0, 1.0]), cast(&[30.0, 4.0, 3.0, 2.0, 10.0]), i64s(&[5], &[2, 0, 2, 2, 1])];
            near(&run_everywhere(&p.0, &inputs)[0], &[3], &expected, 0.0);
        }
    }
}

#[test]
fn rows_are_routed_to_their_product() {
    // y[row] = x[row] · w[expert[row]], one work item per expert, reading only the rows that belong to it.
    let mut k = kernel("routed", &[("e", "3")]);
    let (x, w) = (k.param(DType::F32, &["n", "4"], Access::Read), k.param(DType::F32, &["3", "4", "2"], Access::Read));
    let (expert, y) = (k.param(DType::I64, &["n"], Access::Read), k.param(DType::F32, &["n", "2"], Access::Update));
    let (rows, part) = (k.tile(DType::I64, &[64]), k.tile(DType::F32, &[64, 4]));
    let result = k.tile(DType::F32, &[64, 2]);
    let all = vec![v(expert, &["0"], &["n"]), Operand::Index(d("e")), Operand::Index(d("0"))];
    k.instr(Opcode::SelectRows, vec![t(rows, &["n"]), scalar("count", "n")], all);
    let from = vec![v(x, &["0", "0"], &["count", "4"]), t(rows, &["count"])];
    k.instr(Opcode::Gather, vec![t(part, &["count", "4"])], from);
    let weights = view(w, &[("e", &[]), ("0", &[(0, "1")]), ("0", &[(1, "1")])], &["4", "2"], None);
    k.instr(
        Opcode::Mmad { accumulate: false },
        vec![t(result, &["count", "2"])],
        vec![t(part, &["count", "4"]), weights],
    );
    let sources = vec![t(result, &["count", "2"]), t(rows, &["count"])];
    k.instr(Opcode::Scatter { function: ScatterFn::Set }, vec![v(y, &["0", "0"], &["count", "2"])], sources);
    let mut p = P::new("routed");
    let args = [
        p.input("x", DType::F32, &["n", "4"]),
        p.input("w", DType::F32, &["3", "4", "2"]),
        p.input("expert", DType::I64, &["n"]),
        p.temp(DType::F32, &["n", "2"]),
    ];
    p.output("y", args[3]);
    p.launch(k, &args);
    let (n, experts) = (10, [2i64, 0, 0, 2, 1, 2, 2, 0, 2, 2]);
    let (x, w) = (noise(n * 4, 1), noise(24, 2));
    let element = |i: usize, j: usize| {
        (0..4).map(|p| f64::from(x[i * 4 + p]) * f64::from(w[experts[i] as usize * 8 + p * 2 + j])).sum::<f64>()
    };
    let expected: Vec<f64> = (0..n).flat_map(|i| (0..2).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect();
    let inputs = [f32s(&[n, 4], &x), f32s(&[3, 4, 2], &w), i64s(&[n], &experts)];
    near(&run_everywhere(&p.0, &inputs)[0], &[n, 2], &expected, 1e-6);
}

#[test]
fn scalars_steer_loops_and_are_bounded() {
    // y = sum of the first `count` elements, one by one.
    let mut k = kernel("steered", &[]);
    let (count, x) = (k.param(DType::I32, &[], Access::Read), k.param(DType::F32, &["n"], Access::Read));
    let (y, acc) = (k.param(DType::F32, &["1"], Access::Write), k.tile(DType::F32, &[1]));
    k.instr(Opcode::Fill, vec![t(acc, &["1"])], vec![Operand::Real(0.0)]);
    k.instr(Opcode::ReadScalar, vec![scalar("c", "n")], vec![v(count, &[], &[])]);
    k.each("i", "c", 1, |k| {
        let one = ["1"];
        let sources = vec![t(acc, &one), v(x, &["i"], &one)];
        k.instr(Opcode::Binary(tarsia_tensor::BinaryFn::Add), vec![t(acc, &one)], sources);
    });
    let store =
        Stmt::Instr(Instr { op: Opcode::Copy { rows: 1 }, dst: vec![v(y, &["0"], &["1"])], src: vec![t(acc, &["1"])] });
    let zero = Stmt::Instr(Instr { op: Opcode::Fill, dst: vec![v(y, &["0"], &["1"])], src: vec![Operand::Real(-1.0)] });
    k.0.body.push(Stmt::If { condition: d("c"), then: vec![store], otherwise: vec![zero] });
    let mut p = P::new("steered");
    let args = [p.input("count", DType::I32, &[]), p.input("x", DType::F32, &["n"]), p.temp(DType::F32, &["1"])];
    p.output("y", args[2]);
    p.launch(k, &args);
    let x = f32s(&[4], &[1.0, 2.0, 3.0, 4.0]);
    let run = |count: i32| run_everywhere(&p.0, &[tarsia_tensor::Tensor::scalar(count), x.clone()])[0].clone();
    assert_eq!(run(3), f32s(&[1], &[6.0]));
    assert_eq!(run(0), f32s(&[1], &[-1.0]));
    let error = fails(&p.0, &[tarsia_tensor::Tensor::scalar(5), x.clone()]);
    assert!(matches!(&error, RunError::Kernel { reason, .. } if reason.contains('5')), "{error}");
}

#[test]
fn running_sums_from_both_ends_along_any_axis() {
    for axis in [0usize, 1] {
        for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut k = kernel("scan", &[]);
            let (x, y) =
                (k.param(DType::F32, &["m", "n"], Access::Read), k.param(DType::F32, &["m", "n"], Access::Write));
            let size = ["m", "n"];
            let op = Opcode::Scan { function: ReduceFn::Sum, axis, exclusive, reverse };
            k.instr(op, vec![v(y, &["0", "0"], &size)], vec![v(x, &["0", "0"], &size), Operand::Real(10.0)]);
            let mut p = P::new("scan");
            let args = [p.input("x", DType::F32, &size), p.temp(DType::F32, &size)];
            p.output("y", args[1]);
            p.launch(k, &args);
            let (m, n) = (3, 200);
            let x = noise(m * n, 9);
            let before = |i: usize, j: usize| match (reverse, exclusive) {
                (false, false) => j <= i,
                (false, true) => j < i,
                (true, false) => j >= i,
                (true, true) => j > i,
            };
            let element = |i: usize, j: usize| {
                let along: Vec<f64> = match axis {
                    0 => (0..m).filter(|&a| before(i, a)).map(|a| f64::from(x[a * n + j])).collect(),
                    _ => (0..n).filter(|&a| before(j, a)).map(|a| f64::from(x[i * n + a])).collect(),
                };
                10.0 + along.iter().sum::<f64>()
            };
            let expected: Vec<f64> =
                (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect();
            near(&run_everywhere(&p.0, &[f32s(&[m, n], &x)])[0], &[m, n], &expected, 1e-5);
        }
    }
}

#[test]
fn reductions_of_every_kind_accumulate() {
    let fold = |function: ReduceFn, a: f64, b: f64| match function {
        ReduceFn::Prod => a * b,
        ReduceFn::Min => a.min(b),
        ReduceFn::Max => a.max(b),
        _ => a + b,
    };
    for function in [ReduceFn::Sum, ReduceFn::Prod, ReduceFn::Min, ReduceFn::Max] {
        for (dtype, axis) in [(DType::F32, 0), (DType::F32, 1), (DType::I32, 1), (DType::F64, 0), (DType::U8, 0)] {
            let mut k = kernel("reduce", &[]);
            let to = if axis == 0 { ["1", "n"] } else { ["m", "1"] };
            let (x, y) = (k.param(dtype, &["m", "n"], Access::Read), k.param(dtype, &to, Access::Write));
            let size = ["m", "n"];
            for accumulate in [false, true] {
                let op = Opcode::Reduce { function, axis, accumulate };
                k.instr(op, vec![v(y, &["0", "0"], &to)], vec![v(x, &["0", "0"], &size)]);
            }
            let mut p = P::new("reduce");
            let args = [p.input("x", dtype, &size), p.temp(dtype, &to)];
            p.output("y", args[1]);
            p.launch(k, &args);
            let (m, n) = (3usize, 2usize);
            let values: Vec<f64> = (0..m * n).map(|i| [1.0, 2.0, 3.0, 1.0, 1.0, 2.0][i]).collect();
            let numbers =
                tarsia_tensor::Numbers::Float(values.clone()).cast(DType::F64, dtype, tarsia_tensor::Overflow::Special);
            let x = tarsia_tensor::Tensor::from_numbers(dtype, &[m, n], &numbers).expect("a tensor");
            let line = |i: usize| -> Vec<f64> {
                let places: Vec<usize> =
                    if axis == 0 { (0..m).map(|a| a * n + i).collect() } else { (0..n).map(|a| i * n + a).collect() };
                places.iter().chain(&places).map(|&at| values[at]).collect()
            };
            let lines = if axis == 0 { n } else { m };
            let expected: Vec<f64> = (0..lines)
                .map(|i| line(i).into_iter().reduce(|a, b| fold(function, a, b)).expect("not empty"))
                .collect();
            let shape = if axis == 0 { [1, n] } else { [m, 1] };
            near(&run_everywhere(&p.0, &[x])[0], &shape, &expected, 0.0);
        }
    }
}

#[test]
fn extremes_know_their_places() {
    for (function, last, expected) in [
        (ArgReduceFn::Max, false, [101i64, 100]),
        (ArgReduceFn::Max, true, [103, 104]),
        (ArgReduceFn::Min, false, [100, 101]),
        (ArgReduceFn::Min, true, [104, 103]),
    ] {
        let mut k = kernel("arg", &[]);
        let (x, y) = (k.param(DType::I32, &["2", "5"], Access::Read), k.param(DType::I64, &["2", "1"], Access::Write));
        let value = k.tile(DType::I32, &[2, 1]);
        for (start, size, accumulate) in [("0", "2", false), ("2", "3", true)] {
            let op = Opcode::ArgReduce { function, axis: 1, last, accumulate };
            let dst = vec![t(value, &["2", "1"]), v(y, &["0", "0"], &["2", "1"])];
            let base = if accumulate { "102" } else { "100" };
            k.instr(op, dst, vec![v(x, &["0", start], &["2", size]), Operand::Index(d(base))]);
        }
        let mut p = P::new("arg");
        let args = [p.input("x", DType::I32, &["2", "5"]), p.temp(DType::I64, &["2", "1"])];
        p.output("y", args[1]);
        p.launch(k, &args);
        let x = tarsia_tensor::Tensor::from_slice(&[2, 5], &[0i32, 9, 5, 9, 0, 7, -3, 2, -3, 7]).expect("a tensor");
        assert_eq!(run_everywhere(&p.0, &[x])[0], i64s(&[2, 1], &expected));
    }
}

#[test]
fn sorting_is_stable_and_cut_short() {
    for (descending, keep) in [(false, "6"), (true, "6"), (true, "2"), (false, "1"), (true, "0")] {
        for dtype in [DType::F32, DType::I64, DType::U8] {
            let mut k = kernel("sort", &[]);
            let to = ["m", keep];
            let (x, y) = (k.param(dtype, &["m", "6"], Access::Read), k.param(dtype, &to, Access::Write));
            let places = k.param(DType::I64, &to, Access::Write);
            let op = if keep == "6" { Opcode::Sort { descending } } else { Opcode::TopK { largest: descending } };
            let dst = vec![v(y, &["0", "0"], &to), v(places, &["0", "0"], &to)];
            k.instr(op, dst, vec![v(x, &["0", "0"], &["m", "6"])]);
            let mut p = P::new("sort");
            let args = [p.input("x", dtype, &["m", "6"]), p.temp(dtype, &to), p.temp(DType::I64, &to)];
            p.output("y", args[1]);
            p.output("i", args[2]);
            p.launch(k, &args);
            let rows = [[3i64, 1, 3, 2, 1, 9], [5, 5, 5, 5, 5, 5]];
            let numbers =
                tarsia_tensor::Numbers::Int(rows.concat()).cast(DType::I64, dtype, tarsia_tensor::Overflow::Special);
            let x = tarsia_tensor::Tensor::from_numbers(dtype, &[2, 6], &numbers).expect("a tensor");
            let keep: usize = keep.parse().expect("a number");
            let (mut values, mut indices) = (Vec::new(), Vec::new());
            for row in rows {
                let mut order: Vec<usize> = (0..6).collect();
                order.sort_by(|&a, &b| if descending { row[b].cmp(&row[a]) } else { row[a].cmp(&row[b]) });
                values.extend(order[..keep].iter().map(|&i| row[i] as f64));
                indices.extend(order[..keep].iter().map(|&i| i as f64));
            }
            let outputs = run_everywhere(&p.0, &[x]);
            near(&outputs[0], &[2, keep], &values, 0.0);
            near(&outputs[1], &[2, keep], &indices, 0.0);
        }
    }
}

#[test]
fn random_numbers_are_those_of_the_stream() {
    let mut k = kernel("random", &[("g", "n")]);
    let (y, z) = (k.param(DType::F32, &["n", "5"], Access::Write), k.param(DType::F64, &["n", "5"], Access::Write));
    for (to, normal) in [(y, false), (z, true)] {
        let op = Opcode::Random { normal, seed: 42 };
        k.instr(op, vec![v(to, &["g", "0"], &["1", "5"])], vec![Operand::Index(d("5*g"))]);
    }
    let mut p = P::new("random");
    let args = [p.temp(DType::F32, &["n", "5"]), p.temp(DType::F64, &["n", "5"])];
    p.input("x", DType::F32, &["n"]);
    p.output("y", args[0]);
    p.output("z", args[1]);
    p.launch(k, &args);
    let outputs = run_everywhere(&p.0, &[f32s(&[4], &[0.0; 4])]);
    let uniform: Vec<f64> = (0..20).map(|i| tarsia_tensor::rng::uniform(DType::F32, 42, i)).collect();
    let normal: Vec<f64> = (0..20).map(|i| tarsia_tensor::rng::normal(42, i)).collect();
    near(&outputs[0], &[4, 5], &uniform, 0.0);
    near(&outputs[1], &[4, 5], &normal, 1e-12);
}
