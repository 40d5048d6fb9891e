"""The other operators of com.microsoft: indices, layouts, texts."""
import math

import numpy as np

from contrib.build import Draw, f32, family, i8, i32, one_node, run_model, u8


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
    inputs = [d.f32(7, 4), d.ints(0, 7, 2, 3)]
    yield "TorchEmbedding", "TorchEmbedding", inputs, {}, {"reference": lambda table, ids: [table[ids]]}
    padded = [*inputs, np.array(2, np.int64), np.array(False)]
    options = {"reference": lambda table, ids, *_: [table[ids]], "constants": [2, 3]}
    yield "TorchEmbedding_padding", "TorchEmbedding", padded, {}, options
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

    def standard(op, domain="", **attributes):
        def run(x, *rest):
            model = one_node(op, [to_first(x), *rest], attributes, {"domain": domain, "opset": 17}, None)
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
    fused = dict(conv, activation="LeakyRelu", activation_params=[0.1])
    options = {"reference": standard("FusedConv", "com.microsoft", **fused)}
    yield "NhwcFusedConv", "NhwcFusedConv", [image, filters, bias], fused, options

    def with_sum(x, w, b, z):
        y = standard("Conv", **conv)(x, w, b)[0] + z
        return [np.maximum(y, 0)]

    inputs = [image, filters, bias, d.f32(2, 3, 8, 6)]
    yield "NhwcFusedConv_sum", "NhwcFusedConv", inputs, dict(conv, activation="Relu"), {"reference": with_sum}
    channels = [d.f32(4), d.f32(4)]
    for op, more, attributes in [
        ("BatchNormalization", [*channels, d.f32(4), d.uniform(0.5, 2, 4)], {"epsilon": 1e-3}),
        ("DepthToSpace", [], {"blocksize": 2, "mode": "CRD"}),
        ("GlobalLpPool", [], {"p": 3}),
        ("GlobalMaxPool", [], {}),
        ("GridSample", [d.uniform(-1.2, 1.2, 2, 3, 5, 2)], {"padding_mode": "border"}),
        ("InstanceNormalization", channels, {}),
        ("LRN", [], {"size": 3, "alpha": 0.5}),
        ("LpPool", [], dict(pool, p=3)),
        ("SpaceToDepth", [], {"blocksize": 2}),
    ]:
        own = d.f32(2, 6, 8, 4) if op == "SpaceToDepth" else image
        yield f"internal_{op}", op, [own, *more], attributes, dict(internal, reference=standard(op, **attributes))
    codes, scales = d.u8(2, 7, 8, 4), [f32(0.02), u8(110), f32(0.03), u8(100)]
    averaged = standard("QLinearAveragePool", "com.microsoft", **pool)
    yield "internal_QLinearAveragePool", "QLinearAveragePool", [codes, *scales], pool, dict(internal, atol=1.0, reference=averaged)
    inputs = [codes, *scales[:2], d.i8(6, 4, 3, 3), f32(0.01), i8(0), *scales[2:], d.ints(-999, 999, 6, dtype=np.int32)]
    options = dict(internal, atol=1.0, constants=range(1, 9), reference=standard("QLinearConv", **conv))
    yield "internal_QLinearConv", "QLinearConv", inputs, conv, options


@family
def text():
    texts = np.array([["Hello World", "a bc  def"], ["", "über, alles; x"]], dtype=object)
    base = {"mark": 0, "mincharnum": 1, "pad_value": "#"}
    for name, attributes in [
        ("", {"separators": [" "]}),
        ("_several", {"separators": [" ", ",", ";"], "mark": 1}),
        ("_expression", {"tokenexp": "[a-zA-Z]+"}),
        ("_characters", {"separators": [""]}),
        ("_long", {"separators": [" "], "mincharnum": 3}),
    ]:
        yield f"Tokenizer{name}", "Tokenizer", [texts], dict(base, **attributes), {}
    d = Draw("hash")
    numbers = [d.ints(-99, 99, 3, 5, dtype=np.int32), d.ints(-(10**12), 10**12, 7), d.f32(5)]
    for name, x in zip(["i32", "i64", "f32", "text"], [*numbers, np.array(["", "abc", "abcd", "Tarsia ü"], dtype=object)]):
        for positive in (0, 1):
            yield f"MurmurHash3_{name}_{positive}", "MurmurHash3", [x], {"positive": positive, "seed": 7}, {}
    d = Draw("words")
    words = i32([[[1, 2, 3, 4, 5, 6], [3, 4, 5, 0, 0, 0], [2, 1, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 0], [0, 3, 4, 5, 0, 0], [4, 0, 5, 6, 0, 0]]])
    inputs = [words, d.f32(5, 1, 3, 4), d.f32(5), d.f32(9, 4)]
    attributes = {"conv_window_size": 3, "embedding_size": 5, "char_embedding_size": 4}
    for name, x in [("", words[0]), ("_padded", words[1])]:
        # onnxruntime leaves what stands for a word that starts with padding as it happens to be.
        finish = lambda outputs, x=x: [np.where(x[:, :1] > 0, outputs[0], 0)]
        yield f"WordConvEmbedding{name}", "WordConvEmbedding", [x, *inputs[1:]], attributes, {"finish": finish}


@family
def bifurcation():
    source, op = np.array([1, 5, 3, 1, 5, 4], np.int64), "BifurcationDetector"
    vector = lambda *x: np.array(x, np.int64)
    start = lambda x: np.array(x, np.int64)
    sizes = {"min_ngram_size": 1, "max_ngram_size": 3}
    for name, tokens in [("several", [2, 1, 5]), ("longer", [3, 1, 5]), ("one", [7, 4]), ("none", [7, 9])]:
        yield f"{op}_{name}", op, [source, vector(*tokens), start(0)], sizes, {"outputs": 2}
    for name, predicted in [("differs", [3, 1, 5, 8, 8]), ("at_once", [9, 1, 5, 4, 2]), ("same", [3, 1, 5, 4, 2])]:
        inputs = [source, vector(7, 5), start(2), vector(*predicted)]
        yield f"{op}_{name}", op, inputs, {"min_ngram_size": 2, "max_ngram_size": 4}, {"outputs": 2}


@family
def masked_pools():
    op = "MaxpoolWithMask"
    for shape, kernel, strides, pads in [
        ((2, 3, 7), [3], [2], [1, 1]),
        ((2, 3, 5, 6), [2, 3], [1, 2], [1, 0, 0, 1]),
        ((1, 2, 3, 4, 5), [2, 2, 2], [1, 1, 2], [0, 0, 1, 1, 0, 0]),
    ]:
        name = f"{op}_{len(kernel)}d"
        d = Draw(name)
        mask = (d.ints(0, 4, 1, 1, *shape[2:]) > 0).astype(np.int32)
        yield name, op, [d.f32(*shape), mask], {"kernel_shape": kernel, "strides": strides, "pads": pads}, {}
