#!/usr/bin/env python3
"""Trains the digit classifier and writes everything in this folder but the README.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python train.py

A small convolutional network is trained with plain numpy on scikit-learn's digits (1797 images of
8x8 pixels, values 0 to 16), 80 % of them; the other 20 % are never trained on. Written are
    digits.onnx          the model: image [batch,1,8,8] float32 -> probabilities [batch,10]
    zero.npy .. nine.npy one correctly read held-out image of each class, [1,1,8,8] float32
    test_data_set_0/     the whole held-out part in ONNX's test layout, outputs by onnxruntime
    meta.json            accuracy and tolerance
The seed is fixed: the same machine and versions give the same files.
"""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one order of summation: reproducible weights

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
SEED = 20
EPOCHS = 60
BATCH = 32
CLASSES = "zero one two three four five six seven eight nine".split()
CHANNELS = (1, 16, 32, 32)  # three 3x3 convolutions; a 2x2 max pooling after the second


def load():
    """Images [n,1,8,8] float32 with pixels 0 to 16, and labels, split into train and held-out."""
    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]
    return train_test_split(images, digits.target, test_size=0.2, stratify=digits.target, random_state=SEED)


def initialise(rng):
    """He-normal weights under the names they have in the model."""
    weights = {}
    for i, (c_in, c_out) in enumerate(zip(CHANNELS, CHANNELS[1:]), 1):
        weights[f"conv{i}.weight"] = rng.standard_normal((c_out, c_in, 3, 3)) * np.sqrt(2 / (9 * c_in))
        weights[f"conv{i}.bias"] = np.zeros(c_out)
    features = CHANNELS[-1] * 4 * 4
    weights["dense.weight"] = rng.standard_normal((10, features)) * np.sqrt(1 / features)
    weights["dense.bias"] = np.zeros(10)
    return {name: w.astype(np.float32) for name, w in weights.items()}


def patches(x):
    """The 3x3 neighbourhoods of a zero-padded [n,c,h,w]: [n,h,w,c*9]."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * 9)


def conv(x, weight, bias):
    """Convolution and ReLU; also what the backward pass needs."""
    columns = patches(x)
    y = np.maximum(columns @ weight.reshape(len(weight), -1).T + bias, 0).transpose(0, 3, 1, 2)
    return y, (columns, y > 0, x.shape)


def conv_backward(dy, saved, weight):
    """Gradients of weight, bias and input."""
    columns, active, (n, c, h, w) = saved
    dy = (dy * active).transpose(0, 2, 3, 1)
    rows = dy.reshape(-1, dy.shape[-1])
    dweight = (rows.T @ columns.reshape(len(rows), -1)).reshape(weight.shape)
    dcolumns = (rows @ weight.reshape(len(weight), -1)).reshape(n, h, w, c, 3, 3)
    dpadded = np.zeros((n, c, h + 2, w + 2), np.float32)
    for i in range(3):
        for j in range(3):
            dpadded[:, :, i : i + h, j : j + w] += dcolumns[..., i, j].transpose(0, 3, 1, 2)
    return dweight, rows.sum(0), dpadded[:, :, 1:-1, 1:-1]


def pool(x):
    """2x2 max pooling; ties share the gradient."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2)
    y = blocks.max((3, 5), keepdims=True)
    hit = blocks == y
    return y[:, :, :, 0, :, 0], hit / hit.sum((3, 5), keepdims=True, dtype=np.float32)


def pool_backward(dy, share):
    """Gradient of the input."""
    n, c, h, _, w, _ = share.shape
    return (dy[:, :, :, None, :, None] * share).reshape(n, c, h * 2, w * 2)


def step(weights, images, labels):
    """Loss and gradients of one batch (cross-entropy)."""
    x1, saved1 = conv(images / 16, weights["conv1.weight"], weights["conv1.bias"])
    x2, saved2 = conv(x1, weights["conv2.weight"], weights["conv2.bias"])
    pooled, share = pool(x2)
    x3, saved3 = conv(pooled, weights["conv3.weight"], weights["conv3.bias"])
    flat = x3.reshape(len(x3), -1)
    logits = flat @ weights["dense.weight"].T + weights["dense.bias"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(p[rows, labels] + 1e-12).mean()
    p[rows, labels] -= 1
    p /= len(labels)
    grads = {"dense.weight": p.T @ flat, "dense.bias": p.sum(0)}
    d = (p @ weights["dense.weight"]).reshape(x3.shape)
    grads["conv3.weight"], grads["conv3.bias"], d = conv_backward(d, saved3, weights["conv3.weight"])
    d = pool_backward(d, share)
    grads["conv2.weight"], grads["conv2.bias"], d = conv_backward(d, saved2, weights["conv2.weight"])
    grads["conv1.weight"], grads["conv1.bias"], _ = conv_backward(d, saved1, weights["conv1.weight"])
    return loss, grads


def shift(images, rng):
    """Moves each image by up to one pixel: the only augmentation."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    at = rng.integers(0, 3, (len(images), 2))
    return np.stack([image[:, i : i + 8, j : j + 8] for image, (i, j) in zip(padded, at)])


def train(images, labels):
    """Adam with a cosine learning rate and decoupled weight decay."""
    rng = np.random.default_rng(SEED)
    weights = initialise(rng)
    mean = {k: np.zeros_like(w) for k, w in weights.items()}
    square = {k: np.zeros_like(w) for k, w in weights.items()}
    steps, t = EPOCHS * -(-len(images) // BATCH), 0
    for epoch in range(EPOCHS):
        order, losses = rng.permutation(len(images)), []
        for start in range(0, len(images), BATCH):
            pick = order[start : start + BATCH]
            loss, grads = step(weights, shift(images[pick], rng), labels[pick])
            losses.append(loss)
            rate = 2e-3 * (1 + np.cos(np.pi * t / steps)) / 2
            t += 1
            for k, g in grads.items():
                mean[k] += (g - mean[k]) * 0.1
                square[k] += (g * g - square[k]) * 0.001
                move = mean[k] / (1 - 0.9**t) / (np.sqrt(square[k] / (1 - 0.999**t)) + 1e-8)
                weights[k] -= np.float32(rate) * (move + 1e-3 * weights[k])
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}", flush=True)
    return weights


def build(weights):
    """The model as ONNX: opset 20, any batch."""
    node = helper.make_node
    same = dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    nodes = [
        node("Mul", ["image", "scale"], ["pixels"], name="normalise"),
        node("Conv", ["pixels", "conv1.weight", "conv1.bias"], ["conv1.out"], name="conv1", **same),
        node("Relu", ["conv1.out"], ["relu1.out"], name="relu1"),
        node("Conv", ["relu1.out", "conv2.weight", "conv2.bias"], ["conv2.out"], name="conv2", **same),
        node("Relu", ["conv2.out"], ["relu2.out"], name="relu2"),
        node("MaxPool", ["relu2.out"], ["pool.out"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["pool.out", "conv3.weight", "conv3.bias"], ["conv3.out"], name="conv3", **same),
        node("Relu", ["conv3.out"], ["relu3.out"], name="relu3"),
        node("Flatten", ["relu3.out"], ["features"], name="flatten", axis=1),
        node("Gemm", ["features", "dense.weight", "dense.bias"], ["logits"], name="dense", transB=1),
        node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=-1),
    ]
    constants = {"scale": np.array(1 / 16, np.float32), **weights}
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(w, name) for name, w in constants.items()],
        doc_string="Handwritten digits, 8x8 pixels of 0 (paper) to 16 (ink).",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], producer_name="examples/digits/train.py")
    model.ir_version = 9
    helper.set_model_props(model, {"labels": ",".join(str(c) for c in range(10)), "licence": "Apache-2.0"})
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    train_images, images, train_labels, labels = load()
    model = build(train(train_images, train_labels))
    onnx.save(model, HERE / "digits.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"image": images})
    accuracy = float((probabilities.argmax(1) == labels).mean())
    for digit, name in enumerate(CLASSES):
        # The first held-out image of the class that the model reads correctly.
        right = (labels == digit) & (probabilities.argmax(1) == digit)
        np.save(HERE / f"{name}.npy", images[np.flatnonzero(right)[:1]])
    folder = HERE / "test_data_set_0"
    folder.mkdir(exist_ok=True)
    for file, name, array in (("input_0", "image", images), ("output_0", "probabilities", probabilities)):
        (folder / f"{file}.pb").write_bytes(numpy_helper.from_array(array, name).SerializeToString())
    meta = dict(
        name="digits",
        reference="onnxruntime",
        rtol=1e-3,
        atol=1e-4,
        sets=1,
        train_images=len(train_images),
        held_out_images=len(images),
        held_out_accuracy=round(accuracy, 4),
        seed=SEED,
    )
    (HERE / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    print(f"held-out accuracy {accuracy:.4f} on {len(images)} images")


if __name__ == "__main__":
    main()
