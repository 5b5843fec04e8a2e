"""The model card and what the manifest has of the same evaluation, from logits and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import binomtest

from bundle.acceleration.accuracy import interval_95
from bundle.evaluation.calibration import reliability
from bundle.evaluation.certainty import Labels, Logits, fit_certainty
from bundle.format.card import CARD_FILE, CARD_SCHEMA_VERSION, Card, card_bytes
from bundle.format.manifest import Manifest
from bundle.scores import calibrated_softmax


@dataclass(frozen=True)
class Measurement:
    """What one artifact gives for labelled images that the model was not trained on."""

    artifact: str  # its id
    logits: Logits
    labels: Labels
    split: str = "test"  # what the images are, as the records call them
    # Logits of pictures that show none of the classes, by kind.
    others: Mapping[str, Logits] = field(default_factory=dict)
    # Another model on the same images: its name, and its logits.
    against: Mapping[str, Logits] = field(default_factory=dict)
    licence: str | None = None
    limits: Sequence[str] = ()  # in words, beside those that follow from the figures
    # Of the same images, stretched whole to the input; None: not measured.
    whole: Logits | None = None


def recorded(
    manifest: Manifest, temperature: float, found: Measurement
) -> tuple[dict[str, Any], bytes]:
    """The fields of the manifest that an evaluation gives, and the content of the card.

    Args:
        manifest: Of the bundle.
        temperature: Of the calibration, which may be newer than that of `manifest`.
        found: The evaluation.
    """
    certainty = fit_certainty(
        found.logits, found.labels, temperature, found.artifact, found.others, found.split
    )
    evaluation = evaluation_record(manifest.labels, temperature, found)
    card = {
        "schema_version": CARD_SCHEMA_VERSION,
        "licence": found.licence,
        "limits": [*_limits(manifest, certainty["rejection"], found), *found.limits],
        "data": {
            "trained_on": _origin(manifest),
            "evaluated_on": [
                f"{found.split}: {len(found.labels):,} images of {_measured(found):,} labels",
                *(f"{kind}: {len(logits):,} pictures" for kind, logits in found.others.items()),
            ],
        },
        "evaluations": [evaluation],
        "comparisons": [comparison(name, found, other) for name, other in found.against.items()],
    }
    changes = certainty | {"whole": _whole(found), "card": CARD_FILE}
    return changes, card_bytes(Card.model_validate(card, strict=False))


def _whole(found: Measurement) -> dict[str, Any] | None:
    """A `WholePicture`."""
    if found.whole is None:
        return None
    return {
        "method": "stretch",
        "artifact": found.artifact,
        "split": found.split,
        "samples": len(found.labels),
        "accuracy": float((found.whole.argmax(1) == found.labels).mean()),
        "accuracy_of_crop": float((found.logits.argmax(1) == found.labels).mean()),
    }


def evaluation_record(
    names: Sequence[str], temperature: float, found: Measurement
) -> dict[str, Any]:
    """A `CardEvaluation`: only classes, pairs of classes and bins that occur."""
    predicted, labels = found.logits.argmax(1), found.labels
    right = predicted == labels
    pairs, counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    diagram = reliability(calibrated_softmax(found.logits, temperature), labels)
    return {
        "split": found.split,
        "samples": len(labels),
        "artifact": found.artifact,
        "accuracy": float(right.mean()),
        "interval_95": interval_95(int(right.sum()), len(labels)),
        "per_class": [
            {
                "label": names[index],
                "samples": int((labels == index).sum()),
                "correct": (correct := int(right[labels == index].sum())),
                "interval_95": interval_95(correct, int((labels == index).sum())),
            }
            for index in np.unique(labels)
        ],
        "confusion": [
            [int(true), int(guess), int(count)]
            for (true, guess), count in zip(pairs.T, counts, strict=True)
        ],
        "reliability": [
            {
                "low": each["low"],
                "high": each["high"],
                "samples": each["samples"],
                "mean_score": each["confidence"],
                "accuracy": each["accuracy"],
            }
            for each in diagram["bins"]
            if each["samples"]
        ],
        "calibration_error": diagram["expected_calibration_error"],
    }


def comparison(name: str, found: Measurement, other: Logits) -> dict[str, Any]:
    """A `Comparison` with the model `name`, whose logits [N, C] for the same images are `other`."""
    ours, theirs = found.logits.argmax(1), other.argmax(1)
    right, right_other = ours == found.labels, theirs == found.labels
    differ = ours != theirs
    only, only_other = int((right & ~right_other).sum()), int((right_other & ~right).sum())
    return {
        "model": name,
        "samples": len(found.labels),
        "agreement": float((~differ).mean()),
        "right_when_disagree": (
            [float(right[differ].mean()), float(right_other[differ].mean())]
            if differ.any()
            else None
        ),
        "p_value": float(binomtest(only, only + only_other).pvalue) if only + only_other else 1.0,
    }


def _measured(found: Measurement) -> int:
    return len(np.unique(found.labels))


def _origin(manifest: Manifest) -> str:
    """What the model was trained on, as far as its record says."""
    if manifest.training is not None:
        training = manifest.training
        images = f", {training.train_samples:,} images" if training.train_samples else ""
        return f"{training.dataset}{images}"
    name = manifest.imported.file if manifest.imported else "a file"
    return f"not known: imported from {name}"


def _limits(manifest: Manifest, rejection: dict[str, Any] | None, found: Measurement) -> list[str]:
    """What follows from the figures, for people."""
    classes, measured = len(manifest.labels), _measured(found)
    limits = [f"It knows {classes:,} labels and answers with one of them, whatever is shown."]
    if measured < classes:
        limits.append(
            f"Measured on images of {measured:,} of its {classes:,} labels; of the others nothing "
            "is known here."
        )
    if rejection is None:
        limits.append("When it is unsure was not measured: there were too few images.")
        return limits
    text = f"Of its right answers {rejection['right_unsure']:.0%} are called unsure"
    if rejection["all_others"]:
        share = rejection["all_others"]["unsure"]
        text += (
            f", and of pictures that show none of the labels {share:.0%}: the others get a wrong "
            "answer that is not called unsure"
        )
    limits.append(f"{text}.")
    return limits
