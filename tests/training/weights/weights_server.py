"""A local stand-in for a server of weights, with connections that end too early."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WeightsServer:
    """Responds to every path with `content`."""

    content: bytes
    url: str = ""
    requests: int = 0
    cut: list[int] = field(default_factory=list)  # lengths of the next bodies, which end there


@contextmanager
def serve_weights(content: bytes) -> Iterator[WeightsServer]:
    """A server on the loopback address; its `url` ends in a slash."""
    server = WeightsServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.content)))
            self.end_headers()
            self.wfile.write(server.content[: server.cut.pop(0) if server.cut else None])

        def log_message(self, *_: object) -> None:
            """Log nothing."""

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
