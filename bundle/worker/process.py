"""The child's process itself: how it is started, what it printed, how it ended. The protocol is not here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from bundle.worker.wire import Wire

_PARENT_CHECK_S = 0.5
_KEPT_LINES = 40
_LOOKED_AT_LINES = 400  # of what comes at once, some of which can be empty
_LINE_BYTES = 2_000
_BUFFER_BYTES = 4 * 2**20
_OF_THE_PARENT = (
    signal.SIGINT,
    signal.SIGTERM,
)  # a terminal, and some who stop a service, send them to all
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


class Child:
    """A running ``python -m MODULE`` and the parent's end of its socket.

    SIGINT and SIGTERM do not end it: it has work to finish for a parent that shuts down. It ends when the parent hangs
    up or kills it, and with the parent. What it prints has to be read, by :meth:`read_in_thread` or by an event loop
    (:attr:`output`, handed to :meth:`keep`), or it stands still.

    ``arguments``: what the module's ``main`` takes, as JSON, less ``socket`` and ``parent``.
    """

    def __init__(self, module: str, arguments: dict[str, Any], variables: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        for end in (
            self._socket,
            theirs,
        ):  # so that a batch goes through at once; the system may allow less
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._pidfd: int | None = None
        self._reader: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._line = b""  # the one that has not ended
        with theirs, _blocked(_OF_THE_PARENT):
            text = json.dumps({**arguments, "socket": theirs.fileno(), "parent": os.getpid()})
            try:
                self.process = subprocess.Popen(
                    # -P: the current directory of the caller is no place to import modules from.
                    [sys.executable, "-P", "-m", module, text],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    env=variables,
                )
            except BaseException:
                self._socket.close()
                raise
        with contextlib.suppress(
            OSError
        ):  # a kernel or sandbox without pidfd: the socket's end is enough
            self._pidfd = os.pidfd_open(self.process.pid)
        self.wire = Wire(self._socket, self._pidfd)

    def read_in_thread(self) -> None:
        """Keep what it prints, in a thread that ends with it. A process without its thread is ended."""
        try:
            self._reader = threading.Thread(target=self._drain, args=[self.output], daemon=True)
            self._reader.start()
        except BaseException:
            self._reader = None
            self.end()
            self.close()
            raise

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory; None when the process is gone."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def output(self) -> IO[bytes]:
        """What it prints, both standard streams."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        return self.process.stdout

    @property
    def connection(self) -> socket.socket:
        """The parent's end, for an event loop, in the place of :attr:`wire`."""
        return self._socket

    def hang_up(self) -> None:
        """End the conversation: the child sees the end of its input and exits; a call under way fails."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self, timeout_s: float = 0.0) -> str:
        """Wait ``timeout_s`` seconds for the process to end, then kill it; say how it ended and what it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)
        self.process.kill()
        self.process.wait()
        if self._reader is not None:
            self._reader.join(timeout=1.0)
        return self.ending()

    def ending(self) -> str:
        """How it ended and what it said last; it has ended, and has been waited for."""
        self.keep(b"\n")  # what came last may have no end of line
        last = " / ".join(list(self._lines)[-5:]) or "nothing"
        return f"Exit: {_exit_status(self.process.returncode)}. Its last lines: {last[-1500:]}"

    def close(self) -> None:
        """Give the handles back; no call may be under way, and none may follow. Safe to repeat."""
        self._socket.close()
        if self._reader is None:  # which closes it at its end, and may read until then
            self.output.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def keep(self, printed: bytes) -> None:
        """Keep the last lines that the child printed, for the reason of its death; nothing is passed on."""
        *lines, self._line = (self._line + printed).split(b"\n")
        if len(self._line) > _LINE_BYTES:
            lines, self._line = [*lines, self._line], b""
        for line in lines[-_LOOKED_AT_LINES:]:
            if text := line[:_LINE_BYTES].decode(errors="replace").strip():
                self._lines.append(text)

    def _drain(self, output: IO[bytes]) -> None:
        with output:
            while printed := os.read(output.fileno(), _LINE_BYTES):
                self.keep(printed)


@contextlib.contextmanager
def _blocked(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Start a process inside that never gets them, from its first instruction on: it inherits what this thread blocks."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int) -> None:
    """Called in the child: from now on it ends within half a second of its parent.

    Not PR_SET_PDEATHSIG: that fires when the *thread* that started the child ends, and callers start it from pools.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_S)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def environment(device: str, threads: int | None) -> dict[str, str]:
    """The environment of a child that runs a module of this package with a framework in it."""
    environment = dict(os.environ)
    paths = [str(Path(__file__).resolve().parents[2]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    # TensorFlow imports Keras with all it brings along, which a SavedModel does not need: half the time to load and
    # 170 MB. Asked for Keras 2, which is not installed, it does without.
    environment["TF_USE_LEGACY_KERAS"] = "1"
    if threads is not None:
        environment.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    return environment


def _exit_status(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
