"""Build `.venv` from requirements.lock: `python3 scripts/environment.py`, which `make` does when it is needed.

A machine without an NVIDIA GPU gets the CPU build of torch where its index can be reached: the default Linux build
brings several GB of CUDA libraries. The lock serves as constraints, so that it pins what is installed and adds nothing.
Running it again after an interruption continues; packages that are there already are not fetched twice.

The Dockerfiles run it too, with the extras of their image and without the project itself. Arguments that it does not
know go to `uv pip install` as they are.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "service,torch,tensorflow,openvino,accelerate,frontend,training,docs,dev"
OLDEST, NEWEST = (3, 11), (3, 13)  # TensorFlow has no wheels outside this range

LOCK = ["-c", "requirements.lock"]  # pip and uv both know the short form
CPU = "--torch-backend=cpu"  # uv's name for the index of the CPU builds
PATIENCE = {
    "UV_HTTP_RETRIES": "0",
    "UV_HTTP_TIMEOUT": "15",
}  # while trying whether that index answers


def main() -> int:
    """Make the environment complete. Returns the exit code: 0, or 1 after a message that says what is missing."""
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

    say("installing what requirements.lock names (the first time takes minutes)")
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
        pass  # the default builds, or what the person asks uv for
    elif options.gpu == "auto" and works("nvidia-smi", "-L"):
        say("an NVIDIA GPU is here: torch with CUDA")
    elif works(*install, CPU, "--dry-run", env=PATIENCE):
        install += [CPU]
    else:
        say(
            "the index of torch's CPU builds can't be reached; the default build works too and is some GB larger"
        )
    return run(*install) and fail("the installation did not finish; the same command continues it")


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """The options, and what is meant for uv."""
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
    """An environment that runs: the one that is there, or a new one in its place."""
    python = ROOT / ".venv/bin/python"
    if works(python, "-c", "pass"):
        return True
    say("making .venv")
    return run(
        sys.executable, "-m", "venv", "--clear", *([] if with_pip else ["--without-pip"]), ".venv"
    ) == 0 or not fail(
        "Python's venv module does not work here; on Debian: apt-get install python3-venv"
    )


def install_uv() -> bool:
    """uv, in the version of the lock."""
    python = ROOT / ".venv/bin/python"
    say("installing uv into it")
    if not works(
        python, "-m", "pip", "--version"
    ):  # an interrupted venv, or one that another tool made
        run(python, "-m", "ensurepip", "--default-pip")
    return run(python, "-m", "pip", "install", "--quiet", *LOCK, "uv") == 0 or not fail(
        "uv can't be installed; is the package index reachable?"
    )


def works(*command: str | Path, env: dict[str, str] | None = None) -> bool:
    """Whether the command exists and ends with 0; its output is not shown."""
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
