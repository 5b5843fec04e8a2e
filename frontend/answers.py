"""What the service answers, as types. A field that the page does not use is ignored, so the service may grow.

Scores lie in [0, 1]; times are milliseconds; sizes are pixels.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Score = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0)]
ModelState = Literal["ready", "loading", "restarting", "refused"]


class Answer(BaseModel):
    """Base of every answer: immutable, and tolerant of new fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Readiness(Answer):
    """`GET /readyz` while the service takes pictures."""

    status: Literal["ready"]


class ServedModel(Answer):
    """One line of `GET /models`. A refused model has a reason and may lack what only loading tells."""

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
        """Name and version: what tells two loaded models apart."""
        return f"{self.name} v{self.version}"


class Catalogue(Answer):
    """`GET /models`: everything that the repository of the service holds."""

    default: str | None
    models: list[ServedModel]

    @property
    def ready(self) -> list[ServedModel]:
        """The models that answer now, the default one first."""
        models = [model for model in self.models if model.state == "ready"]
        return sorted(
            models, key=lambda model: (model.name != self.default, model.name, -model.version)
        )


class Guess(Answer):
    """One label with its calibrated score; rank 1 is the best."""

    rank: int = Field(ge=1)
    index: int = Field(ge=0)
    label: str
    score: Score


class ModelUsed(Answer):
    """The model that answered, and where it ran."""

    name: str
    version: int
    framework: str
    runtime: str
    precision: str
    device: str


class ImageRead(Answer):
    """How the service read the picture: as stored, and what was done to it."""

    format: str
    width: int
    height: int
    mode: str
    operations: list[str]


class Timing(Answer):
    """Where the time went inside the service."""

    decode: Milliseconds
    queue: Milliseconds
    inference: Milliseconds
    total: Milliseconds


class Prediction(Answer):
    """`POST /predict`: the best labels, best first."""

    predictions: list[Guess] = Field(min_length=1)
    model: ModelUsed
    image: ImageRead
    timing_ms: Timing
    request_id: str


class Problem(Answer):
    """RFC 9457 problem details, with the service's stable code."""

    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
