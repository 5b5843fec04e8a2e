"""Temperature scaling and the calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

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


def expected_calibration_errors(
    scores: Sequence[NDArray[np.float32]], labels: NDArray[np.int64]
) -> list[float]:
    """For each of `scores` [N, C] the gap between confidence and accuracy for labels [N], averaged over the bins."""
    if "tensorflow" not in sys.modules:
        return _measure(scores, labels)
    # torchmetrics brings torch along, and the compilers of torch and tensorflow end a process that holds both.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, scores, labels).result()


def _measure(scores: Sequence[NDArray[np.float32]], labels: NDArray[np.int64]) -> list[float]:
    import torch  # noqa: PLC0415 - seconds to import, for two figures of a run
    from torchmetrics.functional.classification import multiclass_calibration_error  # noqa: PLC0415

    target = torch.from_numpy(np.ascontiguousarray(labels))
    return [
        float(
            multiclass_calibration_error(
                torch.from_numpy(np.ascontiguousarray(each)), target, each.shape[1], n_bins=BINS, norm="l1"
            )
        )
        for each in scores
    ]
