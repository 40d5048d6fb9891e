"""Attention of com.microsoft in all its forms, and positions."""
import math

import numpy as np

from contrib.build import Draw, f32, family, i8, i32, one_node, run_model, softmax, u8


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
    step, one = [d.f32(batch, 1, width), w, bias], i32(np.ones((batch, 5)))
    one[1, :2] = 0

    def same(*inputs):
        inputs = [*inputs[:3], inputs[3] if len(inputs) == 5 else None, inputs[-1]]
        return run_model(one_node("Attention", inputs, {"num_heads": heads}, dict(constants, outputs=2), None), inputs)

    for name, mask in [("", None), ("_mask", one)]:
        options = dict(constants, outputs=2, reference=same)
        yield f"DecoderMaskedSelfAttention{name}", "DecoderMaskedSelfAttention", [*step, mask, past], {"num_heads": heads}, options
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
    for name, dtype, kind, width in [("i8", np.int8, "PER_TENSOR", size), ("i8_channels", np.int8, "PER_CHANNEL", size), ("u4", np.uint8, "PER_TENSOR", size // 2), ("u4_channels", np.uint8, "PER_CHANNEL", size // 2)]:
        d = Draw("gqa codes" + name)
        wide = 8 if dtype == np.int8 else 4
        scales = [d.uniform(0.02, 0.04, *([1] if kind == "PER_TENSOR" else [1, groups, 1, size])) * (1 if wide == 8 else 10) for _ in range(2)]
        for form, batch, length, past, totals in [("", 1, 3, 4, [7]), ("_buffer", 2, 1, 9, [5, 3])]:
            made = inputs(d, batch, length, past, totals)
            made[3:5] = [d.ints(-90, 90, batch, groups, past, width).astype(dtype) for _ in range(2)]
            made += [None] * 5 + scales
            more = dict(attributes, k_quant_type=kind, v_quant_type=kind, kv_cache_bit_width=wide)
            finish = lambda outputs, made=made, totals=totals: kept(outputs, made, totals)
            options = {"outputs": 3, "constants": [6], "finish": finish, "atol": 1e-4}
            yield f"GroupQueryAttention_{name}{form}", op, made, more, options
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

    def removed(x, counts):
        is_token = (np.arange(x.shape[1]) < counts[:, None]).reshape(-1)
        order = np.argsort(~is_token, kind="stable").astype(np.int32).reshape(x.shape[:2])
        sums = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return [x.reshape(-1, x.shape[2])[is_token], order, sums, np.array([counts.max()], np.int32)]

    yield "RemovePadding", "RemovePadding", [d.f32(3, 4, 5), i32([1, 2, 4])], {}, {"reference": removed, "outputs": 4}

    def restored(rows, offsets):
        whole = np.zeros((offsets.size, rows.shape[1]), np.float32)
        whole[offsets.reshape(-1)[: len(rows)]] = rows
        return [whole.reshape(*offsets.shape, -1)]

    yield "RestorePadding", "RestorePadding", [d.f32(7, 5), offsets], {}, {"reference": restored}
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

    angles, shape = d.uniform(-3, 3, 2, 5, 8), (2, 3, 5, 8)

    def gemma(angles, q, q_turned, k, k_turned):
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        return [q * cos + q_turned * sin, k * cos + k_turned * sin]

    inputs = [angles, *(d.f32(*shape) for _ in range(4))]
    yield "GemmaRotaryEmbedding", "GemmaRotaryEmbedding", inputs, {}, {"reference": gemma, "outputs": 2}


@family
def recurrent():
    """Linear attention and the convolution before it, step by step."""

    def conv(x, w, b, state, dilation=1, silu=False):
        whole = np.concatenate([state, x], 2)
        taps = range(w.shape[2])
        y = sum(whole[:, :, j * dilation : j * dilation + x.shape[2]] * w[:, 0, j][:, None] for j in taps) + b[:, None]
        y = y / (1 + np.exp(-y)) if silu else y
        return [y.astype(np.float32), whole[:, :, x.shape[2] :]]

    op, d = "CausalConvWithState", Draw("causal conv")
    x, w, b = d.f32(2, 6, 5), d.f32(6, 1, 4), d.f32(6)
    yield op, op, [x, w, b, d.f32(2, 6, 3)], {}, {"reference": conv, "outputs": 2}
    silu = lambda *given: conv(*given, silu=True)
    yield f"{op}_silu", op, [x, w, b, d.f32(2, 6, 3)], {"activation": "silu"}, {"reference": silu, "outputs": 2}
    dilated = lambda *given: conv(*given, dilation=2)
    yield f"{op}_dilated", op, [x, w, b, d.f32(2, 6, 6)], {"dilation": 2}, {"reference": dilated, "outputs": 2}

    def last(x, w, b, state):
        flat = lambda x: x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)
        y, after = conv(flat(x), w, b, flat(state))
        return [np.ascontiguousarray(y.transpose(0, 2, 1)).reshape(x.shape), after.transpose(0, 2, 1).reshape(state.shape)]

    inputs = [d.f32(2, 5, 2, 3), w, b, d.f32(2, 3, 2, 3)]
    yield f"{op}_channels_last", op, inputs, {"channels_last": 1}, {"reference": last, "outputs": 2}

    def attend(q, k, v, state, decay=None, beta=None, heads=(4, 2)):
        split = lambda x, count: x.astype(np.float64).reshape(*x.shape[:2], count, -1)
        q, k, v, state = split(q, heads[0]), split(k, heads[1]), split(v, heads[1]), state.astype(np.float64)
        share, results = heads[0] // heads[1], []
        for t in range(q.shape[1]):
            if decay is not None:
                state = state * np.exp(split(decay, heads[1])[:, t, :, :, None])
            new = v[:, t]
            if beta is not None:
                new = (new - np.einsum("bhkv,bhk->bhv", state, k[:, t])) * split(beta, heads[1])[:, t]
            state = state + k[:, t, :, :, None] * new[:, :, None]
            read = np.einsum("bhkv,bhk->bhv", np.repeat(state, share, 1), q[:, t]) / math.sqrt(q.shape[-1])
            results.append(read.reshape(q.shape[0], -1))
        return [np.stack(results, 1).astype(np.float32), state.astype(np.float32)]

    d = Draw("linear attention")
    q, k, v, state = d.f32(2, 5, 4 * 3), d.f32(2, 5, 2 * 3, scale=0.4), d.f32(2, 5, 2 * 4), d.f32(2, 2, 3, 4)
    decay, beta = -d.uniform(0, 1, 2, 5, 2), d.uniform(0, 1, 2, 5, 2)
    for rule, decays, corrects in [("linear", 0, 0), ("gated", 1, 0), ("delta", 0, 1), ("gated_delta", 1, 1)]:

        def reference(q, k, v, state, *rest, decays=decays):
            rest = list(rest)
            return attend(q, k, v, state, rest.pop(0) if decays else None, rest.pop(0) if rest else None)

        inputs = [q, k, v, state, decay if decays else None, beta if corrects else None]
        attributes = {"q_num_heads": 4, "kv_num_heads": 2, "update_rule": rule}
        yield f"LinearAttention_{rule}", "LinearAttention", inputs, attributes, {"reference": reference, "outputs": 2}


@family
def sparse_pairs():
    heads, groups, size, block = 4, 2, 16, 16
    layouts = np.array([[[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]], [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]]])
    rows = i32([[0, *np.cumsum(layout.sum(1))] for layout in layouts])
    columns = np.full((2, 9), -1, np.int32)
    for own, layout in zip(columns, layouts):
        own[: layout.sum()] = np.nonzero(layout)[1]

    def turned(x, cos, sin):
        a, b = np.split(x, 2, -1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attend(q, k, v, past_k, past_v, rows, columns, most, totals, cos=None, sin=None):
        split = lambda x, count: x.reshape(*x.shape[:2], count, size).transpose(0, 2, 1, 3)
        if k is None:
            q, k, v = np.split(q, [heads * size, (heads + groups) * size], -1)
        q, k, v = split(q, heads), split(k, groups), split(v, groups)
        present, results = [past_k.copy(), past_v.copy()], []
        for b, total in enumerate(totals):
            start = 0 if most[0] == q.shape[2] else total - q.shape[2]
            places = np.arange(start, start + q.shape[2])
            own_q, own_k = q[b], k[b]
            if cos is not None:
                own_q, own_k = turned(own_q, cos[places], sin[places]), turned(own_k, cos[places], sin[places])
            present[0][b][:, places], present[1][b][:, places] = own_k, v[b]
            at = np.arange(present[0].shape[2])
            for h in range(heads):
                seen = layouts[h % 2][places[:, None] // block, at // block].astype(bool) & (at <= places[:, None])
                scores = own_q[h] @ present[0][b, h // (heads // groups)].T / math.sqrt(size)
                weights = softmax(np.where(seen, scores, -np.inf))
                results.append(weights @ present[1][b, h // (heads // groups)])
        y = np.stack(results).reshape(len(totals), heads, q.shape[2], size).transpose(0, 2, 1, 3)
        return [y.reshape(*y.shape[:2], -1).astype(np.float32), *(x.astype(np.float32) for x in present)]

    attributes = {"num_heads": heads, "kv_num_heads": groups, "sparse_block_size": block}
    for name, batch, length, most, totals, rotary, packed in [
        ("prompt", 1, 40, 40, [40], False, False),
        ("decode", 2, 1, 50, [50, 37], False, False),
        ("rotary", 2, 1, 61, [61, 20], True, False),
        ("packed", 1, 20, 20, [20], True, True),
    ]:
        d = Draw("sparse" + name)
        q, k, v = d.f32(batch, length, heads * size), d.f32(batch, length, groups * size), d.f32(batch, length, groups * size)
        operands = [np.concatenate([q, k, v], -1), None, None] if packed else [q, k, v]
        cache = [d.f32(batch, groups, 64, size) for _ in range(2)]
        caches = rotary_caches(64, size // 2) if rotary else ()
        inputs = [*operands, *cache, rows, columns, i32([most]), i32(totals), *caches]
        reference = lambda *_, inputs=inputs: attend(*inputs)
        options = {"outputs": 3, "constants": [5, 6], "reference": reference}
        yield f"SparseAttention_{name}", "SparseAttention", inputs, dict(attributes, do_rotary=int(rotary)), options

    def longformer(x, w, b, mask, global_w, global_b, flags):
        split = lambda y: np.moveaxis(y.reshape(*y.shape[:2], 3, 2, 4), (2, 3), (0, 2))
        q, k, v = split(x @ w + b)
        at = np.arange(x.shape[1])
        seen = (np.abs(at[:, None] - at) <= 2) | (flags[:, None, None] > 0)
        scores = np.where(seen, q @ k.swapaxes(2, 3) / 2 + mask[:, None, None], -np.inf)
        near = softmax(scores) @ v
        q, k, v = split(x @ global_w + global_b)
        all_tokens = softmax(q @ k.swapaxes(2, 3) / 2 + mask[:, None, None]) @ v
        y = np.where(flags[:, None, :, None] > 0, all_tokens, near)
        return [y.transpose(0, 2, 1, 3).reshape(x.shape).astype(np.float32)]

    d = Draw("longformer")
    mask = np.zeros((2, 8), np.float32)
    mask[1, 6:] = -10000
    flags = i32([[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0, 0, 0]])
    inputs = [d.f32(2, 8, 8), d.f32(8, 24), d.f32(24), mask, d.f32(8, 24), d.f32(24), flags]
    yield "LongformerAttention", "LongformerAttention", inputs, {"num_heads": 2, "window": 2}, {"reference": longformer}


@family
def time_first():
    heads, size, width, batch = 2, 4, 8, 3
    d = Draw("decoder attention")
    query, key = d.f32(5, batch, width), d.f32(7, batch, width)
    weights = [d.f32(width, width, scale=0.4), d.f32(width, 2 * width, scale=0.4), d.f32(3 * width)]
    flag = lambda x: np.array(bool(x))

    def attend(query, key, mask, caches, crosses, uses_past):
        split = lambda y: y.reshape(y.shape[0], batch, heads, size).transpose(1, 2, 0, 3)
        q = split(query @ weights[0] + weights[2][:width])
        k, v = (split(y) for y in np.split((key if crosses else query) @ weights[1] + weights[2][width:], 2, -1))
        if uses_past:
            k, v = caches if crosses else (np.concatenate([c, x], 2) for c, x in zip(caches, (k, v)))
        scores = q @ k.swapaxes(2, 3) / math.sqrt(size)
        if mask is not None:
            scores = np.where(mask[:, None, None], -10000, 0) + scores
        y = softmax(scores) @ v
        return [np.ascontiguousarray(x, np.float32) for x in (y.transpose(2, 0, 1, 3).reshape(query.shape), k, v)]

    for name, crosses, uses_past, keys in [("self", 0, 0, 5), ("cross", 1, 0, 7), ("self_cached", 0, 1, 5 + 4), ("cross_cached", 1, 1, 4)]:
        caches = [d.f32(batch, heads, 4, size) for _ in range(2)]
        for masked in (0, 1):
            mask = d.ints(0, 2, batch, keys).astype(bool)
            mask[:, 0] = False
            inputs = [query, key, *weights, mask if masked else None, *(caches if uses_past else [None, None])]
            inputs += [flag(crosses), flag(uses_past), flag(uses_past), flag(masked)]
            reference = lambda *_, own=(mask if masked else None, caches, crosses, uses_past): attend(query, key, *own)
            options = {"outputs": 3, "constants": [2, 3, 4, 8, 9, 10, 11], "reference": reference, "atol": 1e-4}
            yield f"DecoderAttention_{name}" + "_mask" * masked, "DecoderAttention", inputs, {"num_heads": heads}, options
