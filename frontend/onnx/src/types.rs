//! Types of values, as the file tells them.

use tarsia_tensor::DType;

use crate::{
    schema::{DimensionValue, ElementTypeProto, TensorTypeProto, TypeProto, TypeValue},
    weights::type_name,
};

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueType<'a> {
    /// A dense tensor.
    Tensor(TensorType<'a>),
    /// A sparse tensor.
    SparseTensor(TensorType<'a>),
    /// A sequence.
    Sequence(Box<ValueType<'a>>),
    /// A value or nothing.
    Optional(Box<ValueType<'a>>),
    /// A map.
    Map {
        /// Type of the keys.
        key: DType,
        /// Type of the values.
        value: Box<ValueType<'a>>,
    },
    /// A type that only its domain knows.
    Opaque {
        /// The domain.
        domain: &'a str,
        /// The name.
        name: &'a str,
    },
}

/// Element type and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dimensions; `None` where not even the rank is known.
    pub shape: Option<Vec<Dimension<'a>>>,
}

/// What a type tells of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension<'a> {
    /// Its size.
    Size(usize),
    /// Its name, or an expression of names such as `past_len + seq`.
    Named(&'a str),
    /// Nothing: no value, an empty name, or what some exporters write for that: `?` or a negative size.
    Unknown,
}

impl<'a> ValueType<'a> {
    /// The type of a message.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(proto: &'a TypeProto) -> Result<ValueType<'a>, String> {
        let element = |inner: &'a ElementTypeProto| ValueType::boxed(inner.elem_type.as_deref());
        match proto.value.as_ref().ok_or("it has no type")? {
            TypeValue::TensorType(tensor) => tensor_type(tensor).map(ValueType::Tensor),
            TypeValue::SparseTensorType(tensor) => tensor_type(tensor).map(ValueType::SparseTensor),
            TypeValue::SequenceType(inner) => element(inner).map(ValueType::Sequence),
            TypeValue::OptionalType(inner) => element(inner).map(ValueType::Optional),
            TypeValue::MapType(map) => {
                Ok(ValueType::Map { key: dtype(map.key_type)?, value: ValueType::boxed(map.value_type.as_deref())? })
            }
            TypeValue::OpaqueType(opaque) => Ok(ValueType::Opaque { domain: &opaque.domain, name: &opaque.name }),
        }
    }

    /// The type of a dense tensor, if it is one.
    pub fn tensor(&self) -> Option<&TensorType<'a>> {
        match self {
            ValueType::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    fn boxed(proto: Option<&'a TypeProto>) -> Result<Box<ValueType<'a>>, String> {
        ValueType::new(proto.ok_or("it has no element type")?).map(Box::new)
    }
}

fn tensor_type(proto: &TensorTypeProto) -> Result<TensorType<'_>, String> {
    let shape = proto.shape.as_ref().map(|shape| shape.dim.iter().map(|dim| dimension(dim.value.as_ref())).collect());
    Ok(TensorType { dtype: dtype(proto.elem_type)?, shape })
}

fn dtype(number: i32) -> Result<DType, String> {
    DType::from_onnx(number).ok_or_else(|| format!("element type {} is not supported", type_name(number)))
}

fn dimension(value: Option<&DimensionValue>) -> Dimension<'_> {
    match value {
        Some(DimensionValue::DimValue(size)) => usize::try_from(*size).map_or(Dimension::Unknown, Dimension::Size),
        // `?` and `-1` are how some exporters write that they do not know.
        Some(DimensionValue::DimParam(name)) if !matches!(name.as_str(), "" | "?" | "-1") => Dimension::Named(name),
        _ => Dimension::Unknown,
    }
}
