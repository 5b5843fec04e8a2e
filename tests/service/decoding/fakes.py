"""Fake decoder processes, and a pool over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from bundle.format.manifest import Input
from bundle.imaging.decode import DecodedImage, ImageInfo
from bundle.worker.client import FramedProcess, LostInQueue
from bundle.worker.wire import Array, Frame, WireClosed
from service.decoding.pool import Decoder
from service.decoding.worker import PREFETCH_COST
from service.settings import Settings
from tests.bundles import input_record
from tests.service.images import coloured
from tests.service.tasks import settle

GEOMETRY = Input.model_validate(input_record(2))
PIXELS = np.zeros((2, 2, 3), np.uint8)
SMALL = coloured(size=(8, 8))
# Two of these fill the socket of a process.
HALF = [(SMALL + bytes([n]) * PREFETCH_COST)[: PREFETCH_COST // 2] for n in range(4)]
IMAGE: dict[str, Any] = {
    "format": "PNG",
    "width": 2,
    "height": 2,
    "mode": "RGB",
    "operations": [],
}
DECODED = DecodedImage(PIXELS, ImageInfo(**IMAGE))
RESPONSE: Frame = ({"image": IMAGE}, [PIXELS])


class FakeProcess(FramedProcess):
    """A process that sends a frame when its machine or the test says so."""

    def __init__(self, machine: Machine) -> None:
        self.images: list[bytes] = []
        self._machine = machine
        self._ready = False
        self._pending: list[asyncio.Future[Frame]] = []

    @property
    def running(self) -> bool:
        return self._ready

    @property
    def in_flight(self) -> int:
        return len(self._pending)

    async def start(self, timeout_s: float) -> dict[str, Any]:  # noqa: ARG002
        await self._machine.may_start.wait()
        if self._machine.failures:
            raise self._machine.failures.pop(0)
        self._ready = True
        return {}

    async def ask(
        self,
        header: dict[str, Any],  # noqa: ARG002
        arrays: Sequence[Array | Sequence[Array]],
        timeout_s: float,  # noqa: ARG002
    ) -> Frame:
        if not self._ready:
            raise WireClosed("ended")
        self.images.append(np.asarray(arrays[0]).tobytes())
        frame: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._pending.append(frame)
        if self._machine.response is not None:
            self.respond(self._machine.response)
        return await frame

    def respond(self, response: Frame) -> None:
        """Send the frame of the image that has been here longest."""
        self._pending.pop(0).set_result(response)

    def end(self) -> None:
        """End on the first image, if there is one."""
        self._ready = False
        error: type[WireClosed] = WireClosed
        for frame in self._pending:
            if not frame.done():
                frame.set_exception(error("ended"))
            error = LostInQueue
        self._pending.clear()

    async def kill(self, grace_s: float = 0) -> str:  # noqa: ARG002
        self.end()
        return ""


class Machine:
    """What a pool runs on: the processes that it has started, and its delays."""

    def __init__(self) -> None:
        self.processes: list[FakeProcess] = []
        self.may_start = asyncio.Event()
        self.may_start.set()
        # Errors of the next starts.
        self.failures: list[Exception] = []
        # Sent for every image at once, unless it is None.
        self.response: Frame | None = None
        self.delay_over = asyncio.Event()

    def new_process(self, arguments: dict[str, Any]) -> FakeProcess:  # noqa: ARG002
        self.processes.append(FakeProcess(self))
        return self.processes[-1]

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002
        await self.delay_over.wait()

    @property
    def images(self) -> list[bytes]:
        return [image for process in self.processes for image in process.images]

    @property
    def running(self) -> list[bool]:
        return [process.running for process in self.processes]

    @property
    def in_flight(self) -> list[int]:
        return sorted(process.in_flight for process in self.processes if process.running)

    def respond_to_all(self) -> None:
        """Send the frames of all images, and of all that come later at once."""
        self.response = RESPONSE
        for process in self.processes:
            while process.in_flight:
                process.respond(RESPONSE)


@asynccontextmanager
async def started(machine: Machine, workers: int = 1) -> AsyncIterator[Decoder]:
    pool = Decoder(Settings(decode_workers=workers), machine.new_process, machine.sleep)
    pool.start()
    await settle()
    yield pool
    await pool.stop()


async def send(pool: Decoder, *images: bytes) -> list[asyncio.Task[DecodedImage]]:
    tasks = [asyncio.create_task(pool.decode(image, GEOMETRY)) for image in images]
    await settle()
    return tasks
