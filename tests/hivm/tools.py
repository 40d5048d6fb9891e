"""Prepares the vendor's open tools in a folder: its compiler's wheel, and the Debian packages that execute what it emits.

    tools.py FOLDER

Exit code 3, with a message, where they cannot be installed (no network, another platform).
"""

import os
import pathlib
import platform
import shutil
import subprocess
import sys
import zipfile

WHEEL = "ascendnpu-ir==1.2.0"
# The same LLVM as the vendor's.
MLIR = ["mlir-19-tools", "libmlir-19", "libllvm19"]
# Reads and compiles the bitcode of the vendor's templates; the version does not matter from 14 on.
LLVM = ["llvm-14", "libllvm14", "llvm-14-runtime"]


# Seconds for a download.
LIMIT = 300


def run(*command, cwd=None, environment=None):
    """Ends the script where the command fails."""
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error)
        sys.exit(3)
    if done.returncode != 0:
        print(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()[-500:]}")
        sys.exit(3)


def wheel(folder):
    if (folder / "wheel/ascendnpuir/bin/bishengir-opt").exists():
        return
    download = folder / "download"
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--python-version", "3.11", "--platform",
        "manylinux_2_28_x86_64", "--only-binary=:all:", "--dest", download, WHEEL)
    with zipfile.ZipFile(next(download.glob("ascendnpu_ir-*.whl"))) as archive:
        archive.extractall(folder / "wheel")
    for binary in (folder / "wheel/ascendnpuir/bin").iterdir():
        binary.chmod(0o755)


def lists(folder):
    """Options that make apt use lists of its own, where the system has none."""
    own = [folder / "apt/lists", folder / "apt/cache"]
    for path in own:
        (path / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::Lists={own[0]}", "-o", f"Dir::Cache={own[1]}"]
    run("apt-get", *options, "update")
    return options


def debian(folder, name, packages):
    unpacked = folder / name
    if unpacked.exists():
        return
    download = folder / f"{name}-packages"
    download.mkdir(exist_ok=True)
    own = lists(folder) if subprocess.run(["apt-cache", "show", packages[0]], capture_output=True).returncode else []
    run("apt-get", *own, "download", *packages, cwd=download)
    partial = folder / f"{name}-partial"
    for package in download.glob("*.deb"):
        run("dpkg", "-x", package, partial)
    partial.rename(unpacked)


def start(folder):
    """The tools need libraries of the system too; where these are missing they are not there."""
    root = folder / "mlir19/usr/lib"
    environment = dict(os.environ, LD_LIBRARY_PATH=f"{root}/x86_64-linux-gnu:{root}/llvm-19/lib")
    run(folder / "wheel/ascendnpuir/bin/bishengir-opt", "--version")
    run(root / "llvm-19/bin/mlir-opt", "--version", environment=environment)
    run("cc", "--version")


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        print("the vendor's tools exist for Linux on x86-64 only")
        return 3
    folder.mkdir(parents=True, exist_ok=True)
    wheel(folder)
    debian(folder, "mlir19", MLIR)
    if not (shutil.which("llvm-dis") and shutil.which("llvm-extract") and shutil.which("llc")):
        debian(folder, "llvm", LLVM)
    start(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
