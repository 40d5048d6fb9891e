//! The small texts inside machine files: layouts, transforms, classes, conversions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tarsia_tensor::DType;

use super::{Conversion, LayoutPattern, LayoutRule, Transform};
use crate::{Fractal, Layout, Order, optable::Class};

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layout::RowMajor => f.write_str("row_major"),
            Layout::Fractal(fractal) => fractal.fmt(f),
        }
    }
}

impl fmt::Display for Fractal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = if self.inner == Order::Z { 'z' } else { 'n' };
        let outer = if self.outer == Order::Z { 'Z' } else { 'N' };
        write!(f, "{inner}{outer}({}x{})", self.block[0], self.block[1])
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Layout, String> {
        if text == "row_major" {
            return Ok(Layout::RowMajor);
        }
        text.parse().map(Layout::Fractal)
    }
}

impl FromStr for Fractal {
    type Err = String;

    /// Reads `zN(16x16)`: order inside a block, order of blocks, rows × columns of a block.
    fn from_str(text: &str) -> Result<Fractal, String> {
        /// Blocks larger than this are no memory's.
        const LARGEST: usize = 1 << 16;
        let wrong = || format!("`{text}` is not a layout: expected `row_major` or a fractal such as `zN(16x16)`");
        let (orders, block) = text.strip_suffix(')').and_then(|t| t.split_once('(')).ok_or_else(wrong)?;
        let (inner, outer) = match orders {
            "zZ" => (Order::Z, Order::Z),
            "zN" => (Order::Z, Order::N),
            "nZ" => (Order::N, Order::Z),
            "nN" => (Order::N, Order::N),
            _ => return Err(wrong()),
        };
        let (rows, columns) = block.split_once('x').ok_or_else(wrong)?;
        let size = |text: &str| text.parse().ok().filter(|size| (1..=LARGEST).contains(size)).ok_or_else(wrong);
        Ok(Fractal { outer, inner, block: [size(rows)?, size(columns)?] })
    }
}

impl fmt::Display for LayoutPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutPattern::RowMajor => f.write_str("row_major"),
            LayoutPattern::AnyFractal => f.write_str("fractal"),
            LayoutPattern::Fractal(fractal) => fractal.fmt(f),
        }
    }
}

impl fmt::Display for LayoutRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layout.fmt(f)?;
        if self.dtypes.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.dtypes.iter().map(|dtype| dtype.name()).collect();
        write!(f, " for {}", names.join(", "))
    }
}

impl TryFrom<String> for LayoutRule {
    type Error = String;

    /// Reads `row_major`, `fractal`, `zN(16x16)`, each optionally followed by ` for f16, bf16`.
    fn try_from(text: String) -> Result<LayoutRule, String> {
        let (layout, dtypes) = text.split_once(" for ").unwrap_or((&text, ""));
        let layout = match layout.trim() {
            "fractal" => LayoutPattern::AnyFractal,
            layout => match layout.parse()? {
                Layout::RowMajor => LayoutPattern::RowMajor,
                Layout::Fractal(fractal) => LayoutPattern::Fractal(fractal),
            },
        };
        let names = dtypes.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(LayoutRule { layout, dtypes: names.map(DType::from_str).collect::<Result<_, _>>()? })
    }
}

impl TryFrom<String> for Conversion {
    type Error = String;

    fn try_from(text: String) -> Result<Conversion, String> {
        let (from, to) =
            text.split_once("->").ok_or_else(|| format!("`{text}` is not a conversion: expected `f32 -> f16`"))?;
        Ok(Conversion { from: from.trim().parse()?, to: to.trim().parse()? })
    }
}

impl Transform {
    /// Every transform, in the order of the enumeration.
    pub const ALL: &[Transform] = &[
        Transform::Layout,
        Transform::Transpose,
        Transform::Strided,
        Transform::Broadcast,
        Transform::Im2col,
        Transform::Pad,
        Transform::Convert,
        Transform::Quantise,
    ];

    /// The name in machine files.
    pub const fn name(self) -> &'static str {
        match self {
            Transform::Layout => "layout",
            Transform::Transpose => "transpose",
            Transform::Strided => "strided",
            Transform::Broadcast => "broadcast",
            Transform::Im2col => "im2col",
            Transform::Pad => "pad",
            Transform::Convert => "convert",
            Transform::Quantise => "quantise",
        }
    }
}

macro_rules! by_name {
    ($($ty:ident, $what:literal;)*) => {$(
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$ty, D::Error> {
                let text = String::deserialize(deserializer)?;
                $ty::ALL.iter().copied().find(|value| value.name() == text).ok_or_else(|| {
                    let names: Vec<&str> = $ty::ALL.iter().map(|value| value.name()).collect();
                    D::Error::custom(format!("unknown {} `{text}`, expected one of {}", $what, names.join(", ")))
                })
            }
        }
    )*};
}

by_name! {
    Transform, "transform";
    Class, "class of instructions";
}

/// An element type in machine files goes by its name in text forms.
pub(super) mod dtype {
    use super::{D, DType, Deserialize, Deserializer, Serializer};

    pub fn deserialize<'de, D0: Deserializer<'de>>(deserializer: D0) -> Result<DType, D0::Error> {
        D::deserialize(deserializer).map(|d| d.0)
    }

    pub fn serialize<S: Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(dtype.name())
    }
}

/// A list of element types.
pub(super) mod dtypes {
    use super::{D, DType, Deserialize, Deserializer, Serializer};

    pub fn deserialize<'de, D0: Deserializer<'de>>(deserializer: D0) -> Result<Vec<DType>, D0::Error> {
        Vec::<D>::deserialize(deserializer).map(|list| list.into_iter().map(|d| d.0).collect())
    }

    pub fn serialize<S: Serializer>(dtypes: &[DType], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(dtypes.iter().map(|dtype| dtype.name()))
    }
}

/// What has a text form is serialised as that.
macro_rules! as_text {
    ($($ty:ident)*) => {$(
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

as_text! { LayoutRule Conversion Transform Class }

impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A [`DType`] that deserialises from its name.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct D(DType);

impl TryFrom<String> for D {
    type Error = String;

    fn try_from(text: String) -> Result<D, String> {
        text.parse().map(D)
    }
}
