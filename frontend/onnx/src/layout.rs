//! The wire layout of every message of the schema, for [`crate::wire`].
//!
//! Numbers and types repeat what the prost attributes in [`crate::schema`] say; a test encodes every field of every message and checks
//! that the two agree.

use std::mem::size_of;

use crate::{
    schema as s,
    wire::{Layout, Wire::*},
};

macro_rules! layouts {
    ($($layout:ident = $message:ident { $($number:literal $name:ident: $wire:expr),* $(,)? })*) => { $(
        pub(crate) static $layout: Layout =
            Layout { size: size_of::<s::$message>(), fields: &[$(($number, stringify!($name), $wire)),*] };
    )*
        /// Every layout, with the name of its message.
        #[cfg(test)]
        static ALL: &[(&str, &Layout)] = &[$((stringify!($message), &$layout)),*];
    };
}

layouts! {
    MODEL = ModelProto {
        1 ir_version: Varint, 8 opset_import: Messages(&OPERATOR_SET), 2 producer_name: Text, 3 producer_version: Text, 4 domain: Text,
        5 model_version: Varint, 6 doc_string: Blob, 7 graph: Message(&GRAPH), 14 metadata_props: Messages(&ENTRY),
        20 training_info: Messages(&TRAINING), 25 functions: Messages(&FUNCTION), 26 configuration: Messages(&DEVICES),
    }
    GRAPH = GraphProto {
        1 node: Messages(&NODE), 2 name: Text, 5 initializer: Messages(&TENSOR), 15 sparse_initializer: Messages(&SPARSE),
        10 doc_string: Blob, 11 input: Messages(&VALUE), 12 output: Messages(&VALUE), 13 value_info: Messages(&VALUE),
        14 quantization_annotation: Messages(&ANNOTATION), 16 metadata_props: Messages(&ENTRY),
    }
    NODE = NodeProto {
        1 input: Text, 2 output: Text, 3 name: Text, 4 op_type: Text, 7 domain: Text, 8 overload: Text,
        5 attribute: Messages(&ATTRIBUTE), 6 doc_string: Blob, 9 metadata_props: Messages(&ENTRY),
        10 device_configurations: Messages(&NODE_DEVICES),
    }
    ATTRIBUTE = AttributeProto {
        1 name: Text, 21 ref_attr_name: Text, 13 doc_string: Blob, 20 type: Varint, 2 f: Fixed32, 3 i: Varint, 4 s: Blob,
        5 t: Message(&TENSOR), 6 g: Message(&GRAPH), 22 sparse_tensor: Message(&SPARSE), 14 tp: Message(&TYPE),
        7 floats: Fixed32s, 8 ints: Varints, 9 strings: Blob, 10 tensors: Messages(&TENSOR), 11 graphs: Messages(&GRAPH),
        23 sparse_tensors: Messages(&SPARSE), 15 type_protos: Messages(&TYPE),
    }
    VALUE = ValueInfoProto { 1 name: Text, 2 type: Message(&TYPE), 3 doc_string: Blob, 4 metadata_props: Messages(&ENTRY) }
    TENSOR = TensorProto {
        1 dims: Varints, 2 data_type: Varint, 3 segment: Message(&SEGMENT), 4 float_data: Fixed32s, 5 int32_data: Varints,
        6 string_data: Blob, 7 int64_data: Varints, 8 name: Text, 12 doc_string: Blob, 9 raw_data: Blob,
        13 external_data: Messages(&ENTRY), 14 data_location: Varint, 10 double_data: Fixed64s, 11 uint64_data: Varints,
        16 metadata_props: Messages(&ENTRY),
    }
    SEGMENT = Segment { 1 begin: Varint, 2 end: Varint }
    SPARSE = SparseTensorProto { 1 values: Message(&TENSOR), 2 indices: Message(&TENSOR), 3 dims: Varints }
    SHAPE = TensorShapeProto { 1 dim: Messages(&DIMENSION) }
    DIMENSION = DimensionProto { 1 dim_value: Varint, 2 dim_param: Text, 3 denotation: Text }
    TYPE = TypeProto {
        1 tensor_type: Message(&TENSOR_TYPE), 4 sequence_type: Message(&ELEMENT_TYPE), 5 map_type: Message(&MAP_TYPE),
        9 optional_type: Message(&ELEMENT_TYPE), 8 sparse_tensor_type: Message(&TENSOR_TYPE), 7 opaque_type: Message(&OPAQUE_TYPE),
        6 denotation: Text,
    }
    TENSOR_TYPE = TensorTypeProto { 1 elem_type: Varint, 2 shape: Message(&SHAPE) }
    ELEMENT_TYPE = ElementTypeProto { 1 elem_type: Message(&TYPE) }
    MAP_TYPE = MapTypeProto { 1 key_type: Varint, 2 value_type: Message(&TYPE) }
    OPAQUE_TYPE = OpaqueTypeProto { 1 domain: Text, 2 name: Text }
    OPERATOR_SET = OperatorSetIdProto { 1 domain: Text, 2 version: Varint }
    FUNCTION = FunctionProto {
        1 name: Text, 4 input: Text, 5 output: Text, 6 attribute: Text, 11 attribute_proto: Messages(&ATTRIBUTE),
        7 node: Messages(&NODE), 8 doc_string: Blob, 9 opset_import: Messages(&OPERATOR_SET), 10 domain: Text, 13 overload: Text,
        12 value_info: Messages(&VALUE), 14 metadata_props: Messages(&ENTRY),
    }
    ENTRY = StringStringEntryProto { 1 key: Text, 2 value: Text }
    ANNOTATION = TensorAnnotation { 1 tensor_name: Text, 2 quant_parameter_tensor_names: Messages(&ENTRY) }
    TRAINING = TrainingInfoProto {
        1 initialization: Message(&GRAPH), 2 algorithm: Message(&GRAPH), 3 initialization_binding: Messages(&ENTRY),
        4 update_binding: Messages(&ENTRY),
    }
    DEVICES = DeviceConfigurationProto { 1 name: Text, 2 num_devices: Varint, 3 device: Text }
    NODE_DEVICES = NodeDeviceConfigurationProto {
        1 configuration_id: Text, 2 sharding_spec: Messages(&SHARDING), 3 pipeline_stage: Varint,
    }
    SHARDING = ShardingSpecProto {
        1 tensor_name: Text, 2 device: Varints, 3 index_to_device_group_map: Messages(&INT_LIST), 4 sharded_dim: Messages(&SHARDED_DIM),
    }
    INT_LIST = IntIntListEntryProto { 1 key: Varint, 2 value: Varints }
    SHARDED_DIM = ShardedDimProto { 1 axis: Varint, 2 simple_sharding: Messages(&SIMPLE_SHARDING) }
    SIMPLE_SHARDING = SimpleShardedDimProto { 1 dim_value: Varint, 2 dim_param: Text, 3 num_shards: Varint }
    SEQUENCE_DATA = SequenceProto {
        1 name: Text, 2 elem_type: Varint, 3 tensor_values: Messages(&TENSOR), 4 sparse_tensor_values: Messages(&SPARSE),
        5 sequence_values: Messages(&SEQUENCE_DATA), 6 map_values: Messages(&MAP_DATA), 7 optional_values: Messages(&OPTIONAL_DATA),
    }
    MAP_DATA = MapProto {
        1 name: Text, 2 key_type: Varint, 3 keys: Varints, 4 string_keys: Blob, 5 values: Message(&SEQUENCE_DATA),
    }
    OPTIONAL_DATA = OptionalProto {
        1 name: Text, 2 elem_type: Varint, 3 tensor_value: Message(&TENSOR), 4 sparse_tensor_value: Message(&SPARSE),
        5 sequence_value: Message(&SEQUENCE_DATA), 6 map_value: Message(&MAP_DATA), 7 optional_value: Message(&OPTIONAL_DATA),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Fields of each message or oneof of the schema's source: number and form.
    fn schema(of: &str) -> BTreeMap<String, BTreeSet<(u32, String)>> {
        let mut items = BTreeMap::new();
        for item in include_str!("schema.rs").split(of).skip(1) {
            let name: String = item.chars().take_while(|c| c.is_alphanumeric()).collect();
            let body = item.split("\n}").next().unwrap_or_default();
            let fields = body.split("#[prost(").skip(1).filter_map(|field| {
                let (form, rest) = (field.split(&[',', ' ', '=']).next()?, field.split("tag = \"").nth(1)?);
                let form = match form {
                    "int32" | "int64" | "uint64" | "enumeration" => "varint",
                    other => other,
                };
                let repeated = field.split(')').next()?.contains(" repeated") && !matches!(form, "string" | "bytes");
                let form = if repeated { format!("{form}s") } else { form.to_string() };
                Some((rest.split('"').next()?.parse().ok()?, form))
            });
            items.insert(name, fields.collect());
        }
        items
    }

    #[test]
    fn layouts_repeat_the_schema() {
        let (mut messages, oneofs) = (schema("pub struct "), schema("pub enum "));
        for (message, oneof) in [
            ("DimensionProto", "DimensionValue"),
            ("SimpleShardedDimProto", "DimensionValue"),
            ("TypeProto", "TypeValue"),
        ] {
            messages.get_mut(message).unwrap().extend(oneofs[oneof].clone());
        }
        assert_eq!(ALL.len(), messages.len());
        for (name, layout) in ALL {
            let form = |wire: &crate::wire::Wire| match wire {
                Varint => "varint",
                Varints => "varints",
                Fixed32 => "float",
                Fixed32s => "floats",
                Fixed64s => "doubles",
                Text => "string",
                Blob => "bytes",
                Message(_) => "message",
                Messages(_) => "messages",
            };
            let fields: BTreeSet<_> = layout.fields.iter().map(|(n, _, wire)| (*n, form(wire).to_string())).collect();
            assert_eq!(fields, messages[*name], "{name}");
        }
    }
}
