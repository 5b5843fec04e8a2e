"""How far several models agree about one image: pure functions of their predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from frontend.responses import Prediction


@dataclass(frozen=True)
class Agreement:
    """The summary of the compare view.

    Attributes:
        top_labels: each model's first label, by model key.
        overlap: shared part of the first `k` labels, mean over all pairs of models, 0 to 1.
        k: how many labels were compared; fewer than requested if a model has fewer.
        score_difference: the largest difference between two models' scores of one label, 0 to 1;
            None if no label is scored by two models.
        score_label: the label with that difference.
    """

    top_labels: Mapping[str, str]
    overlap: float
    k: int
    score_difference: float | None
    score_label: str | None

    @property
    def unanimous(self) -> bool:
        """All models have the same first label."""
        return len(set(self.top_labels.values())) == 1


def agreement(responses: Mapping[str, Sequence[Prediction]], k: int) -> Agreement:
    """Compare the predictions of two or more models, each sorted best first and not empty.

    Scores are compared over all labels, labels over the first `k` of each model.

    Raises:
        ValueError: fewer than two models.
    """
    if len(responses) < 2:
        raise ValueError(f"Agreement takes two models or more. Received: {len(responses)}")
    k = min(k, *(len(predictions) for predictions in responses.values()))
    first = [
        {prediction.label for prediction in predictions[:k]} for predictions in responses.values()
    ]
    overlaps = [len(one & other) / k for one, other in combinations(first, 2)]
    scores = [
        {prediction.label: prediction.score for prediction in predictions}
        for predictions in responses.values()
    ]
    differences = [
        (abs(one[label] - other[label]), label)
        for one, other in combinations(scores, 2)
        for label in one.keys() & other.keys()
    ]
    difference, label = max(differences) if differences else (None, None)
    return Agreement(
        top_labels={model: predictions[0].label for model, predictions in responses.items()},
        overlap=sum(overlaps) / len(overlaps),
        k=k,
        score_difference=difference,
        score_label=label,
    )
