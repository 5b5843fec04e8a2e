"""Pages of other origins may call the service from a browser, where a setting lists them (CORS).

Source: the Fetch standard, 3.2; the library's middleware does it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from service.api.middleware import HEADER
from service.api.problems import problem_response
from service.errors import MalformedRequest

METHODS = ("GET", "HEAD", "POST", "PUT")
# What a page may read, in addition to what every page may.
READABLE = ("X-Request-Id", "Retry-After", "Cache-Status", "Inference-Header-Content-Length")


class CrossOrigin(CORSMiddleware):
    """Answers preflight requests, and adds the headers that let a page read the response.

    Args:
        app: The application.
        origins: As in the header Origin; `*`: all.
        count: Called with the code of each refusal.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], count: Callable[[str], None]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=READABLE,
        )
        self._count = count

    def preflight_response(self, request_headers: Headers) -> Response:
        """As the library does, but a refusal is a problem."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        origin = request_headers.get("origin", "")[:200]
        method = request_headers.get("access-control-request-method", "")[:20]
        error = MalformedRequest(
            "A page of this origin may not send this request. Expected an origin of "
            f"SERVICE_CORS_ORIGINS, and one of {', '.join(METHODS)}. "
            f"Received: {origin!r}, {method!r}"
        )
        self._count(error.code)
        identity = uuid.uuid4().hex[:16]
        return problem_response(error, identity, {"Vary": "Origin", HEADER: identity})
