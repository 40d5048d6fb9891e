//! Point-wise functions of plain element types, as loops over short contiguous pieces that the compiler vectorises.

use super::piece::Piece;
use crate::cpu::isa::Isa;
use crate::cpu::number::{Float, Integer, Number};
use crate::cpu::special::erf;
use tarsia_tensor::{BinaryFn, DType, UnaryFn};

/// A function of one element of `T`.
trait Map<T> {
    type Result: Copy;
    fn apply(x: T) -> Self::Result;
}

/// A function of two elements of `T`.
trait Zip<T> {
    type Result: Copy;
    fn apply(a: T, b: T) -> Self::Result;
}

macro_rules! functions {
    ($trait:ident<$bound:ident> -> $ret:ty; $($name:ident($($arg:ident),*) = $body:expr;)*) => {$(
        struct $name;
        impl<T: $bound> $trait<T> for $name {
            type Result = $ret;
            #[inline(always)]
            fn apply($($arg: T),*) -> $ret {
                $body
            }
        }
    )*};
}

functions! { Map<Number> -> T;
    Abs(x) = x.abs();
    Neg(x) = x.neg();
    Sign(x) = x.sign();
}

functions! { Map<Number> -> T;
    Same(x) = x;
    Not(x) = truth(x == T::ZERO);
}

functions! { Map<Integer> -> T;
    BitNot(x) = x.bit_not();
}

functions! { Map<Float> -> T;
    Exp(x) = x.map(f64::exp);
    Log(x) = x.map(f64::ln);
    Sqrt(x) = x.map(f64::sqrt);
    Rsqrt(x) = x.map(|x| 1.0 / x.sqrt());
    Reciprocal(x) = T::ONE.div(x);
    Sin(x) = x.map(f64::sin);
    Cos(x) = x.map(f64::cos);
    Tan(x) = x.map(f64::tan);
    Asin(x) = x.map(f64::asin);
    Acos(x) = x.map(f64::acos);
    Atan(x) = x.map(f64::atan);
    Sinh(x) = x.map(f64::sinh);
    Cosh(x) = x.map(f64::cosh);
    Tanh(x) = x.map(f64::tanh);
    Asinh(x) = x.map(f64::asinh);
    Acosh(x) = x.map(f64::acosh);
    Atanh(x) = x.map(f64::atanh);
    Erf(x) = x.map(erf);
    Sigmoid(x) = x.map(|x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) });
    Softplus(x) = x.map(|x| if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() });
    Floor(x) = x.map(f64::floor);
    Ceil(x) = x.map(f64::ceil);
    Round(x) = x.map(f64::round_ties_even);
    Trunc(x) = x.map(f64::trunc);
}

functions! { Map<Float> -> u8;
    IsNan(x) = u8::from(x.is_nan());
    IsInf(x) = u8::from(x.infinite());
}

functions! { Zip<Number> -> T;
    Add(a, b) = a.add(b);
    Sub(a, b) = a.sub(b);
    Mul(a, b) = a.mul(b);
    Div(a, b) = a.div(b);
    Pow(a, b) = a.pow(b);
    Min(a, b) = a.min(b);
    Max(a, b) = a.max(b);
    Mod(a, b) = a.modulo(b);
    Rem(a, b) = a.rem(b);
}

functions! { Zip<Number> -> T;
    And(a, b) = truth(a != T::ZERO && b != T::ZERO);
    Or(a, b) = truth(a != T::ZERO || b != T::ZERO);
    Xor(a, b) = truth((a != T::ZERO) != (b != T::ZERO));
}

functions! { Zip<Float> -> T;
    Atan2(a, b) = a.atan2(b);
}

functions! { Zip<Integer> -> T;
    BitAnd(a, b) = a.bit_and(b);
    BitOr(a, b) = a.bit_or(b);
    BitXor(a, b) = a.bit_xor(b);
    ShiftLeft(a, b) = a.shl(b);
    ShiftRight(a, b) = a.shr(b);
}

functions! { Zip<Number> -> u8;
    Eq(a, b) = u8::from(a == b);
    Ne(a, b) = u8::from(a != b);
    Lt(a, b) = u8::from(a < b);
    Le(a, b) = u8::from(a <= b);
    Gt(a, b) = u8::from(a > b);
    Ge(a, b) = u8::from(a >= b);
}

#[inline(always)]
fn truth<T: Number>(x: bool) -> T {
    if x { T::ONE } else { T::ZERO }
}

fn map<T: Number, F: Map<T>>(isa: Isa) -> Option<Piece> {
    #[inline(always)]
    unsafe fn body<T: Number, F: Map<T>>(out: *mut u8, a: *const u8, n: usize) {
        // SAFETY: the piece's contract: n elements each, apart from each other and aligned.
        let (out, a) = unsafe {
            (std::slice::from_raw_parts_mut(out.cast::<F::Result>(), n), std::slice::from_raw_parts(a.cast::<T>(), n))
        };
        for (out, &a) in out.iter_mut().zip(a) {
            *out = F::apply(a);
        }
    }
    unsafe fn portable<T: Number, F: Map<T>>(out: *mut u8, a: *const u8, _: *const u8, n: usize) {
        // SAFETY: the piece's contract.
        unsafe { body::<T, F>(out, a, n) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
    unsafe fn avx2<T: Number, F: Map<T>>(out: *mut u8, a: *const u8, _: *const u8, n: usize) {
        // SAFETY: the piece's contract.
        unsafe { body::<T, F>(out, a, n) }
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => Some(Piece::Direct(avx2::<T, F>)),
        _ => Some(Piece::Direct(portable::<T, F>)),
    }
}

fn zip<T: Number, F: Zip<T>>(isa: Isa) -> Option<Piece> {
    #[inline(always)]
    unsafe fn body<T: Number, F: Zip<T>>(out: *mut u8, a: *const u8, b: *const u8, n: usize) {
        // SAFETY: the piece's contract: n elements each, the result apart from the operands, all aligned.
        let (out, a, b) = unsafe {
            (
                std::slice::from_raw_parts_mut(out.cast::<F::Result>(), n),
                std::slice::from_raw_parts(a.cast::<T>(), n),
                std::slice::from_raw_parts(b.cast::<T>(), n),
            )
        };
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = F::apply(a, b);
        }
    }
    unsafe fn portable<T: Number, F: Zip<T>>(out: *mut u8, a: *const u8, b: *const u8, n: usize) {
        // SAFETY: the piece's contract.
        unsafe { body::<T, F>(out, a, b, n) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
    unsafe fn avx2<T: Number, F: Zip<T>>(out: *mut u8, a: *const u8, b: *const u8, n: usize) {
        // SAFETY: the piece's contract.
        unsafe { body::<T, F>(out, a, b, n) }
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => Some(Piece::Direct(avx2::<T, F>)),
        _ => Some(Piece::Direct(portable::<T, F>)),
    }
}

/// The piece of a function of one plain element.
pub(super) fn unary(isa: Isa, function: UnaryFn, dtype: DType) -> Option<Piece> {
    match dtype {
        DType::F32 if function == UnaryFn::Not => map::<f32, Not>(isa),
        DType::F64 => float_unary::<f64>(isa, function),
        DType::I8 => integer_unary::<i8>(isa, function),
        DType::I16 => integer_unary::<i16>(isa, function),
        DType::I32 => integer_unary::<i32>(isa, function),
        DType::I64 => integer_unary::<i64>(isa, function),
        DType::U8 => integer_unary::<u8>(isa, function),
        DType::U16 => integer_unary::<u16>(isa, function),
        DType::U32 => integer_unary::<u32>(isa, function),
        DType::U64 => integer_unary::<u64>(isa, function),
        DType::Bool if function == UnaryFn::Not => map::<u8, Not>(isa),
        _ => None,
    }
}

fn float_unary<T: Float>(isa: Isa, function: UnaryFn) -> Option<Piece> {
    macro_rules! table {
        ($($name:ident)*) => {
            match function {
                $(UnaryFn::$name => map::<T, $name>(isa),)*
                UnaryFn::Not => map::<T, Not>(isa),
                UnaryFn::BitNot => None,
            }
        };
    }
    table!(Abs Neg Exp Log Sqrt Rsqrt Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf Sigmoid
        Softplus Floor Ceil Round Trunc Sign IsNan IsInf)
}

fn integer_unary<T: Integer>(isa: Isa, function: UnaryFn) -> Option<Piece> {
    match function {
        UnaryFn::Abs => map::<T, Abs>(isa),
        UnaryFn::Neg => map::<T, Neg>(isa),
        UnaryFn::Sign => map::<T, Sign>(isa),
        UnaryFn::BitNot => map::<T, BitNot>(isa),
        UnaryFn::Not => map::<T, Not>(isa),
        UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Trunc => map::<T, Same>(isa),
        _ => None,
    }
}

/// The piece of a function of two plain elements.
pub(super) fn binary(isa: Isa, function: BinaryFn, dtype: DType) -> Option<Piece> {
    match dtype {
        DType::F32 => float_binary::<f32>(isa, function),
        DType::F64 => float_binary::<f64>(isa, function),
        DType::I8 => integer_binary::<i8, u8>(isa, function),
        DType::I16 => integer_binary::<i16, u16>(isa, function),
        DType::I32 => integer_binary::<i32, u32>(isa, function),
        DType::I64 => integer_binary::<i64, u64>(isa, function),
        DType::U8 => integer_binary::<u8, u8>(isa, function),
        DType::U16 => integer_binary::<u16, u16>(isa, function),
        DType::U32 => integer_binary::<u32, u32>(isa, function),
        DType::U64 => integer_binary::<u64, u64>(isa, function),
        DType::Bool => bool_binary(isa, function),
        _ => None,
    }
}

fn float_binary<T: Float>(isa: Isa, function: BinaryFn) -> Option<Piece> {
    macro_rules! table {
        ($($name:ident)*) => {
            match function {
                $(BinaryFn::$name => zip::<T, $name>(isa),)*
                _ => None,
            }
        };
    }
    table!(Add Sub Mul Div Pow Min Max Mod Rem Atan2 And Or Xor Eq Ne Lt Le Gt Ge)
}

/// `U` is the unsigned type as wide as `T`: what does not depend on the sign is compiled once.
fn integer_binary<T: Integer, U: Integer>(isa: Isa, function: BinaryFn) -> Option<Piece> {
    macro_rules! table {
        ([$($signed:ident)*] [$($any:ident)*]) => {
            match function {
                $(BinaryFn::$signed => zip::<T, $signed>(isa),)*
                $(BinaryFn::$any => zip::<U, $any>(isa),)*
                BinaryFn::Atan2 => None,
            }
        };
    }
    table!([Div Pow Min Max Mod Rem Lt Le Gt Ge] [Add Sub Mul And Or Xor BitAnd BitOr BitXor ShiftLeft ShiftRight Eq Ne])
}

fn bool_binary(isa: Isa, function: BinaryFn) -> Option<Piece> {
    match function {
        BinaryFn::And | BinaryFn::BitAnd | BinaryFn::Mul | BinaryFn::Min => zip::<u8, BitAnd>(isa),
        BinaryFn::Or | BinaryFn::BitOr | BinaryFn::Add | BinaryFn::Max => zip::<u8, BitOr>(isa),
        BinaryFn::Xor | BinaryFn::BitXor => zip::<u8, BitXor>(isa),
        BinaryFn::Eq => zip::<u8, Eq>(isa),
        BinaryFn::Ne => zip::<u8, Ne>(isa),
        BinaryFn::Lt => zip::<u8, Lt>(isa),
        BinaryFn::Le => zip::<u8, Le>(isa),
        BinaryFn::Gt => zip::<u8, Gt>(isa),
        BinaryFn::Ge => zip::<u8, Ge>(isa),
        _ => None,
    }
}
