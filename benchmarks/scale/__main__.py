"""What a load costs, and a simulated day: the tables and the plot of docs/scale.md.

.venv/bin/python -m benchmarks.scale            # prints them; minutes, for seven days
.venv/bin/python -m benchmarks.scale --write    # puts them into the page and docs/images
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Annotated

import matplotlib as mpl
import typer
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.rows import lines
from benchmarks.scale.costs import ASSUMED, HOURS, RATES, ROOT, Size, assumed, measured
from benchmarks.scale.day import Day, Plan, Simulation

PAGE, PLOT = ROOT / "docs/scale.md", ROOT / "docs/images/scale.svg"
CHART = Plan()
CHECKED = dataclasses.replace(CHART, noticed_s=4.0)
REPLACED = dataclasses.replace(CHECKED, replaced_s=80.0)
PLANS = {
    "the chart as it is": CHART,
    "with one pod on the node that is lost": dataclasses.replace(CHART, lost=1),
    "the queue as a second target (8 images)": dataclasses.replace(CHART, queue_target=8.0),
    "a proxy that asks `/readyz` every 2 s, twice": CHECKED,
    "that, and lost pods replaced after 30 s": REPLACED,
    "both, and the queue as a second target": dataclasses.replace(REPLACED, queue_target=8.0),
    "the last, and 50 % as the target of the CPU": dataclasses.replace(
        REPLACED, queue_target=8.0, target=0.5
    ),
}
SHOWN = ("the chart as it is", "both, and the queue as a second target")


def shown(value: float) -> str:
    """A number with two digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def assumptions() -> str:
    """Everything that was not measured."""
    return lines(
        ["what", "value", "from"],
        [[each.what, f"{each.value:g}", each.source] for each in ASSUMED.values()],
    )


def models() -> str:
    """What was measured, and what follows for a pod."""
    head = ["", "requests/s of a core", "most of one web process", "cores of a pod"]
    return lines(
        head,
        [
            [m.name, f"{m.per_core:,.0f}", f"{1000 / m.web_ms:,.0f}", str(m.pod_cores)]
            for m in measured()
        ],
    )


def sizes() -> str:
    """Machines, money and energy."""
    head = ["", "requests/s", "cores", "machines", "pods", "$ a month", "$ per million", "kW"]
    head += ["kWh per million"]
    return lines(
        head,
        [
            [
                s.model.name,
                f"{s.rate:,}",
                shown(s.cores),
                f"{s.machines:,} of {s.machine}",
                f"{s.pods:,}",
                f"{s.dollars:,.0f}",
                shown(s.dollars / s.millions),
                shown(s.kilowatts),
                shown(s.kilowatts * HOURS / s.millions),
            ]
            for s in every_size()
        ],
    )


def every_size() -> list[Size]:
    """Each network at each rate."""
    return [Size(model, rate) for model in measured() for rate in RATES]


def bottlenecks() -> str:
    """The share of each resource that is used at the peak, and what all requests pass."""
    head = ["", "requests/s", *every_size()[0].used(), "first limit", "Gbit/s in"]
    head += ["Gbit/s of small photos", "cores of proxies", "log, MB/s"]
    rows = []
    for s in every_size():
        used = s.used()
        small = s.gigabits * assumed("small") / assumed("request")
        shares = [f"{100 * value:.0f} %" for value in used.values()]
        first = max(used, key=lambda name: used[name])
        totals = (s.gigabits, small, s.proxy_cores, s.rate * assumed("log") / 1e6)
        rows.append([s.model.name, f"{s.rate:,}", *shares, first, *map(shown, totals)])
    return lines(head, rows)


def days(found: dict[str, Day]) -> str:
    """What happened in each simulated day."""
    head = ["", "requests", "refused (429)", "first try failed", "failed after one retry"]
    head += ["slower than 0.5 s", "pod hours", "most pods"]
    return lines(
        head,
        [
            [
                name,
                *(f"{n:,}" for n in (d.requests, d.refused, d.failed_once, d.failed, d.slow)),
                *(f"{d.pod_hours:.0f}", str(d.most_pods)),
            ]
            for name, d in found.items()
        ],
    )


def plot(found: dict[str, Day]) -> Figure:
    """Rate, pods and the 99th percentile over the day, for the plans of `SHOWN`."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "scale"  # equal ids, so that the file is equal
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(3, 2, sharex="col", sharey="row", width_ratios=(3, 2))
    for day_or_loss in axes.T:
        rate, pods, latency = day_or_loss
        rate.plot(found[SHOWN[0]].times, found[SHOWN[0]].rates, color="#444444")
        for name, colour in zip(SHOWN, ("#c44e52", "#4c72b0"), strict=True):
            day = found[name]
            pods.step(day.times, day.pods, where="post", color=colour, label=name)
            latency.plot(day.times, day.p99, color=colour, linewidth=1)
        latency.set_yscale("log")
    for row, label in zip(axes, ("requests/s", "pods that serve", "99 % within, ms"), strict=True):
        row[0].set_ylabel(label)
    for each in axes.flat:
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylim(bottom=0)
    axes[1, 0].set_ylim(bottom=0)
    axes[1, 0].legend(loc="upper left", frameon=False, fontsize=8)
    axes[2, 0].set_xticks(range(0, 25, 4))
    axes[2, 0].set_xlabel("hour of the day")
    axes[2, 1].set_xlim(19.9, 20.4)
    axes[2, 1].set_xlabel("the same around the loss of a node at 20 h")
    return figure


def tables(found: dict[str, Day]) -> Iterator[tuple[str, str]]:
    """The tables of the page by their name; without that of the days if there are none."""
    yield "assumptions", assumptions()
    yield "models", models()
    yield "sizes", sizes()
    yield "bottlenecks", bottlenecks()
    if found:
        yield "days", days(found)


def main(
    write: Annotated[bool, typer.Option("--write", help="Write the page and the plot.")] = False,
) -> None:
    """Compute the tables of docs/scale.md."""
    found = {name: Simulation(plan).run() for name, plan in PLANS.items()}
    page = PAGE.read_text()
    for name, table in tables(found):
        Console(width=240).print(f"{name}\n{table}\n", markup=False, highlight=False)
        mark = rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)"
        page = re.sub(mark, rf"\g<1>{table}\g<2>", page, flags=re.DOTALL)
    if write:
        PAGE.write_text(page)
        plot(found).savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    typer.run(main)
