"""The door of the service: every request needs an API key, before any of its body is read."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.key import CURRENT, Key
from service.access.keys import Keys
from service.errors import ServiceError
from service.network.browsers import STATIC

PROBES = ("/healthz", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready")
# A browser sends no key.
DOCS = ("/", "/docs", "/docs/oauth2-redirect", "/openapi.json")
# They show all clients, and change the service for all of them.
FOR_ADMINISTRATORS = ("/metrics", "/v2/repository/")
# The rest of a body that was refused is read and dropped up to this size, so that the connection
# stays open; a longer one costs more than another connection.
MAX_DROPPED_BYTES = 65_536


class Door:
    """Finds out whose request it is, and admits it within the limits of its key.

    Not a coroutine: that would be one frame more to enter whenever a request goes on.

    Args:
        app: what handles the requests.
        keys: of the clients.
        routes: of the application, for the metrics of what is refused.
        root_path: prefix of all paths.
        has_docs: the documentation is served here, and open.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        routes: Sequence[BaseRoute],
        *,
        root_path: str = "",
        has_docs: bool = True,
    ) -> None:
        self.app = app
        self._keys = keys
        self._routes = routes
        self._open = frozenset(root_path + path for path in PROBES + (DOCS if has_docs else ()))
        self._has_docs = has_docs
        self._assets = f"{root_path}{STATIC}/"  # what /docs loads
        self._for_administrators = tuple(root_path + path for path in FOR_ADMINISTRATORS)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand the request on.

        Raises:
            Unauthorized, UnknownKey: as `Keys.check`.
            Forbidden, RequestTooLarge, RateLimited: as `Key.admit`.
        """
        if scope["type"] == "lifespan" or self._is_open(scope):
            return self.app(scope, receive, send)
        authorization = api_key = None
        size, is_chunked = 0, False
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value.decode("latin-1")
            elif name == b"x-api-key":
                api_key = value.decode("latin-1")
            elif name == b"content-length" and value.isdigit():
                size = int(value)
            elif name == b"transfer-encoding":
                is_chunked = True
        try:
            key = self._keys.check(authorization, api_key)
            scope.setdefault("state", {})["key"] = key.name
            key.admit(size, admin=scope["path"].startswith(self._for_administrators))
        except ServiceError as refusal:
            refusal.closes |= is_chunked or size > MAX_DROPPED_BYTES
            scope["route"] = next((r for r in self._routes if _is_for(r, scope)), None)
            raise
        CURRENT.set(key)
        return self.app(scope, _counted(receive, key) if is_chunked else receive, send)

    def _is_open(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return scope.get("method") == "GET" and (
            path in self._open or (self._has_docs and path.startswith(self._assets))
        )


def _is_for(route: BaseRoute, scope: Scope) -> bool:
    return route.matches(scope)[0] == Match.FULL


def _counted(receive: Receive, key: Key) -> Receive:
    """The same body, counted against the limit of its client as it arrives."""

    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        size = len(message.get("body", b""))
        received += size
        try:
            key.receive(size, of=received)
        except ServiceError as refusal:
            refusal.closes = True
            raise
        return message

    return counted
