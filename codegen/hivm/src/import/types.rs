//! Types and numbers as the text writes them.

use tarsia_tensor::DType;

use super::text::{Cursor, Result};

/// `memref<sizes x dtype, strides, space>`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Memref {
    /// `None` for `?`.
    pub sizes: Vec<Option<i64>>,
    pub dtype: DType,
    /// Absent where the array is dense.
    pub strides: Option<Vec<Option<i64>>>,
    /// The tile IR's name of the space; `gm` where none is given.
    pub space: &'static str,
}

/// The vendor's names of memory spaces and the machine files'.
const SPACES: [(&str, &str); 6] =
    [("gm", "gm"), ("ub", "ub"), ("cbuf", "l1"), ("ca", "l0a"), ("cb", "l0b"), ("cc", "l0c")];

impl Memref {
    /// Reads a type; what stands behind it is left.
    pub fn read(cursor: &mut Cursor<'_>) -> Result<Memref> {
        cursor.expect("memref")?;
        let inside = cursor.bracketed('<')?;
        let parts = inside.parts();
        let Some(first) = parts.first() else { return Err(inside.fault("expected sizes and an element type")) };
        let (sizes, dtype) = sizes(*first)?;
        let mut found = Memref { sizes, dtype, strides: None, space: "gm" };
        for mut part in parts.into_iter().skip(1) {
            if part.eat("strided") {
                let inside = part.bracketed('<')?;
                let list = inside.parts().first().copied().ok_or_else(|| inside.fault("expected strides"))?;
                found.strides = Some(numbers(list)?);
            } else if part.eat("#hivm.address_space") {
                let name = part.bracketed('<')?;
                let space = SPACES.iter().find(|(vendor, _)| *vendor == name.rest().trim());
                found.space = space.ok_or_else(|| name.fault("this memory space is not known"))?.1;
            } else {
                return Err(part.fault("this part of a memref type is not known"));
            }
        }
        Ok(found)
    }
}

/// `[1, ?]`.
fn numbers(mut list: Cursor<'_>) -> Result<Vec<Option<i64>>> {
    let inside = list.bracketed('[')?;
    let number = |mut part: Cursor<'_>| if part.eat("?") { Ok(None) } else { part.integer().map(Some) };
    inside.parts().into_iter().map(number).collect()
}

/// `16x?x1xf32`.
fn sizes(cursor: Cursor<'_>) -> Result<(Vec<Option<i64>>, DType)> {
    let mut sizes = Vec::new();
    let mut words = cursor.rest().trim().split('x').peekable();
    while let Some(word) = words.next() {
        if words.peek().is_none() {
            let dtype = dtype(word).ok_or_else(|| cursor.fault(format!("`{word}` is no element type")))?;
            return Ok((sizes, dtype));
        }
        let size = match word {
            "?" => None,
            word => {
                Some(word.parse::<u32>().map_err(|_| cursor.fault(format!("`{word}` is no size of an axis")))?.into())
            }
        };
        sizes.push(size);
    }
    Err(cursor.fault("expected an element type"))
}

/// The element type of a name in types (`f32`) or in names of templates (`float`).
pub(super) fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "half" => DType::F16,
        "float" => DType::F32,
        "bfloat16_t" => DType::BF16,
        "int8_t" => DType::I8,
        "uint8_t" => DType::U8,
        "int16_t" => DType::I16,
        "uint16_t" => DType::U16,
        "int32_t" => DType::I32,
        "uint32_t" => DType::U32,
        "int64_t" => DType::I64,
        "uint64_t" => DType::U64,
        "i1" => DType::Bool,
        name => name.parse().ok()?,
    })
}

/// A float as the text writes it: decimal, or its bits in hexadecimal.
pub(super) fn real(text: &str, dtype: DType) -> Option<f64> {
    let Some(bits) = text.strip_prefix("0x") else { return text.parse().ok() };
    let bits = u32::from_str_radix(bits, 16).ok()?;
    match dtype {
        DType::F32 => Some(f64::from(f32::from_bits(bits))),
        DType::BF16 => Some(f64::from(f32::from_bits(bits.checked_shl(16)?))),
        DType::F16 => Some(half(bits)),
        _ => None,
    }
}

/// The value of binary16 bits.
fn half(bits: u32) -> f64 {
    let sign = if bits >> 15 & 1 == 1 { -1.0 } else { 1.0 };
    let (exponent, mantissa) = ((bits >> 10 & 31) as i32, f64::from(bits & 1023));
    sign * match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memrefs() {
        let read = |text| Memref::read(&mut Cursor::new(text, 0));
        let strided = read("memref<1024x?xf16, strided<[?, 1], offset: ?>, #hivm.address_space<cbuf>>").unwrap();
        assert_eq!(strided.sizes, [Some(1024), None]);
        assert_eq!(strided.strides, Some(vec![None, Some(1)]));
        assert_eq!((strided.dtype, strided.space), (DType::F16, "l1"));
        assert_eq!(read("memref<i8>").unwrap().sizes, []);
        for text in ["memref<4>", "memref<4xf99>", "memref<-4xf32>", "memref<4xf32, #hivm.address_space<x>>", "i64"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reals() {
        assert_eq!(real("0xFF800000", DType::F32), Some(f64::NEG_INFINITY));
        assert_eq!(real("0xFC00", DType::F16), Some(f64::NEG_INFINITY));
        assert_eq!(real("0x3E00", DType::F16), Some(1.5));
        assert_eq!(real("9.765625E-4", DType::F32), Some(1.0 / 1024.0));
        assert_eq!(real("true", DType::F32), None);
    }
}
