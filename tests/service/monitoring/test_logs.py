"""The log as lines of JSON: of a real service, and of records that are hard to write."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from service.monitoring.logs import Event, JsonFormatter, TextFormatter
from tests.service.conftest import Server, serving
from tests.service.images import coloured


@pytest.fixture(scope="module")
def logging_server(quick_root: Path) -> Iterator[Server]:
    with serving(models_dir=quick_root, log_format="json", log_client=True) as running:
        yield running


def logged(server: Server, identity: str) -> dict[str, Any]:
    """The line of a request."""
    server.wait_logged(identity)
    (line,) = [line for line in server.log().splitlines() if identity in line]
    found: dict[str, Any] = json.loads(line)
    return found


def record(message: object, *arguments: object, **others: Any) -> logging.LogRecord:
    made = logging.LogRecord("service", logging.ERROR, "file.py", 1, message, arguments, None)
    made.__dict__.update(others)
    return made


def test_a_prediction_is_logged_with_what_is_known_of_it(logging_server: Server) -> None:
    body = coloured()

    response = logging_server.client.post(
        "/predict", content=body, headers={"X-Request-Id": "of-a-prediction"}
    )

    line = logged(logging_server, "of-a-prediction")
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line.pop("duration_ms") >= response.json()["timing_ms"]["total"]
    assert line.pop("message").startswith("POST /predict 200 ")
    assert line == {
        "level": "info",
        "logger": "service.access",
        "method": "POST",
        "path": "/predict",
        "route": "/predict",
        "status": 200,
        "request_id": "of-a-prediction",
        "model": "tiny-torch",
        "version": 1,
        "bytes_in": len(body),
        "timing_ms": response.json()["timing_ms"],
        "client": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("path", "problem", "known"),
    [
        ("/predict", "unsupported_image_type", {"model": "tiny-torch", "bytes_in": 8}),
        ("/predict?model=another", "unknown_model", {}),
        ("/v2/models/tiny-torch/infer", "malformed_request", {"model": "tiny-torch"}),
        ("/nowhere", "not_found", {}),
    ],
)
def test_a_problem_is_logged_with_its_code(
    logging_server: Server, path: str, problem: str, known: dict[str, Any]
) -> None:
    identity = f"of-{problem}"

    logging_server.client.post(path, content=b"no image", headers={"X-Request-Id": identity})

    line = logged(logging_server, identity)
    assert line["problem"] == problem
    assert {name: line.get(name) for name in known} == known
    assert "timing_ms" not in line


def test_every_line_is_an_object_with_a_time_that_has_a_zone(logging_server: Server) -> None:
    logging_server.wait_logged("is ready")

    lines = [json.loads(line) for line in logging_server.log().splitlines()]

    assert {line["logger"] for line in lines} >= {"service", "uvicorn.error"}
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)
    assert all({"level", "message"} <= set(line) for line in lines)


def test_the_text_has_model_version_and_problem_too(server: Server) -> None:
    for identity, body in (("text-answered", coloured()), ("text-refused", b"no image")):
        server.client.post("/predict", content=body, headers={"X-Request-Id": identity})
        server.wait_logged(identity)

    log = server.log().splitlines()
    answered, refused = (
        next(line for line in log if identity in line)
        for identity in ("text-answered", "text-refused")
    )
    time, level, logger, *_ = answered.split()
    assert datetime.fromisoformat(time).tzinfo is not None
    assert (level, logger) == ("INFO", "service.access")
    assert answered.endswith(" text-answered tiny-torch/1")
    assert refused.endswith(" text-refused tiny-torch/1 unsupported_image_type")


def test_an_exception_is_one_field_and_its_request_is_named() -> None:
    try:
        raise KeyError("the cause")
    except KeyError:
        failed = record("request %s failed", "a1", exc_info=sys.exc_info(), request_id="a1")

    text = JsonFormatter().format(failed)

    assert "\n" not in text
    line = json.loads(text)
    assert line["message"] == "request a1 failed"
    assert line["request_id"] == "a1"
    assert line["exception"].endswith("KeyError: 'the cause'")


def test_any_text_can_be_written() -> None:
    line = JsonFormatter().format(
        record(Event("a\nb", {"name": "\udcff", "path": Path("x"), "n": None}))
    )

    assert line.isascii()
    found = json.loads(line)
    assert (found["message"], found["name"], found["path"]) == ("a\nb", "\udcff", "x")
    assert "n" not in found


def test_the_text_of_a_record_begins_with_its_time() -> None:
    made = record("a message", created=1_700_000_000.25)

    time, rest = TextFormatter().format(made).split(" ", 1)

    assert datetime.fromisoformat(time).timestamp() == 1_700_000_000.25
    assert rest == "ERROR service a message"
