"""What the log and the metrics have."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field


class LogOptions(BaseModel):
    """What the log and the metrics have."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Log level."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Form of a log line: `text`, or `json` for programs."
    )
    log_client: bool = Field(
        default=False, description="Whether the log has the address of each request's client."
    )
    feedback_file: Path | None = Field(
        default=None,
        description="File that the body of each POST /feedback is appended to, as a line of JSON; "
        "unset: there is no such route.",
    )
    metrics_classes: int = Field(
        default=100,
        ge=0,
        description="Most classes of a model whose predictions are counted class by class; of a "
        "model with more, the metrics have the scores only. 0: of no model.",
    )
