"""A web server on the loopback address that fails as it is told."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class Answering(BaseHTTPRequestHandler):
    """Answers, whole or cut short, and logs nothing."""

    protocol_version = "HTTP/1.1"
    content_type = ""

    def answer(self, status: int, data: bytes, cut: int | None = None) -> None:
        """Send a response, of which the connection ends after `cut` bytes."""
        self.send_response(status)
        if self.content_type:
            self.send_header("Content-Type", self.content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a free port of the loopback address, until the block ends; its URL."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    http = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class Web:
    """A folder on a web server.

    Attributes:
        ranges: of each request for a file, in order: its path and its header Range.
        cuts: after how many bytes the next answers for a path end, one number for each.
        statuses: of the next answers for a path.
        knows_ranges: False: it sends whole files whatever is asked for.
        before: called with each path before it is read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = ""
        self.ranges: list[tuple[str, str | None]] = []
        self.cuts: dict[str, list[int]] = {}
        self.statuses: dict[str, list[int]] = {}
        self.knows_ranges = True
        self.before: Callable[[str], object] = str

    def asked(self, path: str) -> list[str | None]:
        """The ranges that were asked for of a file."""
        return [range_ for asked, range_ in self.ranges if asked == path]


@contextmanager
def serve(root: Path) -> Iterator[Web]:
    web = Web(root)

    class Handler(Answering, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path).lstrip("/")
            web.ranges.append((path, self.headers["Range"]))
            web.before(path)
            if statuses := web.statuses.get(path):
                self.answer(statuses.pop(0), b"no")
            elif not (web.root / path).is_file():
                self.answer(404, b"no such file")
            else:
                self.answer_file(path, (web.root / path).read_bytes())

        def answer_file(self, path: str, data: bytes) -> None:
            cut = web.cuts[path].pop(0) if web.cuts.get(path) else None
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
            if not found or not web.knows_ranges:
                self.answer(200, data, cut)
            elif int(found[1]) >= len(data):
                self.answer(416, b"")
            else:
                self.answer(206, data[int(found[1]) : int(found[2]) + 1], cut)

    with listening(Handler) as web.url:
        yield web
