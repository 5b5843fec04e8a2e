"""What a model knows of its own limits: when an answer is unsure, and sets that hold the label.

Fitted by `bundle.evaluation.certainty`, applied by `bundle.certainty`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bundle.format.schema import Fraction, Name, Record, Text

Interval = tuple[Fraction, Fraction]
NOT_MEASURED = {"rejection": None, "conformal": None, "whole": None, "card": None}
"""The fields of a manifest whose bundle was not evaluated."""


class OtherPictures(Record):
    """Pictures of one kind that show none of the classes, and what became of them."""

    kind: Text
    samples: Annotated[int, Field(ge=1)]
    unsure: Fraction
    auroc: Fraction
    interval_95: Interval


class Rejection(Record):
    """An answer is unsure below either threshold; the rates are those of images not fitted on."""

    artifact: Name
    split: Text
    samples: Annotated[int, Field(ge=1)]
    folds: Annotated[int, Field(ge=2)]
    score_threshold: Fraction
    method: Literal["logit_margin"]
    novelty_threshold: float
    right_unsure: Fraction
    wrong_unsure: Fraction | None
    error: Fraction
    error_if_sure: Fraction | None
    others: list[OtherPictures]
    all_others: OtherPictures | None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        together = self.all_others.samples if self.all_others else 0
        if together != sum(each.samples for each in self.others):
            raise ValueError("all_others is of all of others, and null without them")
        return self


class WholePicture(Record):
    """How well the whole picture does, stretched to the input, in place of the crop of training."""

    method: Literal["stretch"]
    artifact: Name
    split: Text
    samples: Annotated[int, Field(ge=1)]
    accuracy: Fraction
    accuracy_of_crop: Fraction  # of the same images


class PredictionSets(Record):
    """The sets of one coverage: labels whose scores are `threshold` or more."""

    coverage: Annotated[float, Field(gt=0, lt=1)]
    threshold: Fraction
    measured_coverage: Fraction
    mean_size: Annotated[float, Field(ge=0)]
    empty: Fraction


class Conformal(Record):
    """Split conformal prediction, in ascending order of the coverage."""

    method: Literal["lac"]
    artifact: Name
    split: Text
    samples: Annotated[int, Field(ge=1)]
    folds: Annotated[int, Field(ge=2)]
    sets: Annotated[list[PredictionSets], Field(min_length=1)]

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        coverages = [each.coverage for each in self.sets]
        if coverages != sorted(set(coverages)):
            raise ValueError("sets: in ascending order of their coverage")
        return self
