//! Point-wise ops, reductions and contractions against values computed by hand.

use tarsia_tensor::{ArgReduceFn, BinaryFn, ReduceFn, UnaryFn};

use super::*;

fn unary(function: UnaryFn, x: &Tensor) -> Tensor {
    one(Op::Unary(function), std::slice::from_ref(x))
}

fn binary(function: BinaryFn, x: &Tensor, y: &Tensor) -> Tensor {
    one(Op::Binary(function), &[x.clone(), y.clone()])
}

#[test]
#[allow(clippy::approx_constant)] // The table holds values, some of which are famous.
fn unary_functions_agree_with_known_values() {
    let nan = f64::NAN;
    let x = Tensor::from_slice(&[4], &[-1.5, 0.0, 0.5, 2.5]).unwrap();
    let cases: &[(UnaryFn, [f64; 4])] = &[
        (UnaryFn::Abs, [1.5, 0.0, 0.5, 2.5]),
        (UnaryFn::Neg, [1.5, 0.0, -0.5, -2.5]),
        (UnaryFn::Exp, [0.22313016014842982, 1.0, 1.6487212707001282, 12.182493960703473]),
        (UnaryFn::Log, [nan, f64::NEG_INFINITY, -0.6931471805599453, 0.9162907318741551]),
        (UnaryFn::Sqrt, [nan, 0.0, 0.7071067811865476, 1.5811388300841898]),
        (UnaryFn::Rsqrt, [nan, f64::INFINITY, 1.414213562373095, 0.6324555320336759]),
        (UnaryFn::Reciprocal, [-0.6666666666666666, f64::INFINITY, 2.0, 0.4]),
        (UnaryFn::Sin, [-0.9974949866040544, 0.0, 0.479425538604203, 0.5984721441039564]),
        (UnaryFn::Cos, [0.0707372016677029, 1.0, 0.8775825618903728, -0.8011436155469337]),
        (UnaryFn::Tan, [-14.101419947171719, 0.0, 0.5463024898437905, -0.7470222972386602]),
        (UnaryFn::Asin, [nan, 0.0, 0.5235987755982989, nan]),
        (UnaryFn::Acos, [nan, 1.5707963267948966, 1.0471975511965979, nan]),
        (UnaryFn::Atan, [-0.982793723247329, 0.0, 0.4636476090008061, 1.1902899496825317]),
        (UnaryFn::Sinh, [-2.1292794550948173, 0.0, 0.5210953054937474, 6.0502044810397875]),
        (UnaryFn::Cosh, [2.352409615243247, 1.0, 1.1276259652063807, 6.132289479663686]),
        (UnaryFn::Tanh, [-0.9051482536448664, 0.0, 0.46211715726000973, 0.9866142981514303]),
        (UnaryFn::Asinh, [-1.1947632172871094, 0.0, 0.48121182505960347, 1.6472311463710958]),
        (UnaryFn::Acosh, [nan, nan, nan, 1.566799236972411]),
        (UnaryFn::Atanh, [nan, 0.0, 0.5493061443340548, nan]),
        (UnaryFn::Erf, [-0.9661051464753108, 0.0, 0.5204998778130465, 0.999593047982555]),
        (UnaryFn::Sigmoid, [0.18242552380635635, 0.5, 0.6224593312018546, 0.9241418199787566]),
        (UnaryFn::Softplus, [0.20141327798275246, 0.6931471805599453, 0.9740769841801067, 2.5788897342925496]),
        (UnaryFn::Floor, [-2.0, 0.0, 0.0, 2.0]),
        (UnaryFn::Ceil, [-1.0, 0.0, 1.0, 3.0]),
        (UnaryFn::Round, [-2.0, 0.0, 0.0, 2.0]),
        (UnaryFn::Trunc, [-1.0, 0.0, 0.0, 2.0]),
        (UnaryFn::Sign, [-1.0, 0.0, 1.0, 1.0]),
    ];
    for (function, expected) in cases {
        close(&unary(*function, &x), expected, 1e-13);
    }
    // What is not in the list above are logic and predicates.
    assert_eq!(cases.len() + 4, UnaryFn::ALL.len());
    let special = f(&[3], &[f32::NAN, f32::NEG_INFINITY, 1.0]);
    assert_eq!(unary(UnaryFn::IsNan, &special), b(&[3], &[1, 0, 0]));
    assert_eq!(unary(UnaryFn::IsInf, &special), b(&[3], &[0, 1, 0]));
    assert_eq!(unary(UnaryFn::IsNan, &i(&[1], &[3])), b(&[1], &[0]));
    assert_eq!(unary(UnaryFn::Not, &b(&[2], &[0, 1])), b(&[2], &[1, 0]));
    assert_eq!(unary(UnaryFn::BitNot, &i(&[1], &[5])), i(&[1], &[-6]));
    close(&unary(UnaryFn::Softplus, &f(&[2], &[1000.0, -1000.0])), &[1000.0, 0.0], 0.0);
}

#[test]
fn integers_wrap_in_their_own_width() {
    let x = Tensor::from_slice(&[2], &[-128i8, 100]).unwrap();
    let is = |found: Tensor, values: &[i8]| assert_eq!(found, Tensor::from_slice(&[values.len()], values).unwrap());
    is(unary(UnaryFn::Abs, &x), &[-128, 100]);
    is(unary(UnaryFn::Neg, &x), &[-128, -100]);
    is(binary(BinaryFn::Add, &x, &x), &[0, -56]);
    is(binary(BinaryFn::Mul, &x, &x), &[0, 16]);
    is(binary(BinaryFn::Div, &x, &Tensor::scalar(-1i8)), &[-128, -100]);
    is(binary(BinaryFn::Div, &x, &Tensor::scalar(0i8)), &[0, 0]);
    is(binary(BinaryFn::ShiftRight, &x, &Tensor::scalar(1i8)), &[64, 50]);
    is(binary(BinaryFn::ShiftLeft, &x, &Tensor::scalar(8i8)), &[0, 0]);
    is(binary(BinaryFn::ShiftLeft, &x, &Tensor::scalar(1i8)), &[0, -56]);
    let y = Tensor::from_slice(&[2], &[1u8, 200]).unwrap();
    assert_eq!(binary(BinaryFn::Sub, &y, &Tensor::scalar(2u8)), Tensor::from_slice(&[2], &[255u8, 198]).unwrap());
    let large = Tensor::from_slice(&[2], &[u64::MAX, 3]).unwrap();
    assert_eq!(binary(BinaryFn::Max, &large, &Tensor::scalar(5u64)), Tensor::from_slice(&[2], &[u64::MAX, 5]).unwrap());
    assert_eq!(
        binary(BinaryFn::Div, &large, &Tensor::scalar(2u64)),
        Tensor::from_slice(&[2], &[u64::MAX / 2, 1]).unwrap()
    );
    assert_eq!(binary(BinaryFn::Gt, &large, &Tensor::scalar(5u64)), b(&[2], &[1, 0]));
    assert_eq!(binary(BinaryFn::Div, &i(&[1], &[i64::MIN]), &i(&[1], &[-1])), i(&[1], &[i64::MIN]));
}

#[test]
fn remainders_and_powers_follow_python_and_c() {
    let (x, y) = (i(&[4], &[7, -7, 7, -7]), i(&[4], &[3, 3, -3, -3]));
    assert_eq!(binary(BinaryFn::Mod, &x, &y), i(&[4], &[1, 2, -2, -1]));
    assert_eq!(binary(BinaryFn::Rem, &x, &y), i(&[4], &[1, -1, 1, -1]));
    assert_eq!(binary(BinaryFn::Div, &x, &y), i(&[4], &[2, -2, -2, 2]));
    let (p, q) = (f(&[4], &[7.5, -7.5, 7.5, -7.5]), f(&[4], &[2.0, 2.0, -2.0, -2.0]));
    assert_eq!(binary(BinaryFn::Mod, &p, &q), f(&[4], &[1.5, 0.5, -0.5, -1.5]));
    assert_eq!(binary(BinaryFn::Rem, &p, &q), f(&[4], &[1.5, -1.5, 1.5, -1.5]));
    assert_eq!(
        binary(BinaryFn::Pow, &i(&[4], &[2, -2, -1, 5]), &i(&[4], &[10, 3, -3, -1])),
        i(&[4], &[1024, -8, -1, 0])
    );
    assert_eq!(binary(BinaryFn::Pow, &f(&[2], &[2.0, 4.0]), &f(&[2], &[-1.0, 0.5])), f(&[2], &[0.5, 2.0]));
    close(&binary(BinaryFn::Atan2, &f(&[2], &[1.0, -1.0]), &f(&[2], &[0.0, -1.0])), &[1.5707964, -2.3561945], 1e-6);
}

#[test]
fn comparisons_and_logic_broadcast() {
    let (x, y) = (f(&[2, 1], &[1.0, f32::NAN]), f(&[2], &[1.0, 2.0]));
    let is = |function, expected: [u8; 4]| assert_eq!(binary(function, &x, &y), b(&[2, 2], &expected), "{function}");
    is(BinaryFn::Eq, [1, 0, 0, 0]);
    is(BinaryFn::Ne, [0, 1, 1, 1]);
    is(BinaryFn::Lt, [0, 1, 0, 0]);
    is(BinaryFn::Le, [1, 1, 0, 0]);
    is(BinaryFn::Gt, [0, 0, 0, 0]);
    is(BinaryFn::Ge, [1, 0, 0, 0]);
    let (p, q) = (b(&[4], &[0, 0, 1, 1]), b(&[4], &[0, 1, 0, 1]));
    assert_eq!(binary(BinaryFn::And, &p, &q), b(&[4], &[0, 0, 0, 1]));
    assert_eq!(binary(BinaryFn::Or, &p, &q), b(&[4], &[0, 1, 1, 1]));
    assert_eq!(binary(BinaryFn::Xor, &p, &q), b(&[4], &[0, 1, 1, 0]));
    assert_eq!(binary(BinaryFn::BitXor, &i(&[1], &[6]), &i(&[1], &[3])), i(&[1], &[5]));
    assert_eq!(binary(BinaryFn::BitAnd, &i(&[1], &[6]), &i(&[1], &[-2])), i(&[1], &[6]));
    assert_eq!(binary(BinaryFn::BitOr, &i(&[1], &[6]), &i(&[1], &[1])), i(&[1], &[7]));
    let words =
        |list: &[&'static str]| Tensor::from_strings(&[list.len()], list.iter().map(|&w| w.into()).collect()).unwrap();
    assert_eq!(binary(BinaryFn::Eq, &words(&["a", "b"]), &words(&["b"])), b(&[2], &[0, 1]));
}

#[test]
fn nan_wins_and_zero_signs_do_not_matter() {
    let (x, y) = (f(&[3], &[f32::NAN, 1.0, 2.0]), f(&[3], &[0.0, f32::NAN, 1.0]));
    close(&binary(BinaryFn::Min, &x, &y), &[f64::NAN, f64::NAN, 1.0], 0.0);
    close(&binary(BinaryFn::Max, &x, &y), &[f64::NAN, f64::NAN, 2.0], 0.0);
}

#[test]
fn selection_keeps_bits() {
    let found = one(Op::Select {}, &[b(&[2, 1], &[1, 0]), f(&[], &[5.0]), f(&[2], &[1.0, 2.0])]);
    assert_eq!(found, f(&[2, 2], &[5.0, 5.0, 1.0, 2.0]));
}

#[test]
fn casts_round_once_and_read_text() {
    let cast = |x: &Tensor, dtype| one(Op::Cast { dtype, saturate: true }, std::slice::from_ref(x));
    assert_eq!(cast(&f(&[3], &[1.9, -1.9, 300.0]), DType::U8), Tensor::from_slice(&[3], &[1u8, 255, 44]).unwrap());
    assert_eq!(cast(&f(&[2], &[0.0, f32::NAN]), DType::Bool), b(&[2], &[0, 1]));
    close(&cast(&f(&[2], &[1000.0, f32::INFINITY]), DType::F8E4M3FN), &[448.0, 448.0], 0.0);
    let special = one(Op::Cast { dtype: DType::F8E5M2, saturate: false }, &[f(&[1], &[1e9])]);
    close(&special, &[f64::INFINITY], 0.0);
    // 1 + 2^-11 + 2^-40 is above the tie between two f16 values, but its f32 rounding is the tie itself.
    let just_above = Tensor::scalar(1.0 + 2f64.powi(-11) + 2f64.powi(-40));
    close(&cast(&just_above, DType::F16), &[1.0 + 2f64.powi(-10)], 0.0);
    let words = Tensor::from_strings(&[4], vec!["3.5".into(), "-INF".into(), "1e-3".into(), "NaN".into()]).unwrap();
    close(&cast(&words, DType::F32), &[3.5, f64::NEG_INFINITY, 0.001f32 as f64, f64::NAN], 0.0);
    assert!(
        fails(Op::Cast { dtype: DType::I64, saturate: true }, &[Tensor::from_strings(&[], vec!["x".into()]).unwrap()])
            .contains("`x`")
    );
    let text = cast(&f(&[5], &[0.5, 1e-5, 3e20, f32::NAN, 12.0]), DType::String);
    assert_eq!(text.strings().unwrap(), ["0.5", "1e-05", "3e+20", "NaN", "12.0"]);
    let half = cast(&cast(&f(&[1], &[0.1]), DType::F16), DType::String);
    assert_eq!(half.strings().unwrap(), ["0.1"]);
    assert_eq!(cast(&i(&[1], &[-7]), DType::String).strings().unwrap(), ["-7"]);
}

#[test]
fn reductions_keep_axes_and_have_identities() {
    let x = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let reduce = |function, axes: &[usize], x: &Tensor| {
        one(Op::Reduce { function, axes: axes.to_vec() }, std::slice::from_ref(x))
    };
    assert_eq!(reduce(ReduceFn::Sum, &[1], &x), f(&[2, 1], &[6.0, 15.0]));
    assert_eq!(reduce(ReduceFn::Prod, &[0], &x), f(&[1, 3], &[4.0, 10.0, 18.0]));
    assert_eq!(reduce(ReduceFn::Mean, &[0, 1], &x), f(&[1, 1], &[3.5]));
    assert_eq!(reduce(ReduceFn::Max, &[1], &x), f(&[2, 1], &[3.0, 6.0]));
    assert_eq!(reduce(ReduceFn::Min, &[], &x), x);
    close(&reduce(ReduceFn::Max, &[0], &f(&[2], &[f32::NAN, 1.0])), &[f64::NAN], 0.0);
    let none = f(&[2, 0], &[]);
    assert_eq!(reduce(ReduceFn::Sum, &[1], &none), f(&[2, 1], &[0.0, 0.0]));
    assert_eq!(reduce(ReduceFn::Prod, &[1], &none), f(&[2, 1], &[1.0, 1.0]));
    close(&reduce(ReduceFn::Max, &[1], &none), &[f64::NEG_INFINITY; 2], 0.0);
    close(&reduce(ReduceFn::Min, &[1], &none), &[f64::INFINITY; 2], 0.0);
    close(&reduce(ReduceFn::Mean, &[1], &none), &[f64::NAN; 2], 0.0);
    let no_bytes = Tensor::from_slice::<i8>(&[0], &[]).unwrap();
    assert_eq!(reduce(ReduceFn::Min, &[0], &no_bytes), Tensor::from_slice(&[1], &[127i8]).unwrap());
    assert_eq!(reduce(ReduceFn::Max, &[0], &no_bytes), Tensor::from_slice(&[1], &[-128i8]).unwrap());
    assert_eq!(
        reduce(ReduceFn::Sum, &[0], &Tensor::from_slice(&[2], &[100i8, 100]).unwrap()),
        Tensor::from_slice(&[1], &[-56i8]).unwrap()
    );
    let large = Tensor::from_slice(&[2], &[u64::MAX, 1]).unwrap();
    assert_eq!(reduce(ReduceFn::Max, &[0], &large), Tensor::from_slice(&[1], &[u64::MAX]).unwrap());
    assert_eq!(reduce(ReduceFn::Sum, &[0], &large), Tensor::from_slice(&[1], &[0u64]).unwrap());
    // Small terms are not lost beside a large one before the result rounds.
    let terms = f(&[3], &[1e8, 1.0, -1e8]);
    assert_eq!(reduce(ReduceFn::Sum, &[0], &terms), f(&[1], &[1.0]));
}

#[test]
fn extremes_have_the_first_or_last_index() {
    let x = f(&[2, 3], &[1.0, 3.0, 3.0, f32::NAN, 0.0, f32::NAN]);
    let arg = |function, axis, last| one(Op::ArgReduce { function, axis, last }, std::slice::from_ref(&x));
    assert_eq!(arg(ArgReduceFn::Max, 1, false), i(&[2, 1], &[1, 0]));
    assert_eq!(arg(ArgReduceFn::Max, 1, true), i(&[2, 1], &[2, 2]));
    assert_eq!(arg(ArgReduceFn::Min, 1, false), i(&[2, 1], &[0, 0]));
    assert_eq!(arg(ArgReduceFn::Min, 0, false), i(&[1, 3], &[1, 1, 1]));
    assert!(
        fails(Op::ArgReduce { function: ArgReduceFn::Max, axis: 0, last: false }, &[f(&[0], &[])]).contains("empty")
    );
}

#[test]
fn scans_run_in_both_directions() {
    let x = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let scan = |function, axis, exclusive, reverse| {
        one(Op::Scan { function, axis, exclusive, reverse }, std::slice::from_ref(&x))
    };
    assert_eq!(scan(ReduceFn::Sum, 1, false, false), f(&[2, 3], &[1.0, 3.0, 6.0, 4.0, 9.0, 15.0]));
    assert_eq!(scan(ReduceFn::Sum, 1, true, false), f(&[2, 3], &[0.0, 1.0, 3.0, 0.0, 4.0, 9.0]));
    assert_eq!(scan(ReduceFn::Sum, 1, false, true), f(&[2, 3], &[6.0, 5.0, 3.0, 15.0, 11.0, 6.0]));
    assert_eq!(scan(ReduceFn::Sum, 1, true, true), f(&[2, 3], &[5.0, 3.0, 0.0, 11.0, 6.0, 0.0]));
    assert_eq!(scan(ReduceFn::Max, 0, false, false), f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(scan(ReduceFn::Prod, 0, false, false), f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 10.0, 18.0]));
}

#[test]
fn bfloat_arithmetic_rounds_per_op() {
    let x = Tensor::from_slice(&[1], &[half::bf16::from_f32(256.0)]).unwrap();
    let one_more = Tensor::from_slice(&[1], &[half::bf16::from_f32(1.0)]).unwrap();
    close(&binary(BinaryFn::Add, &x, &one_more), &[256.0], 0.0);
}
