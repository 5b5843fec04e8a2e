"""Around every request: its id, one log line, its metrics, and a response even after a crash."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import problem_response
from service.errors import Draining, InternalError, ServiceError
from service.models.model import ServedModel
from service.monitoring.logs import Event
from service.monitoring.metrics import NO_ROUTE, Metrics
from service.monitoring.tracing import Tracer

HEADER = "X-Request-Id"
ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Asked every few seconds by machines; logged at debug level.
PROBES = ("/healthz", "/readyz", "/metrics")
# What others leave in `scope["state"]` for the log, under the same names.
SHOWN = ("request_id", "trace_id", "problem", "key", "bytes_in", "timing_ms")
# Of an address in the log: the longest one of IPv6 with a zone.
MAX_ADDRESS = 64

log = logging.getLogger("service.access")


def identity_of(sent: str) -> str:
    """The id of a request: what the client has sent if it is well-formed, or a new one."""
    return sent if ACCEPTED.fullmatch(sent) else uuid.uuid4().hex[:16]


def log_request(
    level: int,
    path: str | bytes,
    method: str,
    route: str,
    status: int,
    seconds: float,
    known: Mapping[str, Any],
) -> None:
    """Log a request.

    Args:
        level: of the line.
        path: of the request.
        method, route, status, seconds: as for `Metrics.request`.
        known: what is known of it besides: `request_id`, `model`, `problem`, `key` and so on.
    """
    if not log.isEnabledFor(level):
        return
    # Percent-encoded: decoded, it could contain a line break and forge a log line.
    path = quote(path, safe="/%")
    model: ServedModel | None = known.get("model")
    # A proxy may send any text for an address.
    client = quote(known["client"][:MAX_ADDRESS], safe=":") if known.get("client") else None
    fields = {
        "method": method,
        "path": path,
        "route": None if route == NO_ROUTE else route,
        "status": status,
        "duration_ms": round(seconds * 1000, 3),
        "model": model.name if model else None,
        "version": model.version if model else None,
        **{name: known.get(name) for name in SHOWN},
        "client": client,
    }
    which = f"{model.name}/{model.version}" if model else None
    line = [method, path, status, f"{seconds * 1000:.1f} ms", known["request_id"]]
    line += [part for part in (which, known.get("problem"), known.get("key"), client) if part]
    log.log(level, Event(" ".join(map(str, line)), fields))


class RequestLog:
    """Gives each request an id, logs it and counts it. HEAD is routed as GET.

    The id is the client's `X-Request-Id` if well-formed. What others know of the request they leave
    in `scope["state"]` for its log line and its trace: `model`, `problem`, `bytes_in` and so on.

    Args:
        app: What handles the requests.
        metrics: Counts them.
        root_path: Prefix of the paths as clients of the proxy see them.
        log_client: Whether a log line ends with the address of the client.
        tracer: Traces them, but for probes.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        *,
        root_path: str = "",
        log_client: bool = False,
        tracer: Tracer | None = None,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self._root_path = root_path
        self._log_client = log_client
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle HTTP; other scopes pass unchanged."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identity = identity_of(Headers(scope=scope).get(HEADER, ""))
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
            scope["state"]["problem"] = error.code
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
            log.exception("request %s failed", identity, extra={"request_id": identity})
            if status:
                raise
            detail = (
                "The service failed on this request. "
                f"Its log has the cause under the request id {identity}."
            )
            await refuse(InternalError(detail))
        finally:
            ended = time.perf_counter()
            scope["route"] = found = routed.get("route")
            route = getattr(found, "path", NO_ROUTE)
            known = scope["state"]
            if self._tracer is not None and route not in PROBES:
                known["trace_id"] = self._tracer.request(scope, status, started, ended)
            path = scope.get("raw_path") or scope["path"]
            level = logging.DEBUG if route in PROBES else logging.INFO
            if self._log_client:
                known["client"] = (scope.get("client") or ("unknown",))[0]
            request = scope["method"], route, status, ended - started
            log_request(level, path, *request, known)
            self.metrics.request(*request, known)

    def _prefixed(self, path: str) -> str:
        """The path with the prefix, which the proxy may have removed."""
        prefix = self._root_path
        if path == prefix:
            return f"{prefix}/"
        return path if path.startswith(f"{prefix}/") else prefix + path
