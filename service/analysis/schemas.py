"""The response bodies of this room, as OpenAPI describes them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from bundle.imaging.decode import ImageInfo
from service.api.schemas import Answer, ModelUsed, Problem, Seen, Timing


class Heatmap(BaseModel):
    """A class activation map (Zhou et al. 2016) over the part of the image that was seen."""

    height: int = Field(description="Rows of `values`.")
    width: int = Field(description="Columns of `values`.")
    values: list[list[float]] = Field(
        description="Row by row, upright, from 0 (least for the class) to 1 (most)."
    )
    minimum: float = Field(description="What is 0 in `values`, in units of the logits.")
    maximum: float = Field(description="What is 1 in `values`, in units of the logits.")


class ExplainResponse(Answer):
    """Where the network looked for one class."""

    label: str
    index: int = Field(description="Index of the class, from 0.")
    score: float = Field(description="Calibrated probability of the class, in [0, 1].")
    heatmap: Heatmap
    seen: Seen
    model: ModelUsed
    image: ImageInfo
    timing_ms: Timing
    request_id: str


class EmbedResponse(BaseModel):
    """The vector before the classifier."""

    embedding: list[float]
    dimension: int
    normalised: bool = Field(description="Whether its length is 1.")
    seen: Seen
    model: ModelUsed
    image: ImageInfo
    timing_ms: Timing
    request_id: str


class ModelName(BaseModel):
    """One version of one model."""

    name: str
    version: int


class ComparedModel(Answer):
    """What one model says of the image."""

    model: ModelUsed
    seen: Seen
    timing_ms: Timing


class FailedModel(BaseModel):
    """A model that has no answer; the others are not affected."""

    model: ModelName
    error: Problem


class Agreement(BaseModel):
    """Whether the models that answered say the same."""

    same_label: bool | None = Field(
        description="Whether their best labels are the same; null: fewer than two answered."
    )
    labels: dict[str, list[str]] = Field(
        description="The best labels, each with the models that say it, as NAME@VERSION.",
        examples=[{"cat": ["cifar10-resnet20-keras@1", "cifar10-resnet20-pytorch@1"]}],
    )
    comparable: bool = Field(description="Whether they have the same set of labels.")


class Divergence(BaseModel):
    """How far the scores of two models of the same labels are apart."""

    models: list[str] = Field(min_length=2, max_length=2)
    jensen_shannon: float = Field(
        description="Jensen-Shannon divergence in bits: 0, the same scores, to 1."
    )


class CompareResponse(BaseModel):
    """What several models say of one image."""

    results: list[ComparedModel | FailedModel]
    agreement: Agreement
    divergences: list[Divergence]
    image: ImageInfo
    timing_ms: Timing
    request_id: str
