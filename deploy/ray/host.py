"""A replica that holds models: each in its confined process, the least recently used one goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from weakref import WeakValueDictionary

from ray import serve

from bundle.errors import BundleError, WorkerDied
from bundle.worker.model_process import ModelProcess, Pixels
from bundle.worker.process import Reason
from bundle.worker.responses import ClassifiedBatch, Extras, RuntimeInfo
from deploy.ray.options import Args, Identity
from service.model_settings import OwnSettings
from service.models.process import new_process
from service.monitoring.logs import configure_logging
from service.repository.lifecycle import NOTHING
from service.repository.snapshot import take_snapshot
from service.repository.versions import wanted_versions
from service.settings import Settings
from service.traffic import Traffic

UNLIMITED = -1
# From a load to the end of the versions that it has replaced: each web process has changed by then,
# and one that has not gets them loaded again.
TIDY_S = 60.0
POLL_S = 0.02

log = logging.getLogger("service")


class Failed(NamedTuple):
    """What is returned in place of a result: raised, Ray would hide its type behind its own."""

    error: BundleError
    # Of the end of a process, if that is what has failed.
    reason: Reason | None = None


class Hosted:
    """One bundle and its process, which is started when it is needed.

    Serve deletes it when others are used more.
    """

    def __init__(self, identity: Identity, settings: Settings) -> None:
        self._identity = identity
        self._settings = identity.settings(settings)
        self._folder = identity.folder(settings)
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.Lock()
        self._process: ModelProcess | None = None
        self._uses = 0
        self._deleted = False

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the process until the block is left."""
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1

    @property
    def reason(self) -> Reason | None:
        """Why its process has ended."""
        return self._process.reason if self._process else None

    async def process(self) -> ModelProcess:
        """The process, started if there is none that runs.

        Raises:
            BundleError: it can't be started, or the bundle is refused.
        """
        async with self._starting:
            if self._process is not None and self._process.running:
                return self._process
            if self._process is not None:
                await self._process.kill()
            self._process = new_process(self._folder, self._settings)
            info = await self._process.start(self._settings.load_timeout_s)
            if info["digest"] != self._identity.digest:
                await self._process.kill()
                raise WorkerDied("The bundle was replaced while it was loaded.")
            log.info("loaded %s", self._identity)
            return self._process

    async def end(self) -> None:
        """End the process after its batches."""
        while self._uses:  # noqa: ASYNC110 - it is rare
            await asyncio.sleep(POLL_S)
        async with self._starting:
            if self._process is not None and self._process.running:
                await self._process.kill()
                log.info("unloaded %s", self._identity)

    def __del__(self) -> None:
        """Called by Serve, in a thread, and by Python."""
        if not self._deleted and not self._loop.is_closed():
            self._deleted = True
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self.end()))


class ModelHost:
    """Runs batches of the models of one name, or of many.

    Args:
        args: of the application.
        name: of the model whose versions are loaded before the first batch arrives; None: whatever
            is asked for.
    """

    def __init__(self, args: Args, name: str | None = None) -> None:
        self._args, self._name = args, name
        self._settings = settings = args.settings()
        configure_logging(settings)
        self._is_ready = name is None
        self._identities: dict[str, Identity] = {}
        self._models: WeakValueDictionary[str, Hosted] = WeakValueDictionary()
        self._tidying: asyncio.Task[None] | None = None

        async def hosted(identity: str) -> Hosted:
            self._models[identity] = model = Hosted(self._identities[identity], settings)
            return model

        limit = args.others.models_per_replica if name is None else UNLIMITED
        self._hosted = serve.multiplexed(hosted, max_num_models_per_replica=limit)

    async def check_health(self) -> None:
        """Called by Serve: the first time before any batch arrives, so that it loads the models."""
        if not self._is_ready:
            self._is_ready = True
            for identity in await asyncio.to_thread(self._wanted):
                await self.load(identity)

    async def load(self, identity: Identity) -> RuntimeInfo | Failed:
        """Load a model unless it is loaded, and say what runs it."""
        model = await self._model(identity)
        with model.used():
            try:
                info = (await model.process()).info
            except BundleError as exc:
                return Failed(exc, model.reason)
        if self._name is not None and (self._tidying is None or self._tidying.done()):
            self._tidying = asyncio.create_task(self._tidy())
        return info

    async def classify(
        self,
        identity: Identity,
        images: Sequence[bytes | Pixels],
        timeout_s: float,
        extras: Mapping[int, Extras] | None,
        exclusive: bool,
    ) -> ClassifiedBatch | Failed:
        """Run one batch, as `ModelProcess.classify`; the model is loaded unless it is."""
        model = await self._model(identity)
        with model.used():
            try:
                process = await model.process()
                return await process.classify(images, timeout_s, exclusive=exclusive, extras=extras)
            except BundleError as exc:
                return Failed(exc, model.reason)

    async def _model(self, identity: Identity) -> Hosted:
        self._identities[str(identity)] = identity
        found: Hosted = await self._hosted(str(identity))
        return found

    async def _tidy(self) -> None:
        """End the versions that the service loads no more."""
        await asyncio.sleep(TIDY_S)
        try:
            wanted = {str(identity) for identity in await asyncio.to_thread(self._wanted)}
        except OSError as exc:
            log.warning("the model repository can't be read: %s", exc)
            return
        await asyncio.gather(
            *(model.end() for name, model in list(self._models.items()) if name not in wanted)
        )

    def _wanted(self) -> list[Identity]:
        """The versions that the service loads, as far as they can be read."""
        snapshot = take_snapshot(self._settings, NOTHING)
        bundles = snapshot.bundles.get(self._name or "", {})
        own = snapshot.own.get(self._name or "", OwnSettings(self._settings, Traffic()))
        wanted = wanted_versions(own.settings.versions, bundles.keys(), ())
        wanted |= bundles.keys() & {own.traffic.stable, own.traffic.canary}
        found = []
        for version in sorted(wanted):
            try:
                scale = self._args.scale(self._name)
                found.append(Identity.read(bundles[version].ref, own.settings, scale))
            except BundleError as exc:
                # The service refuses it with this reason.
                log.warning("model %s/%d can't be loaded: %s", self._name, version, exc)
        return found
