"""What several models say of one image, and how far they agree."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.format.manifest import NAME_PATTERN
from bundle.scores import calibrated_softmax
from service.errors import InvalidParameter, NotReady
from service.models.model import SERVING, ServedModel, Target
from service.models.queued import Classification
from service.repository.registry import Registry

NAMES_PATTERN = rf"^{NAME_PATTERN}(@[1-9][0-9]{{0,8}})?(,{NAME_PATTERN}(@[1-9][0-9]{{0,8}})?)*$"


class Answer(NamedTuple):
    """One model's result."""

    target: Target
    found: Classification

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Calibrated probabilities [C]."""
        temperature = self.target.manifest.calibration.temperature
        return calibrated_softmax(self.found.logits, temperature)


def key(model: ServedModel) -> str:
    """A version of a model in text."""
    return f"{model.name}@{model.version}"


def named(registry: Registry, names: str | None) -> list[ServedModel]:
    """The models that a query names, each once; by default those that serve.

    Args:
        registry: The models.
        names: NAME or NAME@VERSION, separated by commas.

    Raises:
        UnknownModel, UnknownVersion, ModelRefused: As `Registry.find`.
        NotReady: None is named, and none serves.
    """
    if names is None:
        found = [model for model in registry.all() if model.state in SERVING]
        if not found:
            raise NotReady("No model serves yet. Send the request again a little later.")
        return found
    chosen = {}
    for name in names.split(","):
        name, _, version = name.partition("@")
        model = registry.find(name, int(version) if version else None)
        chosen[key(model)] = model
    return list(chosen.values())


def check_top_k(targets: list[Target], top_k: int | None) -> None:
    """Check the number of predictions against the model with the most classes.

    Raises:
        InvalidParameter: None has so many.
    """
    most = max((len(target.manifest.labels) for target in targets), default=0)
    if targets and top_k is not None and top_k > most:
        raise InvalidParameter(
            f"top_k: expected 1 to {most}, the most classes of a model. Received: {top_k}"
        )


def agreement(answers: list[Answer]) -> dict[str, Any]:
    """Whether the best labels of all answers are the same, and which models say which."""
    labels: dict[str, list[str]] = {}
    for answer in answers:
        best = answer.target.manifest.labels[int(answer.found.logits.argmax())]
        labels.setdefault(best, []).append(key(answer.target.model))
    sets = {frozenset(answer.target.manifest.labels) for answer in answers}
    return {
        "same_label": len(labels) == 1 if len(answers) > 1 else None,
        "labels": labels,
        "comparable": len(sets) == 1,
    }


def divergences(answers: list[Answer]) -> list[dict[str, Any]]:
    """How far the scores of each two models of the same labels are apart."""
    found = []
    for one, other in combinations(answers, 2):
        ours, theirs = one.target.manifest.labels, other.target.manifest.labels
        scores = other.scores
        if ours != theirs:
            places = {label: place for place, label in enumerate(theirs)}
            # Labels that repeat can be told apart by their order only.
            if len(places) != len(theirs) or sorted(ours) != sorted(theirs):
                continue
            scores = scores[[places[label] for label in ours]]
        found.append(
            {
                "models": [key(one.target.model), key(other.target.model)],
                "jensen_shannon": jensen_shannon(one.scores, scores),
            }
        )
    return found


def jensen_shannon(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    """The divergence of two distributions [C] in bits, 0 to 1 (J. Lin 1991)."""
    found = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return min(1.0, max(0.0, found))


def _entropy(p: npt.NDArray[np.float64]) -> float:
    """In bits."""
    positive = p[p > 0]
    return float(-(positive * np.log2(positive)).sum())
