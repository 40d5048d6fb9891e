"""Quantised operators of com.microsoft, weights in blocks, and mixtures of experts."""
import numpy as np

from contrib.build import Draw, blocked, f32, family, i8, pack, quantise, softmax, u8


@family
def quantised_pointwise():
    for op, extra in [("QLinearAdd", {}), ("QLinearMul", {})]:
        for name, shapes, draw_type, zero in [
            ("u8", [(3, 5), (3, 5)], "u8", u8),
            ("broadcast", [(2, 3, 7), (3, 1)], "u8", u8),
            ("i8", [(3, 17), (17,)], "i8", i8),
        ]:
            d = Draw(op + name)
            a, b = (getattr(d, draw_type)(*shape) for shape in shapes)
            inputs = [a, f32(0.021), zero(7), b, f32(0.017), zero(3), f32(0.05), zero(11)]
            yield f"{op}_{name}", op, inputs, extra, {"atol": 1.0}
    d = Draw("sigmoid")
    x = d.u8(3, 7)
    yield "QLinearSigmoid", "QLinearSigmoid", [x, f32(0.05), u8(120), f32(1 / 255), u8(0)], {}, {"atol": 1.0}
    yield "QLinearLeakyRelu", "QLinearLeakyRelu", [x, f32(0.05), u8(120), f32(0.03), u8(80)], {"alpha": 0.1}, {"atol": 1.0}
    yield "QLinearLeakyRelu_i8", "QLinearLeakyRelu", [d.i8(5, 9), f32(0.05), i8(-3), f32(0.03), i8(8)], {"alpha": 0.3}, {"atol": 1.0}
    x = d.u8(3, 5, 4)
    for axis, opset in [(-1, 13), (1, 13), (1, 12)]:
        inputs = [x, f32(0.04), u8(100), f32(1 / 256), u8(0)]
        yield f"QLinearSoftmax_{axis % 3}_{opset}", "QLinearSoftmax", inputs, {"axis": axis, "opset": opset}, {"atol": 1.0}
    condition = d.ints(0, 2, 3, 5).astype(bool)
    inputs = [condition, d.u8(3, 5), f32(0.02), u8(5), d.u8(5), f32(0.03), u8(9), f32(0.04), u8(2)]
    yield "QLinearWhere", "QLinearWhere", inputs, {}, {"atol": 1.0, "constants": [2, 3, 5, 6, 7, 8]}
    inputs = [f32(0.03), u8(5), d.u8(2, 3), f32(0.02), u8(1), d.u8(2, 4), f32(0.05), u8(9)]
    yield "QLinearConcat", "QLinearConcat", inputs, {"axis": 1}, {"atol": 1.0, "constants": [0, 1, 3, 4, 6, 7]}


@family
def quantised_pools():
    d = Draw("pools")
    scales = [f32(0.02), u8(110), f32(0.03), u8(100)]
    x = d.u8(2, 3, 7, 9)
    attributes = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    yield "QLinearAveragePool", "QLinearAveragePool", [x, *scales], attributes, {"atol": 1.0}
    more = dict(attributes, count_include_pad=1)
    yield "QLinearAveragePool_with_padding", "QLinearAveragePool", [x, *scales], more, {"atol": 1.0}
    last = dict(attributes, channels_last=1)
    yield "QLinearAveragePool_channels_last", "QLinearAveragePool", [x.transpose(0, 2, 3, 1).copy(), *scales], last, {"atol": 1.0}
    yield "QLinearGlobalAveragePool", "QLinearGlobalAveragePool", [x, *scales], {"channels_last": 0}, {"atol": 1.0}
    yield "QLinearGlobalAveragePool_last", "QLinearGlobalAveragePool", [x.transpose(0, 2, 3, 1).copy(), *scales], {"channels_last": 1}, {"atol": 1.0}

    def reduce_mean(x, scale, zero, to_scale, to_zero):
        return [quantise(((x.astype(np.float32) - zero) * scale).mean((1, 3)), to_scale, to_zero, np.uint8)]

    options = {"atol": 1.0, "reference": reduce_mean}
    yield "QLinearReduceMean", "QLinearReduceMean", [x, *scales], {"axes": [1, 3], "keepdims": 0}, options


@family
def quantised_products():
    d = Draw("products")
    a, b = d.u8(5, 7), d.i8(7, 9)
    columns = d.uniform(0.01, 0.03, 9)
    yield "MatMulIntegerToFloat", "MatMulIntegerToFloat", [a, b, f32(0.02), f32(0.01), u8(120), i8(3), d.f32(9)], {}, {}
    yield "MatMulIntegerToFloat_columns", "MatMulIntegerToFloat", [a, b, f32(0.02), columns, u8(120), d.i8(9) // 8], {}, {}
    yield "MatMulIntegerToFloat_batched", "MatMulIntegerToFloat", [d.u8(2, 3, 7), d.u8(7, 5), f32(0.02), f32(0.01), u8(9), u8(3)], {}, {}
    x = d.f32(3, 5, 7)
    # The activations are quantised: one that is at the edge may become its neighbour.
    step = {"atol": 0.05, "constants": [1, 2, 3]}
    yield "DynamicQuantizeMatMul", "DynamicQuantizeMatMul", [x, b, f32(0.01), i8(3), d.f32(9)], {}, step
    yield "DynamicQuantizeMatMul_columns", "DynamicQuantizeMatMul", [x, d.u8(7, 9), columns, d.u8(9) // 16 + 120], {}, step
    yield "MatMulInteger16", "MatMulInteger16", [d.ints(-999, 999, 4, 7, dtype=np.int16), d.ints(-999, 999, 7, 3, dtype=np.int16)], {}, {}

    def mul_integer(a, az, b, bz):
        return [(a.astype(np.int32) - int(az)) * (b.astype(np.int32) - int(bz))]

    yield "MulInteger", "MulInteger", [d.u8(3, 5), u8(7), d.u8(5), u8(100)], {}, {"reference": mul_integer}

    def reduce_sum(x):
        return [x.astype(np.int32).sum(1, keepdims=True, dtype=np.int32)]

    yield "ReduceSumInteger", "ReduceSumInteger", [d.i8(3, 5, 2)], {"axes": [1], "keepdims": 1}, {"reference": reduce_sum}
    c = d.ints(-2000, 2000, 5, 9, dtype=np.int32)
    yield "QGemm", "QGemm", [a, f32(0.02), u8(120), b, f32(0.01), i8(3), c, f32(0.05), u8(100)], {}, {"atol": 1.0}
    yield "QGemm_float", "QGemm", [a, f32(0.02), u8(120), b, columns, d.i8(9) // 8, c[0]], {"alpha": 0.5}, {}
    transposed = [a.T.copy(), f32(0.02), u8(120), b.T.copy(), f32(0.01), i8(3), None, f32(0.05), u8(100)]
    yield "QGemm_transposed", "QGemm", transposed, {"transA": 1, "transB": 1}, {"atol": 1.0}
    x, w = d.u8(2, 4, 7, 8), d.i8(6, 2, 3, 3)
    inputs = [x, f32(0.02), u8(120), w, f32(0.01), i8(0), f32(0.05), u8(100), d.ints(-999, 999, 6, dtype=np.int32)]
    attributes = {"group": 2, "strides": [2, 1], "pads": [1, 1, 0, 1]}
    yield "QLinearConv", "QLinearConv", inputs, attributes, {"atol": 1.0, "constants": range(1, 9)}
    last = [x.transpose(0, 2, 3, 1).copy(), *inputs[1:]]
    yield "QLinearConv_channels_last", "QLinearConv", last, dict(attributes, channels_last=1), {"atol": 1.0, "constants": range(1, 9)}
    x = d.f32(3, 5)
    yield "QuantizeLinear", "QuantizeLinear", [x, f32(0.02), u8(120)], {}, {"atol": 1.0}
    yield "QuantizeLinear_axis", "QuantizeLinear", [x, d.uniform(0.01, 0.03, 5), d.i8(5)], {"axis": 1}, {"atol": 1.0}
    yield "DequantizeLinear", "DequantizeLinear", [d.u8(3, 5), f32(0.02), u8(120)], {}, {}
    yield "DequantizeLinear_axis", "DequantizeLinear", [d.i8(3, 5), d.uniform(0.01, 0.03, 3), d.i8(3)], {"axis": 0}, {}


@family
def quantised_lstm():
    for name, directions, time, batch, size, hidden, kind in [("", 1, 5, 2, 7, 6, "u8"), ("_bidirectional", 2, 3, 1, 5, 4, "i8")]:
        d = Draw("lstm" + name)
        codes, zero = getattr(d, kind), (u8 if kind == "u8" else i8)
        inputs = [d.f32(time, batch, size), codes(directions, size, 4 * hidden), codes(directions, hidden, 4 * hidden)]
        inputs += [d.f32(directions, 8 * hidden), None, d.f32(directions, batch, hidden), d.f32(directions, batch, hidden), None]
        scale, shift = np.full(directions, 0.004, np.float32), np.full(directions, 128 if kind == "u8" else 0, zero(0).dtype)
        attributes = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else "forward"}
        options = {"atol": 0.02, "outputs": 3, "constants": [1, 2, 3, 8, 9, 10, 11]}
        yield f"DynamicQuantizeLSTM{name}", "DynamicQuantizeLSTM", [*inputs, scale, shift, scale, shift], attributes, options


@family
def matmul_nbits():
    for bits, n, k, block, rows in [(4, 7, 64, 32, 3), (4, 5, 50, 16, 1), (4, 17, 48, 16, 4), (8, 6, 40, 16, 3), (2, 9, 64, 16, 2), (2, 8, 96, 32, 5)]:
        name = f"MatMulNBits_{bits}_{n}_{k}"
        d = Draw(name)
        packed, codes, scales = blocked(d, n, k, block, bits)
        blocks = scales.shape[1]
        attributes = {"N": n, "K": k, "bits": bits, "block_size": block}
        x = d.f32(2, rows, k)
        constants = {"constants": [1, 2, 3, 4, 5], "atol": 1e-4}
        yield name, "MatMulNBits", [x, packed, scales], attributes, constants
        zeros = d.ints(0, 2**bits, n, blocks)
        yield name + "_zeros", "MatMulNBits", [x, packed, scales, pack(zeros, bits)], attributes, constants
        if bits == 4:
            yield name + "_float_zeros", "MatMulNBits", [x, packed, scales, zeros.astype(np.float32) + 0.25], attributes, constants
            yield name + "_bias", "MatMulNBits", [x, packed, scales, None, None, d.f32(n)], attributes, constants
            groups = np.sort(d.ints(0, blocks, blocks * block, dtype=np.int32))
            if k % block == 0:

                def grouped(x, packed, scales, packed_zeros, groups, codes=codes, zeros=zeros):
                    # Not onnxruntime's results: it leaves the zero points out where there are groups.
                    weights = (codes.reshape(codes.shape[0], -1) - zeros[:, groups]) * scales[:, groups]
                    return [(x @ weights.T).astype(np.float32)]

                options = dict(constants, reference=grouped)
                yield name + "_groups", "MatMulNBits", [x, packed, scales, pack(zeros, bits), groups], attributes, options
            yield name + "_runtime", "MatMulNBits", [x, packed, scales, pack(zeros, bits)], attributes, {"atol": 1e-4}
    d = Draw("three bits")
    packed, codes, scales = blocked(d, 7, 48, 16, 3)

    def three(x, packed, scales, zeros=None):
        zeros = 4 if zeros is None else zeros[..., None]
        return [x @ ((codes - zeros) * scales[..., None]).reshape(7, 48).T.astype(np.float32)]

    attributes = {"N": 7, "K": 48, "bits": 3, "block_size": 16}
    yield "MatMulNBits_3", "MatMulNBits", [d.f32(5, 48), packed, scales], attributes, {"reference": three, "constants": [1, 2], "atol": 1e-4}
    zeros = d.uniform(0, 7, 7, 3)
    yield "MatMulNBits_3_zeros", "MatMulNBits", [d.f32(5, 48), packed, scales, zeros], attributes, {"reference": three, "atol": 1e-4}
    for kind in (0, 1):
        for n, k in [(7, 48), (5, 33)]:
            d = Draw(f"bnb4{kind}{n}")
            inputs = [d.f32(3, k), d.u8((n * k + 1) // 2), d.uniform(0.5, 2, -(-n * k // 16))]
            attributes = {"N": n, "K": k, "block_size": 16, "quant_type": kind}
            yield f"MatMulBnb4_{kind}_{n}", "MatMulBnb4", inputs, attributes, {"constants": [1, 2], "atol": 1e-4}


@family
def gather_blocks():
    d = Draw("gather blocks")
    for bits in (4, 8, 2):
        codes = d.ints(0, 2**bits, 11, 64)
        inputs = [pack(codes, bits), d.ints(0, 11, 3, 2), d.uniform(0.01, 0.1, 11, 4)]
        attributes = {"bits": bits, "block_size": 16, "gather_axis": 0, "quantize_axis": 1}
        yield f"GatherBlockQuantized_{bits}", "GatherBlockQuantized", inputs, attributes, {"constants": [0, 2]}
        zeros = pack(d.ints(0, 2**bits, 11, 4), bits)
        yield f"GatherBlockQuantized_{bits}_zeros", "GatherBlockQuantized", [*inputs, zeros], attributes, {"constants": [0, 2, 3]}


@family
def experts():
    for activation in ("relu", "gelu", "silu", "identity"):
        for normalise in (0, 1):
            d = Draw(f"moe{activation}{normalise}")
            inputs = [d.f32(5, 12), d.f32(5, 7), d.f32(7, 10, 12), d.f32(7, 10), d.f32(7, 12, 10), d.f32(7, 12)]
            attributes = {"k": 3, "activation_type": activation, "normalize_routing_weights": normalise}
            yield f"MoE_{activation}_{normalise}", "MoE", inputs, attributes, {"constants": [2, 3, 4, 5], "atol": 1e-4}
    d = Draw("swiglu")
    inputs = [d.f32(2, 3, 12), d.f32(6, 5), d.f32(5, 20, 12), d.f32(5, 20), d.f32(5, 12, 10), d.f32(5, 12)]
    attributes = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "activation_alpha": 1.7, "activation_beta": 1.0, "swiglu_limit": 2.0}
    yield "MoE_swiglu", "MoE", inputs, dict(attributes, normalize_routing_weights=1), {"constants": [2, 3, 4, 5], "atol": 1e-4}
    for bits, block, zeros in [(4, 0, 0), (8, 0, 0), (4, 16, 0), (8, 16, 0), (2, 0, 0), (3, 16, 0), (2, 16, 1), (3, 0, 1), (4, 16, 1), (8, 0, 1)]:
        d = Draw(f"qmoe{bits}{block}" + "zeros" * zeros)
        experts, hidden, inter = 5, 32, 48
        w1, w2 = d.ints(0, 2**bits, experts, 2 * inter, hidden), d.ints(0, 2**bits, experts, hidden, inter)
        blocks = lambda size: (size // block,) if block else ()
        s1, s2 = d.uniform(0.002, 0.02, experts, 2 * inter, *blocks(hidden)), d.uniform(0.002, 0.02, experts, hidden, *blocks(inter))
        inputs = [d.f32(7, hidden), d.f32(7, experts), pack(w1, bits), s1, None, pack(w2, bits), s2]
        z1, z2 = (d.ints(0, 2**bits, *s.shape) if zeros else np.full(s.shape, 2 ** (bits - 1)) for s in (s1, s2))
        if zeros:
            inputs += [None] * 4 + [pack(z1, bits), pack(z2, bits)]
        attributes = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "expert_weight_bits": bits, "normalize_routing_weights": 1}
        if block:
            attributes["block_size"] = block

        def mixed(x, scores, p1, s1, p2, s2, *_, w1=w1, w2=w2, z1=z1, z2=z2, block=block):
            def real(codes, scales, zeros):
                scales, zeros = (np.repeat(a, block, -1) if block else a[..., None] for a in (scales, zeros))
                return (codes - zeros) * scales

            y = np.zeros_like(x)
            for row in range(len(x)):
                best = np.argsort(-scores[row], kind="stable")[:2]
                shares = softmax(scores[row][best])
                for expert, share in zip(best, shares):
                    hidden = real(w1, s1, z1)[expert] @ x[row]
                    gate, up = hidden[0::2], hidden[1::2]
                    y[row] += share * (real(w2, s2, z2)[expert] @ (gate / (1 + np.exp(-gate)) * up))
            return [y]

        options = {"constants": [2, 3, 5, 6, 11, 12], "atol": 1e-3, "reference": mixed}
        yield f"QMoE_{bits}_{block}" + "_zeros" * zeros, "QMoE", inputs, attributes, options
