//! Accuracy of the elementary functions of `f32`, in units in the last place.

use super::*;
use crate::cpu::vector::{Area, Dst, Src, unary};
use tarsia_tensor::{DType, UnaryFn};

fn apply(isa: Isa, function: UnaryFn, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len()];
    let area = Area { rows: 1, cols: x.len() };
    let dst = Dst { data: y.as_mut_ptr().cast(), row: 0 };
    // SAFETY: both have the area's length.
    unsafe { unary(isa, function, DType::F32, area, dst, Src { data: x.as_ptr().cast(), row: 0, col: 1 }) }.unwrap();
    y
}

/// Distance in representable numbers (or in the smallest denormals near zero).
fn ulps(found: f32, expected: f64) -> f64 {
    if expected.is_nan() || found.is_nan() {
        return if expected.is_nan() && found.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let nearest = expected as f32;
    if nearest.is_infinite() || found.is_infinite() {
        // Right at the border either side is one step.
        let other = if found.is_infinite() { nearest } else { found };
        return if found == nearest {
            0.0
        } else if other.abs() == f32::MAX {
            1.0
        } else {
            f64::INFINITY
        };
    }
    let magnitude = nearest.abs().max(f32::MIN_POSITIVE);
    let step = f64::from(f32::from_bits(magnitude.to_bits() + 1)) - f64::from(magnitude);
    (f64::from(found) - expected).abs() / step
}

/// Samples of every magnitude and sign, the whole of `range` densely, and the special values.
fn samples(range: f32) -> Vec<f32> {
    let mut rng = Rng(7);
    let mut x: Vec<f32> = (0..40_000).map(|_| f32::from_bits(rng.next() as u32)).collect();
    x.extend((0..40_000).map(|_| rng.unit() * range));
    x.extend((-2000..=2000).map(|i| i as f32 / 2000.0 * range));
    x.extend([0.0, -0.0, 1.0, -1.0, 0.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, -1e-45]);
    x.extend([f32::MAX, f32::MIN, f32::MIN_POSITIVE, 88.72283, 88.72284, -103.97, -87.33655, 8192.0, 1e5, 2e5]);
    x
}

#[test]
fn functions_are_within_four_ulps() {
    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }
    fn softplus(x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }
    let table: [(UnaryFn, fn(f64) -> f64, f32, f64); 20] = [
        (UnaryFn::Exp, f64::exp, 100.0, 2.0),
        (UnaryFn::Log, f64::ln, 10.0, 2.0),
        (UnaryFn::Rsqrt, |x| 1.0 / x.sqrt(), 10.0, 2.0),
        (UnaryFn::Sin, f64::sin, 100.0, 2.0),
        (UnaryFn::Cos, f64::cos, 100.0, 2.0),
        (UnaryFn::Tan, f64::tan, 100.0, 4.0),
        (UnaryFn::Asin, f64::asin, 1.0, 3.0),
        (UnaryFn::Acos, f64::acos, 1.0, 3.0),
        (UnaryFn::Atan, f64::atan, 10.0, 3.0),
        (UnaryFn::Sinh, f64::sinh, 90.0, 4.0),
        (UnaryFn::Cosh, f64::cosh, 90.0, 4.0),
        (UnaryFn::Tanh, f64::tanh, 10.0, 3.0),
        (UnaryFn::Asinh, f64::asinh, 10.0, 4.0),
        (UnaryFn::Acosh, f64::acosh, 10.0, 4.0),
        (UnaryFn::Atanh, f64::atanh, 1.0, 4.0),
        (UnaryFn::Erf, crate::cpu::special::erf, 5.0, 3.0),
        (UnaryFn::Sigmoid, sigmoid, 100.0, 3.0),
        (UnaryFn::Softplus, softplus, 30.0, 4.0),
        (UnaryFn::Sqrt, f64::sqrt, 10.0, 0.51),
        (UnaryFn::Reciprocal, |x| 1.0 / x, 10.0, 0.51),
    ];
    at_every_level(|isa| {
        let mut failures = Vec::new();
        for (function, reference, range, limit) in table {
            let x = samples(range);
            let worst = x
                .iter()
                .zip(apply(isa, function, &x))
                .map(|(&x, y)| (ulps(y, reference(f64::from(x))), x, y))
                .fold((0.0, 0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
            println!("{isa} {function}: {:.2} ulp at {:e}", worst.0, worst.1);
            if worst.0 > limit {
                failures.push(format!("{isa} {function}: {} ulp at {:e}: {:e}", worst.0, worst.1, worst.2));
            }
        }
        assert!(failures.is_empty(), "{failures:#?}");
    });
}

#[test]
fn rounding_and_signs_are_exact() {
    let table: [(UnaryFn, fn(f32) -> f32); 7] = [
        (UnaryFn::Abs, f32::abs),
        (UnaryFn::Neg, |x| -x),
        (UnaryFn::Floor, f32::floor),
        (UnaryFn::Ceil, f32::ceil),
        (UnaryFn::Round, f32::round_ties_even),
        (UnaryFn::Trunc, f32::trunc),
        (UnaryFn::Sign, |x| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        }),
    ];
    let mut x = samples(1000.0);
    x.extend([0.5, 1.5, 2.5, -0.5, -1.5, 8_388_607.5, -8_388_608.0]);
    at_every_level(|isa| {
        for (function, reference) in table {
            for (&x, y) in x.iter().zip(apply(isa, function, &x)) {
                assert!(y == reference(x) || x.is_nan() && y.is_nan(), "{isa} {function} {x}: {y}");
            }
        }
    });
}
