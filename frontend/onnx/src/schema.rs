//! The ONNX file schema, as prost messages: all of IR version 14 (onnx 1.23).
//!
//! Field numbers are those of `onnx.proto`. Bulk data (`raw_data`, string payloads, documentation) is [`Bytes`]: decoded from a
//! buffer that is itself a [`Bytes`] over a memory map, it is a view of the map and nothing is copied. A scalar or string that is
//! absent reads as zero or empty, which is what ONNX means by absence everywhere but where a field here is an [`Option`].
//!
//! Messages that are rare inside a frequent parent are boxed, so that a node of a large model stays small in memory.

use bytes::Bytes;

/// The newest IR version this schema describes.
pub const NEWEST_IR_VERSION: i64 = 14;

/// A model: a graph, the operator sets it is written in, and its functions.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ModelProto {
    /// Version of the file format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Operator sets that the nodes of the main graph bind to.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Tool that wrote the model.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Version of that tool.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// Reverse domain name of the model.
    #[prost(string, tag = "4")]
    pub domain: String,
    /// Version of the graph, chosen by its author.
    #[prost(int64, tag = "5")]
    pub model_version: i64,
    /// Documentation, never interpreted.
    #[prost(bytes = "bytes", tag = "6")]
    pub doc_string: Bytes,
    /// The main graph.
    #[prost(message, optional, boxed, tag = "7")]
    pub graph: Option<Box<GraphProto>>,
    /// Named metadata.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Training information, which inference ignores.
    #[prost(message, repeated, tag = "20")]
    pub training_info: Vec<TrainingInfoProto>,
    /// Functions local to the model.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
    /// Multi-device configurations.
    #[prost(message, repeated, tag = "26")]
    pub configuration: Vec<DeviceConfigurationProto>,
}

/// A graph: nodes between inputs and outputs, with its constants.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct GraphProto {
    /// The nodes.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Name of the graph.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants (or defaults of the inputs of the same name).
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// Constants in sparse form.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
    /// Documentation, never interpreted.
    #[prost(bytes = "bytes", tag = "10")]
    pub doc_string: Bytes,
    /// Inputs, with types.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// Outputs, with types.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    /// Types of other values, as far as the exporter knew them.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    /// Quantisation parameters by tensor name.
    #[prost(message, repeated, tag = "14")]
    pub quantization_annotation: Vec<TensorAnnotation>,
    /// Named metadata.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// One application of an operator or of a model-local function.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct NodeProto {
    /// Names of the input values; an empty one is an absent optional input.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the output values; an empty one is an output nobody wants.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name of the node, which may be empty.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Operator or function name.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Domain of the operator set that defines the operator.
    #[prost(string, tag = "7")]
    pub domain: String,
    /// Which overload of a model-local function is meant.
    #[prost(string, tag = "8")]
    pub overload: String,
    /// Attributes by name.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// Documentation, never interpreted.
    #[prost(bytes = "bytes", tag = "6")]
    pub doc_string: Bytes,
    /// Named metadata.
    #[prost(message, repeated, tag = "9")]
    pub metadata_props: Vec<StringStringEntryProto>,
    /// Multi-device annotations.
    #[prost(message, repeated, tag = "10")]
    pub device_configurations: Vec<NodeDeviceConfigurationProto>,
}

/// A named attribute: one value whose kind is told by `type`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct AttributeProto {
    /// Name of the attribute.
    #[prost(string, tag = "1")]
    pub name: String,
    /// In a function body: the attribute of the calling node that gives the value.
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
    /// Documentation, never interpreted.
    #[prost(bytes = "bytes", tag = "13")]
    pub doc_string: Bytes,
    /// Which of the fields below holds the value, an [`AttributeType`].
    #[prost(enumeration = "AttributeType", tag = "20")]
    pub r#type: i32,
    /// A number.
    #[prost(float, tag = "2")]
    pub f: f32,
    /// An integer.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// A string, UTF-8 by convention.
    #[prost(bytes = "bytes", tag = "4")]
    pub s: Bytes,
    /// A tensor.
    #[prost(message, optional, boxed, tag = "5")]
    pub t: Option<Box<TensorProto>>,
    /// A graph.
    #[prost(message, optional, boxed, tag = "6")]
    pub g: Option<Box<GraphProto>>,
    /// A sparse tensor.
    #[prost(message, optional, boxed, tag = "22")]
    pub sparse_tensor: Option<Box<SparseTensorProto>>,
    /// A type.
    #[prost(message, optional, boxed, tag = "14")]
    pub tp: Option<Box<TypeProto>>,
    /// Numbers.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Strings.
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    /// Tensors.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    /// Graphs.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    /// Sparse tensors.
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensorProto>,
    /// Types.
    #[prost(message, repeated, tag = "15")]
    pub type_protos: Vec<TypeProto>,
}

/// The kind of value an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum AttributeType {
    /// Not told.
    Undefined = 0,
    /// `f`.
    Float = 1,
    /// `i`.
    Int = 2,
    /// `s`.
    String = 3,
    /// `t`.
    Tensor = 4,
    /// `g`.
    Graph = 5,
    /// `floats`.
    Floats = 6,
    /// `ints`.
    Ints = 7,
    /// `strings`.
    Strings = 8,
    /// `tensors`.
    Tensors = 9,
    /// `graphs`.
    Graphs = 10,
    /// `sparse_tensor`.
    SparseTensor = 11,
    /// `sparse_tensors`.
    SparseTensors = 12,
    /// `tp`.
    TypeProto = 13,
    /// `type_protos`.
    TypeProtos = 14,
}

/// Name and type of a value.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ValueInfoProto {
    /// Name of the value.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type of the value.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// Documentation, never interpreted.
    #[prost(bytes = "bytes", tag = "3")]
    pub doc_string: Bytes,
    /// Named metadata.
    #[prost(message, repeated, tag = "4")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A dense tensor with its data, inline or in an external file.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TensorProto {
    /// Shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// Element type, a [`DataType`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Which part of a tensor stored in chunks this is; no exporter writes it.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<Segment>,
    /// Elements of `FLOAT` and `COMPLEX64`.
    #[prost(float, repeated, packed = "true", tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements of the integers of at most 32 bits, and bit patterns of the short floats.
    #[prost(int32, repeated, packed = "true", tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements of `STRING`.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    /// Elements of `INT64`.
    #[prost(int64, repeated, packed = "true", tag = "7")]
    pub int64_data: Vec<i64>,
    /// Name of the tensor.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Documentation, never interpreted.
    #[prost(bytes = "bytes", tag = "12")]
    pub doc_string: Bytes,
    /// Elements of any type but `STRING`, fixed width, little-endian, sub-byte types packed from the low bit.
    #[prost(bytes = "bytes", tag = "9")]
    pub raw_data: Bytes,
    /// Where external data is: `location`, `offset`, `length`, `checksum`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// Inline or external, a [`DataLocation`].
    #[prost(enumeration = "DataLocation", tag = "14")]
    pub data_location: i32,
    /// Elements of `DOUBLE` and `COMPLEX128`.
    #[prost(double, repeated, packed = "true", tag = "10")]
    pub double_data: Vec<f64>,
    /// Elements of `UINT32` and `UINT64`.
    #[prost(uint64, repeated, packed = "true", tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Named metadata.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// Which part of a tensor stored in chunks a message holds.
#[derive(Clone, Copy, PartialEq, ::prost::Message)]
pub struct Segment {
    /// First element.
    #[prost(int64, tag = "1")]
    pub begin: i64,
    /// One past the last element.
    #[prost(int64, tag = "2")]
    pub end: i64,
}

/// Where the data of a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum DataLocation {
    /// In the message.
    Default = 0,
    /// In a file named by `external_data`.
    External = 1,
}

/// Element types of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    /// Not told.
    Undefined = 0,
    /// IEEE binary32.
    Float = 1,
    /// Unsigned 8-bit integer.
    Uint8 = 2,
    /// Signed 8-bit integer.
    Int8 = 3,
    /// Unsigned 16-bit integer.
    Uint16 = 4,
    /// Signed 16-bit integer.
    Int16 = 5,
    /// Signed 32-bit integer.
    Int32 = 6,
    /// Signed 64-bit integer.
    Int64 = 7,
    /// UTF-8 string.
    String = 8,
    /// Truth value, one byte.
    Bool = 9,
    /// IEEE binary16.
    Float16 = 10,
    /// IEEE binary64.
    Double = 11,
    /// Unsigned 32-bit integer.
    Uint32 = 12,
    /// Unsigned 64-bit integer.
    Uint64 = 13,
    /// Two binary32, real first.
    Complex64 = 14,
    /// Two binary64, real first.
    Complex128 = 15,
    /// The upper half of a binary32.
    Bfloat16 = 16,
    /// 8-bit float, finite, one NaN.
    Float8e4m3fn = 17,
    /// 8-bit float, finite, no negative zero.
    Float8e4m3fnuz = 18,
    /// 8-bit float as IEEE.
    Float8e5m2 = 19,
    /// 8-bit float, finite, no negative zero.
    Float8e5m2fnuz = 20,
    /// Unsigned 4-bit integer, two a byte.
    Uint4 = 21,
    /// Signed 4-bit integer, two a byte.
    Int4 = 22,
    /// 4-bit float, two a byte.
    Float4e2m1 = 23,
    /// A power of two, the scale of the microscaling formats.
    Float8e8m0 = 24,
    /// Unsigned 2-bit integer, four a byte.
    Uint2 = 25,
    /// Signed 2-bit integer, four a byte.
    Int2 = 26,
    /// 6-bit float, four in three bytes.
    Float6e2m3 = 27,
    /// 6-bit float, four in three bytes.
    Float6e3m2 = 28,
}

/// A sparse tensor in coordinate form.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SparseTensorProto {
    /// The values, shape [NNZ]; its name is the name of the sparse tensor.
    #[prost(message, optional, boxed, tag = "1")]
    pub values: Option<Box<TensorProto>>,
    /// Where they are: [NNZ] linear indices or [NNZ, rank] coordinates.
    #[prost(message, optional, boxed, tag = "2")]
    pub indices: Option<Box<TensorProto>>,
    /// Shape of the dense tensor.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// A shape whose dimensions may be symbolic.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TensorShapeProto {
    /// The dimensions.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// One dimension of a shape.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DimensionProto {
    /// Value or name; absent where nothing is known.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
    /// What the dimension stands for.
    #[prost(string, tag = "3")]
    pub denotation: String,
}

/// What is known of a dimension.
#[derive(Clone, PartialEq, ::prost::Oneof)]
pub enum DimensionValue {
    /// Its size.
    #[prost(int64, tag = "1")]
    DimValue(i64),
    /// Its name, or an expression of names.
    #[prost(string, tag = "2")]
    DimParam(String),
}

/// Type of a value.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TypeProto {
    /// The type.
    #[prost(oneof = "TypeValue", tags = "1, 4, 5, 9, 8, 7")]
    pub value: Option<TypeValue>,
    /// What the value stands for.
    #[prost(string, tag = "6")]
    pub denotation: String,
}

/// The kinds of types.
#[derive(Clone, PartialEq, ::prost::Oneof)]
pub enum TypeValue {
    /// A dense tensor.
    #[prost(message, tag = "1")]
    TensorType(TensorTypeProto),
    /// A sequence of values of one type.
    #[prost(message, tag = "4")]
    SequenceType(Box<ElementTypeProto>),
    /// A map.
    #[prost(message, tag = "5")]
    MapType(Box<MapTypeProto>),
    /// A value or nothing.
    #[prost(message, tag = "9")]
    OptionalType(Box<ElementTypeProto>),
    /// A sparse tensor.
    #[prost(message, tag = "8")]
    SparseTensorType(TensorTypeProto),
    /// A type that only its domain knows.
    #[prost(message, tag = "7")]
    OpaqueType(OpaqueTypeProto),
}

/// `TypeProto.Tensor` and `TypeProto.SparseTensor`, which have the same fields.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TensorTypeProto {
    /// Element type, a [`DataType`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Shape; absent where not even the rank is known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// `TypeProto.Sequence` and `TypeProto.Optional`, which have the same fields.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ElementTypeProto {
    /// Type of the elements.
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<TypeProto>>,
}

/// `TypeProto.Map`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapTypeProto {
    /// Type of the keys, a [`DataType`].
    #[prost(int32, tag = "1")]
    pub key_type: i32,
    /// Type of the values.
    #[prost(message, optional, boxed, tag = "2")]
    pub value_type: Option<Box<TypeProto>>,
}

/// `TypeProto.Opaque`.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct OpaqueTypeProto {
    /// Domain that defines the type.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Name of the type.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// An operator set: domain and version.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct OperatorSetIdProto {
    /// Domain; empty is ONNX's own.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A function local to the model.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FunctionProto {
    /// Name, the `op_type` of the nodes that call it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Names of the inputs.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Names of the outputs.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Attributes without a default.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// Attributes with their defaults.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    /// The nodes.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    /// Documentation, never interpreted.
    #[prost(bytes = "bytes", tag = "8")]
    pub doc_string: Bytes,
    /// Operator sets that the nodes of the body bind to.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Domain of the function.
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Which overload of the name this is.
    #[prost(string, tag = "13")]
    pub overload: String,
    /// Types of values of the body, as far as the exporter knew them.
    #[prost(message, repeated, tag = "12")]
    pub value_info: Vec<ValueInfoProto>,
    /// Named metadata.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A key with its value.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct StringStringEntryProto {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Quantisation parameters of one tensor.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TensorAnnotation {
    /// The tensor.
    #[prost(string, tag = "1")]
    pub tensor_name: String,
    /// Names of the tensors that hold its scale and zero point.
    #[prost(message, repeated, tag = "2")]
    pub quant_parameter_tensor_names: Vec<StringStringEntryProto>,
}

/// How to initialise and train a model.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TrainingInfoProto {
    /// Graph that computes initial values.
    #[prost(message, optional, boxed, tag = "1")]
    pub initialization: Option<Box<GraphProto>>,
    /// Graph of one training step.
    #[prost(message, optional, boxed, tag = "2")]
    pub algorithm: Option<Box<GraphProto>>,
    /// Which initialiser each output of `initialization` sets.
    #[prost(message, repeated, tag = "3")]
    pub initialization_binding: Vec<StringStringEntryProto>,
    /// Which initialiser each output of `algorithm` updates.
    #[prost(message, repeated, tag = "4")]
    pub update_binding: Vec<StringStringEntryProto>,
}

/// A set of devices a model may be spread over.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DeviceConfigurationProto {
    /// Name of the configuration.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Number of devices.
    #[prost(int32, tag = "2")]
    pub num_devices: i32,
    /// Names of the devices.
    #[prost(string, repeated, tag = "3")]
    pub device: Vec<String>,
}

/// How a node is spread over the devices of a configuration.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct NodeDeviceConfigurationProto {
    /// Name of the configuration.
    #[prost(string, tag = "1")]
    pub configuration_id: String,
    /// How its inputs and outputs are split.
    #[prost(message, repeated, tag = "2")]
    pub sharding_spec: Vec<ShardingSpecProto>,
    /// Pipeline stage; stage 0 and no stage differ.
    #[prost(int32, optional, tag = "3")]
    pub pipeline_stage: Option<i32>,
}

/// How one tensor is split.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ShardingSpecProto {
    /// The tensor.
    #[prost(string, tag = "1")]
    pub tensor_name: String,
    /// Devices or groups of devices that hold it.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub device: Vec<i64>,
    /// The groups.
    #[prost(message, repeated, tag = "3")]
    pub index_to_device_group_map: Vec<IntIntListEntryProto>,
    /// The split of each axis.
    #[prost(message, repeated, tag = "4")]
    pub sharded_dim: Vec<ShardedDimProto>,
}

/// An integer with a list of integers.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct IntIntListEntryProto {
    /// The key.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The list.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub value: Vec<i64>,
}

/// How one axis is split.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ShardedDimProto {
    /// The axis; negative counts from the back.
    #[prost(int64, tag = "1")]
    pub axis: i64,
    /// The parts of the axis, more than one where a reshape fused several.
    #[prost(message, repeated, tag = "2")]
    pub simple_sharding: Vec<SimpleShardedDimProto>,
}

/// A number of blocks divided into shards.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SimpleShardedDimProto {
    /// Number of blocks.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub dim: Option<DimensionValue>,
    /// Number of shards.
    #[prost(int64, tag = "3")]
    pub num_shards: i64,
}

/// A sequence value (`onnx-data.proto`): the elements are in the field that `elem_type` names.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SequenceProto {
    /// Name of the value.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Kind of the elements, a [`ElementKind`].
    #[prost(enumeration = "ElementKind", tag = "2")]
    pub elem_type: i32,
    /// Elements that are tensors.
    #[prost(message, repeated, tag = "3")]
    pub tensor_values: Vec<TensorProto>,
    /// Elements that are sparse tensors.
    #[prost(message, repeated, tag = "4")]
    pub sparse_tensor_values: Vec<SparseTensorProto>,
    /// Elements that are sequences.
    #[prost(message, repeated, tag = "5")]
    pub sequence_values: Vec<SequenceProto>,
    /// Elements that are maps.
    #[prost(message, repeated, tag = "6")]
    pub map_values: Vec<MapProto>,
    /// Elements that are optional values.
    #[prost(message, repeated, tag = "7")]
    pub optional_values: Vec<OptionalProto>,
}

/// A map value (`onnx-data.proto`): as many keys as values.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct MapProto {
    /// Name of the value.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type of the keys, a [`DataType`].
    #[prost(int32, tag = "2")]
    pub key_type: i32,
    /// Integer keys.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub keys: Vec<i64>,
    /// String keys.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub string_keys: Vec<Bytes>,
    /// The values, in the order of the keys.
    #[prost(message, optional, boxed, tag = "5")]
    pub values: Option<Box<SequenceProto>>,
}

/// An optional value (`onnx-data.proto`): a value in the field that `elem_type` names, or nothing.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct OptionalProto {
    /// Name of the value.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Kind of the value, a [`ElementKind`].
    #[prost(enumeration = "ElementKind", tag = "2")]
    pub elem_type: i32,
    /// A tensor.
    #[prost(message, optional, boxed, tag = "3")]
    pub tensor_value: Option<Box<TensorProto>>,
    /// A sparse tensor.
    #[prost(message, optional, boxed, tag = "4")]
    pub sparse_tensor_value: Option<Box<SparseTensorProto>>,
    /// A sequence.
    #[prost(message, optional, boxed, tag = "5")]
    pub sequence_value: Option<Box<SequenceProto>>,
    /// A map.
    #[prost(message, optional, boxed, tag = "6")]
    pub map_value: Option<Box<MapProto>>,
    /// An optional value.
    #[prost(message, optional, boxed, tag = "7")]
    pub optional_value: Option<Box<OptionalProto>>,
}

/// The kind of the elements of a sequence or an optional value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum ElementKind {
    /// Not told.
    Undefined = 0,
    /// Tensors.
    Tensor = 1,
    /// Sparse tensors.
    SparseTensor = 2,
    /// Sequences.
    Sequence = 3,
    /// Maps.
    Map = 4,
    /// Optional values.
    Optional = 5,
}
