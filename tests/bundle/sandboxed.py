"""What a process in the sandbox attempts, as a module that prints what happened."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def connect(family: socket.AddressFamily, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.connect(address)


def trace(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(ctypes.c_long(0x4206), ctypes.c_long(pid), None, None):  # PTRACE_SEIZE
        raise OSError(ctypes.get_errno(), "ptrace")


def attempts(found: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """The attempts by name; `found` has the paths, the port and the process that they are about."""
    allowed, outside, scratch = (Path(found[name]) for name in ("allowed", "outside", "scratch"))
    return {
        "read allowed": (allowed / "file").read_text,
        "read through a link": (allowed / "link").read_text,
        "write allowed": lambda: (allowed / "file").write_text("changed"),
        "add a file": lambda: (allowed / "new").write_text("new"),
        "delete allowed": (allowed / "file").unlink,
        "read outside": (outside / "secret").read_text,
        "list outside": lambda: list(outside.iterdir()),
        "write scratch": lambda: (scratch / "new").write_text("new"),
        "use temporary files": lambda: Path(os.environ["TMPDIR"], "new").write_text("new"),
        "tcp": lambda: connect(socket.AF_INET, ("127.0.0.1", found["port"])),
        "udp": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close(),
        "unix": lambda: connect(socket.AF_UNIX, found["unix"]),
        "run a program": lambda: subprocess.run(["/bin/true"], check=True),
        "environment of the parent": Path(f"/proc/{found['pid']}/environ").read_bytes,
        "signal the parent": lambda: os.kill(found["pid"], 0),
        "trace the parent": lambda: trace(found["pid"]),
        "allocate": lambda: bytearray(found["bytes"]),
    }


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (OSError, MemoryError) as exc:
        return type(exc).__name__
    return "ok"


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    results = {name: outcome(attempt) for name, attempt in attempts(arguments).items()}
    sys.stdout.write(json.dumps({"isolation": arguments.get("isolation"), **results}))
