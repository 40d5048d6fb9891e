//! Gathering, scattering and selecting rows, and scaled rows.

use super::{Rng, assert_near, at_every_level};
use crate::cpu::rows::*;
use crate::cpu::vector::{Dst, Src};
use tarsia_tensor::{DType, ScatterFn};

fn indices(data: &[i64]) -> Indices {
    Indices { data: data.as_ptr().cast(), dtype: DType::I64, len: data.len() }
}

#[test]
fn gathers_rows_and_refuses_bad_indices() {
    at_every_level(|isa| {
        for cols in [1usize, 7, 16, 40, 100] {
            let source = Rng(1).units(5 * cols);
            let picks = [4i64, 0, 0, 3];
            let mut out = vec![0f32; 4 * cols];
            let (src, dst) = (source.as_ptr().cast(), out.as_mut_ptr().cast());
            let bytes = 4 * cols;
            // SAFETY: five rows and four.
            unsafe { gather_rows(isa, bytes, 5, src, bytes, indices(&picks), dst, bytes) }.unwrap();
            for (j, &row) in picks.iter().enumerate() {
                assert_eq!(out[j * cols..][..cols], source[row as usize * cols..][..cols]);
            }
            for bad in [5i64, -1] {
                // SAFETY: as above; bad indices are refused.
                let refused = unsafe { gather_rows(isa, bytes, 5, src, bytes, indices(&[1, bad]), dst, bytes) };
                assert_eq!(refused, Err(RowError::OutOfRange { position: 1, index: bad, rows: 5 }));
            }
        }
    });
}

#[test]
fn scatters_combine_repeated_rows() {
    at_every_level(|isa| {
        let picks = [2i64, 0, 2];
        for (function, expected) in [
            (ScatterFn::Set, [3.0, 1.0, 5.0]),
            (ScatterFn::Add, [4.0, 1.0, 8.0]),
            (ScatterFn::Mul, [3.0, 1.0, 10.0]),
            (ScatterFn::Min, [1.0, 1.0, 1.0]),
            (ScatterFn::Max, [3.0, 1.0, 5.0]),
        ] {
            let updates: Vec<f32> = [2.0f32, 3.0, 5.0].iter().flat_map(|&x| [x; 19]).collect();
            let mut out = vec![1f32; 3 * 19];
            let dst = Dst { data: out.as_mut_ptr().cast(), row: 19 };
            let src = Src { data: updates.as_ptr().cast(), row: 19, col: 1 };
            // SAFETY: three rows each.
            unsafe { scatter_rows(isa, function, DType::F32, 19, 3, dst, indices(&picks), src) }.unwrap();
            for r in 0..3 {
                assert!(out[r * 19..][..19].iter().all(|&x| x == expected[r]), "{isa} {function}: {out:?}");
            }
        }
    });
}

#[test]
fn selects_the_rows_of_an_expert() {
    let ids = [3i32, 1, 3, 0, 3];
    let mut out = [-1i64; 5];
    let data = out.as_mut_ptr().cast();
    // SAFETY: five elements each.
    let count = unsafe { select_rows(DType::I32, ids.as_ptr().cast(), 5, 3, 100, DType::I64, data) };
    assert_eq!(count, Ok(3));
    assert_eq!(out[..3], [100, 102, 104]);
}

#[test]
fn adds_scaled_rows_with_any_step() {
    at_every_level(|isa| {
        for step in [1usize, 2, 3] {
            for n in [0usize, 1, 7, 8, 16, 33] {
                let row = Rng(2).units((n * step).saturating_sub(step - 1));
                let before = Rng(3).units(n);
                let mut out = before.clone();
                // SAFETY: the last element read is `(n - 1) * step`.
                unsafe { add_scaled_row(isa, out.as_mut_ptr(), row.as_ptr(), step, 1.5, n) };
                for i in 0..n {
                    assert_near(out[i], f64::from(before[i]) + 1.5 * f64::from(row[i * step]), 1e-6, &isa);
                }
            }
        }
    });
}
