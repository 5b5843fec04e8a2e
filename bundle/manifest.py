"""The record of a model, ``manifest.json``: every field required, unknown fields refused, nothing defaults.

``docs/bundle.md`` describes each field; a test holds that page to these models.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from bundle.errors import ManifestInvalid

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 1
NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
MAX_MANIFEST_BYTES = 4_000_000
"""A manifest over this size is refused unread; 1,000 labels with 100 golden samples need about 100 kB."""
MAX_SIDE = 16_384

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _safe_path(value: str) -> str:
    """A path below the bundle: relative, POSIX, normal form, the same file on every operating system."""
    parts = value.split("/")
    if len(value) > 512 or not value:
        raise ValueError("a path has 1 to 512 characters")
    if "\\" in value or ":" in value or _CONTROL.search(value):
        raise ValueError("a path holds no backslash, colon or control character")
    if value.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError("a path is relative and stays inside the bundle: no leading '/', no '.', no '..'")
    if value == MANIFEST_FILE:
        raise ValueError(f"{MANIFEST_FILE} does not list itself")
    return str(PurePosixPath(*parts))


BundlePath = Annotated[str, AfterValidator(_safe_path)]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]
Name = Annotated[str, Field(pattern=rf"\A{NAME_PATTERN}\z")]
Count = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ShorterSide(_Record):
    """Scale so that the shorter side has ``size`` pixels; the aspect ratio stays."""

    rule: Literal["shorter_side"]
    size: Side
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]


class Stretch(_Record):
    """Scale to exactly ``height`` x ``width`` pixels; the aspect ratio is given up."""

    rule: Literal["stretch"]
    height: Side
    width: Side
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]


Resize = Annotated[ShorterSide | Stretch, Field(discriminator="rule")]


class Crop(_Record):
    """Cut the middle ``height`` x ``width`` pixels out of the resized picture."""

    rule: Literal["center"]
    height: Side
    width: Side


class Input(_Record):
    """What the model takes, and the geometry that turns any picture into it (:func:`bundle.geometry.prepare`)."""

    height: Side
    width: Side
    color_mode: Literal["RGB"]
    dtype: Literal["uint8"]
    layout: Literal["NHWC"]
    resize: Resize
    crop: Crop

    @model_validator(mode="after")
    def _geometry_fits(self) -> Self:
        if (self.crop.height, self.crop.width) != (self.height, self.width):
            raise ValueError("crop.height and crop.width are those of the input")
        if isinstance(self.resize, ShorterSide):
            smallest = (self.resize.size, self.resize.size)
        else:
            smallest = (self.resize.height, self.resize.width)
        if self.crop.height > smallest[0] or self.crop.width > smallest[1]:
            raise ValueError(f"the crop is larger than the resized picture can be: {smallest}")
        return self


class Artifact(_Record):
    """One runnable form of the model."""

    id: Name
    format: Literal["torchscript", "savedmodel"]
    path: BundlePath
    precision: Literal["fp32"]
    source: bool


class FileRecord(_Record):
    """Size in bytes and sha256 (64 lower-case hex digits) of one file."""

    size: Count
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class Framework(_Record):
    """The framework that trained the model, and the versions of the packages that mattered."""

    name: Literal["pytorch", "tensorflow"]
    versions: dict[Text, Text]


class FeatureMap(_Record):
    """Size of the last feature map, which is also the size of the heat map of ``explain``."""

    height: Side
    width: Side
    channels: Annotated[int, Field(ge=1)]


class Architecture(_Record):
    """The network."""

    name: Text
    parameters: Count
    feature_map: FeatureMap


class Training(_Record):
    """How the model came to be: enough to run it again."""

    command: Text
    dataset: Text
    train_samples: Count
    validation_samples: Count
    test_samples: Count
    epochs: Count
    seconds: Annotated[float, Field(ge=0)]
    hardware: Text
    seed: int
    config: dict[str, JsonValue]


class Metric(_Record):
    """One figure, measured through the exported artifact and the serving code path."""

    name: Text
    value: float
    split: Text
    samples: Annotated[int, Field(ge=1)]
    interval_95: tuple[float, float]
    runtime: Text
    precision: Text

    @model_validator(mode="after")
    def _interval_holds_value(self) -> Self:
        low, high = self.interval_95
        if not low <= self.value <= high:
            raise ValueError(f"interval_95 {[low, high]} does not hold the value {self.value}")
        return self


class Calibration(_Record):
    """Temperature scaling (Guo et al. 2017): scores are softmax(logits / temperature)."""

    method: Literal["temperature"]
    temperature: Annotated[float, Field(gt=0)]
    split: Text
    samples: Annotated[int, Field(ge=1)]
    expected_calibration_error_before: Fraction
    expected_calibration_error_after: Fraction
    bins: Annotated[int, Field(ge=1)]


class Export(_Record):
    """Largest difference between the logits of the training framework and of the exported artifact."""

    max_logit_difference: Annotated[float, Field(ge=0)]
    samples: Annotated[int, Field(ge=1)]


class GoldenScore(_Record):
    """One recorded score."""

    index: Count
    label: Text
    score: Fraction


class GoldenSample(_Record):
    """A picture in the bundle and its best scores, best first."""

    file: BundlePath
    top: Annotated[list[GoldenScore], Field(min_length=1)]


class Golden(_Record):
    """Recorded answers that the loaded model must give again, within an absolute ``tolerance`` on scores."""

    tolerance: Annotated[float, Field(gt=0, le=0.1)]
    samples: Annotated[list[GoldenSample], Field(min_length=1)]


class Manifest(_Record):
    """The whole record of one model version."""

    schema_version: Literal[1]
    name: Name
    version: Annotated[int, Field(ge=1)]
    created: AwareDatetime
    description: Text
    task: Literal["image-classification"]
    labels: Annotated[list[Text], Field(min_length=2)]
    input: Input
    artifacts: Annotated[list[Artifact], Field(min_length=1)]
    files: dict[BundlePath, FileRecord]
    framework: Framework
    architecture: Architecture
    training: Training
    metrics: list[Metric]
    calibration: Calibration
    export: Export
    golden: Golden

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: each label stands once")
        ids = [artifact.id for artifact in self.artifacts]
        if len(set(ids)) != len(ids):
            raise ValueError(f"artifacts: each id stands once, found {ids}")
        if sum(artifact.source for artifact in self.artifacts) != 1:
            raise ValueError("artifacts: exactly one has source true")
        for artifact in self.artifacts:
            if not any(f == artifact.path or f.startswith(artifact.path + "/") for f in self.files):
                raise ValueError(f"artifacts: 'files' does not list the path {artifact.path!r}")
        for sample in self.golden.samples:
            if sample.file not in self.files:
                raise ValueError(f"golden.samples: 'files' does not list {sample.file!r}")
            for top in sample.top:
                if top.index >= len(self.labels) or self.labels[top.index] != top.label:
                    raise ValueError(f"golden.samples: {top.label!r} is not label {top.index}")
        return self

    @property
    def source(self) -> Artifact:
        """The artifact that the training framework exported; every other one is derived from it."""
        return next(artifact for artifact in self.artifacts if artifact.source)


def read_manifest(directory: Path) -> Manifest:
    """Read and validate ``manifest.json`` of a bundle folder.

    Raises :class:`ManifestInvalid` when it is missing, larger than ``MAX_MANIFEST_BYTES``, not JSON (NaN,
    Infinity and repeated keys are refused), or not of the schema; the message names the field.
    """
    path = directory / MANIFEST_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as exc:
        raise ManifestInvalid(
            f"The manifest cannot be read ({exc.strerror}). Expected {MANIFEST_FILE} in the bundle folder. "
            f"Received: {str(path)!r}"
        ) from exc
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestInvalid(f"The manifest is larger than {MAX_MANIFEST_BYTES} bytes. Received: {str(path)!r}")
    return parse_manifest(data)


def parse_manifest(data: bytes) -> Manifest:
    """Validate the bytes of a manifest. Raises :class:`ManifestInvalid`, which names the field."""
    try:
        json.loads(data, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique)
        return Manifest.model_validate_json(data)
    except ValidationError as exc:
        raise ManifestInvalid(_describe(exc)) from exc
    except (ValueError, RecursionError) as exc:
        raise ManifestInvalid(f"The manifest is not valid JSON. Received: {exc}") from exc


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is out of range")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return result


def _describe(exc: ValidationError) -> str:
    """One line per wrong field: where, what is wrong, what was found (five at most)."""
    lines = []
    for error in exc.errors(include_url=False)[:5]:
        where = ".".join(str(part) for part in error["loc"]) or "manifest"
        what = {"missing": "the field is missing", "extra_forbidden": "the field is unknown"}.get(
            error["type"], error["msg"]
        )
        found = "" if error["type"] == "missing" or not error["loc"] else f"; received {error['input']!r:.80}"
        lines.append(f"{where}: {what}{found}")
    return f"The manifest is not of schema version {SCHEMA_VERSION}. " + " | ".join(lines)
