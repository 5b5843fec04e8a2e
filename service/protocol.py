"""HTTP over a socket with a deadline for the arrival of each request, which uvicorn does not have by itself."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import MalformedRequest, RequestTimeout, ServiceError
from service.problems import MEDIA_TYPE, problem

REASONS = {400: "Bad Request", 408: "Request Timeout"}


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose request has not arrived in full within `timeout_s` seconds.

    The time counts from the opening of the connection, and for later requests on it from their first byte; a
    connection that idles between requests is uvicorn's `timeout_keep_alive`'s affair.
    """

    timeout_s: float = 30.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for_request()

    def on_message_complete(self) -> None:
        self._arrived()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn answers to bytes that are no HTTP, in the shape of every other problem."""
        self._arrived()
        self._answer(MalformedRequest(f"The request is not valid HTTP/1.1. {msg}"))

    def _wait_for_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.timeout_s, self._expired)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is self.scope and cycle.response_started:
            # Half an answer is out, or a whole one (413) whose body still comes: another would be read as part of it.
            self.transport.close()
            return
        self._answer(
            RequestTimeout(
                f"The request has not arrived in full within {self.timeout_s:g} s. Send it again on a new connection."
            )
        )

    def _answer(self, error: ServiceError) -> None:
        """Write the problem by hand, for there is no request that an application could answer, and close."""
        identity = uuid.uuid4().hex[:16]
        body = json.dumps(problem(error, identity)).encode()
        head = (
            f"HTTP/1.1 {error.status} {REASONS[error.status]}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {identity}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def deadline_protocol(timeout_s: float) -> type[DeadlineProtocol]:
    """The protocol class with this deadline, for `uvicorn.Config(http=...)`."""
    return type("DeadlineProtocol", (DeadlineProtocol,), {"timeout_s": timeout_s})
