"""Headers of a request: the deadline X-Request-Timeout-Ms, and no compression of the body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request

from service.errors import DeadlineExceeded, InvalidParameter, UnsupportedMediaType

HEADER = "X-Request-Timeout-Ms"
ENCODING = "Content-Encoding"
MAX_MS = 3_600_000

PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Time in which the client needs the response, in milliseconds.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_MS},
}
"""The header in the OpenAPI description: it is read by hand."""


def requested_timeout(request: Request) -> float:
    """Seconds in which a client that sends the header needs the response.

    Raises:
        InvalidParameter: the header is not a number of milliseconds.
    """
    text = request.headers[HEADER]
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MAX_MS):
        raise InvalidParameter(
            f"{HEADER}: expected whole milliseconds, 1 to {MAX_MS}. Received: {text[:50]!r}"
        )
    return int(text) / 1000


@asynccontextmanager
async def within(timeout_s: float) -> AsyncIterator[None]:
    """Cancel what runs inside after `timeout_s`.

    Raises:
        DeadlineExceeded: it did not finish in time.
    """
    timeout = asyncio.timeout(timeout_s)
    try:
        async with timeout:
            yield
    except TimeoutError as exc:
        if not timeout.expired():
            raise
        raise DeadlineExceeded(
            f"There is no result within the {timeout_s * 1000:.0f} ms that the client has set "
            f"({HEADER}, or the deadline of a gRPC call). "
            "Send the request again with more time."
        ) from exc


def refuse_compressed(request: Request) -> None:
    """Refuse a body that the header Content-Encoding calls compressed.

    Raises:
        UnsupportedMediaType: it does.
    """
    encoding = request.headers[ENCODING]
    if encoding != "identity":
        raise UnsupportedMediaType(
            "The body is compressed, which this service does not accept. Expected no "
            f"Content-Encoding. Received: {encoding[:100]!r}"
        )
