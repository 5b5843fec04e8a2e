"""benchmarks/RESULTS.md and its plot, written from the measurements."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.models import Model
from benchmarks.peers.registry import PEERS
from benchmarks.rows import Row, Spread, limit_table, table
from benchmarks.suite import CONNECTIONS, RATES, STUBBORN, Result
from benchmarks.targets import MB, targets

FOLDER = Path(__file__).resolve().parent
PAGE, PLOT = "RESULTS.md", "results.svg"
OURS_COLOUR, PEER_COLOUR = "#2a78d6", "#b8b6af"


def write(
    settings: dict[str, Any],
    results: dict[str, Result],
    models: dict[Model, list[str]],
    overload: Model,
    folder: Path = FOLDER,
) -> Path:
    """Write the page and the plot to `folder`; returns the path of the page."""
    rows = {model: table(results, model) for model in models}
    limits = {model: limit_table(results, model) for model in models}
    overloads = [(share, results[f"open/{overload.name}/{share:g}"]) for share in RATES]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.md.jinja").render(
        settings=settings,
        today=datetime.datetime.now(datetime.UTC).date(),
        targets=targets(results, rows, limits, overloads, models, overload),
        rows=rows,
        limits=limits,
        overloads=overloads,
        overload=overload,
        stubborn=results[f"stubborn/{overload.name}"],
        neighbours=_neighbours(results),
        clients=STUBBORN,
        peers=[PEERS[name] for name in settings["peers"]],
        connections=CONNECTIONS,
        plot=PLOT,
        MB=MB,
    )
    (folder / PAGE).write_text(text)
    draw(rows, limits, overloads, models, folder / PLOT)
    return folder / PAGE


def _neighbours(results: dict[str, Result]) -> dict[str, Spread]:
    """Requests/s beside a busy process, by the title of the server."""
    found: dict[str, list[float]] = {}
    for key, result in results.items():
        if key.startswith("neighbour/"):
            found.setdefault(result["title"], []).append(result["requests_per_second"])
    return {title: Spread.of(rates) for title, rates in found.items()}


def draw(
    rows: dict[Model, list[Row]],
    limits: dict[Model, dict[str, dict[str, Spread]]],
    overloads: Sequence[tuple[float, Result]],
    models: dict[Model, list[str]],
    file: Path,
) -> None:
    """One bar chart per model, and the open loop."""
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
    line.set_xlabel("requests/s offered")
    line.set_ylabel("requests/s completed")
    line.set_title("overload", size=10, pad=14)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
