"""A loaded model: its process, restarted when it ends; its batch size; its refusal."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal

from bundle.errors import BundleError, RuntimeUnavailable, WorkerDied
from bundle.format.manifest import Manifest, read_manifest
from bundle.format.repository import BundleRef, check_folder
from bundle.worker.client import text_of
from bundle.worker.responses import RuntimeInfo
from service.errors import InternalError, ModelRefused, ModelUnavailable
from service.models.batcher import InferenceResult, Pixels, Queue, QueuedImage, fail, hand_out
from service.models.process import ModelProcess, check_artifact
from service.models.refusal import refusal
from service.settings import Settings

State = Literal["loading", "ready", "restarting", "refused"]
# Between two checks of an idle process.
WATCH_S = 0.5
# Before each start in a row; the last one repeats.
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
# Before each attempt of the first start.
LOAD_DELAYS_S = (0.0, 3.0)
# The restart delays begin again after a process that has lived this long.
STEADY_S = 30.0

log = logging.getLogger("service")


class ServedModel:
    """One version of one model: its process, its queue and its state.

    Args:
        bundle: where it lies.
        new_process: makes the process that runs the bundle.
        sleep: waits before a start is repeated.
    """

    def __init__(
        self,
        bundle: BundleRef,
        settings: Settings,
        new_process: Callable[[Path, Settings], ModelProcess] = ModelProcess,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name, self.version, self.path = bundle.name, bundle.version, bundle.path
        self._id = f"{self.name}/{self.version}"
        self.state: State = "loading"
        # From the manifest, known before the model is loaded.
        self.framework: str | None = None
        # Of the error, if it is refused.
        self.code: str | None = None
        self.reason: str | None = None
        self.manifest: Manifest | None = None
        self.info: RuntimeInfo | None = None
        # The error is reported when the model is loaded.
        with suppress(BundleError):
            self.framework = read_manifest(self.path).framework.name
        self._settings = settings
        self._new_process = new_process
        self._sleep = sleep
        self._queue = Queue(settings.queue_size, settings.max_batch, settings.inference_timeout_s)
        self._process: ModelProcess | None = None
        self._deaths = 0
        self._started_at = 0.0
        self._batches: set[asyncio.Task[None]] = set()
        # Held during a retry, so that no other batch runs.
        self._retrying = asyncio.Lock()

    @property
    def _alive(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def waiting(self) -> int:
        """Number of images that wait for a forward pass."""
        return len(self._queue)

    @property
    def batch_sizes(self) -> Counter[int]:
        """Number of forward passes by their size."""
        return self._queue.batch_sizes

    def check_room(self) -> None:
        """Check that an image may be queued.

        Raises:
            QueueFull: it may not.
        """
        self._queue.check_room()

    def admit(self, images: int) -> AbstractContextManager[None]:
        """Admit images to the queue, before decoding, so that none is decoded in vain.

        Raises:
            QueueFull: too many images wait.
        """
        return self._queue.admit(images)

    async def predict(self, images: Sequence[Pixels], manifest: Manifest) -> list[InferenceResult]:
        """Classify images uint8 [H, W, 3] that were decoded for the bundle of `manifest`, in order.

        Raises:
            ModelRefused: the bundle is not valid.
            ModelUnavailable: there was no result in time, the process died twice on the images, or
                the bundle has been replaced.
        """
        self.check_serving()
        return await self._queue.submit(images, manifest.digest)

    def check_serving(self) -> Manifest:
        """Return the manifest of a model that takes requests. While it restarts they are queued.

        Raises:
            ModelRefused: it is refused.
            ModelUnavailable: it is being loaded.
        """
        if self.state == "refused":
            raise self._refusal()
        if self.manifest is None:
            raise ModelUnavailable(
                f"The model {self.name} is being loaded. Send the request again a little later."
            )
        return self.manifest

    async def run(self) -> None:
        """Load the model, then serve it until cancelled or refused."""
        try:
            await self._load()
            while self.state != "refused":
                batch = await self._queue.next_batch(WATCH_S)
                if not self._alive and self._batches:
                    # A retry is in flight; a concurrent batch could crash the process, and the
                    # retry would be blamed.
                    await asyncio.wait(self._batches)
                async with self._retrying:
                    await self._replace()
                if batch:
                    task = asyncio.create_task(self._run_batch(batch))
                    self._batches.add(task)
                    task.add_done_callback(functools.partial(self._batch_done, batch))
        except Exception:
            self._refuse(
                InternalError.code, "A defect of the service has ended it; the log says more"
            )
            raise
        finally:
            for task in self._batches:
                task.cancel()
            if self._process is not None:
                await self._process.kill()

    async def _load(self) -> None:
        """Start the process for the first time; retry, for the machine may be short of memory."""
        for delay_s in LOAD_DELAYS_S:
            await self._sleep(delay_s)
            try:
                await self._start()
            except WorkerDied as exc:
                log.warning("model %s: %s", self._id, exc)
            else:
                return
        # The output of the process is in the log, and not for clients.
        self._refuse(
            WorkerDied.code,
            "Its process could not be started, ended, or was not ready in time, "
            f"{len(LOAD_DELAYS_S)} times; the log says more.",
        )

    async def _start(self) -> None:
        """Start the process; the model is ready or refused afterwards.

        Raises:
            WorkerDied: the process cannot be started now, ended, was not ready in time, or has
                loaded a bundle that replaced the one it was started for.
        """
        try:
            manifest = await asyncio.to_thread(read_manifest, self.path)
            check_folder(self.path, manifest)
            check_artifact(manifest, self._settings.runtime)
            self._process = process = self._new_process(self.path, self._settings)
            info = await process.start(self._settings.load_timeout_s)
            if info["digest"] != manifest.digest:
                await process.kill()
                raise WorkerDied("The bundle was replaced while it was loaded.")
        except WorkerDied:
            raise
        except BundleError as exc:
            self._refuse(exc.code, str(exc))
        # The machine is short of something, threads for example.
        except (OSError, MemoryError, RuntimeError) as exc:
            raise WorkerDied(f"The process cannot be started ({text_of(exc)}).") from exc
        else:
            self.manifest, self.info, self.state = manifest, info, "ready"
            self._started_at = time.monotonic()
            best = info["batch_size"] or self._settings.max_batch
            self._queue.streams = info["streams"]
            self._queue.max_batch = min(self._settings.max_batch, math.ceil(best / info["streams"]))
            what = f"{info['artifact_id']} on {info['device']}"
            what = f"{what}, in batches of up to {self._queue.max_batch}; {info['choice']}"
            log.info("model %s is ready: %s", self._id, what)

    async def _replace(self) -> None:
        """Start another process if this one has ended, after a delay that grows in a row."""
        if self._alive or self.state == "refused":
            return
        log.warning("model %s: its process has ended; starting another", self._id)
        self.state = "restarting"
        if time.monotonic() - self._started_at > STEADY_S:
            self._deaths = 0
        while self.state == "restarting":
            await self._sleep(RESTART_DELAYS_S[min(self._deaths, len(RESTART_DELAYS_S) - 1)])
            self._deaths += 1
            if self._process is not None:
                await self._process.kill()
            try:
                await self._start()
            except WorkerDied as exc:
                log.warning("model %s: %s", self._id, exc)

    async def _run_batch(self, batch: list[QueuedImage]) -> None:
        """Run one batch; if its process dies, retry once on a new one, with no other batch."""
        try:
            await self._infer(batch)
        except WorkerDied as exc:
            log.warning("model %s: %s", self._id, exc)
            async with self._retrying:
                await self._retry([item for item in batch if not item.future.done()])

    async def _retry(self, batch: list[QueuedImage]) -> None:
        try:
            await self._replace()
            # A refused model has failed every image.
            if batch and self.state == "ready":
                await self._infer(batch)
        except WorkerDied as exc:
            log.warning("model %s: %s", self._id, exc)
            text = "The process of the model ended twice on this image. Send another image."
            for item in batch:
                fail(item, ModelUnavailable(text))

    async def _infer(self, batch: list[QueuedImage]) -> None:
        """Run `batch` and set the results; if it raises `WorkerDied`, some images may have none."""
        process = self._process
        assert process is not None  # noqa: S101 - it exists from the first start on
        assert self.manifest is not None  # noqa: S101 - as above
        # Those decoded for another bundle may have another size and other labels.
        for item in batch:
            if item.bundle != self.manifest.digest:
                text = f"The bundle of the model {self.name} was replaced while the image waited."
                fail(item, ModelUnavailable(f"{text} Send it again."))
        batch = [item for item in batch if not item.future.done()]
        if not batch:
            return
        started = time.perf_counter()
        try:
            logits = await process.infer(
                [item.pixels for item in batch],
                self._settings.inference_timeout_s,
                exclusive=not self._queue.is_concurrent,
            )
        except RuntimeUnavailable as exc:
            # The process is still up. One image can be the cause, so each runs alone.
            if len(batch) == 1:
                fail(batch[0], exc)
                return
            for item in batch:
                await self._infer([item])
        else:
            hand_out(batch, logits, started, time.perf_counter())

    def _batch_done(self, batch: list[QueuedImage], task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._queue.finished(batch)
        if not task.cancelled() and task.exception() is not None:
            for item in batch:
                fail(item, InternalError("The service failed on this image. Its log says why."))
            log.error("model %s: a batch failed", self._id, exc_info=task.exception())

    def _refuse(self, code: str, reason: str) -> None:
        self.state, self.code, self.reason = "refused", code, reason
        log.error("model %s is refused (%s): %s", self._id, code, reason)
        self._queue.fail_all(self._refusal())

    def _refusal(self) -> ModelRefused:
        return refusal(f"{self.name}, version {self.version},", self.reason or "", self.code)
