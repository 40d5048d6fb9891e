"""Operators of com.microsoft that an optimiser fuses: products, activations, normalisation."""
import math

import numpy as np

from contrib.build import Draw, f32, family, i32, softmax, u8


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

    def bits(x, b, r=0):
        return [x + b + r, np.full(-(-x.size // 32), 2**32 - 1, np.uint32)]

    yield "BitmaskBiasDropout", "BitmaskBiasDropout", [x, bias, d.f32(3, 5, 8)], {}, {"reference": bits, "outputs": 2}
    dropped = [d.f32(2, 16), d.f32(16)]
    yield "BitmaskBiasDropout_no_residual", "BitmaskBiasDropout", dropped, {}, {"reference": bits, "outputs": 2}
    kept = lambda x: bits(x, 0)
    yield "BitmaskDropout", "BitmaskDropout", [d.f32(5, 11)], {}, {"reference": kept, "outputs": 2}
    gemm = lambda x, w: [(lambda y: 0.5 * y * (1 + np.tanh(0.7978845608 * (y + 0.044715 * y**3))))(x @ w).astype(np.float32)]
    yield "GemmFastGelu", "GemmFastGelu", [d.f32(3, 7), d.f32(7, 5)], {}, {"reference": gemm}

    def complex_mul(a, b):
        c = (a[..., 0] + 1j * a[..., 1]) * (b[..., 0] + 1j * b[..., 1])
        return [np.stack([c.real, c.imag], -1).astype(np.float32)]

    conjugate = lambda a, b: complex_mul(a, b * np.array([1, -1], np.float32))
    yield "ComplexMulConj", "ComplexMulConj", [d.f32(3, 5, 2), d.f32(5, 2)], {}, {"reference": conjugate}
    yield "ComplexMul", "ComplexMul", [d.f32(3, 5, 2), d.f32(3, 5, 2)], {}, {"reference": complex_mul}
    yield "GatedAdd", "GatedAdd", [x, d.f32(3, 5, 8), d.f32(3, 5, 1)], {}, {}
    yield "LinearAttentionGate", "LinearAttentionGate", [d.f32(2, 3, 4), d.f32(4), d.f32(4), d.f32(2, 3, 4)], {}, {"outputs": 2}


@family
def gated():
    d = Draw("gated")
    gate, up = d.f32(3, 5, 8, scale=3.0), d.f32(3, 5, 8, scale=3.0)

    def swiglu(gate, up=None, alpha=1.0, beta=0.0, limit=0.0):
        if up is None:
            gate, up = np.split(gate, 2, -1)
        if limit > 0:
            gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
        return [(gate / (1 + np.exp(-alpha * gate)) * (up + beta)).astype(np.float32)]

    yield "SwiGLU", "SwiGLU", [gate, up], {}, {"reference": swiglu}
    yield "SwiGLU_joined", "SwiGLU", [gate], {}, {"reference": swiglu}
    clamped = lambda *x: swiglu(*x, alpha=1.7, beta=1.0, limit=2.0)
    attributes = {"activation_alpha": 1.7, "activation_beta": 1.0, "limit": 2.0}
    yield "SwiGLU_clamped", "SwiGLU", [gate, up], attributes, {"reference": clamped}


@family
def sparse():
    d = Draw("sparse")
    a = np.where(d.ints(0, 3, 5, 7) == 0, d.f32(5, 7), 0).astype(np.float32)
    options = {"constants": [0], "sparse": [0]}
    plain = dict(options, reference=lambda a, b: [a @ b])
    yield "SparseToDenseMatMul", "SparseToDenseMatMul", [a, d.f32(7, 3)], {}, plain
    turned = dict(options, reference=lambda a, b: [(0.5 * (a.T @ b.T)).astype(np.float32)])
    attributes = {"transA": 1, "transB": 1, "alpha": 0.5}
    yield "SparseToDenseMatMul_transposed", "SparseToDenseMatMul", [a, d.f32(3, 5)], attributes, turned


@family
def norms():
    d = Draw("norms")
    x, skip, gamma, beta, bias = d.f32(2, 3, 16), d.f32(2, 3, 16), d.f32(16), d.f32(16), d.f32(16)
    yield "SkipLayerNormalization", "SkipLayerNormalization", [x, skip, gamma, beta, bias], {}, {}
    yield "SkipLayerNormalization_sum", "SkipLayerNormalization", [x, skip, gamma, beta], {"epsilon": 1e-5}, {"outputs": [0, 3]}
    yield "SkipLayerNormalization_one_skip", "SkipLayerNormalization", [x, skip[0], gamma], {}, {}
    yield "SkipSimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", [x, skip, gamma, bias], {"epsilon": 1e-5}, {"outputs": [0, 3]}
    yield "SimplifiedLayerNormalization", "SimplifiedLayerNormalization", [x, gamma], {"axis": -1, "epsilon": 1e-5}, {"domain": ""}
    rms = lambda x, g: [(x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-5) * g).astype(np.float32)]
    attributes = {"axis": -1, "epsilon": 1e-5}
    yield "SimplifiedLayerNormalization_microsoft", "SimplifiedLayerNormalization", [x, gamma], attributes, {"reference": rms}
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
