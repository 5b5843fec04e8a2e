"""The linear probe: a classifier with L2 regularisation on features that are computed once.

It comes before fine-tuning, so that a random classifier does not send random gradients into good
weights. The strength of the regularisation is the one with the lowest validation loss, as in
Kornblith et al. 2019, "Do Better ImageNet Models Transfer Better?", A.3.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.batches import in_batches
from training.backend import TrainerLike
from training.data.dataset import DataSet, Split
from training.errors import DataError

# Weight decays, strongest first, for features scaled to a mean square of 1.
DECAYS = np.logspace(1, -5, 13)
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Probe:
    """The classifier that was fitted, and how well it fits the training images.

    Attributes:
        weights: float32 [F, C].
        biases: float32 [C].
        decay: The weight decay that was chosen.
        loss: The mean cross-entropy.
        accuracy: From 0 to 1.
        validation_loss, validation_accuracy: The same of the validation images.
    """

    weights: NDArray[np.float32]
    biases: NDArray[np.float32]
    decay: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


def fit_probe(
    trainer: TrainerLike,
    data: DataSet,
    class_weights: NDArray[np.float64],
    progress: Callable[[float], None] = lambda _: None,
) -> Probe:
    """Fit the classifier of a network to its features.

    Args:
        trainer: The network, which stays as it is.
        data: Its training images are fitted, without augmentation; its validation images choose.
        class_weights: float64 [C].
        progress: Called with the share that is done, from 0 to 1.

    Raises:
        DataError: A class has no training image, or there is no validation image.
    """
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    if not counts.all() or not len(data.validation):
        raise DataError(
            "The linear probe needs a training image of each class, and validation images. Use "
            f"more images, or --no-probe. Received: {len(data.train)} training images of "
            f"{np.count_nonzero(counts)} of {len(data.classes)} classes, {len(data.validation)} "
            "validation images"
        )
    images = len(data.train) + len(data.validation)
    done = 0

    def features(split: Split) -> Iterator[NDArray[np.float32]]:
        nonlocal done
        for part in in_batches(split.pixels):
            yield trainer.features(part)
            done += len(part)
            progress(done / images)

    seen, held_out = (np.concatenate([*features(split)]) for split in (data.train, data.validation))
    scale = float(np.sqrt(np.square(seen, dtype=np.float64).mean())) or 1.0
    return _fitted(seen, held_out, data, class_weights, scale)


def _fitted(
    seen: NDArray[np.float32],
    held_out: NDArray[np.float32],
    data: DataSet,
    class_weights: NDArray[np.float64],
    scale: float,
) -> Probe:
    # scikit-learn takes seconds to import.
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    seen, held_out = seen / np.float32(scale), held_out / np.float32(scale)
    train, validation = data.train.labels, data.validation.labels
    weights = class_weights[train]
    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    best: Probe | None = None
    for decay in DECAYS:
        model.C = 1 / (decay * weights.sum())
        with warnings.catch_warnings():
            # Judged by its validation loss as all others.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(seen, train, sample_weight=weights)
        kernel, biases = _by_class(model, len(data.classes))
        held = loss_and_accuracy(held_out @ kernel + biases, validation, class_weights)
        if best is None or held[0] < best.validation_loss:
            fit = loss_and_accuracy(seen @ kernel + biases, train, class_weights)
            scaled = (kernel / scale).astype(np.float32)
            best = Probe(scaled, biases, float(decay), *fit, *held)
    assert best is not None  # noqa: S101 - there are decays
    return best


def _by_class(model: object, classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [F, C] and biases [C]; scikit-learn has one row for the second of two classes."""
    rows, biases = np.asarray(model.coef_), np.asarray(model.intercept_)  # type: ignore[attr-defined]
    if classes == 2:
        rows, biases = np.concatenate([-rows, rows]) / 2, np.concatenate([-biases, biases]) / 2
    return rows.T.astype(np.float32), biases.astype(np.float32)


def loss_and_accuracy(
    logits: NDArray[np.float32], labels: NDArray[np.int64], class_weights: NDArray[np.float64]
) -> tuple[float, float]:
    """The mean cross-entropy of logits [N, C] with class weights [C], and the accuracy."""
    exact = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # the logits of a run that has diverged are NaN
        losses = np.logaddexp.reduce(exact, axis=1) - exact[np.arange(len(labels)), labels]
    right = exact.argmax(1) == labels
    return float(np.average(losses, weights=class_weights[labels])), float(right.mean())
