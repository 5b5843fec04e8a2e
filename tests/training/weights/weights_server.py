"""A stand-in for the server that weights are downloaded from: ranges, and connections that end too early."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WeightsServer:
    """Answers every path with `content`; `cut` answers end after that many bytes of the body."""

    content: bytes
    url: str = ""
    cut: list[int] = field(default_factory=list)  # taken from the front, one for each answer
    ranges: list[str | None] = field(default_factory=list)  # what was asked for
    knows_ranges: bool = True


@contextmanager
def serve_weights(content: bytes) -> Iterator[WeightsServer]:
    """A server on the loopback address; its `url` ends in a slash."""
    server = WeightsServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            server.ranges.append(asked)
            start = (
                int(asked.removeprefix("bytes=").rstrip("-"))
                if asked and server.knows_ranges
                else 0
            )
            if start >= len(server.content):
                self.send_error(416)
                return
            body = server.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.cut.pop(0)] if server.cut else body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
