"""Processes that start with their framework imported, to save each test the import.

A server imports the framework once; every program that a test starts is a fork of it: a process
with its own arguments, output, signals and exit code. It differs from a fresh `python` process only
in the seconds that the imports take, so each command needs one run from nothing (`run_command`).
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

REQUEST_BYTES = 100_000
TIMEOUT_S = 500.0


class WarmProcess:
    """A running program.

    Attributes:
        pid: its process, for signals, until `end` has returned.
    """

    def __init__(self, control: socket.socket, request: Mapping[str, Any]) -> None:
        self._outputs = [os.memfd_create(name) for name in ("stdout", "stderr")]
        self._status, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(
                control, [json.dumps(request).encode()], [theirs.fileno(), *self._outputs]
            )
        self._lines = self._status.makefile("r")
        self.pid = int(self._lines.readline())

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, at most `TIMEOUT_S`; returns exit code and output."""
        self._status.settimeout(TIMEOUT_S)
        with self._status, self._lines:
            try:
                code = int(self._lines.readline())
            except TimeoutError:
                os.kill(self.pid, signal.SIGKILL)
                raise
        texts = []
        for output in self._outputs:
            with os.fdopen(output) as file:
                file.seek(0)
                texts.append(file.read())
        return subprocess.CompletedProcess([], code, *texts)


class Warm:
    """A server that has imported `modules`, with this environment."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._control.close()
        self._server.wait()

    def start(
        self,
        code: str,
        *arguments: str | Path,
        folder: Path | None = None,
        **environment: str | Path,
    ) -> WarmProcess:
        """Run `python -c CODE ARGUMENTS` in `folder` (default: here) with more variables."""
        return WarmProcess(
            self._control,
            {
                "code": code,
                "arguments": [*map(str, arguments)],
                "folder": str(folder or Path.cwd()),
                "environment": {name: str(value) for name, value in environment.items()},
            },
        )


def _serve(control: socket.socket) -> NoReturn:
    """Start programs on request and report their exit codes; kill all when the client closes."""
    running: dict[int, tuple[BaseProcess, socket.socket]] = {}  # by sentinel
    while True:
        for ready in wait([control.fileno(), *running]):
            if isinstance(ready, int) and ready in running:
                process, status = running.pop(ready)
                process.join()
                status.sendall(b"%d\n" % (process.exitcode or 0))
                status.close()
                continue
            message, fds, _, _ = socket.recv_fds(control, REQUEST_BYTES, 3)
            if not message:
                os.killpg(0, signal.SIGKILL)
            process = get_context("fork").Process(target=_run, args=[json.loads(message), fds[1:]])
            process.start()
            for output in fds[1:]:
                os.close(output)
            status = socket.socket(fileno=fds[0])
            status.sendall(b"%d\n" % (process.pid or 0))
            running[process.sentinel] = process, status


def _run(request: dict[str, Any], outputs: Sequence[int]) -> None:
    # A shell starts background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for output, number in zip(outputs, (1, 2), strict=True):
        os.dup2(output, number)
        os.close(output)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    sys.argv = ["-c", *request["arguments"]]
    exec(request["code"], {"__name__": "__main__"})  # noqa: S102 - as `python -c` does


if __name__ == "__main__":
    for name in sys.argv[2:]:
        importlib.import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
