"""Build `.venv` from requirements.lock; `make` runs it when needed.

A machine without an NVIDIA GPU gets the CPU build of torch if its index is reachable: the default
Linux build brings several GB of CUDA libraries. The lock serves as constraints: it pins versions
and adds no packages. After an interruption, run it again; packages are not downloaded twice.

The Dockerfiles run it too, with the extras of their image and without the project itself. Unknown
arguments are passed to `uv pip install`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = (
    "service,grpc,otel,remote,ray,torch,tensorflow,openvino,accelerate,signing,frontend,"
    "training,docs,dev"
)
OLDEST, NEWEST = (3, 11), (3, 13)  # TensorFlow has no wheels outside this range

LOCK = ["-c", "requirements.lock"]  # pip and uv both know the short form
CPU = "--torch-backend=cpu"  # uv's name for the index of the CPU builds
QUICK = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "15"}  # to find out whether it is reachable


def main() -> int:
    """Build the environment. Returns the exit code: 0, or 1 after a message."""
    options, more = arguments()
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = ".".join(map(str, sys.version_info[:3]))
        wanted = "{}.{} to {}.{}".format(*OLDEST, *NEWEST)
        return fail(
            f"this project needs Python {wanted}. Name one with `make PYTHON=python3.12 ...`. "
            f"Received: Python {found} ({sys.executable})"
        )
    os.chdir(ROOT)
    os.environ["VIRTUAL_ENV"] = str(ROOT / ".venv")
    uv = options.uv or Path(".venv/bin/uv").resolve()
    if not (make_venv(with_pip=options.uv is None) and (works(uv, "--version") or install_uv())):
        return 1

    info("installing the packages of requirements.lock (takes minutes the first time)")
    install = [uv, "pip", "install", *LOCK, "--build-constraints", "requirements.lock", *more]
    if options.dependencies_only:
        install += [
            "-r",
            "pyproject.toml",
            *(f"--extra={extra}" for extra in options.extras.split(",")),
        ]
    else:
        install += ["--editable", f".[{options.extras}]"]
    if options.gpu == "yes" or os.environ.get("UV_TORCH_BACKEND") or sys.platform != "linux":
        pass  # the default builds, or the user's choice
    elif options.gpu == "auto" and works("nvidia-smi", "-L"):
        info("found an NVIDIA GPU: torch with CUDA")
    elif works(*install, CPU, "--dry-run", env=QUICK):
        install += [CPU]
    else:
        info("torch's CPU builds are not reachable; the default build works too, some GB larger")
    # Where Python must not write bytecode (PYTHONDONTWRITEBYTECODE), every worker process would
    # compile its framework again: `import torch` and `import tensorflow` take 2.5 times as long.
    return run(*install, "--compile-bytecode") and fail(
        "the installation did not finish; run the same command to continue"
    )


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """The options, and the arguments for uv."""
    parser = argparse.ArgumentParser(description="Build .venv from requirements.lock.")
    parser.add_argument("--extras", default=EXTRAS, help="the extras of pyproject.toml to install")
    parser.add_argument(
        "--dependencies-only", action="store_true", help="leave the project itself out"
    )
    parser.add_argument(
        "--gpu", choices=("auto", "yes", "no"), default="auto", help="which build of torch"
    )
    parser.add_argument(
        "--uv", type=Path, help="the uv to use; without it, one is installed into .venv"
    )
    return parser.parse_known_args()


def make_venv(with_pip: bool) -> bool:
    """A working environment: the existing one, or a new one in its place. Returns success."""
    python = ROOT / ".venv/bin/python"
    if works(python, "-c", "pass"):
        return True
    info("creating .venv")
    return run(
        sys.executable, "-m", "venv", "--clear", *([] if with_pip else ["--without-pip"]), ".venv"
    ) == 0 or not fail(
        "Python's venv module does not work here; on Debian: apt-get install python3-venv"
    )


def install_uv() -> bool:
    """Install uv in the version of the lock. Returns success."""
    python = ROOT / ".venv/bin/python"
    info("installing uv into it")
    # No pip: an interrupted venv, or one that another tool created.
    if not works(python, "-m", "pip", "--version"):
        run(python, "-m", "ensurepip", "--default-pip")
    return run(python, "-m", "pip", "install", "--quiet", *LOCK, "uv") == 0 or not fail(
        "uv can't be installed; is the package index reachable?"
    )


def works(*command: str | Path, env: dict[str, str] | None = None) -> bool:
    """Whether the command exists and exits with 0; its output is discarded."""
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
    except OSError:
        return False
    return result.returncode == 0


def run(*command: str | Path) -> int:
    """Run the command with its output shown. Returns its exit code."""
    return subprocess.run(command, stdin=subprocess.DEVNULL).returncode


def info(text: str) -> None:
    """Print one line about the current step."""
    print(f"environment: {text}", flush=True)


def fail(text: str) -> int:
    """Print one line about what went wrong. Returns 1."""
    print(f"environment: {text}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(fail("interrupted; run the same command to continue"))
