"""Logits and a temperature to labelled scores, for serving, evaluation and the self-test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from bundle.format.baseline import SCORE_BOUNDS


class Prediction(TypedDict):
    """One labelled score. `rank` starts at 1; `score` is in [0, 1]."""

    rank: int
    index: int
    label: str
    score: float


def calibrated_softmax(logits: npt.ArrayLike, temperature: float) -> npt.NDArray[np.float64]:
    """Softmax of `logits / temperature` over the last axis (Guo et al. 2017), computed in float64.

    Args:
        logits: [N, C] or [C].
        temperature: Above 0.

    Returns:
        Scores of the same shape; each row sums to 1.

    Raises:
        ValueError: The temperature is not above 0, or a logit is not finite.
    """
    if not temperature > 0:
        raise ValueError(f"The temperature is a number above 0. Received: {temperature!r}")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if not np.isfinite(scaled).all():
        raise ValueError("Logits are finite numbers. Received: NaN or infinity")
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    scores: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return scores


def baseline(logits: npt.ArrayLike, temperature: float, split: str) -> dict[str, Any]:
    """The `baseline` of a manifest: what a model predicts on images, by its logits [N, C]."""
    scores = calibrated_softmax(logits, temperature)
    bins = np.searchsorted(SCORE_BOUNDS, scores.max(axis=1))
    return {
        "split": split,
        "samples": len(scores),
        "scores": np.bincount(bins, minlength=len(SCORE_BOUNDS)).tolist(),
        "classes": np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]).tolist(),
    }


def top_k(scores: npt.ArrayLike, labels: Sequence[str], k: int) -> list[Prediction]:
    """The `k` best scores of one image, best first; equal scores in the order of their index.

    Args:
        scores: [C].
        labels: C labels.
        k: At least 1; above C it means C.

    Raises:
        ValueError: Scores and labels differ in length, or `k` is below 1.
    """
    row = np.asarray(scores)
    if row.shape != (len(labels),):
        raise ValueError(
            f"One score per label: expected shape ({len(labels)},). Received: {row.shape}"
        )
    if k < 1:
        raise ValueError(f"k is at least 1. Received: {k}")
    among = np.arange(len(row))
    # Sort only the classes that can be among the best, not all thousand of them.
    if k < len(row):
        among = np.flatnonzero(row >= np.partition(row, -k)[-k])
    order = among[np.argsort(-row[among], kind="stable")][:k]
    return [
        {"rank": rank, "index": int(index), "label": labels[index], "score": float(row[index])}
        for rank, index in enumerate(order, start=1)
    ]
