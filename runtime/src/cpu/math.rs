//! Elementary functions on vectors of `f32`, without branches, within 4 units in the last place.
//!
//! Polynomials are minimax fits (relative error below 1e-8 on their interval before rounding) of our own; reductions of
//! the argument follow Cody and Waite. NaN gives NaN, overflow infinity, results below the normal range are denormal.

// The last digits of a fit are kept even where the nearest f32 needs fewer.
#![allow(clippy::excessive_precision)]

use super::simd::Simd;
use std::f32::consts::{FRAC_PI_2, LN_2, LOG2_E, PI};

/// Horner's scheme, the constant term first.
macro_rules! poly {
    ($s:ident, $x:expr; $c0:expr $(, $c:expr)+) => { $s::fma(poly!($s, $x; $($c),+), $x, $s::splat($c0)) };
    ($s:ident, $x:expr; $c0:expr) => { $s::splat($c0) };
}

/// ln 2 in two parts, the first with few bits so that its products with exponents are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `(n, r)` with `x = n ln 2 + r`, `n` whole and `|r|` at most half of ln 2.
#[inline(always)]
fn reduce_exp<S: Simd>(x: S::F) -> (S::F, S::F) {
    let n = S::round(S::mul(x, S::splat(LOG2_E)));
    let r = S::fma(n, S::splat(-LN2_HIGH), x);
    (n, S::fma(n, S::splat(-LN2_LOW), r))
}

/// `2^n` for whole `n` in -126..=127.
#[inline(always)]
fn power_of_two<S: Simd>(n: S::I) -> S::F {
    S::from_bits(S::shl_i(S::add_i(n, S::splat_i(127)), 23))
}

/// e^x.
#[inline(always)]
pub(crate) fn exp<S: Simd>(x: S::F) -> S::F {
    let x = S::min(S::splat(89.0), S::max(S::splat(-104.0), x));
    let (n, r) = reduce_exp::<S>(x);
    let p = poly!(S, r; 0.499_999_94, 0.166_665_21, 0.041_668_28, 0.008_368_69, 0.001_381_951_2);
    let e = S::add(S::fma(S::mul(r, r), p, r), S::splat(1.0));
    // Two steps, so that neither factor leaves the normal range.
    let n = S::to_i32(n);
    let half = S::sar_i(n, 1);
    S::mul(S::mul(e, power_of_two::<S>(half)), power_of_two::<S>(S::sub_i(n, half)))
}

/// e^x - 1.
#[inline(always)]
pub(crate) fn expm1<S: Simd>(x: S::F) -> S::F {
    let x = S::min(S::splat(88.9), S::max(S::splat(-18.0), x));
    let (n, r) = reduce_exp::<S>(x);
    let p = poly!(S, r; 0.5, 0.166_666_67, 0.041_666_49, 0.008_333_208, 0.001_393_269, 1.994_426_9e-4);
    let p = S::fma(S::mul(r, r), p, r);
    // Half the result, since 2^128 is out of range.
    let scale = power_of_two::<S>(S::sub_i(S::to_i32(n), S::splat_i(1)));
    let half = S::fma(scale, p, S::sub(scale, S::splat(0.5)));
    S::add(half, half)
}

/// Natural logarithm; of 0 it is -∞, of negative numbers NaN.
#[inline(always)]
pub(crate) fn log<S: Simd>(x: S::F) -> S::F {
    let tiny = S::lt(x, S::splat(f32::MIN_POSITIVE));
    let scaled = S::select(tiny, S::mul(x, S::splat(8_388_608.0)), x);
    let bits = S::bits(scaled);
    // The exponent for which the mantissa lies between √½ and √2.
    let e = S::sar_i(S::sub_i(bits, S::splat_i(0x3f35_04f3)), 23);
    let f = S::sub(S::from_bits(S::sub_i(bits, S::shl_i(e, 23))), S::splat(1.0));
    let e = S::sub(S::from_i32(e), S::select(tiny, S::splat(23.0), S::zero()));
    let f2 = S::mul(f, f);
    let q = poly!(S, f; 0.333_333_13, -0.250_000_1, 0.200_020_75, -0.166_679_99, 0.142_202_8, -0.124_059_126,
        0.118_838_93, -0.116_725_26, 0.067_515_42);
    let low = S::fma(e, S::splat(LN2_LOW), S::mul(S::mul(f2, f), q));
    let low = S::fma(f2, S::splat(-0.5), low);
    let y = S::fma(e, S::splat(LN2_HIGH), S::add(f, low));
    let y = S::select(S::lt(x, S::splat(f32::INFINITY)), y, x);
    let y = S::select(S::eq(x, S::zero()), S::splat(f32::NEG_INFINITY), y);
    S::select(S::lt(x, S::zero()), S::splat(f32::NAN), y)
}

/// log(1 + x).
#[inline(always)]
pub(crate) fn log1p<S: Simd>(x: S::F) -> S::F {
    let u = S::add(x, S::splat(1.0));
    let lost = S::sub(x, S::sub(u, S::splat(1.0)));
    let finite = S::mask_and(S::lt(S::zero(), u), S::lt(u, S::splat(f32::INFINITY)));
    let correction = S::select(finite, S::div(lost, u), S::zero());
    let y = S::add(log::<S>(u), correction);
    // Also keeps the sign of zero.
    S::select(S::eq(u, S::splat(1.0)), x, y)
}

/// Beyond this the reduction by multiples of π/2 loses accuracy.
const TRIGONOMETRIC_LIMIT: f32 = 1e5;

/// Sine and cosine of `x` reduced to a quarter turn around zero, and the number of quarter turns.
#[inline(always)]
fn quarter_turn<S: Simd>(x: S::F) -> (S::F, S::F, S::I) {
    let n = S::round(S::mul(x, S::splat(1.0 / FRAC_PI_2)));
    let r = S::fma_exact(n, S::splat(-FRAC_PI_2), x);
    let r = S::fma_exact(n, S::splat(4.371_139e-8), r);
    let r = S::fma_exact(n, S::splat(1.715_124_5e-15), r);
    let z = S::mul(r, r);
    let sin = poly!(S, z; -0.166_666_55, 0.008_332_187, -1.951_789_5e-4);
    let sin = S::fma(S::mul(z, r), sin, r);
    let cos = poly!(S, z; 0.041_666_646, -0.001_388_731, 2.443_233_1e-5);
    let cos = S::fma(S::mul(z, z), cos, S::fma(z, S::splat(-0.5), S::splat(1.0)));
    (sin, cos, S::to_i32(n))
}

/// Whether some lane is too large for [`quarter_turn`]; then all go through `f64`.
#[inline(always)]
fn any_immoderate<S: Simd>(x: S::F) -> bool {
    S::any(S::mask_not(S::le(S::abs(x), S::splat(TRIGONOMETRIC_LIMIT))))
}

#[inline(always)]
fn lane_by_lane<S: Simd>(x: S::F, f: fn(f64) -> f64) -> S::F {
    let mut lanes = [0f32; 16];
    // SAFETY: no level has more than 16 lanes.
    unsafe {
        S::store(lanes.as_mut_ptr(), x);
        apply_to_lanes(&mut lanes, f);
        S::load(lanes.as_ptr())
    }
}

#[cold]
#[inline(never)]
fn apply_to_lanes(lanes: &mut [f32; 16], f: fn(f64) -> f64) {
    lanes.iter_mut().for_each(|x| *x = f(f64::from(*x)) as f32);
}

/// The value at `n` quarter turns: one of the two functions, negated in the second half turn.
#[inline(always)]
fn turn<S: Simd>(even: S::F, odd: S::F, n: S::I) -> S::F {
    let is_even = S::eq_i(S::and_i(n, S::splat_i(1)), S::splat_i(0));
    let sign = S::shl_i(S::and_i(n, S::splat_i(2)), 30);
    S::from_bits(S::xor_i(S::bits(S::select(is_even, even, odd)), sign))
}

/// Sine.
#[inline(always)]
pub(crate) fn sin<S: Simd>(x: S::F) -> S::F {
    if any_immoderate::<S>(x) {
        return lane_by_lane::<S>(x, f64::sin);
    }
    let (sin, cos, n) = quarter_turn::<S>(x);
    turn::<S>(sin, cos, n)
}

/// Cosine: the sine one quarter turn ahead.
#[inline(always)]
pub(crate) fn cos<S: Simd>(x: S::F) -> S::F {
    if any_immoderate::<S>(x) {
        return lane_by_lane::<S>(x, f64::cos);
    }
    let (sin, cos, n) = quarter_turn::<S>(x);
    turn::<S>(sin, cos, S::add_i(n, S::splat_i(1)))
}

/// Tangent.
#[inline(always)]
pub(crate) fn tan<S: Simd>(x: S::F) -> S::F {
    if any_immoderate::<S>(x) {
        return lane_by_lane::<S>(x, f64::tan);
    }
    let (sin, cos, n) = quarter_turn::<S>(x);
    let is_even = S::eq_i(S::and_i(n, S::splat_i(1)), S::splat_i(0));
    S::div(S::select(is_even, sin, S::neg(cos)), S::select(is_even, cos, sin))
}

/// Inverse tangent of `0 <= x <= 1`.
#[inline(always)]
fn atan_core<S: Simd>(x: S::F) -> S::F {
    let z = S::mul(x, x);
    let p = poly!(S, z; -0.333_332_99, 0.199_985_33, -0.142_640_77, 0.109_513_42, -0.084_010_36, 0.057_917_103,
        -0.031_138_264, 0.010_893_727, -0.001_789_029_3);
    S::fma(S::mul(z, x), p, x)
}

/// Inverse tangent.
#[inline(always)]
pub(crate) fn atan<S: Simd>(x: S::F) -> S::F {
    let a = S::abs(x);
    let steep = S::lt(S::splat(1.0), a);
    let y = atan_core::<S>(S::select(steep, S::div(S::splat(1.0), a), a));
    S::with_sign(S::select(steep, S::sub(S::splat(FRAC_PI_2), y), y), x)
}

/// Inverse sine of `0 <= x <= 1/2` and its square.
#[inline(always)]
fn asin_core<S: Simd>(x: S::F, z: S::F) -> S::F {
    let p = poly!(S, z; 0.166_666_6, 0.075_005_22, 0.044_513_352, 0.031_839_523, 0.014_312_174, 0.037_702_117);
    S::fma(S::mul(z, x), p, x)
}

/// Inverse sine.
#[inline(always)]
pub(crate) fn asin<S: Simd>(x: S::F) -> S::F {
    let a = S::abs(x);
    let large = S::lt(S::splat(0.5), a);
    let z = S::select(large, S::mul(S::sub(S::splat(1.0), a), S::splat(0.5)), S::mul(a, a));
    let y = asin_core::<S>(S::select(large, S::sqrt(z), a), z);
    let y = S::select(large, S::fma(y, S::splat(-2.0), S::splat(FRAC_PI_2)), y);
    S::select(S::is_nan(y), y, S::with_sign(S::abs(y), x))
}

/// Inverse cosine.
#[inline(always)]
pub(crate) fn acos<S: Simd>(x: S::F) -> S::F {
    let a = S::abs(x);
    let large = S::lt(S::splat(0.5), a);
    let z = S::select(large, S::mul(S::sub(S::splat(1.0), a), S::splat(0.5)), S::mul(a, a));
    let y = asin_core::<S>(S::select(large, S::sqrt(z), a), z);
    let twice = S::add(y, y);
    let negative = S::lt(x, S::zero());
    let beyond = S::select(negative, S::sub(S::splat(PI), twice), twice);
    let within = S::sub(S::splat(FRAC_PI_2), S::select(negative, S::neg(y), y));
    S::select(large, beyond, within)
}

/// Hyperbolic sine.
#[inline(always)]
pub(crate) fn sinh<S: Simd>(x: S::F) -> S::F {
    let a = S::abs(x);
    let t = expm1::<S>(a);
    let small = S::mul(S::splat(0.5), S::add(t, S::div(t, S::add(t, S::splat(1.0)))));
    let y = S::select(S::lt(S::splat(88.0), a), half_exp::<S>(a), small);
    S::with_sign(S::abs(y), x)
}

/// Hyperbolic cosine.
#[inline(always)]
pub(crate) fn cosh<S: Simd>(x: S::F) -> S::F {
    let a = S::abs(x);
    let e = S::mul(S::splat(0.5), exp::<S>(a));
    let small = S::add(e, S::div(S::splat(0.25), e));
    S::select(S::lt(S::splat(88.0), a), half_exp::<S>(a), small)
}

/// e^a / 2 for large `a`, without early overflow.
#[inline(always)]
fn half_exp<S: Simd>(a: S::F) -> S::F {
    let a = S::min(S::splat(100.0), a);
    let e = exp::<S>(S::sub(a, S::splat(LN_2)));
    // a - ln 2 rounds by up to 4e-6 at 88; multiply by what was lost.
    let lost = S::sub(S::sub(a, S::sub(a, S::splat(LN_2))), S::splat(LN_2));
    S::select(S::lt(e, S::splat(f32::INFINITY)), S::fma(e, lost, e), e)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(x: S::F) -> S::F {
    let t = expm1::<S>(S::mul(S::abs(x), S::splat(-2.0)));
    let y = S::div(S::neg(t), S::add(t, S::splat(2.0)));
    S::with_sign(S::abs(y), x)
}

/// Beyond this, 1 + x² is x².
const LARGE: f32 = 1e10;

/// Inverse hyperbolic sine.
#[inline(always)]
pub(crate) fn asinh<S: Simd>(x: S::F) -> S::F {
    let a = S::abs(x);
    let a2 = S::mul(a, a);
    let root = S::sqrt(S::add(a2, S::splat(1.0)));
    let small = log1p::<S>(S::add(a, S::div(a2, S::add(root, S::splat(1.0)))));
    let y = S::select(S::lt(S::splat(LARGE), a), S::add(log::<S>(a), S::splat(LN_2)), small);
    S::with_sign(S::abs(y), x)
}

/// Inverse hyperbolic cosine; NaN below 1.
#[inline(always)]
pub(crate) fn acosh<S: Simd>(x: S::F) -> S::F {
    let t = S::sub(x, S::splat(1.0));
    let root = S::sqrt(S::mul(t, S::add(t, S::splat(2.0))));
    let y = S::select(S::lt(S::splat(LARGE), x), S::add(log::<S>(x), S::splat(LN_2)), log1p::<S>(S::add(t, root)));
    S::select(S::lt(x, S::splat(1.0)), S::splat(f32::NAN), y)
}

/// Inverse hyperbolic tangent.
#[inline(always)]
pub(crate) fn atanh<S: Simd>(x: S::F) -> S::F {
    let a = S::abs(x);
    let ratio = S::div(S::add(a, a), S::sub(S::splat(1.0), a));
    let y = S::mul(S::splat(0.5), log1p::<S>(ratio));
    S::select(S::is_nan(y), y, S::with_sign(S::abs(y), x))
}

/// Gauss error function.
#[inline(always)]
pub(crate) fn erf<S: Simd>(x: S::F) -> S::F {
    let a = S::abs(x);
    let z = S::mul(a, a);
    let near = poly!(S, z; 0.128_379_17, -0.376_126_3, 0.112_836_26, -0.026_855_728, 0.005_192_381_3, -8.049_304e-4,
        7.993_787e-5);
    let near = S::fma(a, near, a);
    let t = S::min(S::splat(4.0), a);
    // log(1 - erf) / t, its constant term apart from -1 to keep bits.
    let far = poly!(S, t; -0.128_652_22, -0.635_135_7, -0.106_263_46, 0.023_785_597, -0.003_653_872_8, 3.256_773e-4,
        -1.152_456_7e-5);
    let far = S::sub(S::splat(1.0), exp::<S>(S::fma(far, t, S::neg(t))));
    S::with_sign(S::abs(S::select(S::lt(S::splat(0.925), a), far, near)), x)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(x: S::F) -> S::F {
    let e = exp::<S>(S::neg(S::abs(x)));
    let top = S::select(S::lt(x, S::zero()), e, S::splat(1.0));
    S::div(top, S::add(e, S::splat(1.0)))
}

/// log(1 + e^x).
#[inline(always)]
pub(crate) fn softplus<S: Simd>(x: S::F) -> S::F {
    let tail = log1p::<S>(exp::<S>(S::neg(S::abs(x))));
    S::add(S::max(S::zero(), x), tail)
}

/// -1, 0 or 1; NaN for NaN.
#[inline(always)]
pub(crate) fn sign<S: Simd>(x: S::F) -> S::F {
    let unit = S::with_sign(S::splat(1.0), x);
    S::select(S::mask_or(S::lt(x, S::zero()), S::lt(S::zero(), x)), unit, x)
}
