"""A model repository of manifests, and a life cycle over it whose processes are fakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bundle.errors import BundleError
from bundle.format.manifest import MANIFEST_FILE, read_manifest
from service.models.model import ServedModel
from service.repository.lifecycle import Lifecycle
from service.repository.registry import Registry
from service.settings import Settings
from tests.bundle.format.test_manifest import record
from tests.service.models.fakes import FakeProcess, Machine
from tests.service.tasks import settle, until


class Process(FakeProcess):
    """A process that can be started unless its bundle is among those that are broken."""

    def __init__(self, repository: Repository, path: Path) -> None:
        super().__init__(repository.machine, path)
        self._repository = repository
        self.digest = ""

    async def start(self, timeout_s: float) -> Any:
        self.digest = read_manifest(self._path).digest
        if self.digest in self._repository.broken:
            raise BundleError(f"broken for the {self._repository.count(self.digest)}. time")
        return await super().start(timeout_s)


class Repository:
    """A folder of bundles, of which only the manifests exist, and what was started for them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = Machine(1, root.with_name("unused"))
        self.broken: set[str] = set()
        self.now = 0.0

    def write(
        self, version: int, *, description: str = "the first one", broken: bool = False
    ) -> str:
        """Write a version of the model `tiny`, which `description` makes another bundle."""
        folder = self.root / "tiny" / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record() | {"version": version, "description": description})
        (folder / "writing").write_text(text)
        (folder / "writing").replace(folder / MANIFEST_FILE)
        digest = read_manifest(folder).digest
        if broken:
            self.broken.add(digest)
        return digest

    def remove(self, version: int) -> None:
        shutil.rmtree(self.root / "tiny" / str(version))

    def new_process(self, path: Path, settings: Settings, number: int) -> Process:  # noqa: ARG002
        process = Process(self, path)
        self.machine.processes.append(process)
        return process

    def count(self, digest: str) -> int:
        """How often a process was started for a bundle."""
        return sum(process.digest == digest for process in self.processes)

    @property
    def processes(self) -> list[Process]:
        return [process for process in self.machine.processes if isinstance(process, Process)]

    @property
    def running(self) -> list[str]:
        """The digests of the bundles that run."""
        return [process.digest for process in self.processes if process.running]


class Watched:
    """A life cycle over a repository."""

    def __init__(self, repository: Repository, **settings: Any) -> None:
        repository.root.mkdir(exist_ok=True)
        self.repository = repository
        self.registry = Registry(repository.root)
        self.lifecycle = Lifecycle(
            Settings(models_dir=repository.root, **{"watch_s": 0, **settings}),
            self.registry,
            lambda ref, own, changed: ServedModel(
                ref, own, repository.new_process, repository.machine.sleep, changed
            ),
            lambda: repository.now,
        )

    async def look(self) -> None:
        """Look at the repository, and wait until what that began has ended or waits."""
        looked = self.lifecycle.looks
        self.lifecycle.look()
        await until(lambda: self.lifecycle.looks > looked)
        await self.rest()

    async def rest(self) -> None:
        """Wait until no model is being loaded, unless the test holds it, and all is followed."""
        held = not self.repository.machine.may_start.is_set()
        await settle()
        await until(
            lambda: (
                self.lifecycle.idle
                and (held or all(m.state != "loading" for m in self.lifecycle.loaded))
            )
        )

    @property
    def states(self) -> dict[int, str]:
        return {model.version: model.state for model in self.registry.all()}

    @property
    def serves(self) -> int:
        return self.registry.find("tiny", None).version


@asynccontextmanager
async def watched(repository: Repository, **settings: Any) -> AsyncIterator[Watched]:
    found = Watched(repository, **settings)
    await found.lifecycle.start()
    await found.rest()
    yield found
    await found.lifecycle.stop()
    assert repository.running == []
