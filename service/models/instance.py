"""One instance of a model: a process that pulls batches, and is replaced when it ends."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from bundle.errors import RuntimeUnavailable, WorkerDied
from bundle.worker.client import GRACE_S
from bundle.worker.process import Reason
from bundle.worker.wire import fail
from service.errors import InternalError, ModelUnavailable
from service.models.batcher import Queue, hand_out
from service.models.process import RunningModel
from service.models.queued import ProcessLost, QueuedImage

# Between two checks of an idle process.
WATCH_S = 0.5
# Before each start in a row; the last one repeats.
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
# Of the time limit of an image for its batch, so that time is left to find out which image hangs.
SHARE = 0.5
# The restart delays begin again after a process that has lived this long.
STEADY_S = 30.0

log = logging.getLogger("service")


class Instance:
    """Runs the batches of a queue in one process at a time.

    Args:
        name: of the model, for the log.
        queue: its images.
        start: starts a process; None: the model is refused. It raises `WorkerDied`.
        sleep: waits before a start is repeated.
        restarts: counts the processes that another one replaces, by the reason of their end.
    """

    def __init__(
        self,
        name: str,
        queue: Queue,
        start: Callable[[], Awaitable[RunningModel | None]],
        sleep: Callable[[float], Awaitable[object]],
        restarts: Counter[Reason],
    ) -> None:
        self._name = name
        self._queue = queue
        self._start = start
        self._sleep = sleep
        self._restarts = restarts
        self.process: RunningModel | None = None
        # Of the process, once there is one.
        self._streams, self._digest = 1, ""
        self._refused = False
        # What the first batch that failed with the process says of its end.
        self._why = ""
        self._deaths = 0
        self._started_at = 0.0
        self._batches: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> bool:
        """Whether it takes batches."""
        return self.process is not None and self.process.running

    async def start(self) -> None:
        """Start a process.

        Raises:
            WorkerDied: it can't be started now.
        """
        process = await self._start()
        if process is None:
            self._refused = True
        else:
            self.process, self._started_at = process, time.monotonic()
            self._streams, self._digest = process.info["streams"], process.info["digest"]

    async def run(self) -> None:
        """Serve until cancelled, or until the model is refused."""
        try:
            while not self._refused:
                # One batch more than streams, which is decoded ahead.
                while len(self._batches) > self._streams:
                    await asyncio.wait(self._batches, return_when=asyncio.FIRST_COMPLETED)
                ahead = len(self._batches) == self._streams
                batch = await self._queue.next_batch(WATCH_S, ahead=ahead)
                suspect = any(item.suspect for item in batch)
                alive = self.alive
                if not alive and batch:  # another instance may take it
                    self._queue.give_back(batch)
                    batch = []
                if self._batches and (suspect or not alive):
                    # Of two batches in a process that ends, neither can be blamed.
                    await asyncio.wait(self._batches)
                    alive = self.alive
                if not alive:
                    if batch:  # the process ended in between
                        self._queue.give_back(batch)
                    await self._replace()
                elif batch:
                    task = asyncio.create_task(self._run_batch(batch))
                    self._batches.add(task)
                    task.add_done_callback(functools.partial(self._done, batch))
                    if suspect:
                        await asyncio.wait([task])
        finally:
            for task in self._batches:
                task.cancel()
            if self.process is not None:
                await self.process.kill()

    async def _replace(self) -> None:
        """Start another process if this one has ended, after a delay that grows in a row."""
        if self.process is not None:
            ending = await self.process.kill(GRACE_S)
            reason = self.process.reason or "not_started"
            self._restarts[reason] += 1
            log.warning(
                "model %s: its process has ended (%s); starting another. %s",
                *(self._name, reason, self._why or ending),
            )
            self._why = ""
        if time.monotonic() - self._started_at > STEADY_S:
            self._deaths = 0
        while True:
            await self._sleep(RESTART_DELAYS_S[min(self._deaths, len(RESTART_DELAYS_S) - 1)])
            self._deaths += 1
            try:
                await self.start()
            except WorkerDied as exc:
                self._restarts["not_started"] += 1
                log.warning("model %s: %s", self._name, exc)
            else:
                return

    async def _run_batch(self, batch: list[QueuedImage]) -> None:
        """Run one batch. If its process ends, its files are returned and its pixels run again."""
        try:
            await self._infer(batch)
        except WorkerDied as exc:
            self._why = self._why or str(exc)
            for item in reversed(batch):
                if item.future.done():
                    continue
                if item.suspect:
                    text = "The process of the model ended twice on this image. Send another image."
                    fail(item.future, ModelUnavailable(text))
                elif isinstance(item.image, bytes):
                    fail(item.future, ProcessLost())
                else:
                    item.suspect = True
                    self._queue.put_back(item)

    async def _infer(self, batch: list[QueuedImage]) -> None:
        """Run `batch` and set the results; if it raises `WorkerDied`, some images may have none."""
        process = self.process
        assert process is not None  # noqa: S101 - it exists from the first start on
        # Those for another bundle may have another size and other labels.
        for item in batch:
            if item.bundle != self._digest:
                text = f"The bundle of the model {self._name} was replaced while the image waited."
                fail(item.future, ModelUnavailable(f"{text} Send it again."))
        batch = [item for item in batch if not item.future.done()]
        if not batch:
            return
        try:
            found = await process.classify(
                [item.image for item in batch],
                SHARE * self._queue.timeout_s,
                extras={i: item.extras for i, item in enumerate(batch) if item.extras},
                exclusive=not self._queue.is_concurrent,
            )
        except RuntimeUnavailable as exc:
            # The process is still up. One image can be the cause, so each runs alone.
            if len(batch) == 1:
                fail(batch[0].future, exc)
                return
            for item in batch:
                await self._infer([item])
        else:
            hand_out(batch, found, time.perf_counter())

    def _done(self, batch: list[QueuedImage], task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._queue.finished(batch)
        if not task.cancelled() and task.exception() is not None:
            for item in batch:
                fail(
                    item.future,
                    InternalError("The service failed on this image. Its log says why."),
                )
            log.error("model %s: a batch failed", self._name, exc_info=task.exception())
