"""What the command line prints of a bundle: the steps of a check, and why it is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bundle.errors import BundleError, RuntimeUnavailable

T = TypeVar("T")


class Report:
    """The rows of the check, printed at its end, up to the step that fails."""

    def __init__(self, directory: Path) -> None:
        self._console = Console()
        self._table = Table(title=escape(str(directory)), title_justify="left")
        for column in ("step", "result", "seconds", "detail"):
            self._table.add_column(
                column, overflow="fold", justify="right" if column == "seconds" else "left"
            )

    def step(self, name: str, run: Callable[[], T], describe: Callable[[T], str]) -> T:
        """A step that every bundle must pass."""
        with self._running(name) as add:
            result = run()
            add("[green]ok[/green]", describe(result))
        return result

    def may_fail_here(self, name: str, run: Callable[[], str]) -> None:
        """A step that may be impossible on this machine only, which is no fault of the bundle."""
        with self._running(name) as add:
            try:
                add("[green]ok[/green]", run())
            except RuntimeUnavailable as exc:
                add("[yellow]skipped[/yellow]", str(exc))

    def print(self) -> None:
        self._console.print(self._table)

    @contextmanager
    def _running(self, name: str) -> Iterator[Callable[[str, str], None]]:
        """Run a step; yields the function that adds its row. A bundle error ends the check."""
        started = time.monotonic()

        def add(result: str, detail: str) -> None:
            self._table.add_row(
                escape(name), result, f"{time.monotonic() - started:.1f}", escape(detail)
            )

        try:
            with self._console.status(f"{name} ..."):
                yield add
        except BundleError as exc:
            add(f"[red]{exc.code}[/red]", "refused, see below")
            self.print()
            refuse(self._console, exc)


def refuse(console: Console, exc: BundleError) -> NoReturn:
    """Print why a bundle is refused, and exit with 1."""
    console.print(f"[red]{exc.code}[/red]: {escape(str(exc))}")
    raise typer.Exit(1) from exc
