//! Every decomposed function against the reference evaluation, on ordinary and on extreme numbers.

use tarsia_graph::{Origin, Type, eval};
use tarsia_tensor::{Dim, Tensor};

use super::*;

const SPECIAL: &[f32] = &[
    0.0,
    f32::MIN_POSITIVE,
    1e-30,
    1e-7,
    1e-4,
    0.1,
    0.3,
    0.5,
    0.624,
    0.626,
    0.92,
    0.93,
    0.999_999,
    1.0,
    1.000_001,
    1.5,
    2.0,
    2.5,
    3.0,
    3.999,
    4.1,
    7.0,
    10.0,
    20.0,
    87.0,
    88.5,
    89.2,
    100.0,
    1000.0,
    4000.0,
    1e9,
    1e11,
    1e30,
    f32::MAX,
    f32::INFINITY,
];

fn numbers() -> Vec<f32> {
    let between = (0..400).map(|i| (i as f32 - 200.0) * 0.037);
    let special = SPECIAL.iter().flat_map(|&x| [x, -x]).chain([f32::NAN]);
    special.chain(between).collect()
}

/// One op on f32 operands of this many elements, and its decomposition.
fn both(op: &Op, operands: usize, count: usize) -> (Graph, Graph) {
    let mut body = Graph::new("f");
    let inputs: Vec<Value> = (0..operands)
        .map(|i| body.add_input(&format!("x{i}"), Type::new(DType::F32, vec![Dim::from(count)])))
        .collect();
    let value = body.add(op.clone(), &inputs, Origin::default()).unwrap();
    body.add_output("y", value.into());
    let none = decompose(&body, &|name, _| name != op.name()).unwrap();
    assert!(none.node_ids().all(|id| none[id].op != *op), "{} is still there", op.name());
    (body, none)
}

/// Checks every result against `atol + rtol·|expected|` (and infinities and NaN exactly).
fn check(op: &Op, inputs: &[Vec<f32>], bound: &dyn Fn(&[f32], f64) -> f64) {
    let (body, found) = both(op, inputs.len(), inputs[0].len());
    let tensors: Vec<Tensor> = inputs.iter().map(|x| Tensor::from_slice(&[x.len()], x).unwrap()).collect();
    let values = |graph: &Graph| eval::run(graph, &tensors).unwrap()[0].numbers().unwrap().to_f64();
    for (i, (expected, found)) in values(&body).into_iter().zip(values(&found)).enumerate() {
        let x: Vec<f32> = inputs.iter().map(|input| input[i]).collect();
        let same = expected == found || expected.is_nan() && found.is_nan();
        let off = (expected - found).abs();
        assert!(same || off <= bound(&x, expected), "{}({x:?}) = {expected:e}, found {found:e}", op.name());
    }
}

const U: f64 = 1.0 / (1 << 23) as f64;

#[test]
fn functions_of_one_operand_keep_their_bounds() {
    use UnaryFn::*;
    let relative = |factor: f64| move |_: &[f32], expected: f64| factor * U * expected.abs() + 1e-38;
    for (function, factor) in [
        (Sigmoid, 4.0),
        (Tanh, 4.0),
        (Erf, 4.0),
        (Softplus, 4.0),
        (Asinh, 6.0),
        (Acosh, 6.0),
        (Atanh, 6.0),
        (Asin, 4.0),
        (Acos, 4.0),
        (Atan, 4.0),
        (Sign, 0.0),
        (IsNan, 0.0),
        (IsInf, 0.0),
    ] {
        check(&Op::Unary(function), &[numbers()], &relative(factor));
    }
    for function in [Sinh, Cosh] {
        check(&Op::Unary(function), &[numbers()], &|x, expected| {
            (2.0 + f64::from(x[0].abs())) * 2.0 * U * expected.abs()
        });
    }
    let moderate: Vec<f32> = numbers().into_iter().filter(|x| !(x.is_finite() && x.abs() > 8192.0)).collect();
    for function in [Sin, Cos] {
        check(&Op::Unary(function), std::slice::from_ref(&moderate), &|_, _| 2.0 * U);
    }
    check(&Op::Unary(Tan), &[moderate], &|_, expected| 8.0 * U * (1.0 + expected * expected));
}

#[test]
fn functions_of_two_operands_keep_their_bounds() {
    let values = [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 2.5, -7.25, 1e-3, 40.0, -40.0];
    let pairs = values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b)));
    let (a, b): (Vec<f32>, Vec<f32>) = pairs.unzip();
    check(&Op::Binary(BinaryFn::Pow), &[a.clone(), b.clone()], &|x, expected| {
        let exponent = f64::from(x[1]) * f64::from(x[0].abs()).ln();
        2.0 * U * (1.0 + exponent.abs()) * expected.abs()
    });
    check(&Op::Binary(BinaryFn::Atan2), &[a.clone(), b.clone()], &|_, expected| 4.0 * U * expected.abs() + U);
    // Where the quotient is nearly whole, the remainder is off by the divisor.
    let whole: Vec<f32> = b.iter().map(|&b| if b == 0.0 || b == 1e-3 { 4.0 } else { b }).collect();
    for function in [BinaryFn::Mod, BinaryFn::Rem] {
        check(&Op::Binary(function), &[a.clone(), whole.clone()], &|x, _| U * f64::from(x[0].abs()));
    }
}
