"""The memory of request bodies, which all requests share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.access.key import CURRENT, Key
from service.errors import QueueFull


class BodyBudget:
    """Bounds the memory of all request bodies together: their number is not bounded.

    The client of an API key may have as much of it as it leaves free, so that others find some.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._reserved = 0
        self._of_key: Counter[Key] = Counter()

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """The reservation of one request, empty at first and released at its end."""
        reservation = Reservation(self, CURRENT.get())
        try:
            yield reservation
        finally:
            self._take(-reservation.reserved, reservation.key)

    def take(self, count: int, key: Key | None) -> None:
        """Reserve `count` bytes for a client.

        Raises:
            QueueFull: the budget is used up, or the part that the client may have.
        """
        free = self._max_bytes - self._reserved
        if count > free or (key is not None and self._of_key[key] + count > free):
            raise QueueFull(
                f"The bodies of the requests in flight take {self._reserved} of at most "
                f"{self._max_bytes} bytes{' of which others need some' if key else ''}. "
                "Send this request again a little later."
            )
        self._take(count, key)

    def _take(self, count: int, key: Key | None) -> None:
        self._reserved += count
        if key is not None:
            self._of_key[key] += count
            if not self._of_key[key]:
                del self._of_key[key]


class Reservation:
    """Bytes that one request has reserved."""

    def __init__(self, budget: BodyBudget, key: Key | None) -> None:
        self._budget = budget
        self.key = key
        self.reserved = 0

    def take(self, count: int) -> None:
        """Reserve `count` bytes more.

        Raises:
            QueueFull: the budget is used up.
        """
        self._budget.take(count, self.key)
        self.reserved += count
