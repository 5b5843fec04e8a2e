"""Requests of protocols over HTTP: what they ask for, and the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bundle.worker.model_process import Pixels
from service.api import routes
from service.api.disconnect import unless_gone
from service.api.headers import ENCODING, HEADER, refuse_compressed, requested_timeout
from service.api.uploads import Reservation
from service.models.model import Target
from service.protocols import work
from service.protocols.work import Call, Classified


def of(request: Request) -> Call:
    """What a request asks for, by its path."""
    named = request.path_params
    session = routes.session(request)
    known = request.scope["state"]
    return Call(request.app.state, known, named.get("name"), named.get("version"), session)


@asynccontextmanager
async def admitted(request: Request) -> AsyncIterator[tuple[Target, Reservation]]:
    """The model that a request is for, and a reservation for its body, which is not read yet.

    The deadline is that of the header X-Request-Timeout-Ms.

    Raises:
        UnsupportedMediaType: the body is compressed.
        ServiceError: as `work.admitted`.
        InvalidParameter: the header is not a number of milliseconds.
    """
    timeout_s = requested_timeout(request) if HEADER in request.headers else None
    if ENCODING in request.headers:
        refuse_compressed(request)
    async with work.admitted(of(request)._replace(timeout_s=timeout_s)) as found:
        yield found


async def classify(
    request: Request, target: Target, images: Sequence[bytes] | Sequence[Pixels]
) -> Classified:
    """As `work.classify`; the work is dropped when the client of the request leaves."""
    return await unless_gone(
        request, work.classify(request.app.state, request.scope["state"], target, images)
    )


def answer(content: Any) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(content), media_type="application/json")
