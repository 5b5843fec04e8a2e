"""The targets of the project, each with the measured value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.models import Model
from benchmarks.ours import QUEUE_SIZE
from benchmarks.rows import Row, Spread
from benchmarks.suite import CONNECTIONS, OURS, Result, capacity
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

    def own(model: Model, artifact: str) -> Row:
        return next(row for row in rows[model] if row.key == f"{OURS}:{artifact}")

    def best(model: Model, connections: int) -> float:
        return max(
            (r.rate[connections].median for r in rows[model] if not r.ours), default=float("nan")
        )

    fastest = own(large, models[large][0])
    limit = limits[large][models[large][0]]["decode_and_forward"].median
    for c in CONNECTIONS[1:]:
        add(
            f"ResNet-50, {c} connections, against the best peer",
            fastest.rate[c].median / best(large, c),
            3.5,
            "x",
        )
    for c in CONNECTIONS[1:]:
        add(
            f"ResNet-50, {c} connections, share of the limit without a server",
            100 * fastest.rate[c].median / limit,
            90,
            " %",
            0,
        )
    lowest = min((r.p50[1].median for r in rows[large] if not r.ours), default=float("nan"))
    add(
        "ResNet-50, one connection, median latency against the best peer",
        fastest.p50[1].median / lowest,
        0.4,
        "x",
        upper=True,
    )
    for c in CONNECTIONS[1:]:
        add(
            f"ResNet-50 in fp32, {c} connections, against the best peer",
            own(large, "openvino-fp32").rate[c].median / best(large, c),
            1.15,
            "x",
        )
    few = own(small, models[small][0])
    last = CONNECTIONS[-1]
    add(
        f"ResNet-20, {last} connections, against the best peer",
        few.rate[last].median / best(small, last),
        2,
        "x",
    )

    share, heaviest = overloads[-1]
    peak = capacity(results, overload, f"{OURS}:{models[overload][0]}")
    load = f"open loop at {share:.0%} of the capacity"
    add(
        f"{load}: throughput, share of the peak",
        100 * heaviest["requests_per_second"] / peak,
        95,
        " %",
        0,
    )
    add(
        f"{load}: refusals, median",
        heaviest["refusal_ms"].get("p50", float("nan")),
        20,
        " ms",
        1,
        upper=True,
    )
    queued = 2 * QUEUE_SIZE  # images that wait for a decoder, and for the model
    add(
        f"{load}: slowest accepted request",
        heaviest["latency_ms"]["max"] / 1000,
        round(queued / heaviest["requests_per_second"], 1),
        " s",
        2,
        upper=True,
    )

    add(
        "ResNet-50, memory of the whole service under load (PSS)",
        fastest.memory.median / MB,
        600,
        " MB",
        0,
        upper=True,
    )
    add(
        "start of the service to its first response, shipped models",
        few.start.median,
        4,
        " s",
        1,
        upper=True,
    )
    add("the same, ResNet-50", fastest.start.median, 6, " s", 1, upper=True)
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
