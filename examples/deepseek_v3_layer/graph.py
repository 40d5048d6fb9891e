"""The layer as torch.onnx spells it, operator by operator."""
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OUTPUTS = ["hidden_states_out", "present.0.key", "present.0.value"]
LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Weight:
    """A weight to be filled in; `inner` is the length of its dot products, None for a factor near one."""

    name: str
    dtype: int
    shape: tuple
    inner: int | None


class Builder:
    """Nodes in order. An operator is a method: `b.MatMul(x, y, axis=1)` gives the name of its result."""

    def __init__(self, dtype):
        self.dtype, self.nodes, self.constants, self.weights = dtype, [], {}, []

    def __getattr__(self, op_type):
        return lambda *inputs, results=1, name=None, **attributes: self.add(op_type, inputs, results, name, attributes)

    def add(self, op_type, inputs, results, name, attributes):
        inputs = [self.ints(*x) if isinstance(x, list) else x for x in inputs]
        number = len(self.nodes)
        outputs = [name or f"{op_type.lower()}_{number}"] if results == 1 else [f"{op_type.lower()}_{number}_{i}" for i in range(results)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=f"node_{outputs[0]}", **attributes))
        return outputs[0] if results == 1 else outputs

    def constant(self, value, dtype):
        tensor = numpy_helper.from_array(np.asarray(value, helper.tensor_dtype_to_np_dtype(dtype)))
        key = tensor.SerializeToString()
        if key not in self.constants:
            tensor.name = f"val_{len(self.constants)}"
            self.constants[key] = tensor
        return self.constants[key].name

    def ints(self, *values):
        return self.constant(np.array(values), INT64)

    def weight(self, name, *shape, inner=None, dtype=None):
        self.weights.append(Weight(name, dtype or self.dtype, shape, inner))
        return name

    def matrix(self, x, name, rows, columns):
        """A linear layer, whose weight the exporter has transposed."""
        return self.MatMul(x, self.weight(name, rows, columns, inner=rows))

    def widened(self, x):
        """From the type of activations to f32."""
        return x if self.dtype == FLOAT else self.Cast(x, to=FLOAT)

    def back(self, x):
        """From f32 to the type of activations."""
        return x if self.dtype == FLOAT else self.Cast(x, to=self.dtype)

    def slice(self, x, axis, start, end=LAST, step=1):
        return self.Slice(x, [start], [end], [axis], [step])

    def silu(self, x):
        return self.Mul(x, self.Sigmoid(x))


def layer(config, dtype, experts):
    """The model without its weights, and the weights."""
    b = Builder(dtype)
    c = config
    sizes = Sizes(b)
    mask = causal_mask(b, sizes)
    x = norm(b, c, "hidden_states", "input_layernorm", c.hidden_size)
    x = b.Add("hidden_states", attention(b, c, sizes, x, mask))
    normed = norm(b, c, x, "post_attention_layernorm", c.hidden_size)
    tokens = b.Reshape(normed, [-1, c.hidden_size], allowzero=1)
    chosen, shares = routing(b, c, tokens)
    mixed = {"batched_mm": batched_experts, "dense_bmm": dense_experts}[experts](b, c, tokens, chosen, shares)
    mixed = b.Reshape(mixed, b.Concat(sizes.batch, sizes.seq, [c.hidden_size], axis=0), allowzero=1)
    b.Add(x, b.Add(mixed, shared_expert(b, c, normed)), name=OUTPUTS[0])
    value = helper.make_tensor_value_info
    inputs = [
        value("hidden_states", dtype, ["batch", "seq", c.hidden_size]),
        value("attention_mask", INT64, ["batch", "total_len"]),
        value("position_ids", INT64, ["batch", "seq"]),
        value("past_key_values.0.key", dtype, ["batch", 1, "past_len", c.kv_lora_rank]),
        value("past_key_values.0.value", dtype, ["batch", 1, "past_len", c.qk_rope_head_dim]),
    ]
    outputs = [
        value(OUTPUTS[0], dtype, ["batch", "seq", c.hidden_size]),
        value(OUTPUTS[1], dtype, ["batch", 1, "past_len + seq", c.kv_lora_rank]),
        value(OUTPUTS[2], dtype, ["batch", 1, "past_len + seq", c.qk_rope_head_dim]),
    ]
    graph = helper.make_graph(b.nodes, "deepseek_v3_layer", inputs, outputs, list(b.constants.values()))
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="make.py"), b.weights


class Sizes:
    """Sizes of the inputs, as tensors of one element."""

    def __init__(self, b):
        self.batch = b.Shape("past_key_values.0.value", start=0, end=1)
        self.seq = b.Shape("hidden_states", start=1, end=2)
        past = b.Shape("past_key_values.0.key", start=2, end=3)
        self.past_scalar, self.seq_scalar = b.Squeeze(past), b.Squeeze(self.seq)
        self.total_scalar = b.Add(self.past_scalar, self.seq_scalar)
        self.total = b.Reshape(self.total_scalar, [-1], allowzero=0)


def norm(b, c, x, name, size):
    x = b.widened(x)
    mean = b.ReduceMean(b.Pow(x, b.constant(2.0, FLOAT)), [-1], keepdims=1, noop_with_empty_axes=0)
    root = b.Reciprocal(b.Sqrt(b.Add(mean, b.constant(c.rms_norm_eps, FLOAT))))
    return b.Mul(b.weight(name, size), b.back(b.Mul(x, root)))


def causal_mask(b, sizes):
    """Zero where a query sees a key, else the lowest number: by order, and by the attention mask looked up per element."""
    zero, one = b.constant(0, INT64), b.constant(1, INT64)
    batch = b.Range(zero, b.Squeeze(sizes.batch), one)
    rows = b.Add(b.Range(zero, sizes.seq_scalar, one), sizes.past_scalar)
    keys = b.Range(zero, sizes.total_scalar, one)
    batch = b.Unsqueeze(b.Unsqueeze(batch, [1, 2]), [3])
    rows = b.Unsqueeze(b.Unsqueeze(rows, [0, 1]), [3])
    keys = b.Unsqueeze(b.Unsqueeze(keys, [0, 1]), [2])
    causal = b.And(b.constant(True, BOOL), b.LessOrEqual(keys, rows))
    both = b.Shape(b.Max(batch, keys), start=0)
    places = [b.Unsqueeze(b.Expand(x, both), [-1]) for x in (batch, keys)]
    given = b.GatherND(b.Cast("attention_mask", to=BOOL), b.Concat(*places, axis=-1), batch_dims=0)
    visible = b.Expand(b.And(causal, given), b.Concat(sizes.batch, [1], sizes.seq, sizes.total, axis=0))
    lowest = {FLOAT: np.finfo(np.float32).min, TensorProto.FLOAT16: -65504.0}.get(b.dtype, -3.3895314e38)
    return b.Where(visible, b.constant(0.0, b.dtype), b.constant(lowest, b.dtype))


def attention(b, c, sizes, x, mask):
    heads, nope, rope, rank = c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim, c.kv_lora_rank
    low = norm(b, c, b.matrix(x, "self_attn.q_a_proj", c.hidden_size, c.q_lora_rank), "self_attn.q_a_layernorm", c.q_lora_rank)
    queries = b.matrix(low, "self_attn.q_b_proj", c.q_lora_rank, heads * (nope + rope))
    queries = b.Reshape(queries, b.Concat(sizes.batch, sizes.seq, [-1], [nope + rope], axis=0), allowzero=1)
    queries = b.Transpose(queries, perm=[0, 2, 1, 3])
    plain, turning = b.Split(queries, [nope, rope], axis=3, results=2)
    compressed = b.matrix(x, "self_attn.kv_a_proj", c.hidden_size, rank + rope)
    latent, shared = b.Split(compressed, [rank, rope], axis=2, results=2)
    latent = norm(b, c, latent, "self_attn.kv_a_layernorm", rank)
    latent = b.Reshape(latent, b.Concat(sizes.batch, [1], sizes.seq, [rank], axis=0), allowzero=1)
    shared = b.Reshape(shared, b.Concat(sizes.batch, [1], sizes.seq, [rope], axis=0), allowzero=1)
    cos, sin = angles(b, c)
    latent = b.Concat("past_key_values.0.key", latent, axis=-2, name=OUTPUTS[1])
    shared = b.Concat("past_key_values.0.value", rotated(b, shared, cos, sin), axis=-2, name=OUTPUTS[2])
    queries = b.Concat(plain, rotated(b, turning, cos, sin), axis=-1)
    expanded = b.matrix(latent, "self_attn.kv_b_proj", rank, heads * (nope + c.v_head_dim))
    expanded = b.Reshape(expanded, b.Concat(sizes.batch, sizes.total, [-1], [nope + c.v_head_dim], axis=0), allowzero=1)
    keys, values = b.Split(b.Transpose(expanded, perm=[0, 2, 1, 3]), [nope, c.v_head_dim], axis=3, results=2)
    keys = joined_keys(b, c, sizes, keys, b.Expand(shared, [1, heads, 1, 1]))
    scores = b.Add(b.Mul(b.MatMul(queries, keys), b.constant(c.scale, b.dtype)), mask)
    result = b.Transpose(b.MatMul(b.Softmax(scores, axis=-1), values), perm=[0, 2, 1, 3])
    result = b.Reshape(result, b.Concat(sizes.batch, sizes.seq, [-1], axis=0), allowzero=1)
    return b.matrix(result, "self_attn.o_proj", heads * c.v_head_dim, c.hidden_size)


def angles(b, c):
    """Cosines and sines of the positions' angles."""
    angle = b.Mul(b.Cast(b.Unsqueeze("position_ids", [2]), to=FLOAT), b.constant(c.frequencies, FLOAT))
    both = b.Concat(angle, angle, axis=-1)
    half = c.qk_rope_head_dim // 2
    return [b.Unsqueeze(b.slice(b.back(f(both)), 2, 0, half), [1]) for f in (b.Cos, b.Sin)]


def rotated(b, x, cos, sin):
    even, odd = b.slice(x, 3, 0, step=2), b.slice(x, 3, 1, step=2)
    first = b.Sub(b.Mul(even, cos), b.Mul(odd, sin))
    return b.Concat(first, b.Add(b.Mul(odd, cos), b.Mul(even, sin)), axis=-1)


def joined_keys(b, c, sizes, plain, turned):
    """Both parts of the keys written into one tensor, as `keys[..., :n] = plain; keys[..., n:] = turned` is exported."""
    nope, width = c.qk_nope_head_dim, c.qk_nope_head_dim + c.qk_rope_head_dim
    shape = b.Concat(sizes.batch, [c.num_attention_heads], sizes.total, [width], axis=0)
    empty = helper.make_tensor("value", b.dtype, [1], [0.0])
    target = b.ConstantOfShape(shape, value=empty)
    for part, start, end in [(plain, 0, nope), (turned, nope, LAST)]:
        size = b.Gather(b.Shape(target, start=0), b.constant(3, INT64), axis=0)
        places = b.slice(b.Range(b.constant(0, INT64), size, b.constant(1, INT64)), 0, start, end)
        swapped = [b.Transpose(x, perm=[3, 1, 2, 0]) for x in (part, target)]
        target = b.ScatterND(swapped[1], b.Unsqueeze(places, [-1]), swapped[0], reduction="none")
        target = b.Transpose(target, perm=[3, 1, 2, 0] if part is plain else [3, 1, 0, 2])
    return target


def routing(b, c, tokens):
    """The experts of every token and their shares: the best of the best groups by biased score."""
    gate = b.weight("mlp.gate", c.n_routed_experts, c.hidden_size, inner=c.hidden_size, dtype=FLOAT)
    scores = b.Sigmoid(b.Gemm(b.widened(tokens), gate, alpha=1.0, beta=1.0, transA=0, transB=1))
    bias = b.weight("mlp.gate.e_score_correction_bias", c.n_routed_experts, inner=100, dtype=FLOAT)
    biased = b.Add(scores, bias)
    size = c.n_routed_experts // c.n_group
    two, _ = b.TopK(b.Reshape(biased, [-1, c.n_group, size], allowzero=1), [2], axis=-1, largest=1, sorted=1, results=2)
    worth = b.ReduceSum(two, [-1], keepdims=0, noop_with_empty_axes=0)
    _, groups = b.TopK(worth, [c.topk_group], axis=-1, largest=1, sorted=0, results=2)
    ones = helper.make_tensor("value", FLOAT, [1], [1.0])
    zeros = b.Expand(b.constant(0.0, FLOAT), b.Shape(worth, start=0))
    kept = b.ScatterElements(zeros, groups, b.ConstantOfShape(b.Shape(groups, start=0), value=ones), axis=1, reduction="none")
    kept = b.Expand(b.Unsqueeze(kept, [-1]), [1, c.n_group, size])
    kept = b.Cast(b.Reshape(kept, [-1, c.n_routed_experts], allowzero=1), to=BOOL)
    masked = b.Where(b.Not(kept), b.constant(-np.inf, FLOAT), biased)
    _, chosen = b.TopK(masked, [c.num_experts_per_tok], axis=-1, largest=1, sorted=0, results=2)
    shares = b.GatherElements(scores, chosen, axis=1)
    shares = b.Div(shares, b.ReduceSum(shares, [-1], keepdims=1, noop_with_empty_axes=0))
    return chosen, b.Mul(shares, b.constant(c.routed_scaling_factor, FLOAT))


def batched_experts(b, c, tokens, chosen, shares):
    """A whole weight gathered for every token and chosen expert, then batched products."""
    hidden, width, k = c.hidden_size, c.moe_intermediate_size, c.num_experts_per_tok
    repeated = b.Reshape(b.Expand(b.Unsqueeze(tokens, [1]), [1, k, 1]), [-1, hidden], allowzero=0)
    shares = b.Unsqueeze(b.Reshape(shares, [-1], allowzero=1), [-1])
    places = b.Unsqueeze(b.Reshape(chosen, [-1], allowzero=1), [-1])
    gate_up = b.weight("mlp.experts.gate_up_proj", c.n_routed_experts, 2 * width, hidden, inner=hidden)
    both = b.MatMul(b.GatherND(gate_up, places, batch_dims=0), b.Unsqueeze(repeated, [-1]))
    gate, up = b.Split(b.Squeeze(both, [-1]), axis=1, num_outputs=2, results=2)
    down = b.weight("mlp.experts.down_proj", c.n_routed_experts, hidden, width, inner=width)
    result = b.MatMul(b.GatherND(down, places, batch_dims=0), b.Unsqueeze(b.Mul(b.silu(gate), up), [-1]))
    weighted = b.Reshape(b.Mul(b.widened(b.Squeeze(result, [-1])), shares), [-1, k, hidden], allowzero=1)
    return b.back(b.ReduceSum(weighted, [1], keepdims=0, noop_with_empty_axes=0))


def dense_experts(b, c, tokens, chosen, shares):
    """All experts on all tokens, weighted by shares that are mostly zero."""
    hidden, width, count = c.hidden_size, c.moe_intermediate_size, c.n_routed_experts
    shape = b.Concat(b.Shape(tokens, start=0, end=1), [count], axis=0)
    zeros = b.Expand(b.constant(0.0, FLOAT), shape)
    shares = b.ScatterElements(zeros, chosen, shares, axis=1, reduction="none")
    gate_up = b.weight("mlp.experts.gate_up_proj", count, hidden, 2 * width, inner=hidden)
    both = b.MatMul(b.Unsqueeze(tokens, [0]), gate_up)
    gate, up = b.Split(both, axis=2, num_outputs=2, results=2)
    down = b.weight("mlp.experts.down_proj", count, width, hidden, inner=width)
    result = b.MatMul(b.Mul(b.silu(gate), up), down)
    weighted = b.Mul(b.widened(result), b.Unsqueeze(b.Transpose(shares, perm=[1, 0]), [2]))
    return b.back(b.ReduceSum(weighted, [0], keepdims=0, noop_with_empty_axes=0))


def shared_expert(b, c, x):
    hidden, width = c.hidden_size, c.moe_intermediate_size
    gate = b.silu(b.matrix(x, "mlp.shared_experts.gate_proj", hidden, width))
    up = b.matrix(x, "mlp.shared_experts.up_proj", hidden, width)
    return b.matrix(b.Mul(gate, up), "mlp.shared_experts.down_proj", width, hidden)
