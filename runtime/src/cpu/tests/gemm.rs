//! The matrix product on every instruction set against the exact product, on odd sizes.

use super::*;
use crate::cpu::gemm::*;
use crate::cpu::pack::*;
use half::{bf16, f16};
use proptest::prelude::*;

/// Row-major operands and the exact product.
struct Case {
    extents: Extents,
    a: Vec<f32>,
    b: Vec<f32>,
    product: Vec<f64>,
}

/// Elements are multiples of 1/64 below 2, exact in every format.
fn case(m: usize, n: usize, k: usize, seed: u64) -> Case {
    let mut rng = Rng(seed);
    let mut coarse =
        |len: usize| -> Vec<f32> { rng.units(len).into_iter().map(|x| (x * 64.0).round() / 32.0).collect() };
    let (a, b) = (coarse(m * k), coarse(k * n));
    let mut product = vec![0f64; m * n];
    for i in 0..m {
        for p in 0..k {
            for j in 0..n {
                product[i * n + j] += f64::from(a[i * k + p]) * f64::from(b[p * n + j]);
            }
        }
    }
    Case { extents: Extents { m, n, k }, a, b, product }
}

const GUARD: f32 = 12345.0;

impl Case {
    /// Runs a product twice, overwriting and then accumulating, into a guarded result and compares.
    fn check(&self, what: &str, run: impl Fn(Out<f32>)) {
        let Extents { m, n, .. } = self.extents;
        let stride = n + 3;
        let mut c = vec![GUARD; m * stride + 64];
        let data = c.as_mut_ptr();
        run(Out { data, stride, accumulate: false });
        run(Out { data, stride, accumulate: true });
        for (at, &found) in c.iter().enumerate() {
            let (i, j) = (at / stride, at % stride);
            if i < m && j < n {
                let expected = 2.0 * self.product[i * n + j];
                assert_near(found, expected, 1e-4, &format!("{what} {:?} at {i},{j}", self.extents));
            } else {
                assert_eq!(found, GUARD, "{what} {:?} wrote outside at {i},{j}", self.extents);
            }
        }
    }

    fn source_a(&self) -> Source<f32> {
        let Extents { m, k, .. } = self.extents;
        Source { data: self.a.as_ptr(), outer: m, k, outer_stride: k, k_stride: 1 }
    }

    fn source_b(&self) -> Source<f32> {
        let Extents { n, k, .. } = self.extents;
        Source { data: self.b.as_ptr(), outer: n, k, outer_stride: 1, k_stride: n }
    }

    fn packed(&self, isa: Isa) -> (Vec<f32>, Vec<f32>) {
        let Extents { m, n, k } = self.extents;
        let mut a = vec![f32::NAN; packed_len(m, k, MR).unwrap()];
        let mut b = vec![f32::NAN; packed_len(n, k, NR).unwrap()];
        // SAFETY: the vectors have the packed lengths.
        unsafe {
            pack_a_f32(isa, self.source_a(), Panels { data: a.as_mut_ptr(), step: k * MR });
            pack_b_f32(isa, self.source_b(), Panels { data: b.as_mut_ptr(), step: k * NR });
        }
        (a, b)
    }
}

fn transposed<T: Copy>(x: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..rows * cols).map(|i| x[(i % rows) * cols + i / rows]).collect()
}

fn check_all_forms(isa: Isa, case: &Case) {
    let Extents { m, n, k } = case.extents;
    let (pa, pb) = case.packed(isa);
    let at = transposed(&case.a, m, k);
    let bt = transposed(&case.b, k, n);
    let raw: Vec<u16> = case.b.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
    let brain: Vec<bf16> = case.b.iter().map(|&x| bf16::from_f32(x)).collect();
    let half: Vec<f16> = case.b.iter().map(|&x| f16::from_f32(x)).collect();
    let (brain_t, half_t) = (transposed(&brain, k, n), transposed(&half, k, n));
    let mut half_panels = vec![0u16; packed_len(n, k, NR).unwrap()];
    let panels = Panels { data: half_panels.as_mut_ptr(), step: k * NR };
    let source = Source { data: raw.as_ptr(), outer: n, k, outer_stride: 1, k_stride: n };
    // SAFETY: the vector has the packed length.
    unsafe { pack_b_raw(source, panels) };

    let lhs = [
        ("packed", Lhs::Panels { data: pa.as_ptr(), step: k * MR }),
        ("rows", Lhs::Strided { data: case.a.as_ptr(), row: k, col: 1 }),
        ("transposed", Lhs::Strided { data: at.as_ptr(), row: 1, col: m }),
    ];
    for (name, a) in lhs {
        let e = case.extents;
        let what = format!("{isa} A {name}");
        // SAFETY: all operands have the extents of the case.
        unsafe {
            case.check(&what, |out| mmad_f32(isa, e, a, Rhs::Panels { data: pb.as_ptr(), step: k * NR }, out));
            case.check(&what, |out| mmad_f32(isa, e, a, Rhs::Rows { data: case.b.as_ptr(), stride: n }, out));
            case.check(&what, |out| mmad_bf16(isa, e, a, Rhs::Rows { data: brain.as_ptr(), stride: n }, out));
            let half_b = Rhs::Panels { data: half_panels.as_ptr().cast::<f16>(), step: k * NR };
            case.check(&what, |out| mmad_f16(isa, e, a, half_b, out));
        }
    }
    let rows = RowMajor { data: case.a.as_ptr(), stride: k };
    // SAFETY: as above.
    unsafe {
        let e = case.extents;
        case.check("dot", |out| mmad_dot_f32(isa, e, rows, RowMajor { data: bt.as_ptr(), stride: k }, out));
        case.check("dot bf16", |out| mmad_dot_bf16(isa, e, rows, RowMajor { data: brain_t.as_ptr(), stride: k }, out));
        case.check("dot f16", |out| mmad_dot_f16(isa, e, rows, RowMajor { data: half_t.as_ptr(), stride: k }, out));
    }
}

#[test]
fn products_of_every_small_height_and_width() {
    at_every_level(|isa| {
        for m in 0..=13 {
            for n in [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65] {
                check_all_forms(isa, &case(m, n, 5, (m * 100 + n) as u64));
            }
        }
    });
}

#[test]
fn products_of_odd_depths() {
    at_every_level(|isa| {
        for k in [0, 1, 2, 3, 4, 7, 63, 64, 65, 130] {
            check_all_forms(isa, &case(25, 37, k, k as u64));
            check_all_forms(isa, &case(1, 70, k, k as u64));
        }
    });
}

#[test]
fn a_block_of_k_of_long_panels() {
    at_every_level(|isa| {
        let case = case(29, 45, 50, 1);
        let (a, b) = case.packed(isa);
        case.check("blocked", |out| {
            for (k0, k) in [(0, 16), (16, 30), (46, 4)] {
                let extents = Extents { k, ..case.extents };
                let out = Out { accumulate: out.accumulate || k0 > 0, ..out };
                // SAFETY: the panels have 50 steps.
                unsafe {
                    let a = Lhs::Panels { data: a.as_ptr().add(k0 * MR), step: 50 * MR };
                    let b = Rhs::Panels { data: b.as_ptr().add(k0 * NR), step: 50 * NR };
                    mmad_f32(isa, extents, a, b, out);
                }
            }
        });
    });
}

/// What packing must yield, element by element.
fn panels_of(source: &[f32], outer: usize, k: usize, strides: (usize, usize), width: usize) -> Vec<f32> {
    let mut panels = vec![0.0; packed_len(outer, k, width).unwrap()];
    for o in 0..outer {
        for p in 0..k {
            panels[o / width * width * k + p * width + o % width] = source[o * strides.0 + p * strides.1];
        }
    }
    panels
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn packing_places_every_element(outer in 0usize..80, k in 0usize..140, form in 0usize..3, seed: u64) {
        let strides = [(1, outer + 2), (k + 3, 1), (3, 3 * outer + 1)][form];
        let source = Rng(seed).units(outer.max(1) * strides.0 + k.max(1) * strides.1);
        let source: Vec<f32> = source.iter().map(|x| (x * 128.0).round() / 128.0).collect();
        let half: Vec<f16> = source.iter().map(|&x| f16::from_f32(x)).collect();
        let brain: Vec<bf16> = source.iter().map(|&x| bf16::from_f32(x)).collect();
        for isa in Isa::available() {
            for width in [MR, NR] {
                let expected = panels_of(&source, outer, k, strides, width);
                let mut found = vec![f32::NAN; expected.len()];
                let panels = Panels { data: found.as_mut_ptr(), step: k * width };
                let (outer_stride, k_stride) = strides;
                let f32s = Source { data: source.as_ptr(), outer, k, outer_stride, k_stride };
                let halves = Source { data: half.as_ptr(), outer, k, outer_stride, k_stride };
                let brains = Source { data: brain.as_ptr(), outer, k, outer_stride, k_stride };
                for format in 0..3 {
                    // SAFETY: the vectors have the extents given.
                    unsafe {
                        match (format, width == MR) {
                            (0, true) => pack_a_f32(isa, f32s, panels),
                            (0, false) => pack_b_f32(isa, f32s, panels),
                            (1, true) => pack_a_f16(isa, halves, panels),
                            (1, false) => pack_b_f16(isa, halves, panels),
                            (_, true) => pack_a_bf16(isa, brains, panels),
                            (_, false) => pack_b_bf16(isa, brains, panels),
                        }
                    }
                    prop_assert_eq!(&found, &expected, "{} width {} format {}", isa, width, format);
                    // SAFETY: as above.
                    unsafe { std::slice::from_raw_parts_mut(panels.data, expected.len()) }.fill(f32::NAN);
                }
            }
        }
    }
}
