"""The rows of the results: one server with one model, median and range over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.models import Model
from benchmarks.suite import CONNECTIONS, OURS, Result


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of one value or more."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))

    def __format__(self, spec: str) -> str:
        """`12.3 (11.9 to 12.5)`, or the median alone if all rounds are equal."""
        middle, low, high = (format(value, spec) for value in (self.median, self.low, self.high))
        return middle if low == high else f"{middle} ({low} to {high})"


@dataclass(frozen=True)
class Row:
    """A server with a model."""

    key: str
    title: str
    rate: dict[int, Spread]  # requests/s, by connections
    p50: dict[int, Spread]  # ms
    p99: dict[int, Spread]  # ms
    memory: Spread  # bytes
    start: Spread  # s
    generator: Spread  # highest share of one core used by the load generator

    @property
    def ours(self) -> bool:
        """Whether it is this project."""
        return self.key.startswith(OURS)


def table(results: dict[str, Result], model: Model) -> list[Row]:
    """The servers of a model: ours first, then by speed."""
    prefix = f"server/{model.name}/"
    keys = dict.fromkeys(
        key.removeprefix(prefix).rpartition("/")[0] for key in results if key.startswith(prefix)
    )
    rows = [
        _row(key, [r for name, r in results.items() if name.startswith(f"{prefix}{key}/")])
        for key in keys
    ]
    return sorted(rows, key=lambda row: (not row.ours, -row.rate[CONNECTIONS[-1]].median))


def _row(key: str, rounds: list[Result]) -> Row:
    def loads(connections: int) -> list[Result]:
        return [result["loads"][str(connections)] for result in rounds]

    def latency(name: str) -> dict[int, Spread]:
        return {c: Spread.of(load["latency_ms"][name] for load in loads(c)) for c in CONNECTIONS}

    def generator(result: Result) -> float:
        return max(
            float(load["cpu_seconds"] / load["seconds"]) for load in result["loads"].values()
        )

    return Row(
        key,
        rounds[0]["title"],
        {c: Spread.of(load["requests_per_second"] for load in loads(c)) for c in CONNECTIONS},
        latency("p50"),
        latency("p99"),
        Spread.of(result["memory_bytes"] for result in rounds),
        Spread.of(result["start_s"] for result in rounds),
        Spread.of(generator(result) for result in rounds),
    )


def limit_table(results: dict[str, Result], model: Model) -> dict[str, dict[str, Spread]]:
    """Images per second by artifact: the forward pass alone, and with decoding."""
    found = {}
    for artifact in model.manifest.artifacts:
        rounds = [
            r for key, r in results.items() if key.startswith(f"limit/{model.name}/{artifact.id}/")
        ]
        if all(rounds):
            found[artifact.id] = {name: Spread.of(r[name] for r in rounds) for name in rounds[0]}
    return found


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
