"""Accuracy of an artifact's answers, with its interval, as the manifest records it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest


def interval_95(right: int, samples: int) -> list[float]:
    """Low and high end of the 95 % interval of the share right / samples (Wilson 1927)."""
    interval = binomtest(right, samples).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def accuracy_metric(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], runtime: str, precision: str
) -> dict[str, Any]:
    """Top-1 accuracy of ``logits`` [N, C] on the test images with the classes ``labels`` [N], as a Metric."""
    right = int((logits.argmax(1) == labels).sum())
    return {
        "name": "accuracy",
        "value": right / len(labels),
        "split": "test",
        "samples": len(labels),
        "interval_95": interval_95(right, len(labels)),
        "runtime": runtime,
        "precision": precision,
    }
