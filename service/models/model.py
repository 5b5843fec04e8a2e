"""The loaded models: one process for each version, watched, restarted, and refused when its bundle is not in order."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Literal

from bundle.errors import BundleError, ManifestInvalid, RuntimeUnavailable, WorkerDied
from bundle.format.manifest import Manifest, read_manifest
from bundle.worker.blocking import RuntimeInfo
from bundle.worker.client import text_of
from service.errors import InternalError, ModelRefused, ModelUnavailable
from service.models.batcher import InferenceResult, Pixels, Queue, Waiting, fail, hand_out
from service.models.process import ModelProcess, check_artifact
from service.settings import Settings

State = Literal["loading", "ready", "restarting", "refused"]
WATCH_S = 0.5  # between two looks at an idle process
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # the last one again and again
LOAD_DELAYS_S = (0.0, 3.0)  # before each attempt
STEADY_S = 30.0  # a process that has lived this long starts with a clean record
REMEDIES = {  # by the code of a refusal; of the others the bundle is the cause
    WorkerDied.code: "Give the model more time (SERVICE_LOAD_TIMEOUT_S) or memory, or set SERVICE_RUNTIME to source",
    InternalError.code: "Report it",
    RuntimeUnavailable.code: "Mend that, or set SERVICE_RUNTIME and SERVICE_DEVICE to what the bundle and this machine have",
}

log = logging.getLogger("service")


class ServedModel:
    """One version of one model, from its folder to its answers."""

    def __init__(self, name: str, version: int, path: Path, settings: Settings) -> None:
        self.name = name
        self.version = version
        self.path = path
        self.state: State = "loading"
        self.framework: str | None = None  # by the manifest, known before the model is loaded
        self.code: str | None = None  # of the error, when refused
        self.reason: str | None = None
        self.manifest: Manifest | None = None
        self.info: RuntimeInfo | None = None
        with suppress(BundleError):  # said when it is loaded
            self.framework = read_manifest(path).framework.name
        self._settings = settings
        self._queue = Queue(settings.queue_size, settings.max_batch, settings.inference_timeout_s)
        self._process: ModelProcess | None = None
        self._deaths = 0
        self._started_at = 0.0
        self._forwards: set[asyncio.Task[None]] = set()
        self._repairing = asyncio.Lock()  # held while a batch is tried again; none starts meanwhile

    @property
    def pid(self) -> int | None:
        """The process that holds the model."""
        return self._process.pid if self._process is not None else None

    @property
    def _alive(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def waiting(self) -> int:
        """How many images wait for a forward pass."""
        return len(self._queue)

    @property
    def batch_sizes(self) -> Counter[int]:
        """How many forward passes of each size there have been."""
        return self._queue.batch_sizes

    def check_room(self) -> None:
        """Whether an image may wait for this model.

        Raises:
            QueueFull: too many wait already.
        """
        self._queue.check_room()

    def admit(self, images: int) -> AbstractContextManager[None]:
        """Places in the queue, taken before images are decoded, or that work would be for nothing.

        Raises:
            QueueFull: too many images wait already.
        """
        return self._queue.admit(images)

    async def predict(self, images: Sequence[Pixels], manifest: Manifest) -> list[InferenceResult]:
        """The answers to uint8 [H, W, 3] images that were made for the bundle of `manifest`, in their order.

        Raises:
            ModelRefused: the bundle has not passed its verification.
            ModelUnavailable: no answer in time, the process died twice under the images, or has another bundle now.
        """
        self.check_serving()
        return await self._queue.submit(images, manifest.digest)

    def check_serving(self) -> Manifest:
        """The manifest of a model that takes requests; one that restarts does, they wait for it.

        Raises:
            ModelRefused, ModelUnavailable: it is refused, or being loaded.
        """
        if self.state == "refused":
            raise self._refusal()
        if self.manifest is None:
            raise ModelUnavailable(
                f"The model {self.name} is being loaded. Send the request again a little later."
            )
        return self.manifest

    async def run(self) -> None:
        """Load, then serve until cancelled."""
        try:
            await self._load()
            while self.state != "refused":
                batch = await self._queue.next_batch(WATCH_S)
                if not self._alive and self._forwards:
                    # They try again, and one beside them could end the process that they are blamed for.
                    await asyncio.wait(self._forwards)
                async with self._repairing:
                    await self._replace()
                if batch:
                    task = asyncio.create_task(self._forward(batch))
                    self._forwards.add(task)
                    task.add_done_callback(functools.partial(self._forwarded, batch))
        except Exception:
            self._refuse(
                InternalError.code, "A defect of the service has ended it; the log says more"
            )
            raise
        finally:
            for task in self._forwards:
                task.cancel()
            if self._process is not None:
                await self._process.kill()

    async def _load(self) -> None:
        """The first start; it is tried again a little later, for the machine may be short of memory or time."""
        for delay_s in LOAD_DELAYS_S:
            await asyncio.sleep(delay_s)
            try:
                await self._start()
            except WorkerDied as exc:
                log.warning("model %s/%s: %s", self.name, self.version, exc)
            else:
                return
        # What the process printed is in the log; clients are not shown it.
        reason = f"Its process could not be started, ended, or was not ready in time, {len(LOAD_DELAYS_S)} times; the log says more."
        self._refuse(WorkerDied.code, reason)

    async def _start(self) -> None:
        """Start the process; the model is ready or refused afterwards.

        Raises:
            WorkerDied: the process can't be started now, ended, was not ready in time, or has loaded another bundle than
                the one it was for.
        """
        try:
            manifest = await asyncio.to_thread(read_manifest, self.path)
            if (manifest.name, manifest.version) != (self.name, self.version):
                raise ManifestInvalid(
                    f"The manifest is of another model. Expected {self.name}/{self.version}, as the folders are "
                    f"called. Received: {manifest.name}/{manifest.version}"
                )
            check_artifact(manifest, self._settings.runtime)
            process = ModelProcess(
                self.path,
                self._settings.runtime,
                self._settings.device,
                self._settings.runtime_threads,
                self._settings.compiled_dir,
                self._settings.openmp_wait,
            )
            self._process = process
            info = await process.start(self._settings.load_timeout_s)
            if info["digest"] != manifest.digest:
                await process.kill()
                raise WorkerDied("The bundle was replaced while it was loaded.")
        except WorkerDied:
            raise
        except BundleError as exc:
            self._refuse(exc.code, str(exc))
        except (
            OSError,
            MemoryError,
            RuntimeError,
        ) as exc:  # short of something, threads for example
            raise WorkerDied(f"The process can't be started ({text_of(exc)}).") from exc
        else:
            self.manifest, self.info, self.state = manifest, info, "ready"
            self._started_at = time.monotonic()
            best = info["batch_size"] or self._settings.max_batch
            self._queue.streams = info["streams"]
            self._queue.max_batch = min(self._settings.max_batch, math.ceil(best / info["streams"]))
            log.info(
                "model %s/%s is ready: %s on %s, in batches of up to %d; %s",
                self.name,
                self.version,
                info["artifact_id"],
                info["device"],
                self._queue.max_batch,
                info["choice"],
            )

    async def _replace(self) -> None:
        """Another process if the one there was has ended; a model that was refused meanwhile stays so."""
        if not self._alive and self.state != "refused":
            log.warning(
                "model %s/%s: its process has ended; starting another", self.name, self.version
            )
            await self._restart()

    async def _restart(self) -> None:
        """A new process in place of the dead one, after a delay that grows with every death in a row."""
        self.state = "restarting"
        if time.monotonic() - self._started_at > STEADY_S:
            self._deaths = 0
        while self.state == "restarting":
            await asyncio.sleep(RESTART_DELAYS_S[min(self._deaths, len(RESTART_DELAYS_S) - 1)])
            self._deaths += 1
            if self._process is not None:
                await self._process.kill()
            try:
                await self._start()
            except WorkerDied as exc:
                log.warning("model %s/%s: %s", self.name, self.version, exc)

    async def _forward(self, batch: list[Waiting]) -> None:
        """One forward pass; a batch whose process dies is tried once more on a new one, with no other beside it."""
        try:
            await self._infer(batch)
        except WorkerDied as exc:
            log.warning("model %s/%s: %s", self.name, self.version, exc)
            async with self._repairing:
                await self._try_again([item for item in batch if not item.future.done()])

    async def _try_again(self, batch: list[Waiting]) -> None:
        try:
            await self._replace()
            if batch and self.state == "ready":  # else it was refused, and all have been told
                await self._infer(batch)
        except WorkerDied as exc:
            log.warning("model %s/%s: %s", self.name, self.version, exc)
            error = ModelUnavailable(
                "The process of the model ended twice on this image. Send another image."
            )
            for item in batch:
                fail(item, error)

    async def _infer(self, batch: list[Waiting]) -> None:
        """Hand out the answers to `batch`. Raises :class:`WorkerDied`; those that are not done have none yet."""
        process = self._process
        assert process is not None  # noqa: S101 - there is one from the first start on
        batch = self._for_this_bundle(batch)
        if not batch:
            return
        started = time.perf_counter()
        try:
            logits = await process.infer(
                [item.pixels for item in batch],
                self._settings.inference_timeout_s,
                beside=self._queue.is_concurrent,
            )
        except RuntimeUnavailable as exc:
            # The model failed and lives on. One image can be the cause, so each gets a pass of its own.
            if len(batch) == 1:
                fail(batch[0], exc)
                return
            for item in batch:
                await self._infer([item])
        else:
            hand_out(batch, logits, started, time.perf_counter())

    def _for_this_bundle(self, batch: list[Waiting]) -> list[Waiting]:
        """Those that were made for the bundle that is loaded now; others may have another size, and other labels."""
        assert self.manifest is not None  # noqa: S101 - as above
        for item in batch:
            if item.bundle != self.manifest.digest:
                error = ModelUnavailable(
                    f"The bundle of the model {self.name} was replaced while the image waited. Send it again."
                )
                fail(item, error)
        return [item for item in batch if not item.future.done()]

    def _forwarded(self, batch: list[Waiting], task: asyncio.Task[None]) -> None:
        self._forwards.discard(task)
        self._queue.finished(batch)
        if not task.cancelled() and task.exception() is not None:
            for item in batch:
                fail(item, InternalError("The service failed on this image. Its log says why."))
            log.error(
                "model %s/%s: a batch failed", self.name, self.version, exc_info=task.exception()
            )

    def _refuse(self, code: str, reason: str) -> None:
        self.state, self.code, self.reason = "refused", code, reason
        log.error("model %s/%s is refused (%s): %s", self.name, self.version, code, reason)
        self._queue.fail_all(self._refusal())

    def _refusal(self) -> ModelRefused:
        # Many end with what was received, and without a full stop.
        reason = (self.reason or "").removesuffix(".")
        cure = REMEDIES.get(self.code or "", "Put the bundle in order")
        return ModelRefused(
            f"The model {self.name}, version {self.version}, is refused ({self.code}): {reason}. "
            f"{cure}, and restart the service."
        )
