"""A limit of a rate: a token bucket."""

from __future__ import annotations

import time
from collections.abc import Callable


class Bucket:
    """A token bucket: `rate` tokens come in per second, and at most `burst` are kept.

    Args:
        rate: tokens per second.
        burst: the most that can be taken at once; it is full at first.
        clock: seconds.
    """

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self.burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()

    def wait_s(self, tokens: float) -> float:
        """Seconds until that many tokens, at most `burst`, can be taken; 0: they can be now."""
        now = self._clock()
        self._level = min(self.burst, self._level + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (tokens - self._level) / self._rate)

    def take(self, tokens: float) -> None:
        """Take tokens, for which `wait_s` has just been 0."""
        self._level -= tokens

    def change(self, rate: float, burst: float) -> None:
        """Another rate and burst from now on; what has been taken stays taken."""
        missing = self.wait_s(self.burst) * self._rate
        self._rate, self.burst = rate, burst
        self._level = burst - min(missing, burst)
