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
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bundle.errors import BundleError
from bundle.format.manifest import read_manifest
from service.model_settings import FILE
from service.models.model import ServedModel
from service.repository.registry import Registry
from service.repository.snapshot import Bundle, Files, Snapshot, take_snapshot
from service.repository.versions import wanted_versions
from service.settings import Settings, SettingsError

# Before a refused bundle is tried again although its files are the same: a network drive may have
# failed for a moment. The last one repeats.
RETRY_S = (10.0, 30.0, 60.0, 300.0)
# Looks in a row that miss a bundle before it is unloaded, for the same reason.
MISSING_LOOKS = 2

log = logging.getLogger("service")


@dataclass(eq=False)
class Load:
    """A model that was begun to load, and what from."""

    model: ServedModel
    task: asyncio.Task[None]
    # Of the last try: its own, or that of a replacement that was refused.
    files: Files
    settings: Settings
    refusals: int = 0  # in a row, of tries with these files and settings
    retry_at: float = math.inf
    missed: int = 0  # looks in a row


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
        self._new_model = new_model
        self._clock = clock
        self._snapshot = Snapshot({}, [], None, {})
        self._loads: dict[ServedModel, Load] = {}
        # To take the place of the version that is the key.
        self._replacements: dict[ServedModel, ServedModel] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._run: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._asked = False
        self._failure = ""
        # Number of looks, those that failed included.
        self.looks = 0

    @property
    def loaded(self) -> list[ServedModel]:
        """The models that are loaded, are being loaded, or were refused; replacements, too."""
        return list(self._loads)

    async def start(self) -> None:
        """Look at the repository, begin to load its models, and watch it until `stop`."""
        await self._look()
        await self._adjust()
        self._registry.first = self._registry.all()
        self._run = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End all processes."""
        tasks = [load.task for load in self._loads.values()] + [*self._ending]
        if self._run is not None:
            tasks.append(self._run)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """Look at the repository now."""
        self._asked = True
        self._changed.set()

    async def _watch(self) -> None:
        """Look when it is time or someone asks, and follow what becomes of the models."""
        interval_s = self._settings.watch_s or math.inf
        next_look = self._clock() + interval_s
        while True:
            wait_s = max(0.0, next_look - self._clock())
            try:
                async with asyncio.timeout(None if wait_s == math.inf else wait_s):
                    await self._changed.wait()
            except TimeoutError:
                self._asked = True
            self._changed.clear()
            looking, self._asked = self._asked, False
            try:
                if looking:
                    await self._look()
                    next_look = self._clock() + interval_s
                await self._adjust()
                self.looks += looking
            except Exception:
                log.exception("the model repository could not be followed")

    async def _look(self) -> None:
        """Read the repository; what can't be read leaves everything as it is."""
        try:
            found = await asyncio.to_thread(take_snapshot, self._settings)
        except (OSError, SettingsError) as exc:
            if str(exc) != self._failure:
                log.error("the model repository stays as it was: %s", exc)
            self._failure = str(exc)
            return
        self._failure = ""
        for folder in found.ignored:
            if folder not in self._snapshot.ignored:
                log.warning("ignored folder %s: %s", folder.path, folder.reason)
        if found.settings != self._snapshot.settings:
            for name in found.settings.keys() - found.bundles.keys():
                log.warning("%s has settings of a model that does not exist: %s", FILE, name)
        self._snapshot = found
        self._registry.ignored, self._registry.default_name = found.ignored, found.default
        # A folder that is there and can't be read, or has no manifest yet, is not gone.
        there = {folder.path for folder in found.ignored}
        for load in self._loads.values():
            path = load.model.path
            bundle = found.bundles.get(load.model.name, {}).get(load.model.version)
            load.missed = 0 if bundle or there & {path, path.parent} else load.missed + 1

    async def _adjust(self) -> None:
        """Begin, finish and undo what the last look and the states of the models ask for."""
        models = self._registry.models
        for name in {*self._snapshot.bundles, *models}:
            current = models.setdefault(name, {})
            bundles = self._snapshot.bundles.get(name, {})
            settings = self._snapshot.settings.get(name, self._settings)
            refused = {version for version, model in current.items() if model.code is not None}
            wanted = wanted_versions(settings.versions, bundles.keys(), refused)
            for version in sorted(wanted, reverse=True):
                if version not in current:
                    current[version] = self._load(bundles[version], settings)
                else:
                    await self._renew(current, version, bundles[version], settings)
            self._unload(current, wanted, bundles)
            if not current:
                del models[name]

    def _load(self, bundle: Bundle, settings: Settings, refusals: int = 0) -> ServedModel:
        model = self._new_model(bundle.ref, settings, changed=self._changed.set)
        name = f"{model.name}/{model.version}"
        task = asyncio.create_task(model.run(), name=name)
        task.add_done_callback(_log_defect)
        self._loads[model] = Load(model, task, bundle.files, settings, refusals)
        return model

    async def _renew(
        self, current: dict[int, ServedModel], version: int, bundle: Bundle, settings: Settings
    ) -> None:
        """Replace a version whose files or settings have changed, or that was refused."""
        model = current[version]
        load = self._loads[model]
        if (replacement := self._replacements.get(model)) is not None:
            self._finish(current, version, replacement)
            return
        if model.state == "loading":
            return
        if model.code is not None and load.retry_at == math.inf:
            self._refused(load)
        changed = load.files != bundle.files or load.settings != settings
        if changed and model.code is None and load.settings == settings:
            load.files, load.retry_at, load.refusals = bundle.files, math.inf, 0
            changed = await self._is_other(model)
            model.update_error = None
        if changed or self._clock() >= load.retry_at:
            refusals = 0 if changed else load.refusals
            self._replacements[model] = self._load(bundle, settings, refusals)

    async def _is_other(self, model: ServedModel) -> bool:
        """Whether another bundle lies where the one that serves was loaded from."""
        try:
            manifest = await asyncio.to_thread(read_manifest, model.path)
        except BundleError:  # its replacement is refused for this
            return True
        return model.manifest is None or manifest.digest != model.manifest.digest

    def _finish(
        self, current: dict[int, ServedModel], version: int, replacement: ServedModel
    ) -> None:
        """Let a replacement take over if it is ready, and give it up if it is refused."""
        if replacement.state == "loading":
            return
        model = current[version]
        del self._replacements[model]
        if replacement.code is None or model.code is not None:
            current[version] = replacement
            if replacement.code is not None:
                self._refused(self._loads[replacement])
            self._end(model)
            return
        log.error("model %s/%d serves on; its replacement is refused", model.name, version)
        model.update_error = f"{replacement.code}: {replacement.reason}"
        load, tried = self._loads[model], self._loads[replacement]
        load.files, load.settings, load.refusals = tried.files, tried.settings, tried.refusals
        self._refused(load)
        self._end(replacement)

    def _refused(self, load: Load) -> None:
        """Try this version again after a while."""
        load.retry_at = self._clock() + RETRY_S[min(load.refusals, len(RETRY_S) - 1)]
        load.refusals += 1

    def _unload(
        self,
        current: dict[int, ServedModel],
        wanted: set[int],
        bundles: Mapping[int, Bundle],
    ) -> None:
        """End the versions that are not wanted any more, once those that are can serve."""
        loading = any(current[version].state == "loading" for version in wanted)
        for version in current.keys() - wanted:
            model = current[version]
            if version in bundles:
                if loading and model.code is None:
                    continue  # it serves until a wanted one does
            elif self._loads[model].missed < MISSING_LOOKS:
                continue
            del current[version]
            if (replacement := self._replacements.pop(model, None)) is not None:
                self._end(replacement)
            self._end(model)

    def _end(self, model: ServedModel) -> None:
        """End a model that no request can find any more, after those that have it."""
        load = self._loads.pop(model)

        async def end() -> None:
            try:
                await model.unused()
            finally:
                load.task.cancel()
                await asyncio.gather(load.task, return_exceptions=True)
            log.info("model %s/%d: its process has ended", model.name, model.version)

        task = asyncio.create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _log_defect(task: asyncio.Task[None]) -> None:
    """Log the exception of a model's task; it ends otherwise if cancelled or refused."""
    if not task.cancelled() and task.exception() is not None:
        log.error("model %s has stopped serving", task.get_name(), exc_info=task.exception())
