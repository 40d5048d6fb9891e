"""Operators of ONNX's own domain that its cases do not have alone: random numbers, sequences, some pools, gradients."""

import numpy as np
from onnx import helper

from contrib.build import Draw, Maybe, Sequence, evaluated, f32, family, one_node

ONNX = {"domain": "", "opset": 22}
# The newest that onnxruntime has all of these in.
RUN = {"domain": "", "opset": 17}


@family
def random_numbers():
    """With a seed, numbers are those of NumPy's RandomState, as in ONNX's reference evaluation. Without one they are our own: here
    the first two elements of what is expected are the bounds."""
    shape, like = {"shape": [3, 5, 7]}, np.zeros((3, 5, 7), np.float32)
    bounds = lambda low, high: lambda *_: [np.resize(np.array([low, high], np.float32), (3, 5, 7))]
    for op, attributes, low, high in [
        ("RandomNormal", {"mean": 2.0, "scale": 0.5}, 2 - 0.5 * 9, 2 + 0.5 * 9),
        ("RandomUniform", {"low": -3.0, "high": 5.0}, -3, 5),
    ]:
        for form, inputs, more in [("", [], shape), ("Like", [like], {})]:
            own = dict(attributes, **more)
            seeded = dict(own, seed=7.0)

            def drawn(*inputs, op=op + form, seeded=seeded):
                return evaluated(one_node(op, inputs, seeded, ONNX, None), inputs)

            yield f"{op}{form}_seeded", op + form, inputs, seeded, dict(ONNX, reference=drawn)
            yield f"{op}{form}", op + form, inputs, own, dict(ONNX, reference=bounds(low, high), random=True)
        double = dict(attributes, seed=3.0, dtype=11, **shape)

        def drawn(op=op, double=double):
            return evaluated(one_node(op, [], double, ONNX, None), [])

        yield f"{op}_f64", op, [], double, dict(ONNX, reference=drawn)


@family
def multinomial():
    # Whatever is drawn, a class without probability does not come, and one that has all of it does.
    d = Draw("multinomial")
    certain = d.ints(0, 5, 4)
    logits = np.full((4, 5), -np.inf, np.float32)
    logits[np.arange(4), certain] = 0
    only = lambda x: [np.repeat(certain[:, None], 6, 1).astype(np.int32)]
    yield "Multinomial_certain", "Multinomial", [logits], {"sample_size": 6}, dict(ONNX, reference=only)
    classes = lambda x: [np.resize(np.array([1, 3], np.int64), (3, 50))]
    open_classes = np.where([False, True, True, True, False], d.f32(3, 5), -np.inf).astype(np.float32)
    attributes = {"sample_size": 50, "dtype": 7}
    yield "Multinomial", "Multinomial", [open_classes], attributes, dict(ONNX, reference=classes, random=True)

    def gumbel(x):
        """The class whose log-probability and noise have the largest sum (Gumbel 1954), with the noise of the seed's stream."""
        u = np.random.RandomState(5).rand(3, 50, 4).astype(np.float32)
        return [(x[:, None, :] - np.log(-np.log(u))).argmax(-1).astype(np.int32)]

    yield "Multinomial_seeded", "Multinomial", [d.f32(3, 4)], {"sample_size": 50, "seed": 5.0}, dict(ONNX, reference=gumbel)


@family
def pools():
    d = Draw("standard pools")
    x = d.f32(2, 3, 7, 9)
    for p in (1, 2, 3):
        yield f"GlobalLpPool_{p}", "GlobalLpPool", [x], {"p": p}, RUN
    regions = f32([[0, 0, 0, 8, 6], [1, 1, 2, 5, 4], [1, 3, 3, 3, 3], [0, 2, 1, 7, 6]])
    for shape, scale in [([2, 3], 1.0), ([1, 1], 0.5), ([3, 2], 1.4)]:
        attributes = {"pooled_shape": shape, "spatial_scale": scale}
        yield f"MaxRoiPool_{shape[0]}x{shape[1]}", "MaxRoiPool", [x, regions], attributes, RUN


@family
def sequences():
    d = Draw("sequences")
    whole = Sequence([d.f32(3, 2), d.f32(5, 2), d.f32(1, 2)])
    even = Sequence([d.f32(3, 2), d.f32(3, 2)])
    integers = Sequence([d.ints(-9, 9, 4), d.ints(-9, 9, 2)])
    at = lambda place: np.array(place, np.int64)
    for name, place in [("first", 0), ("last", -1)]:
        yield f"SequenceAt_{name}", "SequenceAt", [whole, at(place)], {}, ONNX
        yield f"SequenceErase_{name}", "SequenceErase", [whole, at(place)], {}, ONNX
    yield "SequenceAt_constant", "SequenceAt", [integers, at(1)], {}, dict(ONNX, constants=[1])
    yield "SequenceErase", "SequenceErase", [integers], {}, ONNX
    yield "SequenceLength", "SequenceLength", [whole], {}, ONNX
    yield "SequenceLength_empty", "SequenceLength", [Sequence([])], {}, dict(ONNX, reference=lambda x: [at(0)])
    yield "SequenceConstruct", "SequenceConstruct", list(whole), {}, ONNX
    yield "SequenceConstruct_integers", "SequenceConstruct", list(integers), {}, ONNX
    yield "SequenceEmpty", "SequenceEmpty", [], {"dtype": 1}, dict(ONNX, reference=lambda: [Sequence([])])
    yield "ConcatFromSequence", "ConcatFromSequence", [whole], {"axis": 0}, ONNX
    yield "ConcatFromSequence_new_axis", "ConcatFromSequence", [even], {"axis": -1, "new_axis": 1}, ONNX
    there = dict(ONNX, reference=lambda x: [Maybe(x)])
    yield "Optional", "Optional", [d.f32(3, 2)], {}, there
    yield "Optional_sequence", "Optional", [whole], {}, there


@family
def gradients():
    """Gradients beside central differences in f64."""
    d = Draw("gradients")
    training = {"domain": "ai.onnx.preview.training", "opset": 22, "atol": 1e-3, "rtol": 1e-3}

    def differences(function, count):
        def run(*inputs):
            inputs = [x.astype(np.float64) for x in inputs]
            results = []
            for x in inputs[:count]:
                result = np.zeros(x.shape)
                for place in np.ndindex(x.shape):
                    kept, step = x[place], 1e-5
                    x[place] = kept + step
                    after = function(*inputs).sum()
                    x[place] = kept - step
                    result[place] = (after - function(*inputs).sum()) / (2 * step)
                    x[place] = kept
                results.append(result.astype(np.float32))
            return results

        return run

    dense = [
        helper.make_node("MatMul", ["x0", "x1"], ["product"]),
        helper.make_node("Tanh", ["product"], ["bounded"]),
        helper.make_node("Mul", ["bounded", "bounded"], ["z"]),
    ]
    square = lambda x, w: np.tanh(x @ w) ** 2
    options = dict(training, before=dense, outputs=2, reference=differences(square, 2))
    yield "Gradient_dense", "Gradient", [d.f32(3, 4), d.f32(4, 2)], {"xs": ["x0", "x1"], "y": "z"}, options
    norm = [
        helper.make_node("ReduceMean", ["x0"], ["mean"], axes=[1]),
        helper.make_node("Sub", ["x0", "mean"], ["centred"]),
        helper.make_node("Exp", ["centred"], ["grown"]),
        helper.make_node("Div", ["grown", "x1"], ["z"]),
    ]
    grown = lambda x, s: np.exp(x - x.mean(1, keepdims=True)) / s
    options = dict(training, opset=17, before=norm, reference=differences(grown, 1))
    yield "Gradient_of_one", "Gradient", [d.f32(3, 4), d.uniform(1, 2, 4)], {"xs": ["x0"], "zs": ["x1"], "y": "z"}, options


@family
def texts():
    words = np.array([["a", "bc", ""], ["def", "g", "ü"], ["h", "ij", "k"], ["l", "m", "no"]], dtype=object)
    new = np.array([["x", "yz", "w"], ["v", "u", ""]], dtype=object)
    yield "ScatterND_texts", "ScatterND", [words, np.array([[2], [0]], np.int64), new], {}, ONNX
    places = np.array([[3, 1], [0, 2]], np.int64)
    yield "ScatterND_texts_elements", "ScatterND", [words, places, np.array(["p", "q"], dtype=object)], {}, ONNX
    indices = np.array([[3, -4, 0], [1, 2, -1]], np.int64)
    yield "ScatterElements_texts", "ScatterElements", [words, indices, new], {"axis": 0}, ONNX
    yield "ScatterElements_texts_last", "ScatterElements", [words, np.array([[2], [0]]), new[:, :1].copy()], {"axis": 1}, ONNX
