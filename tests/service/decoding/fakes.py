"""Fake decoder processes, and a pool over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from bundle.format.manifest import Input
from bundle.imaging.decode import DecodedImage, ImageInfo
from bundle.worker.client import FramedProcess
from bundle.worker.process import Reason
from bundle.worker.wire import Array, Frame, WireClosed
from service.decoding.pool import Decoder
from service.settings import Settings
from tests.bundles import input_record
from tests.service.tasks import settle

GEOMETRY = Input.model_validate(input_record(2))
PIXELS = np.zeros((2, 2, 3), np.uint8)
# Image files; a fake process does not read them.
FILES = [f"file {number}".encode() for number in range(6)]
FILE = FILES[0]
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
        self.files: list[bytes] = []
        self.reason: Reason | None = "killed"
        self._machine = machine
        self._ready = False
        self._pending: asyncio.Future[Frame] | None = None

    @property
    def running(self) -> bool:
        return self._ready

    @property
    def decoding(self) -> bool:
        return self._pending is not None

    async def start(self, timeout_s: float) -> dict[str, Any]:  # noqa: ARG002
        await self._machine.may_start.wait()
        if self._machine.failures:
            raise self._machine.failures.pop(0)
        self._ready = True
        return {"isolation": self._machine.isolation}

    async def ask(
        self,
        header: dict[str, Any],  # noqa: ARG002
        arrays: Sequence[Array | Sequence[Array]],
        timeout_s: float,  # noqa: ARG002
    ) -> Frame:
        if not self._ready:
            raise WireClosed("ended")
        assert not self.decoding, "it has one image at a time"
        self.files.append(np.asarray(arrays[0]).tobytes())
        pending: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._pending = pending
        if self._machine.response is not None:
            self.respond(self._machine.response)
        return await pending

    def respond(self, response: Frame) -> None:
        """Send the frame of the image that is being decoded."""
        assert self._pending is not None
        self._pending.set_result(response)
        self._pending = None

    def end(self) -> None:
        """End, on the image that is being decoded if there is one."""
        self._ready = False
        if self._pending is not None and not self._pending.done():
            self._pending.set_exception(WireClosed("ended"))
        self._pending = None

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
        # What the processes say of their sandbox.
        self.isolation: dict[str, str] = {}
        # Sent for every image at once, unless it is None.
        self.response: Frame | None = None
        self.delay_over = asyncio.Event()

    def new_process(self, arguments: dict[str, Any]) -> FakeProcess:  # noqa: ARG002
        self.processes.append(FakeProcess(self))
        return self.processes[-1]

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002
        await self.delay_over.wait()

    @property
    def files(self) -> list[list[bytes]]:
        """What each process has been given."""
        return [process.files for process in self.processes]

    @property
    def running(self) -> list[bool]:
        return [process.running for process in self.processes]

    def respond_to_all(self) -> None:
        """Send the frames of all images, and of all that come later at once."""
        self.response = RESPONSE
        for process in self.processes:
            if process.decoding:
                process.respond(RESPONSE)


@asynccontextmanager
async def started(machine: Machine, workers: int = 1, **settings: Any) -> AsyncIterator[Decoder]:
    pool = Decoder(Settings(decode_workers=workers, **settings), machine.new_process, machine.sleep)
    pool.start()
    await settle()
    yield pool
    await pool.stop()


async def send(pool: Decoder, *files: bytes) -> list[asyncio.Task[DecodedImage]]:
    tasks = [asyncio.create_task(pool.decode(file, GEOMETRY)) for file in files]
    await settle()
    return tasks


async def start_others(machine: Machine, pool: Decoder, workers: int) -> None:
    """Start the decoders after the first: an image for each at once, which are then forgotten."""
    decoding = await send(pool, *FILES[:workers])
    for process in machine.processes:
        process.respond(RESPONSE)
    await asyncio.gather(*decoding)
    for process in machine.processes:
        process.files.clear()
