"""Loads, replaces and unloads models while the service runs, as the repository changes.

A new version, or another bundle in the place of one, is verified, loaded and self-tested beside the
version that serves. It takes over when it is ready; the old one ends after the requests that it
has. One that is refused is tried again when its files change, and after growing intervals.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator

from service.model_settings import FILE, OwnSettings
from service.models.model import ServedModel
from service.models.refusal import for_clients, refusal
from service.repository.registry import Registry
from service.repository.snapshot import Snapshot, take_snapshot
from service.repository.transitions import Transitions
from service.repository.versions import named_versions
from service.settings import Settings
from service.traffic import Traffic

NOTHING = Snapshot({}, [], None, {}, None)

log = logging.getLogger("service")


class Lifecycle:
    """Keeps a registry as the repository is.

    Args:
        settings: of the service.
        registry: of the models.
        new_model: makes a model that is not loaded yet.
        clock: seconds.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        new_model: Callable[..., ServedModel] = ServedModel,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._clock = clock
        self._snapshot = NOTHING
        # What the log says of the repository as it is.
        self._said: set[str] = set()
        self._adjusted = asyncio.Condition()
        self._run: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._transitions = Transitions(self._changed.set, new_model, clock, registry.refusals)
        self._asked = False
        self._waiting = False
        # The number of the last look that has begun, and of the last one that has been followed.
        self._begun = 0
        self.looks = 0

    @property
    def loaded(self) -> list[ServedModel]:
        """The models that are loaded, are being loaded, or were refused; replacements, too."""
        return self._transitions.loaded

    @property
    def idle(self) -> bool:
        """Whether everything that has changed so far has been followed."""
        return self._waiting and not self._changed.is_set()

    async def start(self) -> None:
        """Look at the repository, begin to load its models, and watch it until `stop`."""
        await self._look()
        await self._adjust()
        self._registry.first = self._registry.all()
        self._run = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End all processes."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)
        await self._transitions.stop()

    def look(self) -> None:
        """Look at the repository now."""
        self._asked = True
        self._changed.set()

    async def load(self, name: str) -> None:
        """Look now, and load a model again that was unloaded; return when it serves.

        Raises:
            UnknownModel: the repository has no such model.
            ModelRefused: it is refused, or its new bundle is.
        """
        self._registry.unloaded.discard(name)
        await self._after_a_look(lambda: not self._is_loading(name))
        newest = self._registry.find(name, max(self._registry.models.get(name, {}), default=None))
        if newest.code is not None or newest.update_error is not None:
            raise refusal(name, newest.reason or newest.update_error or "", newest.code)

    async def unload(self, name: str) -> None:
        """End the versions of a model until it is loaded again; return when they have ended.

        Raises:
            UnknownModel: no version of it is loaded.
        """
        if name in self._registry.unloaded:
            return
        if name not in self._registry.models:
            self._registry.find(name, None)
        self._registry.unloaded.add(name)
        log.info("model %s is unloaded until an administrator loads it again", name)
        await self._after_a_look(
            lambda: (
                name not in self._registry.models
                and all(model.name != name for model in self._transitions.ending)
            )
        )

    async def _after_a_look(self, condition: Callable[[], bool]) -> None:
        """Look now, and return when the condition holds after that."""
        begun = self._begun
        self.look()
        async with self._adjusted:
            await self._adjusted.wait_for(lambda: self.looks > begun and condition())

    def _is_loading(self, name: str) -> bool:
        models = self._registry.models.get(name, {}).values()
        return any(m.state == "loading" or self._transitions.is_replaced(m) for m in models)

    async def _watch(self) -> None:
        """Look when it is time or someone asks, and follow what becomes of the models."""
        interval_s = self._settings.watch_s or math.inf
        next_look = self._clock() + interval_s
        while True:
            wait_s = max(0.0, next_look - self._clock())
            try:
                self._waiting = True
                async with asyncio.timeout(None if wait_s == math.inf else wait_s):
                    await self._changed.wait()
            except TimeoutError:
                self._asked = True
            finally:
                self._waiting = False
            self._changed.clear()
            looking, self._asked = self._asked, False
            try:
                if looking:
                    self._begun += 1
                    await self._look()
                    next_look = self._clock() + interval_s
                await self._adjust()
                self.looks = self._begun
                async with self._adjusted:
                    self._adjusted.notify_all()
            except Exception:
                log.exception("the model repository could not be followed")

    async def _look(self) -> None:
        """Read the repository; what can't be read leaves everything as it is."""
        try:
            found = await asyncio.to_thread(take_snapshot, self._settings, self._snapshot)
        except OSError as exc:
            self._report(f"The model repository can't be read: {exc}")
            return
        self._report(found.error)
        for folder in found.ignored:
            if folder not in self._snapshot.ignored:
                log.warning("ignored folder %s: %s", folder.path, folder.reason)
        missing = set(_missing(found, self._settings))
        for line in sorted(missing - self._said):
            log.warning("%s", line)
        self._said = missing
        self._snapshot = found
        self._registry.ignored, self._registry.default_name = found.ignored, found.default
        self._registry.traffic = {
            name: own.traffic for name, own in found.own.items() if own.traffic != Traffic()
        }
        self._transitions.seen(found)

    def _report(self, error: str | None) -> None:
        """Say what stays as it was, where clients and the log see it."""
        shown = error and for_clients(error, self._settings.models_folder)
        if shown != self._registry.error and shown is not None:
            log.error("the repository stays as it was: %s", error)
        elif shown is None and self._registry.error is not None:
            log.info("the repository can be read and used again")
        self._registry.error = shown

    async def _adjust(self) -> None:
        models = self._registry.models
        for name in {*self._snapshot.bundles, *models}:
            await self._transitions.adjust(
                models.setdefault(name, {}),
                self._snapshot.bundles.get(name, {}),
                self._snapshot.own.get(name, OwnSettings(self._settings, Traffic())),
                kept=self._registry.last_stable.get(name),
                unloaded=name in self._registry.unloaded,
            )
            if not models[name]:
                del models[name]


def _missing(found: Snapshot, settings: Settings) -> Iterator[str]:
    """What the settings name and the repository does not have, one sentence each."""
    bundles = found.bundles
    if found.default is not None and found.default not in bundles:
        yield f"the default model does not exist: {found.default}"
    for name, own in found.own.items():
        if name not in bundles:
            yield f"{FILE} has settings of a model that does not exist: {name}"
        for number in {own.traffic.stable, own.traffic.canary} - {None, *bundles.get(name, ())}:
            yield f"{FILE}: {name} has no version {number}"
    for name, versions in bundles.items():
        policy = found.own[name].settings.versions if name in found.own else settings.versions
        for number in named_versions(policy) - versions.keys():
            yield f"{name} has no version {number}, which SERVICE_VERSIONS or {FILE} names"
