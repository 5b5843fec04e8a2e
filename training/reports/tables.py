"""The tables of the comparison, for compare.json and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from bundle.evaluation.calibration import reliability
from bundle.format.manifest import Manifest, Training
from bundle.scores import calibrated_softmax
from training.reports.heldout import HeldOut
from training.reports.measure import Candidate, Measured, Running
from training.reports.statistics import accuracy, agreement, paired_difference, per_class


def tables(measured: Sequence[Measured], test: HeldOut) -> dict[str, Any]:
    """`models` (best accuracy first), `agreement` and `differences` of the measured models."""
    names = _ids([model.candidate for model in measured])
    rows = [
        (_model(name, model, test), model.source.logits.argmax(1))
        for name, model in zip(names, measured, strict=True)
    ]
    rows.sort(key=lambda row: (-row[0]["accuracy"]["value"], row[0]["id"]))
    return {
        "models": [row for row, _ in rows],
        "agreement": {
            "ids": [row["id"] for row, _ in rows],
            **agreement([predicted for _, predicted in rows]),
        },
        "differences": [
            {
                "first": first["id"],
                "second": second["id"],
                **paired_difference(predicted == test.labels, other == test.labels),
            }
            for (first, predicted), (second, other) in combinations(rows, 2)
        ],
    }


def _ids(candidates: Sequence[Candidate]) -> list[str]:
    """`<name>/<version>`, or the path of the bundle if two repositories have the same."""
    names = [f"{each.manifest.name}/{each.manifest.version}" for each in candidates]
    times = Counter(names)
    return [
        name if times[name] == 1 else str(each.path)
        for name, each in zip(names, candidates, strict=True)
    ]


def _model(name: str, model: Measured, test: HeldOut) -> dict[str, Any]:
    manifest, source = model.candidate.manifest, model.source
    temperature = manifest.calibration.temperature
    return {
        "id": name,
        "name": manifest.name,
        "version": manifest.version,
        "path": str(model.candidate.path),
        "framework": manifest.framework.name,
        "architecture": manifest.architecture.name,
        "input": [manifest.input.height, manifest.input.width],
        "parameters": manifest.architecture.parameters,
        "artifact_bytes": _artifact_bytes(manifest),
        "bundle_bytes": sum(file.size for file in manifest.files.values()),
        "accuracy": accuracy(source.logits.argmax(1) == test.labels),
        **per_class(source.logits.argmax(1), test.labels, test.classes),
        "calibration": {
            "temperature": temperature,
            "served": reliability(calibrated_softmax(source.logits, temperature), test.labels),
            "unscaled": reliability(calibrated_softmax(source.logits, 1.0), test.labels),
        },
        "training": _training(manifest.training),
        "runtimes": [
            _runtime(running, test) for running in model.running if running.latency is not None
        ],
    }


def _artifact_bytes(manifest: Manifest) -> int:
    path = manifest.source.path
    return sum(
        file.size
        for name, file in manifest.files.items()
        if name == path or name.startswith(f"{path}/")
    )


def _training(training: Training | None) -> dict[str, Any]:
    if training is None:  # the model was imported
        unknown = ("dataset", "train_samples", "epochs", "seconds", "images_per_second", "hardware")
        return {**dict.fromkeys(unknown), "history": []}
    seen = training.train_samples * training.epochs
    return {
        "dataset": training.dataset,
        "train_samples": training.train_samples,
        "epochs": training.epochs,
        "seconds": training.seconds,
        "images_per_second": seen / training.seconds if seen and training.seconds else None,
        "hardware": training.hardware,
        "history": _history(training),
    }


def _history(training: Training) -> list[dict[str, float]]:
    """The figures of each epoch; empty if the record has no such list."""
    history = training.config.get("history")
    if not isinstance(history, list):
        return []
    return [
        {name: float(value) for name, value in epoch.items() if isinstance(value, int | float)}
        for epoch in history
        if isinstance(epoch, dict)
    ]


def _runtime(running: Running, test: HeldOut) -> dict[str, Any]:
    info = running.info
    return {
        "artifact": info["artifact_id"],
        "runtime": info["runtime"],
        "runtime_version": info["runtime_version"],
        "precision": info["precision"],
        "device": info["device"],
        "accuracy": accuracy(running.logits.argmax(1) == test.labels),
        "latency": running.latency,
    }
