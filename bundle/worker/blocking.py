"""The blocking side of a worker process, for scripts: a facade of `ModelProcess`.

This module imports neither torch nor tensorflow, and never unpickles what the child sends.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from bundle.batches import in_batches
from bundle.errors import WorkerDied
from bundle.runtimes import Device, Embedding, Heatmap, Logits
from bundle.worker.model_process import ModelProcess, Pixels
from bundle.worker.responses import RuntimeInfo
from bundle.worker.selection import SOURCE

T = TypeVar("T")


class RuntimeProcess:
    """A child process that holds one artifact of one bundle, loaded and self-tested.

    Thread-safe: calls are serialised by a lock. The event loop of `ModelProcess` runs in a thread,
    because a notebook has a running loop in its own. An instance is started once; after `stop`,
    `kill` or `WorkerDied` the caller makes another.

    Args:
        bundle_dir: The bundle folder.
        artifact: `source`, `auto` (see `bundle.worker.selection`) or the id of an artifact.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads of the framework; None: the cores that this process may use.
        confined: Run it in a sandbox, see `bundle.sandbox`.
    """

    def __init__(
        self,
        bundle_dir: Path,
        artifact: str = SOURCE,
        device: Device = "auto",
        threads: int | None = None,
        *,
        confined: bool = False,
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is 'auto', 'cpu' or 'cuda'. Received: {device!r}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads is 1 or more, or None. Received: {threads!r}")
        self._process = ModelProcess(bundle_dir, artifact, device, threads, confined=confined)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, timeout_s: float) -> RuntimeInfo:
        """Start the child and wait until it is ready: verified, loaded, golden samples passed.

        Raises:
            BundleError: The child's own error: manifest, integrity, runtime or golden samples.
            WorkerDied: It ended, or was not ready within `timeout_s` seconds. In either case no
                process is left behind.
        """
        with self._lock:
            if self._loop is not None or self._closed:
                raise RuntimeError("A RuntimeProcess is started once; make another one.")
            self._loop = asyncio.new_event_loop()
            try:
                self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
                self._thread.start()
                return self._run(self._process.start(timeout_s))
            except BaseException:
                self._close(0)
                raise

    @property
    def info(self) -> RuntimeInfo:
        """The child's ready frame; `RuntimeError` before `start`."""
        return self._process.info

    @property
    def alive(self) -> bool:
        """Whether the child is running."""
        return self._process.running

    @property
    def pid(self) -> int | None:
        """Process id of the child; None before `start`. It stays after the child's end."""
        return self._process.pid

    def infer(self, pixels: Pixels, timeout_s: float) -> Logits:
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
        return self._call(self._process.run(pixels, timeout_s)).logits

    def infer_all(
        self,
        pixels: Pixels,
        timeout_s: float,
        progress: Callable[[list[Pixels]], Iterable[Pixels]] = iter,
    ) -> Logits:
        """As `infer`, for any number of images: in batches, each within `timeout_s` seconds.

        Args:
            progress: yields the batches as they are done, as `rich.progress.track` does.
        """
        batches = progress(list(in_batches(pixels)))
        return np.concatenate([self.infer(batch, timeout_s) for batch in batches])

    def explain(
        self, pixels: Pixels, class_index: npt.NDArray[np.int64], timeout_s: float
    ) -> tuple[Logits, Heatmap]:
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
        outputs = self._call(self._process.run(pixels, timeout_s, class_index))
        assert outputs.heatmaps is not None  # noqa: S101 - for mypy
        return outputs.logits, outputs.heatmaps

    def embed(self, pixels: Pixels, timeout_s: float) -> tuple[Logits, Embedding]:
        """Logits, float32 [N, C], and what the last linear layer gets, float32 [N, D].

        Args and further errors as `infer`.

        Raises:
            ValueError: The network has no embeddings.
        """
        self._check_pixels(pixels)
        if self.info["embedding"] is None:
            raise ValueError("The network has no embeddings: it does not end with a linear layer.")
        outputs = self._call(self._process.run(pixels, timeout_s, embeddings=True))
        assert outputs.embeddings is not None  # noqa: S101 - for mypy
        return outputs.logits, outputs.embeddings

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
        if not self._lock.acquire(blocking=False):
            self._process.kill_now()  # the call that holds it fails
            self._lock.acquire()
        try:
            self._close(timeout_s)
        finally:
            self._lock.release()

    def _close(self, timeout_s: float) -> None:
        """End the child and the event loop; the caller holds the lock."""
        self._closed = True
        loop, thread = self._loop, self._thread
        if loop is None:
            return
        if thread is not None and thread.is_alive():
            self._run(self._process.kill(timeout_s))
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        loop.close()
        self._loop = None

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None:
                work.close()
                raise WorkerDied("The process that runs the model is stopped. Start another one.")
            try:
                return self._run(work)
            except WorkerDied:
                self._close(0)
                raise

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the event loop; an interrupt cancels it."""
        assert self._loop is not None  # noqa: S101 - the callers have checked it
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise

    def _check_pixels(self, pixels: Pixels) -> None:
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
