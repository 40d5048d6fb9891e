//! Products of integers and of `f64`.

use super::{Isa, Rng, at_every_level};
use crate::cpu::gemm::*;
use crate::cpu::pack::*;
use tarsia_tensor::DType;

fn byte(x: u8, signed: bool) -> i64 {
    if signed { i64::from(x as i8) } else { i64::from(x) }
}

fn check_bytes(isa: Isa, m: usize, n: usize, k: usize, signs: (bool, bool), extreme: bool) {
    let mut rng = Rng((m * n + k) as u64);
    let mut bytes = |len: usize| -> Vec<u8> {
        (0..len).map(|_| if extreme { [0x80, 0xff, 0x7f][rng.below(3)] } else { rng.next() as u8 }).collect()
    };
    let (a, b) = (bytes(m * k), bytes(k * n));
    let mut pa = vec![0x55u32; packed_bytes_len(m, k, MR).unwrap() / 4];
    let mut pb = vec![0x55u32; packed_bytes_len(n, k, NR).unwrap() / 4];
    let groups = k.div_ceil(GROUP) * GROUP;
    let stride = n + 2;
    let mut c = vec![77i32; m * stride + 40];
    // SAFETY: the vectors have the packed lengths and the extents.
    unsafe {
        let source = Source { data: a.as_ptr(), outer: m, k, outer_stride: k, k_stride: 1 };
        pack_a_bytes(source, Panels { data: pa.as_mut_ptr().cast(), step: groups * MR });
        let source = Source { data: b.as_ptr(), outer: n, k, outer_stride: 1, k_stride: n };
        pack_b_bytes(source, Panels { data: pb.as_mut_ptr().cast(), step: groups * NR });
        let a = BytePanels { data: pa.as_ptr().cast(), step: groups * MR, signed: signs.0 };
        let b = BytePanels { data: pb.as_ptr().cast(), step: groups * NR, signed: signs.1 };
        for accumulate in [false, true] {
            let out = Out { data: c.as_mut_ptr(), stride, accumulate };
            mmad_bytes(isa, Extents { m, n, k }, a, b, out);
        }
    }
    for (at, &found) in c.iter().enumerate() {
        let (i, j) = (at / stride, at % stride);
        let expected = if i < m && j < n {
            2 * (0..k).map(|p| byte(a[i * k + p], signs.0) * byte(b[p * n + j], signs.1)).sum::<i64>() as i32
        } else {
            77
        };
        assert_eq!(found, expected, "{isa} {m}x{n}x{k} {signs:?} at {i},{j}");
    }
}

#[test]
fn byte_products_of_every_sign_are_exact() {
    at_every_level(|isa| {
        for signs in [(false, false), (false, true), (true, false), (true, true)] {
            for (m, n, k) in [(0, 3, 4), (1, 1, 0), (1, 1, 1), (12, 32, 4), (13, 33, 7), (30, 70, 65), (5, 40, 18)] {
                check_bytes(isa, m, n, k, signs, false);
                check_bytes(isa, m, n, k, signs, true);
            }
        }
    });
}

#[test]
fn plain_products_from_rows_and_from_panels() {
    at_every_level(|isa| {
        for (m, n, k) in [(0, 2, 2), (3, 5, 0), (4, 100, 7), (14, 35, 9)] {
            let mut rng = Rng(9);
            let a: Vec<i64> = (0..m * k).map(|_| rng.next() as i64).collect();
            let b: Vec<i64> = (0..k * n).map(|_| rng.next() as i64).collect();
            let mut panels = vec![0i64; packed_len(n, k, NR).unwrap()];
            let source = Source { data: b.as_ptr(), outer: n, k, outer_stride: 1, k_stride: n };
            // SAFETY: the vector has the packed length.
            unsafe { pack_b_raw(source, Panels { data: panels.as_mut_ptr(), step: k * NR }) };
            let rows = Blocked::dense(b.as_ptr().cast(), n, 1);
            let data = panels.as_ptr().cast();
            let packed = Blocked { data, block: [1, NR], outer: [NR, k * NR], inner: [0, 1] };
            for right in [rows, packed] {
                let mut c = vec![1i64; m * n];
                let left = Blocked::dense(a.as_ptr().cast(), k, 1);
                let out = Out { data: c.as_mut_ptr().cast(), stride: n, accumulate: true };
                // SAFETY: the vectors have the extents.
                unsafe { mmad_plain(isa, DType::I64, Extents { m, n, k }, left, right, out) }.unwrap();
                for i in 0..m {
                    for j in 0..n {
                        let products = (0..k).map(|p| a[i * k + p].wrapping_mul(b[p * n + j]));
                        assert_eq!(c[i * n + j], products.fold(1, i64::wrapping_add), "{isa} at {i},{j}");
                    }
                }
            }
        }
        let (a, b, mut c) = ([0.5f64, 2.0], [4.0f64, 8.0], [0.0f64]);
        let out = Out { data: c.as_mut_ptr().cast(), stride: 1, accumulate: false };
        let (left, right) = (Blocked::dense(a.as_ptr().cast(), 2, 1), Blocked::dense(b.as_ptr().cast(), 1, 1));
        // SAFETY: one row of two and one column of two.
        unsafe { mmad_plain(isa, DType::F64, Extents { m: 1, n: 1, k: 2 }, left, right, out) }.unwrap();
        assert_eq!(c, [18.0]);
    });
}
