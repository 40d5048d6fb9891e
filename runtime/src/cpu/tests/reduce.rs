//! Reductions, scans and extremes of every form and several types against plain loops.

use super::{Isa, Rng, at_every_level};
use crate::cpu::reduce::*;
use proptest::prelude::*;
use tarsia_tensor::{ArgReduceFn, Class, DType, Numbers, Overflow, ReduceFn};

const FUNCTIONS: [ReduceFn; 4] = [ReduceFn::Sum, ReduceFn::Prod, ReduceFn::Min, ReduceFn::Max];
const TYPES: [DType; 9] =
    [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I8, DType::I64, DType::U8, DType::U32, DType::Bool];

/// Small whole numbers (exact in every type), now and then a NaN in floats.
fn data(dtype: DType, n: usize, seed: u64) -> Vec<f64> {
    let mut rng = Rng(seed);
    let limit = if dtype == DType::Bool { 2 } else { 3 };
    (0..n)
        .map(|_| match rng.below(40) {
            0 if dtype.class() == Class::Float => f64::NAN,
            _ => rng.below(limit) as f64,
        })
        .collect()
}

fn encode(dtype: DType, values: &[f64]) -> Vec<u64> {
    let bytes =
        Numbers::Float(values.to_vec()).cast(DType::F64, dtype, Overflow::Special).encode(dtype, Overflow::Special);
    let mut words = vec![0u64; bytes.len().div_ceil(8) + 1];
    bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    words
}

fn decode(dtype: DType, words: &[u64], n: usize) -> Vec<f64> {
    Numbers::decode(dtype, bytemuck::cast_slice(words), n).unwrap().to_f64()
}

fn fold(function: ReduceFn, dtype: DType, a: f64, b: f64) -> f64 {
    let bool = dtype == DType::Bool;
    match function {
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        ReduceFn::Min => a.min(b),
        ReduceFn::Max => a.max(b),
        ReduceFn::Prod => a * b,
        _ if bool => a.max(b),
        _ => a + b,
    }
}

fn start(function: ReduceFn, dtype: DType) -> f64 {
    let integer = !dtype.is_float();
    let bits = dtype.bits() as i32;
    match (function, dtype.class()) {
        (ReduceFn::Sum, _) => 0.0,
        (ReduceFn::Prod, _) => 1.0,
        (ReduceFn::Min, _) if dtype == DType::Bool => 1.0,
        (ReduceFn::Max, Class::Uint) => 0.0,
        (ReduceFn::Min, Class::Uint) => 2f64.powi(bits) - 1.0,
        (ReduceFn::Min, _) => {
            if integer {
                i64::MAX.wrapping_shr(64 - bits as u32) as f64
            } else {
                f64::INFINITY
            }
        }
        (_, _) => {
            if integer {
                -(2f64.powi(bits - 1))
            } else {
                f64::NEG_INFINITY
            }
        }
    }
}

/// Integers wrap; the reference computes in f64.
fn wrap(dtype: DType, x: f64) -> f64 {
    decode(dtype, &encode(dtype, &[x]), 1)[0]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn reductions_and_scans(
        function in prop::sample::select(&FUNCTIONS[..]), dtype in prop::sample::select(&TYPES[..]),
        outer in 0usize..4, n in 0usize..90, inner in prop::sample::select(&[0usize, 1, 1, 1, 3, 70, 300][..]),
        accumulate: bool, exclusive: bool, reverse: bool, seed: u64,
    ) {
        // Keep sums and products in range.
        let n = if matches!(dtype, DType::I8 | DType::U8) || function == ReduceFn::Prod { n % 6 } else { n };
        let step = if inner == 1 && seed % 2 == 0 { 1 } else { inner + 2 };
        let stride = n * step + 3;
        let source = data(dtype, outer * stride + 1, seed);
        let before = data(dtype, outer * inner + 1, seed ^ 1);
        let words = encode(dtype, &source);
        let at = |o: usize, i: usize, j: usize| o * stride + i * step + j;
        for isa in Isa::available() {
            let lengths = Lengths { outer, n, inner };
            let src = Slices { data: words.as_ptr().cast::<u8>(), outer: stride, step };
            let mut out = encode(dtype, &before);
            let dst = Slices { data: out.as_mut_ptr().cast::<u8>(), outer: inner, step: 0 };
            // SAFETY: all have room for the lengths.
            unsafe { reduce(isa, function, dtype, lengths, dst, src, accumulate) }.unwrap();
            let found = decode(dtype, &out, outer * inner);
            for o in 0..outer {
                for j in 0..inner {
                    let first = if accumulate { before[o * inner + j] } else { start(function, dtype) };
                    let expected = (0..n).fold(first, |sum, i| fold(function, dtype, sum, source[at(o, i, j)]));
                    let (f, e) = (found[o * inner + j], wrap(dtype, expected));
                    prop_assert!(f == e || f.is_nan() && e.is_nan(), "{isa} {f} {e} at {o},{j} n {n}");
                }
            }
            // In place half of the time.
            let mut scanned = words.clone();
            let data = scanned.as_mut_ptr().cast::<u8>();
            let src = if reverse { src } else { Slices { data: data.cast_const(), ..src } };
            let initial_words = encode(dtype, &before);
            let initial = Slices { data: initial_words.as_ptr().cast::<u8>(), outer: inner, step: 0 };
            let form = ScanForm { exclusive, reverse };
            let dst = Slices { data, outer: stride, step };
            // SAFETY: as above.
            unsafe { scan(isa, function, form, dtype, lengths, dst, src, accumulate.then_some(initial)) }.unwrap();
            let found = decode(dtype, &scanned, source.len());
            for (o, j) in (0..outer).flat_map(|o| (0..inner).map(move |j| (o, j))) {
                let mut sum = if accumulate { before[o * inner + j] } else { start(function, dtype) };
                for i in 0..n {
                    let i = if reverse { n - 1 - i } else { i };
                    let next = wrap(dtype, fold(function, dtype, sum, source[at(o, i, j)]));
                    let (f, e) = (found[at(o, i, j)], if exclusive { wrap(dtype, sum) } else { next });
                    prop_assert!(f == e || f.is_nan() && e.is_nan(), "{isa} scan {f} {e} at {o},{i},{j}");
                    sum = next;
                }
            }
        }
    }

    #[test]
    fn extremes_and_their_indices(
        dtype in prop::sample::select(&TYPES[..]), largest: bool, last: bool, outer in 0usize..4,
        cut in 1usize..20, more in 0usize..20, inner in prop::sample::select(&[0usize, 1, 5][..]), seed: u64,
    ) {
        let n = cut + more;
        let source = data(dtype, outer * n * inner + 1, seed);
        let words = encode(dtype, &source);
        let function = if largest { ArgReduceFn::Max } else { ArgReduceFn::Min };
        for isa in Isa::available() {
            let mut values = vec![0u64; outer * inner + 1];
            let mut indices = vec![0i64; outer * inner + 1];
            let dst = ArgResult {
                values: values.as_mut_ptr().cast(),
                values_outer: inner,
                indices: indices.as_mut_ptr(),
                indices_outer: inner,
            };
            let bytes = dtype.bits() / 8;
            for (from, len, accumulate) in [(0, cut, false), (cut, more, true)] {
                // SAFETY: the two parts of the axis are inside the source.
                unsafe {
                    let data = words.as_ptr().cast::<u8>().add(from * inner * bytes);
                    let src = Slices { data, outer: n * inner, step: inner };
                    let lengths = Lengths { outer, n: len, inner };
                    arg_reduce(isa, function, last, dtype, lengths, dst, src, from as i64, accumulate).unwrap();
                }
            }
            let found = decode(dtype, &values, outer * inner);
            for (o, j) in (0..outer).flat_map(|o| (0..inner).map(move |j| (o, j))) {
                let line: Vec<f64> = (0..n).map(|i| source[(o * n + i) * inner + j]).collect();
                let extreme = line.iter().fold(line[0], |a, &b| {
                    if a.is_nan() || b.is_nan() { f64::NAN } else if largest { a.max(b) } else { a.min(b) }
                });
                let is = |x: &f64| *x == extreme || x.is_nan() && extreme.is_nan();
                let index = if last { line.iter().rposition(is) } else { line.iter().position(is) };
                prop_assert_eq!(indices[o * inner + j], index.unwrap() as i64);
                prop_assert!(is(&found[o * inner + j]));
            }
        }
    }
}

#[test]
fn long_sums_stay_accurate() {
    at_every_level(|isa| {
        let row = vec![0.1f32; 100_000];
        let mut sum = 0f32;
        let dst = Slices { data: (&raw mut sum).cast::<u8>(), outer: 1, step: 0 };
        let src = Slices { data: row.as_ptr().cast::<u8>(), outer: 0, step: 1 };
        let lengths = Lengths { outer: 1, n: row.len(), inner: 1 };
        // SAFETY: one row, one result.
        unsafe { reduce(isa, ReduceFn::Sum, DType::F32, lengths, dst, src, false) }.unwrap();
        assert!((f64::from(sum) - 10_000.0).abs() < 0.05, "{isa}: {sum}");
    });
}
