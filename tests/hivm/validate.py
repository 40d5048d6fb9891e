"""Runs exported kernels through the vendor's open tools (docs/hivm.md names the stages).

    validate.py TOOLS FOLDER [COUNT]

COUNT asks for a sample of so many kernels. TOOLS is what tools.py prepared. FOLDER holds one folder per model with NAME.mlir,
NAME.flagless.mlir and NAME.planned.mlir of every kernel. Prints counts and every failure; the report is FOLDER/report.json.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

# What the lowering to library calls leaves: order, addresses, positions, caches.
REMAINS = {
    "set_flag", "wait_flag", "pipe_barrier", "pointer_cast", "get_block_idx", "get_block_num", "get_sub_block_idx",
    "get_sub_block_num", "set_mask_norm", "set_ffts_base_addr", "sync_block_set", "sync_block_wait", "sync_block", "dcci",
}
# Libraries whose argument lists are those that this version of the tools emits.
LIBRARIES = ["meta_op.aiv.bc", "meta_op.aic.bc", "meta_op.mix.aiv.bc", "meta_op.mix.aic.bc"]
# Seconds that one program of the vendor, or one execution, may take.
LIMIT = 60
# Kernels after which a line says how far the work is.
REPORT_EVERY = 50


class Tools:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.opt = self.folder / "wheel/ascendnpuir/bin/bishengir-opt"
        self.compile = self.folder / "wheel/ascendnpuir/bin/bishengir-compile"
        # Where one of the vendor's programs crashes, it would spend its time on the names in its stack.
        os.environ["LLVM_DISABLE_SYMBOLIZATION"] = "1"
        unpacked = self.folder / "llvm/usr/lib/x86_64-linux-gnu"
        if unpacked.exists():
            os.environ["LD_LIBRARY_PATH"] = str(unpacked)
        self.symbols = self.read_symbols()

    def read_symbols(self):
        cached = self.folder / "symbols.txt"
        if not cached.exists():
            names = set()
            for library in LIBRARIES:
                text = subprocess.run(
                    [program(self.folder, "llvm-dis"), "-opaque-pointers", self.folder / "wheel/ascendnpuir/lib" / library, "-o", "-"],
                    capture_output=True, text=True).stdout
                names.update(re.findall(r"^define [^@]*@_mlir_ciface_(\w+)", text, re.M))
            cached.write_text("\n".join(sorted(names)))
        return set(cached.read_text().split())

    def run(self, text, *passes):
        """Output of the optimiser, or the first lines of what it complained about."""
        try:
            done = subprocess.run([self.opt, "-", *passes], input=text, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return None, f"no end in {LIMIT} s"
        return (done.stdout, None) if done.returncode == 0 else (None, complaint(done.stderr, done.returncode))

    def pipeline(self, path, *options):
        """V6 and V7: whether the pipeline reaches the closed code generator."""
        with tempfile.TemporaryDirectory() as scratch:
            try:
                done = subprocess.run(
                    [self.compile, path, "--target=Ascend910B2", f"--save-temps={scratch}/d", "-o", f"{scratch}/x.o", *options],
                    capture_output=True, text=True, timeout=LIMIT)
            except subprocess.TimeoutExpired:
                return f"no end in {LIMIT} s"
            written = pathlib.Path(scratch, "d/module.hivm.opt.mlir")
            reached = written.exists() and "External hivmc run fails" in done.stderr + done.stdout
            return None if reached else complaint(done.stderr + done.stdout, done.returncode)


def program(folder, name):
    """One of LLVM's programs: the system's, or the one unpacked beside the wheel."""
    return shutil.which(name) or str(next(folder.glob(f"llvm/usr/lib/llvm-*/bin/{name}")))


def complaint(text, code):
    errors = [line for line in text.splitlines() if "error:" in line or "overflow" in line]
    errors = [line for line in errors if "hivmc" not in line]
    return f"exit {code}: " + " | ".join(line[-300:] for line in errors[:2])


def library_calls(tools, text):
    """V2 and V3: what is left of the dialect, and which calls have no template."""
    lowered, error = tools.run(text, "--convert-hivm-to-std")
    if error:
        return error, "not lowered"
    left = set(re.findall(r"hivm\.hir\.(\w+)", lowered)) - REMAINS
    calls = set(re.findall(r"call @(\w+)", lowered)) - tools.symbols
    return (f"left: {sorted(left)}" if left else None), (f"no template: {sorted(calls)}" if calls else None)


def dependences(text):
    """Pairs of pipes that flags order, and pipes with barriers."""
    pairs = set(re.findall(r"set_flag\[<(PIPE_\w+)>, <(PIPE_\w+)>", text))
    if "mmadL1" in text:
        # The macro keeps the order between loading its operands and multiplying.
        pairs |= {("PIPE_MTE1", "PIPE_M"), ("PIPE_M", "PIPE_MTE1")}
    barriers = set(re.findall(r"pipe_barrier\[<(PIPE_\w+)>", text))
    return pairs, barriers


def compare_order(tools, ours, flagless):
    """V5: every dependence that the vendor's solver finds must be ordered by ours, directly or by way of other pipes."""
    solved, error = tools.run(flagless, "--hivm-graph-sync-solver")
    if error:
        return error
    missing = set()
    for own, theirs in zip(functions(ours), functions(solved)):
        pairs, barriers = dependences(own)
        reach = closure(pairs)
        wanted, wanted_barriers = dependences(theirs)
        inner_all = re.findall(r"pipe_barrier\[<PIPE_ALL>\]", own)
        if len(inner_all) > 1:
            continue
        missing |= {f"{a}->{b}" for a, b in wanted if (a, b) not in reach}
        missing |= {f"barrier {pipe}" for pipe in wanted_barriers - barriers - {"PIPE_ALL"} if (pipe, pipe) not in reach}
    return f"not ordered: {sorted(missing)}" if missing else None


def functions(text):
    return text.split("func.func @")[1:]


def closure(pairs):
    reach = set(pairs)
    while True:
        more = {(a, d) for a, b in reach for c, d in reach if b == c} - reach
        if not more:
            return reach
        reach |= more


def check(tools, path):
    """All stages of one kernel: name of the stage and what is wrong, None if nothing; and the kinds of cores that it uses."""
    name = path.name[: -len(".mlir")]
    ours = path.read_text()
    flagless = path.with_name(f"{name}.flagless.mlir").read_text()
    planned = path.with_name(f"{name}.planned.mlir")
    results = {"V1": None}
    results["V2"], results["V3"] = library_calls(tools, ours)
    if results["V3"] == "not lowered":
        results["V1"] = tools.run(ours)[1]
    results["V4"] = tools.run(planned.read_text(), "--hivm-plan-memory")[1]
    results["V5"] = compare_order(tools, ours, flagless)
    results["V6"] = tools.pipeline(planned, "--enable-hivm-compile=true", "--disable-hivm-tensor-compile=true")
    results["V7"] = tools.pipeline(path, "--enable-hivm-compile=false")
    results["run"] = executed(tools, path, name)
    kinds = set(re.findall(r"func_core_type<(\w+)>", ours))
    return f"{path.parent.name}/{name}", results, "vector" if kinds == {"AIV"} else "cube"


def executed(tools, path, name):
    """Execution on x86, in a process of its own: what a kernel does there cannot hurt this one."""
    if not path.with_name(f"{name}.case.json").exists():
        reason = path.with_name(f"{name}.nocase")
        return f"no case: {reason.read_text().strip()[:200]}" if reason.exists() else "no case"
    script = pathlib.Path(__file__).with_name("execute.py")
    try:
        done = subprocess.run(
            [sys.executable, script, tools.folder, path.parent, name], capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return f"wrong: no end in {LIMIT} s"
    if done.returncode != 0:
        return f"wrong: exit {done.returncode}: {done.stderr.strip()[-200:]}"
    return done.stdout.strip() or None


def listed(report):
    """What is wrong, each with all its kernels."""
    reasons = collections.defaultdict(list)
    for name, (results, _) in report.items():
        for stage, wrong in results.items():
            if wrong is not None:
                quiet = re.sub(r'loc\("[^"]*":[\d:]*\)|\S+\.mlir\S*', "", wrong)
                reasons[f"{stage} {re.sub('[0-9]+', 'N', quiet)[:160]}"].append(name)
    for reason, names in sorted(reasons.items(), key=lambda entry: -len(entry[1])):
        must = reason.startswith(("V1", "V2", "V3", "run wrong"))
        shown = names if must else names[:3] + ["..."] * (len(names) > 3)
        print(f"{len(names):4} {reason}: {' '.join(shown)}")


def counted(report):
    """The counts; whether everything that must hold does."""
    total = len(report)
    passed = collections.Counter(stage for results, _ in report.values() for stage, wrong in results.items() if wrong is None)
    print(f"{total} kernels: " + ", ".join(f"{stage} {passed[stage]}" for stage in ["V1", "V2", "V3", "V4", "V5", "V6", "V7"]))
    print(f"order: ours keeps every order between pipes that the vendor's solver finds for {passed['V5']} of {total}")
    wrong = 0
    for kind in ["vector", "cube"]:
        outcomes = collections.Counter((results["run"] or "agrees").split(":")[0] for results, of in report.values() if of == kind)
        wrong += outcomes["wrong"]
        print(f"executed on x86, {kind} kernels: {outcomes['agrees'] + outcomes['wrong']} of {sum(outcomes.values())}, "
              f"{outcomes['agrees']} agree with the reference, {outcomes['wrong']} do not; "
              f"{outcomes['no case']} without a case, {outcomes['unsupported']} that the converter does not know")
    accepted = sum(
        all(results[stage] is None for stage in ["V1", "V2", "V3"]) and None in (results["V6"], results["V7"])
        for results, _ in report.values())
    print(f"accepted (V1, V2, V3, and V6 or V7): {accepted} of {total}")
    return accepted == total and wrong == 0


def main():
    tools, folder = Tools(sys.argv[1]), pathlib.Path(sys.argv[2])
    kernels = [path for path in sorted(folder.glob("*/*.mlir")) if path.name.count(".") == 1]
    if len(sys.argv) > 3 and int(sys.argv[3]) < len(kernels):
        count = int(sys.argv[3])
        print(f"a sample of {count} of {len(kernels)} kernels; TARSIA_HIVM=all is for all of them")
        kernels = [kernels[at * len(kernels) // count] for at in range(count)]
    execute_templates(tools)
    report, start = {}, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done in concurrent.futures.as_completed([pool.submit(check, tools, path) for path in kernels]):
            name, results, kind = done.result()
            report[name] = (results, kind)
            if len(report) % REPORT_EVERY == 0:
                print(f"{len(report)} of {len(kernels)} kernels, {time.monotonic() - start:.0f} s")
    report = dict(sorted(report.items()))
    (folder / "report.json").write_text(json.dumps({name: results for name, (results, _) in report.items()}, indent=1))
    listed(report)
    return 0 if counted(report) else 1


def execute_templates(tools):
    """The library of templates is made before several need it at once."""
    import execute

    execute.templates(tools)


if __name__ == "__main__":
    sys.exit(main())
