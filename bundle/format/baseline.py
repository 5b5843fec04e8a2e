"""What a model predicts on validation images, to compare with what it predicts in service."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from bundle.format.schema import Count, Record, Text

SCORE_BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Upper bounds, included, of the bins of the best score; a calibrated network is often sure."""


class Baseline(Record):
    """The distribution of the best scores, and of the predicted classes."""

    split: Text
    samples: Annotated[int, Field(ge=1)]
    scores: Annotated[
        list[Count], Field(min_length=len(SCORE_BOUNDS), max_length=len(SCORE_BOUNDS))
    ]
    classes: list[Count]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if not sum(self.scores) == sum(self.classes) == self.samples:
            raise ValueError("scores and classes are of all samples")
        return self
