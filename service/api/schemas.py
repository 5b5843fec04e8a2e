"""The response bodies of the API: its public contract, as OpenAPI describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from bundle.certainty import Doubt
from bundle.format.manifest import (
    Artifact,
    Calibration,
    ClassActivation,
    Export,
    FileRecord,
    Import,
    Input,
    Metric,
    NoCalibration,
    NoHeatmap,
    Training,
    WholePicture,
)
from bundle.imaging.decode import ImageInfo
from service.models.model import State
from service.traffic import Traffic


class Prediction(BaseModel):
    """One of the best classes."""

    rank: int = Field(examples=[1])
    index: int = Field(description="Index of the class, from 0.", examples=[3])
    label: str = Field(examples=["cat"])
    score: float = Field(description="Calibrated probability, in [0, 1].", examples=[0.93])


class Seen(BaseModel):
    """The part of the image that became the model's input, in pixels of the upright image."""

    left: float
    top: float
    width: float
    height: float
    image_width: int = Field(description="Of the image, upright, in pixels.")
    image_height: int = Field(description="Of the image, upright, in pixels.")
    input_width: int = Field(description="That the part is scaled to, in pixels.")
    input_height: int = Field(description="That the part is scaled to, in pixels.")
    crop: Literal["center", "whole"]


class PredictionSet(BaseModel):
    """The labels that hold the right one in a share `coverage` of the cases, best first."""

    coverage: float = Field(description="As asked for, rounded up to hundredths.", examples=[0.9])
    labels: list[Prediction] = Field(description="Empty: no label is as likely as right ones are.")
    measured_coverage: float = Field(
        description="On images held out; docs/certainty.md.", examples=[0.899]
    )
    samples: int = Field(description="Number of those images.", examples=[10000])


class Answer(BaseModel):
    """The best classes of one image, and whether to trust them, as measured (docs/certainty.md)."""

    predictions: list[Prediction] = Field(description="Best first.")
    uncertain: bool | None = Field(description="null: not measured for this model.")
    uncertain_reason: Doubt | None = Field(
        description="`none_of_the_classes`: the image probably shows none of them; `low_score`: "
        "answers with such a score are often wrong."
    )
    prediction_set: PredictionSet | None = Field(None, description="Only with `coverage`.")


class ModelUsed(BaseModel):
    """The model and the artifact that ran."""

    name: str
    version: int
    framework: str
    runtime: str
    precision: str
    device: str


class Timing(BaseModel):
    """Time of each stage, in milliseconds."""

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
    code: str = Field(description="Stable; listed in docs/errors.md.")
    error: str = Field(description="The same text as `detail`.")
    request_id: str


class PredictResponse(Answer):
    """The best classes of one image, best first."""

    model: ModelUsed
    image: ImageInfo
    seen: Seen
    timing_ms: Timing
    request_id: str


class OfFile(BaseModel):
    """The file that one result of a batch is for."""

    filename: str | None


class BatchSuccess(Answer, OfFile):
    """One image of a batch that was classified."""

    image: ImageInfo
    seen: Seen


class BatchFailure(OfFile):
    """One image of a batch that could not be classified; the others are not affected."""

    error: Problem


class BatchResponse(BaseModel):
    """The results, in the order of the files."""

    results: list[BatchSuccess | BatchFailure]
    model: ModelUsed
    timing_ms: Timing
    request_id: str


class ModelSummary(BaseModel):
    """One version of one model; fields known only once it is loaded are null until then."""

    name: str
    version: int
    state: State
    reason: str | None = Field(description="Why the model is refused.")
    update_error: str | None = Field(
        description="Why the bundle that should have replaced this one was refused."
    )
    framework: str | None
    architecture: str | None
    runtime: str | None
    precision: str | None
    device: str | None
    artifact: str | None = Field(description="Id of the artifact that runs.")
    choice: str | None = Field(description="Why it was chosen: SERVICE_RUNTIME, speed, accuracy.")
    classes: int | None
    accuracy: float | None = Field(
        description="On the test split, of the artifact that runs, or else of the source; "
        "null: not measured."
    )


class IndexEntry(BaseModel):
    """One version in the index of the repository."""

    name: str
    version: str
    state: Annotated[str, Field(examples=["READY", "LOADING", "UNAVAILABLE"])]
    reason: str


class ModelList(BaseModel):
    """Every version that is loaded, being loaded or refused."""

    default: str | None = Field(description="The model used when a request names none.")
    models: list[ModelSummary]
    unloaded: list[str] = Field(
        description="Models of the repository that an administrator has unloaded."
    )
    repository_error: str | None = Field(
        description="What of the repository can't be read or used; what serves stays as it is."
    )
    traffic: dict[str, Traffic] = Field(
        description="By model: the versions behind its aliases, and the share of the canary."
    )


class ModelRecord(ModelSummary):
    """The manifest of one version (docs/bundle.md); null where a refused one could not be read.

    With SERVICE_ADMIN_PORT the provenance is null on the public port: `training`, `imported`,
    `export`, `artifacts`, `files`, `framework_versions` and `runtime_version`.
    """

    created: datetime | None
    description: str | None
    labels: list[str] | None
    label_ids: list[str] | None = Field(
        description="An identifier for each label, for example of WordNet; null: there are none."
    )
    input: Input | None
    heatmap: ClassActivation | NoHeatmap | None
    training: Training | None
    imported: Import | None
    metrics: list[Metric] | None
    calibration: Calibration | NoCalibration | None
    whole: WholePicture | None = Field(
        description="How well whole pictures do (`crop=whole`); null: not measured."
    )
    export: Export | None
    artifacts: list[Artifact] | None
    files: dict[str, FileRecord] | None
    parameters: int | None
    framework_versions: dict[str, str] | None
    runtime_version: str | None
    golden_max_difference: float | None = Field(
        description="Largest score difference in the self-test at startup."
    )
    signer: str | None = Field(
        description="File of SERVICE_SIGNERS that has signed the bundle; null: none is needed."
    )
    isolation: dict[str, str] | None = Field(
        description="What confines its process, by measure: `in force`, or why not; empty: nothing."
    )


class Alive(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class ReadyModel(BaseModel):
    """One version and its state."""

    name: str
    version: int
    state: State


class RefusedModel(BaseModel):
    """One version whose bundle failed verification."""

    name: str
    version: int
    code: str
    reason: str


class Ready(BaseModel):
    """Every model is ready or refused, and the default one is ready."""

    status: Literal["ready"] = "ready"
    models: list[ReadyModel] | None = Field(description="Null where requests need an API key.")
    refused: list[RefusedModel] | None = Field(description="Null where requests need an API key.")
