"""The queue of a model where requests have API keys: fair between the clients behind them."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from service.access.key import CURRENT, Key
from service.access.rounds import Rounds
from service.models.batcher import Queue
from service.models.overload import deadline_unreachable, displaced, queue_full
from service.models.queued import QueuedImage


@dataclass(eq=False)
class Admitted:
    """A request whose images wait or run."""

    key: Key | None
    count: int
    task: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)
    # It makes room for another client: the places that are free once its task has noticed.
    displaced: bool = False
    leaving: int = 0


# The request that this task works on.
REQUEST: ContextVar[Admitted | None] = ContextVar("REQUEST", default=None)


class _Items(Rounds[QueuedImage]):
    """Images that know their requests."""

    def append(self, item: QueuedImage) -> None:
        item.owner = REQUEST.get()
        super().append(item)


class FairQueue(Queue):
    """A queue that no client can fill at the expense of others.

    Images are dispatched in a weighted round over the clients. Each has a share of the queue by its
    weight, and may use more of it as long as there is room: in a full queue the newest request of
    the client that is most above its share is refused for one that is within its own.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._items = _Items()
        # In the order of their admission; and their images by client, those that run included.
        self._requests: list[Admitted] = []
        self._held: Counter[Key | None] = Counter()

    def check_room(self, count: int = 1, timeout_s: float | None = None) -> None:
        """As `Queue.check_room`, for the current client.

        Raises:
            QueueFull: there is no room for them, and the client would be above its share.
            DeadlineUnreachable: what is dispatched before them takes longer.
        """
        self._find_room(count, timeout_s)

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """As `Queue.admit`, for the current client, whose request may be displaced later.

        Raises:
            QueueFull: there is no room, or it is displaced.
            DeadlineUnreachable: as `check_room`.
        """
        with super().admit(count):
            request = Admitted(CURRENT.get(), count)
            self._requests.append(request)
            self._held[request.key] += count
            before = REQUEST.set(request)
            try:
                yield
            except asyncio.CancelledError:
                # Its client may have left at the same time, or the service may stop.
                if request.displaced and request.task is not None and not request.task.uncancel():
                    raise displaced(count, self.pace.seconds(len(self))) from None
                raise
            finally:
                REQUEST.reset(before)
                self._requests.remove(request)
                self._leaving -= request.leaving
                if not request.displaced:
                    self._release(request)

    def _make_room(self, count: int) -> None:
        for request, places in self._find_room(count).items():
            self._displace(request, places)

    def _find_room(self, count: int, timeout_s: float | None = None) -> dict[Admitted, int]:
        """As `check_room`; returns the requests to displace, with the places that each frees."""
        waiting, key = len(self), CURRENT.get()
        if not waiting and count <= self._size:
            return {}
        excess = waiting + count - self._size
        found = self._in_the_way(key, count, excess) if excess > 0 else {}
        if found is None:
            raise queue_full(waiting, self._size, count, self.pace.seconds(waiting))
        ahead = self._ahead(key, count)
        wait_s = self.pace.seconds(ahead)
        timeout_s = min(timeout_s or self.timeout_s, self.timeout_s)
        if wait_s > timeout_s:
            raise deadline_unreachable(ahead, count, wait_s, timeout_s)
        return found

    def _displace(self, request: Admitted, places: int) -> None:
        request.displaced, request.leaving = True, places
        self._leaving += places
        self._release(request)
        if request.task is not None:
            request.task.cancel()

    def _release(self, request: Admitted) -> None:
        self._held[request.key] -= request.count
        if not self._held[request.key]:
            del self._held[request.key]

    def _in_the_way(self, key: Key | None, count: int, excess: int) -> dict[Admitted, int] | None:
        """The requests that give `excess` places to a client with `count` images more.

        None: the client would be above its share, or no other one is.
        """
        found: dict[Admitted, int] = {}
        running = Counter(
            item.owner
            for batch in self._in_flight[: self.streams]
            for item in batch
            if isinstance(item.owner, Admitted) and not item.future.cancelled()
        )
        waiting = self._held.copy()
        waiting[key] += count
        for request, images in running.items():
            waiting[request.key] -= images
        waiting = +waiting  # without those of whom nothing waits
        total = sum(map(_weight, waiting))
        if waiting[key] > self._share(key, total):
            return None
        for request in reversed(self._requests):
            if excess <= 0:
                break
            most = max(waiting, key=lambda each: waiting[each] / _weight(each))
            if waiting[most] <= self._share(most, total):
                return None
            places = request.count - running[request]
            if request.key is most and places and not request.displaced:
                found[request] = places
                waiting[most] -= places
                excess -= places
        return found if excess <= 0 else None

    def _share(self, key: Key | None, total: int) -> int:
        """Places in the queue, of which each client has at least one."""
        return max(1, self._size * _weight(key) // total)

    def _ahead(self, key: Key | None, count: int) -> int:
        """How many images are dispatched before the last of `count` more of a client."""
        own, weight = self._held[key], _weight(key)
        others = sum(
            min(held, math.ceil((own + count) * _weight(other) / weight))
            for other, held in self._held.items()
            if other is not key
        )
        return min(len(self), own + others)


def _weight(key: Key | None) -> int:
    return 1 if key is None else key.weight
