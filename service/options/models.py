"""What is served, and by what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, PlainValidator, field_validator

from bundle.format.manifest import NAME_PATTERN
from service.options.address import Address, default_cache, folder_or_address
from service.options.types import Positive, Seconds


class ModelOptions(BaseModel):
    """What is served, and by what."""

    models_dir: Annotated[Path | Address, PlainValidator(folder_or_address)] = Field(
        default=Path("models"),
        description="Model repository: `<name>/<version>/manifest.json`. A folder, or an address "
        "that is copied into one: `s3://`, `gs://`, `az://`, `hf://` or `https://`.",
    )
    models_cache: Path | None = Field(
        default=None,
        description="Folder for copies of models that lie elsewhere; unset: `resnet-service` in "
        "the user's cache folder.",
    )
    models_refresh_s: float = Field(
        default=60,
        ge=0,
        le=86_400,
        description="How often to look for changes in a model repository that lies elsewhere, in "
        "seconds; 0: only on SIGHUP.",
    )
    default_model: str | None = Field(
        default=None,
        description="Model used when a request names none; unset: the one that the file `default` "
        "in the model repository names, or its only model.",
    )
    versions: str = Field(
        default="latest",
        pattern=r"^(all|latest(:[1-9][0-9]{0,3})?|[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*)$",
        description="Versions of each model to load: `latest`, `latest:2` and so on, `all`, or "
        "their numbers, as `1,4`. A refused one does not count.",
    )
    watch_s: float = Field(
        default=5,
        ge=0,
        le=86_400,
        description="How often to look for changes in the model repository, in seconds; "
        "0: only on SIGHUP.",
    )
    session_header: str = Field(
        default="X-Session-Id",
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Header whose value keeps a client with one version of a model that has a "
        "canary.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Device that runs the models; auto: CUDA if available."
    )
    runtime: str = Field(
        default="auto",
        pattern=rf"^{NAME_PATTERN}$",
        description="Artifact to run: `auto`, the fastest one within 0.5 points of the source's "
        "accuracy; `source`; or an artifact id such as `openvino-int8`.",
    )
    runtime_threads: Positive | None = Field(
        default=None, description="CPU threads per model; unset: all cores."
    )
    instances: Positive = Field(
        default=1,
        le=64,
        description="Processes per model, each with a copy of it; they share its queue.",
    )
    openmp_wait: Literal["passive", "active"] = Field(
        default="passive",
        description="OpenMP wait policy of PyTorch workers: `passive` threads sleep, for shared "
        "cores; `active` ones spin, for one model alone on a machine. OMP_WAIT_POLICY wins.",
    )
    compiled_dir: Path | None = Field(
        default=None,
        description="Cache folder for compiled OpenVINO models, for faster restarts; unset: none.",
    )
    load_timeout_s: Seconds = Field(
        default=120,
        description="Model load timeout, including verification and self-test, in seconds.",
    )

    @property
    def models_folder(self) -> Path:
        """The folder of the model repository: itself, or its copy."""
        if isinstance(self.models_dir, Path):
            return self.models_dir
        return self.models_dir.folder(self.models_cache or default_cache())

    @field_validator("default_model")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(NAME_PATTERN, value):
            raise ValueError(f"a model name matches {NAME_PATTERN}")
        return value
