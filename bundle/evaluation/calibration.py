"""The temperature: fitted here, after training and in an import, and recorded in the manifest.

Temperature scaling and the calibration error are those of C. Guo et al. 2017, "On Calibration of
Modern Neural Networks".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binned_statistic

from bundle.scores import calibrated_softmax

MIN_VALIDATION = 20  # images needed to fit a temperature; fewer say almost nothing about it
BINS = 15  # of equal width, as in the paper
TEMPERATURES = (0.05, 20.0)
NOT_CALIBRATED = {"method": "none", "temperature": 1.0}  # as in the manifest


def calibrate(
    validation: tuple[NDArray[np.float32], NDArray[np.int64]],
    test: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> tuple[dict[str, Any], str | None]:
    """Fit a temperature on the validation split, and reject it if the test split contradicts it.

    Args:
        validation, test: logits [N, C] and labels [N].

    Returns:
        `calibration` of the manifest, and why the scores are not calibrated; None: they are.
    """
    samples = len(validation[1])
    temperature = fit_temperature(*validation)
    if temperature is None:
        return NOT_CALIBRATED, why_not_fitted(samples)
    before, after = (calibration_error(*test, factor) for factor in (1.0, temperature))
    # A veto only: nothing is chosen by the test split. Few validation images can mislead the fit.
    if after > before:
        return NOT_CALIBRATED, (
            f"the temperature {temperature:.3g}, fitted on {samples:,} validation images, raises "
            f"the calibration error on the test images from {before:.4f} to {after:.4f}, so it is "
            "not used"
        )
    return {
        "method": "temperature",
        "temperature": temperature,
        "split": "validation",
        "samples": samples,
        "expected_calibration_error_before": before,
        "expected_calibration_error_after": after,
        "bins": BINS,
    }, None


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float | None:
    """The temperature that minimises the negative log-likelihood of logits [N, C] for labels [N].

    None: there are too few images, or no temperature inside the bounds of the search beats the
    bounds and 1. Where all predictions are correct, or none better than chance, the optimum is a
    bound.
    """
    if len(labels) < MIN_VALIDATION:
        return None
    scaled = logits.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(scaled / np.exp(log_temperature), axis=1)[rows, labels].mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    # The search ends near a bound but never on it, and anywhere where the loss is flat: so the
    # losses are compared.
    return float(np.exp(found.x)) if found.fun < min(map(loss, (low, 0.0, high))) else None


def why_not_fitted(samples: int) -> str:
    """Why `fit_temperature` returned None for so many images."""
    if samples < MIN_VALIDATION:
        return (
            f"a temperature is fitted on {MIN_VALIDATION} validation images or more, and there are "
            f"{samples}"
        )
    low, high = TEMPERATURES
    return (
        f"no temperature between {low:g} and {high:g} lowers the loss on the {samples:,} "
        "validation images, which happens where nearly all predictions are correct, or no more "
        "than by chance"
    )


def calibration_error(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float
) -> float:
    """The expected calibration error of softmax(logits [N, C] / temperature) for labels [N]."""
    error: float = reliability(calibrated_softmax(logits, temperature), labels)[
        "expected_calibration_error"
    ]
    return error


def reliability(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Any]:
    """The bins of a reliability diagram for scores [N, C], and their calibration error.

    The expected calibration error is the gap between mean confidence and accuracy, averaged over
    the predictions (Guo et al. 2017, with their 15 bins of equal width). In an empty bin confidence
    and accuracy are None.
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
