//! Point-wise functions of `f32`, on the level's vectors.

use super::{Area, Dst, Src, flatten};
use crate::cpu::isa::Isa;
use crate::cpu::math;
use crate::cpu::simd::{Simd, assert_available, simd_kernel};
use tarsia_tensor::{BinaryFn, UnaryFn};

/// A function of one vector.
trait Map {
    fn apply<S: Simd>(x: S::F) -> S::F;
}

/// A function of two vectors.
trait Zip {
    fn apply<S: Simd>(a: S::F, b: S::F) -> S::F;
}

/// A predicate of two vectors.
trait Test {
    fn apply<S: Simd>(a: S::F, b: S::F) -> S::M;
}

macro_rules! functions {
    ($trait:ident -> $ret:ident; $($name:ident($($arg:ident),*) = |$s:ident| $body:expr;)*) => {$(
        struct $name;
        impl $trait for $name {
            #[inline(always)]
            fn apply<$s: Simd>($($arg: $s::F),*) -> $s::$ret {
                $body
            }
        }
    )*};
}

functions! { Map -> F;
    Abs(x) = |S| S::abs(x);
    Neg(x) = |S| S::neg(x);
    Exp(x) = |S| math::exp::<S>(x);
    Log(x) = |S| math::log::<S>(x);
    Sqrt(x) = |S| S::sqrt(x);
    Rsqrt(x) = |S| S::div(S::splat(1.0), S::sqrt(x));
    Reciprocal(x) = |S| S::div(S::splat(1.0), x);
    Sin(x) = |S| math::sin::<S>(x);
    Cos(x) = |S| math::cos::<S>(x);
    Tan(x) = |S| math::tan::<S>(x);
    Asin(x) = |S| math::asin::<S>(x);
    Acos(x) = |S| math::acos::<S>(x);
    Atan(x) = |S| math::atan::<S>(x);
    Sinh(x) = |S| math::sinh::<S>(x);
    Cosh(x) = |S| math::cosh::<S>(x);
    Tanh(x) = |S| math::tanh::<S>(x);
    Asinh(x) = |S| math::asinh::<S>(x);
    Acosh(x) = |S| math::acosh::<S>(x);
    Atanh(x) = |S| math::atanh::<S>(x);
    Erf(x) = |S| math::erf::<S>(x);
    Sigmoid(x) = |S| math::sigmoid::<S>(x);
    Softplus(x) = |S| math::softplus::<S>(x);
    Floor(x) = |S| S::floor(x);
    Ceil(x) = |S| S::ceil(x);
    Round(x) = |S| S::round(x);
    Trunc(x) = |S| S::trunc(x);
    Sign(x) = |S| math::sign::<S>(x);
}

functions! { Zip -> F;
    Add(a, b) = |S| S::add(a, b);
    Sub(a, b) = |S| S::sub(a, b);
    Mul(a, b) = |S| S::mul(a, b);
    Div(a, b) = |S| S::div(a, b);
    Min(a, b) = |S| S::select(S::is_nan(a), a, S::min(a, b));
    Max(a, b) = |S| S::select(S::is_nan(a), a, S::max(a, b));
}

functions! { Test -> M;
    Eq(a, b) = |S| S::eq(a, b);
    Ne(a, b) = |S| S::mask_not(S::eq(a, b));
    Lt(a, b) = |S| S::lt(a, b);
    Le(a, b) = |S| S::le(a, b);
    Gt(a, b) = |S| S::lt(b, a);
    Ge(a, b) = |S| S::le(b, a);
    IsNan(a, b) = |S| S::mask_or(S::is_nan(a), S::is_nan(b));
    IsInf(a, _b) = |S| S::eq(S::abs(a), S::splat(f32::INFINITY));
}

/// As [`super::unary`] for `f32`; whether the function is one of these.
///
/// # Safety
/// As for [`super::unary`].
pub(super) unsafe fn unary(isa: Isa, function: UnaryFn, area: Area, dst: Dst, a: Src) -> bool {
    assert_available(isa);
    let (area, dst, [a]) = flatten(area, dst, [a]);
    macro_rules! table {
        ($($name:ident)*) => {
            match function {
                // SAFETY: the caller's contract.
                $(UnaryFn::$name => unsafe { map::<$name>(isa, area, dst, a) },)*
                // SAFETY: as above.
                UnaryFn::IsNan => unsafe { test::<IsNan>(isa, area, dst, a, a) },
                // SAFETY: as above.
                UnaryFn::IsInf => unsafe { test::<IsInf>(isa, area, dst, a, a) },
                UnaryFn::Not | UnaryFn::BitNot => return false,
            }
        };
    }
    table!(Abs Neg Exp Log Sqrt Rsqrt Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf Sigmoid
        Softplus Floor Ceil Round Trunc Sign);
    true
}

/// As [`super::binary`] for `f32`; whether the function is one of these (powers, remainders and angles are not).
///
/// # Safety
/// As for [`super::binary`].
pub(super) unsafe fn binary(isa: Isa, function: BinaryFn, area: Area, dst: Dst, a: Src, b: Src) -> bool {
    assert_available(isa);
    let (area, dst, [a, b]) = flatten(area, dst, [a, b]);
    macro_rules! table {
        ([$($zip:ident)*] [$($test:ident)*]) => {
            match function {
                // SAFETY: the caller's contract.
                $(BinaryFn::$zip => unsafe { zip::<$zip>(isa, area, dst, a, b) },)*
                // SAFETY: as above.
                $(BinaryFn::$test => unsafe { test::<$test>(isa, area, dst, a, b) },)*
                // SAFETY: as above.
                BinaryFn::Pow => unsafe { return power(isa, area, dst, a, b) },
                _ => return false,
            }
        };
    }
    table!([Add Sub Mul Div Min Max] [Eq Ne Lt Le Gt Ge]);
    true
}

/// Powers whose exponent is one number that arithmetic does better; whether this was one.
unsafe fn power(isa: Isa, area: Area, dst: Dst, a: Src, b: Src) -> bool {
    if area.is_empty() || b.col != 0 || (b.row != 0 && area.rows > 1) {
        return false;
    }
    // SAFETY: the area is not empty, so `b` has a first element; otherwise the caller's contract.
    unsafe {
        match *b.data.cast::<f32>() {
            1.0 => zip::<First>(isa, area, dst, a, a),
            2.0 => zip::<Mul>(isa, area, dst, a, a),
            3.0 => map::<Cube>(isa, area, dst, a),
            -1.0 => map::<Reciprocal>(isa, area, dst, a),
            0.5 => map::<RootAsPower>(isa, area, dst, a),
            _ => return false,
        }
    }
    true
}

functions! { Map -> F;
    Cube(x) = |S| S::mul(S::mul(x, x), x);
    // The power ½ of -∞ is +∞ and that of -0 is 0, unlike the root.
    RootAsPower(x) = |S| {
        let infinite = S::eq(x, S::splat(f32::NEG_INFINITY));
        S::select(infinite, S::splat(f32::INFINITY), S::sqrt(S::add(x, S::zero())))
    };
}

functions! { Zip -> F;
    First(a, _b) = |S| a;
}

/// The `i`th vector of a row: loaded, or its first element repeated.
#[inline(always)]
unsafe fn operand<S: Simd>(p: *const f32, col: isize, i: usize) -> S::F {
    // SAFETY: the caller's contract.
    unsafe { if col == 0 { S::splat(*p) } else { S::load(p.add(i)) } }
}

#[inline(always)]
unsafe fn operand_part<S: Simd>(p: *const f32, col: isize, i: usize, n: usize) -> S::F {
    // SAFETY: the caller's contract.
    unsafe { if col == 0 { S::splat(*p) } else { S::load_n(p.add(i), n) } }
}

simd_kernel! {
    fn map<S, M: Map>(area: Area, dst: Dst, a: Src) {
        for r in 0..area.rows {
            // SAFETY: the caller's contract.
            unsafe {
                let (to, from) = (dst.data.cast::<f32>().offset(r as isize * dst.row), a.data.cast::<f32>().offset(r as isize * a.row));
                let mut i = 0;
                while i + S::LANES <= area.cols {
                    S::store(to.add(i), M::apply::<S>(operand::<S>(from, a.col, i)));
                    i += S::LANES;
                }
                if i < area.cols {
                    let n = area.cols - i;
                    S::store_n(to.add(i), n, M::apply::<S>(operand_part::<S>(from, a.col, i, n)));
                }
            }
        }
    }
}

simd_kernel! {
    fn zip<S, Z: Zip>(area: Area, dst: Dst, a: Src, b: Src) {
        for r in 0..area.rows {
            // SAFETY: the caller's contract.
            unsafe {
                let to = dst.data.cast::<f32>().offset(r as isize * dst.row);
                let (x, y) = (a.data.cast::<f32>().offset(r as isize * a.row), b.data.cast::<f32>().offset(r as isize * b.row));
                match (a.col, b.col) {
                    (1, 1) => zip_row::<S, Z, 1, 1>(area.cols, to, x, y),
                    (0, 1) => zip_row::<S, Z, 0, 1>(area.cols, to, x, y),
                    (1, 0) => zip_row::<S, Z, 1, 0>(area.cols, to, x, y),
                    _ => zip_row::<S, Z, 0, 0>(area.cols, to, x, y),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn zip_row<S: Simd, Z: Zip, const A: isize, const B: isize>(
    cols: usize,
    to: *mut f32,
    a: *const f32,
    b: *const f32,
) {
    let mut i = 0;
    // SAFETY: the caller's contract. A repeated element is read once more after stores only if it is not overwritten.
    unsafe {
        while i + 2 * S::LANES <= cols {
            let first = Z::apply::<S>(operand::<S>(a, A, i), operand::<S>(b, B, i));
            let second = Z::apply::<S>(operand::<S>(a, A, i + S::LANES), operand::<S>(b, B, i + S::LANES));
            S::store(to.add(i), first);
            S::store(to.add(i + S::LANES), second);
            i += 2 * S::LANES;
        }
        while i < cols {
            let n = (cols - i).min(S::LANES);
            if n == S::LANES {
                S::store(to.add(i), Z::apply::<S>(operand::<S>(a, A, i), operand::<S>(b, B, i)));
            } else {
                let value = Z::apply::<S>(operand_part::<S>(a, A, i, n), operand_part::<S>(b, B, i, n));
                S::store_n(to.add(i), n, value);
            }
            i += n;
        }
    }
}

simd_kernel! {
    fn test<S, T: Test>(area: Area, dst: Dst, a: Src, b: Src) {
        for r in 0..area.rows {
            // SAFETY: the caller's contract; a part of a vector goes through a buffer of 16 truth values.
            unsafe {
                let to = dst.data.offset(r as isize * dst.row);
                let (x, y) = (a.data.cast::<f32>().offset(r as isize * a.row), b.data.cast::<f32>().offset(r as isize * b.row));
                let mut i = 0;
                while i + S::LANES <= area.cols {
                    S::store_mask(to.add(i), T::apply::<S>(operand::<S>(x, a.col, i), operand::<S>(y, b.col, i)));
                    i += S::LANES;
                }
                if i < area.cols {
                    let n = area.cols - i;
                    let mut part = [0u8; 16];
                    let truth = T::apply::<S>(operand_part::<S>(x, a.col, i, n), operand_part::<S>(y, b.col, i, n));
                    S::store_mask(part.as_mut_ptr(), truth);
                    std::ptr::copy_nonoverlapping(part.as_ptr(), to.add(i), n);
                }
            }
        }
    }
}
