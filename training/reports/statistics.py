"""Statistics of predictions and labels as JSON values: pure functions with sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from bundle.acceleration.accuracy import interval_95

CONFIDENCE = 0.95  # of the interval of a difference


def accuracy(correct: NDArray[np.bool_]) -> dict[str, Any]:
    """The share of True in `correct` [N], N >= 1, with its 95 % interval (Wilson 1927)."""
    count = int(correct.sum())
    return {
        "value": count / len(correct),
        "interval_95": interval_95(count, len(correct)),
        "right": count,
        "samples": len(correct),
    }


def per_class(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, Any]:
    """Precision, recall, F1 and support of each class, the mean F1 (macro-F1), confusion matrix.

    Rows of the matrix are true classes, columns predicted ones. A class that is never predicted has
    precision 0.

    Args:
        predicted, labels: int64 [N].
    """
    known = np.arange(len(classes))
    columns = precision_recall_fscore_support(labels, predicted, labels=known, zero_division=0.0)
    return {
        "macro_f1": float(columns[2].mean()),
        "per_class": [
            {
                "label": label,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "support": int(support),
            }
            for label, precision, recall, f1, support in zip(classes, *columns, strict=True)
        ],
        "confusion_matrix": confusion_matrix(labels, predicted, labels=known).tolist(),
    }


def paired_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, Any]:
    """Accuracy of the first model minus that of the second on the same images.

    The interval is that of Agresti and Min 2005 (half an image added to each cell of the paired
    table), the p-value that of the exact McNemar test: under equal accuracy, an image that only one
    model gets right is equally likely to be either's.

    Args:
        first, second: which predictions are correct, [N].
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant, samples = only_first + only_second, len(first)
    centre = (only_first - only_second) / (samples + 2)
    variance = (discordant + 1) / (samples + 2) - centre**2
    reach = float(norm.ppf((1 + CONFIDENCE) / 2)) * (variance / (samples + 2)) ** 0.5
    return {
        "difference": (only_first - only_second) / samples,
        "interval_95": [centre - reach, centre + reach],
        "only_first_right": only_first,
        "only_second_right": only_second,
        "p_value": float(binomtest(only_first, discordant).pvalue) if discordant else 1.0,
    }


def agreement(predicted: Sequence[NDArray[np.int64]]) -> dict[str, Any]:
    """The share of images with equal predictions: of all models, and of each pair as a matrix.

    Args:
        predicted: int64 [N] of each model.
    """
    table = np.stack(predicted)  # [models, N]
    return {
        "all": float((table == table[0]).all(0).mean()),
        "matrix": [[float((one == other).mean()) for other in table] for one in table],
    }


def latency(
    singles: Sequence[Sequence[float]], batches: Sequence[float], batch: int
) -> dict[str, Any]:
    """Latency of one image and throughput in batches, each the median over the rounds.

    The median ignores rounds that another process has disturbed.

    Args:
        singles: for each round the seconds of its calls with one image.
        batches: for each round the seconds of its call with `batch` images.
    """
    milliseconds = [np.array(calls) * 1000 for calls in singles]
    return {
        "rounds": len(batches),
        "calls_per_round": len(singles[0]),
        "median_ms": float(np.median([np.median(calls) for calls in milliseconds])),
        "p95_ms": float(np.median([np.percentile(calls, 95) for calls in milliseconds])),
        "batch_size": batch,
        "images_per_second": float(np.median([batch / seconds for seconds in batches])),
    }
