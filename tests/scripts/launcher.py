"""`make serve` as a user runs it, in a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

from tests.sources import ROOT

# Deadlines that only a defect exceeds: on a busy machine importing two frameworks takes minutes.
START_S = 270.0
STOP_S = 120.0
POLL_S = 0.1

# -o: use the environment that runs this test; a test installs nothing.
MAKE = ["make", "-o", ".venv/.complete", f"BIN={Path(sys.executable).parent}"]


class Launcher:
    """A running `make serve` in its own session, as in a terminal."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.log = log
        self.mark = f"TEST_MARK={uuid.uuid4()}"
        name, value = self.mark.split("=")
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*MAKE, "serve"],
                cwd=ROOT,
                env={**clean_environment(), **environment, name: value},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = START_S) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output():
            assert self.process.poll() is None, f"it exited early:\n{self.output()}"
            assert time.monotonic() < deadline, f"no {text!r} within {seconds} s:\n{self.output()}"
            time.sleep(POLL_S)

    def pids(self, part: str = "") -> list[int]:
        """All processes it started, directly or not, with `part` in their command line."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                marked = self.mark.encode() in (process / "environ").read_bytes()
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                if marked and part.encode() in command:
                    found.append(int(process.name))
        return found

    def terminal_sends(self, number: signal.Signals) -> None:
        """Signal the whole foreground process group, as a terminal does on Ctrl-C."""
        os.killpg(self.process.pid, number)

    def kill(self, part: str = "") -> None:
        for pid in self.pids(part):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def assert_gone(self) -> None:
        """`make` exits, and then everything that it started."""
        self.process.wait(STOP_S)
        deadline = time.monotonic() + STOP_S
        while self.pids() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        assert self.pids() == []


def clean_environment() -> dict[str, str]:
    dropped = ("MAKE", "MFLAGS", "SERVICE_", "FRONTEND_", "STREAMLIT_", "BIND_HOST")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def accepts_connections(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
