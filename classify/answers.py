"""What comes of each file, and the three forms in which it is printed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 1000


@dataclass(frozen=True)
class Prediction:
    """One labelled score in [0, 1]; `rank` starts at 1."""

    rank: int
    index: int
    label: str
    score: float


@dataclass(frozen=True)
class Answer:
    """What comes of one file: predictions, best first, or an error.

    Attributes:
        file: as it was named.
        model: `NAME/VERSION`; None: there is no answer.
        uncertain: whether the model is not sure (docs/certainty.md); None: that was not measured.
        error: code of the problem, and a sentence.
    """

    file: str
    model: str | None = None
    predictions: list[Prediction] = field(default_factory=list)
    uncertain: bool | None = None
    error: tuple[str, str] | None = None


class TableWriter:
    """A table for people, printed at the end."""

    def __init__(self, out: TextIO) -> None:
        # A pipe has no width; rich would take 80 columns.
        self._console = Console(
            file=out, highlight=False, width=None if out.isatty() else PIPE_COLUMNS
        )
        self._table = Table(box=None, pad_edge=False)
        for column in ("file", "label", "score", ""):
            self._table.add_column(column, overflow="fold")
        self._table.columns[2].justify = "right"

    def write(self, answer: Answer) -> None:
        """One row for each prediction, or for the error."""
        if answer.error is not None:
            sentence = answer.error[1].partition(". ")[0].removesuffix(".")
            self._table.add_row(Text(answer.file), Text(f"{sentence}.", "red"))
        for prediction in answer.predictions:
            first = prediction.rank == 1
            self._table.add_row(
                Text(answer.file if first else ""),
                Text(prediction.label),
                _percent(prediction.score),
                Text("not sure" if first and answer.uncertain else "", "yellow"),
            )

    def close(self) -> None:
        """Print it."""
        self._console.print(self._table)


def _percent(score: float) -> str:
    """Never rounded to 0 % or 100 %, which a model does not claim."""
    if 0.999 < score < 1:
        return "> 99.9 %"
    return f"{score * 100:.1f} %" if score >= 0.001 or not score else "< 0.1 %"


class JsonWriter:
    """An array with one object for each file, written as they come."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._before = "[\n"

    def write(self, answer: Answer) -> None:
        """One object."""
        found = asdict(answer)
        if answer.error is not None:
            found["error"] = dict(zip(("code", "detail"), answer.error, strict=True))
        self._out.write(self._before + json.dumps(found, ensure_ascii=False))
        self._before = ",\n"

    def close(self) -> None:
        """End the array."""
        self._out.write("[]\n" if self._before == "[\n" else "\n]\n")


class CsvWriter:
    """A header, and one line for each prediction or error."""

    def __init__(self, out: TextIO) -> None:
        self._rows = csv.writer(out, lineterminator="\n")
        columns = "file", "model", "rank", "index", "label", "score", "uncertain", "error", "detail"
        self._rows.writerow(columns)

    def write(self, answer: Answer) -> None:
        """One line for each prediction, or for the error."""
        if answer.error is not None:
            self._rows.writerow([answer.file, *[""] * 6, *answer.error])
        unsure = "" if answer.uncertain is None else str(answer.uncertain).lower()
        for each in answer.predictions:
            found = each.rank, each.index, each.label, f"{each.score:.6f}"
            self._rows.writerow([answer.file, answer.model, *found, unsure, "", ""])

    def close(self) -> None:
        """Nothing is left to write."""


Writer = TableWriter | JsonWriter | CsvWriter
WRITERS: dict[str, Callable[[TextIO], Writer]] = {
    "table": TableWriter,
    "json": JsonWriter,
    "csv": CsvWriter,
}
