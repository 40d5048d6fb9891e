"""Searches of com.microsoft: a decoder in a loop."""
import numpy as np
import onnx
from onnx import helper

from contrib.build import Draw, f32, family, i32, one_node, run_model


def tiny_decoder(d, words=11, size=4):
    """A decoder in the form that onnxruntime's searches take: the next token depends on the mean of all tokens so far."""
    integer, real = onnx.TensorProto.INT32, onnx.TensorProto.FLOAT
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Gather", ["places", "position_ids"], ["placed"]),
        helper.make_node("Add", ["embedded", "placed"], ["x"]),
        helper.make_node("Unsqueeze", ["x", "one"], ["key"]),
        helper.make_node("Unsqueeze", ["key", "zero"], ["half"]),
        helper.make_node("Concat", ["half", "half"], ["both"], axis=0),
        helper.make_node("Concat", ["past_0", "both"], ["present_0"], axis=3),
        helper.make_node("Gather", ["present_0", "first"], ["keys"], axis=0),
        helper.make_node("Squeeze", ["keys", "one"], ["all"]),
        helper.make_node("Cast", ["attention_mask"], ["real_mask"], to=real),
        helper.make_node("Unsqueeze", ["real_mask", "one"], ["row"]),
        helper.make_node("MatMul", ["row", "all"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["bounded"]),
        helper.make_node("Add", ["x", "bounded"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "out"], ["logits"]),
    ]
    data = dict(decoder_data(d, words, size), one=[1], zero=[0], first=0)
    tensors = [onnx.numpy_helper.from_array(np.asarray(x), name) for name, x in data.items()]
    inputs = [info(name, integer, ["batch", length]) for name, length in [("input_ids", "length"), ("position_ids", "length"), ("attention_mask", "total")]]
    inputs.append(info("past_0", real, [2, "batch", 1, "past", size]))
    outputs = [info("logits", real, ["batch", "length", words]), info("present_0", real, [2, "batch", 1, "total", size])]
    return helper.make_graph(nodes, "decoder", inputs, outputs, tensors)


def decoder_data(d, words=11, size=4):
    return {"table": d.f32(words, size), "places": d.f32(32, size), "out": d.f32(size, words)}


@family
def generation():
    ids, padded = i32([[3, 5, 7], [2, 9, 4]]), i32([[0, 0, 5, 7], [2, 9, 4, 6]])
    words = i32([1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1])

    def ended(outputs, start):
        # onnxruntime leaves what follows the end of all sequences as it happens to be: padding here.
        for row in outputs[0]:
            ends = np.flatnonzero(row[start:] == 0)
            if len(ends):
                row[start + ends[0] :] = 0
        return outputs

    def greedy(name, op, inputs, more, constants, **options):
        d = Draw("greedy")
        attributes = {"decoder": tiny_decoder(d), "eos_token_id": 8, "pad_token_id": 0, "model_type": 0, **more}
        finish = lambda outputs, start=inputs[0].shape[1]: ended(outputs, start)
        return name, op, inputs, attributes, {"constants": constants, "finish": finish, **options}

    length = i32([9])
    yield greedy("GreedySearch", "GreedySearch", [ids, length], {}, [1])
    yield greedy("GreedySearch_padded", "GreedySearch", [padded, length], {}, [1])
    yield greedy("GreedySearch_runtime_length", "GreedySearch", [ids, length], {}, [])
    yield greedy("GreedySearch_rules", "GreedySearch", [ids, length, i32([6]), f32([1.7]), words], {}, [1, 2, 3])
    first = d_mask(2)
    inputs = [ids, i32([14]), None, None, None, first]
    yield greedy("GreedySearch_no_repeats", "GreedySearch", inputs, {"no_repeat_ngram_size": 2}, [1])
    # Of a single token that may come the draw is known.
    certain = {"top_p": 0.01, "min_tokens_to_keep": 1}
    yield greedy("Sampling_certain", "Sampling", [ids, length], certain, [1])
    more = {"top_p": 0.01, "custom": 1, "presence_penalty": 0.7, "temperature": 1.6}
    inputs = [ids, length, i32([5]), f32([1.3]), words, None, None, d_mask(2)]
    yield greedy("Sampling_custom", "Sampling", inputs, more, [1])
    # Else what is drawn is one of those that may come.
    some = lambda *_: [np.resize(i32([0, 10]), (2, 9))]
    yield greedy("Sampling", "Sampling", [ids, length], {"top_p": 0.8}, [1], reference=some, random=True, finish=list)
    inputs = [ids, length, None, None, None, None, None, None, i32([5])]
    yield greedy("Sampling_seed", "Sampling", inputs, {"top_p": 0.8, "min_tokens_to_keep": 1}, [1], reference=drawn, finish=list)


def d_mask(rows):
    return Draw("mask").ints(0, 2, rows, 11, dtype=np.int32)


def drawn(ids, length, seed):
    """Tokens drawn from NumPy's stream of the seed, of those whose probabilities sum up to 0.8."""
    d = Draw("greedy")
    tables = decoder_data(d)
    numbers = np.random.RandomState(seed[0]).rand(int(length[0]), len(ids)).astype(np.float32)
    whole = np.zeros((len(ids), int(length[0])), np.int32)
    whole[:, : ids.shape[1]] = ids
    for row, tokens in enumerate(whole):
        for at in range(ids.shape[1], len(tokens)):
            own = tokens[:at]
            x = tables["table"][own] + tables["places"][np.arange(at)]
            mixed = x[-1] + np.tanh(x.sum(0))
            scores = mixed @ tables["out"]
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            order = np.argsort(shares)
            goes = np.cumsum(shares[order]) <= 1 - 0.8
            shares[order[goes]] = 0
            sums = np.cumsum(shares / shares.sum())
            tokens[at] = np.argmax(sums > numbers[at, row])
            if tokens[at] == 8:
                tokens[at] = 0
                break
    return [whole]


@family
def beams():
    ids, padded = i32([[3, 5, 7], [2, 9, 4]]), i32([[0, 0, 5, 7], [2, 9, 4, 6]])
    words = i32([1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1])

    def beam(name, inputs, more, constants):
        d = Draw("beams")
        attributes = {"decoder": tiny_decoder(d), "eos_token_id": 8, "pad_token_id": 0, "model_type": 0, **more}

        def run(*_):
            # onnxruntime does not run without a least length.
            given = [i32([0]) if i == 2 and x is None else x for i, x in enumerate(inputs)]
            return run_model(one_node("BeamSearch", given, attributes, {"outputs": 2}, None), given)

        return f"BeamSearch{name}", "BeamSearch", inputs, attributes, {"constants": constants, "outputs": 2, "reference": run}

    def usual(prompt, length=12, beams=4, results=2, penalty=1.0):
        return [prompt, i32([length]), None, i32([beams]), i32([results]), f32([penalty])]

    static = [1, 3, 4]
    yield beam("", usual(ids), {}, static)
    yield beam("_early", usual(ids, 12, 3, 3), {"early_stopping": 1}, static)
    yield beam("_padded", usual(padded), {}, static)
    yield beam("_one", usual(ids, 9, 1, 1), {}, static)
    yield beam("_penalty", usual(ids, 12, 4, 3, 0.3), {"early_stopping": 1}, static)
    yield beam("_runtime", usual(ids, 12, 3, 2, 2.0), {}, [])
    rules = [ids, i32([12]), i32([7]), i32([4]), i32([2]), f32([1.0]), f32([1.4]), words, d_mask(2)]
    yield beam("_rules", rules, {"no_repeat_ngram_size": 2}, static)


def tiny_pair(d, starts, words=11, size=4):
    """An encoder and a decoder in the forms that onnxruntime's beam search takes: the encoder may run the decoder's first step."""
    integer, real = onnx.TensorProto.INT32, onnx.TensorProto.FLOAT
    info, node = helper.make_tensor_value_info, helper.make_node
    data = {"table": d.f32(words, size), "mix": d.f32(size, size), "out": d.f32(size, words), "one": [1], "two": [2]}
    tensors = [onnx.numpy_helper.from_array(np.asarray(x), name) for name, x in data.items()]

    def token(ids):
        embedded = [node("Gather", ["table", ids], ["token"]), node("Unsqueeze", ["token", "one"], ["new_key"])]
        return [*embedded, node("MatMul", ["new_key", "mix"], ["new_value"])]

    def scores(cross_key, cross_value):
        sums = []
        for own, cross in [("present_key_self_0", cross_key), ("present_value_self_0", cross_value)]:
            sums += [
                node("ReduceSum", [own, "two"], [own + "_sum"], keepdims=0),
                node("MatMul", ["row", cross], [cross + "_row"]),
                node("Squeeze", [cross + "_row", "one"], [cross + "_sum"]),
                node("Add", [own + "_sum", cross + "_sum"], [own + "_all"]),
                node("Tanh", [own + "_all"], [own + "_bounded"]),
            ]
        return [
            node("Cast", ["encoder_attention_mask"], ["real_mask"], to=real),
            node("Unsqueeze", ["real_mask", "one"], ["mask_row"]),
            node("Unsqueeze", ["mask_row", "one"], ["row"]),
            *sums,
            node("Add", ["present_key_self_0_bounded", "present_value_self_0_bounded"], ["both"]),
            node("Add", ["both", "token"], ["mixed"]),
            node("MatMul", ["mixed", "out"], ["logits"]),
        ]

    past = lambda name, length: info(name, real, ["batch", 1, length, size])
    cross = [past("present_key_cross_0", "length"), past("present_value_cross_0", "length")]
    own = [past("present_key_self_0", "total"), past("present_value_self_0", "total")]
    logits, states = info("logits", real, ["batch", 1, words]), info("encoder_hidden_states", real, ["batch", "length", size])
    mask = info("encoder_attention_mask", integer, ["batch", "length"])
    nodes = [
        node("Gather", ["table", "encoder_input_ids"], ["embedded"]),
        node("MatMul", ["embedded", "mix"], ["turned"]),
        node("Tanh", ["turned"], ["encoder_hidden_states"]),
        node("Unsqueeze", ["encoder_hidden_states", "one"], ["present_key_cross_0"]),
        node("MatMul", ["present_key_cross_0", "mix"], ["present_value_cross_0"]),
    ]
    inputs, outputs = [info("encoder_input_ids", integer, ["batch", "length"]), mask], cross
    if starts:
        nodes += token("decoder_input_ids")
        nodes += [node("Identity", [f"new_{part}"], [f"present_{part}_self_0"]) for part in ("key", "value")]
        nodes += scores("present_key_cross_0", "present_value_cross_0")
        inputs, outputs = [*inputs, info("decoder_input_ids", integer, ["batch", 1])], [logits, states, *own, *cross]
    encoder = helper.make_graph(nodes, "encoder", inputs, outputs, tensors)
    nodes = token("input_ids")
    nodes += [node("Concat", [f"past_{part}_self_0", f"new_{part}"], [f"present_{part}_self_0"], axis=2) for part in ("key", "value")]
    nodes += scores("past_key_cross_0", "past_value_cross_0")
    inputs = [info("input_ids", integer, ["batch", 1]), mask, *([states] if starts else [])]
    inputs += [past(f"past_{part}_self_0", "past") for part in ("key", "value")]
    inputs += [past(f"past_{part}_cross_0", "length") for part in ("key", "value")]
    return encoder, helper.make_graph(nodes, "decoder", inputs, [logits, *own], tensors)


@family
def beams_after_an_encoder():
    ids = i32([[3, 5, 7, 2], [2, 9, 4, 0]])
    for name, starts, seed, constants in [("", False, "t5", [1, 2, 3, 4]), ("_starts", True, "t5", [1, 2, 3, 4]), ("_runtime", False, "t5b", [])]:
        encoder, decoder = tiny_pair(Draw(seed), starts)
        attributes = {"encoder": encoder, "decoder": decoder, "eos_token_id": 6, "pad_token_id": 0, "decoder_start_token_id": 1}
        inputs = [ids, i32([10]), i32([0]), i32([4]), i32([3]), f32([1.0])]
        options = {"constants": constants, "outputs": 2}
        yield f"BeamSearch_encoded{name}", "BeamSearch", inputs, dict(attributes, model_type=1), options
