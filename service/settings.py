"""Every setting of the service: name, type, default and one line of help; read once from the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bundle.format.manifest import NAME_PATTERN
from bundle.imaging.decode import MAX_PIXELS, ImageLimits

PREFIX = "SERVICE_"
FOREIGN = {"SERVICE_URL"}  # the frontend's, which has the prefix too

Seconds = Annotated[float, Field(gt=0, le=3600)]
Positive = Annotated[int, Field(ge=1)]


class SettingsError(ValueError):
    """A variable has a wrong value or an unknown name; the text names it."""


class Settings(BaseSettings):
    """The settings, from variables with the prefix SERVICE_."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    models_dir: Path = Field(
        default=Path("models"),
        description="The model repository: `<name>/<version>/manifest.json`.",
    )
    default_model: str | None = Field(
        default=None,
        description="Model that answers when a request names none; unset: the first PyTorch one by name.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where models run; auto: CUDA where present."
    )
    runtime: str = Field(
        default="auto",
        pattern=rf"^{NAME_PATTERN}$",
        description="What runs: `auto`, the fastest artifact within 0.5 points of the source's accuracy; `source`; "
        "or the id of an artifact, such as `openvino-int8`.",
    )
    runtime_threads: Positive | None = Field(
        default=None, description="CPU threads of each model; unset: all cores."
    )
    openmp_wait: Literal["passive", "active"] = Field(
        default="passive",
        description="How PyTorch's CPU threads wait for each other: `passive` sleeps, for shared cores; "
        "`active` spins, even when idle, for a machine with one model alone. OMP_WAIT_POLICY overrides it.",
    )
    compiled_dir: Path | None = Field(
        default=None,
        description="Folder in which OpenVINO keeps what it compiles, which shortens later starts; unset: none.",
    )
    load_timeout_s: Seconds = Field(
        default=120, description="Time that a model has to load and pass its self-test, in seconds."
    )
    max_image_bytes: Positive = Field(
        default=20_000_000, description="Largest image file, in bytes."
    )
    max_image_pixels: Positive = Field(
        default=50_000_000, le=MAX_PIXELS, description="Most pixels of an image, by its header."
    )
    max_image_side: Positive = Field(
        default=16_384, description="Longest side of an image, in pixels."
    )
    max_aspect_ratio: float = Field(
        default=50.0, ge=1, allow_inf_nan=False, description="Largest ratio of an image's sides."
    )
    max_jpeg_scans: Positive = Field(default=100, description="Most scans of a progressive JPEG.")
    max_gif_frames: Positive = Field(
        default=1000, description="Most frames of a GIF, of which the first is classified."
    )
    decode_timeout_s: Seconds = Field(
        default=5, description="Time to decode one image before its decoder is killed, in seconds."
    )
    decode_workers: Positive | None = Field(
        default=None, description="Decoder processes; unset: one per core."
    )
    decode_memory_mb: int = Field(
        default=1024,
        ge=256,
        description="Memory that a decoder may add to what it starts with, in MB.",
    )
    request_timeout_s: Seconds = Field(
        default=30, description="Time that a request has to arrive in full, in seconds."
    )
    inference_timeout_s: Seconds = Field(
        default=30, description="Time for one image to wait and be classified, in seconds."
    )
    max_batch: Positive = Field(
        default=32,
        description="Most images of one forward pass; fewer where the bundle was measured to be best with fewer.",
    )
    queue_size: Positive = Field(
        default=256, description="Most images that wait for a model; beyond it 429."
    )
    max_files: Positive = Field(
        default=64,
        description="Most files of one /predict/batch request; never more than may wait for a model.",
    )
    max_request_bytes: Positive = Field(
        default=100_000_000, description="Largest body of /predict/batch, in bytes."
    )
    cache_mb: int = Field(
        default=0,
        ge=0,
        description="Memory for answers to images that may come again, in MB; 0: none are kept.",
    )
    drain_delay_s: float = Field(
        default=0,
        ge=0,
        le=600,
        description="Time to serve on, un-ready, after SIGTERM, for load balancers to notice, in seconds.",
    )
    drain_timeout_s: Seconds = Field(
        default=20, description="Time that requests have to finish at shutdown, in seconds."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )

    @field_validator("default_model")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(NAME_PATTERN, value):
            raise ValueError(f"a model name matches {NAME_PATTERN}")
        return value

    @property
    def batch_files(self) -> int:
        """Most files of a request for a batch; with more than may wait it would never have its turn."""
        return min(self.max_files, self.queue_size)

    @property
    def image_limits(self) -> ImageLimits:
        """The limits that an image is held to before it is decoded."""
        return ImageLimits(
            max_bytes=self.max_image_bytes,
            max_pixels=self.max_image_pixels,
            max_side=self.max_image_side,
            max_aspect_ratio=self.max_aspect_ratio,
            max_jpeg_scans=self.max_jpeg_scans,
            max_gif_frames=self.max_gif_frames,
        )


def read_settings() -> Settings:
    """The settings from the environment.

    Raises:
        SettingsError: a value is wrong, or a variable with the prefix is none of ours; the text names it.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | FOREIGN
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(
            f"Unknown setting. Expected one of {', '.join(sorted(known - FOREIGN))}. Received: {', '.join(unknown)}"
        )
    try:
        return Settings()
    except ValidationError as exc:
        problems = [
            f"{PREFIX}{'_'.join(map(str, error['loc'])).upper()}: {error['msg']}. Received: {error['input']!r}"
            for error in exc.errors()
        ]
        raise SettingsError("; ".join(problems)) from exc


def settings_table() -> str:
    """The settings as a Markdown table, as the README has it."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)
