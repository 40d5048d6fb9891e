"""What the cases are made with: random arrays, models of one node, and onnxruntime to run them."""
import hashlib

import numpy as np
import onnx
import onnx.reference
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


def quantise(x, scale, zero, dtype):
    info = np.iinfo(dtype)
    return np.clip(np.rint(x / scale) + zero, info.min, info.max).astype(dtype)


def pack(codes, bits):
    """Codes along the last axis as bytes, the low ones first."""
    flat = ((codes[..., None].astype(np.int64) >> np.arange(bits)) & 1).reshape(*codes.shape[:-1], -1)
    flat = np.concatenate([flat, np.zeros((*flat.shape[:-1], -flat.shape[-1] % 8), np.int64)], -1)
    return (flat.reshape(*flat.shape[:-1], -1, 8) << np.arange(8)).sum(-1).astype(np.uint8)


def blocked(d, n, k, block, bits):
    blocks = -(-k // block)
    codes = d.ints(0, 2**bits, n, blocks, block)
    return pack(codes, bits), codes, d.uniform(0.01, 0.1, n, blocks)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Sequence(list):
    """A sequence of tensors of one rank, which may be empty."""

    def __init__(self, items, dtype=np.float32):
        super().__init__(items)
        self.element = np.asarray(items[0]).dtype if items else np.dtype(dtype)
        self.rank = np.ndim(items[0]) if items else 1


class Maybe:
    """An optional value that is there."""

    def __init__(self, value):
        self.value = value


def element(dtype):
    return onnx.TensorProto.STRING if dtype == object else helper.np_dtype_to_tensor_dtype(dtype)


def type_of(x):
    """The type of a tensor (with its sizes), a sequence, or an optional value."""
    if isinstance(x, Maybe):
        return helper.make_optional_type_proto(type_of(x.value))
    if isinstance(x, Sequence):
        return helper.make_sequence_type_proto(helper.make_tensor_type_proto(element(x.element), [None] * x.rank))
    return helper.make_tensor_type_proto(element(x.dtype), x.shape)


def one_node(op, inputs, attributes, options, outputs):
    """A model of one node and those of the option `before`; inputs whose numbers are among the constants become initialisers, sparse
    ones where the option `sparse` names them."""
    domain, constants = options.get("domain", MICROSOFT), set(options.get("constants", ()))
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    wanted = options.get("outputs", 1)
    wanted = list(range(wanted)) if isinstance(wanted, int) else wanted
    results = [f"y{i}" if i in wanted else "" for i in range(max(wanted) + 1)]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    given = [(i, x, name) for i, (x, name) in enumerate(zip(inputs, names)) if x is not None]
    sparse = set(options.get("sparse", ()))
    tensors = [onnx.numpy_helper.from_array(x, name) for i, x, name in given if i in constants - sparse]
    free = [helper.make_value_info(name, type_of(x)) for i, x, name in given if i not in constants]
    results = [name for name in results if name]
    if outputs is None:
        declared = [helper.make_empty_tensor_value_info(name) for name in results]
    else:
        declared = [helper.make_value_info(name, type_of(y)) for y, name in zip(outputs, results)]
    coordinates = [coordinate(x, name) for i, x, name in given if i in sparse]
    graph = helper.make_graph([*options.get("before", []), node], op, free, declared, tensors, sparse_initializer=coordinates)
    opsets = [helper.make_opsetid("", options.get("opset", 17))]
    if domain:
        opsets.append(helper.make_opsetid(domain, options.get("version", 1)))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def coordinate(x, name):
    """A sparse tensor in the coordinate format."""
    places = np.flatnonzero(x).astype(np.int64)
    values = onnx.numpy_helper.from_array(x.reshape(-1)[places], name)
    return helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(places, name + "_places"), x.shape)


def run_model(model, inputs):
    """What onnxruntime gives."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    given = [x for x in inputs if x is not None]
    names = [value.name for value in session.get_inputs()]
    feed = {f"x{i}": x for i, x in enumerate(inputs) if x is not None}
    assert len(given) >= len(names)
    return session.run(None, {name: feed[name] for name in names})


def evaluated(model, inputs):
    """What ONNX's reference evaluation gives."""
    evaluator = onnx.reference.ReferenceEvaluator(model)
    return evaluator.run(None, {name: inputs[int(name[1:])] for name in evaluator.input_names})
