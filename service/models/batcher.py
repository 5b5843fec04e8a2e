"""Dynamic batching: whatever waits goes into the next forward pass, and nobody waits for company that is not there yet.

Of images that are being decoded the queue knows. While they are more than those that wait, these wait a little for them: a pass
of a few costs nearly as much as one of many. An image on its own never waits. Each stream of the model has a batch. While all are
busy another is sent after these only if it is full: one that is not would keep out those who come meanwhile, and a full one spares
the model the wait for it.
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

# Most that an image waits for those that are being decoded, while the model has nothing to do.
GATHER_S = 0.01

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


class InferenceResult(NamedTuple):
    """The logits float32 [C] of one image, and where its time went, in seconds."""

    logits: Logits
    queue_s: float
    inference_s: float


@dataclass(eq=False)
class Waiting:
    """One image in the queue."""

    pixels: Pixels  # [H, W, 3]
    bundle: str  # the digest of the one that it was decoded for
    future: asyncio.Future[InferenceResult]
    since: float = field(default_factory=time.perf_counter)


class Queue:
    """The bounded queue of one model; lives on the event loop, without locks."""

    def __init__(self, size: int, max_batch: int, timeout_s: float) -> None:
        self._size = size
        self.max_batch = (
            max_batch  # the model lowers it when it is loaded and known to be best with fewer
        )
        self.streams = 1  # batches that the model works on at once, known then as well
        self._timeout_s = timeout_s
        self._admitted = 0
        self._items: deque[Waiting] = deque()
        self._under_way: list[list[Waiting]] = []  # in the order in which they went
        self._changed = asyncio.Event()
        self.batch_sizes: Counter[int] = Counter()  # how many batches of each size there have been

    def __len__(self) -> int:
        """The images that wait: to be decoded, here, or in the pipe of the model's process."""
        return max(0, self._admitted - _wanted(self._under_way[: self.streams]))

    @property
    def is_concurrent(self) -> bool:
        """Whether there is more than one image, wherever on its way."""
        return self._admitted > 1

    def check_room(self, count: int = 1) -> None:
        """Whether there are places for `count` images, without taking them.

        Raises:
            QueueFull: there are too few.
        """
        if len(self) + count > self._size:
            raise QueueFull(
                f"{len(self)} images wait for this model, and {self._size} may. Send "
                f"{'this one' if count == 1 else f'these {count}'} again a little later."
            )

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Places for `count` images, from before they are decoded to their answers. Raises as :meth:`check_room`."""
        self.check_room(count)
        self._admitted += count
        try:
            yield
        finally:
            self._admitted -= count
            if self._items:  # they may have waited for one that was refused or has left
                self._changed.set()

    async def submit(self, images: Sequence[Pixels], bundle: str) -> list[InferenceResult]:
        """The answers to `images` for this bundle, in their order; cancelling drops those that have not been started.

        Raises:
            ModelUnavailable: there is no answer in time.
        """
        loop = asyncio.get_running_loop()
        items = [Waiting(image, bundle, loop.create_future()) for image in images]
        self._items.extend(items)
        self._changed.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                return [await item.future for item in items]
        except TimeoutError as exc:
            raise ModelUnavailable(
                f"The model has not answered within {self._timeout_s:g} s. Send the image again a little later."
            ) from exc
        finally:
            for item in items:
                if not item.future.cancel() and not item.future.cancelled():
                    item.future.exception()  # looked at, or asyncio logs it when another image failed first

    async def next_batch(self, patience_s: float) -> list[Waiting]:
        """The next batch once there may be one, to be followed by `finished`; empty after `patience_s` of nothing."""
        while (due_s := self._due()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(min(due_s, patience_s)):
                    await self._changed.wait()
            except TimeoutError:
                if due_s > patience_s:
                    return []
        share = math.ceil(len(self._items) / max(1, self.streams - len(self._under_way)))
        batch = [self._items.popleft() for _ in range(min(self.max_batch, share))]
        self._under_way.append(batch)
        self.batch_sizes[len(batch)] += 1
        return batch

    def finished(self, batch: list[Waiting]) -> None:
        """All of `batch` have their answers."""
        self._under_way.remove(batch)
        self._changed.set()

    def _due(self) -> float:
        """In how many seconds the next batch may go, if nothing changes."""
        self._drop_cancelled()
        count = len(self._items)
        if (
            not count or len(self._under_way) > self.streams
        ):  # one more waits in the pipe of the model's process
            return math.inf
        if count >= self.max_batch:
            return 0
        if len(self._under_way) == self.streams:
            return math.inf
        if 2 * count >= self._admitted - _wanted(self._under_way):
            return 0
        return self._items[0].since + GATHER_S - time.perf_counter()

    def fail_all(self, error: Exception) -> None:
        """Answer whatever waits, or is under way, with `error`."""
        for item in [*itertools.chain(*self._under_way), *self._items]:
            fail(item, error)
        self._items.clear()

    def _drop_cancelled(self) -> None:
        """Images whose client has gone cost no forward pass and take no place."""
        self._items = deque(item for item in self._items if not item.future.done())


def _wanted(batches: Sequence[Sequence[Waiting]]) -> int:
    """The images whose clients are still there; one that has gone has given its place back."""
    return sum(not item.future.cancelled() for batch in batches for item in batch)


def hand_out(batch: Sequence[Waiting], logits: Logits, started: float, ended: float) -> None:
    """Give each image its row of `logits` [N, C]."""
    for item, row in zip(batch, logits, strict=True):
        if not item.future.done():
            item.future.set_result(InferenceResult(row, started - item.since, ended - started))


def fail(item: Waiting, error: Exception) -> None:
    """Answer one image with `error`."""
    if not item.future.done():
        item.future.set_exception(error)
