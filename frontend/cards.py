"""Response bodies about models: `POST /compare` and `GET /models/{name}/card`.

As in `frontend/responses.py`, unknown fields are ignored, and what a bundle may lack is optional.
"""

from __future__ import annotations

from pydantic import Field

from frontend.responses import (
    ImageRead,
    ModelUsed,
    Prediction,
    Problem,
    ResponseBody,
    Score,
    Seen,
    Timing,
)

Interval = tuple[float, float]


class Compared(ResponseBody):
    """The answer of one model, or its problem."""

    model: ModelUsed
    predictions: list[Prediction] = Field(min_length=1)
    uncertain: bool | None = None
    seen: Seen | None = None
    timing_ms: Timing

    @property
    def key(self) -> str:
        """As `ModelSummary.key`."""
        return f"{self.model.name} v{self.model.version}"


class ModelName(ResponseBody):
    """Which model failed."""

    name: str
    version: int | None = None


class Failed(ResponseBody):
    """A model that gave no answer; the others did."""

    model: ModelName
    error: Problem


class Agreement(ResponseBody):
    """Whether all models have the same best label, where their label sets can be compared."""

    same_label: bool | None
    comparable: bool


class Divergence(ResponseBody):
    """How far the distributions of two models lie apart, in bits, 0 to 1."""

    models: list[str]
    jensen_shannon: Score


class Comparison(ResponseBody):
    """`POST /compare`."""

    results: list[Compared | Failed]
    agreement: Agreement
    divergences: list[Divergence] = Field(default_factory=list)
    image: ImageRead

    @property
    def answers(self) -> list[Compared]:
        """The models that answered."""
        return [result for result in self.results if isinstance(result, Compared)]


class ClassResult(ResponseBody):
    """The result of one class."""

    label: str
    samples: int
    correct: int
    interval_95: Interval | None = None


class Bin(ResponseBody):
    """Test images with a best score from `low` to `high`, and the share of them that was right."""

    low: float
    high: float
    samples: int
    mean_score: float | None = None
    accuracy: float | None = None


class Evaluation(ResponseBody):
    """What one artifact reached on one split."""

    split: str
    samples: int
    artifact: str | None = None
    accuracy: float
    interval_95: Interval | None = None
    per_class: list[ClassResult] = Field(default_factory=list)
    confusion: list[tuple[int, int, int]] = Field(default_factory=list)
    reliability: list[Bin] = Field(default_factory=list)
    calibration_error: float | None = None


class ArtifactCard(ResponseBody):
    """Accuracy and speed of one artifact."""

    id: str
    accuracy: float | None = None
    latency_ms: float | None = None
    bytes: int | None = None


class ModelComparison(ResponseBody):
    """How often this model and another one say the same, and who is right where they do not."""

    model: str
    samples: int
    agreement: float | None = None
    right_when_disagree: Interval | None = None
    p_value: float | None = None


class Sets(ResponseBody):
    """The prediction sets of one coverage."""

    coverage: Score


class Conformal(ResponseBody):
    """The coverages that prediction sets were measured for."""

    sets: list[Sets]


class CardData(ResponseBody):
    """Where the model and its figures come from, in words."""

    trained_on: str
    evaluated_on: list[str]


class Card(ResponseBody):
    """`GET /models/{name}/card`: the recorded evaluation of one model."""

    name: str
    version: int
    description: str | None = None
    licence: str | None = None
    limits: list[str] = Field(default_factory=list)
    data: CardData | None = None
    evaluations: list[Evaluation] = Field(default_factory=list)
    artifacts: list[ArtifactCard] = Field(default_factory=list)
    comparisons: list[ModelComparison] = Field(default_factory=list)
    conformal: Conformal | None = None

    @property
    def tested(self) -> Evaluation | None:
        """The evaluation on test images if there is one, else the first."""
        tests = [each for each in self.evaluations if each.split == "test"]
        return next(iter([*tests, *self.evaluations]), None)

    def right_of_100(self, score: float, least: int = 30) -> int | None:
        """Of 100 test images with about this score, how many are right.

        None if fewer than `least` test images have such a score.
        """
        bins = self.tested.reliability if self.tested else []
        for each in bins:
            if each.low <= score <= each.high and each.samples >= least:
                return None if each.accuracy is None else round(each.accuracy * 100)
        return None
