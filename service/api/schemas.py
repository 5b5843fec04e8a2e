"""The answers of the API, as OpenAPI describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from bundle.format.manifest import (
    Artifact,
    Calibration,
    Export,
    FileRecord,
    Input,
    Metric,
    NoCalibration,
    Training,
)
from bundle.imaging.decode import ImageInfo
from service.models.model import State


class Prediction(BaseModel):
    """One of the best classes."""

    rank: int = Field(examples=[1])
    index: int = Field(description="Number of the class, counted from 0.", examples=[3])
    label: str = Field(examples=["cat"])
    score: float = Field(description="Calibrated probability, in [0, 1].", examples=[0.93])


class ModelUsed(BaseModel):
    """What answered."""

    name: str
    version: int
    framework: str
    runtime: str
    precision: str
    device: str


class Timing(BaseModel):
    """Where the time went, in milliseconds."""

    decode: float
    queue: float
    inference: float
    total: float


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable; docs/errors.md lists them.")
    error: str = Field(description="The same text as `detail`.")
    request_id: str


class PredictResponse(BaseModel):
    """The best classes of one image, best first."""

    predictions: list[Prediction]
    model: ModelUsed
    image: ImageInfo
    timing_ms: Timing
    request_id: str


class BatchSuccess(BaseModel):
    """One image of a batch that was classified."""

    filename: str | None
    predictions: list[Prediction]
    image: ImageInfo


class BatchFailure(BaseModel):
    """One image of a batch that was not; its neighbours are not affected."""

    filename: str | None
    error: Problem


class BatchResponse(BaseModel):
    """The results in the order in which the files were sent."""

    results: list[BatchSuccess | BatchFailure]
    model: ModelUsed
    timing_ms: Timing
    request_id: str


class ModelSummary(BaseModel):
    """One version of one model; what is known only of a loaded one is null before that."""

    name: str
    version: int
    state: State
    reason: str | None = Field(description="Why it is refused.")
    framework: str | None
    architecture: str | None
    runtime: str | None
    precision: str | None
    device: str | None
    artifact: str | None = Field(description="Which of the bundle's artifacts runs.")
    choice: str | None = Field(description="Why that one: SERVICE_RUNTIME, speed, accuracy.")
    classes: int | None
    accuracy: float | None = Field(
        description="Of the artifact that runs, or else of the source, on the test split; null: not measured."
    )


class ModelList(BaseModel):
    """Every version in the repository."""

    default: str | None = Field(description="The model that answers when a request names none.")
    models: list[ModelSummary]


class ModelRecord(ModelSummary):
    """The record of one version, as its manifest has it (docs/bundle.md); null where a refused one could not be read."""

    created: datetime | None
    description: str | None
    labels: list[str] | None
    input: Input | None
    training: Training | None
    metrics: list[Metric] | None
    calibration: Calibration | NoCalibration | None
    export: Export | None
    artifacts: list[Artifact] | None
    files: dict[str, FileRecord] | None
    parameters: int | None
    framework_versions: dict[str, str] | None
    runtime_version: str | None
    golden_max_difference: float | None = Field(
        description="Of the self-test at the start, on scores."
    )


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ReadyModel(BaseModel):
    """One version and its state."""

    name: str
    version: int
    state: State


class RefusedModel(BaseModel):
    """One version whose bundle has not passed its verification."""

    name: str
    version: int
    code: str
    reason: str


class Ready(BaseModel):
    """The models are loaded and self-tested."""

    status: Literal["ready"] = "ready"
    models: list[ReadyModel]
    refused: list[RefusedModel]
