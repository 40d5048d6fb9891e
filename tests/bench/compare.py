#!/usr/bin/env python3
"""Tarsia beside onnxruntime, on the same cores in the same run.

    cargo build --release
    python3 tests/bench/compare.py FOLDER... [--threads 1 2] [--rounds 5] [--json]

A FOLDER holds a model and its test data (model.onnx, test_data_set_0). For each model and number of threads
both are run `--rounds` times in turn, the first of a round changing from round to round, each in a process
of its own pinned to the same cores. A ratio is tarsia's median latency to onnxruntime's *of the same
round*; the table has the median of the rounds' ratios and their range. `~` marks a cell in which other processes
took more than 5 % of the cores' time, `!` outputs that do not match the expected ones.

Where onnxruntime cannot be imported Tarsia is measured alone, and a warning says so.

With --json the last line of standard output is a JSON array of all cells with every round.
"""
import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import environment

HERE = Path(__file__).resolve().parent
NOISE = 0.05  # share of the cores' time that others may take before a cell is marked


def main():
    environment.enter()
    arguments = parse()
    if not arguments.tarsia.exists():
        sys.exit(f"{arguments.tarsia} is not there: cargo build --release")
    arguments.peer = importlib.util.find_spec("onnxruntime") is not None
    if not arguments.peer:
        print("WARNING: onnxruntime cannot be imported; Tarsia is measured ALONE", file=sys.stderr)
    cells = []
    print(heading(), flush=True)
    for threads in arguments.threads:
        for folder in arguments.folders:
            cell = measure(arguments, folder, threads)
            cells.append(cell)
            print(row(cell), flush=True)
    if arguments.json:
        print(json.dumps(cells))
    if any("error" in cell for cell in cells):
        sys.exit(1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10, help="least number of runs per process")
    parser.add_argument("--min-time", type=float, default=1.0, help="least time of measuring per process, seconds")
    parser.add_argument("--timeout", type=float, default=300, help="longest time of one process, seconds")
    parser.add_argument("--tarsia", type=Path, default=environment.TARGET / "release" / "tarsia")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(arguments, folder, threads):
    """All rounds of one model with one number of threads."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    if len(cores) < threads:
        sys.exit(f"{threads} threads need as many cores; this process may use {len(cores)}")
    options = ["--threads", str(threads), "--runs", str(arguments.runs), "--min-time", str(arguments.min_time)]
    commands = {
        "tarsia": [str(arguments.tarsia), "bench", str(folder), *options, "--json"],
        "onnxruntime": [sys.executable, str(HERE / "peer_onnxruntime.py"), str(folder), *options],
    }
    if not arguments.peer:
        del commands["onnxruntime"]
    cell = {"model": folder.resolve().name, "threads": threads, "rounds": []}
    for number in range(arguments.rounds):
        results = {}
        for name in sorted(commands, reverse=number % 2 == 0):  # tarsia first in even rounds
            results[name] = run_pinned(commands[name], cores, arguments.timeout)
            if "error" in results[name]:
                return cell | {"error": f"{name}: {results[name]['error']}"}
        cell["rounds"].append(results)
    if not arguments.peer:
        return cell
    ratios = [r["tarsia"]["median_ms"] / r["onnxruntime"]["median_ms"] for r in cell["rounds"]]
    return cell | {"ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)]}


def run_pinned(command, cores, timeout):
    """Runs a command on the cores; its JSON object, with the share of the cores' time that others took."""
    before, own, start = busy_seconds(cores), children_seconds(), time.monotonic()
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
    if os.geteuid() == 0:
        pinned = ["nice", "-n", "-10", *pinned]
    try:
        process = subprocess.run(pinned, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return {"error": f"still running after {timeout:.0f} s"}
    others = busy_seconds(cores) - before - (children_seconds() - own)
    lines = process.stdout.strip().splitlines()
    try:
        result = json.loads(lines[-1])
        result["median_ms"]
    except (IndexError, KeyError, TypeError, ValueError):
        return {"error": f"exit {process.returncode}: {process.stderr.strip()[-300:] or 'no JSON on its last line'}"}
    return result | {"others": max(0.0, others / (time.monotonic() - start) / len(cores))}


def busy_seconds(cores):
    """Time that the cores have not been idle, since the machine started."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for line in open("/proc/stat"):
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[:7])
            total += user + nice + system + irq + softirq
    return total / ticks


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


COLUMNS = ["model", "threads", "tarsia ms", "onnxruntime ms", "ratio", "range", "load ms (t / o)", "memory MB (t / o)"]


def heading():
    return f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def row(cell):
    if "error" in cell:
        return f"| {cell['model']} | {cell['threads']} | failed: {' '.join(cell['error'].split())} |" + " |" * (len(COLUMNS) - 3)
    rounds = cell["rounds"]

    def middle(name, key):
        values = [r[name][key] for r in rounds if key in r.get(name, {})]
        return format(statistics.median(values), ".4g") if values else "-"

    def latency(name):
        marks = "!" if any(r.get(name, {}).get("match") is False for r in rounds) else ""
        marks += "~" if any(r.get(name, {}).get("others", 0) > NOISE for r in rounds) else ""
        return middle(name, "median_ms") + marks

    def both(key):
        return f"{middle('tarsia', key)} / {middle('onnxruntime', key)}"

    ratio = ["-", "-"]
    if "ratio" in cell:
        low, high = cell["ratio_range"]
        ratio = [f"{cell['ratio']:.2f}", f"{low:.2f}-{high:.2f}"]
    fields = [cell["model"], str(cell["threads"]), latency("tarsia"), latency("onnxruntime")]
    fields += [*ratio, both("load_ms"), both("rss_mb")]
    return f"| {' | '.join(fields)} |"


if __name__ == "__main__":
    main()
