//! Symbols of the inputs, and shape arithmetic that disappears.

use std::collections::BTreeMap;

use tarsia_onnx::Options;
use tarsia_tensor::DType;

use crate::net::{Net, count, int, ints, ops, output_type, tensor, text};

/// What exporters write for `x.reshape(x.shape[0], x.shape[1] * x.shape[2])`.
fn flattening() -> Net {
    Net::new(17)
        .input("x", DType::F32, &["batch", "seq", "4"])
        .constant("zero", &[], &[0i64])
        .constant("one", &[], &[1i64])
        .constant("two", &[], &[2i64])
        .constant("axis", &[1], &[0i64])
        .node("Shape(x) -> shape", vec![])
        .node("Gather(shape, zero) -> b", vec![])
        .node("Gather(shape, one) -> s", vec![])
        .node("Gather(shape, two) -> f", vec![])
        .node("Mul(s, f) -> sf", vec![])
        .node("Unsqueeze(b, axis) -> b1", vec![])
        .node("Unsqueeze(sf, axis) -> sf1", vec![])
        .node("Concat(b1, sf1) -> target", vec![int("axis", 0)])
        .node("Reshape(x, target) -> y", vec![])
        .output("y")
}

#[test]
fn shape_arithmetic_disappears() {
    let graph = flattening().import();
    assert_eq!(ops(&graph), ["reshape"]);
    assert_eq!(output_type(&graph), "f32[batch, 4*seq]");
    assert_eq!(flattening().run(&[count(&[2, 3, 4])])[0].shape(), [2, 12]);
}

#[test]
fn an_open_size_is_what_is_left() {
    let net = Net::new(17)
        .input("x", DType::F32, &["batch", "seq", "8"])
        .constant("target", &[4], &[0i64, 0, 2, -1])
        .node("Reshape(x, target) -> y", vec![])
        .output("y");
    assert_eq!(output_type(&net.import()), "f32[batch, seq, 2, 4]");
    // A size that may be 0 in all of them still leaves the open one known.
    assert_eq!(net.run(&[count(&[1, 0, 8])])[0].shape(), [1, 0, 2, 4]);
}

#[test]
fn minus_one_in_an_expanded_shape_is_decided_by_sign() {
    let net = Net::new(17)
        .input("x", DType::F32, &["batch", "1", "4"])
        .constant("wanted", &[3], &[-1i64, 5, -1])
        .constant("minus", &[3], &[-1i64; 3])
        .constant("ones", &[3], &[1i64; 3])
        .node("Equal(wanted, minus) -> open", vec![])
        .node("Where(open, ones, wanted) -> target", vec![])
        .node("Expand(x, target) -> y", vec![])
        .output("y");
    assert_eq!(ops(&net.import()), ["broadcast"]);
    assert_eq!(output_type(&net.import()), "f32[batch, 5, 4]");
}

#[test]
fn positions_are_counted_without_a_range_in_data() {
    let net = Net::new(17)
        .input("x", DType::F32, &["batch", "seq"])
        .input("past", DType::F32, &["batch", "past_len"])
        .constant("one", &[], &[1i64])
        .node("Shape(x) -> shape", vec![])
        .node("Gather(shape, one) -> s", vec![])
        .node("Shape(past) -> past_shape", vec![])
        .node("Gather(past_shape, one) -> p", vec![])
        .node("Add(p, s) -> end", vec![])
        .node("Range(p, end, one) -> y", vec![])
        .output("y");
    assert_eq!(output_type(&net.import()), "i64[seq]");
    assert_eq!(ops(&net.import()), ["iota", "size", "add"]);
    net.gives(&[count(&[1, 3]), count(&[1, 7])], &[3], &[7.0, 8.0, 9.0]);
    net.gives(&[count(&[1, 1]), count(&[1, 0])], &[1], &[0.0]);
}

#[test]
fn sizes_computed_in_floats_are_followed() {
    // What exporters write for half the height: cast, divide, floor, cast.
    let net = Net::new(17)
        .input("x", DType::F32, &["h"])
        .constant("zero", &[], &[0i64])
        .constant("half", &[], &[0.5f32])
        .constant("axis", &[1], &[0i64])
        .node("Shape(x) -> shape", vec![])
        .node("Gather(shape, zero) -> h", vec![])
        .node("Cast(h) -> hf", vec![int("to", 1)])
        .node("Mul(hf, half) -> hh", vec![])
        .node("Floor(hh) -> floor", vec![])
        .node("Cast(floor) -> end", vec![int("to", 7)])
        .node("Unsqueeze(end, axis) -> ends", vec![])
        .node("Slice(x, axis, ends) -> y", vec![])
        .output("y");
    assert_eq!(output_type(&net.import()), "f32[floordiv(h, 2)]");
    net.gives(&[count(&[5])], &[2], &[0.0, 1.0]);
}

#[test]
fn slices_follow_symbolic_bounds() {
    // The last n of `past + n` elements, n being the size of another input.
    let net = Net::new(17)
        .input("x", DType::F32, &["total"])
        .input("q", DType::F32, &["n"])
        .constant("axis", &[1], &[0i64])
        .constant("end", &[1], &[i64::MAX])
        .node("Shape(q) -> n", vec![])
        .node("Neg(n) -> start", vec![])
        .node("Slice(x, start, end, axis) -> y", vec![])
        .output("y");
    net.gives(&[count(&[5]), count(&[2])], &[2], &[3.0, 4.0]);
    // More than there are: clamped.
    net.gives(&[count(&[2]), count(&[4])], &[2], &[0.0, 1.0]);
}

#[test]
fn a_bound_of_either_sign_counts_from_its_own_end() {
    // start = a - b: from the front where it is positive, from the end where it is negative.
    let net = Net::new(17)
        .input("x", DType::F32, &["6"])
        .input("p", DType::F32, &["a"])
        .input("q", DType::F32, &["b"])
        .constant("axis", &[1], &[0i64])
        .constant("end", &[1], &[i64::MAX])
        .node("Shape(p) -> a", vec![])
        .node("Shape(q) -> b", vec![])
        .node("Sub(a, b) -> start", vec![])
        .node("Slice(x, start, end, axis) -> y", vec![])
        .output("y");
    net.gives(&[count(&[6]), count(&[4]), count(&[0])], &[2], &[4.0, 5.0]);
    net.gives(&[count(&[6]), count(&[0]), count(&[1])], &[1], &[5.0]);
}

#[test]
fn steps_and_negative_bounds_of_slices() {
    let net = Net::new(17)
        .input("x", DType::F32, &["n", "4"])
        .constant("starts", &[2], &[-1i64, 1])
        .constant("ends", &[2], &[i64::MIN, 4])
        .constant("axes", &[2], &[0i64, -1])
        .constant("steps", &[2], &[-2i64, 2])
        .node("Slice(x, starts, ends, axes, steps) -> y", vec![])
        .output("y");
    net.gives(&[count(&[3, 4])], &[2, 2], &[9.0, 11.0, 1.0, 3.0]);
    net.gives(&[count(&[2, 4])], &[1, 2], &[5.0, 7.0]);
}

#[test]
fn shapes_in_run_time_data_become_host_functions() {
    let net = Net::new(17)
        .input("x", DType::F32, &["n"])
        .input("shape", DType::I64, &["2"])
        .node("Reshape(x, shape) -> y", vec![])
        .output("y");
    assert_eq!(ops(&net.import()), ["host"]);
    assert_eq!(net.run(&[count(&[6]), tensor(&[2], &[3i64, -1])])[0].shape(), [3, 2]);
}

#[test]
fn a_count_that_the_data_tell_keeps_its_teller() {
    let net = Net::new(17)
        .input("x", DType::F32, &["n"])
        .constant("one", &[], &[1i64])
        .node("NonZero(x) -> places", vec![])
        .node("Shape(places) -> shape", vec![])
        .node("Gather(shape, one) -> y", vec![])
        .output("y");
    net.gives(&[tensor(&[4], &[0f32, 3.0, 0.0, 1.0])], &[], &[2.0]);
}

#[test]
fn names_expressions_and_unknown_sizes() {
    let net = Net::new(17)
        .input("a", DType::F32, &["batch", "past"])
        .input("b", DType::F32, &["past + 1", "other + 1"])
        .input("c", DType::F32, &["?", "-1"])
        .node("Identity(a) -> y", vec![])
        .output("y");
    let graph = net.import();
    let types: Vec<String> = graph.inputs().iter().map(|(_, id)| graph[*id].types[0].to_string()).collect();
    // `other` is no size of its own, so that its expression is a name.
    assert_eq!(types, ["f32[batch, past]", "f32[past + 1, `other + 1`]", "f32[c_0, c_1]"]);
}

#[test]
fn symbols_can_be_given_values() {
    let options = Options { symbols: BTreeMap::from([("batch".to_owned(), 2)]) };
    assert_eq!(output_type(&flattening().try_import(&options).unwrap()), "f32[2, 4*seq]");
}

#[test]
fn an_input_with_a_default_is_a_constant() {
    let net = Net::new(17)
        .input("x", DType::F32, &["2"])
        .input("w", DType::F32, &["2"])
        .constant("w", &[2], &[10f32, 20.0])
        .node("Add(x, w) -> y", vec![])
        .output("y");
    assert_eq!(net.import().inputs().len(), 1);
    net.gives(&[count(&[2])], &[2], &[10.0, 21.0]);
}

#[test]
fn equal_parts_of_a_symbolic_axis() {
    let net =
        Net::new(18).input("x", DType::F32, &["n"]).node("Split(x) -> a, b", vec![int("num_outputs", 2)]).output("b");
    net.gives(&[count(&[5])], &[2], &[3.0, 4.0]);
    net.gives(&[count(&[1])], &[0], &[]);
}

#[test]
fn reductions_over_a_shape_are_followed() {
    let net = Net::new(17)
        .input("x", DType::F32, &["a", "b", "3"])
        .constant("axis", &[1], &[0i64])
        .node("Shape(x) -> shape", vec![])
        .node("ReduceProd(shape) -> count", vec![int("keepdims", 1), ints("axes", &[0])])
        .node("Reshape(x, count) -> y", vec![])
        .output("y");
    assert_eq!(output_type(&net.import()), "f32[3*a*b]");
    assert_eq!(ops(&net.import()), ["reshape"]);
}

#[test]
fn an_axis_whose_size_is_a_symbol_is_padded_to_the_same_size() {
    let net = Net::new(17)
        .input("x", DType::F32, &["1", "1", "w"])
        .constant("k", &[1, 1, 3], &[1f32; 3])
        .node("Conv(x, k) -> y", vec![text("auto_pad", "SAME_UPPER"), ints("strides", &[2])])
        .output("y");
    net.gives(&[tensor(&[1, 1, 5], &[0f32, 1.0, 2.0, 3.0, 4.0])], &[1, 1, 3], &[1.0, 6.0, 7.0]);
    net.gives(&[tensor(&[1, 1, 4], &[0f32, 1.0, 2.0, 3.0])], &[1, 1, 2], &[3.0, 5.0]);
}
