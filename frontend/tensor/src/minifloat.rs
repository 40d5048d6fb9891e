//! The 4-bit and 8-bit floating-point formats, as ONNX defines them (ONNX "Float stored in 8 bits", OCP MX for E8M0 and E2M1).

use crate::DType;

/// What a value beyond the largest finite one becomes when it is rounded to a narrow float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The largest finite value of the same sign (infinities too).
    Saturate,
    /// Infinity where the format has one, otherwise NaN.
    Special,
}

/// A small float format: decoding by table-free arithmetic, encoding with round-half-to-even.
#[derive(Clone, Copy, Debug)]
pub struct MiniFloat {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No infinities, NaN is all ones (E4M3FN).
    Finite,
    /// No infinities, NaN is the pattern of negative zero (FNUZ).
    FiniteUnsignedZero,
    /// As IEEE 754 (E5M2).
    Ieee,
    /// Neither infinities nor NaN (E2M1).
    NoSpecial,
    /// Unsigned exponent only (E8M0).
    Exponent,
}

impl MiniFloat {
    /// The format of `dtype`, if it is a 4-bit or 8-bit float.
    pub const fn of(dtype: DType) -> Option<MiniFloat> {
        let (exponent_bits, mantissa_bits, bias, kind) = match dtype {
            DType::F4E2M1 => (2, 1, 1, Kind::NoSpecial),
            DType::F8E4M3FN => (4, 3, 7, Kind::Finite),
            DType::F8E4M3FNUZ => (4, 3, 8, Kind::FiniteUnsignedZero),
            DType::F8E5M2 => (5, 2, 15, Kind::Ieee),
            DType::F8E5M2FNUZ => (5, 2, 16, Kind::FiniteUnsignedZero),
            DType::F8E8M0 => (8, 0, 127, Kind::Exponent),
            _ => return None,
        };
        Some(MiniFloat { exponent_bits, mantissa_bits, bias, kind })
    }

    /// The value of a bit pattern (the low bits of `bits`).
    pub fn decode(self, bits: u8) -> f64 {
        if self.kind == Kind::Exponent {
            return if bits == 0xff { f64::NAN } else { 2f64.powi(bits as i32 - self.bias) };
        }
        let sign_bit = 1u32 << (self.exponent_bits + self.mantissa_bits);
        let bits = bits as u32 & (2 * sign_bit - 1);
        let magnitude = bits & (sign_bit - 1);
        let sign = if bits & sign_bit != 0 { -1.0 } else { 1.0 };
        let exponent = magnitude >> self.mantissa_bits;
        let mantissa = magnitude & ((1 << self.mantissa_bits) - 1);
        let top = (1u32 << self.exponent_bits) - 1;
        match self.kind {
            Kind::FiniteUnsignedZero if bits == sign_bit => return f64::NAN,
            Kind::Finite if magnitude == sign_bit - 1 => return f64::NAN,
            Kind::Ieee if exponent == top => return if mantissa == 0 { sign * f64::INFINITY } else { f64::NAN },
            _ => {}
        }
        let scale = f64::from(1u32 << self.mantissa_bits);
        if exponent == 0 {
            sign * f64::from(mantissa) / scale * 2f64.powi(1 - self.bias)
        } else {
            sign * (1.0 + f64::from(mantissa) / scale) * 2f64.powi(exponent as i32 - self.bias)
        }
    }

    /// The largest finite value.
    pub fn max(self) -> f64 {
        match self.kind {
            Kind::Exponent => 2f64.powi(127),
            Kind::NoSpecial | Kind::FiniteUnsignedZero => self.decode(self.sign_bit() - 1),
            Kind::Finite => self.decode(self.sign_bit() - 2),
            Kind::Ieee => self.decode(self.sign_bit() - 1 - (1 << self.mantissa_bits)),
        }
    }

    /// The nearest bit pattern, ties to even; values beyond [`MiniFloat::max`] as `overflow` says.
    pub fn encode(self, value: f64, overflow: Overflow) -> u8 {
        if self.kind == Kind::Exponent {
            return self.encode_exponent(value, overflow);
        }
        if value.is_nan() {
            return self.nan();
        }
        let negative = value.is_sign_negative();
        let sign = if negative { self.sign_bit() } else { 0 };
        let magnitude = value.abs();
        let rounded = self.round_magnitude(magnitude);
        let max = self.max();
        if magnitude.is_infinite() || rounded > max {
            let largest = self.largest_pattern();
            return match (overflow, self.kind) {
                (Overflow::Saturate, _) | (_, Kind::NoSpecial) => sign | largest,
                (Overflow::Special, Kind::Ieee) => sign | (largest + 1),
                // The sign of a NaN has no meaning in the FN formats; ONNX keeps it for E4M3FN.
                (Overflow::Special, Kind::Finite) => sign | self.nan(),
                (Overflow::Special, _) => self.nan(),
            };
        }
        let pattern = self.pattern_of(rounded);
        if pattern == 0 && self.kind == Kind::FiniteUnsignedZero { 0 } else { sign | pattern }
    }

    fn sign_bit(self) -> u8 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    fn nan(self) -> u8 {
        match self.kind {
            Kind::FiniteUnsignedZero => self.sign_bit(),
            // There is no NaN: ONNX's conformance data have negative zero in its place.
            Kind::NoSpecial => self.sign_bit(),
            Kind::Exponent => 0xff,
            Kind::Finite | Kind::Ieee => self.sign_bit() - 1,
        }
    }

    fn largest_pattern(self) -> u8 {
        match self.kind {
            Kind::Finite => self.sign_bit() - 2,
            Kind::Ieee => self.sign_bit() - 1 - (1 << self.mantissa_bits),
            _ => self.sign_bit() - 1,
        }
    }

    /// Rounds a finite magnitude to the format's grid as if the exponent were unbounded above.
    fn round_magnitude(self, magnitude: f64) -> f64 {
        if magnitude == 0.0 || magnitude.is_infinite() {
            return magnitude;
        }
        let exponent = exponent_of(magnitude).max(1 - self.bias);
        let step = 2f64.powi(exponent - self.mantissa_bits as i32);
        (magnitude / step).round_ties_even() * step
    }

    fn pattern_of(self, rounded: f64) -> u8 {
        let smallest_normal = 2f64.powi(1 - self.bias);
        let scale = f64::from(1u32 << self.mantissa_bits);
        if rounded < smallest_normal {
            return (rounded / smallest_normal * scale) as u8;
        }
        let exponent = exponent_of(rounded);
        let mantissa = ((rounded / 2f64.powi(exponent) - 1.0) * scale) as u8;
        ((exponent + self.bias) as u8) << self.mantissa_bits | mantissa
    }

    /// E8M0 holds powers of two: round to the nearest, ties up (ONNX's default `round_mode = "up"` is applied by the importer).
    fn encode_exponent(self, value: f64, overflow: Overflow) -> u8 {
        if value.is_nan() || value < 0.0 || (value.is_infinite() && overflow == Overflow::Special) {
            return 0xff;
        }
        if value == 0.0 {
            return 0;
        }
        if value >= 2f64.powi(127) {
            return if overflow == Overflow::Saturate || value == 2f64.powi(127) { 0xfe } else { 0xff };
        }
        let exponent = exponent_of(value);
        let up = value / 2f64.powi(exponent) >= 1.5;
        (exponent + i32::from(up) + self.bias).clamp(0, 0xfe) as u8
    }
}

/// `floor(log2(x))` of a positive finite number, exact.
fn exponent_of(x: f64) -> i32 {
    let bits = (x.to_bits() >> 52) as i32 & 0x7ff;
    if bits == 0 { exponent_of(x * 2f64.powi(64)) - 64 } else { bits - 1023 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_round_trips() {
        for dtype in DType::ALL {
            let Some(format) = MiniFloat::of(*dtype) else { continue };
            for bits in 0..(1u32 << dtype.bits()) {
                let value = format.decode(bits as u8);
                let again = format.decode(format.encode(value, Overflow::Special));
                assert!(value == again || value.is_nan() && again.is_nan(), "{dtype} {bits:#x}: {value} {again}");
            }
        }
    }

    #[test]
    fn overflow_follows_the_mode() {
        let e4m3 = MiniFloat::of(DType::F8E4M3FN).unwrap();
        assert_eq!(e4m3.max(), 448.0);
        assert_eq!(e4m3.decode(e4m3.encode(1e6, Overflow::Saturate)), 448.0);
        assert!(e4m3.decode(e4m3.encode(1e6, Overflow::Special)).is_nan());
        let e5m2 = MiniFloat::of(DType::F8E5M2).unwrap();
        assert_eq!(e5m2.max(), 57344.0);
        assert_eq!(e5m2.decode(e5m2.encode(-1e6, Overflow::Special)), f64::NEG_INFINITY);
        assert_eq!(MiniFloat::of(DType::F4E2M1).unwrap().max(), 6.0);
    }
}
