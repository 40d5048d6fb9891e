//! Values in files of their own, as in ONNX test data: tensors, sequences, maps and optional values.

use std::path::Path;

use tarsia_tensor::Tensor;

use crate::{
    Limits,
    external::ExternalFiles,
    layout,
    schema::{DataType, ElementKind, MapProto, OptionalProto, SequenceProto, SparseTensorProto, TensorProto},
    source::{ReadError, Source},
    sparse,
    weights::{self, WeightError, WeightFault},
};

/// A value of any type.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// A tensor.
    Tensor(Tensor),
    /// A sequence.
    Sequence(Vec<Data>),
    /// A value or nothing.
    Optional(Option<Box<Data>>),
    /// A map: keys, and as many values.
    Map(Keys, Vec<Data>),
}

/// The keys of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Integers of any width.
    Ints(Vec<i64>),
    /// Strings.
    Strings(Vec<bytes::Bytes>),
}

/// Reads a file with one `TensorProto`. Returns its name and the tensor.
///
/// # Errors
/// If the file is no tensor, or the tensor is not right.
pub fn read_tensor(path: &Path, limits: &Limits) -> Result<(String, Tensor), ReadError> {
    let source = Source::open(path, limits)?;
    let proto: TensorProto = source.decode("an ONNX tensor", &layout::TENSOR, limits)?;
    let reader = Reader { files: ExternalFiles::new(source.folder(), limits.weights), limit: limits.max_bytes };
    let tensor = weights::read(&proto, &reader.files, reader.limit);
    Ok((proto.name.clone(), tensor.map_err(|error| weight(&source, error))?))
}

/// Reads a file with one `SequenceProto`. Returns its name and the sequence.
///
/// # Errors
/// If the file is no sequence, or a tensor in it is not right.
pub fn read_sequence(path: &Path, limits: &Limits) -> Result<(String, Data), ReadError> {
    let source = Source::open(path, limits)?;
    let proto: SequenceProto = source.decode("an ONNX sequence", &layout::SEQUENCE_DATA, limits)?;
    let reader = Reader { files: ExternalFiles::new(source.folder(), limits.weights), limit: limits.max_bytes };
    let elements = reader.sequence(&proto).map_err(|error| weight(&source, error))?;
    Ok((proto.name, Data::Sequence(elements)))
}

/// Reads a file with one `OptionalProto`. Returns its name and the value.
///
/// # Errors
/// If the file is no optional value, or a tensor in it is not right.
pub fn read_optional(path: &Path, limits: &Limits) -> Result<(String, Data), ReadError> {
    let source = Source::open(path, limits)?;
    let proto: OptionalProto = source.decode("an ONNX optional value", &layout::OPTIONAL_DATA, limits)?;
    let reader = Reader { files: ExternalFiles::new(source.folder(), limits.weights), limit: limits.max_bytes };
    let value = reader.optional(&proto).map_err(|error| weight(&source, error))?;
    Ok((proto.name, value))
}

fn weight(source: &Source, error: WeightError) -> ReadError {
    ReadError::Weight { file: source.label().to_string(), error }
}

struct Reader {
    files: ExternalFiles,
    limit: u64,
}

impl Reader {
    fn tensor(&self, proto: &TensorProto) -> Result<Data, WeightError> {
        weights::read(proto, &self.files, self.limit).map(Data::Tensor)
    }

    fn sparse(&self, proto: &SparseTensorProto) -> Result<Data, WeightError> {
        sparse::read(proto, &self.files, self.limit).map(Data::Tensor)
    }

    fn sequence(&self, proto: &SequenceProto) -> Result<Vec<Data>, WeightError> {
        match ElementKind::try_from(proto.elem_type).unwrap_or(ElementKind::Undefined) {
            ElementKind::Tensor => proto.tensor_values.iter().map(|v| self.tensor(v)).collect(),
            ElementKind::SparseTensor => proto.sparse_tensor_values.iter().map(|v| self.sparse(v)).collect(),
            ElementKind::Sequence => {
                proto.sequence_values.iter().map(|v| self.sequence(v).map(Data::Sequence)).collect()
            }
            ElementKind::Map => proto.map_values.iter().map(|v| self.map(v)).collect(),
            ElementKind::Optional => proto.optional_values.iter().map(|v| self.optional(v)).collect(),
            // A sequence without elements need not say what they would be.
            ElementKind::Undefined if proto.is_bare() => Ok(Vec::new()),
            ElementKind::Undefined => {
                Err(wrong(&proto.name, format!("a sequence has element kind {}", proto.elem_type)))
            }
        }
    }

    fn optional(&self, proto: &OptionalProto) -> Result<Data, WeightError> {
        let value = match ElementKind::try_from(proto.elem_type).unwrap_or(ElementKind::Undefined) {
            ElementKind::Tensor => proto.tensor_value.as_deref().map(|v| self.tensor(v)),
            ElementKind::SparseTensor => proto.sparse_tensor_value.as_deref().map(|v| self.sparse(v)),
            ElementKind::Sequence => proto.sequence_value.as_deref().map(|v| self.sequence(v).map(Data::Sequence)),
            ElementKind::Map => proto.map_value.as_deref().map(|v| self.map(v)),
            ElementKind::Optional => proto.optional_value.as_deref().map(|v| self.optional(v)),
            ElementKind::Undefined if proto.elem_type == 0 => None,
            ElementKind::Undefined => {
                return Err(wrong(&proto.name, format!("an optional value has element kind {}", proto.elem_type)));
            }
        };
        Ok(Data::Optional(value.transpose()?.map(Box::new)))
    }

    fn map(&self, proto: &MapProto) -> Result<Data, WeightError> {
        let keys = match DataType::try_from(proto.key_type) {
            Ok(DataType::String) => Keys::Strings(proto.string_keys.clone()),
            _ => Keys::Ints(proto.keys.clone()),
        };
        let values = proto.values.as_deref().map_or_else(|| Ok(Vec::new()), |values| self.sequence(values))?;
        let count = match &keys {
            Keys::Strings(keys) => keys.len(),
            Keys::Ints(keys) => keys.len(),
        };
        if count != values.len() {
            return Err(wrong(&proto.name, format!("a map has {count} keys and {} values", values.len())));
        }
        Ok(Data::Map(keys, values))
    }
}

impl SequenceProto {
    fn is_bare(&self) -> bool {
        self.elem_type == 0
            && self.tensor_values.is_empty()
            && self.sparse_tensor_values.is_empty()
            && self.sequence_values.is_empty()
            && self.map_values.is_empty()
            && self.optional_values.is_empty()
    }
}

fn wrong(name: &str, text: String) -> WeightError {
    WeightError { tensor: name.to_string(), fault: Box::new(WeightFault::Composite(text)) }
}
