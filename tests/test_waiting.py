"""What `make serve` prints about the models of a service."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.sources import ROOT

MODELS = [
    {"name": "flowers", "version": 1, "state": "ready"},
    {"name": "flowers", "version": 2, "state": "refused"},
]
REFUSED = [
    {"name": "flowers", "version": 2, "code": "integrity_failed", "reason": "a file differs"}
]


class Ready(BaseHTTPRequestHandler):
    """A service with one model that serves and one that is refused."""

    def do_GET(self) -> None:
        body = json.dumps({"status": "ready", "models": MODELS, "refused": REFUSED}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_refused_version_is_not_listed_as_served(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    waiting = importlib.import_module("waiting")

    assert waiting.service_state(url).splitlines() == [
        "serving flowers version 1",
        "         refused flowers version 2: a file differs",
    ]
