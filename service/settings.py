"""Every setting of the service, with its default and help; read once from the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bundle.format.manifest import NAME_PATTERN
from bundle.imaging.decode import MAX_PIXELS, ImageLimits
from service import neighbours

PREFIX = neighbours.PREFIX
# As browsers send it (RFC 6454, 7): scheme, host and port, without a path.
ORIGIN = re.compile(r"https?://[a-z0-9.\-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")

Seconds = Annotated[float, Field(gt=0, le=3600)]
Positive = Annotated[int, Field(ge=1)]


class SettingsError(ValueError):
    """A variable has an invalid value; the message names it."""


class Settings(BaseSettings):
    """The settings, from environment variables with the prefix SERVICE_."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True
    )

    models_dir: Path = Field(
        default=Path("models"),
        description="Model repository: `<name>/<version>/manifest.json`.",
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
    admin_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Key of the routes that load and unload models, of at least 16 characters; "
        "unset: there are no such routes.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0: all.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on.")
    root_path: str | None = Field(
        default=None,
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        description="Prefix of the paths behind a proxy, such as `/classifier`, whether the proxy "
        "removes it or not.",
    )
    trusted_proxies: str | None = Field(
        default=None,
        description="Addresses and networks of proxies, with commas between them, whose "
        "`X-Forwarded-For` and `X-Forwarded-Proto` are believed; `*`: all. Unset: none.",
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
    max_image_bytes: Positive = Field(
        default=20_000_000, description="Maximum size of an image file, in bytes."
    )
    max_image_pixels: Positive = Field(
        default=50_000_000,
        le=MAX_PIXELS,
        description="Maximum pixels of an image (width x height).",
    )
    max_image_side: Positive = Field(
        default=16_384, description="Maximum side of an image, in pixels."
    )
    max_aspect_ratio: float = Field(
        default=50.0, ge=1, allow_inf_nan=False, description="Maximum aspect ratio of an image."
    )
    max_jpeg_scans: Positive = Field(
        default=100, description="Maximum scans of a progressive JPEG."
    )
    decode_timeout_s: Seconds = Field(
        default=5,
        description="Decode timeout per image in a decoder, in seconds; the decoder is killed.",
    )
    decode_workers: Positive | None = Field(
        default=None,
        description="Most decoder processes at once; they start when needed. Unset: one per core.",
    )
    decode_memory_mb: int = Field(
        default=1024,
        ge=256,
        description="Memory limit of a decoder, on top of what it uses at start, in MB.",
    )
    request_timeout_s: Seconds = Field(default=30, description="Request read timeout, in seconds.")
    keep_alive_s: int = Field(
        default=75,
        ge=1,
        le=3600,
        description="How long an idle connection stays open, in seconds; longer than the load "
        "balancer in front keeps its own, which is 60 s for most.",
    )
    inference_timeout_s: Seconds = Field(
        default=30, description="Inference timeout per image, queueing included, in seconds."
    )
    max_batch: Positive = Field(
        default=32,
        description="Maximum batch size; the bundle's measured optimum applies if smaller.",
    )
    queue_size: Positive = Field(
        default=256, description="Queue length per model; further requests get 429."
    )
    max_files: Positive = Field(
        default=64,
        description="Maximum files per /predict/batch request, capped at the queue length.",
    )
    max_request_bytes: Positive = Field(
        default=100_000_000, description="Maximum body size of /predict/batch, in bytes."
    )
    cache_mb: int = Field(
        default=0,
        ge=0,
        description="Memory of the response cache, in MB; 0: no cache.",
    )
    cors_origins: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None,
        description="Origins whose pages may call the service from a browser (CORS), separated by "
        "commas: `https://example.org,http://127.0.0.1:3000`; `*`: all; unset: none.",
    )
    drain_delay_s: float = Field(
        default=0,
        ge=0,
        le=600,
        description="Time to keep serving while unready after SIGTERM, in seconds.",
    )
    drain_timeout_s: Seconds = Field(
        default=20, description="Time for requests in flight to finish at shutdown, in seconds."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Log level."
    )
    log_client: bool = Field(
        default=False, description="Whether the log has the address of each request's client."
    )

    @field_validator("default_model")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(NAME_PATTERN, value):
            raise ValueError(f"a model name matches {NAME_PATTERN}")
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _are_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        origins = tuple(part.strip() for part in value.split(","))
        for origin in origins:
            if not ORIGIN.fullmatch(origin) and origins != ("*",):
                raise ValueError(
                    f"an origin is a scheme, a host and a port, as https://example.org; or * alone "
                    f"for all. {origin!r} is not"
                )
        return origins

    @field_validator("host", "port", mode="before")
    @classmethod
    def _is_ours(cls, value: object, info: ValidationInfo) -> object:
        """Kubernetes sets SERVICE_PORT=tcp://10.1.2.3:8000 for a Service called `service`."""
        if neighbours.is_address(value):
            return cls.model_fields[info.field_name or ""].default
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, value: str | None) -> str | None:
        """Uvicorn takes any other text for the name of a socket."""
        for part in value.split(",") if value not in (None, "*") else ():
            ipaddress.ip_network(part.strip())
        return value

    @property
    def batch_files(self) -> int:
        """Maximum files per batch request: more than the queue length would never be admitted."""
        return min(self.max_files, self.queue_size)

    @property
    def image_limits(self) -> ImageLimits:
        """The limits checked before an image is decoded."""
        return ImageLimits(
            max_bytes=self.max_image_bytes,
            max_pixels=self.max_image_pixels,
            max_side=self.max_image_side,
            max_aspect_ratio=self.max_aspect_ratio,
            max_jpeg_scans=self.max_jpeg_scans,
        )


def read_settings() -> Settings:
    """The settings from the environment.

    Raises:
        SettingsError: a value is invalid; the variable is named.
    """
    try:
        return Settings()
    except ValidationError as exc:
        problems = []
        for error in exc.errors():
            name = PREFIX + "_".join(map(str, error["loc"])).upper()
            secret = error["loc"] == ("admin_key",)
            received = f"{len(error['input'])} characters" if secret else repr(error["input"])
            problems.append(f"{name}: {error['msg']}. Received: {received}")
        raise SettingsError("; ".join(problems)) from exc


def ignored_variables() -> list[str]:
    """A sentence for each variable of the environment that looks like a setting and is none."""
    return neighbours.warnings(
        os.environ, (PREFIX + name.upper() for name in Settings.model_fields)
    )


def settings_table(values: Settings | None = None) -> str:
    """The settings as a Markdown table; with `values`, also what is in force."""
    head = ["variable", "default", *(["in force"] if values else []), "meaning"]
    rows = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, field in Settings.model_fields.items():
        cells = [field.default, *([getattr(values, name)] if values else [])]
        shown = ["" if cell is None else f"`{cell}`" for cell in cells]
        row = [f"`{PREFIX}{name.upper()}`", *shown, field.description or ""]
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows)
