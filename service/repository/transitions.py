"""Versions that are being loaded, replaced or ended: each step beside the version that serves."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bundle.errors import BundleError
from bundle.format.manifest import read_manifest
from bundle.format.repository import verify_files
from bundle.worker.signature import check_signature
from service.model_settings import OwnSettings
from service.models.model import SERVING, ServedModel
from service.models.refusal import for_clients
from service.repository.snapshot import Bundle, Files, Snapshot
from service.repository.versions import wanted_versions
from service.settings import Settings

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


class Transitions:
    """The models of a registry, each with its task.

    Args:
        changed: called when there may be something to adjust.
        new_model: makes a model that is not loaded yet.
        clock: seconds.
        refusals: counts them by code.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        new_model: Callable[..., ServedModel],
        clock: Callable[[], float],
        refusals: Counter[str],
    ) -> None:
        self._changed = changed
        self._new_model = new_model
        self._clock = clock
        self._refusals = refusals
        self._loads: dict[ServedModel, Load] = {}
        # To take the place of the version that is the key.
        self._replacements: dict[ServedModel, ServedModel] = {}
        self._ending: dict[asyncio.Task[None], ServedModel] = {}

    @property
    def loaded(self) -> list[ServedModel]:
        """The models that are loaded, are being loaded, or were refused; replacements, too."""
        return list(self._loads)

    @property
    def ending(self) -> list[ServedModel]:
        """The models that no request can find any more, and whose processes have not ended."""
        return list(self._ending.values())

    def is_replaced(self, model: ServedModel) -> bool:
        """Whether another one is being loaded to take its place."""
        return model in self._replacements

    async def stop(self) -> None:
        """End all processes."""
        tasks = [*(load.task for load in self._loads.values()), *self._ending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def seen(self, snapshot: Snapshot) -> None:
        """Count the looks that miss a bundle."""
        # A folder that is there and can't be read, or has no manifest yet, is not gone.
        there = {folder.path for folder in snapshot.ignored}
        for load in self._loads.values():
            path = load.model.path
            bundle = snapshot.bundles.get(load.model.name, {}).get(load.model.version)
            load.missed = 0 if bundle or there & {path, path.parent} else load.missed + 1

    async def adjust(
        self,
        current: dict[int, ServedModel],
        bundles: Mapping[int, Bundle],
        own: OwnSettings,
        *,
        kept: int | None,
        unloaded: bool,
    ) -> None:
        """Begin, finish and undo what the repository and the states of a model ask for.

        Args:
            current: its versions in the registry, which this changes.
            bundles: its versions in the repository.
            own: its settings, and the versions that its traffic needs.
            kept: the version that answers while the one that should be stable does not serve.
            unloaded: an operator does not want it.
        """
        refused = {version for version, model in current.items() if model.code is not None}
        settings, traffic = own
        wanted: set[int] = set()
        if not unloaded:
            wanted = wanted_versions(settings.versions, bundles.keys(), refused)
            wanted |= bundles.keys() & {traffic.stable, traffic.canary}
        for version in sorted(wanted, reverse=True):
            if version not in current:
                current[version] = self._load(bundles[version], settings)
            else:
                await self._renew(current, version, bundles[version], settings)
        loading = any(current[version].state == "loading" for version in wanted)
        stable = current.get(traffic.stable or 0)
        if traffic.stable is None or (stable is not None and stable.state in SERVING):
            kept = None
        for version in current.keys() - wanted:
            model = current[version]
            if not unloaded:
                if model.code is None and (loading or version == kept):
                    continue  # it serves until a wanted one does
                if version not in bundles and not self._is_gone(model):
                    continue
            del current[version]
            if (replacement := self._replacements.pop(model, None)) is not None:
                self._end(replacement, "its replacement")
            self._end(model, "the version that was removed")

    def _is_gone(self, model: ServedModel) -> bool:
        return self._loads[model].missed >= MISSING_LOOKS

    def _load(self, bundle: Bundle, settings: Settings, refusals: int = 0) -> ServedModel:
        model = self._new_model(bundle.ref, settings, changed=self._changed)
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
            self._refused(load, model.code)
        changed = load.files != bundle.files or load.settings != settings
        if changed and model.code is None and load.settings == settings:
            load.files, load.retry_at, load.refusals = bundle.files, math.inf, 0
            changed = await self._is_other(model)
            damage = None if changed else await _damage(model)
            if not changed and damage is None and model.update_error is not None:
                log.info("model %s/%d can be loaded again", model.name, model.version)
            model.update_error = None
            if damage is not None:
                detail = for_clients(str(damage), model.settings.models_folder).removesuffix(".")
                model.update_error = (
                    f"{damage.code}: {detail}. The model serves on until its process ends: it "
                    "could not be loaded again."
                )
                # It may be the file of the signers, which is not watched.
                self._refused(load, damage.code)
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
                self._refused(self._loads[replacement], replacement.code)
            self._end(model, "what was replaced")
            return
        log.error("model %s/%d serves on; its replacement is refused", model.name, version)
        model.update_error = f"{replacement.code}: {replacement.reason}"
        load, tried = self._loads[model], self._loads[replacement]
        load.files, load.settings, load.refusals = tried.files, tried.settings, tried.refusals
        self._refused(load, replacement.code)
        self._end(replacement, "its refused replacement")

    def _refused(self, load: Load, code: str) -> None:
        """Count what was refused, and try this version again after a while."""
        self._refusals[code] += 1
        load.retry_at = self._clock() + RETRY_S[min(load.refusals, len(RETRY_S) - 1)]
        load.refusals += 1

    def _end(self, model: ServedModel, what: str) -> None:
        """End a model that no request can find any more, after those that have it.

        Args:
            model: what ends.
            what: it is, for the log: another one of the same name and version may serve.
        """
        load = self._loads.pop(model)

        async def end() -> None:
            try:
                await model.unused()
            finally:
                load.task.cancel()
                await asyncio.gather(load.task, return_exceptions=True)
            log.info("model %s/%d: %s has ended", model.name, model.version, what)

        task = asyncio.create_task(end())
        self._ending[task] = model
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._ending[task]
        self._changed()


async def _damage(model: ServedModel) -> BundleError | None:
    """What is wrong with the files of a model that has loaded them before; a restart needs them."""
    settings, path = model.settings, model.path
    try:
        if settings.signers is not None:
            await check_signature(
                path,
                settings.signers,
                settings.load_timeout_s,
                confined=settings.confined,
            )
        await asyncio.to_thread(lambda: verify_files(path, read_manifest(path)))
    except BundleError as exc:
        log.error("model %s/%d could not be loaded again: %s", model.name, model.version, exc)
        return exc
    return None


def _log_defect(task: asyncio.Task[None]) -> None:
    """Log the exception of a model's task; it ends otherwise if cancelled or refused."""
    if not task.cancelled() and task.exception() is not None:
        log.error("model %s has stopped serving", task.get_name(), exc_info=task.exception())
