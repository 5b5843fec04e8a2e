"""The model card, a file of the bundle: what was measured, on what, and what to keep in mind.

What the manifest has already (rejection, prediction sets, artifacts) is not repeated in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from bundle.errors import ManifestInvalid
from bundle.format.schema import Count, Fraction, Name, Record, Text

CARD_FILE = "card.json"
CARD_SCHEMA_VERSION = 1

Interval = tuple[Fraction, Fraction]
Samples = Annotated[int, Field(ge=1)]


class ClassResult(Record):
    """The images of one class, how many are classified correctly, and Wilson's interval."""

    label: Text
    samples: Samples
    correct: Count
    interval_95: Interval


class ReliabilityBin(Record):
    """The images whose best score is between `low` and `high`; no bin is without images."""

    low: Fraction
    high: Fraction
    samples: Samples
    mean_score: Fraction
    accuracy: Fraction


class CardEvaluation(Record):
    """One artifact on one set of labelled images."""

    split: Text
    samples: Samples
    artifact: Name
    accuracy: Fraction
    interval_95: Interval
    per_class: Annotated[list[ClassResult], Field(min_length=1)]
    confusion: list[tuple[Count, Count, Samples]]
    reliability: Annotated[list[ReliabilityBin], Field(min_length=1)]
    calibration_error: Fraction

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        totals = {
            sum(each.samples for each in self.per_class),
            sum(count for _, _, count in self.confusion),
            sum(each.samples for each in self.reliability),
        }
        if totals != {self.samples}:
            raise ValueError("per_class, confusion and reliability are of all samples")
        return self


class Comparison(Record):
    """This model and another one on the same images (McNemar 1947, exact)."""

    model: Text
    samples: Samples
    agreement: Fraction
    right_when_disagree: tuple[Fraction, Fraction] | None
    p_value: Fraction


class CardData(Record):
    """Where the model and its figures come from, in words."""

    trained_on: Text
    evaluated_on: list[Text]


class Card(Record):
    """The whole card."""

    schema_version: Literal[1]
    licence: Text | None
    limits: list[Text]
    data: CardData
    evaluations: list[CardEvaluation]
    comparisons: list[Comparison]


def card_bytes(card: Card) -> bytes:
    """The content of the file; without indentation, which would triple it."""
    return (json.dumps(card.model_dump(mode="json"), ensure_ascii=False) + "\n").encode()


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        ManifestInvalid: It can't be read, or is not of the schema.
    """
    try:
        return Card.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as exc:
        raise ManifestInvalid(
            f"The model card can't be read. Expected schema version {CARD_SCHEMA_VERSION}. "
            f"Received: {str(path)!r}: {str(exc)[:500]}"
        ) from exc
