"""A virtual environment under target/ for the scripts here, made at the first use."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ["numpy==2.4.6", "onnx==1.23.2", "onnxruntime==1.32.0"]
ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def enter():
    """Goes on in the environment: the calling script is started again there unless it is there already, or the environment
    cannot be made; it then goes on with what this Python has."""
    folder = TARGET / "bench-venv"
    python, installed = folder / "bin" / "python", folder / "installed"
    if Path(sys.prefix).resolve() == folder.resolve():
        return
    wanted = "\n".join(PACKAGES)
    if not (python.exists() and installed.is_file() and installed.read_text() == wanted):
        print(f"installing {', '.join(PACKAGES)} into {folder} (once)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", *quiet, *PACKAGES], check=True)
        except subprocess.CalledProcessError as error:
            print(f"WARNING: no environment ({error}); going on with the packages of {sys.executable}", file=sys.stderr)
            return
        installed.write_text(wanted)
    os.execv(python, [str(python), *sys.argv])
