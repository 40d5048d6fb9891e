//! Vector instructions on tiles of 4096 elements, in elements per second.
//!
//! `cargo bench -p tarsia-runtime --bench vector`; `TARSIA_ISA` chooses the level.

use divan::counter::{BytesCount, ItemsCount};
use tarsia_runtime::cpu::Isa;
use tarsia_runtime::cpu::moves::{Axis, copy};
use tarsia_runtime::cpu::reduce::{Lengths, Slices, reduce};
use tarsia_runtime::cpu::vector::*;
use tarsia_runtime::pool::Pool;
use tarsia_tensor::{BinaryFn, DType, ReduceFn, UnaryFn};

fn main() {
    divan::main();
}

const COLS: usize = 4096;

fn isa() -> Isa {
    std::env::var("TARSIA_ISA").map_or(Isa::detect(), |name| Isa::parse(&name).expect("TARSIA_ISA"))
}

fn area() -> Area {
    Area { rows: 1, cols: COLS }
}

#[divan::bench(args = [
    UnaryFn::Abs, UnaryFn::Exp, UnaryFn::Log, UnaryFn::Tanh, UnaryFn::Erf, UnaryFn::Sigmoid, UnaryFn::Sin, UnaryFn::Sqrt,
])]
fn unary_f32(bencher: divan::Bencher, function: UnaryFn) {
    let x: Vec<f32> = (0..COLS).map(|i| i as f32 / 512.0).collect();
    let mut y = vec![0f32; COLS];
    let isa = isa();
    bencher.counter(ItemsCount::new(COLS)).bench_local(|| {
        let (dst, src) = (Dst { data: y.as_mut_ptr().cast(), row: 0 }, Src { data: x.as_ptr().cast(), row: 0, col: 1 });
        // SAFETY: both have COLS elements.
        let _ = unsafe { unary(isa, function, DType::F32, area(), dst, src) };
    });
}

#[divan::bench(args = [DType::F32, DType::F64, DType::F16, DType::I32, DType::U8])]
fn add(bencher: divan::Bencher, dtype: DType) {
    let (x, y, mut z) = (vec![0u64; COLS], vec![0u64; COLS], vec![0u64; COLS]);
    let isa = isa();
    bencher.counter(ItemsCount::new(COLS)).bench_local(|| {
        let src = |d: &[u64]| Src { data: d.as_ptr().cast(), row: 0, col: 1 };
        let dst = Dst { data: z.as_mut_ptr().cast(), row: 0 };
        // SAFETY: all have COLS elements.
        let _ = unsafe { binary(isa, BinaryFn::Add, dtype, area(), dst, src(&x), src(&y)) };
    });
}

#[divan::bench(args = [(DType::F16, DType::F32), (DType::F32, DType::F16), (DType::F32, DType::BF16), (DType::I64, DType::F32)])]
fn convert(bencher: divan::Bencher, (from, to): (DType, DType)) {
    let (x, mut z) = (vec![0u64; COLS], vec![0u64; COLS]);
    let isa = isa();
    bencher.counter(ItemsCount::new(COLS)).bench_local(|| {
        let (dst, src) = (Dst { data: z.as_mut_ptr().cast(), row: 0 }, Src { data: x.as_ptr().cast(), row: 0, col: 1 });
        // SAFETY: both have COLS elements.
        let _ = unsafe { cast(isa, from, to, false, area(), dst, src) };
    });
}

#[divan::bench(args = [ReduceFn::Sum, ReduceFn::Max])]
fn rows(bencher: divan::Bencher, function: ReduceFn) {
    let (x, mut y) = (vec![1f32; COLS], [0f32; 16]);
    let isa = isa();
    bencher.counter(ItemsCount::new(COLS)).bench_local(|| {
        let dst = Slices { data: y.as_mut_ptr().cast(), outer: 1, step: 0 };
        let src = Slices { data: x.as_ptr().cast(), outer: COLS / 16, step: 1 };
        let lengths = Lengths { outer: 16, n: COLS / 16, inner: 1 };
        // SAFETY: 16 rows and 16 results.
        let _ = unsafe { reduce(isa, function, DType::F32, lengths, dst, src, false) };
    });
}

#[divan::bench(args = [1, 2, 4])]
fn transpose(bencher: divan::Bencher, bytes: usize) {
    let (x, mut y) = (vec![0u32; 64 * 64], vec![0u32; 64 * 64]);
    let isa = isa();
    let axes = [Axis { len: 64, src: 1, dst: 64 }, Axis { len: 64, src: 64, dst: 1 }];
    bencher.counter(BytesCount::new(64 * 64 * bytes)).bench_local(|| {
        // SAFETY: both hold 64 by 64 elements.
        let _ = unsafe { copy(isa, bytes, &axes, x.as_ptr().cast(), y.as_mut_ptr().cast()) };
    });
}

#[divan::bench]
fn fork_join(bencher: divan::Bencher) {
    let pool = Pool::new(2);
    bencher.bench_local(|| pool.run(2, &|_, i| _ = divan::black_box(i)));
}
