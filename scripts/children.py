"""A child process that never outlives its parent; its output is printed with its name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from functools import partial

from rich.console import Console
from rich.text import Text
from waiting import REQUEST_ID

LINES_KEPT = 15
PR_SET_PDEATHSIG = 1  # linux/prctl.h
COLOURS = {"service": "cyan", "frontend": "magenta"}


class Child:
    """A server in its own session, so that Ctrl-C reaches the launcher alone.

    On Linux it receives the signal `when_orphaned` if the launcher dies without stopping it.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        out: Console,
        when_orphaned: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._out = out
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A fork with threads is safe here: the reader threads hold no locks.
            preexec_fn=partial(_when_orphaned, when_orphaned) if sys.platform == "linux" else None,
        )
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe, see above
        for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            if line and REQUEST_ID not in line:  # the launcher's own readiness checks are noise
                self._lines.append(line)
                label = Text(f"{self.name:8} | ", style=COLOURS.get(self.name, ""))
                self._out.print(label + Text.from_ansi(line))

    def has_exited(self) -> bool:
        """The process has exited."""
        return self._process.poll() is not None

    def exit_status(self) -> str:
        """The exit status in words: `ended with exit code 3` or `was killed by SIGKILL`."""
        code = self._process.returncode
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def last_lines(self) -> str:
        """The last lines of its output, indented."""
        self._reader.join(timeout=1)
        return "\n".join(f"    {line}" for line in self._lines) or "    (it printed nothing)"

    def signal(self, number: signal.Signals) -> None:
        """Send the signal to the process alone, which stops its own children."""
        self._process.send_signal(number)

    def finish(self) -> None:
        """Kill what is left of it: the process and everything in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=1)


def _when_orphaned(number: signal.Signals) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
