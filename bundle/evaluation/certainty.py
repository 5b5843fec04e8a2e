"""When an answer is unsure, and sets that hold the label: fitted on labelled images held out.

Both are measured by cross-validation: the rates of each tenth of the images are those of thresholds
fitted on the others, and the thresholds of the manifest are fitted on all. Other pictures, which
show none of the classes, are only measured; nothing is fitted on them.

The sets are those of M. Sadinle et al. 2019, "Least ambiguous set-valued classifiers with bounded
error levels" (LAC), which were smaller here than adaptive ones (docs/certainty.md); the interval of
the area under the curve is that of J. Hanley and B. McNeil 1982.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bundle.certainty import novelty
from bundle.scores import calibrated_softmax

# Of the right answers, at most this share is called unsure, most of it for the novelty.
UNSURE_RIGHT, NOVEL_RIGHT = 0.09, 0.07
FOLDS = 10
# Fewer right answers say too little about their lowest hundredths.
MIN_RIGHT = 100
COVERAGES = tuple(percent / 100 for percent in range(50, 100))

Logits = NDArray[np.float32]  # [N, C]
Labels = NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class Thresholds:
    """An answer is unsure below either."""

    score: float
    novelty: float

    def unsure(self, logits: Logits, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each answer is unsure, [N], by logits and best scores [N]."""
        found: NDArray[np.bool_] = (novelty(logits) < self.novelty) | (scores < self.score)
        return found


def fit_certainty(
    logits: Logits,
    labels: Labels,
    temperature: float,
    artifact: str,
    others: Mapping[str, Logits] | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """The `rejection` and `conformal` of a manifest; null where there are too few images.

    Args:
        logits, labels: Of images that the model was not trained on.
        temperature: Of the calibration.
        artifact: The id of the artifact that gave the logits.
        others: Logits of pictures that show none of the classes, by kind.
        split: What the images are called in the record.
    """
    scores = calibrated_softmax(logits, temperature)
    right = logits.argmax(1) == labels
    if right.sum() < MIN_RIGHT:
        return {"rejection": None, "conformal": None}
    source = {"artifact": artifact, "split": split, "samples": len(labels), "folds": FOLDS}
    rejection = _rejection(logits, scores.max(1), right, temperature, others or {})
    return {
        "rejection": source | rejection,
        "conformal": {"method": "lac"} | source | {"sets": _sets(scores, labels)},
    }


def fit_thresholds(
    logits: Logits, scores: NDArray[np.float64], right: NDArray[np.bool_]
) -> Thresholds:
    """The highest thresholds below which at most the stated shares of the right answers lie.

    Args:
        logits, scores: Of all answers; the best score of each, [N].
        right: Which answers are right, [N]; at least one is.
    """
    margins, scores = novelty(logits[right]), scores[right]
    count = len(margins)
    lowest = float(np.sort(margins)[int(NOVEL_RIGHT * count)])
    kept = margins >= lowest
    left = int(UNSURE_RIGHT * count) - int((~kept).sum())
    return Thresholds(float(np.sort(scores[kept])[left]), lowest)


def auroc(
    inside: NDArray[np.floating[Any]], outside: NDArray[np.floating[Any]]
) -> tuple[float, list[float]]:
    """The share of pairs in which the value `inside` is the larger one, and its 95 % interval."""
    n, m = len(inside), len(outside)
    ranks = rankdata(np.concatenate([inside, outside]))
    area = float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
    both, one = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (n - 1) * (both - area**2) + (m - 1) * (one - area**2)
    half = 1.96 * math.sqrt(max(variance, 0.0) / (n * m))
    return area, [max(0.0, area - half), min(1.0, area + half)]


def _rejection(
    logits: Logits,
    best: NDArray[np.float64],
    right: NDArray[np.bool_],
    temperature: float,
    others: Mapping[str, Logits],
) -> dict[str, Any]:
    unsure = np.zeros(len(right), bool)
    for fitted, measured in _folds(len(right)):
        of_fold = fit_thresholds(logits[fitted], best[fitted], right[fitted])
        unsure[measured] = of_fold.unsure(logits[measured], best[measured])
    thresholds = fit_thresholds(logits, best, right)

    def pictures(kind: str, found: Logits) -> dict[str, Any]:
        area, interval = auroc(novelty(logits), novelty(found))
        flagged = thresholds.unsure(found, calibrated_softmax(found, temperature).max(1))
        return {
            "kind": kind,
            "samples": len(found),
            "unsure": float(flagged.mean()),
            "auroc": area,
            "interval_95": interval,
        }

    every = np.concatenate(list(others.values())) if others else None
    return {
        "score_threshold": thresholds.score,
        "method": "logit_margin",
        "novelty_threshold": thresholds.novelty,
        "right_unsure": float(unsure[right].mean()),
        "wrong_unsure": _mean(unsure[~right]),
        "error": float((~right).mean()),
        "error_if_sure": _mean(~right[~unsure]),
        "others": [pictures(kind, found) for kind, found in others.items()],
        "all_others": None if every is None else pictures("all", every),
    }


def _sets(scores: NDArray[np.float64], labels: Labels) -> list[dict[str, Any]]:
    """For each coverage its threshold, and the coverage and size of sets on images left out."""
    of_label = scores[np.arange(len(labels)), labels]
    coverages = np.array(COVERAGES)
    held, sizes = (np.zeros((len(labels), len(coverages))) for _ in range(2))
    for fitted, measured in _folds(len(labels)):
        for column, threshold in enumerate(_lowest(of_label[fitted], coverages)):
            held[measured, column] = of_label[measured] >= threshold
            sizes[measured, column] = (scores[measured] >= threshold).sum(1)
    return [
        {
            "coverage": float(coverage),
            "threshold": float(threshold),
            "measured_coverage": float(held[:, column].mean()),
            "mean_size": float(sizes[:, column].mean()),
            "empty": float((sizes[:, column] == 0).mean()),
        }
        for column, (coverage, threshold) in enumerate(
            zip(coverages, _lowest(of_label, coverages), strict=True)
        )
    ]


def _lowest(of_label: NDArray[np.float64], coverages: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores that the right labels reach in these shares of images, with the correction n + 1.

    0, which every label reaches, where the images are too few for the coverage.
    """
    descending = np.append(-np.sort(-of_label), 0.0)
    # The small number keeps 0.9 * 10 at 9.
    needed = np.ceil((len(of_label) + 1) * coverages - 1e-9).astype(int)
    lowest: NDArray[np.float64] = descending[np.minimum(needed - 1, len(of_label))]
    return lowest


def _folds(count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Which images to fit on and which to measure, in a fixed random order."""
    order = np.random.default_rng(0).permutation(count)
    for fold in range(FOLDS):
        measured = order[fold::FOLDS]
        yield np.setdiff1d(order, measured), measured


def _mean(found: NDArray[np.bool_]) -> float | None:
    return float(found.mean()) if len(found) else None
