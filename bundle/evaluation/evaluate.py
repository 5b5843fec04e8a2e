"""Accuracy and calibration of an artifact, measured in the runtime that serves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.acceleration.accuracy import accuracy_metric
from bundle.acceleration.measure import TIMEOUT_S
from bundle.evaluation.calibration import calibrate
from bundle.scores import baseline
from bundle.worker.blocking import RuntimeProcess

Progress = Callable[[str], object]


class Labelled(Protocol):
    """Images and their labels."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8 [N, H, W, 3]."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [N]."""


@dataclass(frozen=True)
class Evaluation:
    """The logits of an artifact on some images, and the figures computed from them."""

    logits: NDArray[np.float32]  # [N, C]
    metrics: list[dict[str, Any]]  # as in the manifest
    calibration: dict[str, Any]  # as in the manifest
    uncalibrated: str | None  # why the scores are not calibrated; None: they are
    baseline: dict[str, Any] | None = None  # as in the manifest


def evaluate(
    runtime: RuntimeProcess,
    validation: Labelled,
    test: Labelled,
    labels: Sequence[str],
    progress: Progress,
) -> Evaluation:
    """Measure a loaded artifact on the test split, and fit its temperature on the validation split.

    Raises:
        BundleError: The artifact fails on the images.
    """
    validation_logits = artifact_logits(
        runtime, validation.pixels, "calibrating on the validation split", progress
    )
    logits = artifact_logits(runtime, test.pixels, "measuring on the test split", progress)
    calibration, uncalibrated = calibrate(
        (validation_logits, validation.labels), (logits, test.labels)
    )
    info = runtime.info
    metric = accuracy_metric(logits, test.labels, info["runtime"], info["precision"], labels)
    expected = baseline(validation_logits, calibration["temperature"], "validation")
    return Evaluation(logits, [metric], calibration, uncalibrated, expected)


def artifact_logits(
    runtime: RuntimeProcess, pixels: NDArray[np.uint8], what: str, progress: Progress
) -> NDArray[np.float32]:
    """Logits, float32 [N, C], of pixels, uint8 [N, H, W, 3], from a loaded artifact.

    Raises:
        BundleError: The artifact fails on the images.
    """

    def report(batches: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        done = 0
        for batch in batches:
            progress(f"{what}, {done:,} of {len(pixels):,} images")
            yield batch
            done += len(batch)

    return runtime.infer_all(pixels, TIMEOUT_S, report)
