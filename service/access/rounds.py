"""What waits, in a weighted round over the API keys of the clients that it is for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from service.access.key import CURRENT, Key

T = TypeVar("T")


class Rounds(Generic[T]):
    """A deque that is fair between clients, and first come, first served for each of them.

    As in stride scheduling: each client has a time of its next turn, the earliest one is next, and
    a turn puts it off by 1 / weight. A client that begins to wait is as early as the one that was
    served last, so what others have waiting does not delay it, and idle time earns nothing.
    """

    def __init__(self) -> None:
        # Taken out and put back: before all others.
        self._first: deque[T] = deque()
        self._waiting: dict[Key | None, deque[T]] = {}
        self._turns: dict[Key | None, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._first) + sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[T]:
        yield from self._first
        for waiting in self._waiting.values():
            yield from waiting

    def __getitem__(self, index: int) -> T:
        """The one that `popleft` would return; there is no other index than 0."""
        if index:
            raise IndexError(index)
        return self._first[0] if self._first else self._waiting[self._next()][0]

    def append(self, item: T) -> None:
        """Let an item of the current client wait."""
        key = CURRENT.get()
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = deque()
            self._turns[key] = max(self._turns.get(key, 0.0), self._now)
        waiting.append(item)

    def appendleft(self, item: T) -> None:
        """Put an item back, before all others."""
        self._first.appendleft(item)

    def extendleft(self, items: Iterable[T]) -> None:
        """As `appendleft`, one after another."""
        self._first.extendleft(items)

    def popleft(self) -> T:
        """Take out the next one.

        Raises:
            IndexError: there is none.
        """
        if self._first:
            return self._first.popleft()
        if not self._waiting:
            raise IndexError("nothing waits")
        key = self._next()
        self._now = self._turns[key]
        self._turns[key] += 1 / (key.weight if key is not None else 1)
        item = self._waiting[key].popleft()
        self._forget_if_empty(key)
        return item

    def remove(self, item: T) -> None:
        """Take out an item.

        Raises:
            ValueError: it does not wait.
        """
        for key, waiting in self._waiting.items():
            if item in waiting:
                waiting.remove(item)
                self._forget_if_empty(key)
                return
        self._first.remove(item)

    def clear(self) -> None:
        """Take out everything."""
        self._first.clear()
        self._waiting.clear()
        self._turns.clear()

    def _next(self) -> Key | None:
        """The client whose turn is the earliest; of two, the one that began to wait before."""
        return min(self._waiting, key=self._turns.__getitem__)

    def _forget_if_empty(self, key: Key | None) -> None:
        if not self._waiting[key]:
            del self._waiting[key]
        if not self._waiting:
            # Nobody has to make up for turns.
            self._turns.clear()
            self._now = 0.0
