//! Sorting and selection against a stable sort.

use super::Rng;
use crate::cpu::order::*;
use half::f16;
use proptest::prelude::*;
use tarsia_tensor::DType;

fn expected(row: &[f32], descending: bool) -> Vec<i64> {
    let mut indices: Vec<i64> = (0..row.len() as i64).collect();
    indices.sort_by(|&a, &b| {
        let (x, y) = (row[a as usize], row[b as usize]);
        let order = x.partial_cmp(&y).unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()));
        if descending { order.reverse() } else { order }
    });
    indices
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn sorts_and_selects(rows in 0usize..4, n in 0usize..60, k in 0usize..60, descending: bool, seed: u64) {
        let mut rng = Rng(seed);
        let k = k.min(n);
        let source: Vec<f32> = (0..rows * n)
            .map(|_| if rng.below(9) == 0 { f32::NAN } else { rng.below(20) as f32 - 9.0 })
            .collect();
        let half: Vec<f16> = source.iter().map(|&x| f16::from_f32(x)).collect();
        let (mut values, mut indices) = (vec![0f32; rows * n], vec![-1i64; rows * n]);
        let form = Ordered {
            rows, n, src: source.as_ptr().cast(), src_row: n,
            values: values.as_mut_ptr().cast(), values_row: n, indices: indices.as_mut_ptr(), indices_row: n,
        };
        // SAFETY: all have the rows.
        unsafe { sort_rows(DType::F32, descending, form) }.unwrap();
        for r in 0..rows {
            let row = &source[r * n..][..n];
            let order = expected(row, descending);
            prop_assert_eq!(&indices[r * n..][..n], &order[..]);
            for (i, &at) in order.iter().enumerate() {
                prop_assert_eq!(values[r * n + i].to_bits(), row[at as usize].to_bits());
            }
        }
        let (mut best, mut places) = (vec![f16::ZERO; rows * k], vec![-1i64; rows * k]);
        let form = Ordered {
            src: half.as_ptr().cast(), values: best.as_mut_ptr().cast(), values_row: k,
            indices: places.as_mut_ptr(), indices_row: k, ..form
        };
        // SAFETY: as above.
        unsafe { top_k_rows(DType::F16, descending, k, form) }.unwrap();
        for r in 0..rows {
            let order = expected(&source[r * n..][..n], descending);
            prop_assert_eq!(&places[r * k..][..k], &order[..k]);
        }
    }
}
