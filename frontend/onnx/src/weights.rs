//! Tensors of the file as [`Tensor`]s.
//!
//! Raw and external data become views of the map. The typed fields (`float_data` and its kin) are repacked. The reader checks that
//! dimensions are not negative and their product does not overflow, that exactly one payload is present and is of a kind that the
//! element type allows, and that it holds exactly as many bytes as type and shape need.

use bytes::Bytes;
use tarsia_tensor::{Content, DType, Shape, Tensor, element_count};
use thiserror::Error;

use crate::{
    external::{ExternalFault, ExternalFiles},
    schema::{DataLocation, DataType, TensorProto},
};

#[cfg(target_endian = "big")]
compile_error!("tensors are views of little-endian files; a big-endian host needs a copying reader");

/// Why a tensor of the model could not be read.
#[derive(Debug, Error)]
#[error("tensor `{tensor}`: {fault}")]
pub struct WeightError {
    /// Name of the tensor; empty if it has none.
    pub tensor: String,
    /// What is wrong.
    pub fault: Box<WeightFault>,
}

/// The ways in which a tensor of the model is wrong.
#[derive(Debug, Error)]
pub enum WeightFault {
    /// The element type is not one that tensors here have.
    #[error("its element type {0} is not supported")]
    ElementType(String),
    /// A dimension is negative.
    #[error("dimension {axis} is {size}")]
    NegativeDimension {
        /// The axis.
        axis: usize,
        /// Its size.
        size: i64,
    },
    /// The dimensions do not multiply.
    #[error("its dimensions {0:?} multiply to more bytes than can be addressed")]
    Overflow(Vec<i64>),
    /// The tensor is one chunk of a larger one.
    #[error("it is stored in segments, which no exporter writes and this reader does not join")]
    Segment,
    /// There is more than one payload.
    #[error("it has both {0} and {1}, and only one may hold its data")]
    TwoPayloads(&'static str, &'static str),
    /// The payload is of a kind that the element type cannot be in.
    #[error("its data is in {field}, which cannot hold {dtype}")]
    WrongField {
        /// The field.
        field: &'static str,
        /// The element type.
        dtype: DType,
    },
    /// There is more or less data than type and shape need.
    #[error("its type {dtype} and dimensions {dims:?} need {expected} {unit}, but {field} has {found}")]
    Size {
        /// Element type.
        dtype: DType,
        /// Dimensions.
        dims: Vec<i64>,
        /// What `expected` and `found` count.
        unit: &'static str,
        /// The field that holds the data.
        field: &'static str,
        /// How many are needed.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// A value of a typed field does not fit the element type.
    #[error("element {index} is {value}, which is no {dtype}")]
    Value {
        /// Position in the field.
        index: usize,
        /// The value found.
        value: i128,
        /// Element type.
        dtype: DType,
    },
    /// The external data cannot be had.
    #[error(transparent)]
    External(#[from] ExternalFault),
    /// The sparse form is wrong.
    #[error("sparse: {0}")]
    Sparse(String),
    /// A sequence, map or optional value is not what it says.
    #[error("{0}")]
    Composite(String),
    /// The dense form of a tensor passes the user's limit.
    #[error(
        "it takes {bytes} bytes, more than the limit of {limit}; raise the limit on tensors if the model is trusted"
    )]
    TooLarge {
        /// Bytes that the tensor takes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

/// What a tensor message says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub dtype: DType,
    pub shape: Shape,
    pub count: usize,
    /// Bytes of the dense form; of a string its handle.
    pub bytes: usize,
}

/// The tensor of a message.
pub(crate) fn read(proto: &TensorProto, files: &ExternalFiles, limit: u64) -> Result<Tensor, WeightError> {
    build(proto, files, limit).map_err(|fault| WeightError { tensor: proto.name.clone(), fault: Box::new(fault) })
}

/// All checks of [`read`] but those on single values, at no cost. Returns the bytes that the tensor takes; none if they are absent.
pub(crate) fn check(proto: &TensorProto, files: &ExternalFiles, limit: u64) -> Result<u64, WeightError> {
    let bytes = |(declared, payload): (Declared, Payload)| match payload {
        Payload::Content(Content::Absent(_)) => 0,
        _ => declared.bytes as u64,
    };
    located(proto, files, limit)
        .map(bytes)
        .map_err(|fault| WeightError { tensor: proto.name.clone(), fault: Box::new(fault) })
}

pub(crate) fn build(proto: &TensorProto, files: &ExternalFiles, limit: u64) -> Result<Tensor, WeightFault> {
    let (declared, payload) = located(proto, files, limit)?;
    let Declared { dtype, ref shape, .. } = declared;
    let bytes = match payload {
        Payload::Content(Content::Absent(absent)) => {
            return finish(&declared, Tensor::absent(dtype, shape, &absent.origin));
        }
        Payload::Strings(strings) => return finish(&declared, Tensor::from_strings(shape, strings.to_vec())),
        Payload::Content(Content::Bytes(bytes)) if dtype == DType::Bool => truth(bytes),
        Payload::Content(Content::Bytes(bytes)) => bytes,
        Payload::Float(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Payload::Double(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Payload::Int64(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Payload::Uint64(values) => narrow(dtype, values)?,
        Payload::Int32(values) => narrow(dtype, values)?,
    };
    finish(&declared, Tensor::new(dtype, shape, bytes))
}

/// What a message declares and where its data are; only absent data may pass the limit.
fn located<'a>(
    proto: &'a TensorProto,
    files: &ExternalFiles,
    limit: u64,
) -> Result<(Declared, Payload<'a>), WeightFault> {
    let declared = declare(&proto.dims, proto.data_type, u64::MAX)?;
    let payload = payload(proto, &declared, files)?;
    match payload {
        Payload::Content(Content::Absent(_)) => {}
        _ => within(&declared, limit)?,
    }
    Ok((declared, payload))
}

fn within(declared: &Declared, limit: u64) -> Result<(), WeightFault> {
    match declared.bytes as u64 {
        bytes if bytes > limit => Err(WeightFault::TooLarge { bytes, limit }),
        _ => Ok(()),
    }
}

/// Element type, shape and size of a dense tensor, checked.
pub(crate) fn declare(dims: &[i64], data_type: i32, limit: u64) -> Result<Declared, WeightFault> {
    let dtype = DType::from_onnx(data_type).ok_or_else(|| WeightFault::ElementType(type_name(data_type)))?;
    let mut shape = Shape::new();
    for (axis, &size) in dims.iter().enumerate() {
        let negative = WeightFault::NegativeDimension { axis, size };
        shape.push(
            usize::try_from(size)
                .map_err(|_| if size < 0 { negative } else { WeightFault::Overflow(dims.to_vec()) })?,
        );
    }
    let overflow = || WeightFault::Overflow(dims.to_vec());
    let count = element_count(&shape).ok_or_else(overflow)?;
    let bytes = match dtype {
        DType::String => count.checked_mul(size_of::<Bytes>()),
        _ => dtype.bytes_of(count),
    };
    // No allocation may pass `isize::MAX`.
    let bytes = bytes.filter(|&n| isize::try_from(n).is_ok()).ok_or_else(overflow)?;
    let declared = Declared { dtype, shape, count, bytes };
    within(&declared, limit)?;
    Ok(declared)
}

/// The name of an element type of the file format, known or not.
pub(crate) fn type_name(data_type: i32) -> String {
    match DataType::try_from(data_type) {
        Ok(known) => format!("{known:?}").to_uppercase(),
        Err(_) => format!("number {data_type}"),
    }
}

enum Payload<'a> {
    Content(Content),
    Strings(&'a [Bytes]),
    Float(&'a [f32]),
    Double(&'a [f64]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Uint64(&'a [u64]),
}

/// The one payload of a tensor, of the right kind and size.
fn payload<'a>(proto: &'a TensorProto, declared: &Declared, files: &ExternalFiles) -> Result<Payload<'a>, WeightFault> {
    if proto.segment.is_some() {
        return Err(WeightFault::Segment);
    }
    let &Declared { dtype, count, bytes, .. } = declared;
    let external = proto.data_location == DataLocation::External as i32;
    // Name of the field, whether it is there, whether it can hold the type.
    let fields = [
        ("external data", external, dtype != DType::String),
        ("raw_data", !proto.raw_data.is_empty(), dtype != DType::String),
        ("string_data", !proto.string_data.is_empty(), dtype == DType::String),
        ("float_data", !proto.float_data.is_empty(), dtype == DType::F32),
        ("double_data", !proto.double_data.is_empty(), dtype == DType::F64),
        ("int64_data", !proto.int64_data.is_empty(), dtype == DType::I64),
        ("uint64_data", !proto.uint64_data.is_empty(), matches!(dtype, DType::U32 | DType::U64)),
        ("int32_data", !proto.int32_data.is_empty(), in_int32(dtype)),
    ];
    let mut present = fields.iter().filter(|field| field.1);
    let &(field, _, fits) = present.next().unwrap_or(&("the file", true, true));
    if let Some(second) = present.next() {
        return Err(WeightFault::TwoPayloads(field, second.0));
    }
    if !fits {
        return Err(WeightFault::WrongField { field, dtype });
    }
    let (found, payload) = match field {
        "external data" => return Ok(Payload::Content(files.view(&proto.external_data, bytes)?)),
        "string_data" => (proto.string_data.len(), Payload::Strings(&proto.string_data)),
        "float_data" => (proto.float_data.len(), Payload::Float(&proto.float_data)),
        "double_data" => (proto.double_data.len(), Payload::Double(&proto.double_data)),
        "int64_data" => (proto.int64_data.len(), Payload::Int64(&proto.int64_data)),
        "uint64_data" => (proto.uint64_data.len(), Payload::Uint64(&proto.uint64_data)),
        "int32_data" => (proto.int32_data.len(), Payload::Int32(&proto.int32_data)),
        _ if dtype == DType::String => (0, Payload::Strings(&[])),
        _ => (proto.raw_data.len(), Payload::Content(proto.raw_data.clone().into())),
    };
    let (unit, expected) = match payload {
        Payload::Content(_) => ("bytes", bytes),
        Payload::Int32(_) if dtype.bits() < 8 => ("packed bytes", bytes),
        _ => ("elements", count),
    };
    if expected != found {
        let (expected, found) = (expected as u64, found as u64);
        return Err(WeightFault::Size { dtype, dims: proto.dims.clone(), unit, field, expected, found });
    }
    Ok(payload)
}

/// Whether `int32_data` may hold a type: integers up to 32 signed bits, truth values, and bit patterns of short floats.
fn in_int32(dtype: DType) -> bool {
    dtype == DType::I32 || (dtype.bits() > 0 && dtype.bits() <= 16)
}

/// Numbers of a wider field as elements of `dtype`; floats and sub-byte types as their bit patterns.
fn narrow<T: Copy + Into<i128>>(dtype: DType, values: &[T]) -> Result<Bytes, WeightFault> {
    let width = dtype.bits().div_ceil(8);
    let (low, high) = bounds(dtype);
    let mut out = Vec::with_capacity(values.len().saturating_mul(width));
    for (index, &value) in values.iter().enumerate() {
        let value: i128 = value.into();
        if value < low || value > high {
            return Err(WeightFault::Value { index, value, dtype });
        }
        out.extend(value.to_le_bytes().iter().take(width));
    }
    Ok(out.into())
}

fn bounds(dtype: DType) -> (i128, i128) {
    match dtype {
        DType::Bool => (0, 1),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => (-1 << (dtype.bits() - 1), (1 << (dtype.bits() - 1)) - 1),
        _ => (0, (1 << dtype.bits().max(8)) - 1),
    }
}

/// Truth values as 0 and 1: a file may spell true as any byte but 0.
fn truth(bytes: Bytes) -> Bytes {
    if bytes.iter().all(|&byte| byte <= 1) { bytes } else { bytes.iter().map(|&byte| u8::from(byte != 0)).collect() }
}

pub(crate) fn finish(
    declared: &Declared,
    tensor: Result<Tensor, tarsia_tensor::TensorError>,
) -> Result<Tensor, WeightFault> {
    let dims = || declared.shape.iter().map(|&d| d as i64).collect();
    tensor.map_err(|_| WeightFault::Overflow(dims()))
}
