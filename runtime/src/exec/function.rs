//! The functions of the tile IR on widened elements.
//!
//! Integers wrap when they are stored; division by zero gives 0; minimum and maximum of floats give NaN if one is NaN.

use tarsia_tensor::{BinaryFn, Class, DType, ReduceFn, ScatterFn, UnaryFn};

use super::wide::Wide;

/// Applies a function of one operand to a piece. Truth values are 1 and 0.
pub fn unary<W: Number>(function: UnaryFn, dtype: DType, x: &mut [W]) {
    macro_rules! float {
        ($($name:ident = $f:expr),* $(,)?) => {
            match function {
                UnaryFn::Abs => map(x, W::abs),
                UnaryFn::Neg => map(x, W::neg),
                UnaryFn::Sign => map(x, W::sign),
                UnaryFn::Not => map(x, |x| truth(x == W::default())),
                UnaryFn::BitNot => map(x, |x| W::from_u64(!x.u64())),
                UnaryFn::IsNan => map(x, |x| truth(x.f64().is_nan())),
                UnaryFn::IsInf => map(x, |x| truth(x.f64().is_infinite())),
                UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Trunc if dtype.class() != Class::Float => {}
                $(UnaryFn::$name => map(x, |x| {
                    let f: fn(f64) -> f64 = $f;
                    W::from_f64(f(x.f64()))
                }),)*
            }
        };
    }
    float!(
        Exp = f64::exp,
        Log = f64::ln,
        Sqrt = f64::sqrt,
        Rsqrt = |x| 1.0 / x.sqrt(),
        Reciprocal = |x| 1.0 / x,
        Sin = f64::sin,
        Cos = f64::cos,
        Tan = f64::tan,
        Asin = f64::asin,
        Acos = f64::acos,
        Atan = f64::atan,
        Sinh = f64::sinh,
        Cosh = f64::cosh,
        Tanh = f64::tanh,
        Asinh = f64::asinh,
        Acosh = f64::acosh,
        Atanh = f64::atanh,
        Erf = erf,
        Sigmoid = |x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) },
        Softplus = |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Floor = f64::floor,
        Ceil = f64::ceil,
        Round = f64::round_ties_even,
        Trunc = f64::trunc,
    );
}

/// Applies a function of two operands to pieces: `a = function(a, b)`. Truth values are 1 and 0.
pub fn binary<W: Number>(function: BinaryFn, dtype: DType, a: &mut [W], b: &[W]) {
    let bits = dtype.bits() as u64;
    let unsigned = |x: W| x.u64() & (u64::MAX >> (64 - bits.clamp(1, 64)));
    match function {
        BinaryFn::Add => zip(a, b, W::add),
        BinaryFn::Sub => zip(a, b, W::sub),
        BinaryFn::Mul => zip(a, b, W::mul),
        BinaryFn::Div => zip(a, b, W::div),
        BinaryFn::Pow => zip(a, b, W::pow),
        BinaryFn::Min => zip(a, b, W::min),
        BinaryFn::Max => zip(a, b, W::max),
        BinaryFn::Mod => zip(a, b, W::modulo),
        BinaryFn::Rem => zip(a, b, W::rem),
        BinaryFn::Atan2 => zip(a, b, |a, b| W::from_f64(a.f64().atan2(b.f64()))),
        BinaryFn::And => zip(a, b, |a, b| truth(a.is_true() && b.is_true())),
        BinaryFn::Or => zip(a, b, |a, b| truth(a.is_true() || b.is_true())),
        BinaryFn::Xor => zip(a, b, |a, b| truth(a.is_true() != b.is_true())),
        BinaryFn::BitAnd => zip(a, b, |a, b| W::from_u64(a.u64() & b.u64())),
        BinaryFn::BitOr => zip(a, b, |a, b| W::from_u64(a.u64() | b.u64())),
        BinaryFn::BitXor => zip(a, b, |a, b| W::from_u64(a.u64() ^ b.u64())),
        BinaryFn::ShiftLeft => zip(a, b, |a, b| {
            let shift = unsigned(b);
            W::from_u64(if shift < bits { a.u64() << shift } else { 0 })
        }),
        BinaryFn::ShiftRight => zip(a, b, |a, b| {
            let shift = unsigned(b);
            W::from_u64(if shift < bits { unsigned(a) >> shift } else { 0 })
        }),
        BinaryFn::Eq => zip(a, b, |a, b| truth(a == b)),
        BinaryFn::Ne => zip(a, b, |a, b| truth(a != b)),
        BinaryFn::Lt => zip(a, b, |a, b| truth(a < b)),
        BinaryFn::Le => zip(a, b, |a, b| truth(a <= b)),
        BinaryFn::Gt => zip(a, b, |a, b| truth(a > b)),
        BinaryFn::Ge => zip(a, b, |a, b| truth(a >= b)),
    }
}

/// The binary function that a reduction repeats.
pub fn of_reduction(function: ReduceFn) -> BinaryFn {
    match function {
        ReduceFn::Sum | ReduceFn::Mean => BinaryFn::Add,
        ReduceFn::Prod => BinaryFn::Mul,
        ReduceFn::Min => BinaryFn::Min,
        ReduceFn::Max => BinaryFn::Max,
    }
}

/// The binary function by which an update meets what is there; `None` replaces.
pub fn of_scatter(function: ScatterFn) -> Option<BinaryFn> {
    match function {
        ScatterFn::Set => None,
        ScatterFn::Add => Some(BinaryFn::Add),
        ScatterFn::Mul => Some(BinaryFn::Mul),
        ScatterFn::Min => Some(BinaryFn::Min),
        ScatterFn::Max => Some(BinaryFn::Max),
    }
}

#[inline(always)]
fn map<W: Copy>(x: &mut [W], f: impl Fn(W) -> W) {
    x.iter_mut().for_each(|x| *x = f(*x));
}

#[inline(always)]
fn zip<W: Copy>(a: &mut [W], b: &[W], f: impl Fn(W, W) -> W) {
    a.iter_mut().zip(b).for_each(|(a, &b)| *a = f(*a, b));
}

#[inline(always)]
fn truth<W: Wide>(x: bool) -> W {
    W::from_u64(x.into())
}

/// Arithmetic on widened elements.
pub trait Number: Wide {
    /// Whether it is a float.
    const FLOAT: bool;
    /// Sum.
    fn add(self, b: Self) -> Self;
    /// Difference.
    fn sub(self, b: Self) -> Self;
    /// Product.
    fn mul(self, b: Self) -> Self;
    /// Quotient.
    fn div(self, b: Self) -> Self;
    /// Power.
    fn pow(self, b: Self) -> Self;
    /// Smaller.
    fn min(self, b: Self) -> Self;
    /// Larger.
    fn max(self, b: Self) -> Self;
    /// Remainder with the sign of the divisor.
    fn modulo(self, b: Self) -> Self;
    /// Remainder with the sign of the dividend.
    fn rem(self, b: Self) -> Self;
    /// Magnitude.
    fn abs(self) -> Self;
    /// Negation.
    fn neg(self) -> Self;
    /// -1, 0 or 1.
    fn sign(self) -> Self;
    /// Whether it is not zero.
    fn is_true(self) -> bool {
        self != Self::default()
    }
    /// Whether it is NaN.
    fn is_nan(self) -> bool {
        self.f64().is_nan()
    }
}

macro_rules! floats {
    ($($ty:ty),*) => {$(
        impl Number for $ty {
            const FLOAT: bool = true;
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
            fn pow(self, b: Self) -> Self {
                self.powf(b)
            }
            #[inline(always)]
            fn min(self, b: Self) -> Self {
                if self < b || self.is_nan() { self } else { b }
            }
            #[inline(always)]
            fn max(self, b: Self) -> Self {
                if self > b || self.is_nan() { self } else { b }
            }
            fn modulo(self, b: Self) -> Self {
                let r = self % b;
                if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
            }
            fn rem(self, b: Self) -> Self {
                self % b
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$ty>::abs(self)
            }
            #[inline(always)]
            fn neg(self) -> Self {
                -self
            }
            fn sign(self) -> Self {
                if self > 0.0 { 1.0 } else if self < 0.0 { -1.0 } else { self }
            }
        }
    )*};
}
floats!(f32, f64);

macro_rules! integers {
    ($($ty:ty { $abs:expr, $sign:expr })*) => {$(
        impl Number for $ty {
            const FLOAT: bool = false;
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
            fn div(self, b: Self) -> Self {
                if b == 0 { 0 } else { self.wrapping_div(b) }
            }
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
            #[allow(unused_comparisons)]
            fn modulo(self, b: Self) -> Self {
                let r = Number::rem(self, b);
                if r != 0 && (r < 0) != (b < 0) { r.wrapping_add(b) } else { r }
            }
            fn rem(self, b: Self) -> Self {
                if b == 0 { 0 } else { self.wrapping_rem(b) }
            }
            fn abs(self) -> Self {
                let f: fn($ty) -> $ty = $abs;
                f(self)
            }
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            fn sign(self) -> Self {
                let f: fn($ty) -> $ty = $sign;
                f(self)
            }
        }
    )*};
}
integers! {
    i64 { i64::wrapping_abs, i64::signum }
    u64 { |x| x, |x| u64::from(x != 0) }
}

/// Repeated squaring, wrapping. A negative exponent gives 0, but for bases 1 and -1.
fn power<W: Number>(base: W, exponent: W) -> W {
    let (one, minus_one) = (W::from_i64(1), W::from_i64(-1));
    if exponent < W::default() {
        let odd = exponent.u64() & 1 == 1;
        return if base == one || (base == minus_one && !odd) {
            one
        } else if base == minus_one {
            minus_one
        } else {
            W::default()
        };
    }
    let (mut result, mut square, mut left) = (one, base, exponent.u64());
    while left > 0 {
        if left & 1 == 1 {
            result = result.mul(square);
        }
        square = square.mul(square);
        left >>= 1;
    }
    result
}

/// Gauss error function: `2/√π e^-x² Σ 2ⁿ x^(2n+1) / (2n+1)!!`, all terms positive (Abramowitz and Stegun 7.1.6).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() || a >= 6.0 {
        return if a.is_nan() { x } else { 1f64.copysign(x) };
    }
    let (mut term, mut sum, mut n) = (a, a, 1.0);
    while term > sum * 1e-17 {
        term *= 2.0 * a * a / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    (std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum).copysign(x)
}
