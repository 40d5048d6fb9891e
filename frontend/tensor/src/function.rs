//! The functions of point-wise ops and reductions, one row each, with the laws that generate rewrite rules.

use std::{fmt, str::FromStr};

/// An algebraic law of a binary function; rewrite rules are generated from these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    /// `f(a, b) = f(b, a)`.
    Commutes,
    /// `f(f(a, b), c) = f(a, f(b, c))`; for floats only up to rounding, except minimum, maximum and logic.
    Associates,
    /// `f(a, e) = a`.
    RightIdentity(f64),
    /// `f(a, z) = z` for finite `a`.
    Absorbing(f64),
    /// `f(a, a) = a`.
    Idempotent,
}

macro_rules! functions {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal $([$($law:expr),*])?;)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every function, in table order.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The name in text forms.
            pub const fn name(self) -> &'static str { match self { $($name::$variant => $text),* } }

            /// The laws that hold.
            pub fn laws(self) -> &'static [Law] {
                #[allow(unused_imports)]
                use Law::*;
                match self { $($name::$variant => &[$($($law),*)?]),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.name()) }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<$name, String> {
                $name::ALL.iter().copied().find(|f| f.name() == text).ok_or_else(|| format!("`{text}` is not one of the {} functions", stringify!($name)))
            }
        }
    };
}

functions! {
    /// Point-wise functions of one operand. The result has the operand's type, but for the predicates, which give bool.
    UnaryFn {
        /// Absolute value.
        Abs = "abs";
        /// Negation.
        Neg = "neg";
        /// e^x.
        Exp = "exp";
        /// Natural logarithm.
        Log = "log";
        /// Square root.
        Sqrt = "sqrt";
        /// 1/√x.
        Rsqrt = "rsqrt";
        /// 1/x.
        Reciprocal = "reciprocal";
        /// Sine.
        Sin = "sin";
        /// Cosine.
        Cos = "cos";
        /// Tangent.
        Tan = "tan";
        /// Inverse sine.
        Asin = "asin";
        /// Inverse cosine.
        Acos = "acos";
        /// Inverse tangent.
        Atan = "atan";
        /// Hyperbolic sine.
        Sinh = "sinh";
        /// Hyperbolic cosine.
        Cosh = "cosh";
        /// Hyperbolic tangent.
        Tanh = "tanh";
        /// Inverse hyperbolic sine.
        Asinh = "asinh";
        /// Inverse hyperbolic cosine.
        Acosh = "acosh";
        /// Inverse hyperbolic tangent.
        Atanh = "atanh";
        /// Gauss error function.
        Erf = "erf";
        /// 1/(1+e^-x).
        Sigmoid = "sigmoid";
        /// log(1+e^x).
        Softplus = "softplus";
        /// Round down.
        Floor = "floor";
        /// Round up.
        Ceil = "ceil";
        /// Round to nearest, ties to even.
        Round = "round";
        /// Round towards zero.
        Trunc = "trunc";
        /// -1, 0 or 1.
        Sign = "sign";
        /// Logical negation of a bool.
        Not = "not";
        /// Bitwise complement of an integer.
        BitNot = "bit_not";
        /// Whether x is NaN; gives bool.
        IsNan = "is_nan";
        /// Whether x is infinite; gives bool.
        IsInf = "is_inf";
    }
}

functions! {
    /// Point-wise functions of two operands of one type with NumPy broadcasting. Comparisons give bool.
    BinaryFn {
        /// Sum; integers wrap.
        Add = "add" [Commutes, Associates, RightIdentity(0.0)];
        /// Difference.
        Sub = "sub" [RightIdentity(0.0)];
        /// Product.
        Mul = "mul" [Commutes, Associates, RightIdentity(1.0), Absorbing(0.0)];
        /// Quotient; integer division truncates, and by zero gives 0.
        Div = "div" [RightIdentity(1.0)];
        /// Power.
        Pow = "pow" [RightIdentity(1.0)];
        /// Smaller; NaN wins.
        Min = "min" [Commutes, Associates, Idempotent];
        /// Larger; NaN wins.
        Max = "max" [Commutes, Associates, Idempotent];
        /// Remainder with the sign of the divisor (Python).
        Mod = "mod";
        /// Remainder with the sign of the dividend (C).
        Rem = "rem";
        /// Angle of the point (second, first).
        Atan2 = "atan2";
        /// Logical and.
        And = "and" [Commutes, Associates, Idempotent];
        /// Logical or.
        Or = "or" [Commutes, Associates, Idempotent];
        /// Logical exclusive or.
        Xor = "xor" [Commutes, Associates];
        /// Bitwise and.
        BitAnd = "bit_and" [Commutes, Associates, Idempotent];
        /// Bitwise or.
        BitOr = "bit_or" [Commutes, Associates, Idempotent];
        /// Bitwise exclusive or.
        BitXor = "bit_xor" [Commutes, Associates];
        /// Shift left, zero for shifts beyond the width.
        ShiftLeft = "shl";
        /// Logical shift right, zero for shifts beyond the width.
        ShiftRight = "shr";
        /// Equal.
        Eq = "eq" [Commutes];
        /// Not equal.
        Ne = "ne" [Commutes];
        /// Less.
        Lt = "lt";
        /// Less or equal.
        Le = "le";
        /// Greater.
        Gt = "gt";
        /// Greater or equal.
        Ge = "ge";
    }
}

functions! {
    /// Reductions over axes; an empty axis gives the identity.
    ReduceFn {
        /// Sum.
        Sum = "reduce_sum";
        /// Product.
        Prod = "reduce_prod";
        /// Smallest; NaN wins; identity +∞ or the type's largest.
        Min = "reduce_min";
        /// Largest; NaN wins; identity -∞ or the type's smallest.
        Max = "reduce_max";
        /// Arithmetic mean (floats only).
        Mean = "reduce_mean";
    }
}

functions! {
    /// Index of an extreme value along an axis.
    ArgReduceFn {
        /// Index of the smallest.
        Min = "arg_min";
        /// Index of the largest.
        Max = "arg_max";
    }
}

functions! {
    /// How a scattered update meets what is there.
    ScatterFn {
        /// Replaces.
        Set = "set";
        /// Adds.
        Add = "add";
        /// Multiplies.
        Mul = "mul";
        /// Keeps the smaller.
        Min = "min";
        /// Keeps the larger.
        Max = "max";
    }
}

impl UnaryFn {
    /// Whether the result is bool whatever the operand.
    pub fn is_predicate(self) -> bool {
        matches!(self, UnaryFn::IsNan | UnaryFn::IsInf)
    }
}

impl BinaryFn {
    /// Whether the result is bool whatever the operands.
    pub fn is_comparison(self) -> bool {
        matches!(self, BinaryFn::Eq | BinaryFn::Ne | BinaryFn::Lt | BinaryFn::Le | BinaryFn::Gt | BinaryFn::Ge)
    }

    /// Whether `law` is in this function's row.
    pub fn commutes(self) -> bool {
        self.laws().contains(&Law::Commutes)
    }
}
