//! Elements widened to 64 bits: what the reference evaluation computes with.

use half::{bf16, f16};

use crate::{Class, DType, MiniFloat, Overflow};

/// The elements of a numeric tensor, widened without loss to the 64-bit type of their class.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Elements of a floating-point type.
    Float(Vec<f64>),
    /// Elements of a signed integer type.
    Int(Vec<i64>),
    /// Elements of an unsigned integer type or booleans.
    Uint(Vec<u64>),
}

impl Numbers {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Numbers::Float(v) => v.len(),
            Numbers::Int(v) => v.len(),
            Numbers::Uint(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements at `indices`, in that order.
    ///
    /// # Panics
    /// If an index is out of range.
    pub fn take(&self, indices: impl Iterator<Item = usize>) -> Numbers {
        match self {
            Numbers::Float(v) => Numbers::Float(indices.map(|i| v[i]).collect()),
            Numbers::Int(v) => Numbers::Int(indices.map(|i| v[i]).collect()),
            Numbers::Uint(v) => Numbers::Uint(indices.map(|i| v[i]).collect()),
        }
    }

    /// All elements as `f64` (integers above 2^53 round).
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Numbers::Float(v) => v.clone(),
            Numbers::Int(v) => v.iter().map(|&x| x as f64).collect(),
            Numbers::Uint(v) => v.iter().map(|&x| x as f64).collect(),
        }
    }

    /// All elements as `i64` (floats truncate and saturate, large unsigned values wrap).
    pub fn to_i64(&self) -> Vec<i64> {
        match self {
            Numbers::Float(v) => v.iter().map(|&x| x as i64).collect(),
            Numbers::Int(v) => v.clone(),
            Numbers::Uint(v) => v.iter().map(|&x| x as i64).collect(),
        }
    }

    /// Reads `count` packed little-endian elements; `None` if `bytes` are too few or the type has no numbers.
    pub fn decode(dtype: DType, bytes: &[u8], count: usize) -> Option<Numbers> {
        if bytes.len() < dtype.bytes_of(count)? {
            return None;
        }
        fn each<const N: usize, T>(bytes: &[u8], count: usize, f: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes.chunks_exact(N).take(count).map(|c| f(c.try_into().expect("chunk of N"))).collect()
        }
        let sub_byte = |i: usize| -> u8 {
            let per_byte = 8 / dtype.bits();
            bytes[i / per_byte] >> (i % per_byte * dtype.bits()) & ((1u16 << dtype.bits()) - 1) as u8
        };
        let sign_extend = |x: u8| -> i64 { ((x << (8 - dtype.bits())) as i8 >> (8 - dtype.bits())) as i64 };
        if let Some(format) = MiniFloat::of(dtype) {
            return Some(Numbers::Float((0..count).map(|i| format.decode(sub_byte(i))).collect()));
        }
        Some(match dtype {
            DType::Bool => Numbers::Uint(bytes[..count].iter().map(|&b| u64::from(b != 0)).collect()),
            DType::U2 | DType::U4 | DType::U8 => Numbers::Uint((0..count).map(|i| u64::from(sub_byte(i))).collect()),
            DType::I2 | DType::I4 | DType::I8 => Numbers::Int((0..count).map(|i| sign_extend(sub_byte(i))).collect()),
            DType::U16 => Numbers::Uint(each(bytes, count, |b| u16::from_le_bytes(b).into())),
            DType::U32 => Numbers::Uint(each(bytes, count, |b| u32::from_le_bytes(b).into())),
            DType::U64 => Numbers::Uint(each(bytes, count, u64::from_le_bytes)),
            DType::I16 => Numbers::Int(each(bytes, count, |b| i16::from_le_bytes(b).into())),
            DType::I32 => Numbers::Int(each(bytes, count, |b| i32::from_le_bytes(b).into())),
            DType::I64 => Numbers::Int(each(bytes, count, i64::from_le_bytes)),
            DType::F16 => Numbers::Float(each(bytes, count, |b| f16::from_le_bytes(b).to_f64())),
            DType::BF16 => Numbers::Float(each(bytes, count, |b| bf16::from_le_bytes(b).to_f64())),
            DType::F32 => Numbers::Float(each(bytes, count, |b| f32::from_le_bytes(b).into())),
            DType::F64 => Numbers::Float(each(bytes, count, f64::from_le_bytes)),
            _ => return None,
        })
    }

    /// Packs the elements as `dtype`, little-endian. Floats round half to even (narrow floats overflow as `overflow`
    /// says), integers wrap; the class is converted first where it differs (see [`Numbers::cast`]). Texts have no packed form:
    /// no bytes.
    pub fn encode(&self, dtype: DType, overflow: Overflow) -> Vec<u8> {
        if !dtype.is_numeric() {
            return Vec::new();
        }
        match (self.clone_as(dtype.class()), MiniFloat::of(dtype)) {
            (Numbers::Float(v), Some(format)) => pack(dtype, v.iter().map(|&x| format.encode(x, overflow))),
            (Numbers::Float(v), None) => match dtype {
                DType::F16 => v.iter().flat_map(|&x| f16::from_f32(to_odd_f32(x)).to_le_bytes()).collect(),
                DType::BF16 => v.iter().flat_map(|&x| bf16::from_f32(to_odd_f32(x)).to_le_bytes()).collect(),
                DType::F64 => v.iter().flat_map(|&x| x.to_le_bytes()).collect(),
                _ => v.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
            },
            (Numbers::Uint(v), _) if dtype == DType::Bool => v.iter().map(|&x| u8::from(x != 0)).collect(),
            (Numbers::Uint(v), _) => encode_integer(dtype, v.iter().copied()),
            (Numbers::Int(v), _) => encode_integer(dtype, v.iter().map(|&x| x as u64)),
        }
    }

    /// Converts between types as ONNX's `Cast` does: float to integer truncates (saturating), to bool tests for non-zero,
    /// integers wrap, floats round to the target's precision.
    pub fn cast(&self, from: DType, to: DType, overflow: Overflow) -> Numbers {
        let _ = from;
        if to == DType::Bool {
            return Numbers::Uint(match self {
                Numbers::Float(v) => v.iter().map(|&x| u64::from(x != 0.0)).collect(),
                Numbers::Int(v) => v.iter().map(|&x| u64::from(x != 0)).collect(),
                Numbers::Uint(v) => v.iter().map(|&x| u64::from(x != 0)).collect(),
            });
        }
        let widened = self.clone_as(to.class());
        let count = widened.len();
        Numbers::decode(to, &widened.encode(to, overflow), count).unwrap_or(widened)
    }

    /// The values of `self` rounded to what `dtype` can hold, staying widened.
    pub fn rounded(&self, dtype: DType) -> Numbers {
        Numbers::decode(dtype, &self.encode(dtype, Overflow::Special), self.len()).unwrap_or_else(|| self.clone())
    }

    fn clone_as(&self, class: Class) -> Numbers {
        match (class, self) {
            (Class::Float, _) => Numbers::Float(self.to_f64()),
            (Class::Int, _) => Numbers::Int(self.to_i64()),
            (_, Numbers::Uint(v)) => Numbers::Uint(v.clone()),
            (_, Numbers::Int(v)) => Numbers::Uint(v.iter().map(|&x| x as u64).collect()),
            (_, Numbers::Float(v)) => {
                Numbers::Uint(v.iter().map(|&x| if x < 0.0 { x as i64 as u64 } else { x as u64 }).collect())
            }
        }
    }
}

/// Rounds to odd: an inexact result has its last bit set, so that rounding it once more to a narrower float equals rounding
/// the f64 itself (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
fn to_odd_f32(x: f64) -> f32 {
    let nearest = x as f32;
    let bits = nearest.to_bits();
    if !nearest.is_finite() || f64::from(nearest) == x || bits & 1 == 1 {
        return nearest;
    }
    f32::from_bits(if f64::from(nearest).abs() < x.abs() { bits + 1 } else { bits - 1 })
}

fn encode_integer(dtype: DType, values: impl Iterator<Item = u64>) -> Vec<u8> {
    match dtype.bits() {
        64 => values.flat_map(u64::to_le_bytes).collect(),
        32 => values.flat_map(|x| (x as u32).to_le_bytes()).collect(),
        16 => values.flat_map(|x| (x as u16).to_le_bytes()).collect(),
        _ => pack(dtype, values.map(|x| x as u8)),
    }
}

/// Packs one value per item into bytes of 8, 4 or 2 bits per element, lowest bits first.
fn pack(dtype: DType, values: impl Iterator<Item = u8>) -> Vec<u8> {
    let bits = dtype.bits();
    if bits == 8 {
        return values.collect();
    }
    let mask = (1u8 << bits) - 1;
    let mut bytes = Vec::new();
    for (i, value) in values.enumerate() {
        let shift = i % (8 / bits) * bits;
        if shift == 0 {
            bytes.push(0);
        }
        if let Some(last) = bytes.last_mut() {
            *last |= (value & mask) << shift;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_no_packed_numbers() {
        let numbers = Numbers::Int(vec![1, 2]);
        assert!(numbers.encode(DType::String, Overflow::Special).is_empty());
        assert!(crate::Tensor::from_numbers(DType::String, &[2], &numbers).is_err());
    }

    #[test]
    fn sub_byte_types_round_trip_odd_counts() {
        let numbers = Numbers::Int(vec![-8, 7, 0, -1, 3]);
        let bytes = numbers.encode(DType::I4, Overflow::Special);
        assert_eq!(bytes.len(), 3);
        assert_eq!(Numbers::decode(DType::I4, &bytes, 5), Some(numbers));
        let twos = Numbers::Int(vec![-2, -1, 0, 1, -2]);
        assert_eq!(Numbers::decode(DType::I2, &twos.encode(DType::I2, Overflow::Special), 5), Some(twos));
    }

    #[test]
    fn narrow_floats_round_once() {
        // Just above and below the tie between two neighbours, by less than an f32 shows.
        let epsilon = 2f64.powi(-40);
        for (dtype, bits) in [(DType::F16, 11), (DType::BF16, 8)] {
            let tie = 1.0 + 2f64.powi(-bits);
            let above = 1.0 + 2f64.powi(1 - bits);
            let floats = Numbers::Float(vec![tie, tie + epsilon, tie - epsilon, -tie - epsilon, 1e-300, -1e300]);
            let expected = vec![1.0, above, 1.0, -above, 0.0, f64::NEG_INFINITY];
            assert_eq!(floats.rounded(dtype), Numbers::Float(expected), "{dtype}");
        }
    }

    #[test]
    fn casts_follow_onnx() {
        let floats = Numbers::Float(vec![1.9, -1.9, 300.0, f64::INFINITY]);
        assert_eq!(floats.cast(DType::F32, DType::I32, Overflow::Special), Numbers::Int(vec![1, -1, 300, -1]));
        assert_eq!(floats.cast(DType::F32, DType::Bool, Overflow::Special), Numbers::Uint(vec![1; 4]));
        let ints = Numbers::Int(vec![-1, 300]);
        assert_eq!(ints.cast(DType::I32, DType::U8, Overflow::Special), Numbers::Uint(vec![255, 44]));
    }
}
