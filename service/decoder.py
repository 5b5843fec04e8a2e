"""Decoding beside the event loop, in processes that can be killed.

A legal progressive JPEG of 433 KB can hold a decoder for 15 s, and a thread can't be stopped; a process can. Why the pool is
our own and not a library's: docs/decisions/0007-own-pool-of-decoders.md.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from bundle.errors import IMAGE_ERRORS, UnreadableImage
from bundle.headers import quick_pixels
from bundle.manifest import Input
from bundle.wire import WireClosed
from service.child import Bystander, FramedProcess
from service.decoding import Decoded
from service.errors import DecodeTimeout, QueueFull
from service.schemas import ImageRead
from service.settings import Settings

START_S = 60.0
MOST_BYTES = 256 * 2**20  # that a decoder may answer with
IN_PIPE = 2  # images sent to one process: the one that it decodes, and the next, for which it need not wait
# Small ones are done before the web process comes round with the next: more of them, up to so much work together. With the
# shipped ResNet-20 and 32 connections decoders lacked work a quarter of their time with 2, and an eighth more is answered with 8.
SMALL_IN_PIPE, SMALL_WORK = 8, 256 * 2**10
PIXELS_AS_A_BYTE = 4  # a file of few bytes can have many pixels, and the work is in both
TRIES = 2  # a process can have ended before the image reached it; one that ends twice ended on the image
WATCH_S = 0.5  # between two looks at processes without an image
NO_START_S = 10.0  # until another try when one could not be started
TEXT = TypeAdapter(str)

log = logging.getLogger("service")


@dataclass(eq=False)
class Turn:
    """An image that waits for a place in the pipe of a decoder."""

    work: int
    place: asyncio.Future[DecoderProcess]


class Decoder:
    """A pool of decoder processes with a deadline and a memory limit for each image."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.decode_timeout_s
        self._patience_s = settings.inference_timeout_s
        self._most_waiting = settings.queue_size
        arguments = {
            "limits": dataclasses.asdict(settings.image_limits),
            "memory_bytes": settings.decode_memory_mb * 2**20,
        }
        count = settings.decode_workers or len(os.sched_getaffinity(0))
        self._processes = [DecoderProcess(arguments) for _ in range(count)]
        self._waiting: deque[Turn] = deque()  # first come, first served
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False

    async def start(self) -> None:
        """Start the processes, so that the first request does not wait for them."""
        await asyncio.gather(*(process.start() for process in self._processes), return_exceptions=True)
        self._keep(asyncio.create_task(self._watch()))

    async def decode(self, data: bytes, geometry: Input) -> Decoded:
        """The pixels of an image file.

        Raises:
            ImageError: it is no image that is accepted.
            DecodeTimeout: it takes too long.
            QueueFull: too many images wait for a decoder, or this one has waited too long.
        """
        if len(self._waiting) >= self._most_waiting:
            raise QueueFull(
                f"{len(self._waiting)} images wait to be decoded. Send this one again a little later."
            )
        work = work_of(data)
        process = await self._next_free(work)
        # An image that has left the queue is decoded even if its client goes; that takes `timeout_s` at most.
        working = asyncio.create_task(self._decode(process, data, geometry, work))
        self._keep(working)
        return await asyncio.shield(working)

    async def _next_free(self, work: int) -> DecoderProcess:
        """A process with a place for an image of so much work, which is taken."""
        process = None if self._waiting else self._take_place(work)
        if process is not None:
            return process
        turn = Turn(work, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._patience_s):
                return await turn.place
        except (TimeoutError, asyncio.CancelledError) as exc:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.place.cancelled():  # it came in the same moment
                self._give_back(turn.place.result(), work)
            if isinstance(exc, asyncio.CancelledError):
                raise
            raise QueueFull(
                f"No decoder was free within {self._patience_s:g} s. Send the image again a little later."
            ) from exc

    def _take_place(self, work: int) -> DecoderProcess | None:
        """A place for an image of so much work where the least is, of these where the last one came longest ago."""
        free = [process for process in self._processes if process.has_room(work)]
        if not free:
            return None
        process = min(free, key=lambda process: process.work)
        self._processes.remove(process)
        self._processes.append(process)
        process.images += 1
        process.work += work
        return process

    def _give_back(self, process: DecoderProcess, work: int) -> None:
        """A place in the pipe of `process` is free; whoever waits has it."""
        process.images -= 1
        process.work -= work
        while self._waiting:
            if self._waiting[0].place.done():  # its client has gone, and it is about to find out
                self._waiting.popleft()
            elif (free := self._take_place(self._waiting[0].work)) is not None:
                self._waiting.popleft().place.set_result(free)
            else:
                return

    async def stop(self) -> None:
        """End all processes at once, and what clients that have gone left in them, which would start others."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(process.kill() for process in self._processes))
        await asyncio.gather(*tasks, return_exceptions=True)  # one that was starting a process ends it

    async def _decode(self, process: DecoderProcess, data: bytes, geometry: Input, work: int) -> Decoded:
        tries = 0
        try:
            while tries < TRIES:
                await self._start(process)
                try:
                    return await process.decode(data, geometry, self._timeout_s)
                except WireClosed as exc:
                    tries += not isinstance(exc, Bystander)
        except TimeoutError as exc:
            raise DecodeTimeout(
                f"The image takes more than {self._timeout_s:g} s to decode. Send a smaller one, or save it anew "
                f"as a baseline JPEG or PNG. Received: {len(data)} bytes"
            ) from exc
        finally:
            if process.running or self._stopped:
                self._give_back(process, work)
            else:
                self._keep(asyncio.create_task(self._revive(process, work)))
        raise UnreadableImage(
            f"The decoder ended on this image, {TRIES} times. Save it anew as a baseline JPEG or PNG. "
            f"Received: {len(data)} bytes"
        )

    @staticmethod
    async def _start(process: DecoderProcess) -> None:
        """Start a process that may be killed while it starts; raises :class:`QueueFull` if it is every time."""
        for _ in range(TRIES - 1):
            with suppress(QueueFull):
                return await process.start()
        return await process.start()

    async def _revive(self, process: DecoderProcess, work: int) -> None:
        """The next image need not wait for the start; if it fails now, that image tries again."""
        try:
            await process.start()
        except QueueFull as exc:
            log.warning("%s", exc)
        finally:
            self._give_back(process, work)

    async def _watch(self) -> None:
        """Start those again that end without an image, before the next one would have to wait for that."""
        while True:
            await asyncio.sleep(WATCH_S)
            for process in [each for each in self._processes if not each.images and not each.running]:
                try:
                    await process.start()
                except QueueFull as exc:
                    log.warning("%s", exc)
                    await asyncio.sleep(NO_START_S)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task whose caller may leave, and look at its end, or asyncio logs its error as unseen."""
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


def work_of(data: bytes) -> int:
    """How much work an image file is to decode, as bytes of a usual one; nothing that is small where that can't be told."""
    pixels = quick_pixels(data)
    return max(len(data), SMALL_WORK if pixels is None else pixels // PIXELS_AS_A_BYTE)


class DecoderProcess:
    """One decoder, started again after its end; it takes one image after another."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._process: FramedProcess | None = None
        self._starting = asyncio.Lock()
        self.images = self.work = 0  # that have a place in its pipe

    def has_room(self, work: int) -> bool:
        """Whether an image of so much work may go into its pipe."""
        small = self.images < SMALL_IN_PIPE and self.work + work <= SMALL_WORK
        return small or self.images < IN_PIPE

    @property
    def running(self) -> bool:
        """Whether there is a process, and it has not ended."""
        return self._process is not None and self._process.running

    async def start(self) -> None:
        """Start the process unless it runs.

        Raises:
            QueueFull: none can be started; the text says why.
        """
        if self.running and not self._starting.locked():
            return
        async with self._starting:
            if self.running:
                return
            await self.kill()
            self._process = FramedProcess("service.decoding", self._arguments, "cpu", 1, MOST_BYTES)
            try:
                await self._process.start(START_S)
            except WireClosed as exc:
                raise QueueFull(
                    f"No decoder can be started. Send the image again a little later. {exc}"
                ) from exc

    async def decode(self, data: bytes, geometry: Input, timeout_s: float) -> Decoded:
        """As :meth:`Decoder.decode`. The time counts from the end of the image before.

        Raises:
            WireClosed: the process has ended on this image; :class:`Bystander`: on another.
            TimeoutError: it took longer, and the process is killed.
        """
        process = self._process
        if process is None:
            raise Bystander("the process has ended")
        content = np.frombuffer(data, np.uint8)
        try:
            found, arrays = await process.ask({"geometry": _as_json(geometry)}, [content], timeout_s)
            if "error" in found:
                raise IMAGE_ERRORS[found["error"]](TEXT.validate_python(found["detail"]))
            (pixels,) = arrays
            if pixels.dtype != np.uint8 or pixels.shape != (geometry.height, geometry.width, 3):
                raise WireClosed(
                    f"the decoder sent something else than pixels: {pixels.dtype} {pixels.shape}"
                )
            ImageRead.model_validate(found["image"], strict=True)
            return Decoded(pixels, **found["image"])
        except (TimeoutError, WireClosed):
            await process.kill()
            raise
        except (KeyError, TypeError, ValueError) as exc:
            await process.kill()
            raise WireClosed(f"the decoder sent something else than an answer: {exc!r}") from exc

    async def kill(self) -> None:
        """End the process at once, if there is one."""
        if self._process is not None:
            await self._process.kill()


@functools.lru_cache(maxsize=256)
def _as_json(geometry: Input) -> str:
    """The geometry of a model; the same few come again and again."""
    return geometry.model_dump_json()
