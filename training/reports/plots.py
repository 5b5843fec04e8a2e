"""Plots of the reports as SVG: text stays text, lines have the text colour of the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

# Okabe and Ito 2008: distinguishable with colour blindness, visible on both white and black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK = "#010203"  # placeholder for the text colour of the page
WIDTH = 8.6  # inches
MAX_NUMBERED_CLASSES = 20  # of a confusion matrix; with more, cells are too small for numbers
MAX_NAMED_CLASSES = 40  # with more, rows are too narrow for names
MAX_NAME = 28  # characters

# Any: the stubs of matplotlib type the keys as one large literal.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be named with dollar signs
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        INK,
    ),
}
HEAT = LinearSegmentedColormap.from_list("heat", [(*to_rgb(COLOURS[0]), alpha) for alpha in (0, 1)])

Painter = Callable[[Figure], None]


def accuracy_plot(models: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy of each model with its 95 % interval; `models`: as in compare.json."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, (model, colour) in enumerate(zip(models, cycle(COLOURS), strict=False)):
            low, high = model["accuracy"]["interval_95"]
            axes.plot([low, high], [row, row], color=colour, linewidth=2)
            axes.plot(model["accuracy"]["value"], row, "o", color=colour)
        axes.set_yticks(range(len(models)), [_short(model["id"]) for model in models])
        axes.set_ylim(len(models) - 0.5, -0.5)
        axes.set_xlabel("accuracy on the test images, with its 95 % interval")
        axes.xaxis.set_major_formatter(PercentFormatter(1))

    return _draw("accuracy", 0.9 + 0.32 * len(models), paint)


def curves_plot(models: Sequence[Mapping[str, Any]]) -> str | None:
    """Loss and accuracy per epoch of the models with a recorded history; None without any."""
    if not any(model["training"]["history"] for model in models):
        return None

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for model, colour in zip(models, cycle(COLOURS), strict=False):
            history = model["training"]["history"]
            if not history:
                continue
            left.plot(*_series(history, "loss"), color=colour)
            right.plot(
                *_series(history, "train_accuracy"), color=colour, linestyle="--", linewidth=1
            )
            right.plot(
                *_series(history, "validation_accuracy"),
                color=colour,
                label=_short(model["id"], 60),
            )
        left.set_title("training loss")
        right.set_title("accuracy: training (dashed), validation (solid)")
        right.yaxis.set_major_formatter(PercentFormatter(1))
        for axes in (left, right):
            _epochs(axes)
        figure.legend(loc="outside lower left", ncols=1)

    return _draw("learning-curves", 3.2 + 0.22 * len(models), paint)


def confusion_plot(name: str, model: Mapping[str, Any]) -> str:
    """Confusion matrix: the colour is the share of the true class, the number counts images."""
    counts = np.array(model["confusion_matrix"])
    labels = [_short(row["label"], 18) for row in model["per_class"]]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        # Cells as shapes stay sharp; a thousand classes would be a million shapes: rasterise them.
        few = len(labels) <= MAX_NAMED_CLASSES
        axes.pcolormesh(shares, cmap=HEAT, vmin=0, vmax=1, rasterized=not few)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.grid(visible=False)
        if few:
            centres = np.arange(len(labels)) + 0.5
            axes.set_xticks(centres, labels, rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(centres, labels)
        if len(labels) <= MAX_NUMBERED_CLASSES:
            for (row, column), count in np.ndenumerate(counts):
                colour = "#ffffff" if shares[row, column] > 0.5 else INK
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{count}",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=8,
                )
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")

    return _draw(name, 5.2 if len(labels) > 5 else 3.6, paint, width=5.6)


def reliability_plot(name: str, model: Mapping[str, Any]) -> str:
    """Reliability diagram (Guo et al. 2017): accuracy over confidence, as served and with T = 1."""
    calibration = model["calibration"]
    variants = (
        (
            f"as served, T = {calibration['temperature']:.2f}",
            calibration["served"],
            COLOURS[0],
            "-",
        ),
        ("T = 1", calibration["unscaled"], COLOURS[1], "--"),
    )

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":", label="perfect")
        for title, measured, colour, line in variants:
            bins = [row for row in measured["bins"] if row["samples"]]
            error = measured["expected_calibration_error"]
            upper.plot(
                [row["confidence"] for row in bins],
                [row["accuracy"] for row in bins],
                color=colour,
                linestyle=line,
                marker="o",
                markersize=4,
                label=f"{title}: error {error:.4f}",
            )
            edges = [row["low"] for row in measured["bins"]] + [1.0]
            lower.stairs(
                [row["samples"] for row in measured["bins"]], edges, color=colour, linestyle=line
            )
        for axes in (upper, lower):
            axes.set_xlim(0, 1.01)
        upper.set_ylim(-0.02, 1.02)  # points at the ends stay whole
        upper.set_ylabel("accuracy")
        figure.legend(loc="outside upper center", ncols=1)
        lower.set_ylabel("images")
        lower.set_xlabel("confidence")

    return _draw(name, 5.2, paint, width=5.0)


def degradation_plot(networks: Sequence[Mapping[str, Any]]) -> str:
    """Training error (dashed) and test error (bold) per epoch, as Figure 6 of He et al. 2016."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        highest = 0.0
        for network, colour in zip(networks, cycle(COLOURS), strict=False):
            for key, style in (
                ("training_error", {"linestyle": "--", "linewidth": 1}),
                ("test_error", {"linewidth": 2.2, "label": network["name"]}),
            ):
                epochs, values = _series(network["history"], key)
                axes.plot(epochs, values, color=colour, **style)
                highest = max(highest, np.nanmax(values[len(values) // 10 :], initial=0.0))
        axes.set_ylabel("error: training (dashed), test (bold)")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        # The first tenth of the epochs, near chance, would flatten the rest.
        axes.set_ylim(0, min(1.0, highest * 1.08) or 1.0)
        _epochs(axes)
        figure.legend(loc="outside upper center", ncols=min(4, len(networks)))

    return _draw("degradation", 4.4, paint)


def transfer_plot(runs: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> str:
    """The accuracy of each kind, named as in `kinds`, with its 95 % interval, one line per seed."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (run, colour) in enumerate(zip(runs, cycle(COLOURS), strict=False)):
            shift = 0.03 * (place - (len(runs) - 1) / 2)  # so that equal accuracies do not overlap
            found = [run[kind] for kind in kinds]
            places = [column + shift for column in range(len(kinds))]
            values = [accuracy["value"] for accuracy in found]
            axes.plot(places, values, "o-", color=colour, linewidth=1, label=f"seed {run['seed']}")
            for x, accuracy in zip(places, found, strict=True):
                axes.plot([x, x], accuracy["interval_95"], color=colour, linewidth=2)
        axes.set_xticks(range(len(kinds)), list(kinds.values()))
        axes.set_xlim(-0.4, len(kinds) - 0.6)
        axes.set_ylabel("accuracy on the test images")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(loc="outside upper center", ncols=min(4, len(runs)))

    return _draw("transfer", 4.0, paint, width=5.6)


def standalone(svg: str) -> str:
    """The plot as a separate file: dark on white."""
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg.replace(
        "<svg ", '<svg style="color:#1f2328;background:#ffffff" ', 1
    )


def _draw(name: str, height: float, paint: Painter, width: float = WIDTH) -> str:
    """The SVG element drawn by `paint`; its ids are unique to `name`."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Browsers have glyphs that matplotlib's font lacks; here they only affect the layout.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure((width, height), layout="constrained")
        paint(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        file = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    used = set(re.findall(r"#([\w-]+)", svg))
    # Matplotlib numbers the parts of all plots alike; on one page the ids would not be unique.
    return re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", svg)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[range, list[float]]:
    """Epochs from 1 and the values of `key`; NaN, which is not drawn, for a missing value."""
    values = [epoch.get(key) for epoch in history]
    return range(1, len(values) + 1), [
        np.nan if value is None else float(value) for value in values
    ]


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _short(name: str, limit: int = MAX_NAME) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
