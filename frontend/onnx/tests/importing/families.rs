//! Operators of each family on values worked out by hand.

use half::f16;
use tarsia_tensor::DType;

use crate::net::{Net, count, float, int, ints, ops, output_type, tensor, text};

#[test]
fn products_of_stacks_and_vectors() {
    let net = |a: &[&str], b: &[&str]| {
        Net::new(17).input("a", DType::F32, a).input("b", DType::F32, b).node("MatMul(a, b) -> y", vec![]).output("y")
    };
    let vectors = net(&["3"], &["3"]);
    vectors.gives(&[count(&[3]), count(&[3])], &[], &[5.0]);
    let row = net(&["2"], &["2", "3"]);
    row.gives(&[count(&[2]), count(&[2, 3])], &[3], &[3.0, 4.0, 5.0]);
    let stacks = net(&["n", "1", "1", "2"], &["3", "2", "1"]);
    assert_eq!(output_type(&stacks.import()), "f32[n, 3, 1, 1]");
    // An axis of size 1 is no axis of the contraction.
    assert_eq!(ops(&stacks.import()), ["reshape", "contract"]);
    stacks.gives(&[count(&[1, 1, 1, 2]), count(&[3, 2, 1])], &[1, 3, 1, 1], &[1.0, 3.0, 5.0]);
    let heads = net(&["batch", "heads", "seq", "8"], &["batch", "heads", "8", "total"]);
    assert_eq!(output_type(&heads.import()), "f32[batch, heads, seq, total]");
    assert_eq!(ops(&heads.import()), ["contract"]);
}

#[test]
fn gemm_transposes_scales_and_adds() {
    let net = Net::new(17)
        .input("a", DType::F32, &["2", "n"])
        .constant("b", &[1, 2], &[1f32, 1.0])
        .constant("c", &[1], &[1f32])
        .node("Gemm(a, b, c) -> y", vec![int("transA", 1), int("transB", 1), float("alpha", 2.0), float("beta", 0.5)])
        .output("y");
    net.gives(&[count(&[2, 2])], &[2, 1], &[4.5, 8.5]);
}

#[test]
fn narrow_sums_are_rounded_once() {
    // 1 + 2⁻¹² rounds to 1 in f16; with the bias 2⁻¹² added before rounding it is 1 + 2⁻¹¹, a tie that goes to even, so
    // that a bias of 3·2⁻¹² shows the difference.
    let half = |values: &[f32]| values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>();
    let small = 2f32.powi(-12);
    let net = Net::new(17)
        .input("a", DType::F16, &["1", "2"])
        .constant("b", &[2, 1], &half(&[1.0, small]))
        .constant("c", &[1], &half(&[3.0 * small]))
        .node("Gemm(a, b, c) -> y", vec![])
        .output("y");
    let y = net.run(&[tensor(&[1, 2], &half(&[1.0, 1.0]))]);
    assert_eq!(y[0].numbers().unwrap().to_f64(), [1.0 + 2f64.powi(-10)]);
}

#[test]
fn convolution_with_stride_padding_groups_and_bias() {
    let net = Net::new(17)
        .input("x", DType::F32, &["n", "2", "w"])
        .constant("k", &[2, 1, 3], &[1f32, 1.0, 1.0, 1.0, 0.0, 0.0])
        .constant("b", &[2], &[0f32, 100.0])
        .node("Conv(x, k, b) -> y", vec![int("group", 2), ints("strides", &[2]), ints("pads", &[1, 0])])
        .output("y");
    net.gives(&[count(&[1, 2, 4])], &[1, 2, 2], &[1.0, 6.0, 100.0, 105.0]);
}

#[test]
fn transposed_convolution_spreads_its_input() {
    let net = |attributes| {
        Net::new(17)
            .input("x", DType::F32, &["1", "1", "w"])
            .constant("k", &[1, 1, 3], &[1f32, 2.0, 3.0])
            .node("ConvTranspose(x, k) -> y", attributes)
            .output("y")
    };
    let x = [tensor(&[1, 1, 2], &[1f32, 10.0])];
    net(vec![ints("strides", &[2])]).gives(&x, &[1, 1, 5], &[1.0, 2.0, 13.0, 20.0, 30.0]);
    let cut = vec![ints("strides", &[2]), ints("pads", &[1, 1]), ints("output_padding", &[1])];
    net(cut).gives(&x, &[1, 1, 4], &[2.0, 13.0, 20.0, 30.0]);
    net(vec![ints("strides", &[1]), ints("pads", &[3, 0])]).gives(&x, &[1, 1, 1], &[30.0]);
}

#[test]
fn pooling_counts_what_it_should() {
    let net = |operator: &str, attributes| {
        Net::new(19)
            .input("x", DType::F32, &["1", "1", "5"])
            .node(&format!("{operator}(x) -> y"), attributes)
            .output("y")
    };
    let window = || vec![ints("kernel_shape", &[2]), ints("strides", &[2])];
    let x = [count(&[1, 1, 5])];
    net("MaxPool", window()).gives(&x, &[1, 1, 2], &[1.0, 3.0]);
    let ceil = || [window(), vec![int("ceil_mode", 1)]].concat();
    net("MaxPool", ceil()).gives(&x, &[1, 1, 3], &[1.0, 3.0, 4.0]);
    net("AveragePool", ceil()).gives(&x, &[1, 1, 3], &[0.5, 2.5, 4.0]);
    let padded = |include| [window(), vec![ints("pads", &[1, 0]), int("count_include_pad", include)]].concat();
    net("AveragePool", padded(0)).gives(&x, &[1, 1, 3], &[0.0, 1.5, 3.5]);
    net("AveragePool", padded(1)).gives(&x, &[1, 1, 3], &[0.0, 1.5, 3.5]);
}

#[test]
fn positions_of_the_largest_come_back() {
    let net = Net::new(12)
        .input("x", DType::F32, &["1", "1", "2", "4"])
        .node("MaxPool(x) -> m, places", vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
        .node("MaxUnpool(m, places) -> y", vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
        .output("y")
        .output("places");
    let x = tensor(&[1, 1, 2, 4], &[1f32, 9.0, 2.0, 3.0, 4.0, 5.0, 8.0, 7.0]);
    net.gives(std::slice::from_ref(&x), &[1, 1, 2, 4], &[0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 8.0, 0.0]);
    assert_eq!(net.run(&[x])[1].numbers().unwrap().to_i64(), [1, 6]);
}

#[test]
fn indices_may_count_from_the_end() {
    let known = Net::new(17)
        .input("x", DType::F32, &["n"])
        .constant("at", &[2], &[-1i64, 0])
        .node("Gather(x, at) -> y", vec![])
        .output("y");
    known.gives(&[count(&[4])], &[2], &[3.0, 0.0]);
    let last = Net::new(17)
        .input("x", DType::F32, &["2", "n"])
        .constant("at", &[], &[-1i64])
        .node("Gather(x, at) -> y", vec![int("axis", 1)])
        .output("y");
    last.gives(&[count(&[2, 3])], &[2], &[2.0, 5.0]);
    assert_eq!(ops(&last.import()), ["slice", "reshape"]);
    let run_time = Net::new(17)
        .input("x", DType::F32, &["n"])
        .input("at", DType::I32, &["k"])
        .node("GatherElements(x, at) -> y", vec![])
        .output("y");
    run_time.gives(&[count(&[4]), tensor(&[3], &[-4i32, 3, -1])], &[3], &[0.0, 3.0, 3.0]);
}

#[test]
fn padding_modes() {
    let net = |mode: &str, pads: &[i64]| {
        Net::new(19)
            .input("x", DType::F32, &["n"])
            .constant("pads", &[2], pads)
            .node("Pad(x, pads) -> y", vec![text("mode", mode)])
            .output("y")
    };
    let x = [count(&[3])];
    net("constant", &[1, -1]).gives(&x, &[3], &[0.0, 0.0, 1.0]);
    net("reflect", &[2, 2]).gives(&x, &[7], &[2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0]);
    net("edge", &[2, 1]).gives(&x, &[6], &[0.0, 0.0, 0.0, 1.0, 2.0, 2.0]);
    net("wrap", &[1, 2]).gives(&x, &[6], &[2.0, 0.0, 1.0, 2.0, 0.0, 1.0]);
}

#[test]
fn normalisations() {
    let batch = Net::new(15)
        .input("x", DType::F32, &["n", "2"])
        .constant("scale", &[2], &[1f32, 2.0])
        .constant("bias", &[2], &[0f32, 1.0])
        .constant("mean", &[2], &[1f32, 0.0])
        .constant("var", &[2], &[4f32, 1.0])
        .node("BatchNormalization(x, scale, bias, mean, var) -> y", vec![float("epsilon", 0.0)])
        .output("y");
    batch.gives(&[count(&[1, 2])], &[1, 2], &[-0.5, 3.0]);
    let layer = Net::new(17)
        .input("x", DType::F32, &["n", "2"])
        .constant("scale", &[2], &[1f32, 1.0])
        .node("LayerNormalization(x, scale) -> y, mean", vec![float("epsilon", 0.0)])
        .output("y")
        .output("mean");
    layer.gives(&[count(&[1, 2])], &[1, 2], &[-1.0, 1.0]);
    let unit = Net::new(22).input("x", DType::F32, &["2"]).node("LpNormalization(x) -> y", vec![]).output("y");
    unit.gives(&[tensor(&[2], &[3f32, 4.0])], &[2], &[0.6, 0.8]);
    unit.gives(&[tensor(&[2], &[0f32, 0.0])], &[2], &[0.0, 0.0]);
}

#[test]
fn reductions_with_axes_in_run_time_data() {
    let net = |keep| {
        Net::new(18)
            .input("x", DType::F32, &["2", "n"])
            .input("axes", DType::I64, &["1"])
            .node("ReduceSum(x, axes) -> y", vec![int("keepdims", keep)])
            .output("y")
    };
    net(1).gives(&[count(&[2, 3]), tensor(&[1], &[-1i64])], &[2, 1], &[3.0, 12.0]);
    net(0).gives(&[count(&[2, 3]), tensor(&[1], &[0i64])], &[3], &[3.0, 5.0, 7.0]);
    // Over no elements there is the identity.
    net(1).gives(&[count(&[2, 0]), tensor(&[1], &[1i64])], &[2, 1], &[0.0, 0.0]);
}

#[test]
fn the_logarithm_of_a_sum_of_powers_does_not_overflow() {
    let net = Net::new(13)
        .input("x", DType::F32, &["2"])
        .node("ReduceLogSumExp(x) -> y", vec![int("keepdims", 0)])
        .output("y");
    net.gives(&[tensor(&[2], &[1000f32, 1000.0])], &[], &[1000.0 + 2f64.ln()]);
}

#[test]
fn powers_of_mixed_types_have_the_type_of_the_base() {
    let net = Net::new(15)
        .input("x", DType::I32, &["3"])
        .constant("e", &[], &[0.5f32])
        .node("Pow(x, e) -> y", vec![])
        .output("y");
    assert_eq!(net.run(&[tensor(&[3], &[4i32, 9, 17])])[0], tensor(&[3], &[2i32, 3, 4]));
}

#[test]
fn sequences_exist_at_import_only() {
    let net = Net::new(17)
        .input("x", DType::F32, &["4"])
        .constant("size", &[], &[2i64])
        .constant("last", &[], &[-1i64])
        .node("SplitToSequence(x, size) -> parts", vec![])
        .node("SequenceAt(parts, last) -> part", vec![])
        .node("SequenceInsert(parts, part) -> more", vec![])
        .node("ConcatFromSequence(more) -> y", vec![int("axis", 0)])
        .node("SequenceLength(more) -> count", vec![])
        .output("y")
        .output("count");
    net.gives(&[count(&[4])], &[6], &[0.0, 1.0, 2.0, 3.0, 2.0, 3.0]);
    assert_eq!(net.run(&[count(&[4])])[1].numbers().unwrap().to_i64(), [3]);
}

#[test]
fn selection_by_order_and_mask() {
    let top = Net::new(17)
        .input("x", DType::F32, &["n"])
        .constant("k", &[1], &[2i64])
        .node("TopK(x, k) -> y, i", vec![int("largest", 0)])
        .output("y")
        .output("i");
    let x = tensor(&[4], &[3f32, 1.0, 2.0, 1.0]);
    top.gives(std::slice::from_ref(&x), &[2], &[1.0, 1.0]);
    assert_eq!(top.run(std::slice::from_ref(&x))[1].numbers().unwrap().to_i64(), [1, 3]);
    let unique = Net::new(17).input("x", DType::F32, &["n"]).node("Unique(x) -> y", vec![]).output("y");
    unique.gives(&[x], &[3], &[1.0, 2.0, 3.0]);
}
