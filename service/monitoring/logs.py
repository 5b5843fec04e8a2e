"""The log on standard output: lines of text for people, or of JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.settings import Settings


class Event:
    """A message of fields: JSON has each of them, text a line that is composed of their values.

    Args:
        line: what a person reads.
        fields: what a program reads; None: not known.
    """

    def __init__(self, line: str, fields: Mapping[str, Any]) -> None:
        self._line = line
        self.fields = fields

    def __str__(self) -> str:
        return self._line


class TextFormatter(logging.Formatter):
    """Time, level, logger and message; an exception follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """The time as RFC 3339 has it, with the offset of the local zone."""
        return (
            datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        )


class JsonFormatter(TextFormatter):
    """One object a line, without the fields that are not known; an exception is one field."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        found: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = record.msg.fields if isinstance(record.msg, Event) else {}
        # Of `log.exception(..., extra={"request_id": ...})`.
        if identity := getattr(record, "request_id", None):
            found["request_id"] = identity
        found.update((name, value) for name, value in fields.items() if value is not None)
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            found["stack"] = record.stack_info
        # ASCII: a message may have half of a surrogate pair, which is no UTF-8.
        return json.dumps(found, default=str)


def configure_logging(settings: Settings) -> None:
    """One line per event on standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    # It warns about invalid forms, which are the client's problem and are reported in the response.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
