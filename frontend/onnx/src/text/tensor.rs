//! Tensors: a type with sizes, then `{elements}` or `["key": "value"]`, the place of external data.

use super::cursor::{Cursor, Literal, Parsed};
use crate::schema::{
    DataLocation, DataType, DimensionValue, StringStringEntryProto, TensorProto, TypeProto, TypeValue,
};

/// Bits of the elements of a sub-byte type, its least and its largest element.
fn sub_byte(data_type: DataType) -> Option<(usize, i64, i64)> {
    Some(match data_type {
        DataType::Int2 => (2, -2, 1),
        DataType::Uint2 => (2, 0, 3),
        DataType::Int4 => (4, -8, 7),
        DataType::Uint4 | DataType::Float4e2m1 => (4, 0, 15),
        DataType::Float6e2m3 | DataType::Float6e3m2 => (6, 0, 63),
        _ => return None,
    })
}

/// Elements of so many bits, from the low bit of the first byte on.
fn pack(elements: &[i64], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; (elements.len() * bits).div_ceil(8)];
    for (index, element) in elements.iter().enumerate() {
        for bit in (0..bits).filter(|bit| element >> bit & 1 == 1) {
            let at = index * bits + bit;
            if let Some(byte) = bytes.get_mut(at / 8) {
                *byte |= 1 << (at % 8);
            }
        }
    }
    bytes
}

/// A float that is finite unless it is written as `inf` or `nan`.
fn finite<T: std::str::FromStr + Into<f64> + Copy>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let is_word = text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_alphabetic());
    (is_word || value.into().is_finite()).then_some(value)
}

impl Cursor<'_> {
    /// A number as f32, written as an integer or a float.
    pub fn float(&mut self) -> Parsed<f32> {
        self.number("a 32-bit float", |text, _| finite(text))
    }

    /// The tensor of a type that has just been passed: its data are next. `at` is where the type stands.
    pub fn tensor(&mut self, r#type: &TypeProto, name: String, at: usize) -> Parsed<TensorProto> {
        self.take(size_of::<TensorProto>())?;
        let Some(TypeValue::TensorType(tensor_type)) = &r#type.value else {
            return Err(self.not_a(at, "the type of a dense tensor"));
        };
        let dims = tensor_type.shape.iter().flat_map(|shape| &shape.dim).map(|dim| match dim.value {
            Some(DimensionValue::DimValue(size)) => Some(size),
            _ => None,
        });
        let dims = dims.collect::<Option<Vec<i64>>>().filter(|_| tensor_type.shape.is_some());
        let dims = dims.ok_or_else(|| self.not_a(at, "a tensor type whose sizes are all numbers"))?;
        let mut tensor = TensorProto { name, dims, data_type: tensor_type.elem_type, ..TensorProto::default() };
        if self.eat(b'{') {
            self.elements(&mut tensor)?;
        } else if self.eat(b'[') {
            tensor.data_location = DataLocation::External as i32;
            tensor.external_data = self.entries()?;
        } else {
            return Err(self.expected("`{` with the elements, or `[` with the place of external data"));
        }
        Ok(tensor)
    }

    /// Elements up to `}`, in the field that holds their type.
    fn elements(&mut self, tensor: &mut TensorProto) -> Parsed<()> {
        let data_type = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
        match data_type {
            DataType::Float | DataType::Complex64 => tensor.float_data = self.until(b'}', |c| c.one(Cursor::float))?,
            DataType::Double | DataType::Complex128 => {
                let read = |c: &mut Self| c.number("a 64-bit float", |text, _| finite(text));
                tensor.double_data = self.until(b'}', |c| c.one(read))?;
            }
            DataType::Int64 => tensor.int64_data = self.until(b'}', |c| c.one(Cursor::int))?,
            DataType::Uint32 | DataType::Uint64 => {
                let read = |c: &mut Self| c.number("an unsigned integer", plain);
                tensor.uint64_data = self.until(b'}', |c| c.one(read))?;
            }
            DataType::String => {
                tensor.string_data = self.until(b'}', |c| match c.literal()? {
                    Literal::String(text) => Ok(text),
                    Literal::Int(_) | Literal::Float(_) => Err(c.expected("strings in quotes")),
                })?;
            }
            _ => match sub_byte(data_type) {
                Some((bits, low, high)) => {
                    let what = format!("an integer from {low} to {high}");
                    let in_range = |text: &str, is_float| plain(text, is_float).filter(|v| (low..=high).contains(v));
                    let read = |c: &mut Self| c.number(&what, in_range);
                    tensor.raw_data = pack(&self.until(b'}', |c| c.one(read))?, bits).into();
                }
                None => {
                    let read = |c: &mut Self| c.number("a 32-bit integer", plain);
                    tensor.int32_data = self.until(b'}', |c| c.one(read))?;
                }
            },
        }
        Ok(())
    }

    /// One element, counted.
    fn one<T>(&mut self, read: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.take(size_of::<T>())?;
        read(self)
    }

    /// Keys with values, up to `]`.
    pub fn entries(&mut self) -> Parsed<Vec<StringStringEntryProto>> {
        self.until(b']', |cursor| {
            let key = cursor.string()?;
            cursor.token(":")?;
            Ok(StringStringEntryProto { key, value: cursor.string()? })
        })
    }
}

fn plain<T: std::str::FromStr>(text: &str, is_float: bool) -> Option<T> {
    text.parse().ok().filter(|_| !is_float)
}
