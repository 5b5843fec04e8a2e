"""Accuracy and calibration of a bundle, measured through its artifact in the runtime that serves it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bundle.acceleration.accuracy import accuracy_metric
from bundle.scores import calibrated_softmax
from bundle.worker.blocking import RuntimeProcess
from training.data.dataset import Split
from training.export.calibration import BINS, fit_temperature, reliability

LOAD_TIMEOUT_S = 300.0
BATCH_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Evaluation:
    """What a bundle's artifact answers on the validation and the test split, and the figures drawn from it."""

    test_logits: NDArray[np.float32]  # [N, C]
    metrics: list[dict[str, Any]]  # as in the manifest
    calibration: dict[str, Any]  # as in the manifest


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
    temperature = fit_temperature(validation_logits, validation.labels)
    calibration: dict[str, Any] = {"method": "none", "temperature": 1.0}
    if temperature is not None:
        calibration = {
            "method": "temperature",
            "temperature": temperature,
            "split": "validation",
            "samples": len(validation),
            "expected_calibration_error_before": calibration_error(test_logits, test.labels, 1.0),
            "expected_calibration_error_after": calibration_error(
                test_logits, test.labels, temperature
            ),
            "bins": BINS,
        }
    metric = accuracy_metric(test_logits, test.labels, info["runtime"], info["precision"])
    return Evaluation(test_logits, [metric], calibration)


def calibration_error(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float
) -> float:
    """The expected calibration error of softmax(logits [N, C] / temperature) for labels [N]."""
    error: float = reliability(calibrated_softmax(logits, temperature), labels)[
        "expected_calibration_error"
    ]
    return error


def artifact_logits(directory: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 logits [N, C] of uint8 pixels [N, H, W, 3], from the source artifact of the bundle in `directory`.

    Raises:
        BundleError: the bundle does not load.
    """
    with RuntimeProcess(directory) as runtime:
        runtime.start(LOAD_TIMEOUT_S)
        return _logits(runtime, pixels, "Asking the exported artifact")


def _logits(runtime: RuntimeProcess, pixels: NDArray[np.uint8], title: str) -> NDArray[np.float32]:
    progress = partial(track, description=title, transient=True)
    return runtime.infer_all(pixels, BATCH_TIMEOUT_S, progress)
