"""Dynamic batching: every queued image joins the next forward pass; a lone image is never delayed.

The queue counts images still being decoded. While more are decoding than queued, dispatch is
delayed by at most `GATHER_S`: a pass of a few images costs nearly as much as one of many. Each
inference stream of the model has one batch. While all are busy one more batch is prefetched, but
only a full one: a partial one could not take the images that arrive before a stream is free.
`model.py` sets the maximum batch size: the bundle's measured best, up to `SERVICE_MAX_BATCH`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.errors import ModelUnavailable, QueueFull

# Longest delay of an image for others that are being decoded, while a stream is free.
GATHER_S = 0.01

# [H, W, 3] and [C].
Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


class InferenceResult(NamedTuple):
    """The logits float32 [C] of one image, and its times in seconds."""

    logits: Logits
    queue_s: float
    inference_s: float


@dataclass(eq=False)
class QueuedImage:
    """One image in the queue."""

    pixels: Pixels
    # Digest of the bundle that it was decoded for.
    bundle: str
    future: asyncio.Future[InferenceResult]
    since: float = field(default_factory=time.perf_counter)


class Queue:
    """The bounded queue of one model, used on the event loop only, hence without locks.

    Args:
        size: images that may wait.
        max_batch: images of one batch; the model lowers it to what it was measured to be best with.
        timeout_s: bound of the time from the submission of an image to its result.
        gather_s: longest delay of an image for others that are being decoded.
    """

    def __init__(
        self, size: int, max_batch: int, timeout_s: float, gather_s: float = GATHER_S
    ) -> None:
        self._size = size
        self.max_batch = max_batch
        # Batches that the model runs at once; known when it is loaded.
        self.streams = 1
        self._timeout_s = timeout_s
        self._gather_s = gather_s
        self._admitted = 0
        self._items: deque[QueuedImage] = deque()
        # In the order of their dispatch.
        self._in_flight: list[list[QueuedImage]] = []
        self._changed = asyncio.Event()
        # Number of batches by their size.
        self.batch_sizes: Counter[int] = Counter()

    def __len__(self) -> int:
        """Images that wait: those being decoded, queued, or prefetched by the model's process."""
        return max(0, self._admitted - _present(self._in_flight[: self.streams]))

    @property
    def is_concurrent(self) -> bool:
        """More than one image is in flight."""
        return self._admitted > 1

    def check_room(self, count: int = 1) -> None:
        """Check that `count` images may be admitted, without admitting them.

        Raises:
            QueueFull: they may not.
        """
        if len(self) + count > self._size:
            raise QueueFull(
                f"{len(self)} images wait for this model, and {self._size} may. Send "
                f"{'this one' if count == 1 else f'these {count}'} again a little later."
            )

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Count `count` images, from before they are decoded until they have their results.

        Raises:
            QueueFull: too many images wait.
        """
        self.check_room(count)
        self._admitted += count
        try:
            yield
        finally:
            self._admitted -= count
            # The queued images may have been delayed for these, which were refused or cancelled.
            if self._items:
                self._changed.set()

    async def submit(self, images: Sequence[Pixels], bundle: str) -> list[InferenceResult]:
        """Queue `images` and return their results in order; if cancelled, drop those still queued.

        Args:
            images: uint8 [H, W, 3] each, of the bundle's input size.
            bundle: digest of the bundle that they were decoded for.

        Raises:
            ModelUnavailable: there is no result in time.
        """
        loop = asyncio.get_running_loop()
        items = [QueuedImage(image, bundle, loop.create_future()) for image in images]
        self._items.extend(items)
        self._changed.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                return [await item.future for item in items]
        except TimeoutError as exc:
            raise ModelUnavailable(
                f"The model has not answered within {self._timeout_s:g} s. "
                "Send the image again a little later."
            ) from exc
        finally:
            for item in items:
                # If another image failed first, retrieve the exception, or asyncio logs it.
                if not item.future.cancel() and not item.future.cancelled():
                    item.future.exception()

    async def next_batch(self, timeout_s: float) -> list[QueuedImage]:
        """Return the next batch as soon as it is due, or an empty list after `timeout_s`.

        The caller calls `finished` with a batch that is not empty.
        """
        while (due_s := self._due()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(min(due_s, timeout_s)):
                    await self._changed.wait()
            except TimeoutError:
                if due_s > timeout_s:
                    return []
        share = math.ceil(len(self._items) / max(1, self.streams - len(self._in_flight)))
        batch = [self._items.popleft() for _ in range(min(self.max_batch, share))]
        self._in_flight.append(batch)
        self.batch_sizes[len(batch)] += 1
        return batch

    def finished(self, batch: list[QueuedImage]) -> None:
        """Record that a batch is no longer in flight."""
        self._in_flight.remove(batch)
        self._changed.set()

    def _due(self) -> float:
        """Seconds until the next batch may be dispatched, if nothing changes."""
        self._drop_cancelled()
        count = len(self._items)
        # The model's process has one batch for each stream, and one prefetched.
        if not count or len(self._in_flight) > self.streams:
            return math.inf
        if count >= self.max_batch:
            return 0
        if len(self._in_flight) == self.streams:
            return math.inf
        if 2 * count >= self._admitted - _present(self._in_flight):
            return 0
        return self._items[0].since + self._gather_s - time.perf_counter()

    def fail_all(self, error: Exception) -> None:
        """Fail every image that is queued or in flight with `error`."""
        for item in [*itertools.chain(*self._in_flight), *self._items]:
            fail(item, error)
        self._items.clear()

    def _drop_cancelled(self) -> None:
        """Drop images whose clients have left, before they cost a forward pass."""
        self._items = deque(item for item in self._items if not item.future.done())


def _present(batches: Sequence[Sequence[QueuedImage]]) -> int:
    """Number of images whose clients have not left; those that have are not admitted any more."""
    return sum(not item.future.cancelled() for batch in batches for item in batch)


def hand_out(batch: Sequence[QueuedImage], logits: Logits, started: float, ended: float) -> None:
    """Set the result of each image: its row of `logits` [N, C], and its times (`perf_counter`)."""
    for item, row in zip(batch, logits, strict=True):
        if not item.future.done():
            item.future.set_result(InferenceResult(row, started - item.since, ended - started))


def fail(item: QueuedImage, error: Exception) -> None:
    """Fail one image with `error`, unless it has its result."""
    if not item.future.done():
        item.future.set_exception(error)
