"""Dynamic batching: every queued image joins the next forward pass; a lone image is never delayed.

Instances pull batches, one for each stream and one more, which is decoded ahead. The queue counts
images that are still in a decoder. While more are decoding than queued, dispatch is delayed by at
most `GATHER_S`: a pass of a few images costs nearly as much as one of many. `model.py` sets the
maximum batch size: the bundle's measured best, up to `SERVICE_MAX_BATCH`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from bundle.errors import ImageError
from bundle.worker.model_process import Pixels
from bundle.worker.responses import ClassifiedBatch, Extras
from bundle.worker.wire import fail
from service.access.rounds import Rounds
from service.errors import ModelUnavailable
from service.models.overload import deadline_unreachable, queue_full
from service.models.pace import Pace
from service.models.queued import Classification, QueuedImage

# Longest delay of an image for others that are being decoded, while a stream is free.
GATHER_S = 0.01


class Queue:
    """The bounded queue of one model, used on the event loop only, hence without locks.

    Args:
        size: images that may wait.
        max_batch: images of one batch; the model lowers it to what it was measured to be best with.
        timeout_s: bound of the time from the submission of an image to its result.
        gather_s: longest delay of an image for others that are being decoded.
        pace: how fast it moves.
    """

    def __init__(
        self,
        size: int,
        max_batch: int,
        timeout_s: float,
        gather_s: float = GATHER_S,
        pace: Pace | None = None,
    ) -> None:
        self._size = size
        self.max_batch = max_batch
        # Batches that the instances run at once; known when they are loaded.
        self.streams = 1
        self.timeout_s = timeout_s
        self._gather_s = gather_s
        self.pace = pace or Pace()
        self._closed: Exception | None = None
        self._admitted = 0
        # Places of requests that are displaced and have not noticed yet (`FairQueue`).
        self._leaving = 0
        self._items: deque[QueuedImage] | Rounds[QueuedImage] = deque()
        # In the order of their dispatch.
        self._in_flight: list[list[QueuedImage]] = []
        # Callers of `next_batch` that have a free stream.
        self._idle = 0
        self._changed = asyncio.Event()
        # Number of batches by their size.
        self.batch_sizes: Counter[int] = Counter()

    def __len__(self) -> int:
        """Images that wait: those being decoded, queued, or prefetched by the model's process."""
        running = _present(self._in_flight[: self.streams])
        return max(0, self._admitted - running - self._leaving)

    @property
    def is_used(self) -> bool:
        """An image is admitted."""
        return self._admitted > 0

    @property
    def is_concurrent(self) -> bool:
        """More than one image is admitted."""
        return self._admitted > 1

    def check_room(self, count: int = 1, timeout_s: float | None = None) -> None:
        """Check that `count` images may be admitted, without admitting them.

        Args:
            count: images.
            timeout_s: in which their client needs the results; None: it does not say.

        Raises:
            QueueFull: there is no room for them.
            DeadlineUnreachable: what waits takes longer.
        """
        waiting = len(self)
        wait_s = self.pace.seconds(waiting) if waiting else 0.0
        if waiting + count > self._size:
            raise queue_full(waiting, self._size, count, wait_s)
        timeout_s = min(timeout_s or self.timeout_s, self.timeout_s)
        if wait_s > timeout_s:
            raise deadline_unreachable(waiting, count, wait_s, timeout_s)

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Count `count` images, from before they are decoded until they have their results.

        Raises:
            QueueFull, DeadlineUnreachable: as `check_room`.
        """
        self._make_room(count)
        self._admitted += count
        try:
            yield
        finally:
            self._admitted -= count
            if not self._admitted:
                self.pace.since = None
            # The queued images may have been delayed for these, which were refused or cancelled.
            if self._items:
                self._changed.set()

    def _make_room(self, count: int) -> None:
        self.check_room(count)

    async def submit(
        self,
        image: bytes | Pixels,
        bundle: str,
        *,
        extras: Extras | None = None,
        suspect: bool = False,
        timeout_s: float | None = None,
    ) -> Classification:
        """Queue an image and return its result; if cancelled, drop it unless it runs.

        Args:
            image: a file, or pixels uint8 [H, W, 3] of the bundle's input size.
            bundle: digest of the bundle that it is for.
            extras: what it gets besides logits; the model has it.
            suspect: a process has ended with it, so it runs alone.
            timeout_s: what is left of the time limit; None: all of it.

        Raises:
            ImageError: the file can't be decoded.
            ProcessLost: the process ended with the file.
            ModelUnavailable: there is no result in time, the process ended twice on the image, or
                the bundle has been replaced.
            RuntimeUnavailable: the model fails on the image.
            ModelRefused: the queue is closed.
        """
        if self._closed is not None:
            raise self._closed
        result = asyncio.get_running_loop().create_future()
        item = QueuedImage(image, bundle, result, extras, suspect)
        self._items.append(item)
        self._changed.set()
        try:
            async with asyncio.timeout(self.timeout_s if timeout_s is None else timeout_s):
                return await item.future
        except BaseException as exc:
            # No instance may pull for a long time, while a process is started.
            with suppress(ValueError):
                self._items.remove(item)
            if not isinstance(exc, TimeoutError):
                raise
            raise ModelUnavailable(
                f"The model has not answered within {self.timeout_s:g} s. "
                "Send the image again a little later."
            ) from exc

    def put_back(self, item: QueuedImage) -> None:
        """Queue an image again, before all others."""
        self._items.appendleft(item)
        self._changed.set()

    def give_back(self, batch: list[QueuedImage]) -> None:
        """Queue a batch again that no process has taken."""
        self._in_flight.remove(batch)
        self.batch_sizes[len(batch)] -= 1
        self._items.extendleft(reversed(batch))
        self._changed.set()

    async def next_batch(self, timeout_s: float, *, ahead: bool = False) -> list[QueuedImage]:
        """Return the next batch as soon as it is due, or an empty list after `timeout_s`.

        The caller calls `finished` or `give_back` with a batch that is not empty.

        Args:
            timeout_s: in seconds.
            ahead: the caller has no free stream, so callers that have one come first.
        """
        self._idle += not ahead
        try:
            while (due_s := math.inf if ahead and self._idle else self._due()) > 0:
                self._changed.clear()
                try:
                    async with asyncio.timeout(min(due_s, timeout_s)):
                        await self._changed.wait()
                except TimeoutError:
                    if due_s > timeout_s:
                        return []
        finally:
            self._idle -= not ahead
        batch = [self._items.popleft()]
        if not batch[0].suspect:
            free = max(1, self.streams - len(self._in_flight))
            share = min(self.max_batch, math.ceil((1 + len(self._items)) / free))
            while self._items and len(batch) < share and not self._items[0].suspect:
                batch.append(self._items.popleft())
        self._in_flight.append(batch)
        self.batch_sizes[len(batch)] += 1
        if self._items:
            # Those that decode ahead may have waited for this caller.
            self._changed.set()
        return batch

    def finished(self, batch: list[QueuedImage]) -> None:
        """Record that a batch is no longer in flight."""
        done = sum(item.future.done() and not item.future.cancelled() for item in batch)
        self.pace.finished(done, waiting=len(self) > 0)
        self._in_flight.remove(batch)
        self._changed.set()

    def _due(self) -> float:
        """Seconds until the next batch may be dispatched, if nothing changes."""
        self._drop_cancelled()
        count = len(self._items)
        if not count:
            return math.inf
        if count >= self.max_batch or self._items[0].suspect:
            return 0
        if 2 * count >= self._admitted - _present(self._in_flight):
            return 0
        return self._items[0].since + self._gather_s - time.perf_counter()

    def close(self, error: Exception) -> None:
        """Fail every image that is queued or in flight with `error`, and those that come later."""
        self._closed = error
        for item in [*itertools.chain(*self._in_flight), *self._items]:
            fail(item.future, error)
        self._items.clear()

    def _drop_cancelled(self) -> None:
        """Drop images whose clients have left, before they cost a forward pass."""
        for item in [item for item in self._items if item.future.done()]:
            self._items.remove(item)


def _present(batches: Sequence[Sequence[QueuedImage]]) -> int:
    """Number of images whose clients have not left; those that have are not admitted any more."""
    return sum(not item.future.cancelled() for batch in batches for item in batch)


def hand_out(batch: Sequence[QueuedImage], found: ClassifiedBatch, ended: float) -> None:
    """Set the result of each image; the batch `ended` at this `perf_counter`."""
    for item, image in zip(batch, found.images, strict=True):
        if isinstance(image, ImageError):
            fail(item.future, image)
        elif not item.future.done():
            queue_s = ended - item.since - found.decode_s - found.infer_s
            times = found.decode_s, queue_s, found.infer_s
            item.future.set_result(
                Classification(
                    *(image.logits, image.info, *times),
                    heatmap=image.heatmap,
                    embedding=image.embedding,
                )
            )
