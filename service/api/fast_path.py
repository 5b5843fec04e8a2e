"""POST /predict past the framework: a well-formed request goes straight to the function of its route.

Routing and the parsing of three query parameters cost FastAPI as much time as all of this service's own work on a request
(docs/performance.md), and a refusal under overload more. What is not plainly well-formed here takes the usual way, and is
described there; both ways give the same answers.
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
ROUTE = SimpleNamespace(path=PATH)  # as the router would leave it, for the metrics
JSON = TypeAdapter(dict[str, Any])
NUMBER = r"[1-9][0-9]{0,8}"
PARAMETERS = {  # the name in the query: the argument, what is well-formed, its type
    "model": ("name", re.compile(NAME_PATTERN), str),
    "version": ("version", re.compile(NUMBER), int),
    "top_k": ("top_k", re.compile(NUMBER), int),
}


class FastPath:
    """Answers POST /predict, and passes everything else on."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            arguments = _arguments(scope["query_string"])
            if arguments is not None:
                scope["route"] = ROUTE
                response = await self._answer(Request(scope, receive), arguments)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _answer(self, request: Request, arguments: dict[str, Any]) -> Response:
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
    """The arguments of the route's function; None where the framework has to judge."""
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
