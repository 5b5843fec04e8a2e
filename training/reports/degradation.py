"""The degradation experiment of He et al. 2016, Figure 6: plain and residual networks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.errors import ConfigError
from training.reports.page import PAGE, plot_files, render
from training.reports.plots import degradation_plot
from training.run import RUN_FILE, Run

NETWORKS = ("plain20", "plain56", "resnet20", "resnet56")
SCHEMA_VERSION = 1
# What may differ between the runs: the network, and what does not change results.
FREE = {"arch", "threads"}


def read_runs(folder: Path) -> dict[str, Run]:
    """The runs in the sub-folders of `folder` with at least one epoch, by sub-folder.

    Raises:
        ConfigError: there is none, or a record can't be read.
    """
    runs = {}
    for path in sorted(folder.glob(f"*/{RUN_FILE}")):
        try:
            run = Run(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as exc:
            raise ConfigError(f"The record of a run can't be read. {path}: {exc}") from exc
        if run.history:
            runs[path.parent.name] = run
    if not runs:
        raise ConfigError(
            f"There is no run with a whole epoch in {str(folder)!r}. Expected <run>/{RUN_FILE} in "
            "it; --data trains them."
        )
    return runs


def results(runs: dict[str, Run]) -> dict[str, Any]:
    """The content of degradation.json: curves and last errors of each network, plain ones first."""
    times = Counter(run.config["arch"] for run in runs.values())
    networks = []
    for folder, run in runs.items():
        arch = run.config["arch"]
        networks.append(_network(arch if times[arch] == 1 else folder, folder, run))
    networks.sort(key=lambda network: (network["residual"], network["depth"], network["name"]))
    first = next(iter(runs.values())).config
    differing = sorted(
        {
            key
            for run in runs.values()
            for key in {*first, *run.config}
            if run.config.get(key) != first.get(key)
        }
        - FREE
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": {key: value for key, value in first.items() if key not in {*FREE, *differing}},
        "differing": {
            key: {folder: run.config.get(key) for folder, run in runs.items()} for key in differing
        },
        "same_data": len({run.data for run in runs.values()}) == 1,
        "networks": networks,
        "deeper_minus_shallower": _depth_effects(networks),
    }


def markdown(record: dict[str, Any]) -> str:
    """The table of the last epoch, for the documentation."""
    lines = [
        "| network | epochs | training error | test error |",
        "|---|---:|---:|---:|",
        *(
            f"| {network['name']} | {network['epochs']} | {_cell(network['training_error'])} | "
            f"{_cell(network['test_error'])} |"
            for network in record["networks"]
        ),
    ]
    return "\n".join(lines) + "\n"


def report_files(record: dict[str, Any]) -> dict[str, str]:
    """The files of the report by path: the page, its record, its table and its plot."""
    plots = {"degradation": degradation_plot(record["networks"])}
    return {
        **plot_files(plots),
        "degradation.json": json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False),
        "degradation.md": markdown(record),
        PAGE: render("degradation.html", plots, record),
    }


def _network(name: str, folder: str, run: Run) -> dict[str, Any]:
    arch = run.config["arch"]
    history = [
        {
            "epoch": number,
            "training_error": 1 - epoch["train_accuracy"],
            "test_error": 1 - epoch["test_accuracy"] if "test_accuracy" in epoch else None,
            "validation_error": 1 - epoch["validation_accuracy"],
        }
        for number, epoch in enumerate(run.history, start=1)
    ]
    return {
        "name": name,
        "folder": folder,
        "architecture": arch,
        "residual": arch.startswith("resnet"),
        "depth": int(arch.removeprefix("resnet").removeprefix("plain")),
        "epochs": len(history),
        "epochs_planned": run.config["epochs"],
        "seconds": run.seconds,
        # The last epoch, not the best: choosing by the test error would fit the test images.
        **{key: history[-1][key] for key in ("training_error", "test_error", "validation_error")},
        "history": history,
    }


def _depth_effects(networks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last errors of the deepest network minus those of the shallowest, per family."""
    effects = []
    for residual in (False, True):
        family = [network for network in networks if network["residual"] == residual]
        if len({network["depth"] for network in family}) < 2:
            continue
        shallow, deep = family[0], family[-1]
        effects.append(
            {
                "residual": residual,
                "shallow": shallow["name"],
                "deep": deep["name"],
                **{
                    key: _minus(deep[key], shallow[key]) for key in ("training_error", "test_error")
                },
            }
        )
    return effects


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _cell(share: float | None) -> str:
    return "not recorded" if share is None else f"{share:.2%}"
