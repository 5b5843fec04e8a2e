"""How far a run is: a bar on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Between two lines, in seconds.
LINE_S = 10.0


class Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        """Of the last seconds."""
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "")


class Bar:
    """The progress of a run, shown while it is a context.

    Args:
        console: Where it is shown.
        total, done: Images of the run, and those that have been scored before.
        clock: Seconds.
    """

    def __init__(
        self, console: Console, total: int, done: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._total, self._clock = console, total, clock
        self._done = self._before = done
        # From the first images on: workers take a while to start.
        self._started: float | None = None
        self._said = clock()
        columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeElapsedColumn())
        remaining = (TextColumn("ETA"), TimeRemainingColumn())
        self._bar = Progress(
            *columns,
            *remaining,
            console=console,
            speed_estimate_period=120,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=done)

    def advance(self, images: int) -> None:
        """So many more have been scored."""
        self._done += images
        self._bar.update(self._task, completed=self._done)
        now = self._clock()
        if self._started is None:
            self._started, self._before = now, self._done
        elif not self._console.is_terminal and now - self._said >= LINE_S:
            self._said = now
            self._console.print(self._line(now - self._started))

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._before) / seconds
        left = timedelta(seconds=round((self._total - self._done) / rate))
        return f"{self._done:,} of {self._total:,} images, {rate:,.0f} images/s, ETA {left}"

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
