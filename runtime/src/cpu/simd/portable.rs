//! Eight lanes as an array: the compiler turns the loops into whatever the machine's base instructions offer.

use super::Simd;
use half::f16;

/// The level of every machine.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 8;
type F = [f32; LANES];
type I = [i32; LANES];
/// All bits set is true.
type M = [i32; LANES];

#[inline(always)]
fn map<A: Copy, R: Copy + Default>(a: [A; LANES], f: impl Fn(A) -> R) -> [R; LANES] {
    let mut r = [R::default(); LANES];
    for i in 0..LANES {
        r[i] = f(a[i]);
    }
    r
}

#[inline(always)]
fn zip<A: Copy, B: Copy, R: Copy + Default>(a: [A; LANES], b: [B; LANES], f: impl Fn(A, B) -> R) -> [R; LANES] {
    let mut r = [R::default(); LANES];
    for i in 0..LANES {
        r[i] = f(a[i], b[i]);
    }
    r
}

#[inline(always)]
fn truth(b: bool) -> i32 {
    -i32::from(b)
}

macro_rules! lanewise {
    ($(fn $name:ident($a:ident: $at:ty) -> $ret:ty = $one:expr;)*) => {$(
        #[inline(always)]
        fn $name($a: $at) -> $ret {
            map($a, |$a| $one)
        }
    )*};
}

macro_rules! lanewise2 {
    ($(fn $name:ident($a:ident: $at:ty, $b:ident: $bt:ty) -> $ret:ty = $one:expr;)*) => {$(
        #[inline(always)]
        fn $name($a: $at, $b: $bt) -> $ret {
            zip($a, $b, |$a, $b| $one)
        }
    )*};
}

impl Simd for Portable {
    const LANES: usize = LANES;
    type F = F;
    type I = I;
    type M = M;

    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> F {
        let mut v = [0.0; LANES];
        // SAFETY: `n < LANES` elements are readable.
        unsafe { std::ptr::copy_nonoverlapping(p.cast::<u8>(), v.as_mut_ptr().cast(), 4 * n) };
        v
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: F) {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<F>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, n: usize, v: F) {
        // SAFETY: `n < LANES` elements are writable.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr().cast::<u8>(), p.cast(), 4 * n) }
    }
    #[inline(always)]
    unsafe fn load_even(p: *const f32) -> F {
        let mut v = [0.0; LANES];
        for (i, lane) in v.iter_mut().enumerate() {
            // SAFETY: the last index is `2 * LANES - 2`.
            *lane = unsafe { *p.add(2 * i) };
        }
        v
    }
    #[inline(always)]
    unsafe fn load_u16(p: *const u16) -> I {
        // SAFETY: the caller's contract.
        map(unsafe { p.cast::<[u16; LANES]>().read_unaligned() }, i32::from)
    }
    #[inline(always)]
    unsafe fn store_u16(p: *mut u16, v: I) {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[u16; LANES]>().write_unaligned(map(v, |x| x as u16)) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> F {
        // SAFETY: the caller's contract.
        map(unsafe { p.cast::<[u16; LANES]>().read_unaligned() }, |x| f16::from_bits(x).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, v: F) {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[u16; LANES]>().write_unaligned(map(v, |x| f16::from_f32(x).to_bits())) }
    }
    #[inline(always)]
    unsafe fn load_mask(p: *const u8) -> M {
        // SAFETY: the caller's contract.
        map(unsafe { p.cast::<[u8; LANES]>().read_unaligned() }, |x| truth(x != 0))
    }
    #[inline(always)]
    unsafe fn store_mask(p: *mut u8, m: M) {
        // SAFETY: the caller's contract.
        unsafe { p.cast::<[u8; LANES]>().write_unaligned(map(m, |x| (x & 1) as u8)) }
    }
    #[inline(always)]
    fn prefetch(_: *const u8) {}
    #[inline(always)]
    fn splat(x: f32) -> F {
        [x; LANES]
    }
    #[inline(always)]
    fn splat_i(x: i32) -> I {
        [x; LANES]
    }
    #[inline(always)]
    fn fma(a: F, b: F, c: F) -> F {
        zip(zip(a, b, |a, b| a * b), c, |ab, c| ab + c)
    }
    #[inline(always)]
    fn fma_exact(a: F, b: F, c: F) -> F {
        zip(zip(a, b, |a, b| f64::from(a) * f64::from(b)), c, |ab, c| (ab + f64::from(c)) as f32)
    }
    #[inline(always)]
    fn select(m: M, a: F, b: F) -> F {
        let chosen = zip(m, zip(a, b, |a, b| (a, b)), |m, (a, b)| (m & a.to_bits() as i32) | (!m & b.to_bits() as i32));
        Self::from_bits(chosen)
    }
    #[inline(always)]
    fn any(m: M) -> bool {
        m.iter().fold(0, |a, b| a | b) != 0
    }
    #[inline(always)]
    fn shl_i(a: I, n: i32) -> I {
        map(a, |a| a.wrapping_shl(n as u32))
    }
    #[inline(always)]
    fn shr_i(a: I, n: i32) -> I {
        map(a, |a| (a as u32).wrapping_shr(n as u32) as i32)
    }
    #[inline(always)]
    fn sar_i(a: I, n: i32) -> I {
        map(a, |a| a.wrapping_shr(n as u32))
    }
    #[inline(always)]
    fn sum(a: F) -> f32 {
        let four = [a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]];
        (four[0] + four[2]) + (four[1] + four[3])
    }

    lanewise! {
        fn sqrt(a: F) -> F = a.sqrt();
        fn floor(a: F) -> F = a.floor();
        fn ceil(a: F) -> F = a.ceil();
        fn trunc(a: F) -> F = a.trunc();
        fn round(a: F) -> F = a.round_ties_even();
        fn mask_not(a: M) -> M = !a;
        fn bits(a: F) -> I = a.to_bits() as i32;
        fn from_bits(a: I) -> F = f32::from_bits(a as u32);
        fn to_i32(a: F) -> I = ((a + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4b40_0000);
        fn from_i32(a: I) -> F = a as f32;
    }

    lanewise2! {
        fn add(a: F, b: F) -> F = a + b;
        fn sub(a: F, b: F) -> F = a - b;
        fn mul(a: F, b: F) -> F = a * b;
        fn div(a: F, b: F) -> F = a / b;
        fn min(a: F, b: F) -> F = if a < b { a } else { b };
        fn max(a: F, b: F) -> F = if a > b { a } else { b };
        fn lt(a: F, b: F) -> M = truth(a < b);
        fn le(a: F, b: F) -> M = truth(a <= b);
        fn eq(a: F, b: F) -> M = truth(a == b);
        fn mask_and(a: M, b: M) -> M = a & b;
        fn mask_or(a: M, b: M) -> M = a | b;
        fn add_i(a: I, b: I) -> I = a.wrapping_add(b);
        fn sub_i(a: I, b: I) -> I = a.wrapping_sub(b);
        fn and_i(a: I, b: I) -> I = a & b;
        fn or_i(a: I, b: I) -> I = a | b;
        fn xor_i(a: I, b: I) -> I = a ^ b;
        fn eq_i(a: I, b: I) -> M = truth(a == b);
    }
}
