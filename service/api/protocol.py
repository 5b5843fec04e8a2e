"""HTTP over a socket with a deadline for the arrival of each request, which uvicorn does not have by itself.

Nor does it bound the length of a head, let a client go that reads no answer, or let one that is refused while it
still sends read why.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.problems import MEDIA_TYPE, problem
from service.errors import MalformedRequest, RequestTimeout, ServiceError

REASONS = {400: "Bad Request", 408: "Request Timeout"}
MAX_HEAD_BYTES = 65_536  # request line and headers; the parser itself would take them without end
MAX_FRAMING = 8  # bytes of chunk sizes and trailers for each byte of body, beyond those of the head
LINGER_S = 2.0  # between the end of an early answer and the closing of the connection


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose request has not arrived in full within `timeout_s` seconds.

    The time counts from the opening of the connection, and for later requests on it from their first byte; a
    connection that idles between requests is uvicorn's `timeout_keep_alive`'s affair.
    """

    timeout_s: float = 30.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None  # for the request to arrive
        self._unread: asyncio.TimerHandle | None = None  # for the client to read its answer
        self._discarding = False
        self._begun = False
        self._body_bytes = 0  # of the request that arrives now
        self._other_bytes = 0

    def count(self, code: str) -> None:
        """Told the code of each refusal; nobody counts them here."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        self._begun, body_before = False, self._body_bytes
        self._feed(data)
        if self._begun:  # somewhere in these bytes, which are at most what one read takes (256 KiB)
            self._other_bytes = 0
            return
        self._other_bytes += len(data) - (self._body_bytes - body_before)
        if (
            self._other_bytes > MAX_HEAD_BYTES + MAX_FRAMING * self._body_bytes
            and not self._discarding
        ):
            self._refuse(
                MalformedRequest(
                    f"The head of the request is too long. Expected at most {MAX_HEAD_BYTES} bytes of request line "
                    f"and headers. Received: more than {self._other_bytes}"
                )
            )

    def _feed(self, data: bytes) -> None:
        """As uvicorn does, but an offer to upgrade to HTTP/2 (Java's client makes it by default) is declined.

        The parser takes what follows such a head for another protocol, body and all.
        """
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if (
                self.parser.get_method() == b"CONNECT"
            ):  # an upgrade with or without the headers of one
                self._refuse(
                    MalformedRequest(
                        "CONNECT asks for a proxy, and this service is none. Expected GET, HEAD or POST. "
                        "Received: CONNECT"
                    )
                )
                return
            offered = (b"upgrade", b"connection", b"http2-settings")
            head = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
            head += [b"%b: %b" % header for header in self.headers if header[0] not in offered]
            self.parser = httptools.HttpRequestParser(self)
            self._feed(b"\r\n".join(head) + b"\r\n\r\n" + data[exc.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("It can't be parsed.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun, self._body_bytes = True, 0
        self._wait_for_request()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        # The application's task has not run yet. What it closes is closed in a way that the client can follow.
        self.cycle.transport = cast("asyncio.Transport", _Outlet(self))

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._arrived()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read; it has as long as for sending a request."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """What uvicorn answers to bytes that are no HTTP, in the shape of every other problem."""
        self._refuse(MalformedRequest(f"The request is not valid HTTP/1.1. {msg}"))

    def close(self) -> None:
        """Close the connection after an answer.

        A client that still sends would lose the answer to a reset connection, so what it sends is thrown away for
        a moment.
        """
        if self._deadline is None or self._discarding:
            self.transport.close()
            return
        self._discarding = True
        self.pipeline.clear()
        self._arrived()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER_S, self.transport.close)

    def _wait_for_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.timeout_s, self._expired)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        self._refuse(
            RequestTimeout(
                f"The request has not arrived in full within {self.timeout_s:g} s. Send it again on a new connection."
            )
        )

    def _refuse(self, error: ServiceError) -> None:
        """Answer by hand, for the request never reaches an application or does not end, and close."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None:
            current = cycle.scope is self.scope
            arrived = not (current and cycle.more_body)
            if arrived and not cycle.response_complete:
                # Requests before this one wait for their answers; the last of them closes the connection.
                cycle.keep_alive = False
                self._discarding = True
                self._arrived()
                return
            if current and cycle.response_started:
                # An answer is out, in part or in full; another would be read as part of it.
                self.transport.close()
                return
            if current:
                cycle.disconnected = (
                    True  # the application, if it waits for the rest of the body, stops
                )
                cycle.message_event.set()
        self.count(error.code)
        identity = uuid.uuid4().hex[:16]
        body = json.dumps(problem(error, identity)).encode()
        head = (
            f"HTTP/1.1 {error.status} {REASONS[error.status]}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {identity}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._wait_for_request()  # it has not arrived, and never will
        self.close()


class _Outlet:
    """The transport as an application's answer sees it; closing goes through the protocol."""

    def __init__(self, protocol: DeadlineProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.close()


def deadline_protocol(timeout_s: float, count: Callable[[str], None]) -> type[DeadlineProtocol]:
    """The protocol class with this deadline, for `uvicorn.Config(http=...)`; `count` is told the code of each refusal."""
    return type(
        "DeadlineProtocol",
        (DeadlineProtocol,),
        {"timeout_s": timeout_s, "count": staticmethod(count)},
    )
