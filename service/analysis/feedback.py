"""What people say of an answer, as lines of JSON in a file, without the picture."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bundle.format.manifest import NAME_PATTERN
from service.errors import FeedbackFull

MAX_BODY_BYTES = 4096
# Anybody may write into it, and it must not fill the disk.
MAX_FILE_BYTES = 100 * 2**20
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

log = logging.getLogger("service")


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /feedback."""

    request_id: Annotated[
        str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Of the answer.")
    ]
    model: Annotated[str, msgspec.Meta(pattern=rf"^{NAME_PATTERN}$")]
    version: Annotated[int, msgspec.Meta(ge=1, le=999_999_999)]
    predicted: Annotated[_Text, msgspec.Meta(description="The label of the answer.")]
    right: Annotated[bool, msgspec.Meta(description="Whether it is right.")]
    label: Annotated[
        _Text | None,
        msgspec.Meta(
            description="What the picture shows; null: the person does not say, or it is right."
        ),
    ] = None


EXPECTED = (
    'an object {"request_id": …, "model": …, "version": …, "predicted": …, "right": true or false, '
    '"label": … or null}'
)
_, _SCHEMAS = msgspec.json.schema_components([Feedback])
BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": _SCHEMAS[Feedback.__name__]}},
}
"""For the OpenAPI description: the body is read by hand, so that it is bounded."""


async def keep(
    file: Path, feedback: Feedback, client: str | None, max_bytes: int = MAX_FILE_BYTES
) -> None:
    """Append a line to the file of feedback.

    Args:
        file: That of the settings.
        feedback: What a person says.
        client: The name of the API key; None: there are no keys.
        max_bytes: Of the file.

    Raises:
        FeedbackFull: The file has reached its limit or can't be written.
    """
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "client": client,
        **msgspec.to_builtins(feedback),
    }
    line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
    await asyncio.to_thread(_append, file, line, max_bytes)


def _append(file: Path, line: bytes, max_bytes: int) -> None:
    try:
        # For the owner alone; in one write, so that lines of several services do not mix.
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            full = os.fstat(descriptor).st_size + len(line) > max_bytes
            if not full:
                os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as exc:
        log.error("the file of feedback can't be written: %s", exc)
        raise FeedbackFull(
            "The feedback can't be kept: its file can't be written. The log says why."
        ) from exc
    if full:
        raise FeedbackFull(
            f"The feedback can't be kept: its file has reached {max_bytes} bytes. The "
            "operator has to move it away."
        )
