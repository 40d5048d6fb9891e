#!/usr/bin/env python3
"""Makes a deep model out of a shallow one by repeating its last layer.

    python3 tests/bench/stack_layers.py [OUT] [--model examples/deepseek_v3_tiny] [--layers 61]

For measuring how compile time grows with depth. The model must be a decoder with a KV cache whose inputs
and outputs are called past_key_values.N.{key,value} and present.N.{key,value}. Layer by layer the copy gets

    its own weights         a permutation of the original's values: same distribution, other constants
    its own cache           inputs past_key_values.N.* and outputs present.N.*
    the residual stream     of the layer before

OUT (target/deep) becomes a model folder with test data; the expected outputs are onnxruntime's.
"""
import argparse
import json
import re
from pathlib import Path

import environment


def main():
    environment.enter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=environment.TARGET / "deep")
    parser.add_argument("--model", type=Path, default=environment.ROOT / "examples" / "deepseek_v3_tiny")
    parser.add_argument("--layers", type=int, default=61)
    arguments = parser.parse_args()

    import onnx
    from models import model_file

    model = onnx.load(model_file(arguments.model))
    layer = find_last_layer(model.graph)
    if arguments.layers <= layer.number:
        raise SystemExit(f"the model has {layer.number + 1} layers already")
    repeat(model.graph, layer, arguments.layers)
    onnx.checker.check_model(model, full_check=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    onnx.save(model, arguments.out / "model.onnx")
    write_data(arguments.model, arguments.out, layer.number)
    size = (arguments.out / "model.onnx").stat().st_size / 1e6
    print(f"{arguments.out}: {arguments.layers} layers, {len(model.graph.node)} nodes, {size:.0f} MB")


class Layer:
    """The last layer: its number, its nodes in order, and the residual stream before and after it."""

    def __init__(self, number, nodes, before, after):
        self.number, self.nodes, self.before, self.after = number, nodes, before, after


def find_last_layer(graph):
    """The layer lies between two tensors of the residual stream: those that every path from the embedding to
    the first output goes through. Each layer's cache output tells which of them it reads."""
    producer = {name: node for node in graph.node for name in node.output if name}
    embedding = next(n.output[0] for n in graph.node if n.op_type == "Gather" and n.input[1] == "input_ids")
    stream = bottlenecks(graph, embedding, graph.output[0].name)
    number = max(int(m[1]) for o in graph.output if (m := re.fullmatch(r"present\.(\d+)\.key", o.name)))

    def start(n):
        seen = ancestors(producer, [f"present.{n}.key"])
        return max(i for i, name in enumerate(stream) if name in seen)

    first, last = start(number - 1), start(number)
    before, after = stream[last], stream[last + (last - first)]
    made = ancestors(producer, [after, f"present.{number}.key", f"present.{number}.value"])
    made -= ancestors(producer, [before])
    return Layer(number, [n for n in graph.node if made & set(n.output)], before, after)


def ancestors(producer, names):
    """All tensors that the named ones are computed from, and they themselves."""
    seen, stack = set(), list(names)
    while stack:
        name = stack.pop()
        if name and name not in seen:
            seen.add(name)
            stack.extend(producer[name].input if name in producer else ())
    return seen


def bottlenecks(graph, source, sink):
    """Tensors on every path from source to sink, in order: where the set of live tensors shrinks to one."""
    producer = {name: node for node in graph.node for name in node.output if name}
    reached, useful, last_use = {source}, ancestors(producer, [sink]), {}
    for i, node in enumerate(graph.node):
        if reached & set(node.input):
            reached |= set(node.output)
            last_use |= {name: i for name in node.input if name in reached and set(node.output) & useful}
    live, found = {source}, [source]
    for i, node in enumerate(graph.node):
        if not live & set(node.input) or not useful & set(node.output):
            continue
        live |= {name for name in node.output if name in useful}
        live -= {name for name in node.input if last_use.get(name) == i}
        if len(live) == 1:
            found.append(next(iter(live)))
    return found


def repeat(graph, layer, layers):
    """Appends copies of the layer after itself until there are `layers`."""
    private = private_weights(graph, layer)
    inside = {name for node in layer.nodes for name in node.output if name}
    tail = [n for n in graph.node if layer.after in n.input and not inside & set(n.output)]
    end = max(i for i, node in enumerate(graph.node) if node in layer.nodes) + 1
    nodes, rest = list(graph.node[:end]), list(graph.node[end:])
    stream = layer.after
    for number in range(layer.number + 1, layers):
        names = {name: f"{name}.layer{number}" for name in inside}
        names |= {w.name: rename(w.name, layer.number, number) for w in private}
        for part in ("key", "value"):
            names |= {f"{p}.{layer.number}.{part}": f"{p}.{number}.{part}" for p in ("past_key_values", "present")}
        names[layer.before] = stream
        stream = names[layer.after]
        nodes += [copy_node(node, names, number) for node in layer.nodes]
        graph.initializer.extend(permuted(w, names[w.name], number) for w in private)
        extend_interface(graph, layer.number, names)
    for node in tail:
        node.input[:] = [stream if name == layer.after else name for name in node.input]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes + rest)


def private_weights(graph, layer):
    """Initialisers that no node outside the layer reads."""
    names = {name for node in layer.nodes for name in node.input}
    inside = {name for node in layer.nodes for name in node.output}
    shared = {name for node in graph.node if not inside & set(node.output) for name in node.input}
    return [w for w in graph.initializer if w.name in names - shared]


def rename(name, old, new):
    """`…layers.2.…` becomes `…layers.7.…`; a name without the number gets a suffix."""
    return name.replace(f".{old}.", f".{new}.") if f".{old}." in name else f"{name}.layer{new}"


def permuted(weight, name, seed):
    """A floating-point weight with its values permuted; anything else as it is."""
    import numpy as np
    from onnx import numpy_helper

    array = numpy_helper.to_array(weight)
    if array.dtype.kind == "f":
        array = np.random.default_rng(seed).permutation(array.ravel()).reshape(array.shape)
    return numpy_helper.from_array(array, name)


def copy_node(node, names, number):
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = f"{node.name}.layer{number}"
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    return copy


def extend_interface(graph, old, names):
    """Declares the copy's cache inputs and outputs like the original's."""
    for infos, prefix in ((graph.input, "past_key_values"), (graph.output, "present")):
        for part in ("key", "value"):
            original = next(i for i in infos if i.name == f"{prefix}.{old}.{part}")
            copy = type(original)()
            copy.CopyFrom(original)
            copy.name = names[original.name]
            infos.append(copy)


def write_data(source, out, old):
    """The source's inputs, the old last layer's cache for each new layer; outputs and tolerance by onnxruntime."""
    import numpy as np
    import onnxruntime
    from models import model_file, read_tensors, write_tensors

    def session(level):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(out / "model.onnx", options, providers=["CPUExecutionProvider"])

    levels = onnxruntime.GraphOptimizationLevel
    plain, optimised = session(levels.ORT_DISABLE_ALL), session(levels.ORT_ENABLE_ALL)
    original = onnxruntime.InferenceSession(model_file(source), providers=["CPUExecutionProvider"])
    known = [i.name for i in original.get_inputs()]
    inputs, outputs = [i.name for i in plain.get_inputs()], [o.name for o in plain.get_outputs()]
    noise = 0.0
    for data_set in sorted(source.glob("test_data_set_*")):
        feeds = dict(zip(known, read_tensors(data_set, "input", len(known))))
        for name in inputs:
            like = re.sub(r"^past_key_values\.\d+\.", f"past_key_values.{old}.", name)
            feeds.setdefault(name, feeds[like])
        results, others = plain.run(None, feeds), optimised.run(None, feeds)
        if not all(np.isfinite(r).all() for r in results):
            raise SystemExit(f"{data_set.name}: an output is not finite")
        noise = max(noise, *(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(results, others)))
        write_tensors(out / data_set.name, "input", [(name, feeds[name]) for name in inputs])
        write_tensors(out / data_set.name, "output", list(zip(outputs, results)))
    meta = {"name": out.name, "reference": "onnxruntime", "ref_noise": noise, "rtol": 1e-3, "atol": 1e-4}
    (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    print(f"onnxruntime differs from itself by {noise:.1e} of the largest output")


if __name__ == "__main__":
    main()
