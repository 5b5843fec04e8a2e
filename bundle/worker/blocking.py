"""The blocking side of a worker process: one killable process per loaded model, for scripts.

This module imports neither torch nor tensorflow, and never unpickles what the child sends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from bundle.batches import in_batches
from bundle.errors import WorkerDied
from bundle.runtimes import Device
from bundle.worker.process import Child, environment
from bundle.worker.responses import RuntimeInfo, check_shapes, raise_error
from bundle.worker.selection import SOURCE
from bundle.worker.wire import Array, WireClosed, WireTimeout

Pixels = npt.NDArray[np.uint8]


class RuntimeProcess:
    """A child process that holds one artifact of one bundle, loaded and self-tested.

    Thread-safe: calls are serialised by a lock. An instance is started once; after `stop`, `kill`
    or `WorkerDied` the caller makes another.

    Args:
        bundle_dir: The bundle folder.
        artifact: `source`, `auto` (see `bundle.worker.selection`) or the id of an artifact.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads of the framework; None: the cores that this process may use.
    """

    def __init__(
        self,
        bundle_dir: Path,
        artifact: str = SOURCE,
        device: Device = "auto",
        threads: int | None = None,
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is 'auto', 'cpu' or 'cuda'. Received: {device!r}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads is 1 or more, or None. Received: {threads!r}")
        self._arguments = {
            "bundle": str(Path(bundle_dir).absolute()),
            "artifact": artifact,
            "device": device,
            "threads": threads,
            "compiled": None,
        }
        self._environment = environment(device, threads)
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._closed = False
        self._info: RuntimeInfo | None = None

    def start(self, timeout_s: float) -> RuntimeInfo:
        """Start the child and wait until it is ready: verified, loaded, golden samples passed.

        Raises:
            BundleError: The child's own error: manifest, integrity, runtime or golden samples.
            WorkerDied: It ended, or was not ready within `timeout_s` seconds. In either case no
                process is left behind.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            if self._child is not None or self._closed:
                raise RuntimeError("A RuntimeProcess is started once; make another one.")
            child = Child("bundle.worker", self._arguments, self._environment)
            child.read_in_thread()
            self._child = child
        try:
            with self._lock:
                header, _ = self._receive(deadline)
        except BaseException:
            self.kill()
            raise
        self._info = cast("RuntimeInfo", header)
        return self._info

    @property
    def info(self) -> RuntimeInfo:
        """The child's ready frame; `RuntimeError` before `start`."""
        if self._info is None:
            raise RuntimeError("The RuntimeProcess is not started.")
        return self._info

    @property
    def alive(self) -> bool:
        """Whether the child is running."""
        return self._child is not None and self._child.process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the child; None before `start`. It stays after the child's end."""
        return None if self._child is None else self._child.process.pid

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of the child in bytes; None when it is not running."""
        return self._child.memory_bytes if self._child is not None and self.alive else None

    def infer(self, pixels: npt.NDArray[np.uint8], timeout_s: float) -> npt.NDArray[np.float32]:
        """Classify a batch.

        Args:
            pixels: uint8 [N, H, W, 3], N >= 1.
            timeout_s: Time limit in seconds, from when this call has the lock.

        Returns:
            Logits, float32 [N, C].

        Raises:
            ValueError: `pixels` has another shape or dtype.
            WorkerDied: The child has ended, or exceeded the time limit and was killed.
            RuntimeUnavailable: The model fails (out of memory); the child stays up.
        """
        self._check_pixels(pixels)
        return self._call("infer", [pixels], timeout_s, [(len(pixels), self.info["classes"])])[0]

    def infer_all(
        self,
        pixels: npt.NDArray[np.uint8],
        timeout_s: float,
        progress: Callable[[list[Pixels]], Iterable[Pixels]] = iter,
    ) -> npt.NDArray[np.float32]:
        """As `infer`, for any number of images: in batches, each within `timeout_s` seconds.

        Args:
            progress: yields the batches as they are done, as `rich.progress.track` does.
        """
        batches = progress(list(in_batches(pixels)))
        return np.concatenate([self.infer(batch, timeout_s) for batch in batches])

    def explain(
        self, pixels: npt.NDArray[np.uint8], class_index: npt.NDArray[np.int64], timeout_s: float
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Classify a batch and explain it.

        Args:
            pixels: uint8 [N, H, W, 3], N >= 1.
            class_index: int64 [N], the class to explain for each image.
            timeout_s: Time limit in seconds, from when this call has the lock.

        Returns:
            Logits, float32 [N, C], and raw class activation maps, float32 [N, h, w].

        Raises:
            ValueError: The model has no heat maps, an array has another shape or dtype, or an index
                is outside [0, C).
            WorkerDied, RuntimeUnavailable: As `infer`.
        """
        self._check_pixels(pixels)
        count, classes = len(pixels), self.info["classes"]
        if class_index.dtype != np.int64 or class_index.shape != (count,):
            raise ValueError(
                f"Expected class_index int64 [{count}]. "
                f"Received: {class_index.dtype} {list(class_index.shape)}"
            )
        if class_index.min() < 0 or class_index.max() >= classes:
            raise ValueError(
                f"A class index is from 0 to {classes - 1}. Received: {class_index.tolist()}"
            )
        if self.info["heatmap"] is None:
            raise ValueError("The model has no heat maps.")
        shapes = [(count, classes), (count, *self.info["heatmap"])]
        logits, heatmap = self._call("explain", [pixels, class_index], timeout_s, shapes)
        return logits, heatmap

    def stop(self, timeout_s: float = 5.0) -> None:
        """Close the child's socket, and kill it unless it exits within `timeout_s` seconds.

        A request in flight fails with `WorkerDied`. Idempotent and thread-safe.
        """
        self._end(timeout_s)

    def kill(self) -> None:
        """Kill the child. Idempotent and thread-safe."""
        self._end(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _end(self, timeout_s: float) -> None:
        self._closed = True
        child = self._child
        if child is None:
            return
        child.hang_up()
        child.end(timeout_s)
        with self._lock:  # the call that holds it fails once the child has ended
            child.close()

    def _call(
        self, method: str, arrays: list[Array], timeout_s: float, shapes: list[tuple[int, ...]]
    ) -> list[npt.NDArray[np.float32]]:
        """Send one request; the response, float32 arrays of `shapes`."""
        try:
            with self._lock:
                deadline = time.monotonic() + timeout_s
                self._send({"method": method}, arrays, deadline)
                _, results = self._receive(deadline)
        except WorkerDied:
            self.kill()
            raise
        check_shapes(results, shapes)
        return results

    def _send(self, header: dict[str, Any], arrays: list[Array], deadline: float) -> None:
        child = self._running()
        try:
            child.wire.send(header, arrays, deadline)
        except (WireClosed, WireTimeout) as exc:
            raise _died(child, exc) from exc

    def _receive(self, deadline: float) -> tuple[dict[str, Any], list[Array]]:
        """Receive one frame; an error frame is raised as the error that it carries."""
        child = self._running()
        try:
            header, arrays = child.wire.receive(deadline)
        except (WireClosed, WireTimeout) as exc:
            raise _died(child, exc) from exc
        raise_error(header)
        return header, arrays

    def _running(self) -> Child:
        if self._child is None or self._closed:
            raise WorkerDied("The process that runs the model is stopped. Start another one.")
        return self._child

    def _check_pixels(self, pixels: npt.NDArray[np.uint8]) -> None:
        shape = (self.info["height"], self.info["width"], 3)
        if (
            pixels.dtype != np.uint8
            or pixels.ndim != 4
            or pixels.shape[1:] != shape
            or not len(pixels)
        ):
            raise ValueError(
                f"Expected pixels uint8 [N, {', '.join(map(str, shape))}] with N >= 1. "
                f"Received: {pixels.dtype} {list(pixels.shape)}"
            )


def _died(child: Child, exc: WireClosed | WireTimeout) -> WorkerDied:
    """Kill the child unless it has ended; the error with its exit status and last output lines."""
    if isinstance(exc, WireTimeout):
        what, grace_s = "did not answer in time and is killed", 0.0
    else:
        what, grace_s = "ended", 0.5  # the socket closes a moment before the process exits
    return WorkerDied(
        f"The process that runs the model {what}. Start another one. {child.end(grace_s)}"
    )
