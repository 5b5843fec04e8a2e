"""The gain of transferred weights over random ones, on the same few images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from scipy.stats import ttest_1samp

from bundle.format.manifest import Manifest, read_manifest
from bundle.format.repository import list_bundles
from training.config import TrainConfig
from training.data.dataset import DataSet
from training.reports.page import PAGE, plot_files, render
from training.reports.plots import transfer_plot
from training.reports.statistics import CONFIDENCE
from training.run import RUN_FILE, open_run

SCHEMA_VERSION = 2
# In the order of the tables.
COLUMNS = {"scratch": "from scratch", "probe": "linear probe", "transferred": "transferred"}
GAINS = {"gain": "Gain", "gain_over_probe": "Gain over the probe"}


@dataclass(frozen=True)
class Seeded:
    """The manifests of one seed: `transferred`, `scratch`, and what the transfer started from.

    That is `source`, a backbone that was trained, or `probe`, a linear probe on given weights.
    """

    seed: int
    manifests: dict[str, Manifest]


def finished_bundle(
    repository: Path, name: str, run: Path, config: TrainConfig, data: DataSet
) -> Path | None:
    """The bundle that the finished run in `run` wrote; None if there is none or it is not finished.

    Raises:
        ConfigError: the run had another configuration or other data.
    """
    found = [ref.path for ref in list_bundles(repository) if ref.name == name]
    if not found or not (run / RUN_FILE).exists():
        return None
    training = read_manifest(found[-1]).trained
    open_run(run, config, data, cast("dict[str, Any]", training.config["initial"]))
    return found[-1] if training.epochs == config.epochs else None


def results(trained: Sequence[Seeded]) -> dict[str, Any]:
    """The content of transfer.json, from the bundles of each seed.

    The interval of a gain is Student's t over the seeds, each with its own initial weights, its own
    backbone if one is trained, and its own training images if they are drawn. One seed, or equal
    gains, have no interval.
    """
    runs: list[dict[str, Any]] = [
        {
            "seed": seeded.seed,
            **{name: _accuracy(manifest) for name, manifest in seeded.manifests.items()},
        }
        for seeded in trained
    ]
    first = trained[0].manifests
    gains = {"gain": "scratch"} | ({"gain_over_probe": "probe"} if "probe" in first else {})
    for run in runs:
        for gain, other in gains.items():
            run[gain] = run["transferred"]["value"] - run[other]["value"]
    source = {"source": _data(first["source"])} if "source" in first else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "framework": first["transferred"].framework.name,
        "architecture": first["transferred"].architecture.name,
        **source,
        "target": _data(first["transferred"]),
        "configs": {
            name: {key: value for key, value in manifest.trained.config.items() if key != "history"}
            for name, manifest in first.items()
        },
        "runs": runs,
        "mean": {
            name: fmean(run[name]["value"] for run in runs) for name in first if name != "source"
        },
        **{name: _over_seeds([run[name] for run in runs]) for name in gains},
    }


def _over_seeds(gains: list[float]) -> dict[str, Any]:
    interval = None
    if len(set(gains)) > 1:
        low, high = ttest_1samp(gains, 0).confidence_interval(CONFIDENCE)
        interval = [float(low), float(high)]
    return {"mean": fmean(gains), "interval_95": interval, "seeds": len(gains)}


def markdown(record: dict[str, Any]) -> str:
    """The table of the seeds, for the documentation."""
    kinds = [kind for kind in COLUMNS if kind in record["mean"]]
    names = " | ".join(COLUMNS[kind] for kind in kinds)
    gains = [gain for gain in GAINS if gain in record]
    lines = [
        f"| seed | {names} | {' | '.join(f'{GAINS[gain].lower()}, points' for gain in gains)} |",
        f"|---{'|---:' * (len(kinds) + len(gains))}|",
    ]
    of_seeds = [
        (run["seed"], [run[kind]["value"] for kind in kinds], [run[gain] for gain in gains])
        for run in record["runs"]
    ]
    means = [record["mean"][kind] for kind in kinds], [record[gain]["mean"] for gain in gains]
    for name, accuracies, points in [*of_seeds, ("mean", *means)]:
        cells = [f"{value:.2%}" for value in accuracies] + [f"{gain * 100:+.2f}" for gain in points]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *gain_lines(record)]) + "\n"


def summary(record: dict[str, Any]) -> list[str]:
    """A line for each seed, and the gains."""
    kinds = [kind for kind in COLUMNS if kind in record["mean"]]
    return [
        *(
            f"seed {run['seed']}: "
            + ", ".join(f"{run[kind]['value']:.2%} {COLUMNS[kind]}" for kind in kinds)
            for run in record["runs"]
        ),
        *gain_lines(record),
    ]


def gain_lines(record: dict[str, Any]) -> list[str]:
    """The mean gains, each with its interval if there is one."""
    return [f"{name}: {_gain_text(record[gain])}" for gain, name in GAINS.items() if gain in record]


def _gain_text(gain: dict[str, Any]) -> str:
    mean, interval = f"{gain['mean'] * 100:+.2f} points", gain["interval_95"]
    if interval is None:
        return f"{mean} (seeds: {gain['seeds']}; no interval)"
    low, high = (end * 100 for end in interval)
    return f"{mean} (95 % interval {low:+.2f} to {high:+.2f}, {gain['seeds']} seeds)"


def report_files(record: dict[str, Any]) -> dict[str, str]:
    """The files of the report by path: the page, its record, its table and its plot."""
    kinds = {kind: name for kind, name in COLUMNS.items() if kind in record["mean"]}
    plots = {"transfer": transfer_plot(record["runs"], kinds)}
    return {
        **plot_files(plots),
        "transfer.json": json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False),
        "transfer.md": markdown(record),
        PAGE: render(
            "transfer.html",
            plots,
            record | {"gain_lines": gain_lines(record), "kinds": kinds, "gains": GAINS},
        ),
    }


def _accuracy(manifest: Manifest) -> dict[str, Any]:
    """The accuracy of the source artifact on the test split, the first metric of the manifest."""
    metric = manifest.metrics[0]
    return {
        "value": metric.value,
        "interval_95": list(metric.interval_95),
        "samples": metric.samples,
    }


def _data(manifest: Manifest) -> dict[str, Any]:
    training = manifest.trained
    return {
        "name": training.dataset,
        "classes": list(manifest.labels),
        "train_samples": training.train_samples,
        "validation_samples": training.validation_samples,
        "test_samples": training.test_samples,
    }
