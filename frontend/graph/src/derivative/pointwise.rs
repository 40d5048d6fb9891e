//! Derivatives of point-wise functions.

use super::{Adjoints, Step, Stop, mul, unbroadcast};
use crate::{BinaryFn, Op, UnaryFn, Value, composite::Builder};

/// `1 - x²`, `1 + x²` or `x² - 1`, as `scale·x² + shift`.
fn quadratic(b: &mut Builder, x: Value, scale: f64, shift: f64) -> Result<Value, Stop> {
    let square = mul(b, x, x)?;
    let scaled = b.with_scalar(BinaryFn::Mul, square, scale)?;
    Ok(b.with_scalar(BinaryFn::Add, scaled, shift)?)
}

/// `adjoint·f'(x)`, where `y = f(x)`.
pub(super) fn unary(b: &mut Builder, function: UnaryFn, step: &Step) -> Adjoints {
    use UnaryFn::*;
    let (x, y) = (step.operands[0], step.results[0]);
    let slope = match function {
        Abs => b.unary(Sign, x)?,
        Neg => return Ok(vec![Some(b.unary(Neg, step.adjoint()?)?)]),
        Exp => y,
        Log => b.unary(Reciprocal, x)?,
        Sqrt => {
            let twice = b.with_scalar(BinaryFn::Mul, y, 2.0)?;
            b.unary(Reciprocal, twice)?
        }
        Rsqrt => {
            let square = mul(b, y, y)?;
            let cube = mul(b, square, y)?;
            b.with_scalar(BinaryFn::Mul, cube, -0.5)?
        }
        Reciprocal => quadratic(b, y, -1.0, 0.0)?,
        Sin => b.unary(Cos, x)?,
        Cos => {
            let sin = b.unary(Sin, x)?;
            b.unary(Neg, sin)?
        }
        Tan => quadratic(b, y, 1.0, 1.0)?,
        Asin | Acos => {
            let rest = quadratic(b, x, -1.0, 1.0)?;
            let slope = b.unary(Rsqrt, rest)?;
            if function == Asin { slope } else { b.unary(Neg, slope)? }
        }
        Atan => {
            let rest = quadratic(b, x, 1.0, 1.0)?;
            b.unary(Reciprocal, rest)?
        }
        Sinh => b.unary(Cosh, x)?,
        Cosh => b.unary(Sinh, x)?,
        Tanh => quadratic(b, y, -1.0, 1.0)?,
        Asinh => {
            let rest = quadratic(b, x, 1.0, 1.0)?;
            b.unary(Rsqrt, rest)?
        }
        Acosh => {
            let rest = quadratic(b, x, 1.0, -1.0)?;
            b.unary(Rsqrt, rest)?
        }
        Atanh => {
            let rest = quadratic(b, x, -1.0, 1.0)?;
            b.unary(Reciprocal, rest)?
        }
        Erf => {
            let square = quadratic(b, x, -1.0, 0.0)?;
            let exp = b.unary(Exp, square)?;
            b.with_scalar(BinaryFn::Mul, exp, std::f64::consts::FRAC_2_SQRT_PI)?
        }
        Sigmoid => {
            let square = mul(b, y, y)?;
            b.binary(BinaryFn::Sub, y, square)?
        }
        Softplus => b.unary(Sigmoid, x)?,
        // Steps.
        Floor | Ceil | Round | Trunc | Sign | Not | BitNot | IsNan | IsInf => return Ok(vec![None]),
    };
    let adjoint = step.adjoint()?;
    Ok(vec![Some(mul(b, adjoint, slope)?)])
}

pub(super) fn binary(b: &mut Builder, function: BinaryFn, step: &Step) -> Adjoints {
    use BinaryFn::*;
    let (x, y, result) = (step.operands[0], step.operands[1], step.results[0]);
    let slopes = match function {
        Add | Sub => {
            let adjoint = step.adjoint()?;
            let second = if function == Add { adjoint } else { b.unary(UnaryFn::Neg, adjoint)? };
            return Ok(vec![Some(unbroadcast(b, adjoint, x)?), Some(unbroadcast(b, second, y)?)]);
        }
        Mul => (y, x),
        Div => {
            let first = b.unary(UnaryFn::Reciprocal, y)?;
            let second = mul(b, result, first)?;
            (first, b.unary(UnaryFn::Neg, second)?)
        }
        Pow => power(b, x, y, result)?,
        Min | Max => {
            // The result is the first operand where they are equal.
            let wins = b.binary(if function == Min { Le } else { Ge }, x, y)?;
            let dtype = b.graph.ty(x).dtype;
            let first = b.cast(wins, dtype)?;
            let negative = b.unary(UnaryFn::Neg, first)?;
            (first, b.with_scalar(Add, negative, 1.0)?)
        }
        Mod | Rem => {
            let quotient = b.binary(Div, x, y)?;
            let whole = b.unary(if function == Mod { UnaryFn::Floor } else { UnaryFn::Trunc }, quotient)?;
            let adjoint = step.adjoint()?;
            let second = mul(b, adjoint, whole)?;
            let second = b.unary(UnaryFn::Neg, second)?;
            return Ok(vec![Some(unbroadcast(b, adjoint, x)?), Some(unbroadcast(b, second, y)?)]);
        }
        Atan2 => {
            let (a, c) = (mul(b, x, x)?, mul(b, y, y)?);
            let square = b.binary(Add, a, c)?;
            let first = b.binary(Div, y, square)?;
            let second = b.binary(Div, x, square)?;
            (first, b.unary(UnaryFn::Neg, second)?)
        }
        And | Or | Xor | BitAnd | BitOr | BitXor | ShiftLeft | ShiftRight | Eq | Ne | Lt | Le | Gt | Ge => {
            return Ok(vec![None, None]);
        }
    };
    let adjoint = step.adjoint()?;
    let (first, second) = (mul(b, adjoint, slopes.0)?, mul(b, adjoint, slopes.1)?);
    Ok(vec![Some(unbroadcast(b, first, x)?), Some(unbroadcast(b, second, y)?)])
}

/// Of `x^y`: `y·x^(y-1)`, and `x^y·log x`, which is 0 for x of at most 0.
fn power(b: &mut Builder, x: Value, y: Value, result: Value) -> Result<(Value, Value), Stop> {
    let less = b.with_scalar(BinaryFn::Add, y, -1.0)?;
    let power = b.binary(BinaryFn::Pow, x, less)?;
    let first = mul(b, y, power)?;
    let positive = b.with_scalar(BinaryFn::Gt, x, 0.0)?;
    let one = b.scalar(b.graph.ty(x).dtype, 1.0);
    let safe = b.add(Op::Select {}, &[positive, x, one])?;
    let log = b.unary(UnaryFn::Log, safe)?;
    Ok((first, mul(b, result, log)?))
}

/// The adjoint where the operand is chosen.
pub(super) fn select(b: &mut Builder, step: &Step) -> Adjoints {
    let (condition, x, y) = (step.operands[0], step.operands[1], step.operands[2]);
    let adjoint = step.adjoint()?;
    let zero = b.scalar(b.graph.ty(adjoint).dtype, 0.0);
    let first = b.add(Op::Select {}, &[condition, adjoint, zero])?;
    let second = b.add(Op::Select {}, &[condition, zero, adjoint])?;
    Ok(vec![None, Some(unbroadcast(b, first, x)?), Some(unbroadcast(b, second, y)?)])
}

/// Between floats as if it did not round; a conversion from or to integers is a step.
pub(super) fn cast(b: &mut Builder, step: &Step) -> Adjoints {
    let (from, to) = (b.graph.ty(step.operands[0]).dtype, b.graph.ty(step.results[0]).dtype);
    if !from.is_float() || !to.is_float() {
        return Ok(vec![None]);
    }
    Ok(vec![Some(b.cast(step.adjoint()?, from)?)])
}
