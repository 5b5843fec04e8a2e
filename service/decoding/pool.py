"""A pool of killable decoder processes, each of which pulls images from one queue.

Only images that can take long are decoded here (see `service.classifier.is_quick`): a legal
progressive JPEG of 433 KB can keep a decoder busy for 15 s. A thread cannot be stopped; a process
can. Why the pool is not a library's: docs/decisions/0007-own-pool-of-decoders.md.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.errors import ImageError, UnreadableImage
from bundle.format.manifest import Input
from bundle.imaging.decode import DecodedImage
from bundle.sandbox import IN_FORCE, Report
from bundle.worker.client import FramedProcess
from bundle.worker.process import Reason
from bundle.worker.wire import WireClosed, fail
from service.access.rounds import Rounds
from service.decoding.worker import DecoderProcess, NotStarted, new_process
from service.errors import DecoderUnavailable, DecodeTimeout, Draining, QueueFull
from service.settings import Settings

# A process may have been killed while it had the image, and another one with it, which shows a
# moment later; a third one was ended by the image.
MAX_ATTEMPTS = 3
# Between two checks of an idle process.
WATCH_S = 0.5
# Before another start after one that failed.
RESTART_DELAY_S = 2.0

log = logging.getLogger("service")


@dataclass(eq=False)
class QueuedFile:
    """An image file in the queue, and what a process does with it in so many seconds."""

    size: int  # in bytes
    work: Callable[[DecoderProcess, float], Awaitable[Any]]
    future: asyncio.Future[Any]
    attempts: int = 0


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
        self._sleep = sleep
        arguments = {
            "limits": dataclasses.asdict(settings.image_limits),
            "memory_bytes": settings.decode_memory_mb * 2**20,
            "confined": settings.confined,
        }
        count = settings.decode_workers or len(os.sched_getaffinity(0))
        self._processes = [DecoderProcess(arguments, new_process) for _ in range(count)]
        self._queue: deque[QueuedFile] | Rounds[QueuedFile]
        self._queue = Rounds() if settings.needs_keys else deque()
        self._arrived = asyncio.Event()
        # One for each process that was needed so far.
        self._tasks: list[asyncio.Task[None]] = []
        # Processes that wait for an image.
        self._idle = 0
        self._stopped = False
        # Processes that another one replaces, by the reason of their end.
        self.restarts: Counter[Reason] = Counter()
        self._reported = False

    def start(self) -> None:
        """Start the first process; the others are started when an image would wait."""
        self._start_another()

    def _announce(self) -> None:
        """Wake idle processes for a queued image, and start another process if none is left."""
        self._arrived.set()
        if len(self._queue) > self._idle:
            self._start_another()

    def _start_another(self) -> None:
        if len(self._tasks) < len(self._processes):
            self._tasks.append(asyncio.create_task(self._work(self._processes[len(self._tasks)])))

    async def decode(self, data: bytes, geometry: Input) -> DecodedImage:
        """Decode an image file to the model's input.

        Once a process has it, it is decoded even if its client leaves; the deadline bounds that.

        Raises:
            ImageError: the file is not an acceptable image.
            DecodeTimeout: it takes too long.
            QueueFull: it was queued for too long; the models' queues bound the number of images.
            DecoderUnavailable: no decoder can be started.
            Draining: the pool has been stopped.
        """
        found: DecodedImage = await self._run(
            len(data), lambda process, timeout_s: process.decode(data, geometry, timeout_s)
        )
        return found

    async def draw(self, data: bytes, geometry: Input, heatmap: npt.NDArray[np.float32]) -> bytes:
        """Draw a heat map over an image file, see `service.decoding.overlay`; raises as `decode`.

        Args:
            data: The image file.
            geometry: Of the model's input.
            heatmap: float32 [h, w] in [0, 1].

        Returns:
            A PNG file.
        """
        found: bytes = await self._run(
            len(data), lambda process, timeout_s: process.draw(data, geometry, heatmap, timeout_s)
        )
        return found

    async def _run(self, size: int, work: Callable[[DecoderProcess, float], Awaitable[Any]]) -> Any:
        """Queue a file of `size` bytes for a process; the result of `work` with it."""
        if self._stopped:
            raise _stopped()
        if self._all_failed:
            raise _unavailable()
        loop = asyncio.get_running_loop()
        item = QueuedFile(size, work, loop.create_future())
        self._queue.append(item)
        self._announce()
        timer = loop.call_later(self._queue_timeout_s, self._expire, item)
        try:
            return await item.future
        finally:
            timer.cancel()
            with suppress(ValueError):
                self._queue.remove(item)

    async def stop(self) -> None:
        """Kill all processes and fail what is queued."""
        self._stopped = True
        self._fail_queued(_stopped())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, process: DecoderProcess) -> None:
        """Keep a process running, and give it one image after another."""
        item: QueuedFile | None = None
        try:
            while True:
                await self._start(process)
                item = await self._next(process)
                if item is not None:
                    await self._decode(process, item)
                    item = None
        except Exception:
            log.exception("a decoder has ended by a defect")
            raise
        finally:
            if item is not None:
                fail(item.future, _stopped())
            await process.kill()

    async def _start(self, process: DecoderProcess) -> None:
        """Start the process unless it runs, until that succeeds."""
        while not process.running:
            try:
                if reason := await process.start():
                    self.restarts[reason] += 1
                    log.warning("a decoder has ended (%s); another one is started", reason)
                self._report(process.isolation)
            except NotStarted as exc:
                self.restarts["not_started"] += 1
                log.warning("a decoder cannot be started: %s", exc)
                self._start_another()
                if self._all_failed:
                    self._fail_queued(_unavailable())
                await self._sleep(RESTART_DELAY_S)
            except Exception:
                log.exception("a decoder cannot be started")
                self._start_another()
                await self._sleep(RESTART_DELAY_S)

    def _report(self, isolation: Report) -> None:
        """Say once how the processes of this machine are confined: all are alike."""
        if self._reported:
            return
        self._reported = True
        missing = [f"{what} is {how}" for what, how in isolation.items() if how != IN_FORCE]
        if not isolation:
            log.warning("models and decoders are not confined: SERVICE_SANDBOX is off")
        elif missing:
            log.warning("models and decoders are confined in part: %s", "; ".join(missing))
        else:
            log.info("models and decoders are confined: %s", ", ".join(isolation))

    async def _next(self, process: DecoderProcess) -> QueuedFile | None:
        """The next image; None after a while without one, and if the process has ended."""
        self._idle += 1
        try:
            async with asyncio.timeout(WATCH_S):
                while process.running:
                    if not self._queue:
                        self._arrived.clear()
                        await self._arrived.wait()
                    # Its client may have left, and its task has not run since.
                    elif not (item := self._queue.popleft()).future.done():
                        return item
        except TimeoutError:
            pass
        finally:
            self._idle -= 1
        return None

    async def _decode(self, process: DecoderProcess, item: QueuedFile) -> None:
        """Decode an image; if the process ends, queue it again, up to `MAX_ATTEMPTS`."""
        item.attempts += 1
        try:
            found = await item.work(process, self._timeout_s)
        except ImageError as exc:
            fail(item.future, exc)
        except TimeoutError:
            fail(
                item.future,
                DecodeTimeout(
                    f"The image takes more than {self._timeout_s:g} s to decode. Send a smaller "
                    "one, or save it again as a baseline JPEG or PNG. "
                    f"Received: {item.size} bytes"
                ),
            )
        except WireClosed:
            if item.attempts < MAX_ATTEMPTS:
                if not item.future.done():
                    self._queue.appendleft(item)
                    self._announce()
                return
            fail(
                item.future,
                UnreadableImage(
                    f"The decoder ended on this image, {MAX_ATTEMPTS} times. Save it again as a "
                    f"baseline JPEG or PNG. Received: {item.size} bytes"
                ),
            )
        else:
            if not item.future.done():
                item.future.set_result(found)

    @property
    def _all_failed(self) -> bool:
        """No decoder is running and every last start failed."""
        begun = self._processes[: len(self._tasks)]
        return all(process.failed and not process.running for process in begun)

    def _expire(self, item: QueuedFile) -> None:
        """Fail an image that no process has taken."""
        if item in self._queue:
            fail(
                item.future,
                QueueFull(
                    f"No decoder was free within {self._queue_timeout_s:g} s. "
                    "Send the image again a little later."
                ),
            )

    def _fail_queued(self, error: Exception) -> None:
        while self._queue:
            fail(self._queue.popleft().future, error)


def _unavailable() -> DecoderUnavailable:
    return DecoderUnavailable(
        "No decoder can be started; the log says why. Send the image again a little later."
    )


def _stopped() -> Draining:
    return Draining("The service is shutting down. Send the image to another instance.")
