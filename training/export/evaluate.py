"""Accuracy and calibration of a bundle's artifact, in the runtime that serves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bundle.acceleration.accuracy import accuracy_metric
from bundle.batches import in_batches
from bundle.worker.blocking import RuntimeProcess
from training.data.dataset import Split
from training.export.calibration import calibrate

LOAD_TIMEOUT_S = 300.0
BATCH_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Evaluation:
    """The logits of a bundle's artifact on the test split, with its accuracy and calibration."""

    test_logits: NDArray[np.float32]  # [N, C]
    metrics: list[dict[str, Any]]  # as in the manifest
    calibration: dict[str, Any]  # as in the manifest
    uncalibrated: str | None  # why the scores are not calibrated; None: they are


def evaluate(directory: Path, validation: Split, test: Split) -> Evaluation:
    """Measure the source artifact of the bundle in `directory`.

    Raises:
        BundleError: the bundle does not load.
    """
    with RuntimeProcess(directory) as runtime:
        info = runtime.start(LOAD_TIMEOUT_S)
        validation_logits = _logits(
            runtime, validation.pixels, "Calibrating on the validation split"
        )
        test_logits = _logits(runtime, test.pixels, "Measuring on the test split")
    calibration, uncalibrated = calibrate(
        (validation_logits, validation.labels), (test_logits, test.labels)
    )
    metric = accuracy_metric(test_logits, test.labels, info["runtime"], info["precision"])
    return Evaluation(test_logits, [metric], calibration, uncalibrated)


def artifact_logits(directory: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 logits [N, C] of uint8 pixels [N, H, W, 3], from the source artifact of the bundle in `directory`.

    Raises:
        BundleError: the bundle does not load.
    """
    with RuntimeProcess(directory) as runtime:
        runtime.start(LOAD_TIMEOUT_S)
        return _logits(runtime, pixels, "Comparing the exported artifact")


def _logits(runtime: RuntimeProcess, pixels: NDArray[np.uint8], title: str) -> NDArray[np.float32]:
    parts = [
        runtime.infer(part, BATCH_TIMEOUT_S)
        for part in track(list(in_batches(pixels)), title, transient=True)
    ]
    return np.concatenate(parts)
