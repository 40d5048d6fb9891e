"""Cases of the operators of com.microsoft, which ONNX's own cases do not cover: one-operator models with random inputs of odd sizes.

Expected outputs are those of onnxruntime's CPU kernels without graph optimisations, or, where it has none, of a formula in numpy
written here from the operator's specification (`reference=`). Inputs are drawn from a generator that is seeded by the case's name.
"""
import hashlib
import math

import numpy as np
import onnx
import onnxruntime
from onnx import helper

MICROSOFT = "com.microsoft"
CASES = []


class Draw:
    """Random arrays for one case."""

    def __init__(self, name):
        self.rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))

    def f32(self, *shape, scale=1.0):
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def uniform(self, low, high, *shape):
        return self.rng.uniform(low, high, shape).astype(np.float32)

    def ints(self, low, high, *shape, dtype=np.int64):
        return self.rng.integers(low, high, shape).astype(dtype)

    def u8(self, *shape):
        return self.ints(0, 256, *shape, dtype=np.uint8)

    def i8(self, *shape):
        return self.ints(-128, 128, *shape, dtype=np.int8)


def family(function):
    """Registers a function that gives cases: (name, operator, inputs, attributes, options)."""
    CASES.append(function)
    return function


def f32(value):
    return np.array(value, np.float32)


def u8(value):
    return np.array(value, np.uint8)


def i8(value):
    return np.array(value, np.int8)


def i32(value):
    return np.array(value, np.int32)


# Quantised.


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


def quantise(x, scale, zero, dtype):
    info = np.iinfo(dtype)
    return np.clip(np.rint(x / scale) + zero, info.min, info.max).astype(dtype)


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


# Weights in blocks.


def pack(codes, bits):
    """Codes along the last axis as bytes, the low ones first."""
    flat = ((codes[..., None].astype(np.int64) >> np.arange(bits)) & 1).reshape(*codes.shape[:-1], -1)
    flat = np.concatenate([flat, np.zeros((*flat.shape[:-1], -flat.shape[-1] % 8), np.int64)], -1)
    return (flat.reshape(*flat.shape[:-1], -1, 8) << np.arange(8)).sum(-1).astype(np.uint8)


def blocked(d, n, k, block, bits):
    blocks = -(-k // block)
    codes = d.ints(0, 2**bits, n, blocks, block)
    return pack(codes, bits), codes, d.uniform(0.01, 0.1, n, blocks)


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


# Experts.


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


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
    for bits, block in [(4, 0), (8, 0), (4, 16), (8, 16)]:
        d = Draw(f"qmoe{bits}{block}")
        experts, hidden, inter = 5, 32, 48
        w1, w2 = d.ints(0, 2**bits, experts, 2 * inter, hidden), d.ints(0, 2**bits, experts, hidden, inter)
        blocks = lambda size: (size // block,) if block else ()
        s1, s2 = d.uniform(0.002, 0.02, experts, 2 * inter, *blocks(hidden)), d.uniform(0.002, 0.02, experts, hidden, *blocks(inter))
        inputs = [d.f32(7, hidden), d.f32(7, experts), pack(w1, bits), s1, None, pack(w2, bits), s2]
        attributes = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "expert_weight_bits": bits, "normalize_routing_weights": 1}
        if block:
            attributes["block_size"] = block

        def mixed(x, scores, p1, s1, p2, s2, w1=w1, w2=w2, bits=bits, block=block):
            def real(codes, scales):
                scales = np.repeat(scales, block, -1) if block else scales[..., None]
                return (codes - 2 ** (bits - 1)) * scales

            y = np.zeros_like(x)
            for row in range(len(x)):
                best = np.argsort(-scores[row], kind="stable")[:2]
                shares = softmax(scores[row][best])
                for expert, share in zip(best, shares):
                    hidden = real(w1, s1)[expert] @ x[row]
                    gate, up = hidden[0::2], hidden[1::2]
                    y[row] += share * (real(w2, s2)[expert] @ (gate / (1 + np.exp(-gate)) * up))
            return [y]

        options = {"constants": [2, 3, 5, 6], "atol": 1e-3, "reference": mixed}
        yield f"QMoE_{bits}_{block}", "QMoE", inputs, attributes, options


# Fused.


@family
def fused_products():
    d = Draw("fused products")
    a, b = d.f32(2, 5, 7), d.f32(2, 7, 3)
    yield "FusedMatMul", "FusedMatMul", [a, b], {"alpha": 0.3}, {}
    yield "FusedMatMul_transA", "FusedMatMul", [a.transpose(0, 2, 1).copy(), b], {"transA": 1}, {}
    yield "FusedMatMul_transB", "FusedMatMul", [a, b.transpose(0, 2, 1).copy()], {"transB": 1, "alpha": 2.0}, {}
    yield "FusedMatMul_batchA", "FusedMatMul", [d.f32(5, 2, 7), b], {"transBatchA": 1}, {}
    yield "FusedMatMul_batchB", "FusedMatMul", [a, d.f32(7, 2, 3)], {"transBatchB": 1}, {}
    yield "FusedMatMul_batch_both", "FusedMatMul", [d.f32(7, 2, 5), d.f32(3, 2, 7)], {"transBatchA": 1, "transA": 1, "transBatchB": 1, "transB": 1}, {}
    yield "TransposeMatMul", "TransposeMatMul", [a, b.transpose(0, 2, 1).copy()], {"transB": 1, "alpha": 0.5}, {}
    x, w, bias = d.f32(5, 7), d.f32(7, 3), d.f32(3)
    for activation, attributes in [("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.2}), ("Tanh", {}), ("Sigmoid", {})]:
        yield f"FusedGemm_{activation}", "FusedGemm", [x, w, bias], {"activation": activation, "alpha": 0.7, "beta": 0.3, **attributes}, {}
    tanh = lambda a, b: [np.tanh(a @ b)]
    yield "FusedMatMulActivation", "FusedMatMulActivation", [x, w], {"activation": "Tanh"}, {"reference": tanh}
    image, filters = d.f32(2, 4, 7, 8), d.f32(6, 2, 3, 3)
    attributes = {"group": 2, "strides": [2, 1], "pads": [1, 1, 0, 1]}
    for activation, parameters in [("Relu", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.7]), ("HardSigmoid", [0.3, 0.4]), ("Tanh", [])]:
        more = dict(attributes, activation=activation, **({"activation_params": parameters} if parameters else {}))
        yield f"FusedConv_{activation}", "FusedConv", [image, filters, d.f32(6)], more, {}
    more = dict(attributes, activation="Relu")
    yield "FusedConv_sum", "FusedConv", [image, filters, d.f32(6), d.f32(2, 6, 3, 8)], more, {}
    pads = np.array([1, 0, 1, 1], np.int64)
    yield "ConvTransposeWithDynamicPads", "ConvTransposeWithDynamicPads", [d.f32(1, 3, 4, 5), d.f32(3, 2, 3, 3), pads], {"strides": [2, 1]}, {"constants": [2]}


def erf_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


@family
def activations():
    d = Draw("activations")
    x, bias = d.f32(3, 5, 8), d.f32(8)
    yield "Gelu", "Gelu", [x], {}, {}
    yield "FastGelu", "FastGelu", [x], {}, {}
    yield "FastGelu_bias", "FastGelu", [x, bias], {}, {}
    yield "BiasGelu", "BiasGelu", [x, bias], {}, {}
    yield "QuickGelu", "QuickGelu", [x], {}, {}
    yield "QuickGelu_alpha", "QuickGelu", [x], {"alpha": 0.8}, {}
    yield "ScaledSiLU", "ScaledSiLU", [x], {"alpha": 0.8}, {}
    split = lambda x, b: [((x + b)[..., :4] * erf_gelu((x + b)[..., 4:])).astype(np.float32)]
    yield "BiasSplitGelu", "BiasSplitGelu", [x, bias], {}, {"reference": split}
    yield "BiasAdd", "BiasAdd", [x, bias, d.f32(3, 5, 8)], {}, {"reference": lambda x, b, s: [x + b + s]}
    inner = lambda x, b: [softmax(x + b)]
    yield "BiasSoftmax", "BiasSoftmax", [d.f32(2, 3, 4, 5), d.f32(2, 1, 1, 5)], {"axis": 3, "is_inner_broadcast": 1}, {"reference": inner}
    dropout = lambda x, b, r: [x + b + r, np.ones(x.shape, bool)]
    yield "BiasDropout", "BiasDropout", [x, bias, d.f32(3, 5, 8)], {}, {"reference": dropout, "outputs": 2}
    gemm = lambda x, w: [(lambda y: 0.5 * y * (1 + np.tanh(0.7978845608 * (y + 0.044715 * y**3))))(x @ w).astype(np.float32)]
    yield "GemmFastGelu", "GemmFastGelu", [d.f32(3, 7), d.f32(7, 5)], {}, {"reference": gemm}

    def complex_mul(a, b):
        c = (a[..., 0] + 1j * a[..., 1]) * (b[..., 0] + 1j * b[..., 1])
        return [np.stack([c.real, c.imag], -1).astype(np.float32)]

    yield "ComplexMul", "ComplexMul", [d.f32(3, 5, 2), d.f32(3, 5, 2)], {}, {"reference": complex_mul}
    yield "GatedAdd", "GatedAdd", [x, d.f32(3, 5, 8), d.f32(3, 5, 1)], {}, {}
    yield "LinearAttentionGate", "LinearAttentionGate", [d.f32(2, 3, 4), d.f32(4), d.f32(4), d.f32(2, 3, 4)], {}, {"outputs": 2}


# Normalisation.


@family
def norms():
    d = Draw("norms")
    x, skip, gamma, beta, bias = d.f32(2, 3, 16), d.f32(2, 3, 16), d.f32(16), d.f32(16), d.f32(16)
    yield "SkipLayerNormalization", "SkipLayerNormalization", [x, skip, gamma, beta, bias], {}, {}
    yield "SkipLayerNormalization_sum", "SkipLayerNormalization", [x, skip, gamma, beta], {"epsilon": 1e-5}, {"outputs": [0, 3]}
    yield "SkipLayerNormalization_one_skip", "SkipLayerNormalization", [x, skip[0], gamma], {}, {}
    yield "SkipSimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", [x, skip, gamma, bias], {"epsilon": 1e-5}, {"outputs": [0, 3]}
    yield "SimplifiedLayerNormalization", "SimplifiedLayerNormalization", [x, gamma], {"axis": -1, "epsilon": 1e-5}, {"domain": ""}
    yield "LayerNormalization_old", "LayerNormalization", [x, gamma, beta], {"axis": -1, "epsilon": 1e-5}, {"domain": "", "opset": 13}
    yield "GatedRMSNorm", "GatedRMSNorm", [x, d.f32(8), d.f32(2, 3, 16)], {}, {}
    yield "BranchwiseRMSNorm", "BranchwiseRMSNorm", [x, d.f32(16)], {"num_branches": 4}, {}
    yield "BranchwiseRMSNorm_grouped", "BranchwiseRMSNorm", [d.f32(2, 3, 4, 5), d.f32(4, 5)], {}, {}

    def group_norm(x, gamma, beta, *rest, silu=False, last=True):
        if rest:
            x = x + rest[0].reshape(rest[0].shape[0], 1, 1, -1) + rest[1]
        y = x if not last else x.transpose(0, 3, 1, 2)
        g = y.reshape(y.shape[0], 3, -1).astype(np.float64)
        g = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-5)
        y = g.reshape(y.shape) * gamma[:, None, None] + beta[:, None, None]
        y = y / (1 + np.exp(-y)) if silu else y
        return [(y if not last else y.transpose(0, 2, 3, 1)).astype(np.float32)] + ([x] if rest else [])

    image, gamma, beta = d.f32(2, 4, 5, 6), d.f32(6), d.f32(6)
    yield "GroupNorm", "GroupNorm", [image, gamma, beta], {"groups": 3, "activation": 0, "channels_last": 1}, {"reference": group_norm}
    silu = lambda *args: group_norm(*args, silu=True)
    yield "GroupNorm_silu", "GroupNorm", [image, gamma, beta], {"groups": 3, "activation": 1, "channels_last": 1}, {"reference": silu}
    skipped = [image, gamma, beta, d.f32(2, 6), d.f32(6)]
    yield "SkipGroupNorm", "SkipGroupNorm", skipped, {"groups": 3, "activation": 1}, {"reference": silu, "outputs": 2}
    ids, segments = d.ints(0, 11, 2, 5, dtype=np.int32), d.ints(0, 2, 2, 5, dtype=np.int32)
    mask = i32([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    tables = [d.f32(11, 8), d.f32(9, 8), d.f32(2, 8), d.f32(8), d.f32(8)]
    options = {"outputs": 2, "constants": range(2, 7)}
    yield "EmbedLayerNormalization", "EmbedLayerNormalization", [ids, segments, *tables, mask], {}, options
    plain = [ids, None, tables[0], tables[1], None, tables[3], tables[4], None, d.ints(0, 9, 2, 5, dtype=np.int32)]
    yield "EmbedLayerNormalization_positions", "EmbedLayerNormalization", plain, {}, {"outputs": [0, 1, 2], "constants": [2, 3, 5, 6]}
    codes = [d.u8(11, 8), d.u8(9, 8), d.u8(2, 8), d.u8(8), d.u8(8)]
    inputs = [ids, segments, *codes, mask, *[f32(0.01)] * 5, *[u8(120)] * 5]
    yield "QEmbedLayerNormalization", "QEmbedLayerNormalization", inputs, {}, {"outputs": 2, "atol": 1e-3, "constants": [*range(2, 7), *range(8, 18)]}


# Attention.


@family
def attentions():
    d = Draw("attention")
    batch, length, width, heads = 2, 5, 12, 3
    x, w, bias = d.f32(batch, length, width), d.f32(width, 36, scale=0.3), d.f32(36)
    lengths, pairs = i32([5, 3]), i32([5, 4, 0, 1])
    raw = i32([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    cube = np.tril(np.ones((batch, length, length), np.int32))
    constants = {"constants": [1, 2]}
    for name, mask in [("", None), ("_lengths", lengths), ("_ends_and_starts", pairs), ("_mask", raw), ("_mask_3d", cube)]:
        yield f"Attention{name}", "Attention", [x, w, bias, mask], {"num_heads": heads}, constants
    yield "Attention_causal", "Attention", [x, w, bias], {"num_heads": heads, "unidirectional": 1}, constants
    bias_of_scores = d.f32(1, heads, length, length)
    yield "Attention_bias", "Attention", [x, w, bias, None, None, bias_of_scores], {"num_heads": heads, "scale": 0.4}, constants
    wide = [x, d.f32(width, 12 + 12 + 6, scale=0.3), d.f32(30)]
    yield "Attention_sizes", "Attention", wide, {"num_heads": heads, "qkv_hidden_sizes": [12, 12, 6]}, constants
    past = d.f32(2, batch, heads, 4, 4)
    full = i32(np.ones((batch, 9)))
    full[1, :2] = 0
    for name, mask, causal in [("", None, 0), ("_causal", None, 1), ("_mask", full, 1)]:
        options = dict(constants, outputs=2)
        yield f"Attention_past{name}", "Attention", [x, w, bias, mask, past], {"num_heads": heads, "unidirectional": causal}, options
    codes = [d.u8(batch, length, width), d.i8(width, 36), bias, f32(0.02), f32(0.01), None, u8(120), i8(2)]
    options = {"constants": [1, 2, 3, 4, 6, 7], "atol": 1e-3}
    yield "QAttention", "QAttention", codes, {"num_heads": heads}, options
    yield "QAttention_mask", "QAttention", [*codes[:5], lengths, *codes[6:]], {"num_heads": heads}, options


@family
def multi_head():
    d = Draw("multi head")
    batch, length, keys, heads, size = 2, 5, 7, 3, 4
    q, k, v = d.f32(batch, length, 12), d.f32(batch, keys, 12), d.f32(batch, keys, 18)
    one = {"num_heads": heads}
    op = "MultiHeadAttention"
    yield "MultiHeadAttention", op, [q, k, v], one, {}
    yield "MultiHeadAttention_bias", op, [q, k, v, d.f32(42)], one, {}
    mask = i32(np.ones((batch, keys)))
    mask[1, 4:] = 0
    yield "MultiHeadAttention_mask", op, [q, k, v, None, mask], one, {}
    yield "MultiHeadAttention_lengths", op, [q, k, v, None, i32([7, 4])], one, {}
    yield "MultiHeadAttention_scores", op, [q, k, v, None, None, d.f32(1, 1, length, keys)], dict(one, scale=0.7), {}

    def unpacked(*packed):
        apart = [x for whole in packed for x in ([whole] if whole.ndim == 3 else np.moveaxis(whole, 3, 0))]
        apart = [np.ascontiguousarray(x).reshape(*x.shape[:2], -1) for x in apart]
        return run_model(one_node("MultiHeadAttention", apart, one, {}, None), apart)

    yield "MultiHeadAttention_packed", op, [d.f32(batch, length, heads, 3, size)], one, {"reference": unpacked}
    yield "MultiHeadAttention_packed_kv", op, [q, d.f32(batch, keys, heads, 2, size)], one, {"reference": unpacked}
    yield "MultiHeadAttention_cross", op, [q, d.f32(batch, heads, keys, size), d.f32(batch, heads, keys, size)], one, {}
    past = [d.f32(batch, heads, 3, size), d.f32(batch, heads, 3, size)]
    new = [d.f32(batch, length, 12) for _ in range(3)]
    yield "MultiHeadAttention_past", op, [*new, None, None, None, *past], dict(one, unidirectional=1), {"outputs": 3}
    step = [d.f32(batch, 1, 12) for _ in range(3)]
    op = "DecoderMaskedMultiHeadAttention"

    def appended(q, k, v, *rest):
        inputs = [q, k, v, None, rest[0] if len(rest) == 3 else None, None, *rest[-2:]]
        return run_model(one_node("MultiHeadAttention", inputs, one, {"outputs": 3}, None), inputs)

    options = {"outputs": 3, "reference": appended}
    yield "DecoderMaskedMultiHeadAttention", op, [*step, None, None, *past], one, options
    mask = i32(np.ones((batch, 4)))
    mask[1, 0] = 0
    yield "DecoderMaskedMultiHeadAttention_mask", op, [*step, mask, None, *past], one, options
    buffers = [d.f32(batch, heads, 9, size), d.f32(batch, heads, 9, size)]

    def shared(q, k, v, past_k, past_v, count):
        present = [buffer.copy() for buffer in (past_k, past_v)]
        at = int(count[0])
        for buffer, x in zip(present, (k, v)):
            buffer[:, :, at] = x.reshape(batch, heads, size)
        scores = np.einsum("bhd,bhtd->bht", q.reshape(batch, heads, size), present[0][:, :, : at + 1]) / 2
        y = np.einsum("bht,bhtd->bhd", softmax(scores), present[1][:, :, : at + 1])
        return [y.reshape(batch, 1, 12).astype(np.float32), *present]

    inputs = [*step, None, None, *buffers, i32([4])]
    options = {"outputs": 3, "reference": shared}
    yield "DecoderMaskedMultiHeadAttention_buffer", op, inputs, dict(one, past_present_share_buffer=1), options


def rotary_caches(positions, half):
    angles = np.arange(positions)[:, None] / 100 ** (np.arange(half) / half)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@family
def grouped_queries():
    op, heads, groups, size = "GroupQueryAttention", 6, 2, 16
    attributes = {"num_heads": heads, "kv_num_heads": groups}

    def inputs(d, batch, length, past, totals, rotary=False, packed=False):
        q = [d.f32(batch, length, heads * size), d.f32(batch, length, groups * size), d.f32(batch, length, groups * size)]
        if packed:
            q = [np.concatenate(q, -1), None, None]
        cache = [d.f32(batch, groups, past, size), d.f32(batch, groups, past, size)]
        return [*q, *cache, i32(totals) - 1, i32(max(totals)), *(rotary_caches(32, size // 2) if rotary else ())]

    def kept(outputs, made, totals):
        # onnxruntime leaves what lies in a buffer after the new elements as it happens to be; nothing changes it here.
        for present, past in zip(outputs[1:], made[3:5]):
            for row, total in enumerate(totals):
                present[row, :, total:] = past[row, :, total : present.shape[2]]
        return outputs

    for name, shape, more, options in [
        ("prompt", (2, 5, 0, [5, 5]), {}, {}),
        ("decode", (1, 1, 4, [5]), {}, {}),
        ("chunk", (1, 3, 4, [7]), {}, {}),
        ("rotary", (1, 3, 4, [7]), {"do_rotary": 1}, {"rotary": True}),
        ("rotary_prompt", (2, 3, 0, [3, 3]), {"do_rotary": 1}, {"rotary": True}),
        ("rotary_interleaved", (2, 1, 6, [7, 7]), {"do_rotary": 1, "rotary_interleaved": 1}, {"rotary": True}),
        ("packed", (1, 3, 4, [7]), {"do_rotary": 1}, {"rotary": True, "packed": True}),
        ("softcap", (1, 3, 4, [7]), {"softcap": 1.5}, {}),
        ("scale", (1, 3, 4, [7]), {"scale": 0.2}, {}),
        ("smooth", (1, 3, 4, [7]), {"smooth_softmax": 1}, {}),
        ("window", (1, 6, 4, [10]), {"local_window_size": 4}, {}),
        ("window_prompt", (2, 7, 0, [7, 7]), {"local_window_size": 3}, {}),
        ("buffer", (1, 1, 9, [5]), {}, {}),
        ("buffer_rotary", (2, 1, 9, [5, 5]), {"do_rotary": 1}, {"rotary": True}),
        ("ragged", (2, 1, 9, [5, 3]), {"do_rotary": 1}, {"rotary": True}),
    ]:
        d = Draw("gqa" + name)
        made = inputs(d, *shape, **options)
        options = {"outputs": 3, "constants": [6], "finish": lambda outputs, made=made, totals=shape[3]: kept(outputs, made, totals)}
        yield f"GroupQueryAttention_{name}", op, made, dict(attributes, **more), options
    d = Draw("sink")
    made = inputs(d, 1, 3, 4, [7], rotary=True)
    yield "GroupQueryAttention_runtime_length", op, made[:7], attributes, {"outputs": 3}
    made[5:7] = i32([6]), i32(7)
    bias = d.f32(1, 1, 3, 7)
    yield "GroupQueryAttention_bias", op, [*made, None, bias], dict(attributes, do_rotary=1), {"outputs": 3, "constants": [6]}
    sink = d.f32(heads)
    yield "GroupQueryAttention_sink", op, [*made, None, None, sink], dict(attributes, do_rotary=1), {"outputs": 3, "constants": [6]}


@family
def packed():
    offsets = i32([[0, 4, 5, 8], [9, 10, 11, 1], [2, 3, 6, 7]])
    ends = i32([0, 1, 3, 7])
    d = Draw("packed")
    heads, size = 2, 3

    def attend(q, k, v, offsets, ends):
        y = np.zeros_like(v)
        for start, end in zip(ends, ends[1:]):
            split = lambda x: x[start:end].reshape(end - start, heads, -1).transpose(1, 0, 2)
            scores = split(q) @ split(k).transpose(0, 2, 1) / math.sqrt(size)
            y[start:end] = (softmax(scores) @ split(v)).transpose(1, 0, 2).reshape(end - start, -1)
        return [y]

    q, k, v = (d.f32(7, heads * size) for _ in range(3))
    one = {"num_heads": heads}
    yield "PackedMultiHeadAttention", "PackedMultiHeadAttention", [q, k, v, None, offsets, ends], one, {"reference": attend}

    def project(x, w, b, offsets, ends):
        y = x @ w + b
        return attend(y[:, :6], y[:, 6:12], y[:, 12:], offsets, ends)

    inputs = [d.f32(7, 5), d.f32(5, 18), d.f32(18), offsets, ends]
    yield "PackedAttention", "PackedAttention", inputs, one, {"reference": project}


@family
def positions():
    d = Draw("positions")
    cos, sin = rotary_caches(16, 4)
    op = "RotaryEmbedding"
    x = d.f32(2, 5, 24)
    ids = d.ints(0, 16, 2, 5)
    yield "RotaryEmbedding", op, [x, ids, cos, sin], {}, {}
    yield "RotaryEmbedding_interleaved", op, [x, ids, cos, sin], {"interleaved": 1}, {}
    yield "RotaryEmbedding_offset", op, [d.f32(2, 3, 5, 8), np.array([3], np.int64), cos, sin], {}, {}
    short = rotary_caches(16, 2)
    yield "RotaryEmbedding_part", op, [x, ids, *short], {"rotary_embedding_dim": 4, "num_heads": 3}, {}

    def bias(table, queries, keys, both=False):
        relative = np.arange(int(keys[0]))[None] - np.arange(int(queries[0]))[:, None]
        count = table.shape[0] // 2 if both else table.shape[0]
        distance = np.abs(relative) if both else -np.minimum(relative, 0)
        exact = count // 2
        far = exact + (np.log(np.maximum(distance, 1) / exact) / math.log(20 / exact) * (count - exact)).astype(int)
        bucket = np.where(distance < exact, distance, np.minimum(far, count - 1)) + (relative > 0) * (count if both else 0)
        return [table[bucket].transpose(2, 0, 1)[None].copy()]

    lengths = [np.array([11], np.int64), np.array([11], np.int64)]
    options = {"constants": [1, 2], "reference": bias}
    yield "RelativePositionBias", "RelativePositionBias", [d.f32(8, 3), *lengths], {"max_distance": 20}, options
    both = dict(options, reference=lambda *args: bias(*args, both=True))
    yield "RelativePositionBias_both", "RelativePositionBias", [d.f32(8, 3), *lengths], {"max_distance": 20, "is_bidirectional": 1}, both

    def gated(q, q_bias, rel, w, b, eco):
        q = (q + q_bias).reshape(2, 5, 3, 4).transpose(0, 2, 1, 3)
        gates = 1 / (1 + np.exp(-(q @ w + b).reshape(2, 3, 5, 2, 4).sum(-1)))
        u, r = gates[..., :1], gates[..., 1:]
        return [((u * (r * eco - 1) + 2) * rel).astype(np.float32)]

    inputs = [d.f32(2, 5, 12), d.f32(12), d.f32(1, 3, 5, 5), d.f32(4, 8), d.f32(8), d.f32(1, 3, 1, 1)]
    yield "GatedRelativePositionBias", "GatedRelativePositionBias", inputs, {"num_heads": 3}, {"reference": gated}


# The rest.


@family
def indexing():
    d = Draw("indexing")
    yield "ExpandDims", "ExpandDims", [d.f32(3, 5), i32(-2)], {}, {"constants": [1]}
    yield "GatherND", "GatherND", [d.f32(3, 5, 2), d.ints(0, 3, 4, 2)], {}, {}
    yield "Trilu", "Trilu", [d.f32(2, 4, 5), np.array(1, np.int64)], {"upper": 0}, {}
    yield "Unique", "Unique", [np.array([2, 1, 1, 3, 4, 3], np.float32)], {}, {"outputs": 3}
    pads = np.array([1, 0, 2, 3], np.int64)
    yield "Pad", "Pad", [d.f32(3, 5), pads, f32(7)], {}, {"constants": [1]}
    yield "Pad_reflect", "Pad", [d.f32(4, 5), pads[None]], {"mode": "reflect"}, {"constants": [1]}
    yield "Range", "Range", [i32(3), i32(11)], {}, {"constants": [0, 1]}
    yield "Range_step", "Range", [f32(3), f32(11), f32(1.5)], {}, {"constants": [0, 1, 2]}
    yield "GridSample", "GridSample", [d.f32(2, 3, 5, 6), d.uniform(-1.2, 1.2, 2, 4, 3, 2)], {"mode": "bilinear"}, {}
    boxes, size = d.uniform(-0.1, 1.1, 5, 4), i32([3, 4])
    for mode in ("bilinear", "nearest"):
        inputs = [d.f32(2, 3, 7, 9), boxes, i32([0, 1, 1, 0, 1]), size]
        yield f"CropAndResize_{mode}", "CropAndResize", inputs, {"mode": mode, "extrapolation_value": 0.5}, {"constants": [3]}
    for metric in ("sqeuclidean", "euclidean"):
        yield f"CDist_{metric}", "CDist", [d.f32(5, 7), d.f32(3, 7)], {"metric": metric}, {}
    yield "Inverse", "Inverse", [d.f32(3, 5, 5)], {}, {"atol": 1e-3}
    yield "Inverse_zero_pivot", "Inverse", [f32([[0, 2, 1], [1, 0, 3], [4, 1, 0]])], {}, {}
    yield "UnfoldTensor", "UnfoldTensor", [d.f32(3, 11)], {"dim": 1, "size": 4, "step": 3}, {}
    ids = d.ints(0, 5, 3, 17)
    for n in (1, 2, 3):
        yield f"NGramRepeatBlock_{n}", "NGramRepeatBlock", [ids, d.f32(3, 5)], {"ngram_size": n}, {}
    finite = lambda *xs: [np.array(all(np.isfinite(x).all() for x in xs))]
    yield "IsAllFinite", "IsAllFinite", [d.f32(3, 5), d.f32(2)], {}, {"reference": finite}
    yield "IsAllFinite_not", "IsAllFinite", [d.f32(3, 5), f32([1, math.inf])], {}, {"reference": finite}

    def rfft(x):
        y = np.fft.rfft(x.astype(np.float64))
        return [np.stack([y.real, y.imag], -1).astype(np.float32)]

    yield "Rfft", "Rfft", [d.f32(3, 12)], {"signal_ndim": 1}, {"reference": rfft}
    irfft = lambda x: [np.fft.irfft(x[..., 0] + 1j * x[..., 1]).astype(np.float32)]
    yield "Irfft", "Irfft", [rfft(d.f32(3, 12))[0]], {"signal_ndim": 1}, {"reference": irfft}


@family
def channels_last():
    d = Draw("nhwc")
    to_first, to_last = (lambda x: x.transpose(0, 3, 1, 2)), (lambda x: x.transpose(0, 2, 3, 1).copy())
    x = d.i8(2, 7, 8, 3)
    pool = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 0, 1]}
    yield "NhwcMaxPool", "NhwcMaxPool", [x], pool, {}

    def standard(op, **attributes):
        def run(x, *rest):
            model = one_node(op, [to_first(x), *rest], attributes, {"domain": "", "opset": 17}, None)
            return [to_last(y) if y.ndim == 4 else y for y in run_model(model, [to_first(x), *rest])]

        return run

    image = d.f32(2, 7, 8, 4)
    filters, bias = d.f32(6, 4, 3, 3), d.f32(6)
    conv = {"strides": [2, 1], "pads": [1, 1, 0, 1]}
    reference = {"reference": standard("Conv", **conv)}
    yield "NhwcConv", "NhwcConv", [image, filters, bias], conv, reference
    internal = {"domain": "com.ms.internal.nhwc", "version": 17}
    yield "internal_Conv", "Conv", [image, filters, bias], conv, dict(reference, **internal)
    yield "internal_MaxPool", "MaxPool", [image], pool, dict(internal, reference=standard("MaxPool", **pool))
    yield "internal_AveragePool", "AveragePool", [image], pool, dict(internal, reference=standard("AveragePool", **pool))
    yield "internal_GlobalAveragePool", "GlobalAveragePool", [image], {}, dict(internal, reference=standard("GlobalAveragePool"))
    up = {"strides": [2, 2]}
    yield "internal_ConvTranspose", "ConvTranspose", [image, d.f32(4, 3, 2, 2)], up, dict(internal, reference=standard("ConvTranspose", **up))


def one_node(op, inputs, attributes, options, outputs):
    """A model of one node; inputs whose numbers are among the constants become initialisers."""
    domain, constants = options.get("domain", MICROSOFT), set(options.get("constants", ()))
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    wanted = options.get("outputs", 1)
    wanted = list(range(wanted)) if isinstance(wanted, int) else wanted
    results = [f"y{i}" if i in wanted else "" for i in range(max(wanted) + 1)]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    tensors = [onnx.numpy_helper.from_array(x, name) for i, (x, name) in enumerate(zip(inputs, names)) if x is not None and i in constants]
    info = lambda x, name: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    free = [info(x, name) for i, (x, name) in enumerate(zip(inputs, names)) if x is not None and i not in constants]
    results = [name for name in results if name]
    if outputs is None:
        declared = [helper.make_empty_tensor_value_info(name) for name in results]
    else:
        declared = [info(y, name) for y, name in zip(outputs, results)]
    graph = helper.make_graph([node], op, free, declared, tensors)
    opsets = [helper.make_opsetid("", options.get("opset", 17))]
    if domain:
        opsets.append(helper.make_opsetid(domain, options.get("version", 1)))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run_model(model, inputs):
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    given = [x for x in inputs if x is not None]
    names = [value.name for value in session.get_inputs()]
    feed = {f"x{i}": x for i, x in enumerate(inputs) if x is not None}
    assert len(given) >= len(names)
    return session.run(None, {name: feed[name] for name in names})


def all_cases():
    """(name, model, inputs, outputs, rtol, atol) of every case; inputs are those that are no constants."""
    onnxruntime.set_default_logger_severity(4)
    for function in CASES:
        for name, op, inputs, attributes, options in function():
            if "reference" in options:
                outputs = options["reference"](*[x for x in inputs if x is not None])
            else:
                outputs = run_model(one_node(op, inputs, attributes, options, None), inputs)
            outputs = options.get("finish", list)([np.asarray(y) for y in outputs])
            model = one_node(op, inputs, attributes, options, outputs)
            constants = set(options.get("constants", ()))
            free = [x for i, x in enumerate(inputs) if x is not None and i not in constants]
            yield name, model, free, outputs, options.get("rtol", 1e-4), options.get("atol", 1e-5)
