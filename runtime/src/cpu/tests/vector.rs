//! Point-wise instructions of every type, form and broadcast against one-element arithmetic.

use super::{Isa, Rng, assert_near, at_every_level};
use crate::cpu::number::{Number, with_number};
use crate::cpu::vector::*;
use proptest::prelude::*;
use tarsia_tensor::{BinaryFn, Class, DType, Numbers, Overflow, UnaryFn};

/// Elements of a type, among them extreme ones.
fn elements(dtype: DType, n: usize, rng: &mut Rng) -> Vec<u8> {
    let numbers = match dtype.class() {
        Class::Float => Numbers::Float(
            (0..n)
                .map(|_| match rng.below(12) {
                    0 => f64::NAN,
                    1 => f64::INFINITY,
                    2 => f64::NEG_INFINITY,
                    3 => 0.0,
                    4 => f64::from(rng.unit()) * 1e-42,
                    5 => rng.below(7) as f64 - 3.0,
                    _ => f64::from(rng.unit()) * 8.0,
                })
                .collect(),
        ),
        Class::Int => Numbers::Int((0..n).map(|_| extreme(rng) as i64).collect()),
        _ if dtype == DType::Bool => Numbers::Uint((0..n).map(|_| rng.next() & 1).collect()),
        _ => Numbers::Uint((0..n).map(|_| extreme(rng)).collect()),
    };
    numbers.encode(dtype, Overflow::Special)
}

fn extreme(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << 63,
        3 => 0x8080_8080_8080_8080,
        4 => rng.next(),
        _ => rng.below(9) as u64,
    }
}

/// The meaning of a binary function on one element, written plainly.
fn expected<T: Number>(f: BinaryFn, a: T, b: T) -> Result<T, bool> {
    Ok(match f {
        BinaryFn::Add => a.add(b),
        BinaryFn::Sub => a.sub(b),
        BinaryFn::Mul => a.mul(b),
        BinaryFn::Div => a.div(b),
        BinaryFn::Min => {
            if a.is_nan() || (!b.is_nan() && a < b) {
                a
            } else {
                b
            }
        }
        BinaryFn::Max => {
            if a.is_nan() || (!b.is_nan() && a > b) {
                a
            } else {
                b
            }
        }
        BinaryFn::Rem => a.rem(b),
        BinaryFn::Mod => a.modulo(b),
        BinaryFn::Pow => a.pow(b),
        BinaryFn::Eq => return Err(a == b),
        BinaryFn::Ne => return Err(a != b),
        BinaryFn::Lt => return Err(a < b),
        BinaryFn::Le => return Err(a <= b),
        BinaryFn::Gt => return Err(a > b),
        BinaryFn::Ge => return Err(a >= b),
        _ => unreachable!(),
    })
}

const FUNCTIONS: [BinaryFn; 15] = [
    BinaryFn::Add,
    BinaryFn::Sub,
    BinaryFn::Mul,
    BinaryFn::Div,
    BinaryFn::Min,
    BinaryFn::Max,
    BinaryFn::Rem,
    BinaryFn::Mod,
    BinaryFn::Pow,
    BinaryFn::Eq,
    BinaryFn::Ne,
    BinaryFn::Lt,
    BinaryFn::Le,
    BinaryFn::Gt,
    BinaryFn::Ge,
];

fn check_binary<T: Number + std::fmt::Debug>(
    isa: Isa,
    f: BinaryFn,
    dtype: DType,
    area: Area,
    forms: [(usize, usize); 2],
    in_place: bool,
    seed: u64,
) {
    let size = size_of::<T>();
    let mut rng = Rng(seed);
    let Area { rows, cols } = area;
    let pitch = 2 * cols + 2;
    let count = rows * pitch + 8;
    let strides = |form: (usize, usize)| (form.0 * pitch, form.1);
    // Aligned storage.
    let mut data = || -> Vec<u64> {
        let bytes = elements(dtype, count, &mut rng);
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..bytes.len()].copy_from_slice(&bytes);
        words
    };
    let (mut a, b, mut out) = (data(), data(), data());
    let (before_a, before_out) = (a.clone(), out.clone());
    let source = |d: &[u64], form| {
        let (row, col) = strides(form);
        Src { data: d.as_ptr().cast(), row: row as isize, col: col as isize }
    };
    let in_place = in_place && forms[0] == (1, 1) && !f.is_comparison();
    let (a_src, b_src) = (source(&a, forms[0]), source(&b, forms[1]));
    let target = if in_place { a.as_mut_ptr() } else { out.as_mut_ptr() };
    let dst = Dst { data: target.cast(), row: pitch as isize };
    // SAFETY: all have room for the rows.
    unsafe { binary(isa, f, dtype, area, dst, a_src, b_src) }.unwrap();
    let element = |d: &[u64], at: usize| -> T {
        // SAFETY: `at` is below the count.
        unsafe { *d.as_ptr().cast::<T>().add(at) }
    };
    let result = if in_place { &a } else { &out };
    let before = if in_place { &before_a } else { &before_out };
    let same = |x: T, y: T| x == y || x.is_nan() && y.is_nan();
    for r in 0..rows {
        for c in 0..cols {
            let pick = |d: &[u64], form| {
                let (row, col) = strides(form);
                element(d, r * row + c * col)
            };
            let (x, y) = (pick(&before_a, forms[0]), pick(&b, forms[1]));
            match expected(f, x, y) {
                Ok(z) => {
                    let found = element(result, r * pitch + c);
                    assert!(
                        same(found, z) || close(found, z, f),
                        "{isa} {f} {dtype} {x:?} {y:?}: {found:?}, not {z:?}"
                    );
                }
                Err(z) => {
                    let found = bytemuck::cast_slice::<u64, u8>(result)[r * pitch + c];
                    assert_eq!(found, u8::from(z), "{isa} {f} {dtype} {x:?} {y:?}");
                }
            }
        }
        let after = if f.is_comparison() { (r * pitch + cols).div_ceil(size) + 8 } else { r * pitch + cols };
        if !f.is_comparison() && after < count {
            assert!(same(element(result, after), element(before, after)), "{isa} {f} {dtype} wrote beyond the row");
        }
    }
}

/// Powers by multiplication may differ from the library's in the last place.
fn close<T: Number>(x: T, y: T, f: BinaryFn) -> bool {
    f == BinaryFn::Pow && T::CLASS == Class::Float && (x.to_f64() - y.to_f64()).abs() <= y.to_f64().abs() * 3e-7
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn binary_functions_of_numbers(
        f in prop::sample::select(&FUNCTIONS[..]), rows in 0usize..5, cols in 0usize..70,
        forms in prop::array::uniform2((0usize..2, 0usize..3)), in_place: bool, seed: u64,
    ) {
        for isa in Isa::available() {
            for &dtype in DType::ALL.iter().filter(|d| **d != DType::Bool) {
                let area = Area { rows, cols };
                with_number!(dtype, T => check_binary::<T>(isa, f, dtype, area, forms, in_place, seed), _ => ());
            }
        }
    }
}

#[test]
fn long_rows_are_cut_into_pieces() {
    for isa in Isa::available() {
        for cols in [255, 256, 257, 1000] {
            check_binary::<i32>(isa, BinaryFn::Sub, DType::I32, Area { rows: 2, cols }, [(1, 1), (1, 0)], true, 3);
            check_binary::<f32>(isa, BinaryFn::Max, DType::F32, Area { rows: 2, cols }, [(0, 1), (1, 1)], false, 3);
        }
    }
}

fn run_binary<T: bytemuck::Pod, R: bytemuck::Pod>(f: BinaryFn, dtype: DType, a: &[T], b: &[T]) -> Vec<R> {
    let mut results: Vec<Vec<R>> = Vec::new();
    for isa in Isa::available() {
        let mut out = vec![R::zeroed(); a.len()];
        let src = |x: &[T]| Src { data: x.as_ptr().cast(), row: 0, col: 1 };
        let dst = Dst { data: out.as_mut_ptr().cast(), row: 0 };
        // SAFETY: all have the same length.
        unsafe { binary(isa, f, dtype, Area { rows: 1, cols: a.len() }, dst, src(a), src(b)) }.unwrap();
        results.push(out);
    }
    let bytes = |v: &[R]| bytemuck::cast_slice::<R, u8>(v).to_vec();
    assert!(results.windows(2).all(|w| bytes(&w[0]) == bytes(&w[1])), "{f} differs between levels");
    results.remove(0)
}

#[test]
fn integers_wrap_and_never_trap() {
    use BinaryFn::*;
    let run = |f, a: &[i32], b: &[i32]| run_binary::<i32, i32>(f, DType::I32, a, b);
    assert_eq!(run(Div, &[7, -7, 7, i32::MIN], &[2, 2, 0, -1]), [3, -3, 0, i32::MIN]);
    assert_eq!(run(Rem, &[7, -7, 7, i32::MIN], &[3, 3, 0, -1]), [1, -1, 0, 0]);
    assert_eq!(run(Mod, &[7, -7, 7, -7], &[3, 3, -3, 0]), [1, 2, -2, 0]);
    assert_eq!(run(Pow, &[2, -1, 2, 3, 0], &[10, -3, -1, 21, 0]), [1024, -1, 0, 3i32.wrapping_pow(21), 1]);
    assert_eq!(run(ShiftLeft, &[1, 1, -1], &[31, 32, -1]), [i32::MIN, 0, 0]);
    assert_eq!(run(ShiftRight, &[-1, -1, 4], &[31, 32, 1]), [1, 0, 2]);
    let bytes = |f, a: &[u8], b: &[u8]| run_binary::<u8, u8>(f, DType::U8, a, b);
    assert_eq!(bytes(ShiftRight, &[0x80, 0xff], &[7, 8]), [1, 0]);
    assert_eq!(bytes(BitXor, &[0xf0], &[0xff]), [0x0f]);
    assert_eq!(bytes(Add, &[250], &[10]), [4]);
}

#[test]
fn logic_and_angles() {
    use BinaryFn::*;
    let (a, b) = ([0u8, 0, 1, 1], [0u8, 1, 0, 1]);
    let run = |f| run_binary::<u8, u8>(f, DType::Bool, &a, &b);
    assert_eq!(run(And), [0, 0, 0, 1]);
    assert_eq!(run(Or), [0, 1, 1, 1]);
    assert_eq!(run(Xor), [0, 1, 1, 0]);
    assert_eq!(run(Eq), [1, 0, 0, 1]);
    let angle = run_binary::<f32, f32>(Atan2, DType::F32, &[1.0, -1.0, 0.0], &[0.0, -1.0, -1.0]);
    assert_eq!(angle, [1.0f32.atan2(0.0), (-1.0f32).atan2(-1.0), std::f32::consts::PI]);
    let powers = run_binary::<f32, f32>(Pow, DType::F32, &[f32::NEG_INFINITY, 2.0, -8.0], &[0.5, 0.5, 3.0]);
    assert_eq!(powers, [f32::INFINITY, 2f32.sqrt(), -512.0]);
    assert!(!has_binary(BitAnd, DType::F32) && has_binary(Add, DType::F16) && !has_unary(UnaryFn::BitNot, DType::F64));
}

#[test]
fn half_precision_widens() {
    use half::f16;
    let a: Vec<f16> = (0..600).map(|i| f16::from_f32(i as f32 / 16.0)).collect();
    let b = vec![f16::from_f32(3.0); 600];
    let sum = run_binary::<f16, f16>(BinaryFn::Add, DType::F16, &a, &b);
    assert!(a.iter().zip(&sum).all(|(a, s)| *s == f16::from_f32(a.to_f32() + 3.0)));
    let less = run_binary::<f16, u8>(BinaryFn::Lt, DType::F16, &a, &b);
    assert!(a.iter().zip(&less).all(|(a, l)| (*l == 1) == (a.to_f32() < 3.0)));
}

#[test]
fn selection_multiply_add_fill_and_iota() {
    at_every_level(|isa| {
        let mut rng = Rng(5);
        for (rows, cols) in [(0, 3), (1, 1), (3, 7), (2, 33), (5, 16)] {
            let n = rows * cols;
            let truth: Vec<u8> = (0..n).map(|_| (rng.next() & 1) as u8).collect();
            let (a, b, c) = (rng.units(n), rng.units(n), rng.units(rows.max(1)));
            let mut out = vec![0f32; n];
            let area = Area { rows, cols };
            let dst = Dst { data: out.as_mut_ptr().cast(), row: cols as isize };
            let flat = |x: *const u8| Src { data: x, row: cols as isize, col: 1 };
            let column = Src { data: c.as_ptr().cast(), row: 1, col: 0 };
            let (pa, pb) = (flat(a.as_ptr().cast()), flat(b.as_ptr().cast()));
            // SAFETY: all have the area's elements, `c` one per row.
            unsafe {
                select(isa, DType::F32, area, dst, flat(truth.as_ptr()), pa, column).unwrap();
                for i in 0..n {
                    assert_eq!(out[i], if truth[i] != 0 { a[i] } else { c[i / cols] });
                }
                mul_add(isa, DType::F32, area, dst, pa, pb, column).unwrap();
                for i in 0..n {
                    assert_near(out[i], f64::from(a[i]) * f64::from(b[i]) + f64::from(c[i / cols]), 1e-6, &"mul_add");
                }
                fill(4, area, dst, (&raw const rng.0).cast());
                assert!(out.iter().all(|x| x.to_bits() == rng.0 as u32));
                iota(DType::F32, area, dst, 5, 100, -2).unwrap();
                for i in 0..n {
                    assert_eq!(out[i], (5 + 100 * (i / cols) as i64 - 2 * (i % cols) as i64) as f32);
                }
            }
        }
    });
}

#[test]
fn predicates_find_special_values() {
    at_every_level(|isa| {
        let x = [1.0f32, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0];
        let mut out = [9u8; 5];
        for (f, expected) in [(UnaryFn::IsNan, [0, 1, 0, 0, 0]), (UnaryFn::IsInf, [0, 0, 1, 1, 0])] {
            let dst = Dst { data: out.as_mut_ptr(), row: 0 };
            let src = Src { data: x.as_ptr().cast(), row: 0, col: 1 };
            // SAFETY: five elements each.
            unsafe { unary(isa, f, DType::F32, Area { rows: 1, cols: 5 }, dst, src) }.unwrap();
            assert_eq!(out, expected, "{isa} {f}");
        }
    });
}

#[test]
fn reversed_rows_and_columns() {
    at_every_level(|isa| {
        let x: Vec<f32> = (0..600).map(|i| i as f32).collect();
        let mut out = vec![0f32; 600];
        let data = x.as_ptr().wrapping_add(599).cast();
        let dst = Dst { data: out.as_mut_ptr().cast(), row: 300 };
        // SAFETY: two rows of 300, read backwards from the last element.
        unsafe {
            let src = Src { data, row: -300, col: -1 };
            unary(isa, UnaryFn::Neg, DType::F32, Area { rows: 2, cols: 300 }, dst, src).unwrap();
        }
        assert!((0..600).all(|i| out[i] == -x[599 - i]));
    });
}

#[test]
fn integers_go_through_floats_where_a_function_needs_them() {
    at_every_level(|isa| {
        let x = [0i32, 1, 4, 10, 101];
        for (f, expected) in [(UnaryFn::Sqrt, [0, 1, 2, 3, 10]), (UnaryFn::Not, [1, 0, 0, 0, 0]), (UnaryFn::Ceil, x)] {
            let mut out = [7i32; 5];
            let dst = Dst { data: out.as_mut_ptr().cast(), row: 0 };
            let src = Src { data: x.as_ptr().cast(), row: 0, col: 1 };
            // SAFETY: five elements each.
            unsafe { unary(isa, f, DType::I32, Area { rows: 1, cols: 5 }, dst, src) }.unwrap();
            assert_eq!(out, expected, "{isa} {f}");
        }
    });
}
