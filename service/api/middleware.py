"""Around every request: its id, one log line, its metrics, and a response even after a crash."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_response
from service.errors import Draining, InternalError, ServiceError
from service.metrics import Metrics

HEADER = "X-Request-Id"
ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("service.access")


class RequestLog:
    """Gives each request an id, logs it and counts it. HEAD is routed as GET.

    The id is the client's `X-Request-Id` if well-formed.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle HTTP; other scopes pass unchanged."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(HEADER, "")
        identity = sent if ACCEPTED.fullmatch(sent) else uuid.uuid4().hex[:16]
        scope.setdefault("state", {})["request_id"] = identity
        # HEAD is GET without a response body (RFC 9110, 9.3.2), which uvicorn omits.
        routed = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        started = time.perf_counter()
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = identity
            await send(message)

        async def refuse(error: ServiceError) -> None:
            self.metrics.problem(error.code)
            await problem_response(error, identity)(scope, receive, send_on)

        try:
            await self.app(routed, receive, send_on)
        except asyncio.CancelledError:
            # Only uvicorn cancels: its graceful shutdown timed out, or a second SIGINT skipped it.
            # A client that does not read its response is disconnected.
            if not status:
                detail = (
                    "The service shut down before it could respond. "
                    "Send the request to another instance."
                )
                await refuse(Draining(detail))
        except Exception:
            # The cause is for the log; the client gets the id to find it.
            log.exception("request %s failed", identity)
            if status:
                raise
            detail = (
                "The service failed on this request. "
                f"Its log has the cause under the request id {identity}."
            )
            await refuse(InternalError(detail))
        finally:
            seconds = time.perf_counter() - started
            scope["route"] = routed.get("route")
            self.metrics.request(scope, status, seconds)
            # Logged percent-encoded: decoded, it could contain a line break and forge a log line.
            path = quote(scope.get("raw_path") or scope["path"], safe="/%")
            milliseconds = seconds * 1000
            log.info("%s %s %d %.1f ms %s", scope["method"], path, status, milliseconds, identity)
