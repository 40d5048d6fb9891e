"""Cases of operators that ONNX's own cases do not cover, or not alone: those of com.microsoft, and some of ONNX's. One-operator models with
random inputs of odd sizes.

Expected outputs are those of onnxruntime's CPU kernels without graph optimisations, or, where it has none, of ONNX's reference
evaluation, or of a formula in numpy written here from the operator's specification (`reference=`). Inputs are drawn from a generator that
is seeded by the case's name.
"""

import numpy as np
import onnxruntime

from contrib import attention, fused, generation, quantised, rest, standard  # noqa: F401: they register their cases
from contrib.build import CASES, Maybe, Sequence, one_node, run_model


def all_cases():
    """(name, model, inputs, outputs, tolerance) of every case; inputs are those that are no constants."""
    onnxruntime.set_default_logger_severity(4)
    for function in CASES:
        for name, op, inputs, attributes, options in function():
            if "reference" in options:
                outputs = options["reference"](*[x for x in inputs if x is not None])
            else:
                outputs = run_model(one_node(op, inputs, attributes, options, None), inputs)
            outputs = options.get("finish", list)([value(y) for y in outputs])
            model = one_node(op, inputs, attributes, options, outputs)
            constants = set(options.get("constants", ()))
            free = [x for i, x in enumerate(inputs) if x is not None and i not in constants]
            tolerance = {"rtol": options.get("rtol", 1e-4), "atol": options.get("atol", 1e-5)}
            yield name, model, free, outputs, dict(tolerance, random=True) if options.get("random") else tolerance


def value(y):
    if isinstance(y, (Maybe, Sequence)):
        return y
    return Sequence(y) if isinstance(y, list) else np.asarray(y)
