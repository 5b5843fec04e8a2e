"""Build `.venv` from requirements.lock: `python3 scripts/environment.py`, which `make` does when it is needed.

A machine without an NVIDIA GPU gets the CPU build of torch where its index can be reached: the default Linux build
brings several GB of CUDA libraries. The lock serves as constraints, so that it pins what is installed and adds nothing.
Running it again after an interruption continues; packages that are there already are not fetched twice.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
EXTRAS = "service,torch,tensorflow,frontend,training,dev"
OLDEST, NEWEST = (3, 11), (3, 13)  # TensorFlow has no wheels outside this range

LOCK = ["-c", "requirements.lock"]  # pip and uv both know the short form
INSTALL = ["pip", "install", *LOCK, "--build-constraints", "requirements.lock", "--editable", f".[{EXTRAS}]"]
CPU = "--torch-backend=cpu"  # uv's name for the index of the CPU builds


def main() -> int:
    """Make the environment complete. Returns the exit code: 0, or 1 after a message that says what is missing."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = ".".join(map(str, sys.version_info[:3]))
        wanted = "{}.{} to {}.{}".format(*OLDEST, *NEWEST)
        return fail(
            f"this project needs Python {wanted}. Name one with `make PYTHON=python3.12 ...`. "
            f"Received: Python {found} ({sys.executable})"
        )
    os.chdir(ROOT)
    os.environ["VIRTUAL_ENV"] = str(VENV)
    python, uv = VENV / "bin/python", VENV / "bin/uv"

    if not works(python, "-c", "pass"):
        say("making .venv")
        if run(sys.executable, "-m", "venv", "--clear", VENV):
            return fail("Python's venv module does not work here; on Debian: apt-get install python3-venv")
    if not works(uv, "--version"):
        say("installing uv into it")
        if not works(python, "-m", "pip", "--version"):  # an interrupted venv, or one that another tool made
            run(python, "-m", "ensurepip", "--default-pip")
        if run(python, "-m", "pip", "install", "--quiet", *LOCK, "uv"):
            return fail("uv can't be installed; is the package index reachable?")

    say("installing what requirements.lock names (the first time takes minutes)")
    if run(uv, *INSTALL, *torch_build(uv)):
        return fail("the installation did not finish; the same command continues it")
    return 0


def torch_build(uv: Path) -> list[str]:
    """The option that chooses torch's CPU build, or nothing: with a GPU, away from Linux, or if that index is away."""
    if sys.platform != "linux" or os.environ.get("UV_TORCH_BACKEND") or works("nvidia-smi", "-L"):
        return []
    patience = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "15"}
    if works(uv, *INSTALL, CPU, "--dry-run", env=patience):
        return [CPU]
    say("the index of torch's CPU builds can't be reached; the default build works too and is some GB larger")
    return []


def works(*command: str | Path, env: dict[str, str] | None = None) -> bool:
    """Whether the command exists and ends with 0; its output is not shown."""
    try:
        result = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}
        )
    except OSError:
        return False
    return result.returncode == 0


def run(*command: str | Path) -> int:
    """Run the command in plain sight. Returns its exit code."""
    return subprocess.run(command, stdin=subprocess.DEVNULL).returncode


def say(text: str) -> None:
    """One line about what happens now."""
    print(f"environment: {text}", flush=True)


def fail(text: str) -> int:
    """One line about what went wrong. Returns 1."""
    print(f"environment: {text}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(fail("interrupted; the same command continues"))
