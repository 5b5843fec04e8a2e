"""Talk to the Docker engine: compose services, and single containers for one check."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ("--read-only", "--tmpfs=/tmp:mode=1777", "--cap-drop=ALL", "--init")


def docker(
    *arguments: str, check: bool = True, quiet: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `docker`; its output is captured if `quiet`, else shown."""
    command = ["docker", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=quiet, text=True, check=check
    )


def compose(
    *arguments: str, check: bool = True, quiet: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `docker compose`."""
    return docker("compose", *arguments, check=check, quiet=quiet)


def inside(name: str, program: str, *arguments: str) -> str:
    """The output of a Python program in the running container of a compose service."""
    return compose("exec", "-T", name, "python", "-c", program, *arguments).stdout


def container(name: str) -> str:
    """The id of the container of a compose service, running or not."""
    return compose("ps", "--all", "--quiet", name).stdout.strip()


@contextmanager
def alone(image: str, *options: str) -> Iterator[tuple[str, str]]:
    """A container of an image of the service by itself, as hardened as with compose.

    Yields its id and the URL of the service; it is removed at the end.
    """
    identity = docker("run", "--detach", *OPTIONS, "-p127.0.0.1::8000", *options, image)
    name = identity.stdout.strip()
    try:
        address = docker("port", name, "8000/tcp").stdout.split()[0]
        yield name, f"http://{address}"
    finally:
        docker("rm", "--force", "--volumes", name)
