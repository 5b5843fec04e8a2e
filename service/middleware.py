"""Around every request: its id, and one line of log."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-Id"
ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("service.access")


class RequestLog:
    """Gives each request an id, the client's own if it is well-formed, and logs its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; WebSocket and lifespan scopes untouched."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        theirs = Headers(scope=scope).get(HEADER, "")
        identity = theirs if ACCEPTED.fullmatch(theirs) else uuid.uuid4().hex[:16]
        scope.setdefault("state", {})["request_id"] = identity
        started = time.perf_counter()
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = identity
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            log.info("%s %s %d %.1f ms %s", scope["method"], scope["path"], status, milliseconds, identity)
