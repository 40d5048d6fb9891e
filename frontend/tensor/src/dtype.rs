//! Element types: names, widths and the arithmetic class each belongs to.

use std::{fmt, str::FromStr};

/// How the values of a type are computed with by the reference evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// IEEE-like floating point, widened to `f64`.
    Float,
    /// Signed integers, widened to `i64`.
    Int,
    /// Unsigned integers and booleans, widened to `u64`.
    Uint,
    /// Byte strings: no arithmetic.
    String,
    /// Whole values (sequences, optional values, maps): no arithmetic.
    Value,
}

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $bits:literal, $class:ident, $onnx:literal;)*) => {
        /// An element type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// Every element type, in table order.
            pub const ALL: &[DType] = &[$(DType::$variant),*];

            /// The name in text forms, e.g. `f32`.
            pub const fn name(self) -> &'static str { match self { $(DType::$variant => $name),* } }

            /// Bits per element; strings and whole values have 0.
            pub const fn bits(self) -> usize { match self { $(DType::$variant => $bits),* } }

            /// The arithmetic class.
            pub const fn class(self) -> Class { match self { $(DType::$variant => Class::$class),* } }

            /// The value of `TensorProto.DataType` in the ONNX schema.
            pub const fn onnx(self) -> i32 { match self { $(DType::$variant => $onnx),* } }
        }
    };
}

dtypes! {
    /// Boolean, one byte, 0 or 1.
    Bool = "bool", 8, Uint, 9;
    /// Unsigned 2-bit integer, four to a byte, lowest bits first.
    U2 = "u2", 2, Uint, 25;
    /// Signed 2-bit integer, four to a byte, lowest bits first.
    I2 = "i2", 2, Int, 26;
    /// Unsigned 4-bit integer, two to a byte, low nibble first.
    U4 = "u4", 4, Uint, 21;
    /// Signed 4-bit integer, two to a byte, low nibble first.
    I4 = "i4", 4, Int, 22;
    /// Unsigned 8-bit integer.
    U8 = "u8", 8, Uint, 2;
    /// Signed 8-bit integer.
    I8 = "i8", 8, Int, 3;
    /// Unsigned 16-bit integer.
    U16 = "u16", 16, Uint, 4;
    /// Signed 16-bit integer.
    I16 = "i16", 16, Int, 5;
    /// Unsigned 32-bit integer.
    U32 = "u32", 32, Uint, 12;
    /// Signed 32-bit integer.
    I32 = "i32", 32, Int, 6;
    /// Unsigned 64-bit integer.
    U64 = "u64", 64, Uint, 13;
    /// Signed 64-bit integer.
    I64 = "i64", 64, Int, 7;
    /// 4-bit float, 2 exponent bits, 1 mantissa bit, no infinities and no NaN.
    F4E2M1 = "f4e2m1", 4, Float, 23;
    /// 8-bit float, 4 exponent bits, finite, NaN at 0x7f.
    F8E4M3FN = "f8e4m3fn", 8, Float, 17;
    /// 8-bit float, 4 exponent bits, finite, no negative zero.
    F8E4M3FNUZ = "f8e4m3fnuz", 8, Float, 18;
    /// 8-bit float, 5 exponent bits, with infinities.
    F8E5M2 = "f8e5m2", 8, Float, 19;
    /// 8-bit float, 5 exponent bits, finite, no negative zero.
    F8E5M2FNUZ = "f8e5m2fnuz", 8, Float, 20;
    /// 8-bit power-of-two scale.
    F8E8M0 = "f8e8m0", 8, Float, 24;
    /// IEEE binary16.
    F16 = "f16", 16, Float, 10;
    /// bfloat16.
    BF16 = "bf16", 16, Float, 16;
    /// IEEE binary32.
    F32 = "f32", 32, Float, 1;
    /// IEEE binary64.
    F64 = "f64", 64, Float, 11;
    /// Byte string.
    String = "string", 0, String, 8;
    /// A whole value, in a tensor of rank 1 for a sequence or an optional value (of 0 or 1), of rank 0 for a map, whose only
    /// element is the sequence of its keys and its values. No element type of ONNX.
    Value = "value", 0, Value, 0;
}

impl DType {
    /// The type with this ONNX `TensorProto.DataType` number.
    pub fn from_onnx(number: i32) -> Option<DType> {
        DType::ALL.iter().copied().find(|dtype| dtype.onnx() == number && number != 0)
    }

    /// Bytes that `count` elements take; `None` on overflow. Sub-byte types are packed.
    pub fn bytes_of(self, count: usize) -> Option<usize> {
        Some(count.checked_mul(self.bits())?.div_ceil(8))
    }

    /// Whether this is a floating-point type.
    pub fn is_float(self) -> bool {
        self.class() == Class::Float
    }

    /// Whether elements are numbers, of a fixed number of bits; texts and whole values are not.
    pub const fn is_numeric(self) -> bool {
        self.bits() > 0
    }

    /// Whether this is an integer type (booleans and strings are not).
    pub fn is_integer(self) -> bool {
        matches!(self.class(), Class::Int | Class::Uint) && self != DType::Bool
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(text: &str) -> Result<DType, String> {
        DType::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| format!("`{text}` is not an element type"))
    }
}
