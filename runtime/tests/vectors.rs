//! Vector instructions and moves in whole programs: maps with tails, rows, symbols, strided and clipped views.

mod programs;

use programs::*;
use tarsia_runtime::RunError;
use tarsia_tensor::{BinaryFn, DType, Numbers, ReduceFn, Tensor, UnaryFn};
use tarsia_tile::*;

/// `y = a + b` in pieces of 1000 elements.
fn add(dtype: DType) -> Program {
    let mut k = kernel("add", &[("g", "(n + 999) // 1000")]);
    let (a, b) = (k.param(dtype, &["n"], Access::Read), k.param(dtype, &["n"], Access::Read));
    let y = k.param(dtype, &["n"], Access::Write);
    let (x, z) = (k.tile(dtype, &[1000]), k.tile(dtype, &[1000]));
    let (start, size) = (["1000*g"], ["min(1000, n - 1000*g)"]);
    k.copy(t(x, &size), v(a, &start, &size));
    k.instr(Opcode::Binary(BinaryFn::Add), vec![t(z, &size)], vec![t(x, &size), v(b, &start, &size)]);
    k.copy(v(y, &start, &size), t(z, &size));
    let mut p = P::new("add");
    let args = [p.input("a", dtype, &["n"]), p.input("b", dtype, &["n"]), p.temp(dtype, &["n"])];
    p.output("y", args[2]);
    p.launch(k, &args);
    p.0
}

#[test]
fn maps_have_tails_and_any_type() {
    for &dtype in DType::ALL.iter().filter(|d| d.bits() > 0 && **d != DType::Bool && **d != DType::F8E8M0) {
        let program = add(dtype);
        for n in [0usize, 1, 7, 999, 1000, 1001, 3500] {
            let numbers = |k: usize| {
                Numbers::Int((0..n).map(|i| ((i * k) % 3) as i64).collect()).cast(
                    DType::I64,
                    dtype,
                    tarsia_tensor::Overflow::Special,
                )
            };
            let tensor = |k| Tensor::from_numbers(dtype, &[n], &numbers(k)).expect("a tensor");
            // Sums of at most 4 wrap in two bits; the reference does so too.
            let sum = Numbers::Int((0..n).map(|i| (i % 3 + (2 * i) % 3) as i64).collect());
            let expected =
                Tensor::from_numbers(dtype, &[n], &sum.cast(DType::I64, dtype, tarsia_tensor::Overflow::Special));
            if n > 1001 && dtype != DType::F32 {
                continue;
            }
            assert_eq!(
                run_everywhere(&program, &[tensor(1), tensor(2)])[0],
                expected.expect("a tensor"),
                "{dtype} {n}"
            );
        }
    }
}

#[test]
fn shapes_are_checked_by_name() {
    let program = add(DType::F32);
    let two = f32s(&[2], &[1.0, 2.0]);
    let error = fails(&program, &[two.clone(), f32s(&[3], &[0.0; 3])]);
    assert!(matches!(&error, RunError::InputSize { name, axis: 0, found: 3, .. } if name == "b"), "{error}");
    let error = fails(&program, std::slice::from_ref(&two));
    assert!(matches!(error, RunError::InputCount { expected: 2, found: 1, .. }), "{error}");
    let error = fails(&program, &[two.clone(), i64s(&[2], &[1, 2])]);
    assert!(matches!(error, RunError::InputType { found: DType::I64, .. }), "{error}");
    let error = fails(&program, &[two, f32s(&[1, 2], &[0.0; 2])]);
    assert!(matches!(error, RunError::InputRank { .. }), "{error}");
}

#[test]
fn expression_sizes_bind_and_are_checked() {
    let mut k = kernel("copy", &[]);
    let (x, y) = (k.param(DType::F32, &["2*n + 1"], Access::Read), k.param(DType::F32, &["n"], Access::Write));
    k.copy(v(y, &["0"], &["n"]), view(x, &[("1", &[(0, "2")])], &["n"], None));
    let mut p = P::new("odd");
    let args = [p.input("x", DType::F32, &["2*n + 1"]), p.temp(DType::F32, &["n"])];
    p.output("y", args[1]);
    p.launch(k, &args);
    let outputs = run_everywhere(&p.0, &[f32s(&[5], &[0.0, 1.0, 2.0, 3.0, 4.0])]);
    assert_eq!(outputs[0], f32s(&[2], &[1.0, 3.0]));
    assert_eq!(run_everywhere(&p.0, &[f32s(&[1], &[9.0])])[0], f32s(&[0], &[]));
    let error = fails(&p.0, &[f32s(&[4], &[0.0; 4])]);
    assert!(
        matches!(&error, RunError::InputSize { name, expected, found: 4, .. } if name == "x" && expected == "2*n + 1"),
        "{error}"
    );
}

/// Softmax of every row, in blocks of 4 rows.
fn softmax() -> Program {
    let mut k = kernel("softmax", &[("g", "(m + 3) // 4")]);
    let (x, y) = (k.param(DType::F32, &["m", "n"], Access::Read), k.param(DType::F32, &["m", "n"], Access::Write));
    let (rows, whole, one) = ("min(4, m - 4*g)", ["min(4, m - 4*g)", "n"], ["min(4, m - 4*g)", "1"]);
    let (data, extreme, sum) =
        (k.tile(DType::F32, &[4, 256]), k.tile(DType::F32, &[4, 1]), k.tile(DType::F32, &[4, 1]));
    assert_eq!(rows, whole[0]);
    k.copy(t(data, &whole), v(x, &["4*g", "0"], &whole));
    let reduce = |function| Opcode::Reduce { function, axis: 1, accumulate: false };
    k.instr(reduce(ReduceFn::Max), vec![t(extreme, &one)], vec![t(data, &whole)]);
    k.instr(Opcode::Binary(BinaryFn::Sub), vec![t(data, &whole)], vec![t(data, &whole), t(extreme, &one)]);
    k.instr(Opcode::Unary(UnaryFn::Exp), vec![t(data, &whole)], vec![t(data, &whole)]);
    k.instr(reduce(ReduceFn::Sum), vec![t(sum, &one)], vec![t(data, &whole)]);
    k.instr(Opcode::Binary(BinaryFn::Div), vec![v(y, &["4*g", "0"], &whole)], vec![t(data, &whole), t(sum, &one)]);
    let mut p = P::new("softmax");
    let args = [p.input("x", DType::F32, &["m", "n"]), p.temp(DType::F32, &["m", "n"])];
    p.output("y", args[1]);
    p.launch(k, &args);
    p.0
}

#[test]
fn rows_are_normalised() {
    for (m, n) in [(1, 1), (5, 33), (8, 256), (0, 4)] {
        let x = noise(m * n, 1);
        let mut expected = Vec::new();
        for row in x.chunks(n) {
            let exp: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
            let sum: f64 = exp.iter().sum();
            expected.extend(exp.iter().map(|x| x / sum));
        }
        near(&run_everywhere(&softmax(), &[f32s(&[m, n], &x)])[0], &[m, n], &expected, 1e-6);
    }
    // More columns than the tile holds: an error, not a wild access.
    let error = fails(&softmax(), &[f32s(&[1, 2000], &[0.0; 2000])]);
    assert!(
        matches!(&error, RunError::Sizes { origin, sizes, .. } if origin.contains("node_softmax") && sizes.contains("n = 2000")),
        "{error}"
    );
}

#[test]
fn transposed_padded_and_broadcast_views() {
    let mut k = kernel("views", &[]);
    let x = k.param(DType::F32, &["m", "n"], Access::Read);
    let (a, b) =
        (k.param(DType::F32, &["n", "m"], Access::Write), k.param(DType::F64, &["m + 3", "n + 2"], Access::Write));
    let c = k.param(DType::F32, &["m", "n"], Access::Write);
    k.copy(v(a, &["0", "0"], &["n", "m"]), view(x, &[("0", &[(1, "1")]), ("0", &[(0, "1")])], &["n", "m"], None));
    k.copy(v(b, &["0", "0"], &["m + 3", "n + 2"]), filled(x, &["-1", "-1"], &["m + 3", "n + 2"], Some(7.0)));
    // The first row and a clipped view, directly as operands of a vector instruction.
    let row = view(x, &[("0", &[]), ("0", &[(1, "1")])], &["1", "n"], None);
    let shifted = filled(x, &["1", "0"], &["m", "n"], Some(0.5));
    k.instr(Opcode::Binary(BinaryFn::Mul), vec![v(c, &["0", "0"], &["m", "n"])], vec![row, shifted]);
    let mut p = P::new("views");
    let args = [
        p.input("x", DType::F32, &["m", "n"]),
        p.temp(DType::F32, &["n", "m"]),
        p.temp(DType::F64, &["m + 3", "n + 2"]),
        p.temp(DType::F32, &["m", "n"]),
    ];
    (0..3).for_each(|i| p.output(&format!("y{i}"), args[i + 1]));
    p.launch(k, &args);
    let (m, n) = (3, 5);
    let x = noise(m * n, 2);
    let outputs = run_everywhere(&p.0, &[f32s(&[m, n], &x)]);
    let at = |i: isize, j: isize| {
        let inside = (0..m as isize).contains(&i) && (0..n as isize).contains(&j);
        if inside { f64::from(x[i as usize * n + j as usize]) } else { 7.0 }
    };
    let index =
        |rows: usize, cols: usize| (0..rows).flat_map(move |i| (0..cols).map(move |j| (i as isize, j as isize)));
    let expected: Vec<f64> = index(n, m).map(|(i, j)| at(j, i)).collect();
    near(&outputs[0], &[n, m], &expected, 0.0);
    let expected: Vec<f64> = index(m + 3, n + 2).map(|(i, j)| at(i - 1, j - 1)).collect();
    near(&outputs[1], &[m + 3, n + 2], &expected, 0.0);
    let below = |i, j| if i + 1 < m as isize { at(i + 1, j) } else { 0.5 };
    let expected: Vec<f64> = index(m, n).map(|(i, j)| at(0, j) * below(i, j)).collect();
    near(&outputs[2], &[m, n], &expected, 1e-6);
}

#[test]
fn select_mul_add_iota_and_comparisons() {
    let mut k = kernel("mixed", &[]);
    let (x, y) = (k.param(DType::F32, &["n"], Access::Read), k.param(DType::F32, &["n"], Access::Write));
    let (index, place) = (k.tile(DType::I64, &[64]), k.tile(DType::F32, &[64]));
    let (small, product) = (k.tile(DType::Bool, &[64]), k.tile(DType::F32, &[64]));
    let all = ["n"];
    k.instr(Opcode::Iota { axis: 0, step: 2 }, vec![t(index, &all)], vec![Operand::Index(d("n"))]);
    k.copy(t(place, &all), t(index, &all));
    k.instr(Opcode::Binary(BinaryFn::Lt), vec![t(small, &all)], vec![v(x, &["0"], &all), Operand::Real(0.0)]);
    k.instr(Opcode::MulAdd, vec![t(product, &all)], vec![v(x, &["0"], &all), Operand::Real(2.0), t(place, &all)]);
    let sources = vec![t(small, &all), Operand::Index(d("n + 1")), t(product, &all)];
    k.instr(Opcode::Select, vec![v(y, &["0"], &all)], sources);
    let mut p = P::new("mixed");
    let args = [p.input("x", DType::F32, &["n"]), p.temp(DType::F32, &["n"])];
    p.output("y", args[1]);
    p.launch(k, &args);
    let x = noise(50, 3);
    let expected: Vec<f64> = x
        .iter()
        .enumerate()
        .map(|(i, &x)| if x < 0.0 { 51.0 } else { f64::from(x) * 2.0 + 50.0 + 2.0 * i as f64 })
        .collect();
    near(&run_everywhere(&p.0, &[f32s(&[50], &x)])[0], &[50], &expected, 1e-6);
}
