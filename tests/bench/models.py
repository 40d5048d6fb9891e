"""Model folders in ONNX's test layout: FOLDER/*.onnx, FOLDER/test_data_set_N/{input,output}_K.pb, FOLDER/meta.json."""
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def model_file(folder):
    """`model.onnx`, or the only ONNX file of the folder."""
    folder = Path(folder)
    if (folder / "model.onnx").exists():
        return folder / "model.onnx"
    found = sorted(folder.glob("*.onnx"))
    if len(found) != 1:
        raise SystemExit(f"{folder}: expected model.onnx or one *.onnx file, found {len(found)}")
    return found[0]


def read_tensors(data_set, role, count):
    """The arrays of `input_0.pb …` or `output_0.pb …`."""
    return [numpy_helper.to_array(onnx.load_tensor(data_set / f"{role}_{i}.pb")) for i in range(count)]


def write_tensors(data_set, role, named):
    """The counterpart: `named` is a list of (name, array)."""
    data_set.mkdir(parents=True, exist_ok=True)
    for i, (name, array) in enumerate(named):
        (data_set / f"{role}_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(array), name).SerializeToString())


def tolerance(folder):
    """(rtol, atol) of meta.json, or what suits float32."""
    meta = Path(folder) / "meta.json"
    meta = json.loads(meta.read_text()) if meta.exists() else {}
    return meta.get("rtol", 1e-3), meta.get("atol", 1e-4)
