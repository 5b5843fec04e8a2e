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

    ready = True

    def do_GET(self) -> None:
        found = {"status": "ready", "models": MODELS, "refused": REFUSED}
        if self.path == "/readyz" and not self.ready:
            found = {"detail": "There is no default model."}
        body = json.dumps(found).encode()
        self.send_response(200 if "status" in found else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class NotReady(Ready):
    """The same without a default model."""

    ready = False


@pytest.fixture(params=[Ready])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), request.param) as server:
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


@pytest.mark.parametrize("url", [NotReady], indirect=True)
def test_once_all_models_are_loaded_the_reason_is_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    waiting = importlib.import_module("waiting")

    with pytest.raises(waiting.NotYet, match="There is no default model"):
        waiting.service_state(url)
