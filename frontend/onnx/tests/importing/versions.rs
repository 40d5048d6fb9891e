//! What changed between versions of an operator.

use tarsia_onnx::Options;
use tarsia_tensor::DType;

use crate::net::{Net, count, float, int, ints, tensor};

#[test]
fn softmax_took_all_later_axes_before_13() {
    let net = |version| {
        Net::new(version)
            .input("x", DType::F32, &["1", "2", "2"])
            .node("Softmax(x) -> y", vec![int("axis", 1)])
            .output("y")
    };
    net(11).gives(&[tensor(&[1, 2, 2], &[0f32; 4])], &[1, 2, 2], &[0.25; 4]);
    net(13).gives(&[tensor(&[1, 2, 2], &[0f32; 4])], &[1, 2, 2], &[0.5; 4]);
}

#[test]
fn operands_broadcast_at_an_axis_before_7() {
    let net = Net::new(6)
        .input("x", DType::F32, &["2", "2", "2"])
        .constant("b", &[2], &[10f32, 20.0])
        .node("Add(x, b) -> y", vec![int("broadcast", 1), int("axis", 1)])
        .output("y");
    net.gives(&[count(&[2, 2, 2])], &[2, 2, 2], &[10.0, 11.0, 22.0, 23.0, 14.0, 15.0, 26.0, 27.0]);
}

#[test]
fn bounds_of_clip_were_attributes_before_11() {
    let old = Net::new(6)
        .input("x", DType::F32, &["4"])
        .node("Clip(x) -> y", vec![float("min", 1.0), float("max", 2.0)])
        .output("y");
    let new = Net::new(13)
        .input("x", DType::F32, &["4"])
        .constant("high", &[], &[2f32])
        .node("Clip(x, , high) -> y", vec![])
        .output("y");
    old.gives(&[count(&[4])], &[4], &[1.0, 1.0, 2.0, 2.0]);
    new.gives(&[count(&[4])], &[4], &[0.0, 1.0, 2.0, 2.0]);
}

#[test]
fn axes_were_attributes_before_13() {
    let old = Net::new(11)
        .input("x", DType::F32, &["2", "3"])
        .node("Unsqueeze(x) -> u", vec![ints("axes", &[0, -1])])
        .node("ReduceSum(u) -> s", vec![ints("axes", &[2]), int("keepdims", 0)])
        .node("Squeeze(s) -> y", vec![ints("axes", &[0])])
        .output("y");
    let new = Net::new(13)
        .input("x", DType::F32, &["2", "3"])
        .constant("both", &[2], &[0i64, -1])
        .constant("two", &[1], &[2i64])
        .constant("zero", &[1], &[0i64])
        .node("Unsqueeze(x, both) -> u", vec![])
        .node("ReduceSum(u, two) -> s", vec![int("keepdims", 0)])
        .node("Squeeze(s, zero) -> y", vec![])
        .output("y");
    for net in [old, new] {
        net.gives(&[count(&[2, 3])], &[2, 1], &[3.0, 12.0]);
    }
}

#[test]
fn bounds_of_slices_were_attributes_before_10() {
    let net = Net::new(9)
        .input("x", DType::F32, &["5"])
        .node("Slice(x) -> y", vec![ints("starts", &[1]), ints("ends", &[-1])])
        .output("y");
    net.gives(&[count(&[5])], &[3], &[1.0, 2.0, 3.0]);
}

#[test]
fn scale_and_bias_of_groups_became_those_of_channels_in_21() {
    let net = |version, count: usize| {
        let values: Vec<f32> = (1..=count).map(|i| i as f32).collect();
        Net::new(version)
            .input("x", DType::F32, &["1", "4", "2"])
            .constant("scale", &[count], &values)
            .constant("bias", &[count], &vec![0f32; count])
            .node("GroupNormalization(x, scale, bias) -> y", vec![int("num_groups", 4), float("epsilon", 0.0)])
            .output("y")
    };
    let expected = [-1.0, 1.0, -2.0, 2.0, -3.0, 3.0, -4.0, 4.0];
    net(18, 4).gives(&[count(&[1, 4, 2])], &[1, 4, 2], &expected);
    net(21, 4).gives(&[count(&[1, 4, 2])], &[1, 4, 2], &expected);
}

#[test]
fn an_operator_that_came_later_is_refused() {
    let net = Net::new(17).input("x", DType::F32, &["2"]).node("Gelu(x) -> y", vec![]).output("y");
    let error = net.try_import(&Options::default()).unwrap_err();
    assert!(
        error.contains("node `Gelu(y)` (Gelu of ai.onnx 17): the operator is supported from version 20 on"),
        "{error}"
    );
}
