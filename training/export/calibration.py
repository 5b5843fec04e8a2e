"""Temperature scaling and the calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binned_statistic

from training.config import MIN_VALIDATION

BINS = 15  # of equal width, as in the paper
TEMPERATURES = (0.05, 20.0)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float | None:
    """The temperature that minimises the negative log-likelihood of float32 logits [N, C] for labels [N].

    None: there are too few of them, or none is better than a bound of the search. On a split that is classified
    without an error the likelihood has no maximum, and where the network knows nothing it has none either.
    """
    if len(labels) < MIN_VALIDATION:
        return None
    scaled = logits.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(scaled / np.exp(log_temperature), axis=1)[rows, labels].mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    # The search ends beside a bound and never on it, and where the loss is flat anywhere: so the losses are compared.
    return float(np.exp(found.x)) if found.fun < min(loss(low), loss(high)) else None


def why_not_fitted(samples: int) -> str:
    """Why `fit_temperature` gave none for so many images."""
    if samples < MIN_VALIDATION:
        return f"a temperature is fitted on {MIN_VALIDATION} validation images or more, and there are {samples}"
    low, high = TEMPERATURES
    return (
        f"on the {samples:,} validation images no temperature is better than the ends of the search, {low:g} and {high:g}, "
        "which happens where nearly all of them, or no more than by chance, are right"
    )


def reliability(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Any]:
    """The bins of a reliability diagram for scores [N, C], and the calibration error that they give.

    The expected calibration error is the gap between mean confidence and accuracy, averaged over the answers
    (Guo et al. 2017, with their 15 bins of equal width). An empty bin has neither confidence nor accuracy: None.
    """
    confidence = scores.max(1)
    right = scores.argmax(1) == labels
    means = binned_statistic(confidence, [confidence, right], bins=BINS, range=(0, 1))
    counts = binned_statistic(confidence, None, "count", bins=BINS, range=(0, 1)).statistic
    bins = [
        {
            "low": float(low),
            "high": float(high),
            "samples": int(count),
            "confidence": float(mean) if count else None,
            "accuracy": float(share) if count else None,
        }
        for low, high, count, mean, share in zip(
            means.bin_edges, means.bin_edges[1:], counts, *means.statistic, strict=False
        )
    ]
    gaps = np.abs(means.statistic[0] - means.statistic[1])
    return {
        "expected_calibration_error": float(np.nansum(gaps * counts) / len(labels)),
        "bins": bins,
    }
