#!/usr/bin/env python3
"""Writes src/signatures.txt: what every operator of ONNX takes and gives, in every version.

    python3 frontend/onnx/signatures.py        (needs the package `onnx`, the version that the conformance cases are of)

The facts are those of `onnx.defs`. A line is

    NAME VERSION | inputs | outputs | attributes | type variables

with inputs and outputs as `name:type`, `name?:type` (may be left out), `name*:type` (any number, of one type) or
`name**:type` (any number of any types), attributes as `name:kind` or `name!:kind` (required), and type variables as
`T=type,type`. A line `NAME VERSION removed` ends an operator. `[DOMAIN]` begins a domain.
"""
import re
from pathlib import Path

import onnx.defs

NAMES = {
    "bool": "bool", "uint2": "u2", "int2": "i2", "uint4": "u4", "int4": "i4", "uint8": "u8", "int8": "i8", "uint16": "u16",
    "int16": "i16", "uint32": "u32", "int32": "i32", "uint64": "u64", "int64": "i64", "float4e2m1": "f4e2m1", "float6e2m3": "f6e2m3", "float6e3m2": "f6e3m2",
    "float8e4m3fn": "f8e4m3fn", "float8e4m3fnuz": "f8e4m3fnuz", "float8e5m2": "f8e5m2", "float8e5m2fnuz": "f8e5m2fnuz",
    "float8e8m0": "f8e8m0", "float16": "f16", "bfloat16": "bf16", "float": "f32", "double": "f64", "string": "string",
    "complex64": "c64", "complex128": "c128",
}
ORDER = {name: at for at, name in enumerate(NAMES.values())}


def type_text(text):
    """`seq(tensor(float))` as `seq(f32)`."""
    text = text.replace(" ", "")
    inner = re.fullmatch(r"(tensor|sparse_tensor|seq|optional|map)\((.*)\)", text)
    if not inner:
        return NAMES[text]
    kind, rest = inner.groups()
    if kind == "map":
        key, value = rest.split(",", 1)
        return f"map({NAMES[key]}:{type_text(value)})"
    inside = type_text(rest)
    return inside if kind == "tensor" else f"{kind}({inside})"


def types_text(texts):
    return ",".join(sorted(map(type_text, texts), key=lambda name: (ORDER.get(name, 99), name)))


def parameter(one, variables, position, fewest):
    options = onnx.defs.OpSchema.FormalParameterOption
    mark = ""
    if one.option == options.Optional:
        mark = "?"
    if one.option == options.Variadic:
        mark = ("*" if one.is_homogeneous else "**") + ("" if fewest > position else "?")
    kind = one.type_str if one.type_str in variables else types_text(one.types)
    return f"{one.name}{mark}:{kind}"


def line(schema):
    if schema.deprecated:
        return f"{schema.name} {schema.since_version} removed"
    variables = {v.type_param_str: v.allowed_type_strs for v in schema.type_constraints}
    parts = [
        " ".join(parameter(p, variables, i, schema.min_input) for i, p in enumerate(schema.inputs)),
        " ".join(parameter(p, variables, i, schema.min_output) for i, p in enumerate(schema.outputs)),
        " ".join(
            f"{a.name}{'!' if a.required else ''}:{a.type.name.lower()}" for _, a in sorted(schema.attributes.items())
        ),
        " ".join(f"{name}={types_text(types)}" for name, types in sorted(variables.items())),
    ]
    return " | ".join([f"{schema.name} {schema.since_version}", *parts])


def main():
    domains = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        domains.setdefault(schema.domain or "ai.onnx", []).append(schema)
    lines = [f"# Written by signatures.py from onnx {onnx.__version__}."]
    for domain, schemas in sorted(domains.items()):
        lines.append(f"[{domain}]")
        lines += [line(s) for s in sorted(schemas, key=lambda s: (s.name, s.since_version))]
    (Path(__file__).parent / "src" / "signatures.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
