"""A client of the service, as its API key tells: its rights, its limits and what it has used."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar

from service.access.entries import Entry
from service.access.limits import Bucket
from service.errors import Forbidden, RateLimited, RequestTooLarge

# Of requests with a known key; the others are the codes of problems.
ADMITTED = "admitted"
OUTCOMES = (ADMITTED, Forbidden.code, RateLimited.code, RequestTooLarge.code)


class Key:
    """A client; it may have several keys, and keeps its limits when the file is read again.

    Args:
        name: of the client.
        entry: what the file says of it.
        clock: seconds.
    """

    def __init__(
        self, name: str, entry: Entry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._clock = clock
        self._requests: Bucket | None = None
        self._bytes: Bucket | None = None
        # Of requests, by what became of them at the door; and bytes of their bodies.
        self.outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.bytes = 0
        self.change(entry)

    def change(self, entry: Entry) -> None:
        """Have other rights and limits from now on."""
        self.weight, self.admin = entry.weight, entry.admin
        per_s = entry.requests_per_s
        burst = entry.burst_requests or max(1.0, per_s or 0)
        self._requests = self._changed(self._requests, per_s, burst)
        per_s = entry.bytes_per_s
        self._bytes = self._changed(self._bytes, per_s, entry.burst_bytes or per_s or 0)

    def _changed(self, bucket: Bucket | None, rate: float | None, burst: float) -> Bucket | None:
        if rate is None:
            return None
        if bucket is None:
            return Bucket(rate, burst, self._clock)
        bucket.change(rate, burst)
        return bucket

    def admit(self, size: int, *, admin: bool = False) -> None:
        """Count a request with a body of `size` bytes, which is not read yet.

        Args:
            size: of the body; 0: there is none, or `receive` counts it.
            admin: whether the request is for an administrator.

        Raises:
            Forbidden: the client is no administrator.
            RequestTooLarge: its limit of bytes never allows a body of this size.
            RateLimited: it has sent too much lately.
        """
        requests = self._requests
        try:
            if admin and not self.admin:
                raise Forbidden(
                    "This route is for administrators. Expected a key with `admin = true`, or that "
                    f"of SERVICE_ADMIN_KEY. Received: a key of {self.name}"
                )
            wait_s = 0.0 if requests is None else requests.wait_s(1)
            if self._bytes is not None:
                self._check_size(self._bytes, size)
                wait_s = max(wait_s, self._bytes.wait_s(size))
            if wait_s:
                raise self._limited(wait_s)
        except (Forbidden, RequestTooLarge, RateLimited) as refusal:
            self.outcomes[refusal.code] += 1
            raise
        if requests is not None:
            requests.take(1)
        self._count(size)
        self.outcomes[ADMITTED] += 1

    def receive(self, size: int, *, of: int) -> None:
        """Count a part of a body whose size is not known before it has arrived.

        Args:
            size: of the part, in bytes.
            of: bytes of the body that have arrived, with this part.

        Raises:
            RequestTooLarge, RateLimited: as `admit`.
        """
        if self._bytes is not None:
            self._check_size(self._bytes, of)
            if wait_s := self._bytes.wait_s(size):
                raise self._limited(wait_s)
        self._count(size)

    def _count(self, size: int) -> None:
        if self._bytes is not None:
            self._bytes.take(size)
        self.bytes += size

    def _check_size(self, bucket: Bucket, size: int) -> None:
        """Check that the client may ever send a body of that many bytes.

        Raises:
            RequestTooLarge: it may not.
        """
        if size > bucket.burst:
            raise RequestTooLarge(
                f"The body is larger than {self.name} may send at once (burst_bytes of its key). "
                f"Expected at most {bucket.burst:.0f} bytes; send less. Received: {size} bytes"
            )

    def _limited(self, wait_s: float) -> RateLimited:
        limit = RateLimited(
            f"The key of {self.name} is over its limit of requests or bytes per second. "
            f"Send this request again in {wait_s:.1f} s, and others more slowly."
        )
        limit.retry_after_s = math.ceil(wait_s)
        return limit


CURRENT: ContextVar[Key | None] = ContextVar("CURRENT", default=None)
"""Whose request this task works on; None: requests need no key."""
