//! Functions that no unit of a machine computes, in terms of those that units commonly have.
//!
//! Everything is computed in f32 from `add sub mul div min max abs neg exp log sqrt floor round select` and comparisons, whatever type
//! the operands are stored in. Bounds, for exact `exp`, `log` and `sqrt` (u = 2⁻²³; relative unless absolute is said):
//!
//! | function | by | error |
//! |---|---|---|
//! | sigmoid | 1/(1 + e^-x) | 3u; 0 below -88 |
//! | tanh | 1 - 2/(e^2x + 1); an odd polynomial below 0.625 | 3u |
//! | erf | a polynomial below 0.925, 1 - e^polynomial above | 3u |
//! | softplus | max(x, 0) + log1p(e^-abs x) | 3u |
//! | sinh, cosh | h ± 1/(4h) with h = (e^(abs x/2))²/2; an odd polynomial below 1 | 2u + u·abs x |
//! | asinh, acosh, atanh | log1p | 6u |
//! | sin, cos, tan | Cody and Waite's reduction by π/2 in three parts, polynomials to π/4 | absolute 2u up to 8192, beyond that u·abs x/8192 |
//! | asin, acos, atan, atan2 | polynomials around 0 after halving or turning the angle; not for two infinities | 4u |
//! | pow | e^(b·log abs a), with the sign of an odd power | 2u·(1 + abs(b·log a)) |
//! | mod, rem | a - b·⌊a/b⌋, a - b·trunc(a/b) | absolute u·abs a, up to a multiple of b |
//! | sign, is_nan, is_inf | comparisons | exact |
//!
//! log1p(y) is y·log(w)/(w - 1) with w = 1 + y rounded (Kahan), y where w is 1. The polynomials for tangent, sines and their inverses are
//! those of the Cephes library (Moshier), those of erf are the CPU runtime's.

use tarsia_graph::{BinaryFn, Graph, GraphError, Op, UnaryFn, Value, composite::Builder};
use tarsia_tensor::DType;

use crate::nest::compute_dtype;

/// The body with the floating-point functions that `computes` denies (name, element type) expressed by others.
///
/// # Errors
/// If an expansion does not type-check, which is a defect.
pub(crate) fn decompose(body: &Graph, computes: &dyn Fn(&str, DType) -> bool) -> Result<Graph, GraphError> {
    let missing = |op: &Op, dtype: DType| {
        let unknown = compute_dtype(dtype) == DType::F32 && !computes(op.name(), DType::F32);
        unknown && matches!(op, Op::Unary(_) | Op::Binary(_)) && is_decomposed(op)
    };
    let lacks = |id| body.operands(id).first().is_some_and(|&operand| missing(&body[id].op, body.ty(operand).dtype));
    if !body.node_ids().any(lacks) {
        return Ok(body.clone());
    }
    let mut copy = Graph::new(&body.name);
    let mut place: Vec<Vec<Value>> = Vec::with_capacity(body.node_count());
    for id in body.node_ids() {
        let node = &body[id];
        let operands: Vec<Value> =
            body.operands(id).iter().map(|value| place[value.node.index()][value.output as usize]).collect();
        place.push(match &node.op {
            Op::Input { index, .. } => vec![copy.add_input(&body.inputs()[*index].0, node.types[0].clone())],
            op if lacks(id) => {
                let mut terms = Terms(Builder { graph: &mut copy, origin: &node.origin });
                let mut wide = Vec::with_capacity(operands.len());
                for operand in operands {
                    wide.push(terms.cast(operand, DType::F32)?);
                }
                let value = terms.function(op, &wide)?;
                vec![terms.cast(value, node.types[0].dtype)?]
            }
            op => {
                let new = copy.add(op.clone(), &operands, node.origin.clone())?;
                (0..node.types.len() as u32).map(|output| Value { node: new, output }).collect()
            }
        });
    }
    for output in body.outputs() {
        copy.add_output(&output.name, place[output.value.node.index()][output.value.output as usize]);
    }
    Ok(copy)
}

fn is_decomposed(op: &Op) -> bool {
    use UnaryFn::*;
    match op {
        Op::Unary(function) => matches!(
            function,
            Sin | Cos
                | Tan
                | Asin
                | Acos
                | Atan
                | Sinh
                | Cosh
                | Tanh
                | Asinh
                | Acosh
                | Atanh
                | Erf
                | Sigmoid
                | Softplus
                | Sign
                | IsNan
                | IsInf
        ),
        Op::Binary(function) => {
            matches!(function, BinaryFn::Pow | BinaryFn::Mod | BinaryFn::Rem | BinaryFn::Atan2)
        }
        _ => false,
    }
}

/// Coefficients, the highest power first.
type Polynomial = &'static [f64];

const TANH: Polynomial =
    &[-5.704_988_727_45e-3, 2.063_908_879_54e-2, -5.373_971_555_31e-2, 1.333_144_220_36e-1, -3.333_328_194_22e-1];
const ERF_NEAR: Polynomial =
    &[7.993_787e-5, -8.049_304e-4, 0.005_192_381_3, -0.026_855_728, 0.112_836_26, -0.376_126_3, 0.128_379_17];
const ERF_FAR: Polynomial =
    &[-1.152_456_7e-5, 3.256_773e-4, -0.003_653_872_8, 0.023_785_597, -0.106_263_46, -0.635_135_7, -0.128_652_22];
const SINH: Polynomial = &[2.755_731_9e-6, 1.984_127e-4, 8.333_333_3e-3, 1.666_666_7e-1];
const SIN: Polynomial = &[-1.951_529_589_1e-4, 8.332_160_873_6e-3, -1.666_665_461_1e-1];
const COS: Polynomial = &[2.443_315_711_809_948e-5, -1.388_731_625_493_765e-3, 4.166_664_568_298_827e-2];
const ASIN: Polynomial =
    &[4.216_319_904_8e-2, 2.418_131_104_9e-2, 4.547_002_599_8e-2, 7.495_300_268_6e-2, 1.666_675_242_2e-1];
const ATAN: Polynomial = &[8.053_744_495_38e-2, -1.387_768_560_32e-1, 1.997_771_064_78e-1, -3.333_294_915_39e-1];
/// π/2 in parts of so few bits that their multiples are exact.
const QUARTER_TURN: [f64; 3] = [1.570_312_5, 4.837_512_969_970_703e-4, 7.549_789_954_891_88e-8];
/// From here on 1 + x² is x².
const LARGE: f64 = 1e10;

/// Builds terms in f32.
struct Terms<'a>(Builder<'a>);

type Term = Result<Value, GraphError>;

impl Terms<'_> {
    fn function(&mut self, op: &Op, x: &[Value]) -> Term {
        match op {
            Op::Unary(function) => self.unary(*function, x[0]),
            Op::Binary(BinaryFn::Pow) => self.pow(x[0], x[1]),
            Op::Binary(BinaryFn::Mod) => self.remainder(x[0], x[1], true),
            Op::Binary(BinaryFn::Rem) => self.remainder(x[0], x[1], false),
            Op::Binary(BinaryFn::Atan2) => self.atan2(x[0], x[1]),
            op => self.0.add(op.clone(), x),
        }
    }

    fn unary(&mut self, function: UnaryFn, x: Value) -> Term {
        match function {
            UnaryFn::Sigmoid => self.sigmoid(x),
            UnaryFn::Tanh => self.tanh(x),
            UnaryFn::Erf => self.erf(x),
            UnaryFn::Softplus => self.softplus(x),
            UnaryFn::Sinh => self.sinh(x),
            UnaryFn::Cosh => {
                let (half, inverse) = self.half_exponentials(x)?;
                self.add(half, inverse)
            }
            UnaryFn::Asinh => self.asinh(x),
            UnaryFn::Acosh => self.acosh(x),
            UnaryFn::Atanh => self.atanh(x),
            UnaryFn::Sin => self.sine(x, 0.0),
            UnaryFn::Cos => self.sine(x, 1.0),
            UnaryFn::Tan => {
                let (sin, cos) = (self.sine(x, 0.0)?, self.sine(x, 1.0)?);
                self.div(sin, cos)
            }
            UnaryFn::Asin => self.asin(x),
            UnaryFn::Acos => self.acos(x),
            UnaryFn::Atan => self.atan(x),
            UnaryFn::Sign => {
                let (above, below) = (self.compare(BinaryFn::Gt, x, 0.0)?, self.compare(BinaryFn::Lt, x, 0.0)?);
                let (one, minus) = (self.number(1.0), self.number(-1.0));
                // Zeros and NaN are their own sign.
                let rest = self.select(below, minus, x)?;
                self.select(above, one, rest)
            }
            UnaryFn::IsNan => self.0.binary(BinaryFn::Ne, x, x),
            UnaryFn::IsInf => {
                let size = self.0.unary(UnaryFn::Abs, x)?;
                self.compare(BinaryFn::Eq, size, f64::INFINITY)
            }
            other => self.0.unary(other, x),
        }
    }

    fn sigmoid(&mut self, x: Value) -> Term {
        let e = self.0.unary(UnaryFn::Neg, x)?;
        let e = self.0.unary(UnaryFn::Exp, e)?;
        let (bottom, one) = (self.plus(e, 1.0)?, self.number(1.0));
        self.div(one, bottom)
    }

    fn tanh(&mut self, x: Value) -> Term {
        let e = self.times(x, 2.0)?;
        let e = self.0.unary(UnaryFn::Exp, e)?;
        let bottom = self.plus(e, 1.0)?;
        let (two, one) = (self.number(2.0), self.number(1.0));
        let rest = self.div(two, bottom)?;
        let far = self.sub(one, rest)?;
        let near = self.odd(TANH, x)?;
        let size = self.0.unary(UnaryFn::Abs, x)?;
        let is_near = self.compare(BinaryFn::Lt, size, 0.625)?;
        self.select(is_near, near, far)
    }

    fn erf(&mut self, x: Value) -> Term {
        let a = self.0.unary(UnaryFn::Abs, x)?;
        let z = self.mul(a, a)?;
        let p = self.polynomial(ERF_NEAR, z)?;
        let p = self.mul(a, p)?;
        let near = self.add(p, a)?;
        let four = self.number(4.0);
        let t = self.0.binary(BinaryFn::Min, a, four)?;
        let q = self.polynomial(ERF_FAR, t)?;
        let q = self.mul(q, t)?;
        let q = self.sub(q, t)?;
        let e = self.0.unary(UnaryFn::Exp, q)?;
        let one = self.number(1.0);
        let far = self.sub(one, e)?;
        let is_far = self.compare(BinaryFn::Gt, a, 0.925)?;
        let value = self.select(is_far, far, near)?;
        // The minimum loses no NaN: near is one, and a NaN is not far.
        self.signed(value, x)
    }

    fn softplus(&mut self, x: Value) -> Term {
        let a = self.0.unary(UnaryFn::Abs, x)?;
        let a = self.0.unary(UnaryFn::Neg, a)?;
        let e = self.0.unary(UnaryFn::Exp, a)?;
        let tail = self.log1p(e)?;
        let zero = self.number(0.0);
        let top = self.0.binary(BinaryFn::Max, x, zero)?;
        self.add(top, tail)
    }

    /// e^abs(x)/2 and e^-abs(x)/2.
    fn half_exponentials(&mut self, x: Value) -> Result<(Value, Value), GraphError> {
        let a = self.0.unary(UnaryFn::Abs, x)?;
        let a = self.times(a, 0.5)?;
        let e = self.0.unary(UnaryFn::Exp, a)?;
        let half = self.times(e, 0.5)?;
        let half = self.mul(half, e)?;
        let quarter = self.number(0.25);
        let inverse = self.div(quarter, half)?;
        Ok((half, inverse))
    }

    fn sinh(&mut self, x: Value) -> Term {
        let (half, inverse) = self.half_exponentials(x)?;
        let far = self.sub(half, inverse)?;
        let far = self.signed(far, x)?;
        let near = self.odd(SINH, x)?;
        let size = self.0.unary(UnaryFn::Abs, x)?;
        let is_near = self.compare(BinaryFn::Lt, size, 1.0)?;
        self.select(is_near, near, far)
    }

    fn asinh(&mut self, x: Value) -> Term {
        let a = self.0.unary(UnaryFn::Abs, x)?;
        let square = self.mul(a, a)?;
        let root = self.plus(square, 1.0)?;
        let root = self.0.unary(UnaryFn::Sqrt, root)?;
        let root = self.plus(root, 1.0)?;
        let part = self.div(square, root)?;
        let small = self.add(a, part)?;
        let small = self.log1p(small)?;
        let value = self.or_log_of_double(a, small)?;
        self.signed(value, x)
    }

    fn acosh(&mut self, x: Value) -> Term {
        let t = self.plus(x, -1.0)?;
        let wide = self.plus(t, 2.0)?;
        let root = self.mul(t, wide)?;
        let root = self.0.unary(UnaryFn::Sqrt, root)?;
        let small = self.add(t, root)?;
        let small = self.log1p(small)?;
        let value = self.or_log_of_double(x, small)?;
        // Not a number below 1.
        let (nan, is_outside) = (self.0.unary(UnaryFn::Log, t)?, self.compare(BinaryFn::Lt, x, 1.0)?);
        self.select(is_outside, nan, value)
    }

    fn atanh(&mut self, x: Value) -> Term {
        let a = self.0.unary(UnaryFn::Abs, x)?;
        let one = self.number(1.0);
        let bottom = self.sub(one, a)?;
        let top = self.times(a, 2.0)?;
        let y = self.div(top, bottom)?;
        let value = self.log1p(y)?;
        let value = self.times(value, 0.5)?;
        self.signed(value, x)
    }

    /// log(2a) where `a` is so large that `small` would overflow.
    fn or_log_of_double(&mut self, a: Value, small: Value) -> Term {
        let log = self.0.unary(UnaryFn::Log, a)?;
        let log = self.plus(log, std::f64::consts::LN_2)?;
        let is_large = self.compare(BinaryFn::Gt, a, LARGE)?;
        self.select(is_large, log, small)
    }

    fn log1p(&mut self, y: Value) -> Term {
        let w = self.plus(y, 1.0)?;
        let log = self.0.unary(UnaryFn::Log, w)?;
        let bottom = self.plus(w, -1.0)?;
        let ratio = self.div(y, bottom)?;
        let exact = self.mul(log, ratio)?;
        let is_one = self.compare(BinaryFn::Eq, bottom, 0.0)?;
        let small = self.select(is_one, y, exact)?;
        // Infinity over infinity would be NaN.
        let is_large = self.compare(BinaryFn::Gt, y, LARGE)?;
        self.select(is_large, log, small)
    }

    /// The sine of x and so many quarter turns.
    fn sine(&mut self, x: Value, turns: f64) -> Term {
        let n = self.times(x, std::f64::consts::FRAC_2_PI)?;
        let n = self.0.unary(UnaryFn::Round, n)?;
        let mut r = x;
        for part in QUARTER_TURN {
            let part = self.times(n, part)?;
            r = self.sub(r, part)?;
        }
        let sin = self.odd(SIN, r)?;
        let z = self.mul(r, r)?;
        let cos = self.polynomial(COS, z)?;
        let cos = self.mul(cos, z)?;
        let cos = self.plus(cos, -0.5)?;
        let cos = self.mul(cos, z)?;
        let cos = self.plus(cos, 1.0)?;
        // Which quarter: n modulo 4.
        let n = self.plus(n, turns)?;
        let quarters = self.times(n, 0.25)?;
        let quarters = self.0.unary(UnaryFn::Floor, quarters)?;
        let quarters = self.times(quarters, 4.0)?;
        let quarter = self.sub(n, quarters)?;
        let is_second = self.compare(BinaryFn::Ge, quarter, 2.0)?;
        let shifted = self.plus(quarter, -2.0)?;
        let within = self.select(is_second, shifted, quarter)?;
        let is_odd = self.compare(BinaryFn::Eq, within, 1.0)?;
        let value = self.select(is_odd, cos, sin)?;
        let negative = self.0.unary(UnaryFn::Neg, value)?;
        self.select(is_second, negative, value)
    }

    /// For a = abs(x): whether a > 1/2, and arcsin a below and half of arccos a above.
    fn arcs(&mut self, x: Value) -> Result<(Value, Value, Value), GraphError> {
        let a = self.0.unary(UnaryFn::Abs, x)?;
        let is_far = self.compare(BinaryFn::Gt, a, 0.5)?;
        let near = self.odd(ASIN, a)?;
        let one = self.number(1.0);
        let s = self.sub(one, a)?;
        let s = self.times(s, 0.5)?;
        let s = self.0.unary(UnaryFn::Sqrt, s)?;
        let far = self.odd(ASIN, s)?;
        Ok((is_far, near, far))
    }

    fn asin(&mut self, x: Value) -> Term {
        let (is_far, near, far) = self.arcs(x)?;
        let twice = self.times(far, 2.0)?;
        let quarter = self.number(std::f64::consts::FRAC_PI_2);
        let far = self.sub(quarter, twice)?;
        let value = self.select(is_far, far, near)?;
        self.signed(value, x)
    }

    fn acos(&mut self, x: Value) -> Term {
        let (is_far, near, far) = self.arcs(x)?;
        let near = self.signed(near, x)?;
        let quarter = self.number(std::f64::consts::FRAC_PI_2);
        let near = self.sub(quarter, near)?;
        let far = self.times(far, 2.0)?;
        let half = self.number(std::f64::consts::PI);
        let mirrored = self.sub(half, far)?;
        let is_negative = self.compare(BinaryFn::Lt, x, 0.0)?;
        let far = self.select(is_negative, mirrored, far)?;
        self.select(is_far, far, near)
    }

    fn atan(&mut self, x: Value) -> Term {
        let a = self.0.unary(UnaryFn::Abs, x)?;
        let (minus, zero) = (self.number(-1.0), self.number(0.0));
        let inverse = self.div(minus, a)?;
        let (less, more) = (self.plus(a, -1.0)?, self.plus(a, 1.0)?);
        let turned = self.div(less, more)?;
        let (is_far, is_middle) = (
            self.compare(BinaryFn::Gt, a, 2.414_213_562_373_095)?,
            self.compare(BinaryFn::Gt, a, 0.414_213_562_373_095)?,
        );
        let t = self.select(is_middle, turned, a)?;
        let t = self.select(is_far, inverse, t)?;
        let (half, quarter) = (self.number(std::f64::consts::FRAC_PI_2), self.number(std::f64::consts::FRAC_PI_4));
        let start = self.select(is_middle, quarter, zero)?;
        let start = self.select(is_far, half, start)?;
        let arc = self.odd(ATAN, t)?;
        let value = self.add(start, arc)?;
        self.signed(value, x)
    }

    fn atan2(&mut self, y: Value, x: Value) -> Term {
        let ratio = self.div(y, x)?;
        let arc = self.atan(ratio)?;
        let (half, minus) = (self.number(std::f64::consts::PI), self.number(-std::f64::consts::PI));
        let is_below = self.compare(BinaryFn::Lt, y, 0.0)?;
        let turn = self.select(is_below, minus, half)?;
        let turned = self.add(arc, turn)?;
        let is_left = self.compare(BinaryFn::Lt, x, 0.0)?;
        let value = self.select(is_left, turned, arc)?;
        // Zero over zero: y, or half a turn where x is negative, which it is not here.
        let (sizes, sizes_y) = (self.0.unary(UnaryFn::Abs, x)?, self.0.unary(UnaryFn::Abs, y)?);
        let sum = self.add(sizes, sizes_y)?;
        let is_origin = self.compare(BinaryFn::Eq, sum, 0.0)?;
        self.select(is_origin, y, value)
    }

    fn pow(&mut self, a: Value, b: Value) -> Term {
        let size = self.0.unary(UnaryFn::Abs, a)?;
        let log = self.0.unary(UnaryFn::Log, size)?;
        let log = self.mul(b, log)?;
        let power = self.0.unary(UnaryFn::Exp, log)?;
        // b is odd where it is whole and half of it is not.
        let half = self.times(b, 0.5)?;
        let (whole, whole_half) = (self.0.unary(UnaryFn::Floor, b)?, self.0.unary(UnaryFn::Floor, half)?);
        let is_whole = self.0.binary(BinaryFn::Eq, whole, b)?;
        let is_even = self.0.binary(BinaryFn::Eq, whole_half, half)?;
        let negative = self.0.unary(UnaryFn::Neg, power)?;
        let signed = self.select(is_even, power, negative)?;
        let nan = self.0.unary(UnaryFn::Log, a)?;
        let of_negative = self.select(is_whole, signed, nan)?;
        let is_negative = self.compare(BinaryFn::Lt, a, 0.0)?;
        let value = self.select(is_negative, of_negative, power)?;
        let (one, is_one) = (self.number(1.0), self.compare(BinaryFn::Eq, b, 0.0)?);
        let value = self.select(is_one, one, value)?;
        let is_one = self.compare(BinaryFn::Eq, a, 1.0)?;
        self.select(is_one, one, value)
    }

    fn remainder(&mut self, a: Value, b: Value, floor: bool) -> Term {
        let quotient = self.div(a, b)?;
        let whole = match floor {
            true => self.0.unary(UnaryFn::Floor, quotient)?,
            false => self.0.unary(UnaryFn::Trunc, quotient)?,
        };
        let part = self.mul(b, whole)?;
        self.sub(a, part)
    }

    /// x + x³·p(x²).
    fn odd(&mut self, coefficients: Polynomial, x: Value) -> Term {
        let z = self.mul(x, x)?;
        let p = self.polynomial(coefficients, z)?;
        let p = self.mul(p, z)?;
        let p = self.mul(p, x)?;
        self.add(p, x)
    }

    fn polynomial(&mut self, coefficients: Polynomial, x: Value) -> Term {
        let Some((&first, rest)) = coefficients.split_first() else { return Ok(self.number(0.0)) };
        let mut sum = None;
        for &coefficient in rest {
            let product = match sum {
                None => self.times(x, first)?,
                Some(sum) => self.mul(sum, x)?,
            };
            sum = Some(self.plus(product, coefficient)?);
        }
        Ok(sum.unwrap_or_else(|| self.number(first)))
    }

    /// A value that is not negative with the sign of x.
    fn signed(&mut self, value: Value, x: Value) -> Term {
        let negative = self.0.unary(UnaryFn::Neg, value)?;
        let is_negative = self.compare(BinaryFn::Lt, x, 0.0)?;
        self.select(is_negative, negative, value)
    }

    fn cast(&mut self, value: Value, dtype: DType) -> Term {
        if self.0.graph.ty(value).dtype == dtype {
            return Ok(value);
        }
        self.0.add(Op::Cast { dtype, saturate: true }, &[value])
    }

    fn number(&mut self, value: f64) -> Value {
        self.0.scalar(DType::F32, value)
    }

    fn compare(&mut self, function: BinaryFn, x: Value, bound: f64) -> Term {
        self.0.with_scalar(function, x, bound)
    }

    fn select(&mut self, condition: Value, yes: Value, no: Value) -> Term {
        self.0.add(Op::Select {}, &[condition, yes, no])
    }

    fn plus(&mut self, x: Value, value: f64) -> Term {
        self.0.with_scalar(BinaryFn::Add, x, value)
    }

    fn times(&mut self, x: Value, value: f64) -> Term {
        self.0.with_scalar(BinaryFn::Mul, x, value)
    }

    fn add(&mut self, a: Value, b: Value) -> Term {
        self.0.binary(BinaryFn::Add, a, b)
    }

    fn sub(&mut self, a: Value, b: Value) -> Term {
        self.0.binary(BinaryFn::Sub, a, b)
    }

    fn mul(&mut self, a: Value, b: Value) -> Term {
        self.0.binary(BinaryFn::Mul, a, b)
    }

    fn div(&mut self, a: Value, b: Value) -> Term {
        self.0.binary(BinaryFn::Div, a, b)
    }
}

#[cfg(test)]
mod tests;
