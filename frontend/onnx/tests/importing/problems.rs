//! Everything that is wrong is reported at once; functions are put in place.

use onnx_protobuf::{FunctionProto, OperatorSetIdProto, attribute_proto::AttributeType};
use tarsia_onnx::Options;
use tarsia_tensor::DType;

use crate::net::{Net, count, float, int, node, reference, text};

fn problems(net: &Net) -> Vec<String> {
    let error = net.try_import(&Options::default()).unwrap_err();
    let lines: Vec<String> = error.lines().map(|line| line.trim().to_owned()).collect();
    if lines.len() > 1 { lines[1..].to_vec() } else { lines }
}

#[test]
fn all_problems_are_reported_and_what_depends_on_them_is_not() {
    let net = Net::new(17)
        .input("x", DType::F32, &["2", "3"])
        .node("Frobnicate(x) -> a", vec![])
        .node("Add(a, x) -> b", vec![])
        .node("local::Twist(b) -> c", vec![])
        .node("Concat(x, x) -> d", vec![int("axis", 5)])
        .node("Conv(x, x) -> e", vec![text("auto_pad", "SOMEHOW")])
        .node("Transpose(x) -> f", vec![text("perm", "no")])
        .node("MatMul(x, x) -> g", vec![])
        .output("c");
    let found = problems(&net);
    let expected = [
        "node `Frobnicate(a)` (Frobnicate of ai.onnx 17): the operator is not supported",
        "node `Twist(c)` (Twist of local 1): the operator is not supported",
        "node `Concat(d)` (Concat of ai.onnx 17): axis 5 is not one of a tensor with 2 axes",
        "node `Conv(e)` (Conv of ai.onnx 17): ",
        "node `Transpose(f)` (Transpose of ai.onnx 17), attribute `perm`: the attribute is String, not Ints",
        "node `MatMul(g)` (MatMul of ai.onnx 17): `contract` cannot take f32[2, 3], f32[2, 3]",
    ];
    for text in expected {
        assert!(found.iter().any(|line| line.contains(text)), "{text} is not among {found:#?}");
    }
    assert!(!found.iter().any(|line| line.contains("Add")), "{found:#?}");
}

#[test]
fn an_input_that_is_no_tensor_with_axes_is_refused() {
    let net = Net::new(17).input("x", DType::F32, &["2"]).node("Add(x, x) -> y", vec![]).output("y");
    assert_eq!(net.import().inputs().len(), 1);
    let untyped = Net::new(17).output("x").node("Identity(nothing) -> x", vec![]);
    assert!(problems(&untyped)[0].contains("nothing defines the value `nothing`"));
}

/// `y = x * factor + x`, the factor an attribute with a default.
fn scaled_sum() -> FunctionProto {
    let opset = OperatorSetIdProto { version: 17, ..Default::default() };
    FunctionProto {
        name: "ScaledSum".into(),
        domain: "local".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        attribute_proto: vec![float("factor", 2.0)],
        node: vec![
            node("Constant() -> f", vec![reference("value_float", "factor", AttributeType::FLOAT)]),
            node("Mul(x, f) -> m", vec![]),
            node("Add(m, x) -> y", vec![]),
        ],
        opset_import: vec![opset],
        ..Default::default()
    }
}

#[test]
fn functions_are_put_in_place_with_their_attributes() {
    let net = Net::new(17)
        .function(scaled_sum())
        .input("x", DType::F32, &["2"])
        .node("local::ScaledSum(x) -> a", vec![float("factor", 10.0)])
        .node("local::ScaledSum(a) -> y", vec![])
        .output("y");
    net.gives(&[count(&[2])], &[2], &[0.0, 33.0]);
    let graph = net.import();
    let origins: Vec<String> =
        graph.node_ids().flat_map(|id| graph[id].origin.names().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(origins.contains(&"ScaledSum(y)/Add(y)".to_owned()), "{origins:?}");
}

#[test]
fn a_problem_in_a_function_names_the_call() {
    let mut function = scaled_sum();
    function.node.push(node("Frobnicate(x) -> z", vec![]));
    let net = Net::new(17)
        .function(function)
        .input("x", DType::F32, &["2"])
        .node("local::ScaledSum(x) -> y", vec![])
        .output("y");
    let found = problems(&net);
    assert!(
        found[0].contains("function local::ScaledSum (called by `ScaledSum(y)`), node `Frobnicate(z)`"),
        "{found:?}"
    );
}

#[test]
fn a_node_that_is_not_as_its_signature_says_is_told_so() {
    let net = Net::new(17)
        .input("x", DType::F32, &["2", "3"])
        .input("i", DType::I64, &["2", "3"])
        .node("Add(x, i) -> a", vec![])
        .node("Relu(x, x) -> b", vec![])
        .node("Add(x) -> c", vec![])
        .node("Sigmoid(i) -> d", vec![])
        .node("Softmax(x) -> e", vec![int("axes", 1), float("axis", 1.0)])
        .node("Cast(x) -> f", vec![])
        .node("Dropout(x) -> g, h, k", vec![])
        .output("a");
    let expected = [
        "node `Add(a)` (Add of ai.onnx 17): input 1 (`B`) is i64 and input 0 (`A`) is f32, but they must be of one type",
        "node `Relu(b)` (Relu of ai.onnx 17): it has 2 inputs, but the operator has at most 1",
        "node `Add(c)` (Add of ai.onnx 17): input 1 is missing",
        "node `Sigmoid(d)` (Sigmoid of ai.onnx 17): input 0 (`X`) is i64, but the operator takes f16, bf16, f32, f64 there",
        "node `Softmax(e)` (Softmax of ai.onnx 17), attribute `axes`: the operator has no such attribute; it has axis",
        "node `Softmax(e)` (Softmax of ai.onnx 17), attribute `axis`: the attribute is Float, not Int",
        "node `Cast(f)` (Cast of ai.onnx 17), attribute `to`: the attribute is missing",
        "node `Dropout(g)` (Dropout of ai.onnx 17): it has 3 outputs, but the operator has at most 2",
    ];
    assert_eq!(problems(&net), expected);
}

#[test]
fn a_type_that_a_later_version_takes_is_taken() {
    let net = Net::new(17)
        .input("x", DType::BF16, &["1", "1", "4"])
        .input("w", DType::BF16, &["1", "1", "2"])
        .node("Conv(x, w) -> y", vec![])
        .output("y");
    assert_eq!(net.import().inputs().len(), 2);
}
