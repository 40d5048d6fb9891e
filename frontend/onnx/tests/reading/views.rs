//! The views that importers use: names, attributes in three forms, function attributes, types.

use onnx_protobuf::{AttributeProto, ModelProto, TypeProto, attribute_proto::AttributeType, type_proto};
use tarsia_onnx::{Dimension, Fault, Model, Node, ValueType};
use tarsia_tensor::DType;

use crate::build::{
    attribute, branch, call, constant, full_node, function, graph, int, model, node, open, raw, reference,
};

fn first(model: &Model) -> Node<'_> {
    model.graph().nodes().next().unwrap()
}

fn one_node(node: onnx_protobuf::NodeProto) -> ModelProto {
    model(graph(&["x", "z"], &["y"], vec![node]), vec![])
}

#[test]
fn names_inputs_and_outputs() {
    let model = open(&one_node(node("Clip", &["x", "", "z"], &["", "y"]))).unwrap();
    let node = first(&model);
    assert_eq!(
        (node.name().as_str(), node.op_type(), node.domain(), node.version()),
        ("Clip(y)", "Clip", "", Some(20))
    );
    assert_eq!((node.input(0), node.input(1), node.input(2), node.input(3)), (Some("x"), None, Some("z"), None));
    assert_eq!((node.output(0), node.output(1), node.inputs().len()), (None, Some("y"), 3));
    assert_eq!(node.required_input(2).unwrap(), "z");
    let error = node.required_input(1).unwrap_err();
    assert_eq!(error.to_string(), "node `Clip(y)` (Clip of ai.onnx 20): input 1 is missing");
    assert_eq!(
        node.unsupported("three inputs").to_string(),
        "node `Clip(y)` (Clip of ai.onnx 20): not supported: three inputs"
    );
}

#[test]
fn attributes_of_every_kind() {
    let text = |s: &[u8]| AttributeProto { s: s.to_vec(), ..attribute("s", AttributeType::STRING) };
    let attributes = vec![
        int("i", -3),
        int("t", 1),
        int("to", 10),
        AttributeProto { f: 0.5, ..attribute("f", AttributeType::FLOAT) },
        text(b"text"),
        AttributeProto { name: "bad".into(), ..text(b"\xff") },
        AttributeProto { ints: vec![1, -2], ..attribute("ints", AttributeType::INTS) },
        attribute("none", AttributeType::INTS),
        AttributeProto { floats: vec![1.5], ..attribute("floats", AttributeType::FLOATS) },
        AttributeProto { strings: vec![b"a".to_vec(), b"b".to_vec()], ..attribute("strs", AttributeType::STRINGS) },
        constant("tensor", raw(1, &[1], &2f32.to_le_bytes())),
        AttributeProto { tensors: vec![raw(2, &[1], &[3])], ..attribute("tensors", AttributeType::TENSORS) },
        branch("graph", graph(&[], &["x"], vec![])),
        attribute("empty", AttributeType::TENSOR),
        // As exporters of the first IR versions wrote it.
        AttributeProto { name: "untold".into(), i: 5, ..Default::default() },
    ];
    let model = open(&one_node(full_node("n", "", node("N", &["x"], &["y"]), attributes))).unwrap();
    let node = first(&model);
    assert_eq!(
        (node.attr_int("i").unwrap(), node.attr_int_or("i", 7).unwrap(), node.attr_int_or("no", 7).unwrap()),
        (-3, -3, 7)
    );
    assert_eq!((node.attr_int_opt("i").unwrap(), node.attr_int_opt("no").unwrap()), (Some(-3), None));
    assert_eq!((node.attr_bool("t").unwrap(), node.attr_bool_or("no", true).unwrap()), (true, true));
    assert_eq!((node.attr_f32("f").unwrap(), node.attr_str("s").unwrap()), (0.5, "text"));
    assert_eq!((node.attr_ints("ints").unwrap(), node.attr_ints_opt("none").unwrap()), (&[1, -2][..], Some(&[][..])));
    assert_eq!((node.attr_floats("floats").unwrap(), node.attr_strs("strs").unwrap()), (&[1.5][..], vec!["a", "b"]));
    assert_eq!(node.attr_tensor("tensor").unwrap().numbers().unwrap().to_f64(), [2.0]);
    assert_eq!(node.attr_tensors("tensors").unwrap()[0].bytes(), &[3u8][..]);
    assert_eq!((node.attr_graph("graph").unwrap().captures(), node.attr_int("untold").unwrap()), (vec!["x"], 5));
    assert_eq!((node.attr_dtype("to").unwrap(), node.attr_dtype_opt("no").unwrap()), (DType::F16, None));
    assert_eq!(node.attrs().count(), 15);

    let told = |problem: tarsia_onnx::Problem| problem.to_string();
    let at = |name: &str| format!("node `n` (N of ai.onnx 20), attribute `{name}`: ");
    assert_eq!(told(node.attr_int("no").unwrap_err()), at("no") + "the attribute is missing");
    assert_eq!(told(node.attr_int("f").unwrap_err()), at("f") + "the attribute is Float, not Int");
    assert_eq!(told(node.attr_f32_or("i", 1.0).unwrap_err()), at("i") + "the attribute is Int, not Float");
    assert_eq!(told(node.attr_bool("i").unwrap_err()), at("i") + "the attribute is -3, not 0 or 1");
    assert_eq!(told(node.attr_str("bad").unwrap_err()), at("bad") + "the attribute is \\xff, not UTF-8 text");
    assert_eq!(told(node.attr_tensor("empty").unwrap_err()), at("empty") + "the attribute is nothing, not a tensor");
    assert_eq!(
        told(node.attr_dtype("i").unwrap_err()),
        at("i") + "the attribute is number -3, not a supported element type"
    );
    assert!(matches!(node.attr_int("no").unwrap_err().fault(), Fault::MissingAttribute));
}

/// `outer(axis = 4, kept = 9)` calls `inner(axis = @axis, depth = @depth)`, where `depth` is a default of `outer`.
fn nested_functions(attributes: Vec<AttributeProto>) -> Model {
    let refer = |name: &str, to: &str| reference(name, to, AttributeType::INT);
    let leaf = vec![refer("axis", "axis"), refer("deep", "depth"), refer("gone", "never"), int("own", 1)];
    let mut inner = function("inner", &["a"], &["b"], vec![full_node("leaf", "", node("Leaf", &["a"], &["b"]), leaf)]);
    inner.attribute = vec!["axis".into(), "never".into()];
    inner.attribute_proto = vec![int("depth", 100)];
    let pass = vec![refer("axis", "axis"), refer("depth", "depth")];
    let mut outer =
        function("outer", &["a"], &["b"], vec![full_node("", "local", call("inner", &["a"], &["b"]), pass)]);
    outer.attribute = vec!["axis".into()];
    outer.attribute_proto = vec![int("depth", 200)];
    let main = full_node("start", "local", call("outer", &["x"], &["y"]), attributes);
    open(&model(graph(&["x"], &["y"], vec![main]), vec![inner, outer])).unwrap()
}

#[test]
fn function_attributes_reach_the_leaves() {
    let model = nested_functions(vec![int("axis", 4)]);
    let outer = first(&model).call().unwrap();
    let inner = outer.nodes().next().unwrap().call().unwrap();
    let leaf = inner.nodes().next().unwrap();
    assert_eq!(
        (leaf.attr_int("axis").unwrap(), leaf.attr_int("deep").unwrap(), leaf.attr_int("own").unwrap()),
        (4, 200, 1)
    );
    assert_eq!((leaf.attr_int_opt("gone").unwrap(), leaf.attr_int_or("gone", 6).unwrap()), (None, 6));
    assert_eq!(leaf.attrs().map(|a| a.name()).collect::<Vec<_>>(), ["axis", "deep", "own"]);
    assert_eq!(leaf.attr("deep").unwrap().name(), "deep");
    assert_eq!((inner.inputs()[0].name(), inner.outputs()[0].name()), ("a", "b"));
    assert_eq!(
        leaf.attr_f32("axis").unwrap_err().to_string(),
        "function local::outer (called by `start`), function local::inner (called by `inner(b)`), \
         node `leaf` (Leaf of ai.onnx 20), attribute `axis`: the attribute is Int, not Float"
    );
    assert!(leaf.call().is_none());
}

#[test]
fn attributes_that_a_call_leaves_out() {
    let model = nested_functions(vec![int("depth", 5)]);
    let inner = first(&model).call().unwrap().nodes().next().unwrap().call().unwrap();
    let leaf = inner.nodes().next().unwrap();
    assert_eq!((leaf.attr_int_opt("axis").unwrap(), leaf.attr_int("deep").unwrap()), (None, 5));
}

#[test]
fn types_of_values() {
    let dim = |value| onnx_protobuf::tensor_shape_proto::Dimension { value, ..Default::default() };
    use onnx_protobuf::tensor_shape_proto::dimension::Value as D;
    let dims = vec![
        dim(Some(D::DimValue(3))),
        dim(Some(D::DimParam("past + 1".into()))),
        dim(Some(D::DimParam(String::new()))),
        dim(Some(D::DimValue(-1))),
        dim(None),
    ];
    let shape = onnx_protobuf::TensorShapeProto { dim: dims, ..Default::default() };
    let tensor = |elem_type, shape| {
        let tensor = type_proto::Tensor { elem_type, shape, ..Default::default() };
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }
    };
    let sequence = |inner: TypeProto| {
        let sequence = type_proto::Sequence { elem_type: Some(inner).into(), ..Default::default() };
        TypeProto { value: Some(type_proto::Value::SequenceType(sequence)), ..Default::default() }
    };
    let mut main = graph(&["a", "b", "c", "d", "e"], &[], vec![]);
    main.input[0].type_ = Some(tensor(1, Some(shape).into())).into();
    main.input[1].type_ = Some(tensor(7, None.into())).into();
    main.input[2].type_ = Some(sequence(tensor(8, None.into()))).into();
    main.input[3].type_ = Some(tensor(14, None.into())).into();
    let model = open(&model(main, vec![])).unwrap();
    let inputs = model.graph().inputs();
    let of = |i: usize| inputs[i].value_type().unwrap();
    let ValueType::Tensor(a) = of(0).unwrap() else { panic!("a is a tensor") };
    use Dimension::{Named, Size, Unknown};
    assert_eq!((a.dtype, a.shape.unwrap()), (DType::F32, vec![Size(3), Named("past + 1"), Unknown, Unknown, Unknown]));
    assert_eq!(of(1).unwrap().tensor().unwrap().shape, None);
    let ValueType::Sequence(inner) = of(2).unwrap() else { panic!("c is a sequence") };
    assert_eq!(inner.tensor().unwrap().dtype, DType::String);
    assert_eq!(inputs[3].value_type().unwrap_err().to_string(), "value `d`: element type COMPLEX64 is not supported");
    assert_eq!(of(4), None);
}

#[test]
fn data_files() {
    use onnx_protobuf::Message;
    use tarsia_onnx::data::{read_sequence, read_tensor, read_value, write_value};
    use tarsia_tensor::Tensor;
    let dir = tempfile::tempdir().unwrap();
    let limits = Default::default();
    // Files that are mapped must not change, so each case has its own.
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let element = raw(2, &[2], &[4, 5]).write_to_bytes().unwrap();
    let (name, tensor) = read_tensor(&file("input_0.pb", &element), &limits).unwrap();
    assert_eq!((name.as_str(), tensor.bytes().as_ref()), ("w", &[4u8, 5][..]));
    let short = raw(2, &[2], &[4]).write_to_bytes().unwrap();
    let error = read_tensor(&file("input_1.pb", &short), &limits).unwrap_err().to_string();
    assert!(error.contains("input_1.pb: tensor `w`") && error.contains("need 2 bytes"), "{error}");

    // SequenceProto { elem_type: TENSOR, tensor_values: [t] } and OptionalProto { elem_type: SEQUENCE, sequence_value: that }.
    let sequence = [&[0x10, 1, 0x1a, element.len() as u8], element.as_slice()].concat();
    let (_, read) = read_sequence(&file("sequence.pb", &sequence), &limits).unwrap();
    assert_eq!(read, Tensor::from_values(&[1], vec![tensor]).unwrap());
    let optional = [&[0x10, 3, 0x2a, sequence.len() as u8], sequence.as_slice()].concat();
    let (_, inside) = read_value(&file("optional.pb", &optional), &limits).unwrap();
    assert_eq!(inside, Tensor::from_values(&[1], vec![read]).unwrap());
    let (_, nothing) = read_value(&file("nothing.pb", &[0x10, 1]), &limits).unwrap();
    assert_eq!(nothing, Tensor::from_values(&[0], Vec::new()).unwrap());
    let unknown = read_sequence(&file("unknown.pb", &[0x10, 77]), &limits).unwrap_err().to_string();
    assert!(unknown.contains("element kind 77"), "{unknown}");

    let keys = Tensor::from_strings(&[2], vec!["a".into(), "b".into()]).unwrap();
    let pair = Tensor::from_values(&[2], vec![keys, Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap()]).unwrap();
    let map = Tensor::from_values(&[], vec![pair]).unwrap();
    let maps = Tensor::from_values(&[2], vec![map.clone(), map.clone()]).unwrap();
    for (number, value) in [map, maps].iter().enumerate() {
        let path = file(&format!("written_{number}.pb"), &write_value("v", value));
        assert_eq!(read_value(&path, &limits).unwrap(), ("v".to_owned(), value.clone()));
    }
}
