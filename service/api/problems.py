"""Every failure as RFC 9457 problem JSON: one table, one shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from bundle.errors import (
    BundleError,
    ImageError,
    ImageTooLarge,
    RuntimeUnavailable,
    UnreadableImage,
    UnsupportedImageType,
)
from service import errors
from service.api.schemas import Problem
from service.errors import Failure, ServiceError

MEDIA_TYPE = "application/problem+json"
# nginx's number; nothing is sent
CLIENT_CLOSED_REQUEST = 499


class Kind(NamedTuple):
    """How HTTP shows an error: status, title, and seconds for the header Retry-After."""

    status: int
    title: str
    retry_after_s: int | None = None


PROBLEMS: dict[type[Failure], Kind] = {
    errors.MalformedRequest: Kind(400, "Malformed request"),
    errors.Unauthorized: Kind(401, "Unauthorized"),
    errors.UnknownKey: Kind(401, "Unknown key"),
    errors.Forbidden: Kind(403, "Forbidden"),
    errors.NotFound: Kind(404, "Not found"),
    errors.NoCard: Kind(404, "No model card"),
    errors.UnknownModel: Kind(404, "Unknown model"),
    errors.UnknownVersion: Kind(404, "Unknown version"),
    errors.FeedbackOff: Kind(404, "No feedback"),
    errors.MethodNotAllowed: Kind(405, "Method not allowed"),
    errors.RequestTimeout: Kind(408, "Request timeout"),
    ImageTooLarge: Kind(413, "Image too large"),
    errors.RequestTooLarge: Kind(413, "Request too large"),
    UnsupportedImageType: Kind(415, "Unsupported image type"),
    errors.UnsupportedMediaType: Kind(415, "Unsupported media type"),
    errors.DecodeTimeout: Kind(422, "Image takes too long to decode"),
    errors.NoHeatmap: Kind(422, "No heat map"),
    errors.NoEmbedding: Kind(422, "No embedding"),
    errors.InvalidParameter: Kind(422, "Invalid parameter"),
    errors.UnknownParameter: Kind(422, "Unknown parameter"),
    errors.NoPredictionSets: Kind(422, "No prediction sets"),
    errors.NoWholePicture: Kind(422, "No whole pictures"),
    UnreadableImage: Kind(422, "Unreadable image"),
    errors.QueueFull: Kind(429, "Queue full", 1),
    errors.DeadlineUnreachable: Kind(429, "Deadline can't be met", 1),
    errors.RateLimited: Kind(429, "Rate limited", 1),
    errors.InternalError: Kind(500, "Internal error"),
    RuntimeUnavailable: Kind(500, "Runtime unavailable"),
    errors.DecoderUnavailable: Kind(503, "Decoder unavailable", 2),
    errors.FeedbackFull: Kind(503, "Feedback is full", 60),
    errors.Draining: Kind(503, "Draining", 5),
    errors.ModelRefused: Kind(503, "Model refused", 60),
    errors.SignatureRefused: Kind(503, "Signature invalid", 60),
    errors.ModelUnavailable: Kind(503, "Model unavailable", 2),
    errors.NotReady: Kind(503, "Not ready", 2),
    errors.DeadlineExceeded: Kind(504, "Deadline exceeded"),
}
"""Every problem that a client can receive. Other bundle errors only refuse a model."""

# The header WWW-Authenticate, as RFC 6750 (3.1) has it.
CHALLENGES: dict[type[Failure], str] = {
    errors.Unauthorized: "Bearer",
    errors.UnknownKey: 'Bearer error="invalid_token"',
    errors.Forbidden: 'Bearer error="insufficient_scope"',
}


class ClientGone(Exception):
    """The client closed the connection; its request is dropped."""


def problem(error: Failure, request_id: str) -> Problem:
    """The body of the response to `error`."""
    return describe(type(error), str(error), request_id)


def describe(error: type[Failure], detail: str, request_id: str) -> Problem:
    """The body of the response to an error of this class."""
    kind = PROBLEMS[error]
    return Problem(
        type=f"urn:problem:{error.code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=f"urn:request:{request_id}",
        code=error.code,
        error=detail,
        request_id=request_id,
    )


def problem_response(
    error: Failure, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The response to `error`, with `headers` added."""
    kind = PROBLEMS[type(error)]
    extra = dict(headers or {})
    known = error.retry_after_s if isinstance(error, ServiceError) else None
    if retry_after_s := known or kind.retry_after_s:
        extra["Retry-After"] = str(retry_after_s)
    if challenge := CHALLENGES.get(type(error)):
        extra["WWW-Authenticate"] = challenge
    if isinstance(error, ServiceError) and error.closes:
        extra["Connection"] = "close"
    body = problem(error, request_id).model_dump()
    return JSONResponse(body, status_code=kind.status, headers=extra, media_type=MEDIA_TYPE)


def client_gone() -> Response:
    """For the log and the metrics; it is never sent."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def request_id(request: Request) -> str:
    """The id that the middleware gave this request."""
    value: str = request.scope.get("state", {}).get("request_id", "unknown")
    return value


def is_public(request: Request) -> bool:
    """Whether a request came in by a public port beside an admin port, which has the docs."""
    return request.app.openapi_url is None


def install(app: FastAPI, count: Callable[[str], None]) -> None:
    """Make every failure of `app` a problem, and `count` its code, except for crashes."""

    def respond(
        request: Request, error: Failure, headers: Mapping[str, str] | None = None
    ) -> Response:
        count(error.code)
        request.scope.setdefault("state", {})["problem"] = error.code
        return problem_response(error, request_id(request), headers)

    async def known(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, Failure)  # noqa: S101 - the types that it is registered for
        return respond(request, exc)

    async def framework(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101 - the type that it is registered for
        headers = exc.headers
        method = request.method
        error: ServiceError
        if exc.status_code == 404:
            docs = f"{request.scope.get('root_path', '')}/docs"
            detail = f"There is no such route. The routes are listed at {docs}."
            if is_public(request):
                detail = "There is no such route on this port. Routes for operators, and the list "
                detail += "of all routes at /docs, are on the admin port (SERVICE_ADMIN_PORT)."
            error = errors.NotFound(detail)
        elif exc.status_code == 405:
            allowed = (headers or {}).get("Allow", "another method")
            if allowed == "GET":  # then HEAD, see service.api.middleware
                allowed = "GET, HEAD"
                headers = {"Allow": allowed}
            error = errors.MethodNotAllowed(
                f"This route does not accept {method}. Expected: {allowed}. Received: {method}"
            )
        else:
            error = errors.MalformedRequest(f"The request can't be read: {exc.detail}")
        return respond(request, error, headers)

    async def validation(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)  # noqa: S101
        return respond(request, errors.InvalidParameter(_describe(exc)))

    async def gone(request: Request, exc: Exception) -> Response:  # noqa: ARG001 - the signature of a handler
        return client_gone()

    for kind in (ServiceError, BundleError, ImageError):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(ClientGone, gone)


def _describe(exc: RequestValidationError) -> str:
    """Each invalid parameter by name, with what was expected and received."""
    parts = []
    for error in exc.errors():
        where = ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0])
        received = json.dumps(error.get("input"), default=str)[:200]
        parts.append(f"{where}: {error['msg'].removeprefix('Value error, ')}. Received: {received}")
    return "; ".join(parts)
