"""What a process in the sandbox can't do, on this kernel; what it can't have here, it reports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bundle.sandbox import IN_FORCE, MEASURES, Sandbox
from bundle.worker.process import environment

MEMORY = 2**29
# Attempts by the measure that they fail by.
REFUSED: dict[str, set[str]] = {
    "files": {
        "write allowed",
        "add a file",
        "delete allowed",
        "read outside",
        "list outside",
        "use temporary files",
        "run a program",
        "environment of the parent",
        "signal the parent",
    },
    "network": {"tcp", "udp", "unix", "trace the parent"},
    "memory": {"allocate"},
    "no_new_privileges": set(),
}


class Place:
    """A folder that is allowed, one that is not, and servers that would answer."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.allowed, self.outside, self.scratch, self.unused = (
            root / name for name in ("allowed", "outside", "scratch", "unused")
        )
        for folder in (self.allowed, self.outside, self.scratch, self.unused):
            folder.mkdir()
        (self.allowed / "file").write_text("content")
        (self.outside / "secret").write_text("a secret")
        (self.outside / "stored").write_text("by its content")
        (self.allowed / "link").symlink_to(self.outside / "stored")
        tcp, unix = socket.socket(), socket.socket(socket.AF_UNIX)
        tcp.bind(("127.0.0.1", 0))
        unix.bind(str(root / "socket"))
        for server in (tcp, unix):
            stack.enter_context(server).listen()
        self.arguments = {
            "allowed": str(self.allowed),
            "outside": str(self.outside),
            "scratch": str(self.scratch),
            "port": tcp.getsockname()[1],
            "unix": str(root / "socket"),
            "pid": os.getpid(),
            "bytes": 2 * MEMORY,
        }

    def attempt(self, sandbox: Sandbox | None, *launcher: str) -> dict[str, Any]:
        module = "tests.bundle.sandboxed"
        command = [*launcher, *(sandbox.command(module) if sandbox else ["-m", module])]
        done = subprocess.run(
            [sys.executable, "-P", *command, json.dumps(self.arguments)],
            env={**environment("cpu", 1), "TMPDIR": str(self.unused)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @property
    def sandbox(self) -> Sandbox:
        return Sandbox((str(self.allowed),), (str(self.scratch),), MEMORY)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


def test_every_measure_is_in_force_or_says_why_not(place: Place) -> None:
    found = place.attempt(place.sandbox)

    report = found.pop("isolation")
    assert list(report) == list(MEASURES)
    for measure, how in report.items():
        refused = {name for name in REFUSED[measure] if found[name] != "ok"}
        if how == IN_FORCE:
            assert refused == REFUSED[measure], f"{measure}: {found}"
        else:
            assert how.startswith("not in force: "), how
    rest = set(found).difference(*REFUSED.values())
    assert {found[name] for name in rest} == {"ok"}, found


def test_without_the_sandbox_each_of_the_attempts_succeeds(place: Place) -> None:
    found = place.attempt(None)

    # Whether a process may trace another one of its user depends on the machine.
    assert {name for name, how in found.items() if how not in ("ok", None)} <= {"trace the parent"}


def test_beside_a_gpu_there_are_local_sockets_and_programs_and_still_no_network(
    place: Place,
) -> None:
    found = place.attempt(Sandbox((str(place.allowed),), (), MEMORY, gpu=True))

    report = found.pop("isolation")
    assert report["memory"] == "not in force: the driver of a GPU reserves more than any limit"
    assert [found[name] for name in ("unix", "run a program", "use temporary files")] == ["ok"] * 3
    if report["network"] == IN_FORCE:
        assert {found[name] for name in ("tcp", "udp", "trace the parent")} == {"PermissionError"}
    if report["files"] == IN_FORCE:
        assert found["write allowed"] == found["read outside"] == "PermissionError"


def test_what_the_kernel_does_not_have_is_left_out_and_said(place: Place) -> None:
    found = place.attempt(place.sandbox, "-m", "tests.bundle.old_kernel")

    assert found["isolation"]["files"] == (
        "not in force: the system does not allow it (Function not implemented)"
    )
    assert found["read outside"] == "ok"
    if found["isolation"]["network"] == IN_FORCE:
        assert found["tcp"] == "PermissionError"
