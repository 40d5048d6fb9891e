//! Arithmetic of the plain element types: what the instructions mean for one element.
//!
//! Integers wrap; division and remainder by zero give 0; minimum and maximum of floats give NaN if an operand is NaN.

use tarsia_tensor::Class;

/// An element type that has arithmetic of its own.
pub(crate) trait Number: Copy + PartialOrd + 'static {
    const ZERO: Self;
    const ONE: Self;
    /// The identity of the maximum.
    const LOWEST: Self;
    /// The identity of the minimum.
    const HIGHEST: Self;
    const CLASS: Class;
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    /// Quotient; integers truncate.
    fn div(self, b: Self) -> Self;
    /// Remainder with the sign of the dividend.
    fn rem(self, b: Self) -> Self;
    /// Remainder with the sign of the divisor.
    fn modulo(self, b: Self) -> Self;
    fn pow(self, b: Self) -> Self;
    fn min(self, b: Self) -> Self;
    fn max(self, b: Self) -> Self;
    fn abs(self) -> Self;
    fn neg(self) -> Self;
    fn sign(self) -> Self;
    fn is_nan(self) -> bool;
    fn to_f64(self) -> f64;
    /// Floats truncate and saturate; large unsigned values wrap.
    fn to_i64(self) -> i64;
    /// Negative values wrap.
    fn to_u64(self) -> u64;
    fn from_f64(x: f64) -> Self;
    fn from_i64(x: i64) -> Self;
    fn from_u64(x: u64) -> Self;
}

/// What integers have besides.
pub(crate) trait Integer: Number {
    fn bit_not(self) -> Self;
    fn bit_and(self, b: Self) -> Self;
    fn bit_or(self, b: Self) -> Self;
    fn bit_xor(self, b: Self) -> Self;
    /// Zero for shifts beyond the width.
    fn shl(self, b: Self) -> Self;
    /// Fills with zeros; zero for shifts beyond the width.
    fn shr(self, b: Self) -> Self;
}

/// What floats have besides.
pub(crate) trait Float: Number {
    fn atan2(self, b: Self) -> Self;
    fn map(self, f: fn(f64) -> f64) -> Self;
    fn infinite(self) -> bool;
}

macro_rules! common {
    ($ty:ty, $class:ident) => {
        const ZERO: Self = 0 as $ty;
        const ONE: Self = 1 as $ty;
        const CLASS: Class = Class::$class;
        #[inline(always)]
        fn to_f64(self) -> f64 {
            self as f64
        }
        #[inline(always)]
        fn to_i64(self) -> i64 {
            self as i64
        }
        #[inline(always)]
        fn from_f64(x: f64) -> Self {
            x as $ty
        }
        #[inline(always)]
        fn from_i64(x: i64) -> Self {
            x as $ty
        }
        #[inline(always)]
        fn from_u64(x: u64) -> Self {
            x as $ty
        }
    };
}

macro_rules! floats {
    ($($ty:ty),*) => {$(
        impl Number for $ty {
            common!($ty, Float);
            const LOWEST: Self = <$ty>::NEG_INFINITY;
            const HIGHEST: Self = <$ty>::INFINITY;
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                self + b
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                self - b
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                self * b
            }
            #[inline(always)]
            fn div(self, b: Self) -> Self {
                self / b
            }
            #[inline(always)]
            fn rem(self, b: Self) -> Self {
                self % b
            }
            #[inline(always)]
            fn modulo(self, b: Self) -> Self {
                let r = self % b;
                if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
            }
            #[inline(always)]
            fn pow(self, b: Self) -> Self {
                self.powf(b)
            }
            #[inline(always)]
            fn min(self, b: Self) -> Self {
                let smaller = if self < b { self } else { b };
                if self.is_nan() { self } else { smaller }
            }
            #[inline(always)]
            fn max(self, b: Self) -> Self {
                let larger = if self > b { self } else { b };
                if self.is_nan() { self } else { larger }
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$ty>::abs(self)
            }
            #[inline(always)]
            fn neg(self) -> Self {
                -self
            }
            #[inline(always)]
            fn sign(self) -> Self {
                if self > 0.0 { 1.0 } else if self < 0.0 { -1.0 } else { self }
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                <$ty>::is_nan(self)
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                if self < 0.0 { self as i64 as u64 } else { self as u64 }
            }
        }
        impl Float for $ty {
            #[inline(always)]
            fn atan2(self, b: Self) -> Self {
                <$ty>::atan2(self, b)
            }
            #[inline(always)]
            fn map(self, f: fn(f64) -> f64) -> Self {
                f(f64::from(self)) as $ty
            }
            #[inline(always)]
            fn infinite(self) -> bool {
                <$ty>::is_infinite(self)
            }
        }
    )*};
}
floats!(f32, f64);

macro_rules! integers {
    ($($ty:ident $unsigned:ident $class:ident $sign:expr, $abs:expr;)*) => {$(
        impl Number for $ty {
            common!($ty, $class);
            const LOWEST: Self = <$ty>::MIN;
            const HIGHEST: Self = <$ty>::MAX;
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                self.wrapping_add(b)
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                self.wrapping_sub(b)
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                self.wrapping_mul(b)
            }
            #[inline(always)]
            fn div(self, b: Self) -> Self {
                if b == 0 { 0 } else { self.wrapping_div(b) }
            }
            #[inline(always)]
            fn rem(self, b: Self) -> Self {
                if b == 0 { 0 } else { self.wrapping_rem(b) }
            }
            #[inline(always)]
            #[allow(unused_comparisons)]
            fn modulo(self, b: Self) -> Self {
                let r = Number::rem(self, b);
                if r != 0 && (r < 0) != (b < 0) { r.wrapping_add(b) } else { r }
            }
            #[inline(always)]
            fn pow(self, b: Self) -> Self {
                power(self, b)
            }
            #[inline(always)]
            fn min(self, b: Self) -> Self {
                Ord::min(self, b)
            }
            #[inline(always)]
            fn max(self, b: Self) -> Self {
                Ord::max(self, b)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                let f: fn($ty) -> $ty = $abs;
                f(self)
            }
            #[inline(always)]
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn sign(self) -> Self {
                let f: fn($ty) -> $ty = $sign;
                f(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                self as u64
            }
        }
        impl Integer for $ty {
            #[inline(always)]
            fn bit_not(self) -> Self {
                !self
            }
            #[inline(always)]
            fn bit_and(self, b: Self) -> Self {
                self & b
            }
            #[inline(always)]
            fn bit_or(self, b: Self) -> Self {
                self | b
            }
            #[inline(always)]
            fn bit_xor(self, b: Self) -> Self {
                self ^ b
            }
            #[inline(always)]
            fn shl(self, b: Self) -> Self {
                if (b as u64) < u64::from(<$ty>::BITS) { self.wrapping_shl(b as u32) } else { 0 }
            }
            #[inline(always)]
            fn shr(self, b: Self) -> Self {
                let shifted = (self as $unsigned).wrapping_shr(b as u32) as $ty;
                if (b as u64) < u64::from(<$ty>::BITS) { shifted } else { 0 }
            }
        }
    )*};
}
integers! {
    i8 u8 Int |x| x.signum(), |x| x.wrapping_abs();
    i16 u16 Int |x| x.signum(), |x| x.wrapping_abs();
    i32 u32 Int |x| x.signum(), |x| x.wrapping_abs();
    i64 u64 Int |x| x.signum(), |x| x.wrapping_abs();
    u8 u8 Uint |x| (x != 0) as u8, |x| x;
    u16 u16 Uint |x| (x != 0) as u16, |x| x;
    u32 u32 Uint |x| (x != 0) as u32, |x| x;
    u64 u64 Uint |x| (x != 0) as u64, |x| x;
}

/// Repeated squaring, wrapping. A negative exponent gives 0, but for bases 1 and -1.
#[inline(always)]
fn power<T: Integer>(base: T, exponent: T) -> T {
    let minus_one = T::ZERO.sub(T::ONE);
    let odd = exponent.bit_and(T::ONE) == T::ONE;
    if exponent < T::ZERO {
        return match base {
            b if b == T::ONE => T::ONE,
            b if b == minus_one => {
                if odd {
                    minus_one
                } else {
                    T::ONE
                }
            }
            _ => T::ZERO,
        };
    }
    let (mut result, mut square, mut left) = (T::ONE, base, exponent.to_u64());
    while left > 0 {
        if left & 1 == 1 {
            result = result.mul(square);
        }
        square = square.mul(square);
        left >>= 1;
    }
    result
}

/// Converts as ONNX's `Cast`: floats truncate towards zero (saturating at 64 bits), integers wrap.
#[inline(always)]
pub(crate) fn convert<T: Number, U: Number>(x: T) -> U {
    match U::CLASS {
        Class::Float => U::from_f64(x.to_f64()),
        Class::Int => U::from_i64(x.to_i64()),
        _ => U::from_u64(x.to_u64()),
    }
}

/// Calls `$body` with `$t` standing for the Rust type of a plain element type, or gives `$other`.
macro_rules! with_number {
    ($dtype:expr, $t:ident => $body:expr, _ => $other:expr) => {{
        use tarsia_tensor::DType;
        macro_rules! arm {
            ($ty:ty) => {{
                type $t = $ty;
                $body
            }};
        }
        match $dtype {
            DType::F32 => arm!(f32),
            DType::F64 => arm!(f64),
            DType::I8 => arm!(i8),
            DType::I16 => arm!(i16),
            DType::I32 => arm!(i32),
            DType::I64 => arm!(i64),
            DType::U8 | DType::Bool => arm!(u8),
            DType::U16 => arm!(u16),
            DType::U32 => arm!(u32),
            DType::U64 => arm!(u64),
            _ => $other,
        }
    }};
}
pub(crate) use with_number;
