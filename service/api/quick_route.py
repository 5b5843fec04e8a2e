"""Routes that read a well-formed query themselves.

Solving the dependencies of a route takes FastAPI as long as all of this service's own work on a
request (docs/performance.md), and longer than a refusal under overload. Every other query takes the
usual path, which reports what is wrong with it; both give the same responses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from bundle.format.manifest import NAME_PATTERN

JSON = TypeAdapter(dict[str, Any])
NUMBER = r"[1-9][0-9]{0,8}"


def _version(value: str) -> int | str:
    return int(value) if value.isdecimal() else value


# Query parameter: argument, pattern, type.
PARAMETERS: dict[str, tuple[str, re.Pattern[str], Callable[[str], float | str]]] = {
    "model": ("name", re.compile(NAME_PATTERN), str),
    "version": ("version", re.compile(f"{NUMBER}|stable|canary"), _version),
    "top_k": ("top_k", re.compile(NUMBER), int),
    "crop": ("crop", re.compile("center|whole"), str),
    # The range of `CoverageQuery`.
    "coverage": ("coverage", re.compile(r"0\.[5-9][0-9]?"), float),
}


class QuickRoute(APIRoute):
    """Calls the function of a POST route without FastAPI's parsing, where its query allows that."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond; errors become problems in the application's exception handlers."""
        arguments = _arguments(scope["query_string"]) if self.methods == {"POST"} else None
        if arguments is None or scope["method"] != "POST":
            await super().handle(scope, receive, send)
            return
        response = Response(media_type="application/json")
        content = await self.endpoint(Request(scope, receive, send), response, **arguments)
        response.body = JSON.dump_json(content)
        response.headers["content-length"] = str(len(response.body))
        await response(scope, receive, send)


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
