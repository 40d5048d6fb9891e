//! Values in files of their own, as in ONNX test data: tensors, sequences, maps and optional values.

use std::path::Path;

use prost::Message;
use tarsia_tensor::{DType, Numbers, Tensor, TensorError, arrange};

use crate::{
    Limits,
    external::ExternalFiles,
    layout,
    schema::{DataType, ElementKind, MapProto, OptionalProto, SequenceProto, SparseTensorProto, TensorProto},
    source::{ReadError, Source},
    sparse,
    weights::{self, WeightError, WeightFault},
};

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

/// Reads a file with one value of any kind: a `TensorProto`, a `SequenceProto` or `OptionalProto`, or a `MapProto`. Returns its name
/// and the value, as the graph has it: a sequence is a tensor of whole values, an optional value a sequence of none or one.
///
/// Nothing in a file says which message it holds, but no message that is right is also right as another of these, but for optional
/// values, which are encoded as sequences are.
///
/// # Errors
/// If the file is none of these, or a tensor in it is not right: what is wrong with it as a tensor, or as what it is by its fields.
pub fn read_value(path: &Path, limits: &Limits) -> Result<(String, Tensor), ReadError> {
    let as_tensor = match read_tensor(path, limits) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    match read_sequence(path, limits) {
        Ok(read) => Ok(read),
        Err(as_sequence) => read_map(path, limits).map_err(|_| match as_sequence {
            ReadError::Weight { .. } if !matches!(as_tensor, ReadError::Weight { .. }) => as_sequence,
            _ => as_tensor,
        }),
    }
}

/// Reads a file with one `SequenceProto`, or `OptionalProto`. Returns its name and the sequence.
///
/// # Errors
/// If the file is no sequence, or a tensor in it is not right.
pub fn read_sequence(path: &Path, limits: &Limits) -> Result<(String, Tensor), ReadError> {
    let source = Source::open(path, limits)?;
    let proto: SequenceProto = source.decode("an ONNX sequence", &layout::SEQUENCE_DATA, limits)?;
    let reader = Reader { files: ExternalFiles::new(source.folder(), limits.weights), limit: limits.max_bytes };
    let value = reader.sequence(&proto).map_err(|error| weight(&source, error))?;
    Ok((proto.name, value))
}

fn read_map(path: &Path, limits: &Limits) -> Result<(String, Tensor), ReadError> {
    let source = Source::open(path, limits)?;
    let proto: MapProto = source.decode("an ONNX map", &layout::MAP_DATA, limits)?;
    let reader = Reader { files: ExternalFiles::new(source.folder(), limits.weights), limit: limits.max_bytes };
    let value = reader.map(&proto).map_err(|error| weight(&source, error))?;
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
    fn tensor(&self, proto: &TensorProto) -> Result<Tensor, WeightError> {
        weights::read(proto, &self.files, self.limit)
    }

    fn sequence(&self, proto: &SequenceProto) -> Result<Tensor, WeightError> {
        let values: Vec<Tensor> = match ElementKind::try_from(proto.elem_type).unwrap_or(ElementKind::Undefined) {
            ElementKind::Tensor => proto.tensor_values.iter().map(|v| self.tensor(v)).collect::<Result<_, _>>()?,
            ElementKind::SparseTensor => {
                let read = |v: &SparseTensorProto| sparse::read(v, &self.files, self.limit);
                proto.sparse_tensor_values.iter().map(read).collect::<Result<_, _>>()?
            }
            ElementKind::Sequence => {
                proto.sequence_values.iter().map(|v| self.sequence(v)).collect::<Result<_, _>>()?
            }
            ElementKind::Map => proto.map_values.iter().map(|v| self.map(v)).collect::<Result<_, _>>()?,
            ElementKind::Optional => {
                proto.optional_values.iter().map(|v| self.sequence(&as_sequence(v))).collect::<Result<_, _>>()?
            }
            // A sequence without elements need not say what they would be.
            ElementKind::Undefined if proto.is_bare() => Vec::new(),
            ElementKind::Undefined => {
                return Err(wrong(&proto.name, format!("a sequence has element kind {}", proto.elem_type)));
            }
        };
        made(&proto.name, Tensor::from_values(&[values.len()], values))
    }

    fn map(&self, proto: &MapProto) -> Result<Tensor, WeightError> {
        let made = |tensor| made(&proto.name, tensor);
        let keys = match DataType::try_from(proto.key_type) {
            Ok(DataType::String) => Tensor::from_strings(&[proto.string_keys.len()], proto.string_keys.clone()),
            Ok(_) => {
                let dtype = DType::from_onnx(proto.key_type).unwrap_or(DType::I64);
                Tensor::from_numbers(dtype, &[proto.keys.len()], &Numbers::Int(proto.keys.clone()))
            }
            Err(_) => return Err(wrong(&proto.name, format!("a map has keys of type {}", proto.key_type))),
        };
        let keys = made(keys)?;
        let empty = SequenceProto::default();
        let values = self.sequence(proto.values.as_deref().unwrap_or(&empty))?;
        let values = values.values().unwrap_or_default();
        if keys.count() != values.len() {
            return Err(wrong(&proto.name, format!("a map has {} keys and {} values", keys.count(), values.len())));
        }
        let values = self.map_values(&proto.name, values)?;
        let pair = made(Tensor::from_values(&[2], vec![keys, values]))?;
        made(Tensor::from_values(&[], vec![pair]))
    }

    /// The values of a map as one tensor, where they are scalars.
    fn map_values(&self, name: &str, values: &[Tensor]) -> Result<Tensor, WeightError> {
        if values.is_empty() || values.iter().any(|value| value.count() != 1) {
            return made(name, Tensor::from_values(&[values.len()], values.to_vec()));
        }
        let parts = values.iter().map(|value| value.reshaped(&[1])).collect::<Result<Vec<_>, _>>();
        made(name, parts.and_then(|parts| arrange::concat(0, &parts.iter().collect::<Vec<_>>())))
    }
}

/// The message of a value: a `TensorProto`, or for whole values a `SequenceProto` (optional values too) or a `MapProto`.
pub fn write_value(name: &str, value: &Tensor) -> Vec<u8> {
    match (value.values(), value.shape()) {
        (None, _) => tensor_proto(name, value).encode_to_vec(),
        (Some([pair]), []) => map_proto(name, pair).encode_to_vec(),
        (Some(values), _) => sequence_proto(name, values).encode_to_vec(),
    }
}

fn tensor_proto(name: &str, tensor: &Tensor) -> TensorProto {
    let (raw_data, string_data) = match tensor.strings() {
        Some(strings) => (Default::default(), strings.to_vec()),
        None => (tensor.bytes().clone(), Vec::new()),
    };
    let dims = tensor.shape().iter().map(|&size| size as i64).collect();
    let data_type = tensor.dtype().onnx();
    TensorProto { name: name.to_owned(), dims, data_type, raw_data, string_data, ..TensorProto::default() }
}

fn sequence_proto(name: &str, values: &[Tensor]) -> SequenceProto {
    let mut proto = SequenceProto { name: name.to_owned(), ..SequenceProto::default() };
    for value in values {
        let kind = match (value.values(), value.shape()) {
            (None, _) => {
                proto.tensor_values.push(tensor_proto("", value));
                ElementKind::Tensor
            }
            (Some([pair]), []) => {
                proto.map_values.push(map_proto("", pair));
                ElementKind::Map
            }
            (Some(values), _) => {
                proto.sequence_values.push(sequence_proto("", values));
                ElementKind::Sequence
            }
        };
        proto.elem_type = kind.into();
    }
    proto
}

/// The message of the pair of keys and values that a map is.
fn map_proto(name: &str, pair: &Tensor) -> MapProto {
    let mut proto = MapProto { name: name.to_owned(), ..MapProto::default() };
    if let Some([keys, values]) = pair.values() {
        proto.key_type = keys.dtype().onnx();
        proto.keys = keys.numbers().map(|numbers| numbers.to_i64()).unwrap_or_default();
        proto.string_keys = keys.strings().unwrap_or_default().to_vec();
        let one = |at: usize| values.rearranged(&[], std::iter::once(at)).ok();
        let each: Vec<Tensor> = match values.values() {
            Some(values) => values.to_vec(),
            None => (0..values.count()).filter_map(one).collect(),
        };
        proto.values = Some(Box::new(sequence_proto("", &each)));
    }
    proto
}

fn made(name: &str, tensor: Result<Tensor, TensorError>) -> Result<Tensor, WeightError> {
    tensor.map_err(|error| wrong(name, error.to_string()))
}

/// An optional value as a sequence, whose encoding is the same.
fn as_sequence(proto: &OptionalProto) -> SequenceProto {
    fn list<T: Clone>(value: &Option<Box<T>>) -> Vec<T> {
        value.iter().map(|value| (**value).clone()).collect()
    }
    SequenceProto {
        name: proto.name.clone(),
        elem_type: proto.elem_type,
        tensor_values: list(&proto.tensor_value),
        sparse_tensor_values: list(&proto.sparse_tensor_value),
        sequence_values: list(&proto.sequence_value),
        map_values: list(&proto.map_value),
        optional_values: list(&proto.optional_value),
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
