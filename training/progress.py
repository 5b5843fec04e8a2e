"""The progress bar: what runs, how far it is, the time elapsed and the time remaining."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar(console: Console, *, transient: bool = False) -> Progress:
    """A progress bar on `console`; a transient one is erased at the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        "ETA",
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=transient)
