//! Small models, built with the independent schema.

use bytes::Bytes;
use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataLocation,
};
use tarsia_onnx::{Limits, Model, Problem, ReadError};

/// A node without a name.
pub fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    NodeProto { op_type: operator.into(), input: names(inputs), output: names(outputs), ..Default::default() }
}

/// A node with a name, a domain and attributes.
pub fn full_node(name: &str, domain: &str, mut node: NodeProto, attributes: Vec<AttributeProto>) -> NodeProto {
    node.name = name.into();
    node.domain = domain.into();
    node.attribute = attributes;
    node
}

/// A value without a type.
pub fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), ..Default::default() }
}

/// A graph.
pub fn graph(inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        name: "g".into(),
        input: inputs.iter().map(|name| value(name)).collect(),
        output: outputs.iter().map(|name| value(name)).collect(),
        node: nodes,
        ..Default::default()
    }
}

/// An operator set.
pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version, ..Default::default() }
}

/// A model of opset 20 and of the domain `local` version 1.
pub fn model(graph: GraphProto, functions: Vec<FunctionProto>) -> ModelProto {
    ModelProto {
        ir_version: 10,
        opset_import: vec![opset("", 20), opset("local", 1)],
        graph: Some(graph).into(),
        functions,
        ..Default::default()
    }
}

/// A function of the domain `local`, on opset 20.
pub fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    FunctionProto {
        name: name.into(),
        domain: "local".into(),
        input: names(inputs),
        output: names(outputs),
        node: nodes,
        opset_import: vec![opset("", 20), opset("local", 1)],
        ..Default::default()
    }
}

/// A call of a function of the domain `local`.
pub fn call(name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { domain: "local".into(), ..node(name, inputs, outputs) }
}

/// An attribute of a kind, whose value the caller sets.
pub fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), type_: kind.into(), ..Default::default() }
}

/// An integer attribute.
pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeType::INT) }
}

/// A graph attribute.
pub fn branch(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph).into(), ..attribute(name, AttributeType::GRAPH) }
}

/// A tensor attribute.
pub fn constant(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(tensor).into(), ..attribute(name, AttributeType::TENSOR) }
}

/// A reference to an attribute of the calling node.
pub fn reference(name: &str, to: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { ref_attr_name: to.into(), ..attribute(name, kind) }
}

/// A tensor `w` without data.
pub fn tensor(data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { name: "w".into(), data_type, dims: dims.to_vec(), ..Default::default() }
}

/// A tensor `w` with raw data.
pub fn raw(data_type: i32, dims: &[i64], data: &[u8]) -> TensorProto {
    TensorProto { raw_data: data.to_vec(), ..tensor(data_type, dims) }
}

/// A tensor `w` whose data is external, with the given entries.
pub fn outside(data_type: i32, dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    };
    TensorProto {
        data_location: DataLocation::EXTERNAL.into(),
        external_data: entries.iter().map(entry).collect(),
        ..tensor(data_type, dims)
    }
}

/// A model whose only content is one initialiser.
pub fn model_with(tensor: TensorProto) -> ModelProto {
    let mut graph = graph(&[], &[], vec![]);
    graph.initializer = vec![tensor];
    model(graph, vec![])
}

/// Reads a model in memory.
pub fn open(model: &ModelProto) -> Result<Model, ReadError> {
    open_within(model, Limits::default())
}

/// Reads a model in memory under limits.
pub fn open_within(model: &ModelProto, limits: Limits) -> Result<Model, ReadError> {
    Model::from_bytes(bytes_of(model), None, limits)
}

/// The file form of a model.
pub fn bytes_of(model: &impl Message) -> Bytes {
    model.write_to_bytes().expect("a message in memory can be written").into()
}

/// The problems of a model that decodes but is not right.
pub fn problems(model: &ModelProto) -> Vec<String> {
    match open(model) {
        Err(ReadError::Model { problems, .. }) => problems.as_slice().iter().map(Problem::to_string).collect(),
        Err(other) => panic!("expected problems of the model, but reading says: {other}"),
        Ok(_) => panic!("expected problems, but the model was accepted"),
    }
}
