"""Decoding beside the event loop, in processes that can be killed.

A legal progressive JPEG of 433 KB can hold a decoder for 15 s, and a thread can't be stopped; a process can. Why the pool is
our own and not a library's: docs/decisions/0007-own-pool-of-decoders.md.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bundle.errors import UnreadableImage
from bundle.manifest import Input
from bundle.wire import WireClosed
from service.child import Bystander
from service.decoder_process import DecoderProcess, NotStarted, work_of
from service.decoding import Decoded
from service.errors import DecoderUnavailable, DecodeTimeout, Draining, QueueFull
from service.settings import Settings

TRIES = 2  # a process can have ended before the image reached it; one that ends twice ended on the image
WATCH_S = 0.5  # between two looks at a process without an image


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
        """Start the processes, so that the first request does not wait for them, and again when they end without an image."""
        await asyncio.gather(*(process.start() for process in self._processes), return_exceptions=True)
        for process in self._processes:
            self._keep(asyncio.create_task(self._watch(process)))

    async def decode(self, data: bytes, geometry: Input) -> Decoded:
        """The pixels of an image file.

        Raises:
            ImageError: it is no image that is accepted.
            DecodeTimeout: it takes too long.
            QueueFull: too many images wait for a decoder, or this one has waited too long.
            DecoderUnavailable: none can be started.
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

    async def _next_free(self, work: int, *, first: bool = False) -> DecoderProcess:
        """A process with a place for an image of so much work, which is taken; `first`: before all that wait."""
        if self._stopped:
            raise _stopped()
        process = None if self._waiting and not first else self._take_place(work)
        if process is not None:
            return process
        if not any(process.usable for process in self._processes):
            raise DecoderUnavailable(
                "No decoder can be started; the log says why. Send the image again a little later."
            )
        turn = Turn(work, asyncio.get_running_loop().create_future())
        if first:
            self._waiting.appendleft(turn)
        else:
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
        """A place where the least work is, of these where the last image came longest ago; if possible in a process that runs."""
        free = [process for process in self._processes if process.usable and process.has_room(work)]
        if not free:
            return None
        process = min(free, key=lambda process: (not process.running, process.work))
        self._processes.remove(process)
        self._processes.append(process)
        process.enter(work)
        return process

    def _give_back(self, process: DecoderProcess, work: int) -> None:
        """A place in the pipe of `process` is free; whoever waits has it."""
        process.leave(work)
        self._serve()

    def _serve(self) -> None:
        """Give those who wait the places that there are."""
        while self._waiting and not self._stopped:
            if self._waiting[0].place.done():  # its client has gone, and it is about to find out
                self._waiting.popleft()
            elif (free := self._take_place(self._waiting[0].work)) is not None:
                self._waiting.popleft().place.set_result(free)
            else:
                return

    async def stop(self) -> None:
        """End all processes at once, and what clients that have gone left in them, which would start others."""
        self._stopped = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.place.done():
                turn.place.set_exception(_stopped())
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(process.kill() for process in self._processes))
        await asyncio.gather(*tasks, return_exceptions=True)  # one that was starting a process ends it

    async def _decode(
        self, process: DecoderProcess | None, data: bytes, geometry: Input, work: int
    ) -> Decoded:
        """As `decode`, with a place in `process`, or in another if that ends."""
        tries = 0
        try:
            while tries < TRIES:
                process = process or await self._next_free(work, first=True)
                try:
                    await process.start()
                    return await process.decode(data, geometry, self._timeout_s)
                except (Bystander, NotStarted):
                    pass
                except WireClosed:
                    tries += 1
                process.leave(work)  # nobody else has the place before this image has another
                process = None
        except TimeoutError as exc:
            raise DecodeTimeout(
                f"The image takes more than {self._timeout_s:g} s to decode. Send a smaller one, or save it anew "
                f"as a baseline JPEG or PNG. Received: {len(data)} bytes"
            ) from exc
        finally:
            if process is not None:
                process.leave(work)
            self._serve()
        raise UnreadableImage(
            f"The decoder ended on this image, {TRIES} times. Save it anew as a baseline JPEG or PNG. "
            f"Received: {len(data)} bytes"
        )

    async def _watch(self, process: DecoderProcess) -> None:
        """Start it again when it ends without an image, before the next one would have to wait for that."""
        while True:
            await asyncio.sleep(WATCH_S)
            if process.images or process.running or not process.usable:
                continue
            with suppress(NotStarted):
                await process.start()
                self._serve()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task whose caller may leave, and look at its end, or asyncio logs its error as unseen."""
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


def _stopped() -> Draining:
    return Draining("The service is shutting down. Send the image to another one.")
