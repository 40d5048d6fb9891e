//! Matrix products in GFLOP/s (shown as items) beside the machine's measured peak of fused multiply-adds.
//!
//! `cargo bench -p tarsia-runtime --bench gemm`; `TARSIA_ISA` chooses the level.

use divan::counter::{BytesCount, ItemsCount};
use tarsia_runtime::cpu::Isa;
use tarsia_runtime::cpu::gemm::*;
use tarsia_runtime::cpu::pack::*;

fn main() {
    divan::main();
}

fn isa() -> Isa {
    std::env::var("TARSIA_ISA").map_or(Isa::detect(), |name| Isa::parse(&name).expect("TARSIA_ISA"))
}

/// The peak: a product whose operands stay in L1.
#[divan::bench]
fn peak(bencher: divan::Bencher) {
    let (k, isa) = (96, isa());
    let (a, b) = (vec![1f32; MR * k], vec![1f32; NR * k]);
    let mut c = vec![0f32; MR * NR];
    let extents = Extents { m: MR, n: NR, k };
    bencher.counter(ItemsCount::new(1000 * 2 * MR * NR * k)).bench_local(|| {
        for _ in 0..1000 {
            let out = Out { data: c.as_mut_ptr(), stride: NR, accumulate: true };
            let a = Lhs::Panels { data: a.as_ptr(), step: 0 };
            let b = Rhs::Panels { data: b.as_ptr(), step: 0 };
            // SAFETY: the vectors have the extents.
            unsafe { mmad_f32(isa, extents, a, b, out) };
        }
    });
}

/// A chain-free loop of fused multiply-adds in registers: what the machine can do at most.
#[cfg(target_arch = "x86_64")]
#[divan::bench]
fn fma_peak(bencher: divan::Bencher) {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f")]
    unsafe fn spin512(rounds: usize) -> f32 {
        let mut sums = [_mm512_set1_ps(0.0); 16];
        let (x, y) = (_mm512_set1_ps(0.5), _mm512_set1_ps(std::hint::black_box(0.25)));
        for _ in 0..rounds {
            for s in &mut sums {
                *s = _mm512_fmadd_ps(*s, x, y);
            }
        }
        sums.iter().map(|&s| _mm512_reduce_add_ps(s)).sum()
    }
    #[target_feature(enable = "avx2,fma")]
    unsafe fn spin256(rounds: usize) -> f32 {
        let mut sums = [_mm256_set1_ps(0.0); 12];
        let (x, y) = (_mm256_set1_ps(0.5), _mm256_set1_ps(std::hint::black_box(0.25)));
        for _ in 0..rounds {
            for s in &mut sums {
                *s = _mm256_fmadd_ps(*s, x, y);
            }
        }
        sums.iter().map(|&s| _mm256_cvtss_f32(s)).sum()
    }
    let rounds = 100_000;
    let (wide, flops) = match isa() {
        Isa::Avx512 => (true, rounds * 16 * 16 * 2),
        Isa::Avx2 => (false, rounds * 12 * 8 * 2),
        Isa::Portable => return,
    };
    // SAFETY: the level was chosen among those of this machine.
    bencher
        .counter(ItemsCount::new(flops))
        .bench_local(|| unsafe { if wide { spin512(rounds) } else { spin256(rounds) } });
}

/// The blocking of the module documentation, with `A` and `B` packed on the way.
fn blocked(isa: Isa, e: Extents, a: &[f32], b: &[f32], c: &mut [f32], room: &mut (Vec<f32>, Vec<f32>)) {
    let Extents { m, n, k } = e;
    room.0.resize(MC * KC, 0.0);
    room.1.resize(KC * NC, 0.0);
    for n0 in (0..n).step_by(NC) {
        let nc = NC.min(n - n0);
        for k0 in (0..k).step_by(KC) {
            let kc = KC.min(k - k0);
            let source = Source { data: b[k0 * n + n0..].as_ptr(), outer: nc, k: kc, outer_stride: 1, k_stride: n };
            // SAFETY: the block lies inside `b`; the room holds a packed block.
            unsafe { pack_b_f32(isa, source, Panels { data: room.1.as_mut_ptr(), step: kc * NR }) };
            for m0 in (0..m).step_by(MC) {
                let mc = MC.min(m - m0);
                let source = Source { data: a[m0 * k + k0..].as_ptr(), outer: mc, k: kc, outer_stride: k, k_stride: 1 };
                let out = Out { data: c[m0 * n + n0..].as_mut_ptr(), stride: n, accumulate: k0 > 0 };
                let extents = Extents { m: mc, n: nc, k: kc };
                // SAFETY: as above.
                unsafe {
                    pack_a_f32(isa, source, Panels { data: room.0.as_mut_ptr(), step: kc * MR });
                    let a = Lhs::Panels { data: room.0.as_ptr(), step: kc * MR };
                    let b = Rhs::Panels { data: room.1.as_ptr(), step: kc * NR };
                    mmad_f32(isa, extents, a, b, out);
                }
            }
        }
    }
}

#[divan::bench(args = [256, 512, 1024, 1536])]
fn square(bencher: divan::Bencher, n: usize) {
    let (a, b) = (vec![0.5f32; n * n], vec![0.25f32; n * n]);
    let mut c = vec![0f32; n * n];
    let mut room = Default::default();
    let extents = Extents { m: n, n, k: n };
    bencher.counter(ItemsCount::new(2 * n * n * n)).bench_local(|| blocked(isa(), extents, &a, &b, &mut c, &mut room));
}

/// Few rows against packed columns, as bytes of `B` read: the decode step of a language model.
#[divan::bench(args = [1, 2, 4, 8])]
fn few_rows_f32(bencher: divan::Bencher, m: usize) {
    let (n, k) = (4096, 4096);
    let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; n * k]);
    let mut c = vec![0f32; m * n];
    let isa = isa();
    bencher.counter(BytesCount::new(4 * n * k)).bench_local(|| {
        let out = Out { data: c.as_mut_ptr(), stride: n, accumulate: false };
        let a = Lhs::Strided { data: a.as_ptr(), row: k, col: 1 };
        // SAFETY: the vectors have the extents.
        unsafe { mmad_f32(isa, Extents { m, n, k }, a, Rhs::Panels { data: b.as_ptr(), step: k * NR }, out) };
    });
}

#[divan::bench(args = [1, 4])]
fn few_rows_bf16(bencher: divan::Bencher, m: usize) {
    let (n, k) = (4096, 4096);
    let (a, b) = (vec![0.5f32; m * k], vec![half::bf16::ONE; n * k]);
    let mut c = vec![0f32; m * n];
    let isa = isa();
    bencher.counter(BytesCount::new(2 * n * k)).bench_local(|| {
        let out = Out { data: c.as_mut_ptr(), stride: n, accumulate: false };
        let a = Lhs::Strided { data: a.as_ptr(), row: k, col: 1 };
        // SAFETY: the vectors have the extents.
        unsafe { mmad_bf16(isa, Extents { m, n, k }, a, Rhs::Panels { data: b.as_ptr(), step: k * NR }, out) };
    });
}

#[divan::bench(args = [1, 4])]
fn dot_rows(bencher: divan::Bencher, m: usize) {
    let (n, k) = (1024, 128);
    let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; n * k]);
    let mut c = vec![0f32; m * n];
    let isa = isa();
    bencher.counter(BytesCount::new(4 * n * k)).bench_local(|| {
        let out = Out { data: c.as_mut_ptr(), stride: n, accumulate: false };
        let (a, b) = (RowMajor { data: a.as_ptr(), stride: k }, RowMajor { data: b.as_ptr(), stride: k });
        // SAFETY: the vectors have the extents.
        unsafe { mmad_dot_f32(isa, Extents { m, n, k }, a, b, out) };
    });
}

/// A 3 × 3 convolution's packing, as bytes written.
#[divan::bench(args = [1, 2])]
fn im2col(bencher: divan::Bencher, step: usize) {
    let (channels, size) = (64, 56);
    let image = vec![1f32; channels * size * size];
    let conv = Conv2d {
        image: [size, size],
        strides: [size * size, size],
        window: [3, 3],
        step: [step, step],
        dilation: [1, 1],
        pad: [1, 1],
    };
    let (k, rows) = (channels * 9, 8 / step);
    let block = OutputBlock { start: [0, 0], len: [rows, size / step] };
    let n = rows * size / step;
    let mut panels = vec![0f32; packed_len(n, k, NR).unwrap_or(0)];
    bencher.counter(BytesCount::new(4 * n * k)).bench_local(|| {
        let panels = Panels { data: panels.as_mut_ptr(), step: k * NR };
        // SAFETY: the image has 64 channels and the panels their packed length.
        unsafe { pack_im2col_f32(isa(), image.as_ptr(), &conv, block, 0..k, panels) };
    });
}
