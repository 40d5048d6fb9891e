#!/usr/bin/env python3
"""Measures onnxruntime on a model folder the way `tarsia bench` measures itself.

    peer_onnxruntime.py FOLDER --threads N --runs R --min-time S

The last line on standard output is a JSON object: median_ms, min_ms, load_ms, first_ms, rss_mb, match.
Started by compare.py, in its environment.
"""
import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime

from models import model_file, read_tensors, tolerance


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--min-time", type=float, default=1.0)
    print(json.dumps(measure(arguments.parse_args())))


def measure(arguments):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(model_file(arguments.folder), options, providers=["CPUExecutionProvider"])
    load = time.perf_counter() - start

    data_set = arguments.folder / "test_data_set_0"
    names = [i.name for i in session.get_inputs()]
    arrays = read_tensors(data_set, "input", len(names))
    feeds = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in zip(names, arrays)}
    outputs = [o.name for o in session.get_outputs()]
    start = time.perf_counter()
    results = session.run_with_ort_values(outputs, feeds)
    first = time.perf_counter() - start

    rtol, atol = tolerance(arguments.folder)
    expected = read_tensors(data_set, "output", len(outputs))
    match = all(np.allclose(r.numpy(), e, rtol, atol, equal_nan=True) for r, e in zip(results, expected))
    times = []
    while len(times) < arguments.runs or sum(times) < arguments.min_time:
        start = time.perf_counter()
        session.run_with_ort_values(outputs, feeds)
        times.append(time.perf_counter() - start)
    return {
        "median_ms": statistics.median(times) * 1e3,
        "min_ms": min(times) * 1e3,
        "load_ms": load * 1e3,
        "first_ms": first * 1e3,
        "rss_mb": peak_memory(),
        "match": match,
        "version": onnxruntime.__version__,
    }


def peak_memory():
    """Largest resident size of this process so far, in megabytes."""
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
