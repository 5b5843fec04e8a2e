"""Around every request: its id, one line of log, its place in the metrics, and an answer even to a crash."""

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
from service.errors import Draining, ServiceError
from service.metrics import Metrics

HEADER = "X-Request-Id"
ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("service.access")


class RequestLog:
    """Gives each request an id, the client's own if it is well-formed, and logs and counts its answer. HEAD goes on as GET."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; WebSocket and lifespan scopes untouched."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        theirs = Headers(scope=scope).get(HEADER, "")
        identity = theirs if ACCEPTED.fullmatch(theirs) else uuid.uuid4().hex[:16]
        scope.setdefault("state", {})["request_id"] = identity
        # HEAD is GET whose answer has no body (RFC 9110, 9.3.2), which the server leaves out; routes know of GET alone.
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
            # By the server alone, which ends and has waited long enough, or has been told not to wait. Where the client does
            # not read its answer, the connection is closed.
            if not status:
                detail = "The service has shut down before it could answer. Send the request to another one."
                await refuse(Draining(detail))
        except Exception:
            # The reason is for the log; the client is told where to ask.
            log.exception("request %s failed", identity)
            if status:
                raise
            detail = f"The service failed on this request. Its log says why, under the request id {identity}."
            await refuse(ServiceError(detail))
        finally:
            seconds = time.perf_counter() - started
            scope["route"] = routed.get("route")
            self.metrics.request(scope, status, seconds)
            # The path is logged as it came, encoded: decoded, it could hold a line break and forge a line.
            path = quote(scope.get("raw_path") or scope["path"], safe="/%")
            log.info("%s %s %d %.1f ms %s", scope["method"], path, status, seconds * 1000, identity)
