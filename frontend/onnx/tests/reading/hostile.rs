//! Files that are cut, damaged, or something else: always an error or a model, never a panic.

use std::fs;

use bytes::Bytes;
use onnx_protobuf::{AttributeProto, ModelProto, attribute_proto::AttributeType};
use proptest::prelude::*;
use tarsia_onnx::{Attribute, Graph, Limits, Model, ReadError};

use crate::build::{
    attribute, branch, bytes_of, call, constant, full_node, function, graph, int, model, node, open, open_within,
    outside, raw, reference, tensor,
};

/// A small model with something of everything; its graph is written last.
fn sample() -> ModelProto {
    let then = graph(&[], &["t"], vec![node("Neg", &["x"], &["t"])]);
    let other = graph(&[], &["e"], vec![node("Identity", &["w"], &["e"])]);
    let text = AttributeProto { s: b"SAME".to_vec(), ..attribute("auto_pad", AttributeType::STRING) };
    let ints = AttributeProto { ints: vec![1, -2, 1 << 40], ..attribute("pads", AttributeType::INTS) };
    let mut main = graph(
        &["x", "c"],
        &["y", "z"],
        vec![
            full_node(
                "if",
                "",
                node("If", &["c"], &["y"]),
                vec![branch("then_branch", then), branch("else_branch", other)],
            ),
            full_node("call", "local", node("f", &["y"], &["z"]), vec![int("axis", 3), text, ints]),
        ],
    );
    let strings = onnx_protobuf::TensorProto { name: "s".into(), string_data: vec![b"ab".to_vec()], ..tensor(8, &[1]) };
    main.initializer = vec![raw(1, &[2, 2], &[1; 16]), strings];
    let body =
        full_node("inner", "", node("Softmax", &["a"], &["b"]), vec![reference("axis", "axis", AttributeType::INT)]);
    let mut f = function("f", &["a"], &["b"], vec![body]);
    f.attribute = vec!["axis".into()];
    model(main, vec![f])
}

/// Looks at everything a model has.
fn walk(graph: &Graph<'_>, depth: usize) {
    for value in graph.inputs().iter().chain(&graph.outputs()) {
        let _ = value.value_type();
    }
    graph.initializers().for_each(|constant| drop(constant.tensor()));
    for node in graph.ordered_nodes() {
        let _ = (
            node.place().to_string(),
            node.call().map(|body| {
                depth < 8 && {
                    walk(&body, depth + 1);
                    true
                }
            }),
        );
        for attribute in node.attrs() {
            walk_attribute(&attribute, depth);
        }
    }
}

fn walk_attribute(attribute: &Attribute<'_>, depth: usize) {
    let _ = (attribute.int(), attribute.f32(), attribute.ints(), attribute.floats(), attribute.str(), attribute.strs());
    let _ = (attribute.tensor(), attribute.tensors(), attribute.graphs(), attribute.type_proto());
    if let Ok(graph) = attribute.graph() {
        walk(&graph, depth + 1);
    }
}

fn read(bytes: Vec<u8>) -> Result<(), ReadError> {
    let limits = Limits { max_bytes: 1 << 24, ..Limits::default() };
    let model = Model::from_bytes(Bytes::from(bytes), None, limits)?;
    walk(&model.graph(), 0);
    Ok(())
}

#[test]
fn the_sample_is_a_model() {
    read(bytes_of(&sample()).to_vec()).unwrap();
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let whole = bytes_of(&sample());
    let with_graph = |cut: usize| Model::from_bytes(whole.slice(..cut), None, Limits::default());
    let mut accepted = Vec::new();
    for cut in 0..whole.len() {
        match with_graph(cut) {
            Ok(model) => accepted.push(model.proto().functions.len()),
            Err(error) => {
                assert!(!matches!(error, ReadError::Decode { .. }), "cut at {cut}: the walk let through: {error}")
            }
        }
    }
    // Only the cut between graph and function leaves a model: one whose last node is of an operator that nobody knows.
    assert_eq!(accepted, [0]);
    assert!(matches!(with_graph(0), Err(ReadError::Empty { .. })));
    assert!(matches!(with_graph(whole.len() - 1), Err(ReadError::Truncated { .. })));
}

#[test]
fn the_error_of_a_cut_file_says_where() {
    let whole = bytes_of(&sample());
    let error = Model::from_bytes(whole.slice(..whole.len() - 1), None, Limits::default()).unwrap_err().to_string();
    assert!(error.contains("cut short, at byte") && error.contains("in `functions[0]"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = bytes_of(&sample()).to_vec();
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Err(error) = read(bytes) {
            prop_assert!(!matches!(error, ReadError::Decode { .. }), "the walk let through: {}", error);
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(bytes);
    }
}

#[test]
fn other_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.onnx");
    let cases: &[(&[u8], &str)] = &[
        (b"PK\x03\x04\x14\0\0\0\0\0", "a zip archive; unpack"),
        (b"PK\x03\x04\x00\x00\x08\x08archive/data.pkl", "a PyTorch checkpoint; export"),
        (b"\x80\x02}q\x00(X", "a Python pickle"),
        (b"\n\n<!DOCTYPE html><html>", "an HTML page"),
        (b"<HTML>", "an HTML page"),
        (b"{\"error\": \"not found\"}", "a JSON file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer; run `git lfs pull`"),
        (b"\x20\0\0\0TFL3\0\0\0\0\0", "a TensorFlow Lite model"),
        (b"\x40\0\0\0\0\0\0\0{\"weight\": {}", "a safetensors file"),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
        (b"ir_version: 8\ngraph {", "an ONNX model in protobuf's text form"),
    ];
    for (bytes, expected) in cases {
        fs::write(&file, bytes).unwrap();
        let error = Model::open(&file, Limits::default()).unwrap_err();
        assert!(matches!(error, ReadError::OtherFormat { .. }), "{error}");
        assert!(error.to_string().contains(expected) && error.to_string().contains("model.onnx"), "{error}");
    }
}

#[test]
fn files_that_are_not_models() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.onnx");
    let open = || Model::open(&file, Limits::default()).unwrap_err();
    assert!(matches!(open(), ReadError::Open { .. }));
    fs::write(&file, b"").unwrap();
    assert!(matches!(open(), ReadError::Empty { .. }));
    fs::write(&file, b"\x08\x0a").unwrap();
    assert!(matches!(open(), ReadError::NoGraph { .. }));
    fs::write(&file, bytes_of(&raw(1, &[2], &[0; 8]))).unwrap();
    assert!(matches!(open(), ReadError::Malformed { .. }));
    fs::write(&file, b"\xff\xff\xff\xff\xff\xff").unwrap();
    assert!(matches!(open(), ReadError::Malformed { .. }));
    assert!(Model::open(dir.path(), Limits::default()).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn two_bytes_that_stand_for_a_message_count() {
    // A graph of a million empty nodes: 2 MB of file, 300 MB of messages.
    let nodes = [0x0a, 0].repeat(1_000_000);
    let mut bytes = vec![0x08, 10, 0x3a];
    let mut length = nodes.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(nodes);
    let limits = Limits { max_structure_bytes: 1 << 20, ..Limits::default() };
    let error = Model::from_bytes(bytes.into(), None, limits).unwrap_err().to_string();
    assert!(error.contains("more than 1048576 bytes of memory") && error.contains("graph.node["), "{error}");
}

#[test]
fn endless_nesting_is_refused() {
    let mut inner = graph(&[], &[], vec![]);
    for _ in 0..40 {
        inner = graph(&[], &[], vec![full_node("n", "", node("If", &[], &[]), vec![branch("then_branch", inner)])]);
    }
    let error = open(&model(inner, vec![])).unwrap_err().to_string();
    assert!(error.contains("nested more than"), "{error}");
}

#[test]
fn text_that_is_not_utf8_is_placed() {
    let mut bytes = bytes_of(&sample()).to_vec();
    let at = bytes.windows(4).position(|w| w == b"call").unwrap();
    bytes[at] = 0xff;
    let error = Model::from_bytes(bytes.into(), None, Limits::default()).unwrap_err().to_string();
    assert!(error.contains(&format!("at byte {at} (in `graph.node[1].name`): the text is not UTF-8")), "{error}");
}

#[test]
fn functions_that_grow_without_bound_are_refused() {
    let twice = |name: &str, inner: &str| {
        function(name, &["a"], &["b"], vec![call(inner, &["a"], &["m"]), call(inner, &["m"], &["b"])])
    };
    let name = |i: usize| format!("f{i}");
    let mut functions = vec![function("f0", &["a"], &["b"], vec![node("Neg", &["a"], &["b"])])];
    functions.extend((1..60).map(|i| twice(&name(i), &name(i - 1))));
    let main = graph(&["x"], &["y"], vec![call("f59", &["x"], &["y"])]);
    let error = open(&model(main, functions)).unwrap_err().to_string();
    assert!(error.contains("576460752303423488 nodes with its functions in place"), "{error}");

    let mut chain = vec![function("f0", &["a"], &["b"], vec![node("Neg", &["a"], &["b"])])];
    chain.extend((1..300).map(|i| function(&name(i), &["a"], &["b"], vec![call(&name(i - 1), &["a"], &["b"])])));
    let main = graph(&["x"], &["y"], vec![call("f299", &["x"], &["y"])]);
    let error = open(&model(main, chain)).unwrap_err().to_string();
    assert!(error.contains("more than 100 deep"), "{error}");
}

#[test]
fn tensors_of_attributes_are_checked_too() {
    let limits = Limits { max_bytes: 100, ..Limits::default() };
    let with = |attribute| {
        let node = full_node("k", "", node("Constant", &[], &["y"]), vec![attribute]);
        open_within(&model(graph(&[], &["y"], vec![node]), vec![]), limits).err().map(|error| error.to_string())
    };
    assert_eq!(with(constant("value", raw(1, &[25], &[0; 100]))), None);
    let error = with(constant("value", raw(1, &[26], &[0; 104]))).unwrap();
    assert!(
        error.contains("node `k` (Constant of ai.onnx 20), attribute `value`: tensor `w`: it takes 104 bytes"),
        "{error}"
    );
    let error = with(constant("value", outside(1, &[2], &[("location", "../x")]))).unwrap();
    assert!(error.contains("attribute `value`: tensor `w`"), "{error}");
}
