//! Conversions between every two element types against the tensor crate's.

use super::*;
use crate::cpu::vector::{Area, Dst, Src, cast};
use tarsia_tensor::{Class, DType, Numbers, Overflow};

const COUNT: usize = 300;

/// Values that every type finds hard.
fn values(dtype: DType) -> Vec<u8> {
    let mut rng = Rng(11);
    let numbers = match dtype.class() {
        Class::Float => Numbers::Float(
            (0..COUNT)
                .map(|i| match i % 16 {
                    0 => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e30, -1e30, 65519.0, 65520.0][i / 16 % 8],
                    1 => [448.0, 464.0, 465.0, 57344.0, 61440.0, 240.0, 250.0, 6.5][i / 16 % 8],
                    2..5 => f64::from(rng.unit()) * 1e-6,
                    5..10 => f64::from(rng.unit()) * 300.0,
                    _ => f64::from(rng.unit()) * 70_000.0,
                })
                .collect(),
        ),
        Class::Int => Numbers::Int((0..COUNT).map(|_| rng.next() as i64 >> rng.below(63)).collect()),
        _ => Numbers::Uint((0..COUNT).map(|_| rng.next() >> rng.below(63)).collect()),
    };
    numbers.encode(dtype, Overflow::Special)
}

#[test]
fn every_pair_of_types_agrees_with_the_reference() {
    at_every_level(|isa| {
        for &from in DType::ALL.iter().filter(|d| d.is_numeric()) {
            let source = values(from);
            let numbers = Numbers::decode(from, &source, COUNT).unwrap();
            for &to in DType::ALL.iter().filter(|d| d.is_numeric()) {
                for overflow in [Overflow::Saturate, Overflow::Special] {
                    let expected = numbers.cast(from, to, overflow).encode(to, overflow);
                    let mut aligned = vec![0u64; COUNT + 1];
                    let mut found = vec![0u64; COUNT + 1];
                    bytemuck::cast_slice_mut::<u64, u8>(&mut aligned)[..source.len()].copy_from_slice(&source);
                    let dst = Dst { data: found.as_mut_ptr().cast(), row: COUNT as isize };
                    let src = Src { data: aligned.as_ptr().cast(), row: COUNT as isize, col: 1 };
                    let saturate = overflow == Overflow::Saturate;
                    // SAFETY: both have room for COUNT elements of any type.
                    unsafe { cast(isa, from, to, saturate, Area { rows: 1, cols: COUNT }, dst, src) }.unwrap();
                    let bytes = &bytemuck::cast_slice::<u64, u8>(&found)[..expected.len()];
                    let decode = |bytes| Numbers::decode(to, bytes, COUNT).unwrap();
                    let (found, expected) = (decode(bytes).to_f64(), decode(&expected).to_f64());
                    for i in 0..COUNT {
                        let (f, e) = (found[i], expected[i]);
                        assert!(
                            f == e || f.is_nan() && e.is_nan(),
                            "{isa} {from} to {to}, {overflow:?}: {:?} gave {f}, not {e}",
                            numbers.to_f64()[i]
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn repeats_and_works_in_place() {
    at_every_level(|isa| {
        let mut x: Vec<f32> = (0..600).map(|i| i as f32 - 7.5).collect();
        let area = Area { rows: 1, cols: 600 };
        let data = x.as_mut_ptr().cast::<u8>();
        // SAFETY: 600 elements of the same width.
        unsafe {
            let src = Src { data, row: 600, col: 1 };
            cast(isa, DType::F32, DType::I32, false, area, Dst { data, row: 600 }, src).unwrap();
        }
        assert!((0..600).all(|i| x[i].to_bits() as i32 == (i as f32 - 7.5) as i32));
        let (column, mut wide) = ([1u8, 200], [0i64; 10]);
        let dst = Dst { data: wide.as_mut_ptr().cast(), row: 5 };
        // SAFETY: two rows of five.
        unsafe {
            let src = Src { data: column.as_ptr(), row: 1, col: 0 };
            cast(isa, DType::U8, DType::I64, false, Area { rows: 2, cols: 5 }, dst, src).unwrap();
        }
        assert_eq!(wide, [1, 1, 1, 1, 1, 200, 200, 200, 200, 200]);
    });
}
