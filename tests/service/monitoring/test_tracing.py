"""Traces of a real service, sent over HTTP to a receiver that decodes them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.monitoring.tracing import from_environment
from tests.service.conftest import Server, serving
from tests.service.images import encode, varied
from tests.service.monitoring.collector import Collector, attributes, collecting

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ACCEPT = {"Accept": "application/openmetrics-text;version=1.0.0"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(quick_root: Path, collector: Collector) -> Iterator[Server]:
    """A service that sends its spans at once."""
    with serving(prefix=collector.prefix, models_dir=quick_root, log_format="json") as running:
        yield running


def request(server: Server, collector: Collector, body: bytes, sampled: bool = True) -> Span:
    """The span of a request that a client traces."""
    before = len(collector.named("POST /predict"))
    parent = f"00-{TRACE}-{PARENT}-{'01' if sampled else '00'}"
    server.client.post("/predict", content=body, headers={"traceparent": parent})
    server.wait(lambda: len(collector.named("POST /predict")) > before, "traced", 60)
    return collector.named("POST /predict")[-1]


def test_a_request_is_part_of_the_trace_of_its_client(traced: Server, collector: Collector) -> None:
    body = encode(varied(seed=400))

    span = request(traced, collector, body)

    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.kind == Span.SPAN_KIND_SERVER
    found = attributes(span)
    assert found.pop("resnet.request_id") in traced.log()
    assert found == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "http.request.body.size": len(body),
        "url.path": "/predict",
        "url.scheme": "http",
        "resnet.model": "tiny-torch",
        "resnet.version": 1,
    }
    assert collector.services == {"resnet-service"}


def test_the_stages_follow_one_another_inside_of_the_request(
    traced: Server, collector: Collector
) -> None:
    span = request(traced, collector, encode(varied(seed=401)))
    traced.wait(lambda: len(collector.children(span)) == 4, "complete", 60)

    children = collector.children(span)
    times = [span.start_time_unix_nano]
    for name in ("receive", "queue", "decode", "infer"):
        times += [children[name].start_time_unix_nano, children[name].end_time_unix_nano]
    times.append(span.end_time_unix_nano)
    slack_ns = 1_000  # times are added as floating-point numbers
    assert all(later - before > -slack_ns for before, later in pairwise(times))
    assert attributes(children["infer"]) == {"resnet.model": "tiny-torch", "resnet.version": 1}


def test_a_file_that_a_decoder_decodes_is_queued_after_that(
    traced: Server, collector: Collector
) -> None:
    span = request(traced, collector, encode(varied(), "TIFF"))
    traced.wait(lambda: len(collector.children(span)) == 4, "complete", 60)

    children = collector.children(span)
    assert children["decode"].start_time_unix_nano < children["queue"].start_time_unix_nano


def test_a_problem_is_an_attribute(traced: Server, collector: Collector) -> None:
    span = request(traced, collector, b"no image")

    found = attributes(span)
    assert found["error.type"] == "unsupported_image_type"
    assert found["http.response.status_code"] == 415
    assert span.status.code == Status.STATUS_CODE_UNSET, "the mistake of a client is no error"


def test_a_client_cannot_name_a_span(traced: Server, collector: Collector) -> None:
    traced.client.request("PROPFIND", "/secret-of-a-client")

    traced.wait(lambda: bool(collector.named("HTTP")), "traced", 60)
    (span,) = collector.named("HTTP")
    assert attributes(span)["http.request.method"] == "_OTHER"
    assert "http.route" not in attributes(span)


def test_the_log_and_the_exemplars_name_the_trace(traced: Server, collector: Collector) -> None:
    traced.client.get("/metrics", headers=ACCEPT)
    span = request(traced, collector, encode(varied(seed=402)))

    identity = attributes(span)["resnet.request_id"]
    traced.wait_logged(identity)
    (line,) = [json.loads(line) for line in traced.log().splitlines() if identity in line]
    assert line["trace_id"] == TRACE
    metrics = traced.client.get("/metrics", headers=ACCEPT).text
    assert f'trace_id="{TRACE}"' in metrics


def test_probes_and_what_a_client_does_not_sample_are_not_traced(
    traced: Server, collector: Collector
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00", "X-Request-Id": "not-sampled"}
    traced.client.get("/healthz")
    traced.client.get("/models", headers=headers)

    request(traced, collector, encode(varied(seed=403)))

    names = {span.name for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER}
    assert names <= {"POST /predict", "HTTP"}
    (line,) = [line for line in traced.log().splitlines() if "not-sampled" in line]
    assert "trace_id" not in json.loads(line)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=str,
)
def test_nothing_is_traced_unless_the_variables_ask_for_it(
    variables: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert from_environment(variables) is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
)
def test_what_is_not_supported_is_said(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}

    assert from_environment(endpoint | {name: value}) is None

    (record,) = caplog.records
    assert name in record.getMessage()
    assert value in record.getMessage()


def test_without_the_packages_one_sentence_says_what_to_install() -> None:
    code = """
import logging, sys
sys.modules["opentelemetry.sdk"] = None  # as if it was not installed; FastAPI needs the rest
logging.basicConfig(stream=sys.stdout)
from service.app import create_app
from service.monitoring.tracing import from_environment
assert from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )

    (line,) = done.stdout.splitlines()
    assert "Install the extra otel" in line
