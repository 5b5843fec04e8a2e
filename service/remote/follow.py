"""Keeps the copy of a model repository that lies elsewhere, while what is here serves.

Each look is a process of its own (`service.remote.__main__`), which this asks and, if it does not
get on, kills; what it has copied by then stays. Which versions are copied is decided here, by what
the service would load, and by what is loaded.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from bundle.errors import IntegrityFailed
from bundle.worker.client import FramedProcess
from bundle.worker.process import STORES, environment
from bundle.worker.wire import WireClosed
from service.model_settings import OwnSettings, read_model_settings
from service.models.refusal import for_clients
from service.options.address import Address
from service.remote.folder import HIDDEN, SEEN_FILE
from service.repository.registry import Registry
from service.repository.versions import wanted_versions
from service.settings import Settings, SettingsError
from service.traffic import Traffic

START_S = 60.0
# Longer than one request and its repetitions: 8 MB have to come in this time.
STALL_S = 300.0
# Answers of a look, which names at most `MAX_VERSIONS` versions.
MAX_BYTES = 2**20

Versions = Mapping[str, list[int]]

log = logging.getLogger("service")


class LookFailed(Exception):
    """A look has ended early; the text says why."""


class Remote:
    """Looks at a store at intervals, and when asked.

    Args:
        settings: of the service, whose models lie at an address.
        registry: of the models, which shows what goes wrong.
        changed: called when the copy has changed.
        new_process: makes a process that is not started yet, from its arguments.
        stall_s: for how long a process may get nothing, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        changed: Callable[[], None],
        new_process: Callable[[dict[str, Any]], FramedProcess] | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._changed = changed
        self._new_process = new_process or _new_process
        self._stall_s = stall_s
        self._asked = asyncio.Event()
        self._own: dict[str, OwnSettings] = {}
        self._said: set[str] = set()
        self._is_shared = False
        registry.fetching = f"The models are being fetched from {settings.models_dir}."

    def ask(self) -> None:
        """Have `run` look now."""
        self._asked.set()

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            self._asked.clear()
            try:
                self._report(await self.look())
            except LookFailed as exc:
                self._report([str(exc)], failed=True)
            except Exception:
                log.exception("the models can't be followed at %s", self._settings.models_dir)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.models_refresh_s or None):
                    await self._asked.wait()

    async def look(self) -> list[str]:
        """Look once, and switch to what was found; what could not be used, a sentence each.

        Raises:
            LookFailed: nothing could be found out, or changed; what serves stays as it is.
        """
        folder = str(self._settings.models_folder.absolute())
        process = self._new_process({"address": str(self._settings.models_dir), "folder": folder})
        try:
            await process.start(START_S)
            found = await self._ask(process, {"do": "find"})
            if "busy" in found:
                if not self._is_shared:
                    log.info("another service keeps the copy of %s", self._settings.models_dir)
                self._is_shared = True
                return []
            self._is_shared = False
            unusable: dict[str, dict[str, str]] = {}
            while True:
                needed = self._needed(found["versions"], unusable)
                request = {"do": "fetch", "needed": needed, "damaged": self._damaged()}
                fetched = await self._ask(process, request)
                if fetched["unusable"] == unusable:
                    break
                # Older ones take the places of those.
                unusable = fetched["unusable"]
            switched = await self._ask(process, {"do": "switch", "needed": needed})
        except (WireClosed, TimeoutError) as exc:
            what = "nothing came for too long" if isinstance(exc, TimeoutError) else str(exc)
            raise LookFailed(what) from exc
        finally:
            await process.kill()
        if switched["changed"]:
            self._changed()
        refused = [text for texts in unusable.values() for text in texts.values()]
        return [*refused, *fetched["errors"]]

    async def _ask(self, process: FramedProcess, request: dict[str, Any]) -> dict[str, Any]:
        """The result of a step.

        Raises:
            LookFailed: it failed.
            WireClosed, TimeoutError: see `FramedProcess.ask`.
        """
        answer, _ = await process.ask(request, (), self._stall_s)
        while not answer.get("done", True):
            answer, _ = await process.ask({"do": "more"}, (), self._stall_s)
        if "error" in answer:
            raise LookFailed(answer["error"])
        return answer

    def _needed(
        self, available: Versions, unusable: Mapping[str, Mapping[str, str]]
    ) -> dict[str, list[int]]:
        """The versions that should lie here: what is loaded, and what would be."""
        with suppress(SettingsError):  # the last good ones apply; the life cycle reports it
            self._own = read_model_settings(self._settings)
        needed = {}
        for name, versions in available.items():
            settings, traffic = self._own.get(name, OwnSettings(self._settings, Traffic()))
            loaded = self._registry.models.get(name, {})
            refused = {version for version, model in loaded.items() if model.code is not None}
            refused |= {int(version) for version in unusable.get(name, {})}
            wanted = wanted_versions(settings.versions, versions, refused)
            wanted |= {traffic.stable or 0, traffic.canary or 0, *loaded} & set(versions)
            needed[name] = sorted(wanted, reverse=True)
        return needed

    def _damaged(self) -> dict[str, list[int]]:
        """The versions whose files here were found to be others than their manifests list."""
        found: dict[str, list[int]] = {}
        for model in self._registry.all():
            if IntegrityFailed.code in (model.code, (model.update_error or "").split(":")[0]):
                found.setdefault(model.name, []).append(model.version)
        return found

    def _report(self, errors: list[str], *, failed: bool = False) -> None:
        """Say what went wrong, in the log once, and where clients and `/readyz` see it."""
        address = self._settings.models_dir
        if failed:
            here = self._settings.models_folder / HIDDEN / SEEN_FILE
            copied = "there is no copy of them here"
            with suppress(OSError):
                at = datetime.fromtimestamp(here.stat().st_mtime, UTC)
                copied = f"their copy of {at:%Y-%m-%d %H:%M} UTC serves"
            errors = [f"The models can't be looked at: {errors[0]}; {copied}"]
        for text in errors:
            if text not in self._said:
                log.error("%s: %s", address, text)
        if self._said and not errors:
            log.info("%s can be read and used again", address)
        self._said = set(errors)
        shown = [for_clients(text, self._settings.models_folder) for text in errors]
        self._registry.remote_error = f"{address}: {'; '.join(shown)}" if errors else None
        if not failed:
            self._registry.fetching = None


def follow(settings: Settings, registry: Registry, changed: Callable[[], None]) -> Remote | None:
    """What keeps the copy, if the models lie elsewhere."""
    if not isinstance(settings.models_dir, Address):
        return None
    return Remote(settings, registry, changed)


def _new_process(arguments: dict[str, Any]) -> FramedProcess:
    """The process of one look, with the credentials that no other child gets."""
    stores = {k: v for k, v in os.environ.items() if k.upper().startswith(STORES)}
    variables = environment("cpu", 1) | stores
    return FramedProcess("service.remote", arguments, variables, MAX_BYTES)
