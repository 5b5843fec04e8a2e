"""Temperature scaling and the calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15  # of equal width, as in the paper
TEMPERATURES = (0.05, 20.0)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature that minimises the negative log-likelihood of float32 logits [N, C] for labels [N].

    The search is bounded: on a split that is classified without an error the likelihood has no maximum.
    """
    scaled = logits.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(scaled / np.exp(log_temperature), axis=1)[rows, labels].mean())

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def expected_calibration_error(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The gap between confidence and accuracy, averaged over the bins, of scores [N, C] for labels [N]; in [0, 1]."""
    # torchmetrics brings torch along, which a Keras run needs for this one figure only.
    import torch  # noqa: PLC0415
    from torchmetrics.functional.classification import multiclass_calibration_error  # noqa: PLC0415

    error = multiclass_calibration_error(
        torch.from_numpy(np.ascontiguousarray(scores)),
        torch.from_numpy(np.ascontiguousarray(labels)),
        num_classes=scores.shape[1],
        n_bins=BINS,
        norm="l1",
    )
    return float(error)
