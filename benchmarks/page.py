"""benchmarks/RESULTS.md and its plot, from the measurements."""

from __future__ import annotations

import datetime
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.models import Model
from benchmarks.peers.registry import PEERS
from benchmarks.suite import CONNECTIONS, OURS, RATES, Result, capacity
from bundle.format.manifest import read_manifest
from bundle.format.repository import list_bundles
from bundle.worker.selection import AUTO, accuracy, candidates
from service.settings import Settings

FOLDER = Path(__file__).resolve().parent
PAGE, PLOT = FOLDER / "RESULTS.md", FOLDER / "results.svg"
MB = 1_000_000
OURS_COLOUR, PEER_COLOUR = "#2a78d6", "#b8b6af"


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, and what they lie between."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))

    def __format__(self, spec: str) -> str:
        """`12.3 (11.9 to 12.5)`, or the median alone if the rounds do not differ."""
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
    generator: Spread  # share of one core that the load generator took at most

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.key.startswith(OURS)


@dataclass(frozen=True)
class Target:
    """One promise."""

    what: str
    target: str
    measured: str
    met: bool | None  # None: not measured

    @property
    def verdict(self) -> str:
        """As the page has it."""
        return {True: "met", False: "**missed**", None: ""}[self.met]


def write(
    settings: dict[str, Any],
    results: dict[str, Result],
    models: dict[Model, list[str]],
    overload: Model,
) -> None:
    """Write the page and the plot."""
    rows = {model: table(results, model) for model in models}
    limits = {model: limit_table(results, model) for model in models}
    overloads = [(share, results[f"open/{overload.name}/{share:g}"]) for share in RATES]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True,  # noqa: S701 - Markdown
        lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("page.md.jinja").render(
        settings=settings,
        today=datetime.datetime.now(datetime.UTC).date(),
        targets=targets(results, rows, limits, overloads, models, overload),
        rows=rows,
        limits=limits,
        overloads=overloads,
        overload=overload,
        capacity=capacity(results, overload, f"{OURS}:{models[overload][0]}"),
        peers=[PEERS[name] for name in settings["peers"]],
        connections=CONNECTIONS,
        plot=PLOT.name,
        MB=MB,
    )
    PAGE.write_text(text)
    draw(rows, limits, overloads, models)


def table(results: dict[str, Result], model: Model) -> list[Row]:
    """The servers of a model, ours first, then the fastest first."""
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

    return Row(
        key,
        rounds[0]["title"],
        {c: Spread.of(load["requests_per_second"] for load in loads(c)) for c in CONNECTIONS},
        latency("p50"),
        latency("p99"),
        Spread.of(result["memory_bytes"] for result in rounds),
        Spread.of(result["start_s"] for result in rounds),
        Spread.of(max(load["cpu_seconds"] / load["seconds"] for load in result["loads"].values()) for result in rounds),
    )  # fmt: skip


def limit_table(results: dict[str, Result], model: Model) -> dict[str, dict[str, Spread]]:
    """Images per second by artifact: the forward pass, and decoding with it."""
    found = {}
    for artifact in model.manifest.artifacts:
        rounds = [
            r for key, r in results.items() if key.startswith(f"limit/{model.name}/{artifact.id}/")
        ]
        if all(rounds):
            found[artifact.id] = {name: Spread.of(r[name] for r in rounds) for name in rounds[0]}
    return found


def targets(
    results: dict[str, Result],
    rows: dict[Model, list[Row]],
    limits: dict[Model, dict[str, dict[str, Spread]]],
    overloads: Sequence[tuple[float, Result]],
    models: dict[Model, list[str]],
    overload: Model,
) -> list[Target]:
    """The promises of the project, each with what was measured."""
    large, small = models
    found: list[Target] = []

    def add(
        what: str, measured: float, bound: float, unit: str, digits: int = 2, *, most: bool = False
    ) -> None:
        target = f"{'at most' if most else 'at least'} {bound:g}{unit}"
        if math.isnan(measured):  # there was no peer, or nothing was refused
            found.append(Target(what, target, "not measured", None))
            return
        met = measured <= bound if most else measured >= bound
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
        most=True,
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
        most=True,
    )
    queues = (
        2 * Settings.model_fields["queue_size"].default
    )  # images that wait for a decoder, and for the model
    add(
        f"{load}: slowest accepted request",
        heaviest["latency_ms"]["max"] / 1000,
        round(queues / heaviest["requests_per_second"], 1),
        " s",
        2,
        most=True,
    )

    add(
        "ResNet-50, memory of the whole service under load (PSS)",
        fastest.memory.median / MB,
        600,
        " MB",
        0,
        most=True,
    )
    add(
        "start of the service to its first answer, shipped models",
        few.start.median,
        4,
        " s",
        1,
        most=True,
    )
    add("the same, ResNet-50", fastest.start.median, 6, " s", 1, most=True)
    for reference in list_bundles(small.repository):
        manifest = read_manifest(reference.path)
        artifact = candidates(manifest, AUTO, cuda=False)[0].artifact
        lost = 100 * (
            (accuracy(manifest, manifest.source) or 0) - (accuracy(manifest, artifact) or 0)
        )
        add(
            f"accuracy that `auto` gives up, {manifest.name}, {artifact.id}, recorded on all test images",
            lost,
            0.5,
            " points",
            most=True,
        )
    return found


def draw(
    rows: dict[Model, list[Row]],
    limits: dict[Model, dict[str, dict[str, Spread]]],
    overloads: Sequence[tuple[float, Result]],
    models: dict[Model, list[str]],
) -> None:
    """One bar chart for each model, and the open loop."""
    mpl.use("svg")
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    *bars, line = figure.subplots(1, len(rows) + 1)
    last = CONNECTIONS[-1]
    for axes, (model, found) in zip(bars, rows.items(), strict=True):
        found = found[::-1]
        values = [row.rate[last] for row in found]
        errors = [[v.median - v.low for v in values], [v.high - v.median for v in values]]
        colours = [OURS_COLOUR if row.ours else PEER_COLOUR for row in found]
        axes.barh(
            [row.title for row in found], [v.median for v in values], xerr=errors, color=colours
        )
        limit = limits[model][models[model][0]]["decode_and_forward"].median
        axes.axvline(limit, color="#52514e", linestyle="--", linewidth=1)
        axes.annotate(
            "limit",
            (limit, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            size=8,
        )
        axes.set_xlabel(f"requests/s, {last} connections")
        axes.set_title(model.title, size=10, pad=14)
    offered = [result["rate"] for _, result in overloads]
    line.plot(
        offered,
        [result["requests_per_second"] for _, result in overloads],
        marker="o",
        color=OURS_COLOUR,
    )
    line.plot(offered, offered, color=PEER_COLOUR, linestyle="--", linewidth=1)
    line.set_ylim(0, 1.3 * max(result["requests_per_second"] for _, result in overloads))
    line.set_xlabel("requests/s that arrive")
    line.set_ylabel("answered")
    line.set_title("overload", size=10, pad=14)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PLOT, metadata={"Date": None})
