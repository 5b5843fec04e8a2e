"""A service that is busy, and one that is none, over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from classify.errors import ImageRefused, Unusable
from classify.service import PATIENCE_S, ServiceModel

ANSWER = {
    "predictions": [{"rank": 1, "index": 0, "label": "red", "score": 0.9}],
    "model": {"name": "tiny", "version": 3},
    "uncertain": True,
}
Reply = tuple[int, bytes, dict[str, str]]
Served = Callable[[list[Reply]], tuple[str, list[dict[str, str]]]]


def problem(status: int, code: str, **headers: str) -> Reply:
    return status, json.dumps({"code": code, "detail": "A sentence."}).encode(), headers


OK: Reply = (200, json.dumps(ANSWER).encode(), {})


@pytest.fixture
def served() -> Iterator[Served]:
    """Serves these replies one after another; the headers of the requests that came."""
    running = []

    def serve(replies: list[Reply]) -> tuple[str, list[dict[str, str]]]:
        seen: list[dict[str, str]] = []
        left = iter(replies)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                seen.append({**self.headers, "path": self.path})
                status, body, headers = next(left)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/", seen

    yield serve
    for server in running:
        server.shutdown()
        server.server_close()


class Time:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def model(self, url: str, model: str | None = None, key: str | None = None) -> ServiceModel:
        return ServiceModel(url, model, key, 1, clock=lambda: self.now_s, sleep=self.sleep)


def test_a_busy_service_is_asked_again_when_it_says(served: Served) -> None:
    busy = problem(429, "queue_full", **{"Retry-After": "7"})
    url, seen = served([busy, problem(503, "model_unavailable"), OK])
    time = Time()

    answer = time.model(url, "tiny@3", "secret").classify("a.png", b"image")

    assert answer.predictions[0].label == "red"
    assert (answer.model, answer.uncertain) == ("tiny/3", True)
    assert time.now_s == 8
    assert [each["path"] for each in seen] == ["/predict?model=tiny&version=3&top_k=1"] * 3
    assert {each["Authorization"] for each in seen} == {"Bearer secret"}


def test_patience_ends(served: Served) -> None:
    busy = problem(503, "not_ready", **{"Retry-After": "200"})
    url, _ = served([busy] * 3)
    time = Time()

    with pytest.raises(Unusable, match="not_ready: A sentence"):
        time.model(url).classify("a.png", b"image")

    assert PATIENCE_S < time.now_s <= PATIENCE_S + 200


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (problem(422, "unreadable_image"), ImageRefused, "A sentence"),
        (problem(413, "image_too_large"), ImageRefused, "A sentence"),
        (problem(401, "unauthorized"), Unusable, "unauthorized: A sentence"),
        ((404, b"<html>", {}), Unusable, "is not this service: status 404"),
        ((502, b"[]", {}), Unusable, "is not this service: status 502"),
    ],
    ids=["unreadable", "too large", "no key", "a web server", "a proxy"],
)
def test_a_refusal_is_of_the_file_or_of_all(
    served: Served, reply: Reply, error: type[Exception], said: str
) -> None:
    url, _ = served([reply])

    with pytest.raises(error, match=said):
        Time().model(url).classify("a.png", b"image")


def test_an_explanation_is_an_image(served: Served) -> None:
    url, seen = served([(200, b"png", {})])

    assert Time().model(url).explain(b"image") == b"png"

    assert seen[0]["path"] == "/explain"
    assert seen[0]["Accept"] == "image/png"
