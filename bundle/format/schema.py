"""The parts of a manifest, one model each; `bundle.format.manifest` puts them together.

Every field is required, unknown fields are refused, types are strict, numbers are finite.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

MANIFEST_FILE = "manifest.json"
NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
MAX_SIDE = 16_384

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _safe_path(value: str) -> str:
    """A path below the bundle: relative, POSIX, normalized, valid on every operating system."""
    parts = value.split("/")
    if len(value) > 512 or not value:
        raise ValueError("a path has 1 to 512 characters")
    if "\\" in value or ":" in value or _CONTROL.search(value):
        raise ValueError("a path has no backslash, colon or control character")
    if value.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            "a path is relative and stays inside the bundle: no leading '/', no '.', no '..'"
        )
    if value == MANIFEST_FILE:
        raise ValueError(f"{MANIFEST_FILE} does not list itself")
    return str(PurePosixPath(*parts))


BundlePath = Annotated[str, AfterValidator(_safe_path)]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]
Name = Annotated[str, Field(pattern=rf"\A{NAME_PATTERN}\z")]
Count = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """Base of all parts."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ShorterSide(Record):
    """Scale so that the shorter side has `size` pixels; the aspect ratio stays."""

    rule: Literal["shorter_side"]
    size: Side
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]


class Stretch(Record):
    """Scale to exactly `height` x `width` pixels; the aspect ratio is not kept."""

    rule: Literal["stretch"]
    height: Side
    width: Side
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]


Resize = Annotated[ShorterSide | Stretch, Field(discriminator="rule")]


class Crop(Record):
    """Cut the middle `height` x `width` pixels out of the resized image."""

    rule: Literal["center"]
    height: Side
    width: Side


class Input(Record):
    """Input of the model, and the geometry of preprocessing (`bundle.imaging.geometry`)."""

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
            raise ValueError(f"the crop is larger than the resized image can be: {smallest}")
        return self


class Derivation(Record):
    """How an accelerated artifact was made from the source, and how its logits differ from it."""

    versions: dict[Text, Text]
    calibration_samples: Count
    compared_samples: Annotated[int, Field(ge=1)]
    max_logit_difference: Annotated[float, Field(ge=0)]
    top1_agreement: Fraction
    golden_tolerance: Annotated[float, Field(gt=0, le=0.5)]


class Speed(Record):
    """Speed on one machine: one image alone, and at the batch size with the most images/s."""

    device: Literal["cpu", "cuda"]
    hardware: Text
    threads: Annotated[int, Field(ge=1)]
    latency_ms: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    images_per_second: Annotated[float, Field(gt=0)]


_SOURCES = (("torchscript", "fp32"), ("savedmodel", "fp32"), ("openvino", "fp32"))
_DERIVED = (
    *(("openvino", precision) for precision in ("fp32", "bf16", "int8")),
    *(("torchscript", precision) for precision in ("bf16", "fp16")),
)


class Artifact(Record):
    """One runnable form of the model: exported or imported, or derived from that."""

    id: Name
    format: Literal["torchscript", "savedmodel", "openvino"]
    path: BundlePath
    precision: Literal["fp32", "bf16", "fp16", "int8"]
    source: bool
    derivation: Derivation | None
    speeds: list[Speed]

    @model_validator(mode="after")
    def _source_is_not_derived(self) -> Self:
        if self.source != (self.derivation is None):
            raise ValueError("derivation is null for the source, and for it alone")
        if (self.format, self.precision) not in (_SOURCES if self.source else _DERIVED):
            raise ValueError(
                "the source is torchscript, savedmodel or openvino in fp32; derived from it are "
                "openvino in fp32, bf16 or int8 and torchscript in bf16 or fp16"
            )
        if len({speed.device for speed in self.speeds}) != len(self.speeds):
            raise ValueError("speeds: one of each device")
        return self

    def speed(self, device: str) -> Speed | None:
        """The speed measured on `cpu` or `cuda`, or None."""
        return next((speed for speed in self.speeds if speed.device == device), None)


class FileRecord(Record):
    """Size in bytes and sha256 (64 lower-case hex digits) of one file."""

    size: Count
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class Framework(Record):
    """The framework of the model, and the versions of its packages."""

    name: Literal["pytorch", "tensorflow", "onnx"]
    versions: dict[Text, Text]


class ClassActivation(Record):
    """Heat maps by class activation (Zhou et al. 2016), of the size of the last feature map."""

    method: Literal["class_activation"]
    height: Side
    width: Side
    channels: Annotated[int, Field(ge=1)]


class NoHeatmap(Record):
    """The network does not end in global average pooling and one linear layer."""

    method: Literal["none"]


class Architecture(Record):
    """The network; what an import could not find out is null."""

    name: Text | None
    parameters: Count | None


class Import(Record):
    """Where an imported model comes from, and how its numbers are to be read."""

    command: Text
    file: Text
    sha256: Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")] | None
    kind: Text
    normalisation: Text
    outputs: Literal["logits", "probabilities"]
    assumed: list[Text]


class Training(Record):
    """How the model was trained: enough to repeat it."""

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


class Metric(Record):
    """One figure, measured through the exported artifact and the serving code path."""

    name: Text
    value: float
    split: Text
    samples: Annotated[int, Field(ge=1)]
    labels: list[Text] | None
    interval_95: tuple[float, float]
    runtime: Text
    precision: Text

    @model_validator(mode="after")
    def _interval_holds_value(self) -> Self:
        low, high = self.interval_95
        if not low <= self.value <= high:
            raise ValueError(f"interval_95 {[low, high]} does not contain the value {self.value}")
        return self


class Calibration(Record):
    """Temperature scaling (Guo et al. 2017): scores are softmax(logits / temperature)."""

    method: Literal["temperature"]
    temperature: Annotated[float, Field(gt=0)]
    split: Text
    samples: Annotated[int, Field(ge=1)]
    expected_calibration_error_before: Fraction
    expected_calibration_error_after: Fraction
    bins: Annotated[int, Field(ge=1)]


class NoCalibration(Record):
    """Nothing was fitted, for lack of data: scores are softmax(logits)."""

    method: Literal["none"]
    temperature: Annotated[float, Field(ge=1, le=1)]


class Export(Record):
    """Largest difference between the logits of the framework and of the exported artifact."""

    max_logit_difference: Annotated[float, Field(ge=0)]
    samples: Annotated[int, Field(ge=1)]


class GoldenScore(Record):
    """One recorded score."""

    index: Count
    label: Text
    score: Fraction


class GoldenSample(Record):
    """An image in the bundle and its best scores, best first."""

    file: BundlePath
    top: Annotated[list[GoldenScore], Field(min_length=1)]


class Golden(Record):
    """Recorded scores that the loaded model must reproduce within an absolute `tolerance`."""

    tolerance: Annotated[float, Field(gt=0, le=0.1)]
    samples: Annotated[list[GoldenSample], Field(min_length=1)]
