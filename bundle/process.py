"""One killable process per loaded model version, driven from the parent with plain blocking calls.

This module imports neither torch nor tensorflow, and unpickles nothing that the child sends.
"""

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
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypedDict, cast

import numpy as np
import numpy.typing as npt

from bundle.errors import BUNDLE_ERRORS, BundleError, RuntimeUnavailable, WorkerDied
from bundle.runtimes import Device
from bundle.wire import Array, Wire, WireClosed, WireTimeout

_KEPT_LINES = 40
_LINE_BYTES = 2_000


class RuntimeInfo(TypedDict):
    """What a worker reports when it is ready."""

    runtime: str
    runtime_version: str
    precision: str
    device: str
    artifact_id: str
    height: int
    width: int
    classes: int
    golden_max_difference: float
    load_seconds: float


class RuntimeProcess:
    """A child process that holds one artifact of one bundle, loaded and self-tested.

    ``artifact_id`` None means the source artifact. ``threads`` bounds the CPU threads of the framework.
    Calls from several threads take turns. An instance is started once; after ``stop``, ``kill`` or
    :class:`WorkerDied` the caller makes another.
    """

    def __init__(
        self,
        bundle_dir: Path,
        artifact_id: str | None = None,
        device: Device = "auto",
        threads: int | None = None,
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is 'auto', 'cpu' or 'cuda'. Received: {device!r}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads is 1 or more, or None. Received: {threads!r}")
        self._arguments = {
            "bundle": str(Path(bundle_dir).absolute()),
            "artifact_id": artifact_id,
            "device": device,
            "threads": threads,
        }
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: Wire | None = None
        self._socket: socket.socket | None = None
        self._pidfd: int | None = None
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reader: threading.Thread | None = None
        self._info: RuntimeInfo | None = None

    def start(self, timeout_s: float) -> RuntimeInfo:
        """Start the child and wait until it is ready: verified, loaded, golden samples passed.

        Raises the child's own :class:`BundleError` (manifest, integrity, runtime, golden), and
        :class:`WorkerDied` when it ends or is not ready within ``timeout_s`` seconds. Either way no process
        is left behind.
        """
        if self._process is not None:
            raise RuntimeError("A RuntimeProcess is started once; make another one.")
        deadline = time.monotonic() + timeout_s
        try:
            self._spawn()
            with self._turn:
                header, _ = self._receive(deadline)
        except BaseException:
            self.kill()
            raise
        self._info = cast(RuntimeInfo, header)
        return self._info

    @property
    def info(self) -> RuntimeInfo:
        """Runtime, version, precision, device and input size; ``RuntimeError`` before :meth:`start`."""
        if self._info is None:
            raise RuntimeError("The RuntimeProcess is not started.")
        return self._info

    @property
    def alive(self) -> bool:
        """Whether the child is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the child; None before :meth:`start`. It stays after the child's end."""
        return None if self._process is None else self._process.pid

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of the child; None when it is not running."""
        if not self.alive:
            return None
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")

    def infer(self, pixels: npt.NDArray[np.uint8], timeout_s: float) -> npt.NDArray[np.float32]:
        """uint8 [N, H, W, 3], N >= 1, to float32 logits [N, C].

        Raises ``ValueError`` for another shape or dtype, :class:`WorkerDied` when the child has ended, ends
        meanwhile, or takes longer than ``timeout_s`` seconds (it is then killed), and
        :class:`RuntimeUnavailable` when the model itself fails (out of memory), after which it stays up.
        """
        self._check_pixels(pixels)
        (logits,) = self._call("infer", [pixels], timeout_s)
        return self._check_answer(logits, (len(pixels), self.info["classes"]))

    def explain(
        self, pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64], timeout_s: float
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Logits [N, C] and the raw class activation maps [N, h, w] of ``class_index`` int64 [N].

        Raises as :meth:`infer`; also ``ValueError`` for an index outside [0, C).
        """
        self._check_pixels(pixels)
        classes = self.info["classes"]
        if class_index.dtype != np.int64 or class_index.shape != (len(pixels),):
            raise ValueError(
                f"Expected class_index int64 [{len(pixels)}]. Received: {class_index.dtype} {class_index.shape}"
            )
        if class_index.min() < 0 or class_index.max() >= classes:
            raise ValueError(f"A class index is from 0 to {classes - 1}. Received: {class_index.tolist()}")
        logits, heatmap = self._call("explain", [pixels, class_index], timeout_s)
        return (
            self._check_answer(logits, (len(pixels), classes)),
            self._check_answer(heatmap, (len(pixels), *heatmap.shape[1:3])),
        )

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the child and give its memory back; kill it when it has not ended after ``timeout_s`` seconds.

        A request under way ends with :class:`WorkerDied`. Safe to call twice and from any thread.
        """
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # the child sees the end of its input and exits
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End the child at once. Safe to call twice and from any thread."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(timeout=1.0)
        with self._turn:  # whoever holds it is woken by the end of the child
            if self._socket is not None:
                self._socket.close()
                self._socket = self._wire = None
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        arguments = {**self._arguments, "socket": theirs.fileno(), "parent": os.getpid()}
        self._socket = ours
        with theirs:
            self._process = subprocess.Popen(
                # -P: the current directory of the caller is no place to import modules from.
                [sys.executable, "-P", "-m", "bundle.worker", json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env=self._environment(),
            )
        with contextlib.suppress(OSError):  # a kernel or sandbox without pidfd: the socket's end is enough
            self._pidfd = os.pidfd_open(self._process.pid)
        self._wire = Wire(ours, self._pidfd)
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._drain, args=[self._process.stdout], daemon=True)
        self._reader.start()

    def _environment(self) -> dict[str, str]:
        package_root = str(Path(__file__).resolve().parent.parent)
        environment = dict(os.environ)
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = package_root + (os.pathsep + inherited if inherited else "")
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
        environment.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        if self._arguments["threads"] is not None:
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
                environment[name] = str(self._arguments["threads"])
        if self._arguments["device"] == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = "-1"
        return environment

    def _drain(self, output: IO[bytes]) -> None:
        """Keep the last lines that the child printed, for the reason of its death; nothing is passed on."""
        with output:
            while line := output.readline(_LINE_BYTES):
                if text := line.decode(errors="replace").strip():
                    self._lines.append(text)

    def _call(self, method: str, arrays: list[Array], timeout_s: float) -> list[Array]:
        """One request and its answer; the time counts from this caller's turn."""
        try:
            with self._turn:
                deadline = time.monotonic() + timeout_s
                self._send({"method": method}, arrays, deadline)
                _, answer = self._receive(deadline)
                return answer
        except WorkerDied:
            self.kill()
            raise

    def _send(self, header: dict[str, Any], arrays: list[Array], deadline: float) -> None:
        if self._wire is None:
            raise self._died("ended")
        try:
            self._wire.send(header, arrays, deadline)
        except (WireClosed, WireTimeout) as exc:
            raise self._reason(exc) from exc

    def _receive(self, deadline: float) -> tuple[dict[str, Any], list[Array]]:
        """One frame from the child; its error frame becomes the error itself."""
        if self._wire is None:
            raise self._died("ended")
        try:
            header, arrays = self._wire.receive(deadline)
        except (WireClosed, WireTimeout) as exc:
            raise self._reason(exc) from exc
        if "error" in header:
            raise BUNDLE_ERRORS.get(header["error"], BundleError)(str(header["detail"]))
        return header, arrays

    def _reason(self, exc: WireClosed | WireTimeout) -> WorkerDied:
        return self._died("did not answer in time and is killed" if isinstance(exc, WireTimeout) else "ended")

    def _died(self, what: str) -> WorkerDied:
        """The error for a child that is gone or must go: what happened, exit status, its last lines."""
        status = "unknown"
        if self._process is not None:
            self._process.kill()
            status = _exit_status(self._process.wait())
        if self._reader is not None:
            self._reader.join(timeout=1.0)
        last = " / ".join(list(self._lines)[-5:]) or "nothing"
        return WorkerDied(
            f"The process that runs the model {what}. Start another one. "
            f"Exit: {status}. Its last lines: {last[-1500:]}"
        )

    def _check_pixels(self, pixels: npt.NDArray[np.uint8]) -> None:
        shape = (self.info["height"], self.info["width"], 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != shape or not len(pixels):
            raise ValueError(
                f"Expected pixels uint8 [N, {', '.join(map(str, shape))}] with N >= 1. "
                f"Received: {pixels.dtype} {list(pixels.shape)}"
            )

    def _check_answer(self, array: Array, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if array.dtype != np.float32 or array.shape != shape:
            raise RuntimeUnavailable(
                f"The model answers in another shape. Expected float32 {list(shape)}. "
                f"Received: {array.dtype} {list(array.shape)}"
            )
        return array


def _exit_status(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
