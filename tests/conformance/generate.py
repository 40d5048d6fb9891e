#!/usr/bin/env python3
"""Writes ONNX's own conformance cases, and those of com.microsoft, to OUT/KIND/CASE/ in the standard layout.

    python3 tests/conformance/generate.py [OUT]        (OUT: target/conformance)

The cases come with the `onnx` package: one-operator models with inputs and expected outputs (kind
`node`), small graphs (`simple`) and graphs converted from PyTorch; contrib/ makes those of
com.microsoft and what ONNX lacks (kind `contrib`) with onnxruntime. This script makes a virtual
environment beside OUT, installs the pinned packages there, and runs itself in it. Written per case:

    model.onnx
    test_data_set_N/{input,output}_K.pb    TensorProto, SequenceProto or OptionalProto
    meta.json                              {"rtol": …, "atol": …}: the tolerance of ONNX's runner
    model.onnxtxt, model.onnxtxt.pb        the model as ONNX prints it, and what ONNX's parser makes of that

The last two are missing where the model is large or ONNX's parser does not read what its printer wrote.

OUT/stamp is a copy of all scripts, written last: while it equals them there is nothing to do.
The exit status is 0 when OUT is complete.
"""
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = [
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "numpy==2.4.6",
    "ml_dtypes==0.6.0",
    "protobuf==7.36.2",
    "typing_extensions==4.16.0",
    "flatbuffers==25.12.19",
    "packaging==26.4",
]
KINDS = ["node", "simple", "pytorch-operator", "pytorch-converted"]
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
TEXT_OF = 100_000  # bytes of a model up to which its text is written
CASES = 2024  # in onnx 1.23.2; another number means that the package or this script changed
SCRIPT = Path(__file__).resolve()
SCRIPTS = [SCRIPT, *sorted(SCRIPT.with_name("contrib").glob("*.py"))]
FOLDER = "conformance"


def main():
    if sys.argv[1:2] == ["--inside"]:
        return write_all(Path(sys.argv[2]))
    out = Path(sys.argv[1] if len(sys.argv) > 1 else SCRIPT.parents[2] / "target" / FOLDER).resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out.with_name(out.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may start at once
        if not is_fresh(out):
            generate(out)


def is_fresh(out):
    stamp = out / "stamp"
    return stamp.is_file() and stamp.read_bytes() == wanted_stamp()


def wanted_stamp():
    return b"".join(script.read_bytes() for script in SCRIPTS)


def generate(out):
    """Fills a new folder in the environment of its own, and puts it in place when it is complete."""
    python = environment(out.with_name(out.name + "-venv"))
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    subprocess.run([python, SCRIPT, "--inside", fresh], check=True)
    (fresh / "stamp").write_bytes(wanted_stamp())
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)


def environment(folder):
    """The interpreter of a virtual environment that holds PACKAGES."""
    python, installed = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join(PACKAGES)
    if python.exists() and installed.is_file() and installed.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2", "--timeout", "30"]
    subprocess.run([python, "-m", "pip", "install", *quiet, *PACKAGES], check=True)
    installed.write_text(wanted)
    return python


def write_all(out):
    """Every case of every kind. Runs inside the environment."""
    import warnings

    from onnx.backend.test.loader import load_model_tests

    warnings.filterwarnings("ignore")  # the case generators provoke overflow and NaN on purpose
    count = 0
    for kind in KINDS:
        for case in load_model_tests(kind=kind):
            write_case(case, out / kind / case.name)
            count += 1
    if count != CASES:
        sys.exit(f"{count} cases, but {CASES} are expected")
    print(f"{count + write_contrib(out)} conformance cases in {out}")


def write_contrib(out):
    """The cases of contrib/."""
    import onnx

    import contrib

    count = 0
    for name, model, inputs, outputs, tolerance in contrib.all_cases():
        folder = out / "contrib" / name
        data_set = folder / "test_data_set_0"
        data_set.mkdir(parents=True)
        onnx.save(model, folder / "model.onnx")
        write_values(data_set, "input", inputs, model.graph.input)
        write_values(data_set, "output", outputs, model.graph.output)
        (folder / "meta.json").write_text(json.dumps(tolerance) + "\n")
        write_text(folder)
        count += 1
    return count


def write_case(case, folder):
    import onnx

    if case.model_dir:
        shutil.copytree(case.model_dir, folder)
    else:
        folder.mkdir(parents=True)
        onnx.save(case.model, folder / "model.onnx")
        for number, (inputs, outputs) in enumerate(case.data_sets):
            data_set = folder / f"test_data_set_{number}"
            data_set.mkdir()
            write_values(data_set, "input", inputs, case.model.graph.input)
            write_values(data_set, "output", outputs, case.model.graph.output)
    meta = {"rtol": case.rtol, "atol": case.atol}
    if draws(onnx.load(folder / "model.onnx").graph):
        meta["random"] = True
    if any(node.op_type == "DFT" for node in onnx.load(folder / "model.onnx").graph.node):
        meta["atol"] = max(meta["atol"], rounding(folder / "test_data_set_0" / "output_0.pb"))
    (folder / "meta.json").write_text(json.dumps(meta) + "\n")
    write_text(folder)


def write_text(folder):
    import onnx

    path = folder / "model.onnx"
    if path.stat().st_size > TEXT_OF:
        return
    model = onnx.load(path)
    # ONNX prints no sparse initializers.
    if model.graph.sparse_initializer:
        return
    text = onnx.printer.to_text(model)
    try:
        parsed = onnx.parser.parse_model(text)
    except onnx.parser.ParseError:
        return
    (folder / "model.onnxtxt").write_text(text)
    (folder / "model.onnxtxt.pb").write_bytes(parsed.SerializeToString())


def rounding(path):
    """What a transform in f32 is off by: the reference is one (NumPy transforms f32 in f32), so that elements which ought to
    be 0 are not, by up to a few units in the last place of the largest element."""
    import numpy
    import onnx
    from onnx import numpy_helper

    values = numpy_helper.to_array(onnx.load_tensor(path))
    return float(numpy.abs(values).max()) * 2**-22 if values.dtype == numpy.float32 else 0.0


def draws(graph):
    """Whether the model draws random numbers.

    The expected values of such a case are "for informational purpose": the operator "may not produce the same values in
    different implementations even if a seed is specified" (onnx/backend/test/case/node/bernoulli.py), and ONNX's own tests
    of its reference evaluator leave these cases out. What holds is the type, the shape, and the range of the values.
    """
    return any(node.op_type in RANDOM for node in graph.node)


def write_values(folder, role, values, infos):
    for number, (value, info) in enumerate(zip(values, infos)):
        (folder / f"{role}_{number}.pb").write_bytes(to_proto(value, info).SerializeToString())


def to_proto(value, info):
    """A message for `value`, which may be one already, of the kind that `info` declares."""
    import numpy
    import onnx
    from onnx import numpy_helper

    if isinstance(value, (onnx.TensorProto, onnx.SequenceProto, onnx.OptionalProto)):
        return value
    declared = info.type.WhichOneof("value")
    if declared == "sequence_type":
        return numpy_helper.from_list(list(value), info.name)
    if declared == "optional_type":
        return numpy_helper.from_optional(getattr(value, "value", value), info.name)
    return numpy_helper.from_array(numpy.asarray(value), info.name)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUTF8", "1")
    main()
