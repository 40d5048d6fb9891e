"""Executes exported kernels on x86 with the vendor's semantics: its lowering to the CPU, and LLVM's just-in-time compiler.

Vector cores run what the vendor's converter makes of an operation. Cube cores run the vendor's own templates, as bitcode, over a
model of the instructions in them (cube.c). The cores of a group are threads, and flags between them counters.

The text is prepared so that it means the same there: buffers are parts of one arena per memory, so that overlaps show; a reduction,
which the converter adds to what its result holds, begins with the identity; copies inside the core's memory, which the converter
does not know, become MLIR's own.
"""

import array
import ctypes
import json
import math
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading

import validate

ARENA = {"ub": 192 * 1024, "cbuf": 512 * 1024, "cc": 128 * 1024}
# The templates of the cube core that kernels call.
FLOATS = ["half", "float", "bfloat16_t"]
KINDS = [(kind, "float") for kind in FLOATS] + [("int8_t", "int32_t")]
TEMPLATES = [
    *(f"mma_tile_{kind}_to_{sum}{turned}" for kind, sum in KINDS for turned in ("", "_ta", "_tb", "_ta_tb")),
    *(f"nd2nz_{kind}" for kind, _ in KINDS),
    *(f"load_gm_to_cbuf_{axes}d_{kind}" for kind, _ in KINDS for axes in (1, 2, 3)),
    *(f"fixpipe_nz2nd_float_to_{kind}_4d_to_2d" for kind in FLOATS),
    "fixpipe_nz2nd_int32_t_to_int32_t_4d_to_2d",
]
LAYOUT = "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-f80:128-n8:16:32:64-S128"
IDENTITY = {"sum": "0.0", "prod": "1.0", "max": "0xFF800000", "min": "0x7F800000"}
HALF_IDENTITY = {"sum": "0.0", "prod": "1.0", "max": "0xFC00", "min": "0x7C00"}
LOWERING = [
    "--one-shot-bufferize=allow-unknown-ops", "--convert-bufferization-to-memref", "--convert-linalg-to-loops",
    "--expand-strided-metadata", "--lower-affine", "--arith-expand=include-bf16=true", "--convert-scf-to-cf", "--convert-math-to-llvm",
    "--convert-math-to-libm", "--lower-affine", "--finalize-memref-to-llvm", "--convert-arith-to-llvm",
    "--convert-index-to-llvm", "--convert-func-to-llvm", "--convert-cf-to-llvm", "--reconcile-unrealized-casts",
]
# How far results may be from ours, relative to the largest element: other orders of summation, other approximations of functions.
TOLERANCE = {"f32": 2e-5, "f16": 4e-3, "bf16": 2e-2}


class Unsupported(Exception):
    """What the vendor's converter cannot execute."""


def identity(op, ty):
    if ty in ("f32", "f16"):
        return f"arith.constant {(IDENTITY if ty == 'f32' else HALF_IDENTITY)[op]} : {ty}"
    value = {"sum": 0, "prod": 1, "max": -(1 << 31), "min": (1 << 31) - 1}[op]
    return f"arith.constant {value} : {ty}"


def prepared(text):
    """The text of one function, ready for the converter."""
    text = re.sub(r"^\s*hivm\.hir\.(set_flag|wait_flag|pipe_barrier|set_mask_norm|set_ffts_base_addr|dcci).*\n", "", text, flags=re.M)
    text = re.sub(r" \{hacc\.arg_type = [^}]*\}", "", text)
    text = re.sub(r"(%\w+) = hivm\.hir\.get_sub_block_idx -> i64", r"\1 = func.call @group_lane() : () -> i64", text)
    text = with_group_flags(text)
    text = with_loops(text)
    text = with_identities(text)
    text = with_arenas(text)
    copy = r"hivm\.hir\.copy ins\((%\w+) : (memref<.*?>>)\) outs\((%\w+) : (memref<.*>)\)"
    text = re.sub(copy, r"memref.copy \1, \3 : \2 to \4", text)
    external = [("group_set", "(i64, i64)"), ("group_wait", "(i64, i64)"), ("group_lane", "() -> i64")]
    declared = "".join(f"  func.func private @{name}{ty}\n" for name, ty in external if f"@{name}(" in text)
    start = text.index("func.func")
    return text[:start] + declared.lstrip() + text[start:]


def with_group_flags(text):
    """Flags between cores as calls of counters."""
    count = 0

    def flag(match):
        nonlocal count
        count += 1
        indent, op, core, number = match.groups()
        lines = [f"%core_{count} = arith.constant {int(core == 'CUBE')} : i64"]
        if not number.startswith("%"):
            lines.append(f"%flag_{count} = arith.constant {number} : i64")
            number = f"%flag_{count}"
        lines.append(f"func.call @group_{op}(%core_{count}, {number}) : (i64, i64) -> ()")
        return "".join(f"{indent}{line}\n" for line in lines)

    return re.sub(r"^( *)hivm\.hir\.sync_block_(set|wait)\[<(CUBE|VECTOR)>[^\]]*\] flag = (%?\w+).*\n", flag, text, flags=re.M)


def with_loops(text):
    """Casts and comparisons, which the converter does not know between buffers, as loops over elements."""

    def loop(match):
        indent, op, ins, outs, rest = match.groups()
        (inputs, types), (result, result_type) = operands(ins), (part[0] for part in operands(outs))
        from_type, to_type = element(types[0]), element(result_type)
        arrays = [(name, ty) for name, ty in zip(inputs, types) if ty.startswith("memref")]
        values = [f"%e{arrays.index((name, ty))}" if (name, ty) in arrays else name for name, ty in zip(inputs, types)]
        if op == "vcmp":
            mode = re.search(r"compare_mode<(\w+)>", rest).group(1)
            lines = [comparison(mode, *values, from_type)]
        else:
            lines = [conversion(values[0], from_type, to_type, re.search(r"round_mode<(\w+)>", rest).group(1))]
        axes = ", ".join(f"d{axis}" for axis in range(result_type.split(",")[0].count("x")))
        maps = ", ".join([f"affine_map<({axes}) -> ({axes})>"] * (len(arrays) + 1))
        kinds = ", ".join(['"parallel"'] * (axes.count("d")))
        block = ", ".join([f"%e{at}: {element(ty)}" for at, (_, ty) in enumerate(arrays)] + [f"%o: {to_type}"])
        return "".join(indent + line + "\n" for line in [
            f"linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}}"
            f" ins({', '.join(name for name, _ in arrays)} : {', '.join(ty for _, ty in arrays)}) outs({result} : {result_type}) {{",
            f"^bb0({block}):", *lines, f"linalg.yield %r : {to_type}", "}"])

    pattern = r"^( *)hivm\.hir\.(vcast|vcmp) ins\(((?:[^()]|\([^()]*\))*)\) outs\((.*?)\)( .*)?\n"
    return re.sub(pattern, loop, text, flags=re.M)


def operands(text):
    """Names and types of `%a, %b : type, type`."""
    names, types = text.split(" : ", 1)
    return names.split(", "), re.findall(r"memref<.*?>>|[a-z]\w*", types)


def element(ty):
    return re.search(r"x([a-z]\w*), ", ty).group(1) if ty.startswith("memref") else ty


def comparison(mode, a, b, ty):
    if ty.startswith(("f", "bf")):
        # Only `ne` holds where a number is missing.
        return f"%r = arith.cmpf {'une' if mode == 'ne' else 'o' + mode}, {a}, {b} : {ty}"
    return f"%r = arith.cmpi {mode if mode in ('eq', 'ne') else 's' + mode}, {a}, {b} : {ty}"


def conversion(value, source, target, mode):
    floats = [ty.startswith(("f", "bf")) for ty in (source, target)]
    bits = [int(re.sub(r"\D", "", ty)) for ty in (source, target)]
    if floats == [False, False]:
        op = "extsi" if bits[0] < bits[1] else "trunci"
    elif floats == [True, False]:
        if mode != "trunc":
            raise Unsupported(f"a cast to integers that rounds by {mode}")
        op = "fptosi"
    elif floats == [False, True]:
        op = "uitofp" if bits[0] == 1 else "sitofp"
    elif source == target:
        rounding = {"rint": "roundeven", "round": "round", "floor": "floor", "ceil": "ceil", "trunc": "trunc"}
        return f"%r = math.{rounding[mode]} {value} : {source}"
    else:
        op = "extf" if bits[0] < bits[1] else "truncf"
    return f"%r = arith.{op} {value} : {source} to {target}"


def with_identities(text):
    """Reductions begin with their identity."""
    count = 0

    def reduction(match):
        nonlocal count
        count += 1
        indent, op, out, ty = match.groups()
        start = f"{indent}%identity_{count} = {identity(op, element(ty))}\n"
        return f"{start}{indent}hivm.hir.vbrc ins(%identity_{count} : {element(ty)}) outs({out} : {ty})\n{match.group(0)}"

    pattern = r"^( *)hivm\.hir\.vreduce <(\w+)> ins\(.*?\) outs\((%\w+) : (memref<.*?>>)\) temp_buffer.*$"
    return re.sub(pattern, reduction, text, flags=re.M)


def with_arenas(text):
    """Buffers at their addresses in one piece of memory."""

    def arena(space):
        return f"memref<{ARENA[space]}xi8, #hivm.address_space<{space}>>"

    def buffer(match):
        indent, name, address, ty, space = match.groups()
        if "xi1," in ty:
            # Bits are bytes here: they get memory of their own.
            return f"{indent}{name} = memref.alloca() : {ty}"
        at = f"%at_{name[1:]}"
        lines = [f"{at} = arith.index_cast {address} : i64 to index", f"{name} = memref.view %arena_{space}[{at}][] : {arena(space)} to {ty}"]
        return "\n".join(indent + line for line in lines)

    text = re.sub(r"^( *)(%\w+) = hivm\.hir\.pointer_cast\((%\w+)\) : (memref<.*<(\w+)>>)$", buffer, text, flags=re.M)
    start = text.index("{\n", text.index("func.func")) + 2
    arenas = "".join(
        f"    %arena_{space} = memref.alloca() {{alignment = 64 : i64}} : {arena(space)}\n" for space in ARENA if f"%arena_{space}[" in text)
    return text[:start] + arenas + text[start:]


def functions(text):
    """A module for every function: name, kind of core, text."""
    header = text[: text.index("{\n") + 2]
    for part in text.split("  func.func @")[1:]:
        body = part[: part.index("\n  }\n") + len("\n  }\n")]
        kind = re.search(r"func_core_type<(\w+)>", body).group(1)
        yield body[: body.index("(")], kind, f"{header}  func.func @{body}}}\n"


def lowered(tools, text, kind):
    """Plain MLIR: the vendor's lowering, then what names its dialects taken away."""
    converter = ["--execution-engine-convert-hivm-to-upstream", "--execution-engine-convert-hfusion-to-upstream"]
    passes = ["--hivm-lower-to-cpu-backend", *converter] if kind == "AIV" else ["--convert-hivm-to-std", "--hivm-lower-to-cpu-backend"]
    output, error = tools.run(text, *passes)
    if error:
        raise Unsupported(f"the converter: {error}")
    left = set(re.findall(r"hivm\.hir\.(\w+)[ \[]", output))
    if left:
        raise Unsupported(f"the converter leaves {sorted(left)}")
    start = output.index("module")
    body = output[output.index("{\n", start) + 2 : output.rstrip().rindex("}")]
    interface = "attributes {llvm.emit_c_interface}"
    body = re.sub(r"attributes \{[^\n]*(hacc|hivm)[^\n]*\} \{\n", interface + " {\n", body)
    body = re.sub(r"(func\.func private @\w+\([^\n]*\)) attributes \{[^\n]*(hacc|hivm)[^\n]*\}", rf"\1 {interface}", body)
    body = re.sub(r", #hivm\.address_space<\w+>", "", body)
    return output[:start] + body + "\nfunc.func @main() { return }\n"


def templates(tools):
    """The vendor's cube templates over cube.c, as a shared library; made once."""
    library = tools.folder / "cube.so"
    if library.exists():
        return library
    bitcode = tools.folder / "wheel/ascendnpuir/lib/meta_op.aic.bc"
    with tempfile.TemporaryDirectory() as scratch:
        wanted = [f"-func=_mlir_ciface_{name}" for name in TEMPLATES]
        extract = [validate.program(tools.folder, "llvm-extract"), "-opaque-pointers", "-recursive", *wanted, bitcode, "-S", "-o", "-"]
        text = subprocess.run(extract, capture_output=True, text=True, check=True).stdout.replace("@llvm.hivm.", "@hivm.")
        text = re.sub(r'target datalayout = "[^"]*"', f'target datalayout = "{LAYOUT}"', text)
        text = re.sub(r'target triple = "[^"]*"', 'target triple = "x86_64-pc-linux-gnu"', text)
        text = re.sub(r'"target-(cpu|features)"="[^"]*"', "", text)
        text = re.sub(r"(^declare [^\n]*@hivm\.[^\n]*?)#\d+", r"\1", text, flags=re.M)
        code = f"{scratch}/templates.o"
        compile = [validate.program(tools.folder, "llc"), "-opaque-pointers", "-O1", "-relocation-model=pic", "-filetype=obj", "-", "-o", code]
        subprocess.run(compile, input=text, text=True, check=True)
        source = pathlib.Path(__file__).with_name("cube.c")
        partial = f"{scratch}/cube.so"
        subprocess.run(["cc", "-O2", "-w", "-fPIC", "-shared", "-o", partial, source, code, "-lm", "-lpthread"], check=True)
        shutil.copy(partial, f"{library}.{os.getpid()}")
        os.rename(f"{library}.{os.getpid()}", library)
    return library


def compiled(tools, text, folder):
    """A shared library of plain MLIR."""
    root = tools.folder / "mlir19/usr/lib"
    environment = dict(os.environ, LD_LIBRARY_PATH=f"{root}/x86_64-linux-gnu:{root}/llvm-19/lib")
    llvm = root / "llvm-19"
    done = subprocess.run([llvm / "bin/mlir-opt", "-", *LOWERING], input=text, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise Unsupported(f"mlir-opt: {done.stderr.strip()[:200]}")
    libraries = [llvm / f"lib/lib{name}.so.19.1" for name in ("mlir_runner_utils", "mlir_c_runner_utils")] + [templates(tools)]
    support = ",".join(map(str, libraries))
    run = [llvm / "bin/mlir-cpu-runner", "-e", "main", "-entry-point-result=void", "-dump-object-file",
           f"-object-filename={folder}/kernel.o", f"-shared-libs={support}"]
    done = subprocess.run(run, input=done.stdout, capture_output=True, text=True, env=environment)
    if done.returncode != 0 or not os.path.exists(f"{folder}/kernel.o"):
        raise Unsupported(f"mlir-cpu-runner: {done.stderr.strip()[:200]}")
    link = ["cc", "-shared", "-o", f"{folder}/kernel.so", f"{folder}/kernel.o", *libraries, "-lm",
            "-Wl,--disable-new-dtags", f"-Wl,-rpath,{llvm}/lib", f"-Wl,-rpath,{root}/x86_64-linux-gnu"]
    done = subprocess.run(link, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unsupported(f"the linker: {done.stderr.strip()[:200]}")
    return f"{folder}/kernel.so"


class Descriptor(ctypes.Structure):
    """MLIR's memref of one axis."""

    _fields_ = [("allocated", ctypes.c_void_p), ("aligned", ctypes.c_void_p), ("offset", ctypes.c_int64),
                ("size", ctypes.c_int64), ("stride", ctypes.c_int64)]


def memref(buffer, count):
    address = ctypes.addressof(buffer)
    return ctypes.byref(Descriptor(address, address, 0, count, 1))


def execute(tools, text, case, folder):
    """What is wrong with the results of a kernel; None if they agree with ours. Runs in a process of its own."""
    group = ctypes.CDLL(str(templates(tools)), mode=ctypes.RTLD_GLOBAL)
    cores = []
    for name, kind, part in functions(text):
        # What MLIR's own libraries need, but would look for elsewhere.
        ctypes.CDLL(str(tools.folder / "mlir19/usr/lib/x86_64-linux-gnu/libLLVM.so.19.1"))
        with tempfile.TemporaryDirectory() as scratch:
            library = ctypes.CDLL(compiled(tools, lowered(tools, prepared(part), kind), scratch))
        lanes = [0, 1] if kind == "AIV" and name.endswith("_mix_aiv") else [0]
        cores += [(getattr(library, f"_mlir_ciface_{name}"), lane) for lane in lanes]
    buffers, expected, arguments = [], [], []
    if len(cores) > 1:
        arguments.append(ctypes.c_int64(0))
    for param in case["params"]:
        data = (folder / param["file"]).read_bytes()
        expected.append(data if param["written"] else None)
        buffers.append(ctypes.create_string_buffer(bytes(len(data)) if param["written"] else data, max(len(data), 1)))
        arguments.append(memref(buffers[-1], param["count"]))
    if case["workspace"]:
        workspace = ctypes.create_string_buffer(case["workspace"])
        arguments.append(memref(workspace, case["workspace"]))
    arguments += [ctypes.c_int64(value) for _, value in case["symbols"]]

    def run(function, lane):
        group.group_enter(lane)
        function(*arguments)

    # Buffers of every turn of the loop over blocks stay on the stack.
    threading.stack_size(1 << 30)
    threads = [threading.Thread(target=run, args=core) for core in cores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if group.group_left():
        return f"{group.group_left()} flags between cores are left"
    for param, buffer, wanted in zip(case["params"], buffers, expected):
        wrong = wanted is not None and difference(param["dtype"], buffer.raw[: len(wanted)], wanted)
        if wrong:
            return f"{param['file']}: {wrong}"
    return None


def numbers(dtype, data):
    if dtype == "bf16":
        return [struct.unpack("<f", bytes(2) + data[at : at + 2])[0] for at in range(0, len(data), 2)]
    if dtype == "f16":
        return struct.unpack(f"<{len(data) // 2}e", data)
    values = array.array("f")
    values.frombytes(data)
    return values


def difference(dtype, found, wanted):
    """How results differ, or None."""
    if dtype not in TOLERANCE:
        return None if found == wanted else "other integers"
    found, wanted = numbers(dtype, found), numbers(dtype, wanted)
    scale = max((abs(value) for value in wanted if math.isfinite(value)), default=1.0) or 1.0
    worst = 0.0
    for a, b in zip(found, wanted):
        if a == b or math.isnan(a) and math.isnan(b):
            continue
        worst = max(worst, abs(a - b) / scale if math.isfinite(a) and math.isfinite(b) else math.inf)
    return None if worst <= TOLERANCE[dtype] else f"differs by {worst:.2g} of the largest element"


def main():
    """execute.py TOOLS FOLDER NAME: prints what is wrong; nothing if the results agree."""
    tools, folder, name = validate.Tools(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    case = json.loads((folder / f"{name}.case.json").read_text())
    try:
        wrong = execute(tools, (folder / f"{name}.mlir").read_text(), case, folder)
        if wrong:
            print(f"wrong: {wrong}")
    except Unsupported as reason:
        print(f"unsupported: {reason}")


if __name__ == "__main__":
    main()
