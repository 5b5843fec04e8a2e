"""uvicorn's HTTP protocol with the limits it lacks.

A request read timeout, a limit on the size of a head, a write timeout, and a lingering close, so
that a client that is still sending can read why it was refused.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.problems import MEDIA_TYPE, problem
from service.errors import MalformedRequest, RequestTimeout, ServiceError

# Request line and headers; httptools has no limit of its own.
MAX_HEAD_BYTES = 65_536
# Bytes of chunk sizes and trailers per byte of body, in addition to those of the head.
MAX_FRAMING = 8
# From the end of an early response to closing the connection.
LINGER_S = 2.0


class _WrongHead(Exception):
    """The head of a request is too long, or has not one Host header; the text says so."""


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not arrive in full within `timeout_s` seconds.

    The time runs from the opening of the connection, for later requests from their first byte. Idle
    connections are left to uvicorn's `timeout_keep_alive`.
    """

    timeout_s: float = 30.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None  # for the request to arrive
        self._unread: asyncio.TimerHandle | None = None  # for the client to read its response
        self._discarding = False
        self._begun = False
        self._body_bytes = 0  # of the request now arriving
        self._other_bytes = 0

    def count(self, code: str) -> None:
        """Called with the code of each refusal; a subclass counts them."""

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
        if self._begun:
            # Somewhere in these bytes, which are at most one read (256 KiB).
            self._other_bytes = 0
            return
        self._other_bytes += len(data) - (self._body_bytes - body_before)
        if (
            self._other_bytes > MAX_HEAD_BYTES + MAX_FRAMING * self._body_bytes
            and not self._discarding
        ):
            self._refuse(MalformedRequest(_too_long(self._other_bytes)))

    def _feed(self, data: bytes) -> None:
        """As uvicorn does, but decline an upgrade to HTTP/2, which Java's client offers by default.

        After such a head the parser takes everything for another protocol, the body included.
        """
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            # The parser treats CONNECT as an upgrade, with or without the headers of one.
            if self.parser.get_method() == b"CONNECT":
                self._refuse(
                    MalformedRequest(
                        "CONNECT is for proxies, and this service is not a proxy. "
                        "Expected GET, HEAD or POST. Received: CONNECT"
                    )
                )
                return
            offered = (b"upgrade", b"connection", b"http2-settings")
            head = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
            head += [b"%b: %b" % header for header in self.headers if header[0] not in offered]
            self.parser = httptools.HttpRequestParser(self)
            self._feed(b"\r\n".join(head) + b"\r\n\r\n" + data[exc.args[0] :])
        except httptools.HttpParserError as exc:
            wrong = exc.__context__  # what a callback has raised
            text = str(wrong) if isinstance(wrong, _WrongHead) else "It can't be parsed."
            self.send_400_response(text)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun, self._body_bytes = True, 0
        self._wait_for_request()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            raise _WrongHead(f"Expected one Host header (RFC 9112, 3.2). Received: {hosts}")
        # A head that arrives in one read is never counted by `data_received`.
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            raise _WrongHead(_too_long(size))
        super().on_headers_complete()
        # Before the application's task runs: when it closes, it goes through `close` below.
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
        """The client does not read its response; disconnect it after `timeout_s`."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP with a problem in place of uvicorn's plain text."""
        self._refuse(MalformedRequest(f"The request is not valid HTTP/1.1. {msg}"))

    def close(self) -> None:
        """Close the connection after a response.

        If the client is still sending, a reset would destroy the response before it is read, so
        what arrives within `LINGER_S` is discarded first.
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
                f"The request did not arrive in full within {self.timeout_s:g} s. "
                "Send it again on a new connection."
            )
        )

    def _refuse(self, error: ServiceError) -> None:
        """Respond without the application, which never gets this request or its end, and close."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None:
            current = cycle.scope is self.scope
            arrived = not (current and cycle.more_body)
            if arrived and not cycle.response_complete:
                # Earlier requests get their responses first; the last one closes the connection.
                cycle.keep_alive = False
                self._discarding = True
                self._arrived()
                return
            if current and cycle.response_started:
                # A response was started; a second one would be read as part of it.
                self.transport.close()
                return
            if current:
                # The application stops, if it waits for the rest of the body.
                cycle.disconnected = True
                cycle.message_event.set()
        self.count(error.code)
        identity = uuid.uuid4().hex[:16]
        refusal = problem(error, identity)
        body = refusal.model_dump_json().encode()
        head = (
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {identity}\r\nconnection: close\r\n"
        )
        usual = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        self.transport.write(b"".join([head.encode(), *usual, b"\r\n", body]))
        # `close` lingers while a request is expected.
        self._wait_for_request()
        self.close()


def _too_long(size: int) -> str:
    return (
        f"The head of the request is too long. Expected at most {MAX_HEAD_BYTES} bytes of request "
        f"line and headers. Received: more than {size}"
    )


class _Outlet:
    """The transport as the application sees it; closing goes through the protocol."""

    def __init__(self, protocol: DeadlineProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.close()


def deadline_protocol(timeout_s: float, count: Callable[[str], None]) -> type[DeadlineProtocol]:
    """The protocol class with this deadline, for `uvicorn.Config(http=...)`.

    `count` is called with the code of each refusal.
    """
    return type(
        "DeadlineProtocol",
        (DeadlineProtocol,),
        {"timeout_s": timeout_s, "count": staticmethod(count)},
    )
