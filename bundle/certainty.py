"""Whether an answer is to be trusted, and the set of labels that holds the right one.

By the thresholds of the manifest, which `bundle.evaluation.certainty` has fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bundle.format.certainty import Conformal, Rejection
from bundle.scores import top_k

Doubt = Literal["low_score", "none_of_the_classes"]


def novelty(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How far the best logit stands out, [N], of logits [N, C]; low for none of the classes.

    The largest logit less the mean of all. It does not depend on a constant added to all logits,
    which a softmax leaves undetermined, so it also serves logarithms of probabilities.
    """
    margin: npt.NDArray[np.float32] = logits.max(axis=-1) - logits.mean(axis=-1)
    return margin


def doubt(rejection: Rejection, logits: npt.NDArray[np.float32], best_score: float) -> Doubt | None:
    """Why the answer for one image is unsure, by its logits [C] and best score; None: it is not."""
    if novelty(logits) < rejection.novelty_threshold:
        return "none_of_the_classes"
    return "low_score" if best_score < rejection.score_threshold else None


def prediction_set(
    conformal: Conformal, scores: npt.NDArray[np.float64], labels: Sequence[str], coverage: float
) -> dict[str, Any]:
    """The labels, best first, that hold the right one in a share `coverage` of the images.

    Args:
        conformal: Of the manifest.
        scores: Of one image, [C].
        labels: C labels.
        coverage: The next larger one that was fitted is used, or else the largest.
    """
    # Rounded, so that 0.9 as text is not above 0.90 as a number.
    wanted = round(coverage, 6)
    chosen = next((each for each in conformal.sets if each.coverage >= wanted), conformal.sets[-1])
    size = int((scores >= chosen.threshold).sum())
    return {
        "coverage": chosen.coverage,
        "labels": top_k(scores, labels, size) if size else [],
        "measured_coverage": chosen.measured_coverage,
        "samples": conformal.samples,
    }
