"""POST /predict bypassing FastAPI: well-formed requests call the route function directly.

Routing and parsing three query parameters takes FastAPI as long as all of this service's own work
on a request (docs/performance.md), and longer than a refusal under overload. Every other request
takes the usual path, which reports what is wrong with it; both paths give the same responses.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from pydantic import TypeAdapter
from starlette.types import ASGIApp, Receive, Scope, Send

from bundle.errors import BundleError, ImageError
from bundle.format.manifest import NAME_PATTERN
from service.api.problems import ClientGone, client_gone, problem_response, request_id
from service.api.routes import predict
from service.errors import ServiceError
from service.metrics import Metrics

PATH = "/predict"
# What the router would set, for the metrics.
ROUTE = SimpleNamespace(path=PATH)
JSON = TypeAdapter(dict[str, Any])
NUMBER = r"[1-9][0-9]{0,8}"
# Query parameter: argument, pattern, type.
PARAMETERS = {
    "model": ("name", re.compile(NAME_PATTERN), str),
    "version": ("version", re.compile(NUMBER), int),
    "top_k": ("top_k", re.compile(NUMBER), int),
}


class FastPath:
    """Handles POST /predict, and passes everything else on."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond, or pass on."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            arguments = _arguments(scope["query_string"])
            if arguments is not None:
                scope["route"] = ROUTE
                response = await self._respond(Request(scope, receive), arguments)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _respond(self, request: Request, arguments: dict[str, Any]) -> Response:
        response = Response(media_type="application/json")
        try:
            content = await predict(request, response, **arguments)
        except (ServiceError, BundleError, ImageError) as exc:
            self.metrics.problem(exc.code)
            return problem_response(exc, request_id(request))
        except ClientGone:
            return client_gone()
        response.body = JSON.dump_json(content)
        response.headers["content-length"] = str(len(response.body))
        return response


def _arguments(query: bytes) -> dict[str, Any] | None:
    """The arguments of the route's function; None if FastAPI has to validate the query."""
    found: dict[str, Any] = {}
    try:
        fields = (
            parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True)
            if query
            else []
        )
    except ValueError:
        return None
    for name, value in fields:
        argument, pattern, kind = PARAMETERS.get(name, ("", None, str))
        if pattern is None or argument in found or not pattern.fullmatch(value):
            return None
        found[argument] = kind(value)
    return found
