"""The targets of the project, each with the measured value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.models import Model
from benchmarks.ours import QUEUE_SIZE
from benchmarks.rows import Row, Spread
from benchmarks.suite import CONNECTIONS, OURS, STUBBORN, WITH_IR, Result
from bundle.format.manifest import read_manifest
from bundle.format.repository import list_bundles
from bundle.worker.selection import AUTO, accuracy, candidates

MB = 1_000_000


@dataclass(frozen=True)
class Target:
    """One target and its measured value."""

    what: str
    target: str
    measured: str
    met: bool | None  # None: not measured

    @property
    def verdict(self) -> str:
        """The text on the page."""
        return {True: "met", False: "**missed**", None: ""}[self.met]


def targets(
    results: dict[str, Result],
    rows: dict[Model, list[Row]],
    limits: dict[Model, dict[str, dict[str, Spread]]],
    overloads: Sequence[tuple[float, Result]],
    models: dict[Model, list[str]],
    overload: Model,
) -> list[Target]:
    """The targets of the project; the speed of `overload` is that of the open loop."""
    large, small = models
    found: list[Target] = []

    def add(
        what: str, measured: float, bound: float, unit: str, digits: int = 2, *, upper: bool = False
    ) -> None:
        target = f"{'at most' if upper else 'at least'} {bound:g}{unit}"
        if math.isnan(measured):  # no peer, or nothing was refused
            found.append(Target(what, target, "not measured", None))
            return
        met = measured <= bound if upper else measured >= bound
        found.append(Target(what, target, f"{measured:.{digits}f}{unit}", met))

    def own(model: Model) -> Row:
        return next(row for row in rows[model] if row.key == f"{OURS}:{models[model][0]}")

    def best(model: Model, connections: int) -> float:
        return max(
            (r.rate[connections].median for r in rows[model] if r.key.endswith(WITH_IR)),
            default=float("nan"),
        )

    for model, bounds in ((large, (1.5, 1, 1)), (small, (1.5, 1, 1))):
        for c, bound in zip(CONNECTIONS, bounds, strict=True):
            connections = "one connection" if c == 1 else f"{c} connections"
            add(
                f"{model.title.partition(',')[0]} int8, {connections}, against the best peer with "
                "the same IR",
                own(model).rate[c].median / best(model, c),
                bound,
                "x",
            )
    last = CONNECTIONS[-1]
    limit = limits[large][models[large][0]]["decode_and_forward"].median
    add(
        f"ResNet-50 int8, {last} connections, share of the limit without a server",
        100 * own(large).rate[last].median / limit,
        90,
        " %",
        0,
    )
    share, heaviest = overloads[-1]
    load = f"open loop at {share:.0%} of the capacity"
    answered = 100 * heaviest["requests_per_second"] / heaviest["peak"]
    add(f"{load}: answered, share of the peak", answered, 95, " %", 0)
    refusal_ms = heaviest["refusal_ms"].get("p50", float("nan"))
    add(f"{load}: refusals, median", refusal_ms, 5, " ms", 1, upper=True)
    add(
        f"{load}: slowest accepted request",
        heaviest["latency_ms"]["max"] / 1000,
        round(2 * QUEUE_SIZE / heaviest["requests_per_second"], 1),
        " s",
        2,
        upper=True,
    )
    stubborn = results[f"stubborn/{overload.name}"]
    add(
        f"{STUBBORN} clients that send again at once when refused: answered, share of the peak",
        100 * stubborn["requests_per_second"] / stubborn["peak"],
        80,
        " %",
        0,
    )
    memory = own(large).memory.median / MB
    add("memory of the whole service under load (PSS)", memory, 420, " MB", 0, upper=True)
    starts = [result for key, result in results.items() if key.startswith("start/")]
    start = "start to the first response, shipped models"
    add(start, Spread.of(r["first"] for r in starts).median, 4, " s", 1, upper=True)
    cached = Spread.of(r["cached"] for r in starts).median
    add(f"{start}, with a compiled cache", cached, 2, " s", 1, upper=True)
    for reference in list_bundles(small.repository):
        manifest = read_manifest(reference.path)
        artifact = candidates(manifest, AUTO, cuda=False)[0].artifact
        lost = 100 * (
            (accuracy(manifest, manifest.source) or 0) - (accuracy(manifest, artifact) or 0)
        )
        add(
            f"accuracy that `auto` gives up, {manifest.name}, {artifact.id}, "
            "recorded on all test images",
            lost,
            0.5,
            " points",
            upper=True,
        )
    return found
