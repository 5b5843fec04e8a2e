"""One killable process per loaded model version, driven from the parent with plain blocking calls.

This module imports neither torch nor tensorflow, and unpickles nothing that the child sends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, cast

import numpy as np
import numpy.typing as npt

from bundle.batches import in_batches
from bundle.errors import BUNDLE_ERRORS, BundleError, RuntimeUnavailable, WorkerDied
from bundle.runtimes import Device
from bundle.worker.process import Child, environment
from bundle.worker.selection import SOURCE
from bundle.worker.wire import Array, WireClosed, WireTimeout

Pixels = npt.NDArray[np.uint8]


class RuntimeInfo(TypedDict):
    """What a worker reports when it is ready."""

    digest: str  # of the bundle's record, as the worker has read it
    runtime: str
    runtime_version: str
    precision: str
    device: str
    artifact_id: str
    choice: str  # why this artifact, in words
    streams: int  # forward passes that it works on at once
    batch_size: int | None  # that gave the most images per second when the artifact was measured
    height: int
    width: int
    classes: int
    feature_height: int
    feature_width: int
    golden_max_difference: float
    load_seconds: float


class RuntimeProcess:
    """A child process that holds one artifact of one bundle, loaded and self-tested.

    ``artifact`` is source, auto (:mod:`bundle.worker.selection`) or the id of an artifact. ``device`` is auto, cpu or cuda.
    ``threads`` bounds the CPU threads of the framework; None: the cores that this process may use. Calls from
    several threads take turns. An instance is started once; after ``stop``, ``kill`` or :class:`WorkerDied` the
    caller makes another.
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
        self._turn = threading.Lock()
        self._child: Child | None = None
        self._closed = False
        self._info: RuntimeInfo | None = None

    def start(self, timeout_s: float) -> RuntimeInfo:
        """Start the child and wait until it is ready: verified, loaded, golden samples passed.

        Raises the child's own :class:`BundleError` (manifest, integrity, runtime, golden), and
        :class:`WorkerDied` when it ends or is not ready within ``timeout_s`` seconds. Either way no process
        is left behind.
        """
        deadline = time.monotonic() + timeout_s
        with self._turn:
            if self._child is not None or self._closed:
                raise RuntimeError("A RuntimeProcess is started once; make another one.")
            child = Child("bundle.worker", self._arguments, self._environment)
            child.read_in_thread()
            self._child = child
        try:
            with self._turn:
                header, _ = self._receive(deadline)
        except BaseException:
            self.kill()
            raise
        self._info = cast("RuntimeInfo", header)
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
        return self._child is not None and self._child.process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the child; None before :meth:`start`. It stays after the child's end."""
        return None if self._child is None else self._child.process.pid

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of the child; None when it is not running."""
        return self._child.memory_bytes if self._child is not None and self.alive else None

    def infer(self, pixels: npt.NDArray[np.uint8], timeout_s: float) -> npt.NDArray[np.float32]:
        """uint8 [N, H, W, 3], N >= 1, to float32 logits [N, C]. The time counts from this caller's turn.

        Raises ``ValueError`` for another shape or dtype, :class:`WorkerDied` when the child has ended, ends
        meanwhile, or takes longer than ``timeout_s`` seconds (it is then killed), and
        :class:`RuntimeUnavailable` when the model itself fails (out of memory), after which it stays up.
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
        """Logits [N, C] and the raw class activation maps [N, h, w] of ``class_index`` int64 [N].

        Raises as :meth:`infer`; also ``ValueError`` for an index outside [0, C).
        """
        self._check_pixels(pixels)
        count, classes = len(pixels), self.info["classes"]
        if class_index.dtype != np.int64 or class_index.shape != (count,):
            raise ValueError(
                f"Expected class_index int64 [{count}]. Received: {class_index.dtype} {list(class_index.shape)}"
            )
        if class_index.min() < 0 or class_index.max() >= classes:
            raise ValueError(
                f"A class index is from 0 to {classes - 1}. Received: {class_index.tolist()}"
            )
        shapes = [
            (count, classes),
            (count, self.info["feature_height"], self.info["feature_width"]),
        ]
        logits, heatmap = self._call("explain", [pixels, class_index], timeout_s, shapes)
        return logits, heatmap

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the child and give its memory back; kill it when it has not ended after ``timeout_s`` seconds.

        A request under way ends with :class:`WorkerDied`. Safe to call twice and from any thread.
        """
        self._end(timeout_s)

    def kill(self) -> None:
        """End the child at once. Safe to call twice and from any thread."""
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
        with self._turn:  # whoever holds it is woken by the end of the child
            child.close()

    def _call(
        self, method: str, arrays: list[Array], timeout_s: float, shapes: list[tuple[int, ...]]
    ) -> list[npt.NDArray[np.float32]]:
        """One request and its answer, float32 arrays of ``shapes``."""
        try:
            with self._turn:
                deadline = time.monotonic() + timeout_s
                self._send({"method": method}, arrays, deadline)
                _, answer = self._receive(deadline)
        except WorkerDied:
            self.kill()
            raise
        check_shapes(answer, shapes)
        return answer

    def _send(self, header: dict[str, Any], arrays: list[Array], deadline: float) -> None:
        child = self._running()
        try:
            child.wire.send(header, arrays, deadline)
        except (WireClosed, WireTimeout) as exc:
            raise _died(child, exc) from exc

    def _receive(self, deadline: float) -> tuple[dict[str, Any], list[Array]]:
        """One frame from the child; its error frame becomes the error itself."""
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


def raise_error(header: dict[str, Any]) -> None:
    """Raise the error that a worker's frame carries, if it carries one."""
    if "error" in header:
        raise BUNDLE_ERRORS.get(header["error"], BundleError)(str(header["detail"]))


def check_shapes(answer: list[Array], shapes: list[tuple[int, ...]]) -> None:
    """Raise :class:`RuntimeUnavailable` unless a worker has answered with float32 arrays of ``shapes``."""
    if [array.shape for array in answer] != shapes or any(
        array.dtype != np.float32 for array in answer
    ):
        raise RuntimeUnavailable(
            f"The model answers in another shape. Expected float32 {shapes}. "
            f"Received: {[f'{array.dtype} {array.shape}' for array in answer]}"
        )


def _died(child: Child, exc: WireClosed | WireTimeout) -> WorkerDied:
    """The error for a child that is gone or must go: what happened, exit status, its last lines."""
    if isinstance(exc, WireTimeout):
        what, grace_s = "did not answer in time and is killed", 0.0
    else:
        what, grace_s = "ended", 0.5  # the socket closes a moment before the exit status is there
    return WorkerDied(
        f"The process that runs the model {what}. Start another one. {child.end(grace_s)}"
    )
