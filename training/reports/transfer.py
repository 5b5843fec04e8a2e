"""The gain of a transferred backbone over random weights, on the same few images."""

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

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Seeded:
    """The manifests of one seed: `source` (the backbone), `transferred` from it, and `scratch`."""

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

    The interval of the gain is Student's t over the seeds, each with its own backbone, initial
    weights and, if their number is limited, training images. One seed, or equal gains, have no
    interval.
    """
    runs: list[dict[str, Any]] = [
        {
            "seed": seeded.seed,
            **{name: _accuracy(manifest) for name, manifest in seeded.manifests.items()},
        }
        for seeded in trained
    ]
    for run in runs:
        run["gain"] = run["transferred"]["value"] - run["scratch"]["value"]
    gains = [run["gain"] for run in runs]
    interval = None
    if len(set(gains)) > 1:
        low, high = ttest_1samp(gains, 0).confidence_interval(CONFIDENCE)
        interval = [float(low), float(high)]
    first = trained[0].manifests
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "framework": first["source"].framework.name,
        "architecture": first["source"].architecture.name,
        "source": _data(first["source"]),
        "target": _data(first["transferred"]),
        "configs": {
            name: {key: value for key, value in manifest.trained.config.items() if key != "history"}
            for name, manifest in first.items()
        },
        "runs": runs,
        "mean": {
            name: fmean(run[name]["value"] for run in runs) for name in ("transferred", "scratch")
        },
        "gain": {"mean": fmean(gains), "interval_95": interval, "seeds": len(runs)},
    }


def markdown(record: dict[str, Any]) -> str:
    """The table of the seeds, for the documentation."""
    mean, gain = record["mean"], record["gain"]["mean"] * 100
    lines = [
        "| seed | from scratch | transferred | gain, points |",
        "|---|---:|---:|---:|",
        *(
            f"| {run['seed']} | {run['scratch']['value']:.2%} | "
            f"{run['transferred']['value']:.2%} | {run['gain'] * 100:+.2f} |"
            for run in record["runs"]
        ),
        f"| mean | {mean['scratch']:.2%} | {mean['transferred']:.2%} | {gain:+.2f} |",
        "",
        f"Gain: {gain_text(record)}",
    ]
    return "\n".join(lines) + "\n"


def gain_text(record: dict[str, Any]) -> str:
    """The mean gain, with its interval if there is one."""
    mean, interval = f"{record['gain']['mean'] * 100:+.2f} points", record["gain"]["interval_95"]
    if interval is None:
        return f"{mean} (seeds: {record['gain']['seeds']}; no interval)"
    low, high = (end * 100 for end in interval)
    return f"{mean} (95 % interval {low:+.2f} to {high:+.2f}, {record['gain']['seeds']} seeds)"


def report_files(record: dict[str, Any]) -> dict[str, str]:
    """The files of the report by path: the page, its record, its table and its plot."""
    plots = {"transfer": transfer_plot(record["runs"])}
    return {
        **plot_files(plots),
        "transfer.json": json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False),
        "transfer.md": markdown(record),
        PAGE: render("transfer.html", plots, record | {"gain_text": gain_text(record)}),
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
