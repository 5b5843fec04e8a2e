"""How far several models agree about one picture. Pure functions of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from frontend.answers import Guess


@dataclass(frozen=True)
class Agreement:
    """What the compare view says above the answers.

    Attributes:
        top_labels: each model's first label, by model key.
        overlap: mean over all pairs of models of the shared part of their first `k` labels, 0 to 1.
        k: how many labels were compared; less than asked for where a model knows fewer.
        score_difference: the largest difference between two models' scores of one label, 0 to 1; None where
            no label is scored by two models.
        score_label: the label with that difference.
    """

    top_labels: Mapping[str, str]
    overlap: float
    k: int
    score_difference: float | None
    score_label: str | None

    @property
    def unanimous(self) -> bool:
        """Whether all models name the same first label."""
        return len(set(self.top_labels.values())) == 1


def agreement(answers: Mapping[str, Sequence[Guess]], k: int) -> Agreement:
    """Compare two or more answers, each sorted best first and not empty.

    Scores are compared over every label given, labels over the first `k` of each answer.
    """
    if len(answers) < 2:
        raise ValueError(f"Agreement takes two answers or more. Received: {len(answers)}")
    k = min(k, *(len(guesses) for guesses in answers.values()))
    first = [{guess.label for guess in guesses[:k]} for guesses in answers.values()]
    overlaps = [len(one & other) / k for one, other in combinations(first, 2)]
    scores = [{guess.label: guess.score for guess in guesses} for guesses in answers.values()]
    differences = [
        (abs(one[label] - other[label]), label)
        for one, other in combinations(scores, 2)
        for label in one.keys() & other.keys()
    ]
    difference, label = max(differences) if differences else (None, None)
    return Agreement(
        top_labels={model: guesses[0].label for model, guesses in answers.items()},
        overlap=sum(overlaps) / len(overlaps),
        k=k,
        score_difference=difference,
        score_label=label,
    )
