"""What the log has."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class LogOptions(BaseModel):
    """What the log has."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Log level."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Form of a log line: `text`, or `json` for programs."
    )
    log_client: bool = Field(
        default=False, description="Whether the log has the address of each request's client."
    )
