"""Pages of other origins: SERVICE_CORS_ORIGINS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured

LISTED, OTHER = "https://shop.example.org", "https://evil.example.org"


@pytest.fixture(scope="module")
def cors_server(quick_root: Path) -> Iterator[Server]:
    origins = f"{LISTED}, http://127.0.0.1:3000"
    with serving(models_dir=quick_root, runtime_threads=1, cors_origins=origins) as running:
        yield running


def preflight(server: Server, origin: str, method: str = "POST") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, x-api-key",
    }
    return server.client.options("/predict", headers=headers)


def post(server: Server, origin: str, data: bytes) -> httpx.Response:
    return server.client.post("/predict", content=data, headers={"Origin": origin})


@pytest.mark.parametrize("origin", [LISTED, "http://127.0.0.1:3000"])
def test_a_page_of_a_listed_origin_may_post_and_read(cors_server: Server, origin: str) -> None:
    asked, answered = preflight(cors_server, origin), post(cors_server, origin, coloured())

    assert asked.status_code == answered.status_code == 200
    assert asked.headers["access-control-allow-origin"] == origin
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "x-api-key" in asked.headers["access-control-allow-headers"]
    assert answered.headers["access-control-allow-origin"] == origin
    assert "X-Request-Id" in answered.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answered.headers


def test_a_page_of_a_listed_origin_may_read_failures(cors_server: Server) -> None:
    answered = post(cors_server, LISTED, b"text")

    assert answered.status_code == 415
    assert answered.headers["access-control-allow-origin"] == LISTED


@pytest.mark.parametrize(("origin", "method"), [(OTHER, "POST"), (LISTED, "DELETE")])
def test_other_preflights_are_refused_with_a_problem(
    cors_server: Server, origin: str, method: str
) -> None:
    asked = preflight(cors_server, origin, method)

    assert_problem(asked, 400, "malformed_request")
    assert "access-control-allow-origin" not in asked.headers


def test_a_page_of_another_origin_may_read_nothing(cors_server: Server) -> None:
    answered = post(cors_server, OTHER, coloured())

    assert "access-control-allow-origin" not in answered.headers


def test_without_the_setting_no_page_may(server: Server) -> None:
    assert preflight(server, LISTED).status_code == 405
    assert "access-control-allow-origin" not in post(server, LISTED, coloured()).headers
