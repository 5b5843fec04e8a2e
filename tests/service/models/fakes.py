"""Fake processes of models, and a model over them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from bundle.errors import WorkerDied
from bundle.format.manifest import read_manifest
from bundle.worker.responses import RuntimeInfo
from service.models.batcher import Pixels
from service.models.process import ModelProcess
from service.settings import Settings

IMAGE = np.zeros((2, 2, 3), np.uint8)
DEADLY = IMAGE + 1
SUCCESS = "success"


class FakeProcess(ModelProcess):
    """A process that runs batches when the machine lets it, and ends on a deadly image."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self._machine = machine
        self._path = path
        self._ready = False
        # Set when a batch may end, or the process has.
        self.may_end = asyncio.Event()
        if not machine.hold:
            self.may_end.set()

    @property
    def running(self) -> bool:
        return self._ready

    async def start(self, timeout_s: float) -> RuntimeInfo:  # noqa: ARG002
        machine = self._machine
        await machine.may_start.wait()
        number = machine.processes.index(self) + 1
        if error := machine.start_errors.get(number):
            raise error
        self._ready = True
        info = {
            "digest": machine.digests.get(number, read_manifest(self._path).digest),
            "batch_size": None,
            "artifact_id": "source",
            "device": "cpu",
            "choice": "the only one",
            "streams": machine.streams,
        }
        return cast("RuntimeInfo", info)

    async def infer(
        self,
        images: Sequence[Pixels],
        timeout_s: float,  # noqa: ARG002
        *,
        exclusive: bool,
    ) -> npt.NDArray[np.float32]:
        machine = self._machine
        machine.exclusive.append(exclusive)
        if machine.infer_error is not None:
            raise machine.infer_error
        await self.may_end.wait()
        if any(image.any() for image in images):
            self.end()
        if not self._ready:
            await machine.may_report.wait()
            raise WorkerDied("ended")
        return np.zeros((len(images), 3), np.float32)

    def end(self) -> None:
        self._ready = False
        self.may_end.set()

    async def kill(self) -> str:
        self.end()
        return ""


class Machine:
    """What a model runs on: the processes that it has started, their errors, and its delays."""

    def __init__(self, streams: int) -> None:
        self.streams = streams
        self.processes: list[FakeProcess] = []
        # Errors, and digests of other bundles, by the number of the start.
        self.start_errors: dict[int, BaseException] = {}
        self.digests: dict[int, str] = {}
        self.infer_error: Exception | None = None
        # Whether batches wait for `may_end` of their process.
        self.hold = False
        self.may_start = asyncio.Event()
        self.may_start.set()
        # Set when a batch whose process has ended may fail.
        self.may_report = asyncio.Event()
        self.may_report.set()
        self.exclusive: list[bool] = []
        self.delays_s: list[float] = []

    def new_process(self, path: Path, settings: Settings) -> FakeProcess:  # noqa: ARG002
        self.processes.append(FakeProcess(self, path))
        return self.processes[-1]

    async def sleep(self, seconds: float) -> None:
        self.delays_s.append(seconds)
        await asyncio.sleep(0)

    @property
    def running(self) -> list[bool]:
        return [process.running for process in self.processes]
