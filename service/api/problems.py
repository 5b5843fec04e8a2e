"""Every failure as RFC 9457 problem JSON: one shape, made in one place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from bundle.errors import BundleError, ImageError
from service.errors import (
    BUNDLE_TITLES,
    InvalidParameter,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    RequestTooLarge,
    ServiceError,
)

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499  # nginx's number; nobody is left to read the answer


class ClientGone(Exception):
    """The client has closed the connection; what it asked for is dropped."""


def problem(error: Exception, request_id: str) -> dict[str, Any]:
    """The body of the answer to `error`, one of ServiceError, BundleError, ImageError."""
    status, code = error.status, error.code  # type: ignore[attr-defined]
    title = (
        error.title
        if isinstance(error, ServiceError)
        else BUNDLE_TITLES.get(type(error), ServiceError.title)
    )
    detail = str(error)
    return {
        "type": f"urn:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"urn:request:{request_id}",
        "code": code,
        "error": detail,  # the name under which many clients look for it
        "request_id": request_id,
    }


def problem_response(
    error: Exception, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to `error`."""
    body = problem(error, request_id)
    extra = dict(headers or {})
    if isinstance(error, ServiceError) and error.retry_after_s is not None:
        extra["Retry-After"] = str(error.retry_after_s)
    elif body["status"] == 503:
        extra["Retry-After"] = "2"
    if isinstance(error, RequestTooLarge):
        extra["Connection"] = "close"  # the rest of the body is not read
    return JSONResponse(body, status_code=body["status"], headers=extra, media_type=MEDIA_TYPE)


def client_gone() -> Response:
    """What is sent to nobody, for the log and the metrics."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def request_id(request: Request) -> str:
    """The id that the middleware gave this request."""
    value: str = request.scope.get("state", {}).get("request_id", "unknown")
    return value


def install(app: FastAPI, count: Callable[[str], None]) -> None:
    """Make every failure of `app` leave in the one shape, its code counted; crashes are `service.api.middleware`'s."""

    def answer(
        request: Request, error: Exception, headers: Mapping[str, str] | None = None
    ) -> Response:
        count(error.code)  # type: ignore[attr-defined]
        return problem_response(error, request_id(request), headers)

    async def known(request: Request, exc: Exception) -> Response:
        return answer(request, exc)

    async def framework(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101 - the type that it is registered for
        headers = exc.headers
        method = request.method
        error: ServiceError
        if exc.status_code == 404:
            error = NotFound("There is no such route. The routes are listed at /docs.")
        elif exc.status_code == 405:
            allowed = (headers or {}).get("Allow", "another method")
            if allowed == "GET":  # then HEAD, see service.api.middleware
                allowed = "GET, HEAD"
                headers = {"Allow": allowed}
            error = MethodNotAllowed(
                f"This route does not take {method}. Expected: {allowed}. Received: {method}"
            )
        else:
            error = MalformedRequest(f"The request can't be read: {exc.detail}")
        return answer(request, error, headers)

    async def validation(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)  # noqa: S101
        return answer(request, InvalidParameter(_describe(exc)))

    async def gone(request: Request, exc: Exception) -> Response:  # noqa: ARG001 - the signature of a handler
        return client_gone()

    for kind in (ServiceError, BundleError, ImageError):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(ClientGone, gone)


def _describe(exc: RequestValidationError) -> str:
    """Each wrong parameter by name, with what was expected and what came."""
    parts = []
    for error in exc.errors():
        where = ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0])
        parts.append(
            f"{where}: {error['msg']}. Received: {json.dumps(error.get('input'), default=str)[:200]}"
        )
    return "; ".join(parts)
