"""A child process: how it is started, what it printed, how it ended. The protocol is in `wire`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

from bundle.machine import oom_kills
from bundle.sandbox import Sandbox

OpenMPWait = Literal["passive", "active"]
# By a signal, with a status, by SIGKILL; by its parent, for it was too slow, sent wrong frames or
# had another bundle; before it was ready.
Reason = Literal[
    "crashed", "exited", "killed", "out_of_memory", "timeout", "protocol", "replaced", "not_started"
]
"""Why a process has ended."""

# Of the service, of its traces and of the page.
_SETTINGS = ("SERVICE_", "OTEL_", "FRONTEND_")
STORES = (
    *("AWS_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "AZURE_", "FSSPEC_", "NETRC"),
    *("HF_TOKEN", "HUGGING_FACE_", "HUGGINGFACE_"),
)
"""How the variables begin that have the credentials of stores of files, or say where they lie."""
_PARENT_CHECK_S = 0.5
_KEPT_LINES = 40
# Lines examined of one read; some of them can be empty.
_SCANNED_LINES = 400
_LINE_BYTES = 2_000
_BUFFER_BYTES = 4 * 2**20
# A terminal, and some process managers, send these to the whole group.
_PARENT_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


class Child:
    """A running `python -m MODULE` and the parent's end of its socket.

    SIGINT and SIGTERM do not end it: it has work to finish for a parent that shuts down. It exits
    when the parent closes the socket, when it is killed, and when the parent exits. Its output has
    to be drained, by an event loop that passes `output` to `keep`; otherwise it blocks on a full
    pipe.

    Args:
        module: The module to run.
        arguments: What the module's `main` takes, as JSON, less `socket` and `parent`.
        variables: The whole environment of the process, see `environment`.
        sandbox: What it is confined to; None: it may do what this process may.
    """

    def __init__(
        self,
        module: str,
        arguments: Mapping[str, Any],
        variables: Mapping[str, str],
        sandbox: Sandbox | None = None,
    ) -> None:
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if sandbox and sandbox.scratch:
            # The frameworks write temporary files while they are imported, and look into HOME.
            self._scratch = tempfile.TemporaryDirectory(
                prefix="resnet-service-", ignore_cleanup_errors=True
            )
            folder = self._scratch.name
            variables = {**variables, "HOME": folder, "TMPDIR": folder}
            sandbox = replace(sandbox, write=(*sandbox.write, folder))
        self._socket, theirs = socket.socketpair()
        for end in (self._socket, theirs):
            # So that a batch fits in one write; the system may allow less.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._partial_line = b""
        self._oom_kills = oom_kills()
        with theirs, _blocked(_PARENT_SIGNALS):
            text = json.dumps({**arguments, "socket": theirs.fileno(), "parent": os.getpid()})
            command = sandbox.command(module) if sandbox else ["-m", module]
            try:
                self.process = subprocess.Popen(
                    # -P: nothing is imported from the caller's current directory.
                    [sys.executable, "-P", *command, text],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    env=variables,
                )
            except BaseException:
                self._release()
                raise

    @property
    def output(self) -> IO[bytes]:
        """The pipe with both standard streams."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        return self.process.stdout

    @property
    def connection(self) -> socket.socket:
        """The parent's end of the socket."""
        return self._socket

    def hang_up(self) -> None:
        """Shut the socket down: the child reads end of file and exits."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def ending(self) -> str:
        """Exit status and last output lines; call after the process was reaped."""
        self.keep(b"\n")  # the last line may be unterminated
        last = " / ".join(list(self._lines)[-5:]) or "nothing"
        return f"Exit: {_exit_status(self.process.returncode)}. Its last lines: {last[-1500:]}"

    @property
    def reason(self) -> Reason:
        """Why it has ended by itself; call after the process was reaped."""
        code = self.process.returncode
        if code == -signal.SIGKILL:
            return "out_of_memory" if oom_kills() > self._oom_kills else "killed"
        if code < 0:
            return "crashed"
        # A worker leaves with 0 only after its parent has hung up.
        return "exited" if code else "protocol"

    def close(self) -> None:
        """Release the file descriptors and delete the temporary files. Idempotent."""
        self.output.close()
        self._release()

    def _release(self) -> None:
        self._socket.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def keep(self, printed: bytes) -> None:
        """Keep the last lines of output, to explain how the process ended; nothing is forwarded."""
        *lines, self._partial_line = (self._partial_line + printed).split(b"\n")
        if len(self._partial_line) > _LINE_BYTES:
            lines, self._partial_line = [*lines, self._partial_line], b""
        for line in lines[-_SCANNED_LINES:]:
            if text := line[:_LINE_BYTES].decode(errors="replace").strip():
                self._lines.append(text)


@contextlib.contextmanager
def _blocked(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Block `signals`, so that a process started inside has the mask from its first instruction."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int) -> None:
    """Make this process, a child of `parent`, exit within half a second of it.

    PR_SET_PDEATHSIG would fire when the *thread* that started the child ends, and callers start it
    from pools.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_S)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def environment(
    device: str,
    threads: int | None,
    openmp_wait: OpenMPWait = "passive",
    gpu: int | None = None,
) -> dict[str, str]:
    """The environment of a child that runs a module of this package and may load a framework.

    Args:
        device: `cpu` hides every CUDA device from the child.
        threads: CPU threads of the framework; None: its own default.
        openmp_wait: OMP_WAIT_POLICY of the child, unless this process has that variable itself.
        gpu: The only CUDA device that the child sees, counted among those that this process sees;
            None: all of them.
    """
    # Without settings and credentials: a child gets what it needs as arguments.
    secret = (*_SETTINGS, *STORES)
    variables = {k: v for k, v in os.environ.items() if not k.upper().startswith(secret)}
    paths = [str(Path(__file__).resolve().parents[2]), variables.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    variables.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    # TensorFlow imports Keras with all its dependencies, which a SavedModel does not need: half the
    # load time and 170 MB. Told to use Keras 2, which is not installed, it skips them.
    variables["TF_USE_LEGACY_KERAS"] = "1"
    # PyTorch's CPU operators end at OpenMP barriers, where threads spin by default. A spinning
    # thread takes the core from the thread that it is waiting for as soon as cores are shared
    # (docs/performance.md, "Shared cores").
    variables.setdefault("OMP_WAIT_POLICY", openmp_wait)
    if threads is not None:
        variables.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    if device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = "-1"
    elif gpu is not None:
        visible = variables.get("CUDA_VISIBLE_DEVICES")
        variables["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    return variables


def _exit_status(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
