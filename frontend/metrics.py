"""The service's metrics: Prometheus' text format, as far as the status view needs it."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Sample:
    """One line: a metric's name, its labels and its value."""

    name: str
    labels: dict[str, str]
    value: float


def samples(text: str) -> list[Sample]:
    """All samples; comments and lines that cannot be read are left out."""
    return list(_read(text))


def _read(text: str) -> Iterator[Sample]:
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match is None:
            continue
        name, labels, value = match.groups()
        try:
            number = float(value)
        except ValueError:
            continue
        yield Sample(name, dict(_LABEL.findall(labels or "")), number)


def total(found: list[Sample], name: str, **labels: str) -> float:
    """The sum of the samples of `name` that have these labels."""
    return sum(each.value for each in _with(found, name, labels))


def by(found: list[Sample], name: str, label: str, **labels: str) -> dict[str, float]:
    """The sums of the samples of `name` by one of their labels."""
    sums: dict[str, float] = defaultdict(float)
    for each in _with(found, name, labels):
        sums[each.labels.get(label, "")] += each.value
    return dict(sums)


def quantile(found: list[Sample], name: str, q: float, **labels: str) -> float | None:
    """A quantile of a histogram, linear inside of its bucket, as Prometheus computes it.

    None without observations; the last finite bound if it lies above it.
    """
    bounds = {
        float(bound): count for bound, count in by(found, f"{name}_bucket", "le", **labels).items()
    }
    ordered = sorted(bounds.items())
    if not ordered or ordered[-1][1] == 0:
        return None
    wanted = q * ordered[-1][1]
    low, below = 0.0, 0.0
    for bound, count in ordered:
        if count >= wanted:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (wanted - below) / max(count - below, 1e-12)
        low, below = bound, count
    return low


def _with(found: list[Sample], name: str, labels: dict[str, str]) -> Iterator[Sample]:
    for each in found:
        if each.name == name and labels.items() <= each.labels.items():
            yield each
