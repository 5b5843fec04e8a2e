"""A pool of killable decoder processes, driven by the event loop.

A legal progressive JPEG of 433 KB can keep a decoder busy for 15 s. A thread cannot be stopped; a
process can. Why the pool is not a library's: docs/decisions/0007-own-pool-of-decoders.md.
"""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import itertools
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bundle.errors import UnreadableImage
from bundle.format.manifest import Input
from bundle.imaging.decode import DecodedImage
from bundle.worker.client import FramedProcess, LostInQueue
from bundle.worker.wire import WireClosed
from service.decoding.worker import DecoderProcess, NotStarted, decode_cost, new_process
from service.errors import DecoderUnavailable, DecodeTimeout, Draining, QueueFull
from service.settings import Settings

# A process may have ended before the image reached it; a second one was ended by the image.
MAX_ATTEMPTS = 2
# Between two checks of a process, which can end without an image.
WATCH_S = 0.5
# Before another start after one that failed.
RESTART_DELAY_S = 2.0

log = logging.getLogger("service")


@dataclass(eq=False)
class Waiter:
    """An image queued for a decoder slot."""

    sequence: int
    cost: int
    slot: asyncio.Future[DecoderProcess]


class Decoder:
    """A pool of decoder processes with a deadline and a memory limit for each image.

    Args:
        settings: limits, timeouts and the number of processes.
        new_process: makes the process of a decoder.
        sleep: waits before a failed start is repeated.
    """

    def __init__(
        self,
        settings: Settings,
        new_process: Callable[[dict[str, Any]], FramedProcess] = new_process,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._timeout_s = settings.decode_timeout_s
        self._queue_timeout_s = settings.inference_timeout_s
        self._max_waiters = settings.queue_size
        self._sleep = sleep
        arguments = {
            "limits": dataclasses.asdict(settings.image_limits),
            "memory_bytes": settings.decode_memory_mb * 2**20,
        }
        count = settings.decode_workers or len(os.sched_getaffinity(0))
        self._processes = [DecoderProcess(arguments, new_process) for _ in range(count)]
        self._waiters: deque[Waiter] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sequence = itertools.count()
        self._stopped = False

    def start(self) -> None:
        """Start the processes and keep restarting those that end."""
        for process in self._processes:
            self._track(asyncio.create_task(self._watch(process)))

    async def decode(self, data: bytes, geometry: Input) -> DecodedImage:
        """Decode an image file to the model's input.

        Raises:
            ImageError: the file is not an acceptable image.
            DecodeTimeout: it takes too long.
            QueueFull: too many images are queued, or this one was queued for too long.
            DecoderUnavailable: no decoder can be started.
            Draining: the pool has been stopped.
        """
        if len(self._waiters) >= self._max_waiters:
            raise QueueFull(
                f"{len(self._waiters)} images wait to be decoded. "
                "Send this one again a little later."
            )
        sequence, cost = next(self._sequence), decode_cost(data)
        process = await self._acquire(sequence, cost)
        # Once dequeued, an image is decoded even if its client leaves; the deadline bounds that.
        decoding = asyncio.create_task(self._decode(process, data, geometry, sequence, cost))
        self._track(decoding)
        return await asyncio.shield(decoding)

    async def _acquire(self, sequence: int, cost: int) -> DecoderProcess:
        """Reserve a decoder slot for an image of this cost, first come, first served."""
        if self._stopped:
            raise _stopped()
        is_next = not self._waiters or sequence < self._waiters[0].sequence
        if is_next and (process := self._try_acquire(cost)) is not None:
            return process
        if self._all_failed:
            raise _unavailable()
        waiter = Waiter(sequence, cost, asyncio.get_running_loop().create_future())
        bisect.insort(self._waiters, waiter, key=lambda waiter: waiter.sequence)
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                return await waiter.slot
        except (TimeoutError, asyncio.CancelledError) as exc:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            # The slot was handed over in the same moment.
            elif not waiter.slot.cancelled() and waiter.slot.exception() is None:
                self._release(waiter.slot.result(), cost)
            if isinstance(exc, asyncio.CancelledError):
                raise
            raise QueueFull(
                f"No decoder was free within {self._queue_timeout_s:g} s. "
                "Send the image again a little later."
            ) from exc

    def _try_acquire(self, cost: int) -> DecoderProcess | None:
        """Reserve a slot in the least loaded running process, the least recently used if equal."""
        free = [
            process for process in self._processes if process.running and process.can_accept(cost)
        ]
        if not free:
            return None
        process = min(free, key=lambda process: process.cost)
        self._processes.remove(process)
        self._processes.append(process)
        process.acquire(cost)
        return process

    @property
    def _all_failed(self) -> bool:
        """No decoder is running and every last start failed."""
        return all(process.failed and not process.running for process in self._processes)

    def _release(self, process: DecoderProcess, cost: int) -> None:
        """Release the slot and hand it to the next waiter."""
        process.release(cost)
        self._hand_out_slots()

    def _hand_out_slots(self) -> None:
        """Hand the free slots to the waiters, in order."""
        while self._waiters and not self._stopped:
            # Its client has left, and its task has not run since.
            if self._waiters[0].slot.done():
                self._waiters.popleft()
            elif (process := self._try_acquire(self._waiters[0].cost)) is not None:
                self._waiters.popleft().slot.set_result(process)
            else:
                return

    def _fail_waiters(self, error: Exception) -> None:
        """Fail every waiter with `error`."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.slot.done():
                waiter.slot.set_exception(error)

    async def stop(self) -> None:
        """Kill all processes and cancel what is in flight."""
        self._stopped = True
        self._fail_waiters(_stopped())
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(process.kill() for process in self._processes))
        # A task that was starting a process kills it.
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _decode(
        self, process: DecoderProcess | None, data: bytes, geometry: Input, sequence: int, cost: int
    ) -> DecodedImage:
        """Decode in a slot of `process`; if that ends, retry in another."""
        attempts = 0
        try:
            while attempts < MAX_ATTEMPTS:
                process = process or await self._acquire(sequence, cost)
                try:
                    return await process.decode(data, geometry, self._timeout_s)
                except LostInQueue:
                    pass
                except WireClosed:
                    attempts += 1
                # Not handed out: the process has ended.
                process.release(cost)
                process = None
        except TimeoutError as exc:
            raise DecodeTimeout(
                f"The image takes more than {self._timeout_s:g} s to decode. Send a smaller one, "
                f"or save it again as a baseline JPEG or PNG. Received: {len(data)} bytes"
            ) from exc
        finally:
            if process is not None:
                self._release(process, cost)
        raise UnreadableImage(
            f"The decoder ended on this image, {MAX_ATTEMPTS} times. Save it again as a baseline "
            f"JPEG or PNG. Received: {len(data)} bytes"
        )

    async def _watch(self, process: DecoderProcess) -> None:
        """Start the process, and restart it whenever it has ended."""
        while True:
            try:
                await process.start()
            except NotStarted as exc:
                log.warning("a decoder cannot be started: %s", exc)
                if self._all_failed:
                    self._fail_waiters(_unavailable())
                await self._sleep(RESTART_DELAY_S)
            except Exception:
                log.exception("a decoder cannot be started")
                await self._sleep(RESTART_DELAY_S)
            else:
                self._hand_out_slots()
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_S):
                        await process.gone.wait()
                process.gone.clear()

    def _track(self, task: asyncio.Task[Any]) -> None:
        """Keep a task whose caller may leave, and retrieve its exception, or asyncio logs it."""
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
    return Draining("The service is shutting down. Send the image to another instance.")
