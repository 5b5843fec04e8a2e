"""A loaded model: its instances, its queue, its batch size, its state and its refusal."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, Self

from bundle.errors import BundleError, RuntimeUnavailable, WorkerDied
from bundle.format.manifest import Manifest, read_manifest
from bundle.format.repository import BundleRef, check_folder
from bundle.worker.client import text_of
from bundle.worker.process import Reason
from bundle.worker.responses import RuntimeInfo
from service.errors import InternalError, ModelRefused, ModelUnavailable
from service.models.batcher import Queue
from service.models.fair import FairQueue
from service.models.instance import Instance
from service.models.process import RunningModel, check_artifact, new_process
from service.models.refusal import for_clients, refusal
from service.settings import Settings

State = Literal["loading", "ready", "restarting", "refused"]
SERVING: tuple[State, ...] = ("ready", "restarting")
# Before each attempt of the first start.
LOAD_DELAYS_S = (0.0, 3.0)
UNUSED_POLL_S = 0.05

log = logging.getLogger("service")


class Target(NamedTuple):
    """The model, manifest and runtime that a request is for; `with` keeps the model loaded."""

    model: ServedModel
    manifest: Manifest
    info: RuntimeInfo

    def __enter__(self) -> Self:
        self.model.requests += 1
        return self

    def __exit__(self, *exc: object) -> None:
        self.model.requests -= 1

    @property
    def identity(self) -> tuple[str, str, str]:
        """Bundle, artifact and device: with the same ones an image has the same logits."""
        return self.manifest.digest, self.info["artifact_id"], self.info["device"]

    @property
    def unchanged(self) -> bool:
        """Whether the model still runs the same; another process may run another artifact."""
        manifest, info = self.model.manifest, self.model.info
        if manifest is None or info is None:
            return False
        return Target(self.model, manifest, info).identity == self.identity


class ServedModel:
    """One version of one model: its instances, its queue and its state.

    Args:
        bundle: where it lies.
        settings: for this model.
        new_process: makes a process that runs the bundle.
        sleep: waits before a start is repeated.
        changed: called when it becomes ready or refused.
    """

    def __init__(
        self,
        bundle: BundleRef,
        settings: Settings,
        new_process: Callable[[Path, Settings, int], RunningModel] = new_process,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.version, self.path = bundle.name, bundle.version, bundle.path
        self._id = f"{self.name}/{self.version}"
        self.settings = settings
        # From the manifest, known before the model is loaded.
        self.framework: str | None = None
        # Of the error, if it is refused.
        self.code: str | None = None
        self.reason: str | None = None
        # Why a bundle that should have replaced this one was not taken.
        self.update_error: str | None = None
        self.manifest: Manifest | None = None
        self.info: RuntimeInfo | None = None
        # The error is reported when the model is loaded.
        with suppress(BundleError):
            self.framework = read_manifest(self.path).framework.name
        self._new_process = new_process
        self._sleep = sleep
        self._changed = changed
        # Those that have chosen it and are not answered.
        self.requests = 0
        # Instances whose first start has failed.
        self._failed = 0
        queue = FairQueue if settings.needs_keys else Queue
        self.queue = queue(settings.queue_size, settings.max_batch, settings.inference_timeout_s)
        # Processes that another one replaces, by the reason of their end.
        self.restarts: Counter[Reason] = Counter()
        self._instances = [
            Instance(
                self._id,
                self.queue,
                functools.partial(self._start_process, number),
                sleep,
                self.restarts,
            )
            for number in range(settings.instances)
        ]

    @property
    def state(self) -> State:
        """What it does with requests."""
        if self.code is not None:
            return "refused"
        if self.manifest is None:
            return "loading"
        return "ready" if self._alive else "restarting"

    @property
    def _alive(self) -> list[Instance]:
        """The instances that take batches."""
        return [instance for instance in self._instances if instance.alive]

    async def unused(self) -> None:
        """Return when no request uses it and its queue is empty."""
        while self.requests or self.queue.is_used:
            await self._sleep(UNUSED_POLL_S)

    def target(self) -> Target:
        """What a request for this model is for. While the model restarts, images are queued.

        Raises:
            ModelRefused: it is refused.
            ModelUnavailable: it is being loaded.
        """
        if self.code is not None:
            raise self._refusal()
        if self.manifest is None or self.info is None:
            raise ModelUnavailable(
                f"The model {self.name} is being loaded. Send the request again a little later."
            )
        return Target(self, self.manifest, self.info)

    async def run(self) -> None:
        """Load the model, then serve it until cancelled or refused."""
        serving = [asyncio.create_task(self._serve(instance)) for instance in self._instances]
        try:
            done, _ = await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Exception:
            self._refuse(
                InternalError.code, "A defect of the service has ended it; the log says more"
            )
            raise
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, instance: Instance) -> None:
        """Start an instance, again if the machine is short of memory, and let it run."""
        for delay_s in LOAD_DELAYS_S:
            await self._sleep(delay_s)
            try:
                await instance.start()
            except WorkerDied as exc:
                log.warning("model %s: %s", self._id, exc)
            else:
                break
        else:
            self._failed += 1
            # Another one may be loaded, or be loading still.
            if self.manifest is None and self._failed == len(self._instances):
                # The output of the process is in the log, and not for clients.
                self._refuse(
                    WorkerDied.code,
                    "Its process could not be started, ended, or was not ready in time, "
                    f"{len(LOAD_DELAYS_S)} times; the log says more.",
                )
                return
        await instance.run()

    async def _start_process(self, number: int) -> RunningModel | None:
        """Start the process of an instance; None: the model is refused.

        Raises:
            WorkerDied: the process cannot be started now, ended, was not ready in time, or has
                loaded a bundle that replaced the one it was started for.
        """
        try:
            manifest = await asyncio.to_thread(read_manifest, self.path)
            check_folder(self.path, manifest)
            check_artifact(manifest, self.settings.runtime)
            settings = self.settings
            if running := self._running(manifest.digest):
                same = {"runtime": running["artifact_id"], "device": running["device"]}
                settings = settings.model_copy(update=same)
            process = self._new_process(self.path, settings, number)
            info = await process.start(self.settings.load_timeout_s)
            if info["digest"] != manifest.digest:
                await process.kill()
                raise WorkerDied("The bundle was replaced while it was loaded.")
            # Another instance may have been started at the same time.
            if (running := self._running(info["digest"])) and (
                (running["artifact_id"], running["device"]) != (info["artifact_id"], info["device"])
            ):
                await process.kill()
                raise WorkerDied("The process runs another artifact than other instances.")
        except WorkerDied:
            raise
        except BundleError as exc:
            if isinstance(exc, RuntimeUnavailable) and self._alive:
                # The others go on: there may be no memory for one more.
                raise WorkerDied(str(exc)) from exc
            self._refuse(exc.code, str(exc))
            return None
        # The machine is short of something, threads for example.
        except (OSError, MemoryError, RuntimeError) as exc:
            raise WorkerDied(f"The process cannot be started ({text_of(exc)}).") from exc
        self.manifest, self.info = manifest, info
        # All instances run the same bundle; those of another one are replaced.
        for other in self._alive:
            if other.process and other.process.info["digest"] != info["digest"]:
                other.process.kill_now()
        best = info["batch_size"] or self.settings.max_batch
        self.queue.streams = info["streams"] * (1 + len(self._alive))
        self.queue.max_batch = min(self.settings.max_batch, math.ceil(best / info["streams"]))
        what = f"{info['artifact_id']} on {info['device']}"
        what = f"{what}, in batches of up to {self.queue.max_batch}; {info['choice']}"
        log.info("model %s is ready: %s", self._id, what)
        self._changed()
        return process

    def _running(self, digest: str) -> RuntimeInfo | None:
        """What the instances that are alive run, if it is of this bundle."""
        info = self.info
        return info if self._alive and info and info["digest"] == digest else None

    def _refuse(self, code: str, reason: str) -> None:
        self.code, self.reason = code, for_clients(reason, self.settings.models_folder)
        log.error("model %s is refused (%s): %s", self._id, code, reason)
        self.queue.close(self._refusal())
        self._changed()

    def _refusal(self) -> ModelRefused:
        return refusal(f"{self.name}, version {self.version},", self.reason or "", self.code)
