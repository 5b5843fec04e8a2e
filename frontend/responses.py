"""Response bodies of the service, as far as the page uses them.

Defined here and not shared with the service: the page knows it by its URL only. Unknown fields are
ignored, so the service may add some. Scores are in [0, 1], times in milliseconds, sizes in pixels.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Score = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0)]
ModelState = Literal["ready", "loading", "restarting", "refused"]


class ResponseBody(BaseModel):
    """Base of every response body: immutable, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Readiness(ResponseBody):
    """`GET /readyz` of a service that accepts images."""

    status: Literal["ready"]


class ModelSummary(ResponseBody):
    """One entry of `GET /models`.

    A refused model has a reason; fields that are known only after loading may be None.
    """

    name: str
    version: int
    state: ModelState
    reason: str | None = None
    framework: str | None = None
    architecture: str | None = None
    runtime: str | None = None
    precision: str | None = None
    device: str | None = None
    classes: int | None = Field(default=None, ge=1)
    accuracy: float | None = Field(default=None, ge=0.0, le=1.0)

    @property
    def key(self) -> str:
        """Name and version, unique among the loaded models."""
        return f"{self.name} v{self.version}"


class ModelList(ResponseBody):
    """`GET /models`: every model of the service's repository, ready or not."""

    default: str | None
    models: list[ModelSummary]

    @property
    def ready(self) -> list[ModelSummary]:
        """The models that are ready, the default one first."""
        models = [model for model in self.models if model.state == "ready"]
        return sorted(
            models, key=lambda model: (model.name != self.default, model.name, -model.version)
        )


class Prediction(ResponseBody):
    """One label with its calibrated score; rank 1 is the best."""

    rank: int = Field(ge=1)
    index: int = Field(ge=0)
    label: str
    score: Score


class ModelUsed(ResponseBody):
    """The model that was used, and where it ran."""

    name: str
    version: int
    framework: str
    runtime: str
    precision: str
    device: str


class ImageRead(ResponseBody):
    """The image as stored, and the operations that decoding applied to it."""

    format: str
    width: int
    height: int
    mode: str
    operations: list[str]


class Timing(ResponseBody):
    """Time per stage inside the service."""

    decode: Milliseconds
    queue: Milliseconds
    inference: Milliseconds
    total: Milliseconds


class Seen(ResponseBody):
    """The rectangle of the upright image that the model used, in pixels, and its input's size."""

    left: float
    top: float
    width: float = Field(gt=0)
    height: float = Field(gt=0)
    image_width: int = Field(ge=1)
    image_height: int = Field(ge=1)
    input_width: int = Field(ge=1)
    input_height: int = Field(ge=1)


class PredictionSet(ResponseBody):
    """The labels that hold the right one in a share `coverage` of the cases, best first."""

    coverage: Score
    labels: list[Prediction]
    measured_coverage: Score
    samples: int = Field(ge=1)


class PredictResponse(ResponseBody):
    """`POST /predict`: the top labels, best first; the later fields are of newer services."""

    predictions: list[Prediction] = Field(min_length=1)
    model: ModelUsed
    image: ImageRead
    timing_ms: Timing
    request_id: str
    uncertain: bool | None = None
    uncertain_reason: str | None = None
    prediction_set: PredictionSet | None = None
    seen: Seen | None = None


class HeatMap(ResponseBody):
    """A grid over the rectangle that the model used; each value in [0, 1]."""

    height: int = Field(ge=1)
    width: int = Field(ge=1)
    values: list[list[float]]


class Explanation(ResponseBody):
    """`POST /explain`: where the network looked for one label."""

    label: str
    heatmap: HeatMap
    seen: Seen


class InputSize(ResponseBody):
    """Height and width of a model's input, in pixels."""

    height: int
    width: int


class WholePicture(ResponseBody):
    """How often the model is right with whole pictures, and with its own crop of the same ones."""

    accuracy: Score
    accuracy_of_crop: Score


class ModelRecord(ResponseBody):
    """`GET /models/{name}`: as far as the page uses it; None until the model is loaded."""

    description: str | None = None
    labels: list[str] | None = None
    input: InputSize | None = None
    whole: WholePicture | None = None


class Problem(ResponseBody):
    """RFC 9457 problem details with the service's stable error code."""

    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
