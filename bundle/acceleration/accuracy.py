"""The accuracy on labelled images, as a manifest records it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest


def interval_95(correct: int, samples: int) -> list[float]:
    """The 95 % interval, low and high end, of the share correct / samples (Wilson 1927)."""
    interval = binomtest(correct, samples).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def accuracy_metric(
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    runtime: str,
    precision: str,
    names: Sequence[str],
) -> dict[str, Any]:
    """Top-1 accuracy of `logits` [N, C] for the labels [N] of the test images, as a Metric.

    Args:
        logits, labels, runtime, precision: What was measured.
        names: Of the C labels; the record has those that occur, if not all do.
    """
    correct = int((logits.argmax(1) == labels).sum())
    found = [names[index] for index in np.unique(labels)]
    return {
        "name": "accuracy",
        "value": correct / len(labels),
        "split": "test",
        "samples": len(labels),
        "labels": None if len(found) == len(names) else found,
        "interval_95": interval_95(correct, len(labels)),
        "runtime": runtime,
        "precision": precision,
    }
