//! Textual ONNX: the syntax by example, what is wrong with a text, and hostile texts. Agreement with ONNX's own parser is tested
//! on its conformance cases, by the root package.

use bytes::Bytes;
use proptest::prelude::*;
use tarsia_onnx::{
    Limits, Model, ReadError, Source, TextFault,
    schema::{AttributeType, DataLocation, DimensionValue, GraphProto, ModelProto, TypeProto, TypeValue},
};

fn parse(text: &str) -> Result<ModelProto, ReadError> {
    Source::from_bytes(Bytes::copy_from_slice(text.as_bytes()), None).model(&Limits::default())
}

fn graph(text: &str) -> GraphProto {
    *parse(text).unwrap_or_else(|error| panic!("{text}\n{error}")).graph.unwrap()
}

/// A graph of one node with the given attributes.
fn node(attributes: &str) -> tarsia_onnx::schema::NodeProto {
    graph(&format!("g (float x) => (float y) {{ y = Op <{attributes}> (x) }}")).node.remove(0)
}

/// As ONNX's documentation has it.
const EXAMPLE: &str = r#"
<
  ir_version: 7,
  opset_import: [ "" : 10 ]
>
agraph (float[N, 128] X, float[128, 10] W, float[10] B) => (float[N, 10] C)
{
    T = MatMul(X, W)
    S = Add(T, B)
    C = Softmax(S)
}
"#;

/// Everything that the syntax has.
const FULL: &str = r#"# a comment
<ir_version: 10, opset_import: ["" : 20, "local" : 1, "ai.onnx.ml" : 3],
 producer_name: "by \"hand\"", producer_version: "1", domain: "test", model_version: -3, doc_string: "a # is no comment here",
 metadata_props: ["key": "value", "empty": ""]>
"a graph" (float[N,"2*k",?,4] x, int64 any = {7}, bool c)
  => (float y, seq(map(string, float[2])) s, optional(sparse_tensor(double[3])) o, opaque(test.rng,State) r)
<float[2] w = {1, -2.5e-1}, int8[2] q = {-128, 127}, string[2] t = {"a\\b", "\"}"}, float16[1] h = {15360},
 uint64[1] u = {18446744073709551615}, double[3] d = {nan, inf, -inf}, int4[3] n = {-8, 7, 1},
 float[4] e = ["location": "weights.bin", "offset": "16"], float[N] v>
{
  [first] a, "", "b c" = Split <axis = 0> (x,)
  d.e = Op ()
  y = ai.onnx.ml.Scaler:variant <scale: floats = [1, 2.5], offset = [-1.0], flags: ints = [], mode = "x\y",
    names: strings = ["p", "q"], nothing: strings = [], alpha: float = 2, beta = -inf, value = int64[2] {1, 2},
    named: tensor = float[1] t = {3}, sparse: type_proto = sparse_tensor(float[2]), kinds: type_protos = [float, seq(int32[])],
    many: tensors = [float {1}, int32[1] {2}]> (a, , w)
  z = If (c) <then_branch = t () => (float p) { p = Identity (a) }, else_branch: graph = "e-1" () => (float p) { p = Neg (a) }>
   = Sink (z)
}
<domain: "local", opset_import: ["" : 20], overload: "f32", doc_string: "twice">
twice <alpha, beta: float = 1.0> (x, float[2] w) => (y) <float[N] t> { t = Op <gamma: float = @alpha> (x)  y = Add (t, w) }
"#;

#[test]
fn the_example_of_the_documentation() {
    let model = parse(EXAMPLE).unwrap();
    assert_eq!((model.ir_version, model.opset_import[0].version), (7, 10));
    let graph = model.graph.as_ref().unwrap();
    assert_eq!(graph.node.iter().map(|n| n.op_type.as_str()).collect::<Vec<_>>(), ["MatMul", "Add", "Softmax"]);
    assert_eq!(graph.node[2].input, ["S"]);
    let model = Model::from_bytes(EXAMPLE.into(), None, Limits::default()).unwrap();
    assert_eq!(model.graph().inputs().len(), 3);
}

#[test]
fn the_parts_of_a_model() {
    let text = FULL.replace("  d.e = Op ()\n", "");
    let model = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((model.producer_name.as_str(), model.model_version), ("by \"hand\"", -3));
    assert_eq!(model.doc_string, "a # is no comment here");
    assert_eq!((model.metadata_props.len(), model.opset_import[2].domain.as_str()), (2, "ai.onnx.ml"));
    let graph = model.graph.unwrap();
    assert_eq!((graph.name.as_str(), graph.input.len(), graph.value_info.len()), ("a graph", 3, 1));
    let types: Vec<_> = graph.output.iter().map(|value| value.r#type.clone().unwrap().value.unwrap()).collect();
    assert!(matches!(&types[1], TypeValue::SequenceType(t) if matches!(t.elem_type.as_deref(),
        Some(TypeProto { value: Some(TypeValue::MapType(m)), .. }) if m.key_type == 8)));
    assert!(matches!(&types[2], TypeValue::OptionalType(_)));
    assert!(matches!(&types[3], TypeValue::OpaqueType(t) if t.domain == "test.rng" && t.name == "State"));
    let Some(TypeValue::TensorType(x)) = graph.input[0].r#type.clone().unwrap().value else { panic!("a tensor") };
    let dims: Vec<_> = x.shape.unwrap().dim.into_iter().map(|dim| dim.value).collect();
    let named = |name: &str| Some(DimensionValue::DimParam(name.into()));
    assert_eq!(dims, [named("N"), named("2*k"), None, Some(DimensionValue::DimValue(4))]);
    let function = &model.functions[0];
    assert_eq!((function.overload.as_str(), function.attribute.as_slice()), ("f32", &["alpha".to_string()][..]));
    assert_eq!((function.attribute_proto[0].f, function.input.len(), function.value_info.len()), (1.0, 2, 2));
    assert_eq!(function.node[0].attribute[0].ref_attr_name, "alpha");
    assert_eq!(function.node[0].attribute[0].r#type, AttributeType::Float as i32);
}

#[test]
fn tensors_are_in_the_field_of_their_type() {
    let text = FULL.replace("  d.e = Op ()\n", "");
    let graph = parse(&text).unwrap().graph.unwrap();
    let tensor = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
    assert_eq!(tensor("w").float_data, [1.0, -0.25]);
    assert_eq!(tensor("q").int32_data, [-128, 127]);
    assert_eq!(tensor("t").string_data, ["a\\b", "\"}"]);
    assert_eq!(tensor("h").int32_data, [15360]);
    assert_eq!(tensor("u").uint64_data, [u64::MAX]);
    assert!(matches!(tensor("d").double_data[..], [nan, inf, minus] if nan.is_nan() && inf > 0.0 && minus == -inf));
    assert_eq!(tensor("n").raw_data[..], [0x78, 0x01], "-8, 7, 1: two a byte, from the low half");
    assert_eq!(tensor("e").data_location, DataLocation::External as i32);
    assert_eq!(tensor("e").external_data[1].value, "16");
    assert!(graph.input.iter().any(|input| input.name == "any") && tensor("any").int64_data == [7]);
}

#[test]
fn nodes_and_attributes() {
    let text = FULL.replace("  d.e = Op ()\n", "");
    let graph = parse(&text).unwrap().graph.unwrap();
    let [split, scaler, branch, sink] = &graph.node[..] else { panic!("four nodes") };
    assert_eq!((split.name.as_str(), split.output.as_slice()), ("first", &["a", "", "b c"].map(String::from)[..]));
    assert_eq!(split.input, ["x"], "a comma at the end adds nothing");
    assert_eq!((scaler.domain.as_str(), scaler.op_type.as_str()), ("ai.onnx.ml", "Scaler"));
    assert_eq!((scaler.overload.as_str(), scaler.input.as_slice()), ("variant", &["a", "", "w"].map(String::from)[..]));
    let attribute = |name: &str| scaler.attribute.iter().find(|attribute| attribute.name == name).unwrap();
    assert_eq!(attribute("scale").floats, [1.0, 2.5]);
    assert_eq!(attribute("offset").r#type, AttributeType::Floats as i32);
    assert_eq!((attribute("flags").r#type, attribute("flags").ints.len()), (AttributeType::Ints as i32, 0));
    assert_eq!(attribute("mode").s, "xy", "a backslash means the character after it");
    assert_eq!(attribute("alpha").f, 2.0);
    assert_eq!(attribute("beta").f, f32::NEG_INFINITY);
    assert_eq!(attribute("value").t.as_ref().unwrap().int64_data, [1, 2]);
    assert_eq!(attribute("named").t.as_ref().unwrap().name, "t");
    assert_eq!((attribute("kinds").type_protos.len(), attribute("many").tensors.len()), (2, 2));
    assert_eq!(branch.attribute[0].g.as_ref().unwrap().node[0].op_type, "Identity");
    assert_eq!(branch.attribute[1].g.as_ref().unwrap().name, "e-1");
    assert!(sink.output.is_empty());
    assert_eq!(node("a = [1, 2.5]").attribute[0].floats, [1.0, 2.5], "a float makes all floats");
}

#[test]
fn errors_say_where_and_what() {
    let cases: &[(&str, &str)] = &[
        ("<ir_version: 7", "line 1, column 15: expected `>`, found the end of the text"),
        ("<ir_version: 7, colour: 3> g", "column 17: expected one of ir_version, opset_import"),
        ("<ir_version: x>", "column 14: `x` is not a 64-bit integer"),
        ("<ir_version: 7>\ng (float[N x) => () {}", "line 2, column 12: expected `,` or `]`, found `x`"),
        ("g (floot[N] x) => () {}", "column 9: expected `,` or `)`, found `[`"),
        ("g (seq(x) y) => () {}", "column 8: expected a type, found `x`"),
        ("g (float[-] y) => () {}", "expected a number"),
        ("g () = > () {}", "column 6: expected `=>`, found `=`"),
        ("g () => () <float[2] w = {1, x}> {}", "column 30: `x` is not a 32-bit float"),
        ("g () => () <float[N] w = {1}> {}", "is not a tensor type whose sizes are all numbers"),
        (
            "g () => () <float w = ...> {}",
            "column 23: expected `{` with the elements, or `[` with the place of external",
        ),
        ("g () => () <w = {1}> {}", "`w` is not a value with a type"),
        ("g () => () <float[1] w = {1e99}> {}", "`1e99` is not a 32-bit float"),
        ("g () => () <int64[1] w = {9223372036854775808}> {}", "is not a 64-bit integer"),
        ("g () => () <uint64[1] w = {-1}> {}", "`-1` is not an unsigned integer"),
        ("g () => () <int32[1] w = {1.5}> {}", "`1.5` is not a 32-bit integer"),
        ("g () => () <uint4[1] w = {16}> {}", "`16` is not an integer from 0 to 15"),
        ("g () => () <string[1] w = {1}> {}", "expected strings in quotes"),
        ("g () => () { y Relu (x) }", "column 16: expected a node, as in `y = Relu (x)`, or `}`, found `Relu`"),
        ("g () => () { y = (x) }", "expected an operator, found `(`"),
        ("g () => () { y = Op <a: colour = 1> () }", "expected a kind of attribute, such as `int` or `floats`"),
        ("g () => () { y = Op <a = []> () }", "an empty list needs a kind"),
        ("g () => () { y = Op <a: int = 1.5> () }", "`1.5` is not of the kind `int`"),
        ("g () => () { y = Op <a: int = [1]> () }", "expected one int, no list"),
        ("g () => () { y = Op <a = [1, \"x\"]> () }", "expected a list of int only"),
        ("g () => () { y = Op <a = \"x> () }", "column 26: expected a string with a closing quote, found the end of"),
        ("g () => () { y = Op (x) ", "expected a node"),
        ("g () => () {}\n\u{e9}", "line 2, column 1: expected a name, found `\u{e9}`"),
    ];
    for (text, expected) in cases {
        let error = parse(text).expect_err(text);
        assert!(matches!(error, ReadError::Text { .. }), "{text}: {error:?}");
        assert!(error.to_string().contains(expected), "{text}\n{error}\nnot: {expected}");
    }
}

#[test]
fn text_that_is_not_utf8_is_named() {
    let error = Source::from_bytes(Bytes::from_static(b"<doc_string: \"\xff\">"), None).model(&Limits::default());
    assert!(matches!(error, Err(ReadError::Text { error, .. }) if error.fault == TextFault::NotUtf8));
    let attribute = b"g () => () { y = Op <a = \"\xff\"> () }";
    let source = Source::from_bytes(Bytes::from_static(attribute), None).model(&Limits::default()).unwrap();
    assert_eq!(source.graph.unwrap().node[0].attribute[0].s[..], [0xff], "an attribute may hold any bytes");
}

#[test]
fn a_model_in_text_is_checked_like_any_other() {
    let open = |text: &str| Model::from_bytes(text.to_owned().into(), None, Limits::default());
    let headless = open("g (float x) => (float y) { y = Relu (x) }").unwrap_err().to_string();
    assert!(headless.contains("IR version 0"), "{headless}");
    let size = open("<ir_version: 10, opset_import: [\"\": 20]> g () => (float[2] y) <float[3] y = {1, 2}> {}");
    assert!(size.as_ref().is_err_and(|e| e.to_string().contains("3")), "{size:?}");
    let outside =
        open("<ir_version: 10, opset_import: [\"\": 20]> g () => (float y) <float[1] y = [\"location\": \"w\"]> {}");
    assert!(outside.unwrap_err().to_string().contains("was not read from a file"));
}

#[test]
fn nesting_is_bounded() {
    let types = format!("g ({}float{} x) => () {{}}", "seq(".repeat(100_000), ")".repeat(100_000));
    let graphs = format!("{}g () => () {{}}", "g () => () { y = Op <a = ".repeat(100_000));
    for text in [types, graphs] {
        let error = parse(&text).unwrap_err();
        assert!(matches!(&error, ReadError::Text { error, .. } if error.fault == TextFault::TooDeep), "{error}");
    }
}

#[test]
fn memory_is_bounded() {
    let limits = Limits { max_bytes: 1 << 16, max_structure_bytes: 1 << 16, ..Limits::default() };
    let names = "x,".repeat(100_000);
    let elements = "1,".repeat(100_000);
    let texts = [
        format!("g () => () {{ {names} y = Op () }}"),
        format!("g () => () {{ y = Op ({}) }}", ",".repeat(100_000)),
        format!("g () => () <float[1] w = {{{elements}1}}> {{}}"),
        format!("g () => () {{ {} }}", "=O()".repeat(100_000)),
        format!("g () => () {{ y = Op <a = [{elements}1]> () }}"),
        format!("g (float[{elements}1] x) => () {{}}"),
    ];
    for text in texts {
        let source = Source::from_bytes(text.clone().into(), None);
        let error = source.model(&limits).expect_err(&text[..40]);
        assert!(
            matches!(&error, ReadError::Text { error, .. } if matches!(error.fault, TextFault::TooLarge { .. })),
            "{error}"
        );
    }
}

#[test]
fn what_looks_like_text_and_what_does_not() {
    for text in ["\u{feff}<ir_version: 8>", "# first\n\n < ir_version : 8", "g(", "\"g\" ("] {
        assert!(matches!(parse(text), Err(ReadError::Text { .. })), "{text}");
    }
    for text in ["ir_version: 8", "<html>", "<?xml version", "hello", "g = (", "{\"a\": 1}"] {
        assert!(!matches!(parse(text), Err(ReadError::Text { .. })), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_texts_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[\\PC\n]{0,3}|[<>\\[\\](){}=,:@\"?.#-]"), 1..5)
    ) {
        let mut text = FULL.as_bytes().to_vec();
        for (index, length, insert) in edits {
            let at = index.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, insert.bytes());
        }
        if let Err(error) = Source::from_bytes(text.into(), None).model(&Limits::default()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_text_cut_anywhere_never_panics(at in any::<prop::sample::Index>()) {
        let end = at.index(FULL.len());
        let _ = Source::from_bytes(Bytes::copy_from_slice(&FULL.as_bytes()[..end]), None).model(&Limits::default());
    }
}
