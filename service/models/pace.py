"""How fast a queue moves: its recent throughput while images wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

# Forward passes that are remembered.
PASSES = 32


class Pace:
    """The recent throughput of a queue, from the ends of its forward passes.

    A pass counts from the end of the one before, if images have waited since then: neither idle
    time nor the small passes of a light load say how fast the queue moves when it is full.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._passes: deque[tuple[int, float]] = deque(maxlen=PASSES)
        self._image_s = 0.0
        # When the last pass ended, if images have waited since; reset by the queue if none is left.
        self.since: float | None = None

    def finished(self, images: int, *, waiting: bool) -> None:
        """Record the end of a pass of `images`; `waiting`: others wait."""
        now = self._clock()
        if self.since is not None:
            self.record(images, now - self.since)
        self.since = now if waiting else None

    def record(self, images: int, seconds: float) -> None:
        """Record that the queue took `seconds` for `images`, which may be 0 if a pass failed."""
        self._passes.append((images, seconds))
        total = sum(images for images, _ in self._passes)
        self._image_s = sum(seconds for _, seconds in self._passes) / total if total else 0.0

    def seconds(self, images: int) -> float:
        """Time in which that many images that wait will be done; 0 if there are none.

        At the recent speed, and as long again as the pass that runs now has taken: a queue that has
        stopped moving does not move again at once. 0 too as long as the speed is not known.
        """
        if not images or not self._image_s:
            return 0.0
        running = 0.0 if self.since is None else self._clock() - self.since
        return images * self._image_s + running
