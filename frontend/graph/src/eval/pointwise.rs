//! Point-wise ops: 64-bit arithmetic per element, rounded to the result type.

use std::cmp::Ordering;

use tarsia_tensor::{
    BinaryFn, DType, Numbers, Tensor, UnaryFn,
    arrange::{Places, assemble},
    convert,
};

use super::Fault;
use crate::Op;

pub(super) fn apply(op: &Op, x: &[Tensor], shape: &[usize]) -> Result<Tensor, Fault> {
    match op {
        Op::Unary(function) => unary(*function, &x[0]),
        Op::Binary(function) => binary(*function, &x[0], &x[1], shape),
        Op::Select {} => select(x, shape),
        Op::Cast { dtype, saturate } => Ok(convert(&x[0], *dtype, *saturate)?),
        _ => Err(Fault::NoOperand),
    }
}

fn unary(function: UnaryFn, x: &Tensor) -> Result<Tensor, Fault> {
    let numbers = x.numbers()?;
    if function.is_predicate() {
        let holds =
            |value: f64| u64::from(if function == UnaryFn::IsNan { value.is_nan() } else { value.is_infinite() });
        let bits = match &numbers {
            Numbers::Float(v) => v.iter().map(|&value| holds(value)).collect(),
            _ => vec![0; numbers.len()],
        };
        return Ok(Tensor::from_numbers(DType::Bool, x.shape(), &Numbers::Uint(bits))?);
    }
    let result = match &numbers {
        Numbers::Float(v) => Numbers::Float(v.iter().map(|&value| float_unary(function, value)).collect()),
        Numbers::Int(v) => match v.iter().map(|&value| int_unary(function, value)).collect() {
            Some(exact) => Numbers::Int(exact),
            None => Numbers::Float(v.iter().map(|&value| float_unary(function, value as f64)).collect()),
        },
        Numbers::Uint(v) if x.dtype() == DType::Bool && matches!(function, UnaryFn::Not | UnaryFn::BitNot) => {
            Numbers::Uint(v.iter().map(|&value| u64::from(value == 0)).collect())
        }
        Numbers::Uint(v) => match v.iter().map(|&value| uint_unary(function, value)).collect() {
            Some(exact) => Numbers::Uint(exact),
            None => Numbers::Float(v.iter().map(|&value| float_unary(function, value as f64)).collect()),
        },
    };
    Ok(Tensor::from_numbers(x.dtype(), x.shape(), &result)?)
}

fn float_unary(function: UnaryFn, x: f64) -> f64 {
    match function {
        UnaryFn::Abs => x.abs(),
        UnaryFn::Neg => -x,
        UnaryFn::Exp => x.exp(),
        UnaryFn::Log => x.ln(),
        UnaryFn::Sqrt => x.sqrt(),
        UnaryFn::Rsqrt => x.sqrt().recip(),
        UnaryFn::Reciprocal => x.recip(),
        UnaryFn::Sin => x.sin(),
        UnaryFn::Cos => x.cos(),
        UnaryFn::Tan => x.tan(),
        UnaryFn::Asin => x.asin(),
        UnaryFn::Acos => x.acos(),
        UnaryFn::Atan => x.atan(),
        UnaryFn::Sinh => x.sinh(),
        UnaryFn::Cosh => x.cosh(),
        UnaryFn::Tanh => x.tanh(),
        UnaryFn::Asinh => x.asinh(),
        UnaryFn::Acosh => x.acosh(),
        UnaryFn::Atanh => x.atanh(),
        UnaryFn::Erf => libm::erf(x),
        UnaryFn::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        // Without overflow of the exponential.
        UnaryFn::Softplus if x > 0.0 => x + (-x).exp().ln_1p(),
        UnaryFn::Softplus => x.exp().ln_1p(),
        UnaryFn::Floor => x.floor(),
        UnaryFn::Ceil => x.ceil(),
        UnaryFn::Round => x.round_ties_even(),
        UnaryFn::Trunc => x.trunc(),
        UnaryFn::Sign if x.is_nan() => x,
        UnaryFn::Sign => f64::from(x > 0.0) - f64::from(x < 0.0),
        UnaryFn::Not | UnaryFn::BitNot => f64::from(x == 0.0),
        UnaryFn::IsNan => f64::from(x.is_nan()),
        UnaryFn::IsInf => f64::from(x.is_infinite()),
    }
}

/// Functions that are exact on integers; `None` for those that are computed as floats.
fn int_unary(function: UnaryFn, x: i64) -> Option<i64> {
    Some(match function {
        UnaryFn::Abs => x.wrapping_abs(),
        UnaryFn::Neg => x.wrapping_neg(),
        UnaryFn::Sign => x.signum(),
        UnaryFn::BitNot => !x,
        UnaryFn::Not => i64::from(x == 0),
        UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Trunc => x,
        _ => return None,
    })
}

fn uint_unary(function: UnaryFn, x: u64) -> Option<u64> {
    Some(match function {
        UnaryFn::Abs => x,
        UnaryFn::Sign => x.min(1),
        _ => int_unary(function, x as i64)? as u64,
    })
}

fn binary(function: BinaryFn, a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor, Fault> {
    if a.dtype() == DType::String {
        return compare_strings(function, a, b, shape);
    }
    let bits = a.dtype().bits() as u32;
    let (x, y) = (a.numbers()?, b.numbers()?);
    let pairs = Pairs { a: a.shape(), b: b.shape(), shape };
    if function.is_comparison() {
        let holds = match (&x, &y) {
            (Numbers::Float(x), Numbers::Float(y)) => pairs.map(x, y, |a, b| compare(function, a.partial_cmp(&b))),
            (Numbers::Int(x), Numbers::Int(y)) => pairs.map(x, y, |a, b| compare(function, Some(a.cmp(&b)))),
            (Numbers::Uint(x), Numbers::Uint(y)) => pairs.map(x, y, |a, b| compare(function, Some(a.cmp(&b)))),
            _ => return Err(Fault::Unsupported(b.dtype())),
        };
        let holds = Numbers::Uint(holds.into_iter().map(u64::from).collect());
        return Ok(Tensor::from_numbers(DType::Bool, shape, &holds)?);
    }
    let result = match (&x, &y) {
        (Numbers::Float(x), Numbers::Float(y)) => Numbers::Float(pairs.map(x, y, |a, b| float_binary(function, a, b))),
        (Numbers::Int(x), Numbers::Int(y)) => Numbers::Int(pairs.map(x, y, |a, b| int_binary(function, a, b, bits))),
        (Numbers::Uint(x), Numbers::Uint(y)) => {
            Numbers::Uint(pairs.map(x, y, |a, b| uint_binary(function, a, b, bits)))
        }
        _ => return Err(Fault::Unsupported(b.dtype())),
    };
    Ok(Tensor::from_numbers(a.dtype(), shape, &result)?)
}

/// Two operand shapes under broadcasting.
struct Pairs<'a> {
    a: &'a [usize],
    b: &'a [usize],
    shape: &'a [usize],
}

impl Pairs<'_> {
    fn map<T: Copy, R>(&self, x: &[T], y: &[T], f: impl Fn(T, T) -> R) -> Vec<R> {
        if self.a == self.b {
            return x.iter().zip(y).map(|(&a, &b)| f(a, b)).collect();
        }
        let places = Places::broadcast(self.a, self.shape).zip(Places::broadcast(self.b, self.shape));
        places.map(|(i, j)| f(x[i], y[j])).collect()
    }
}

fn compare(function: BinaryFn, order: Option<Ordering>) -> bool {
    match function {
        BinaryFn::Eq => order == Some(Ordering::Equal),
        BinaryFn::Ne => order != Some(Ordering::Equal),
        BinaryFn::Lt => order == Some(Ordering::Less),
        BinaryFn::Gt => order == Some(Ordering::Greater),
        BinaryFn::Le => order.is_some_and(Ordering::is_le),
        BinaryFn::Ge => order.is_some_and(Ordering::is_ge),
        _ => false,
    }
}

fn compare_strings(function: BinaryFn, a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor, Fault> {
    let (Some(x), Some(y)) = (a.strings(), b.strings()) else { return Err(Fault::Unsupported(b.dtype())) };
    if !function.is_comparison() {
        return Err(Fault::Unsupported(DType::String));
    }
    let places = Places::broadcast(a.shape(), shape).zip(Places::broadcast(b.shape(), shape));
    let holds = places.map(|(i, j)| u64::from(compare(function, Some(x[i].cmp(&y[j]))))).collect();
    Ok(Tensor::from_numbers(DType::Bool, shape, &Numbers::Uint(holds))?)
}

fn float_binary(function: BinaryFn, a: f64, b: f64) -> f64 {
    match function {
        BinaryFn::Add => a + b,
        BinaryFn::Sub => a - b,
        BinaryFn::Mul => a * b,
        BinaryFn::Div => a / b,
        BinaryFn::Pow => a.powf(b),
        BinaryFn::Min | BinaryFn::Max => extreme(a, b, function == BinaryFn::Max),
        BinaryFn::Mod => {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        }
        BinaryFn::Rem => a % b,
        BinaryFn::Atan2 => a.atan2(b),
        BinaryFn::And => f64::from(a != 0.0 && b != 0.0),
        BinaryFn::Or => f64::from(a != 0.0 || b != 0.0),
        BinaryFn::Xor => f64::from((a != 0.0) != (b != 0.0)),
        // The type rules of importers keep bit operations away from floats; comparisons are handled before.
        _ => f64::NAN,
    }
}

/// The larger or smaller of two; NaN wins.
pub(super) fn extreme(a: f64, b: f64, larger: bool) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if (b > a) == larger && a != b {
        b
    } else {
        a
    }
}

fn int_binary(function: BinaryFn, a: i64, b: i64, bits: u32) -> i64 {
    match function {
        BinaryFn::Div => a.wrapping_div(if b == 0 { return 0 } else { b }),
        BinaryFn::Rem => a.wrapping_rem(if b == 0 { return 0 } else { b }),
        BinaryFn::Mod => {
            let rest = a.wrapping_rem(if b == 0 { return 0 } else { b });
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        BinaryFn::Pow => int_power(a, b),
        BinaryFn::Min => a.min(b),
        BinaryFn::Max => a.max(b),
        // A logical shift sees only the bits of the type.
        BinaryFn::ShiftRight => uint_binary(function, a as u64 & (u64::MAX >> (64 - bits)), b as u64, bits) as i64,
        BinaryFn::Atan2 => (a as f64).atan2(b as f64) as i64,
        _ => uint_binary(function, a as u64, b as u64, bits) as i64,
    }
}

fn uint_binary(function: BinaryFn, a: u64, b: u64, bits: u32) -> u64 {
    match function {
        BinaryFn::Add => a.wrapping_add(b),
        BinaryFn::Sub => a.wrapping_sub(b),
        BinaryFn::Mul => a.wrapping_mul(b),
        BinaryFn::Div => a.checked_div(b).unwrap_or(0),
        BinaryFn::Mod | BinaryFn::Rem => a.checked_rem(b).unwrap_or(0),
        BinaryFn::Pow => wrapping_power(a, b),
        BinaryFn::Min => a.min(b),
        BinaryFn::Max => a.max(b),
        BinaryFn::Atan2 => (a as f64).atan2(b as f64) as u64,
        BinaryFn::And => u64::from(a != 0 && b != 0),
        BinaryFn::Or => u64::from(a != 0 || b != 0),
        BinaryFn::Xor => u64::from((a != 0) != (b != 0)),
        BinaryFn::BitAnd => a & b,
        BinaryFn::BitOr => a | b,
        BinaryFn::BitXor => a ^ b,
        BinaryFn::ShiftLeft => {
            if b < u64::from(bits) {
                a << b
            } else {
                0
            }
        }
        BinaryFn::ShiftRight => {
            if b < u64::from(bits) {
                a >> b
            } else {
                0
            }
        }
        BinaryFn::Eq | BinaryFn::Ne | BinaryFn::Lt | BinaryFn::Le | BinaryFn::Gt | BinaryFn::Ge => 0,
    }
}

/// A negative exponent gives the truncated quotient 1 / a^-b.
fn int_power(a: i64, b: i64) -> i64 {
    match (a, b) {
        (1, _) => 1,
        (-1, _) => {
            if b % 2 == 0 {
                1
            } else {
                -1
            }
        }
        (_, ..0) => 0,
        _ => wrapping_power(a as u64, b as u64) as i64,
    }
}

fn wrapping_power(mut base: u64, mut exponent: u64) -> u64 {
    let mut power = 1u64;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = power.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    power
}

fn select(x: &[Tensor], shape: &[usize]) -> Result<Tensor, Fault> {
    let condition = x[0].numbers()?.to_i64();
    let places = |tensor: &Tensor| Places::broadcast(tensor.shape(), shape);
    let chosen = places(&x[0]).zip(places(&x[1])).zip(places(&x[2]));
    let chosen = chosen.map(|((c, a), b)| if condition[c] != 0 { (0, a) } else { (1, b) });
    Ok(assemble(&[&x[1], &x[2]], shape, chosen)?)
}
