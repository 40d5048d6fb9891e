#!/usr/bin/env python3
"""One f32 matrix product through the whole pipeline, as a share of what one core's multiply-adds can do at most.

    cargo build --release
    python3 tests/bench/product.py [--size 1024] [--rounds 5]

Two models with one MatMul each, of two inputs and of an input and a constant, are compiled and timed by `tarsia bench`
on one core, in turn with the peak: fused multiply-adds in registers (`cargo bench -p tarsia-runtime --bench gemm
fma_peak`). The share is the best product's rate to the best peak.
"""
import argparse
import json
import re
import subprocess
from pathlib import Path

import environment


def main():
    environment.enter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tarsia", type=Path, default=environment.TARGET / "release" / "tarsia")
    arguments = parser.parse_args()
    folders = {name: write_model(arguments.size, constant) for name, constant in [("two inputs", False), ("a constant", True)]}
    best, peak = dict.fromkeys(folders, 0.0), 0.0
    for _ in range(arguments.rounds):
        peak = max(peak, measured_peak())
        for name, folder in folders.items():
            best[name] = max(best[name], 2 * arguments.size**3 / seconds(arguments.tarsia, folder) / 1e9)
    print("| product of | GFLOP/s | peak of the core | share |\n|---|---|---|---|")
    for name, rate in best.items():
        print(f"| {name} | {rate:.1f} | {peak:.1f} | {rate / peak:.0%} |")


def write_model(size, constant):
    """A folder with the model and its test data."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save, save_tensor

    folder = environment.TARGET / "product" / f"{size}_{'constant' if constant else 'inputs'}"
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    a, b = (random.uniform(-1, 1, (size, size)).astype(np.float32) for _ in range(2))
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, size])
    inputs = [value("a")] if constant else [value("a"), value("b")]
    weights = [numpy_helper.from_array(b, "b")] if constant else []
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", inputs, [value("c")], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), folder / "model.onnx")
    for number, tensor in enumerate([a] if constant else [a, b]):
        save_tensor(numpy_helper.from_array(tensor), data / f"input_{number}.pb")
    save_tensor(numpy_helper.from_array(a @ b), data / "output_0.pb")
    return folder


def seconds(tarsia, folder):
    """The fastest run on one core."""
    command = ["taskset", "-c", "0", tarsia, "bench", folder, "--threads", "1", "--runs", "20", "--min-time", "1", "--json"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(output.strip().splitlines()[-1])
    if result["match"] is False:
        raise SystemExit(f"{folder}: the product is wrong")
    return result["min_ms"] / 1e3


def measured_peak():
    """GFLOP/s of one core's fused multiply-adds in registers."""
    command = ["cargo", "bench", "-q", "-p", "tarsia-runtime", "--bench", "gemm", "fma_peak"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=environment.ROOT).stdout
    rate = re.search(r"([\d.]+) ([GT])item/s", output)
    if not rate:
        raise SystemExit(f"no rate in the peak's output:\n{output}")
    return float(rate[1]) * (1000 if rate[2] == "T" else 1)


if __name__ == "__main__":
    main()
