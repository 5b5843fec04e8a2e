"""The page's requests in a trace: real spans over HTTP, and the header that the service reads."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from frontend.client import open_session
from frontend.tracing import TracedSession, new_session
from tests.service.monitoring.collector import Collector, attributes, collecting


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        yield running


@pytest.fixture
def service() -> Iterator[Any]:
    """A server that keeps the headers of each request, and has no such route."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.headers.append(self.headers)  # type: ignore[attr-defined]
            self.send_response(404 if "nowhere" in self.path else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.headers = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_request_has_a_span_that_the_service_can_continue(
    collector: Collector, service: Any
) -> None:
    url = f"http://127.0.0.1:{service.server_port}"
    session = open_session(url, new_session({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}))

    session.get(f"{url}/models?a=b")
    session.get(f"{url}/nowhere")
    session.close()

    (span,) = collector.named("GET /models")
    parents = [headers["traceparent"] for headers in service.headers]
    assert parents[0].startswith(f"00-{span.trace_id.hex()}-{span.span_id.hex()}-0")
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert attributes(span) == {
        "http.request.method": "GET",
        "url.full": f"{url}/models?a=b",
        "http.response.status_code": 200,
    }
    (refused,) = collector.named("GET /nowhere")
    assert refused.status.code == Status.STATUS_CODE_ERROR
    assert refused.trace_id != span.trace_id
    assert collector.services == {"resnet-page"}


def test_a_request_without_a_response_is_an_error_of_its_span(collector: Collector) -> None:
    session = new_session({"OTEL_TRACES_EXPORTER": "otlp"})

    with pytest.raises(requests.ConnectionError):
        session.get("http://127.0.0.1:1/models")
    session.close()

    (span,) = collector.named("GET /models")
    assert span.status.code == Status.STATUS_CODE_ERROR


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=str,
)
def test_nothing_is_traced_unless_the_variables_ask_for_it(variables: dict[str, str]) -> None:
    assert not isinstance(new_session(variables), TracedSession)


def test_without_the_packages_the_page_works_and_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None  # as if it was not installed
from frontend.tracing import new_session
assert new_session({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}).get
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )

    assert "Install the extra otel" in done.stderr
