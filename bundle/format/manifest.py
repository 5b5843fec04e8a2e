"""`manifest.json`, the record of a model: all fields required, unknown ones refused, no defaults.

`docs/bundle.md` describes each field; a test keeps that page and these models in step.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from bundle.errors import ManifestInvalid
from bundle.format.baseline import Baseline
from bundle.format.certainty import (
    Conformal,
    OtherPictures,
    PredictionSets,
    Rejection,
    WholePicture,
)
from bundle.format.earlier import EARLIER_VERSIONS, from_earlier
from bundle.format.schema import (
    MANIFEST_FILE,
    NAME_PATTERN,
    Architecture,
    Artifact,
    BundlePath,
    Calibration,
    ClassActivation,
    Crop,
    Derivation,
    Export,
    FileRecord,
    Framework,
    Golden,
    GoldenSample,
    GoldenScore,
    Import,
    Input,
    Metric,
    Name,
    NoCalibration,
    NoHeatmap,
    Record,
    Resize,
    ShorterSide,
    Speed,
    Stretch,
    Text,
    Training,
)

__all__ = [
    "MANIFEST_FILE", "NAME_PATTERN", "SCHEMA_VERSION", "Architecture", "Artifact", "Baseline",
    "Calibration", "ClassActivation", "Conformal", "Crop", "Derivation", "Export", "FileRecord",
    "Framework", "Golden", "GoldenSample", "GoldenScore", "Import", "Input", "Manifest", "Metric",
    "NoCalibration", "NoHeatmap", "OtherPictures", "PredictionSets", "Rejection", "Resize",
    "ShorterSide", "Speed", "Stretch", "Training", "WholePicture",
    "manifest_bytes", "parse_manifest", "read_manifest", "unique_keys",
]  # fmt: skip

SCHEMA_VERSION = 6
MAX_MANIFEST_BYTES = 4_000_000
"""Larger manifests are refused unread; 1,000 labels with 100 golden samples need about 100 kB."""


class Manifest(Record):
    """The whole record of one model version."""

    schema_version: Literal[6]
    name: Name
    version: Annotated[int, Field(ge=1)]
    created: AwareDatetime
    description: Text
    task: Literal["image-classification"]
    labels: Annotated[list[Text], Field(min_length=2)]
    label_ids: list[Text] | None
    input: Input
    artifacts: Annotated[list[Artifact], Field(min_length=1)]
    files: dict[BundlePath, FileRecord]
    framework: Framework
    architecture: Architecture
    heatmap: Annotated[ClassActivation | NoHeatmap, Field(discriminator="method")]
    training: Training | None
    imported: Import | None
    metrics: list[Metric]
    calibration: Annotated[Calibration | NoCalibration, Field(discriminator="method")]
    baseline: Baseline | None
    rejection: Rejection | None
    conformal: Conformal | None
    whole: WholePicture | None
    card: BundlePath | None
    export: Export
    golden: Golden

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: each label occurs once")
        if self.label_ids is not None and len(set(self.label_ids)) != len(self.labels):
            raise ValueError("label_ids: one for each label, and each occurs once")
        if self.training is not None and self.imported is not None:
            raise ValueError("a model is trained or imported, not both")
        ids = [artifact.id for artifact in self.artifacts]
        if len(set(ids)) != len(ids):
            raise ValueError(f"artifacts: each id occurs once, found {ids}")
        if sum(artifact.source for artifact in self.artifacts) != 1:
            raise ValueError("artifacts: exactly one has source true")
        labels = set(self.labels)
        for metric in self.metrics:
            if not labels.issuperset(metric.labels or []):
                raise ValueError(f"metrics: {metric.name} has a label that the model has not")
        if self.baseline and len(self.baseline.classes) != len(self.labels):
            raise ValueError("baseline.classes: one count for each label")
        if self.card is not None and self.card not in self.files:
            raise ValueError(f"card: 'files' does not list {self.card!r}")
        for artifact in self.artifacts:
            if artifact.format == "torchscript" and artifact.path != self.source.path:
                raise ValueError(
                    "artifacts: torchscript in half precision is the file of the source"
                )
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
    def whole_input(self) -> Input:
        """The geometry that brings the whole picture to the input, without its aspect ratio."""
        stretch = Stretch(
            rule="stretch",
            height=self.input.height,
            width=self.input.width,
            interpolation=self.input.resize.interpolation,
        )
        return self.input.model_copy(update={"resize": stretch})

    @property
    def source(self) -> Artifact:
        """The artifact that the training framework exported; every other one is derived from it."""
        return next(artifact for artifact in self.artifacts if artifact.source)

    @cached_property
    def digest(self) -> str:
        """The sha256 (hex) of the record, which lists that of every file: identifies the bundle."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def trained(self) -> Training:
        """How the model was trained.

        Raises:
            ManifestInvalid: It was imported.
        """
        if self.training is None:
            raise ManifestInvalid(
                "The model was imported, so how it was trained is not known. Expected a model that "
                f"`python -m training` wrote. Received: {self.name}/{self.version}"
            )
        return self.training

    @property
    def heatmap_size(self) -> tuple[int, int] | None:
        """Height and width of the heat maps; None: the model has none."""
        found = self.heatmap
        return (found.height, found.width) if isinstance(found, ClassActivation) else None

    def artifact(self, artifact_id: str) -> Artifact | None:
        """The artifact with this id, or None."""
        return next((artifact for artifact in self.artifacts if artifact.id == artifact_id), None)


def read_manifest(directory: Path) -> Manifest:
    """Read and validate the `manifest.json` of a bundle folder.

    Raises:
        ManifestInvalid: It can't be read, see `manifest_bytes`, or is not valid, see
            `parse_manifest`.
    """
    return parse_manifest(manifest_bytes(directory))


def manifest_bytes(directory: Path) -> bytes:
    """Read the `manifest.json` of a bundle folder.

    Raises:
        ManifestInvalid: It is missing, not a regular file, or larger than `MAX_MANIFEST_BYTES`.
    """
    path = directory / MANIFEST_FILE
    try:
        # Without O_NONBLOCK opening a FIFO waits for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ManifestInvalid(
                    f"The manifest is not a regular file. Expected {MANIFEST_FILE} in the bundle "
                    f"folder. Received: {str(path)!r}"
                )
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as exc:
        raise ManifestInvalid(
            f"The manifest cannot be read ({exc.strerror}). Expected {MANIFEST_FILE} in the bundle "
            f"folder. Received: {str(path)!r}"
        ) from exc
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestInvalid(
            f"The manifest is larger than {MAX_MANIFEST_BYTES} bytes. Received: {str(path)!r}"
        )
    return data


def parse_manifest(data: bytes) -> Manifest:
    """Validate the bytes of a manifest of schema version 1 to 6.

    Raises:
        ManifestInvalid: They are not JSON (NaN, Infinity and repeated keys are refused), or not of
            the schema; the message names the field.
    """
    try:
        fields = json.loads(
            data,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=unique_keys,
        )
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        if type(version) is int and version in EARLIER_VERSIONS:
            data = json.dumps(from_earlier(fields, SCHEMA_VERSION)).encode()
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


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of JSON with these pairs; `ValueError` if a key occurs twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} occurs twice")
    return result


def _describe(exc: ValidationError) -> str:
    """What is wrong with each field, where, and the value; five at most."""
    lines = []
    for error in exc.errors(include_url=False)[:5]:
        where = ".".join(str(part) for part in error["loc"]) or "manifest"
        what = {"missing": "the field is missing", "extra_forbidden": "the field is unknown"}.get(
            error["type"], error["msg"]
        )
        found = (
            ""
            if error["type"] == "missing" or not error["loc"]
            else f"; received {error['input']!r:.80}"
        )
        lines.append(f"{where}: {what}{found}")
    return f"The manifest is not of schema version {SCHEMA_VERSION}. " + " | ".join(lines)
