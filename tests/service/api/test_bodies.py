"""Bodies of POST /predict that are no form: raw images of any content type, and JSON in base64."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import httpx
import pytest
import requests

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server
from tests.service.images import coloured

KINDS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]


def label(response: httpx.Response | requests.Response) -> str:
    assert response.status_code == 200, response.text
    found: str = response.json()["predictions"][0]["label"]
    return found


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("kind", KINDS)
def test_requests_sends_an_image_without_a_content_type(server: Server, kind: str) -> None:
    url = f"{server.url}/predict"

    assert label(requests.post(url, data=coloured("green", kind=kind), timeout=60)) == "green"


@pytest.mark.parametrize(
    "kind",
    [
        "application/octet-stream",
        "application/x-www-form-urlencoded",  # of curl --data-binary
        "application/x-image",
        "image/jpeg",  # of a PNG file
        "Image/PNG; charset=binary",
    ],
)
def test_the_first_bytes_decide_whatever_the_content_type_says(server: Server, kind: str) -> None:
    response = server.client.post(
        "/predict", content=coloured("red"), headers={"content-type": kind}
    )

    assert label(response) == "red"


@pytest.mark.parametrize(
    "text",
    [
        in_base64(coloured("blue")),
        in_base64(coloured("blue")).rstrip("="),
        base64.encodebytes(coloured("blue")).decode(),
        "data:image/png;base64," + in_base64(coloured("blue")),
    ],
    ids=["plain", "without padding", "in lines", "data URL"],
)
def test_json_carries_an_image_in_base64(server: Server, text: str) -> None:
    assert label(server.client.post("/predict", json={"image": text})) == "blue"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "missing required field `image`"),
        ({"image": 1}, "Expected `str`, got `int` - at `$.image`"),
        ({"url": "http://127.0.0.1/"}, "unknown field `url`"),
        ({"image": "", "top_k": 1}, "unknown field `top_k`"),
        ({"image": ""}, "The field 'image' is empty"),
        ({"image": "%%%%"}, "The field 'image' is not base64"),
        ({"image": "data:image/png,abc"}, "a data: URL without base64"),
        ({"image": "\u20ac" * 4}, "The field 'image' is not base64"),
        ([], "Expected `object`, got `array`"),
    ],
    ids=[
        *("no key", "number", "other key", "one more key", "empty", "no base64", "data URL"),
        *("not ASCII", "array"),
    ],
)
def test_other_json_is_malformed_and_the_problem_says_why(
    server: Server, document: Any, said: str
) -> None:
    response = server.client.post("/predict", json=document)

    assert_problem(response, 400, "malformed_request")
    assert said in response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff\xfe", b'{"image": "\xff"}', b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000],
    ids=["cut", "no UTF-8", "no UTF-8 in a string", "deep array", "deep object", "long number"],
)
def test_what_is_no_json_is_malformed(server: Server, body: bytes) -> None:
    response = server.client.post(
        "/predict", content=body, headers={"content-type": "application/json"}
    )

    assert_problem(response, 400, "malformed_request")


def test_a_compressed_body_is_refused_for_that(server: Server) -> None:
    compressed = {"content-encoding": "gzip"}
    raw = server.client.post("/predict", content=gzip.compress(coloured()), headers=compressed)
    form = server.client.post("/predict/batch", files=[("files", coloured())], headers=compressed)

    for response in (raw, form):
        assert_problem(response, 415, "unsupported_media_type")
        assert "Expected no Content-Encoding. Received: 'gzip'" in response.json()["detail"]


@pytest.mark.parametrize("size", [20_000_000, 20_000_001])
def test_an_image_in_json_has_the_limit_of_any_image(server: Server, size: int) -> None:
    response = server.client.post("/predict", json={"image": in_base64(bytes(size))})

    code = {20_000_000: "unsupported_image_type", 20_000_001: "image_too_large"}[size]
    assert_problem(response, 415 if size == 20_000_000 else 413, code)


def test_a_json_body_is_cut_at_the_limit(server: Server) -> None:
    response = server.client.post("/predict", json={"image": in_base64(bytes(20_100_000))})

    assert_problem(response, 413, "request_too_large")
