"""`make containers`: build both images, start them with compose, check them, stop them.

    MODELS_DIR=./models   the model repository that is mounted
    SERVICE_PORT, FRONTEND_PORT, BIND_HOST and the other variables of docker-compose.yml

Needs a Docker engine with compose. Each line of the report is one check; the exit code is 1 if one
fails. The containers are removed at the end, the images stay; ARGS=--no-build uses existing images.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import container_checks as checks
import container_life as life
from container_client import CheckFailed
from engine import ROOT, compose, docker
from rich.console import Console
from rich.markup import escape
from waiting import NotYet

STOP_LIMIT_S = 15

out = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run all checks. Returns 0, 1 if a check fails, 2 without an engine or a model."""
    os.chdir(ROOT)
    if docker("version", check=False).returncode:
        out.print("make containers: no Docker engine responds; start one, or see `docker version`")
        return 2
    if not any(Path(os.environ.get("MODELS_DIR", "models")).glob("*/*/manifest.json")):
        out.print(
            "make containers: there is no model to serve; set MODELS_DIR to a model repository"
        )
        return 2
    if "--no-build" not in sys.argv:
        timed("build", build)
    failed = int(not passed(checks.images_are_small))
    failed += not passed(life.an_image_with_models_answers_alone)
    failed += not passed(life.missing_frameworks_are_named)
    try:
        timed("start until healthy", lambda: compose("up", "--wait", "--no-build"))
        for check in (
            checks.models_predict,
            checks.page_responds,
            checks.not_root,
            checks.root_is_read_only,
            checks.models_are_read_only,
            checks.no_tools_included,
            checks.only_own_extras_installed,
            checks.materials_are_listed,
            life.a_killed_service_restarts,
            life.stopping_loses_nothing,
        ):
            failed += not passed(check)
        failed += timed("stop", lambda: compose("stop")) > STOP_LIMIT_S
        failed += not passed(life.exited_cleanly)
    except subprocess.CalledProcessError as exc:
        out.print(f"[red]failed[/]  {escape(' '.join(exc.cmd))}\n{escape(exc.stderr or '')}")
        compose("logs", "--tail", "40", quiet=False)
        failed += 1
    finally:
        compose("down")
    return 1 if failed else 0


def build() -> None:
    """Build both images, and the one of the service with the models in it."""
    compose("build", quiet=False)
    base = os.environ.get("BASE_IMAGE")
    arguments = ["MODELS=yes", *([f"BASE_IMAGE={base}"] if base else [])]
    options = [f"--build-arg={argument}" for argument in arguments]
    docker("build", "-fdocker/Dockerfile", "-t", life.WITH_MODELS, *options, ".", quiet=False)


def passed(check: Callable[[], str]) -> bool:
    """Run one check and print its line. Returns whether it passed."""
    title = (check.__doc__ or "").strip()
    try:
        out.print(f"[green]passed[/]  {title} [dim]{escape(check())}[/]")
    except (CheckFailed, NotYet, subprocess.CalledProcessError) as exc:
        out.print(f"[red]FAILED[/]  {title} {escape(str(exc))}")
        return False
    return True


def timed(what: str, step: Callable[[], object]) -> float:
    """Run a step and print how many seconds it took."""
    begin = time.monotonic()
    step()
    seconds = time.monotonic() - begin
    out.print(f"  {what}: {seconds:.1f} s")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
