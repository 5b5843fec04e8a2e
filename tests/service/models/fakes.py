"""Fake processes of models, and a model over them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from bundle.errors import ImageError, UnreadableImage, WorkerDied
from bundle.format.manifest import MANIFEST_FILE, read_manifest
from bundle.format.repository import BundleRef
from bundle.imaging.decode import ImageInfo
from bundle.worker.model_process import ModelProcess, Pixels
from bundle.worker.process import Reason
from bundle.worker.responses import Classified, ClassifiedBatch, Extras, RuntimeInfo
from service.models.model import ServedModel
from service.settings import Settings
from tests.bundle.format.test_manifest import record
from tests.service.tasks import settle, until

IMAGE = np.zeros((2, 2, 3), np.uint8)
DEADLY = IMAGE + 1
FILE, DEADLY_FILE, BROKEN_FILE = b"file", b"deadly", b"broken"
INFO = ImageInfo("PNG", 2, 2, "RGB", [])
DECODE_S = 0.25
SUCCESS = "success"


class FakeProcess(ModelProcess):
    """A process that runs batches when the machine lets it, and ends on a deadly image."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self._machine = machine
        self._path = path
        self._ready = False
        # The images of each batch, in the order of their arrival, and how many batches run.
        self.batches: list[list[bytes | Pixels]] = []
        self.in_flight = 0
        # Set when a batch may end, or the process has.
        self.may_end = asyncio.Event()
        if not machine.hold:
            self.may_end.set()

    @property
    def running(self) -> bool:
        return self._ready

    @property
    def reason(self) -> Reason:
        return "killed"

    async def start(self, timeout_s: float) -> RuntimeInfo:  # noqa: ARG002
        machine = self._machine
        number = machine.processes.index(self) + 1
        if error := machine.start_errors.get(number):
            raise error
        await machine.may_start.wait()
        self._ready = True
        info: dict[str, object] = {
            "digest": machine.digests.get(number, read_manifest(self._path).digest),
            "batch_size": None,
            "artifact_id": "source",
            "device": "cpu",
            "choice": "the only one",
            "isolation": {},
            "signer": None,
            "streams": machine.streams,
        }
        self._info = cast("RuntimeInfo", info)
        return self._info

    async def classify(
        self,
        images: Sequence[bytes | Pixels],
        timeout_s: float,  # noqa: ARG002
        *,
        exclusive: bool,
        extras: Mapping[int, Extras] | None = None,  # noqa: ARG002
    ) -> ClassifiedBatch:
        machine = self._machine
        machine.exclusive.append(exclusive)
        self.batches.append(list(images))
        if machine.infer_error is not None:
            raise machine.infer_error
        self.in_flight += 1
        try:
            await self.may_end.wait()
            if any(map(is_deadly, images)):
                self.kill_now()
            if not self._ready:
                await machine.may_report.wait()
                raise WorkerDied("ended")
        finally:
            self.in_flight -= 1
        return ClassifiedBatch([classified(image) for image in images], DECODE_S, 0.0)

    def end_batches(self) -> None:
        """End the batches that run now, and none that comes later."""
        self.may_end.set()
        self.may_end.clear()

    def kill_now(self) -> None:
        self._ready = False
        self.may_end.set()

    async def kill(self, grace_s: float = 0) -> str:  # noqa: ARG002
        self.kill_now()
        return ""


def is_deadly(image: bytes | Pixels) -> bool:
    return image == DEADLY_FILE if isinstance(image, bytes) else bool(image.any())


def classified(image: bytes | Pixels) -> Classified | ImageError:
    if isinstance(image, bytes) and image == BROKEN_FILE:
        return UnreadableImage("broken")
    return Classified(np.zeros(3, np.float32), INFO if isinstance(image, bytes) else None)


class Machine:
    """What a model runs on: its bundle, the processes that it has started, errors and delays."""

    def __init__(self, streams: int, folder: Path) -> None:
        self.streams = streams
        self.bundle = BundleRef("tiny", 1, folder / "tiny" / "1")
        self.bundle.path.mkdir(parents=True)
        self.write_bundle()
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

    def write_bundle(self, **changes: Any) -> None:
        (self.bundle.path / MANIFEST_FILE).write_text(json.dumps(record() | changes))

    def new_process(self, path: Path, settings: Settings, number: int) -> FakeProcess:  # noqa: ARG002
        self.processes.append(FakeProcess(self, path))
        return self.processes[-1]

    async def sleep(self, seconds: float) -> None:
        self.delays_s.append(seconds)
        await asyncio.sleep(0)

    @property
    def running(self) -> list[bool]:
        return [process.running for process in self.processes]

    @property
    def in_flight(self) -> list[int]:
        return [process.in_flight for process in self.processes]

    @property
    def batch_sizes(self) -> list[list[int]]:
        return [[len(batch) for batch in process.batches] for process in self.processes]


@asynccontextmanager
async def loading(
    machine: Machine, instances: int = 1
) -> AsyncIterator[tuple[ServedModel, asyncio.Task[None]]]:
    """A model in batches of 2 on each stream, and the task that loads and runs it."""
    settings = Settings(max_batch=2 * machine.streams, instances=instances)
    model = ServedModel(machine.bundle, settings, machine.new_process, machine.sleep)
    task = asyncio.create_task(model.run())
    yield model, task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def running(
    machine: Machine, instances: int = 1
) -> AsyncIterator[tuple[ServedModel, asyncio.Task[None]]]:
    """As `loading`, once every instance runs."""
    async with loading(machine, instances) as (model, task):
        await until(lambda: sum(machine.running) == instances)
        await settle()
        yield model, task


async def predict(
    model: ServedModel, image: bytes | Pixels = IMAGE, *, suspect: bool = False
) -> str:
    """Classify one image as a request does; returns the name of the error, if there is one."""
    with model.queue.admit(1):
        try:
            digest = model.target().manifest.digest
            await model.queue.submit(image, digest, suspect=suspect)
        except Exception as exc:  # noqa: BLE001 - the test judges it
            return type(exc).__name__
    return SUCCESS


async def send(
    model: ServedModel, *images: bytes | Pixels, suspect: bool = False
) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(predict(model, image, suspect=suspect)) for image in images]
    await settle()
    return tasks
