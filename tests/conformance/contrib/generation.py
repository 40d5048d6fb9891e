"""Searches of com.microsoft: a decoder in a loop."""
import numpy as np
import onnx
from onnx import helper

from contrib.build import Draw, f32, family, i32


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
    data = {"table": d.f32(words, size), "places": d.f32(32, size), "out": d.f32(size, words), "one": [1], "zero": [0], "first": 0}
    tensors = [onnx.numpy_helper.from_array(np.asarray(x), name) for name, x in data.items()]
    inputs = [info(name, integer, ["batch", length]) for name, length in [("input_ids", "length"), ("position_ids", "length"), ("attention_mask", "total")]]
    inputs.append(info("past_0", real, [2, "batch", 1, "past", size]))
    outputs = [info("logits", real, ["batch", "length", words]), info("present_0", real, [2, "batch", 1, "total", size])]
    return helper.make_graph(nodes, "decoder", inputs, outputs, tensors)


@family
def generation():
    ids, padded = i32([[3, 5, 7], [2, 9, 4]]), i32([[0, 0, 5, 7], [2, 9, 4, 6]])
    def ended(outputs, start):
        # onnxruntime leaves what follows the end of all sequences as it happens to be: padding here.
        for row in outputs[0]:
            ends = np.flatnonzero(row[start:] == 0)
            if len(ends):
                row[start + ends[0] :] = 0
        return outputs

    for name, prompt, rest, constants in [
        ("", ids, [], [1]),
        ("_padded", padded, [], [1]),
        ("_runtime_length", ids, [], []),
        ("_rules", ids, [i32([6]), f32([1.7]), i32([1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1])], [1, 2, 3]),
    ]:
        d = Draw("greedy")
        attributes = {"decoder": tiny_decoder(d), "eos_token_id": 8, "pad_token_id": 0, "model_type": 0}
        inputs = [prompt, i32([9]), *rest]
        if name == "_rules":
            inputs = [prompt, i32([9]), rest[0], rest[1], rest[2]]
        options = {"constants": constants, "finish": lambda outputs, start=prompt.shape[1]: ended(outputs, start)}
        yield f"GreedySearch{name}", "GreedySearch", inputs, attributes, options
