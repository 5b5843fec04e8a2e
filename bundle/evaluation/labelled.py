"""An imported model on labelled images: accuracy, calibration, and what other inputs would give."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.acceleration.accuracy import accuracy_metric
from bundle.acceleration.images import labelled_pixels
from bundle.acceleration.measure import TIMEOUT_S
from bundle.errors import BundleError
from bundle.evaluation.calibration import calibrate
from bundle.evaluation.evaluate import artifact_logits
from bundle.format.manifest import Manifest
from bundle.scores import baseline
from bundle.worker.blocking import RuntimeProcess

# Below this accuracy something is wrong with the input, however many classes there are.
VERY_LOW = 0.05
MIN_IMAGES = 20  # fewer say almost nothing about it
TRIED_IMAGES = 200


@dataclass
class Tested:
    """The figures of a model on the images of `--test`."""

    pixels: npt.NDArray[np.uint8]  # [N, H, W, 3]
    labels: npt.NDArray[np.int64]  # [N]
    logits: npt.NDArray[np.float32]  # [N, C]
    metrics: list[dict[str, Any]]  # as in the manifest
    calibration: dict[str, Any]  # as in the manifest
    baseline: dict[str, Any]  # as in the manifest
    uncalibrated: str | None  # why the scores are not calibrated
    doubtful: bool  # whether the accuracy is near chance
    swapped: float | None = None  # the accuracy with red and blue exchanged
    others: dict[str, float] = field(default_factory=dict)  # the accuracy by normalisation

    @property
    def accuracy(self) -> float:
        """The share of correct predictions."""
        return float(self.metrics[0]["value"])

    def try_others(self, variant: Callable[[str], Path], names: Iterable[str]) -> None:
        """Measure what other normalisations would give, on some of the images.

        Args:
            variant: Makes a bundle with another `--normalise`.
            names: The normalisations.
        """
        chosen = np.random.default_rng(0).permutation(len(self.labels))[:TRIED_IMAGES]
        for name in names:
            try:
                with RuntimeProcess(variant(name)) as process:
                    process.start(TIMEOUT_S)
                    logits = process.infer_all(self.pixels[chosen], TIMEOUT_S)
            except BundleError:
                continue  # with that input the numbers overflow
            self.others[name] = float((logits.argmax(1) == self.labels[chosen]).mean())


def measured(
    process: RuntimeProcess, folder: Path, manifest: Manifest, progress: Callable[[str], object]
) -> Tested:
    """Measure a loaded artifact on all images, and fit the temperature on half of them.

    The other half tests the temperature, which does not change the accuracy.

    Raises:
        BundleError: The images are not of this model, or it fails on them.
    """
    progress("reading the test images")
    pixels, labels = labelled_pixels(folder, manifest)
    logits = artifact_logits(process, pixels, "measuring", progress)
    order = np.random.default_rng(0).permutation(len(labels))
    fit, test = order[: len(order) // 2], order[len(order) // 2 :]
    calibration, why = calibrate((logits[fit], labels[fit]), (logits[test], labels[test]))
    if calibration["method"] != "none":
        calibration = calibration | {"split": "half of the test images"}
    info = process.info
    metric = accuracy_metric(logits, labels, info["runtime"], info["precision"], manifest.labels)
    # Some of the labels are enough for a test; chance is that of all.
    low, chance = metric["interval_95"][0], 1 / len(manifest.labels)
    doubtful = len(labels) >= MIN_IMAGES and (low <= chance or metric["value"] < VERY_LOW)
    expected = baseline(logits, calibration["temperature"], "test")
    found = Tested(pixels, labels, logits, [metric], calibration, expected, why, doubtful)
    if doubtful:
        flipped = np.ascontiguousarray(pixels[..., ::-1])
        other = artifact_logits(process, flipped, "trying BGR", progress)
        found.swapped = float((other.argmax(1) == labels).mean())
    return found
