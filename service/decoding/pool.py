"""Decoding beside the event loop, in processes that can be killed.

A legal progressive JPEG of 433 KB can hold a decoder for 15 s, and a thread can't be stopped; a process can. Why the pool is
our own and not a library's: docs/decisions/0007-own-pool-of-decoders.md.
"""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import itertools
import logging
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bundle.errors import UnreadableImage
from bundle.format.manifest import Input
from bundle.imaging.decode import DecodedImage
from bundle.worker.client import LostInQueue
from bundle.worker.wire import WireClosed
from service.decoding.worker import DecoderProcess, NotStarted, decode_cost
from service.errors import DecoderUnavailable, DecodeTimeout, Draining, QueueFull
from service.settings import Settings

TRIES = 2  # a process can have ended before the image reached it; one that ends twice ended on the image
WATCH_S = 0.5  # between two looks at a process, which can end without an image
NO_START_S = 2.0  # until one that can't be started is tried again

log = logging.getLogger("service")


@dataclass(eq=False)
class Turn:
    """An image that waits for a place in the pipe of a decoder."""

    number: int  # of its arrival
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
        self._arrivals = itertools.count()
        self._stopped = False

    def start(self) -> None:
        """Start the processes, and from now on each again when it has ended."""
        for process in self._processes:
            self._keep(asyncio.create_task(self._watch(process)))

    async def decode(self, data: bytes, geometry: Input) -> DecodedImage:
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
        number, work = next(self._arrivals), decode_cost(data)
        process = await self._next_free(number, work)
        # An image that has left the queue is decoded even if its client goes; that takes `timeout_s` at most.
        working = asyncio.create_task(self._decode(process, data, geometry, number, work))
        self._keep(working)
        return await asyncio.shield(working)

    async def _next_free(self, number: int, work: int) -> DecoderProcess:
        """A process with a place for an image of so much work, which is taken once all that came before have theirs."""
        if self._stopped:
            raise _stopped()
        is_next = not self._waiting or number < self._waiting[0].number
        if is_next and (process := self._take_place(work)) is not None:
            return process
        if self._all_failed:
            raise _unavailable()
        turn = Turn(number, work, asyncio.get_running_loop().create_future())
        bisect.insort(self._waiting, turn, key=lambda turn: turn.number)
        try:
            async with asyncio.timeout(self._patience_s):
                return await turn.place
        except (TimeoutError, asyncio.CancelledError) as exc:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif (
                not turn.place.cancelled() and turn.place.exception() is None
            ):  # it came in the same moment
                self._give_back(turn.place.result(), work)
            if isinstance(exc, asyncio.CancelledError):
                raise
            raise QueueFull(
                f"No decoder was free within {self._patience_s:g} s. Send the image again a little later."
            ) from exc

    def _take_place(self, work: int) -> DecoderProcess | None:
        """A place in a process that runs, where the least work is, of these where the last image came longest ago."""
        free = [
            process for process in self._processes if process.running and process.has_room(work)
        ]
        if not free:
            return None
        process = min(free, key=lambda process: process.work)
        self._processes.remove(process)
        self._processes.append(process)
        process.enter(work)
        return process

    @property
    def _all_failed(self) -> bool:
        """Whether no process runs, and none could be started the last time."""
        return all(process.failed and not process.running for process in self._processes)

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

    def _turn_away(self, error: Exception) -> None:
        """Answer those who wait with `error`."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.place.done():
                turn.place.set_exception(error)

    async def stop(self) -> None:
        """End all processes at once, and what clients that have gone left in them."""
        self._stopped = True
        self._turn_away(_stopped())
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(process.kill() for process in self._processes))
        await asyncio.gather(
            *tasks, return_exceptions=True
        )  # one that was starting a process ends it

    async def _decode(
        self, process: DecoderProcess | None, data: bytes, geometry: Input, number: int, work: int
    ) -> DecodedImage:
        """As `decode`, with a place in `process`, or in another if that ends."""
        tries = 0
        try:
            while tries < TRIES:
                process = process or await self._next_free(number, work)
                try:
                    return await process.decode(data, geometry, self._timeout_s)
                except LostInQueue:
                    pass
                except WireClosed:
                    tries += 1
                process.leave(work)  # which nobody can have: the process has ended
                process = None
        except TimeoutError as exc:
            raise DecodeTimeout(
                f"The image takes more than {self._timeout_s:g} s to decode. Send a smaller one, or save it anew "
                f"as a baseline JPEG or PNG. Received: {len(data)} bytes"
            ) from exc
        finally:
            if process is not None:
                self._give_back(process, work)
        raise UnreadableImage(
            f"The decoder ended on this image, {TRIES} times. Save it anew as a baseline JPEG or PNG. "
            f"Received: {len(data)} bytes"
        )

    async def _watch(self, process: DecoderProcess) -> None:
        """Start it, and again when it has ended."""
        while True:
            try:
                await process.start()
            except NotStarted as exc:
                log.warning("a decoder can't be started: %s", exc)
                if self._all_failed:
                    self._turn_away(_unavailable())
                await asyncio.sleep(NO_START_S)
            except Exception:
                log.exception("a decoder can't be started")
                await asyncio.sleep(NO_START_S)
            else:
                self._serve()
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_S):
                        await process.gone.wait()
                process.gone.clear()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task whose caller may leave, and look at its end, or asyncio logs its error as unseen."""
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


def _unavailable() -> DecoderUnavailable:
    return DecoderUnavailable(
        "No decoder can be started; the log says why. Send the image again a little later."
    )


def _stopped() -> Draining:
    return Draining("The service is shutting down. Send the image to another one.")
