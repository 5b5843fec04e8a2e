"""What the routes of this room do with a request before its model runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext

from fastapi import Request
from starlette.datastructures import State

from service.api.headers import HEADER, requested_timeout, within
from service.api.parameters import Version
from service.api.routes import choose, session
from service.api.uploads import read_image
from service.models.model import Target

# A media range of the header Accept, and its quality (RFC 9110, 12.5.1).
_RANGE = re.compile(r"\s*([^\s;,]+)\s*(?:;[^,]*?\bq\s*=\s*([0-9.]+))?[^,]*")


@asynccontextmanager
async def uploaded(
    request: Request,
    name: str | None,
    version: Version | None,
    check: Callable[[Target], None],
) -> AsyncIterator[tuple[Target, bytes]]:
    """The model and the image of a request, whose body is read only once `check` has passed.

    What runs inside is cancelled at the deadline of the request.

    Raises:
        ServiceError: As `choose`, `check`, `within` and `read_image`.
    """
    state: State = request.app.state
    timeout_s = requested_timeout(request) if HEADER in request.headers else None
    known = request.scope["state"]
    target = choose(state, known, name, version, session(request), timeout_s)
    check(target)
    async with within(timeout_s) if timeout_s else nullcontext():
        with target, state.budget.reserve() as reservation:
            upload = await read_image(request, reservation, state.settings.max_image_bytes)
            yield target, upload.data


def prefers(accept: str, wanted: str, usual: str) -> bool:
    """Whether a client would rather have the media type `wanted` than the `usual` one.

    Args:
        accept: The header; empty: the client does not say.
        wanted: A media type, as `image/png`.
        usual: The one that it gets if it likes both as much.
    """
    return _quality(accept, wanted) > _quality(accept, usual)


def _quality(accept: str, kind: str) -> float:
    """The quality of a media type in the header: that of the most specific range with it."""
    by_range = {}
    for found in _RANGE.finditer(accept.lower()):
        try:
            by_range[found[1]] = float(found[2] or 1)
        except ValueError:
            by_range[found[1]] = 0.0
    names = (kind, f"{kind.partition('/')[0]}/*", "*/*")
    return next((by_range[name] for name in names if name in by_range), 0.0)
