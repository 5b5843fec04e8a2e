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
# Asked every few seconds by machines; logged at debug level.
PROBES = ("/healthz", "/readyz", "/metrics")
# Of an address in the log: the longest one of IPv6 with a zone.
MAX_ADDRESS = 64

log = logging.getLogger("service.access")


class RequestLog:
    """Gives each request an id, logs it and counts it. HEAD is routed as GET.

    The id is the client's `X-Request-Id` if well-formed.

    Args:
        app: What handles the requests.
        metrics: Counts them.
        root_path: Prefix of the paths as clients of the proxy see them.
        log_client: Whether a log line ends with the address of the client.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, *, root_path: str = "", log_client: bool = False
    ) -> None:
        self.app = app
        self.metrics = metrics
        self._root_path = root_path
        self._log_client = log_client

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
        if self._root_path:
            routed = {**routed, "root_path": self._root_path, "path": self._prefixed(scope["path"])}
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
        except ServiceError as error:
            # At the door; those of a route are problems already.
            if status:
                raise
            await refuse(error)
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
            self._log(scope, status, seconds * 1000, identity)
            self.metrics.request(scope, status, seconds)

    def _log(self, scope: Scope, status: int, milliseconds: float, identity: str) -> None:
        level = logging.DEBUG if getattr(scope["route"], "path", "") in PROBES else logging.INFO
        if not log.isEnabledFor(level):
            return
        # Logged percent-encoded: decoded, it could contain a line break and forge a log line.
        path = quote(scope.get("raw_path") or scope["path"], safe="/%")
        line = [scope["method"], path, status, f"{milliseconds:.1f} ms", identity]
        if key := scope["state"].get("key"):
            line.append(key)
        if self._log_client:
            # A proxy may send any text.
            client = scope.get("client") or ("unknown",)
            line.append(quote(client[0][:MAX_ADDRESS], safe=":"))
        log.log(level, " ".join(map(str, line)))

    def _prefixed(self, path: str) -> str:
        """The path with the prefix, which the proxy may have removed."""
        prefix = self._root_path
        if path == prefix:
            return f"{prefix}/"
        return path if path.startswith(f"{prefix}/") else prefix + path
