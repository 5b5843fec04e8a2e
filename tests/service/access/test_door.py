"""API keys through HTTP: who is let in, and what a refusal says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from frontend.client import ServiceClient, open_session
from frontend.errors import Refused
from tests.service.access.keyring import sha256, write_keys
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, refused_start, serving
from tests.service.images import coloured, encode, varied

ADMIN_KEY = "a-key-of-24-characters--"
IMAGE = encode(varied(440, 440))
# Each test that uses up a limit has a client of its own.
CLIENTS: dict[str, dict[str, Any]] = {
    "shop": {"weight": 3},
    "ops": {"admin": True},
    "slow": {"requests_per_s": 0.001},
    "narrow": {"bytes_per_s": 0.5, "burst_bytes": 2 * len(IMAGE) + 1000},
    "streamer": {"bytes_per_s": 0.5, "burst_bytes": 2 * len(IMAGE) - 1000},
}


@pytest.fixture(scope="module")
def guarded(
    quick_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    """A service that needs keys, and its file of keys."""
    path = write_keys(tmp_path_factory.mktemp("keys") / "keys.toml", **CLIENTS)
    with serving(
        models_dir=quick_root,
        api_keys_file=path,
        api_keys=f"mobile:{sha256('secret-mobile')}",
        admin_key=ADMIN_KEY,
        watch_s=0.1,
        runtime_threads=1,
    ) as server:
        yield server, path


@pytest.fixture
def server(guarded: tuple[Server, Path]) -> Server:
    return guarded[0]


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer secret-{name}"}


def predict(server: Server, headers: dict[str, str], image: Any = IMAGE) -> httpx.Response:
    return server.client.post("/predict", content=image, headers=headers)


def metric(server: Server, line: str) -> float:
    text = server.client.get("/metrics", headers=bearer("ops")).text
    (value,) = [row.split()[1] for row in text.splitlines() if row.startswith(line)]
    return float(value)


REQUESTS: list[tuple[str, str]] = [
    ("POST", "/predict"),
    ("POST", "/predict/batch"),
    ("GET", "/models"),
    ("GET", "/metrics"),
    ("GET", "/v2"),
    ("GET", "/v2/models/tiny-torch"),
    ("POST", "/v2/models/tiny-torch/infer"),
    ("POST", "/v1/models/tiny-torch:predict"),
    ("POST", "/"),
    ("POST", "/invocations"),
    ("PUT", "/predictions/tiny-torch"),
    ("POST", "/v2/repository/index"),
    ("GET", "/nowhere"),
    ("POST", "/healthz"),
    ("GET", "/healthz/"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS, ids=lambda value: str(value))
def test_every_route_needs_a_key(server: Server, method: str, path: str) -> None:
    none = server.client.request(method, path)
    wrong = server.client.request(method, path, headers=bearer("nobody"))

    assert_problem(none, 401, "unauthorized")
    assert_problem(wrong, 401, "unknown_key")
    assert none.headers["www-authenticate"] == "Bearer"
    assert wrong.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert "nobody" not in wrong.text


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready", "/docs", "/"],
)
def test_probes_and_the_documentation_need_none(server: Server, path: str) -> None:
    assert server.client.get(path).status_code in (200, 307)
    assert server.client.head(path).status_code in (200, 307)


def test_probes_do_not_name_the_models(server: Server) -> None:
    body = server.client.get("/readyz").json()

    assert body == {"status": "ready", "models": None, "refused": None}


def test_the_description_says_that_keys_are_needed_and_not_what_the_models_are(
    server: Server,
) -> None:
    document = server.client.get("/openapi.json").json()

    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert "tiny-torch" not in str(document)
    page = server.client.get("/docs").text
    script = page.split("/static-offline-docs/")[1].split('"')[0]
    assert server.client.get(f"/static-offline-docs/{script}").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        bearer("shop"),
        {"X-API-Key": "secret-shop"},
        bearer("mobile"),
        {"Authorization": f"Bearer {ADMIN_KEY}"},
    ],
    ids=["bearer", "x-api-key", "environment", "administrator"],
)
def test_a_key_opens_the_routes(server: Server, headers: dict[str, str]) -> None:
    assert predict(server, headers).status_code == 200
    assert server.client.get("/models", headers=headers).status_code == 200
    files = [("files", ("a.png", coloured()))]
    assert server.client.post("/predict/batch", files=files, headers=headers).status_code == 200
    infer = {"inputs": IMAGE.hex()}
    known = server.client.post("/v1/models/tiny-torch:predict", json=infer, headers=headers)
    assert_problem(known, 400, "malformed_request")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v2/repository/index"), ("GET", "/metrics")]
)
def test_what_is_for_administrators_needs_their_key(server: Server, method: str, path: str) -> None:
    refused = server.client.request(method, path, headers=bearer("shop"))

    assert_problem(refused, 403, "forbidden")
    assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
    for headers in (bearer("ops"), {"X-API-Key": ADMIN_KEY}):
        assert server.client.request(method, path, headers=headers).status_code == 200


def test_a_client_over_its_limit_of_requests_is_told_when_to_come_back(server: Server) -> None:
    assert predict(server, bearer("slow")).status_code == 200

    refused = predict(server, bearer("slow"))

    assert_problem(refused, 429, "rate_limited")
    assert 900 < int(refused.headers["retry-after"]) <= 1000
    assert predict(server, bearer("shop")).status_code == 200
    assert server.client.get("/healthz", headers=bearer("slow")).status_code == 200
    assert metric(server, 'resnet_key_requests_total{key="slow",outcome="admitted"}') == 1
    assert metric(server, 'resnet_key_requests_total{key="slow",outcome="rate_limited"}') == 1


def test_bytes_are_limited_by_the_declared_length(server: Server) -> None:
    assert len(IMAGE) > 100_000
    for _ in range(2):
        assert predict(server, bearer("narrow")).status_code == 200

    limited = predict(server, bearer("narrow"))
    never = predict(server, bearer("narrow"), bytes(3 * len(IMAGE)))

    assert_problem(limited, 429, "rate_limited")
    assert int(limited.headers["retry-after"]) > 100_000
    assert_problem(never, 413, "request_too_large")
    assert "burst_bytes" in never.json()["detail"]
    assert [each.headers["connection"] for each in (limited, never)] == ["close", "close"]
    assert metric(server, 'resnet_key_bytes_total{key="narrow"}') == 2 * len(IMAGE)


def test_bytes_of_a_body_without_a_length_are_limited_as_they_arrive(server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        yield IMAGE[:50_000]
        yield IMAGE[50_000:]

    assert predict(server, bearer("streamer"), chunks()).status_code == 200

    limited = predict(server, bearer("streamer"), chunks())

    assert_problem(limited, 429, "rate_limited")
    assert limited.headers["connection"] == "close"
    received = metric(server, 'resnet_key_bytes_total{key="streamer"}')
    assert len(IMAGE) <= received < 2 * len(IMAGE)


def test_a_request_is_refused_before_its_body_is_sent(server: Server) -> None:
    head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(60)
        connection.sendall(head.encode())
        answer = connection.recv(10_000).decode()

    assert answer.startswith("HTTP/1.1 401 ")
    assert "connection: close" in answer.lower()


def test_refusals_are_counted_and_logged_with_the_client_and_without_the_key(
    server: Server,
) -> None:
    codes = ("unauthorized", "unknown_key", "forbidden")
    before = [metric(server, f'resnet_problems_total{{code="{code}"}}') for code in codes]

    server.client.get("/models")
    server.client.get("/models", headers=bearer("a-stranger"))
    refused = server.client.get("/metrics", headers=bearer("shop"))

    after = [metric(server, f'resnet_problems_total{{code="{code}"}}') for code in codes]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1]
    server.client.get("/models", headers=bearer("shop") | {"X-Request-Id": "logged"})
    server.wait_logged(" logged shop\n")
    assert metric(server, 'http_requests_total{method="GET",route="/models",status="401"}') >= 2
    assert metric(server, 'resnet_key_requests_total{key="shop",outcome="forbidden"}') >= 1
    assert "secret-" not in server.log() + refused.text
    assert "a-stranger" not in server.log()


def test_the_page_sends_its_key(server: Server) -> None:
    with open_session(server.url, api_key="secret-shop") as session:
        client = ServiceClient(session, server.url)
        (model,) = client.models().ready
        timed = client.predict(coloured("red"), model=model.name, version=1, top_k=1)
    assert timed.response.predictions[0].label == "red"

    with open_session(server.url) as session, pytest.raises(Refused) as refused:
        ServiceClient(session, server.url).models()
    assert refused.value.problem.code == "unauthorized"


def test_the_file_is_read_again_and_a_wrong_one_changes_nothing(
    guarded: tuple[Server, Path],
) -> None:
    server, path = guarded
    good = path.read_text()
    try:
        write_keys(path, **CLIENTS, late={})
        server.wait(lambda: predict(server, bearer("late")).status_code == 200, "known", 60)

        path.write_text(good + "\n[broken")
        server.wait(lambda: metric(server, "resnet_key_file_error ") == 1, "reported", 60)
        assert predict(server, bearer("late")).status_code == 200
        server.wait_logged("the API keys stay as they were: ")

        path.write_text(good)
        server.wait(lambda: predict(server, bearer("late")).status_code == 401, "unknown", 60)
        assert metric(server, "resnet_key_file_error ") == 0
    finally:
        path.write_text(good)
    assert_problem(predict(server, bearer("late")), 401, "unknown_key")


def test_a_wrong_file_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    line = refused_start(models_dir=tmp_path, api_keys_file=path)
    assert "SERVICE_API_KEYS_FILE: the file can't be read" in line
    assert str(path) in line

    path.write_text("[shop]\nsha256 = 'a-key-by-mistake'")
    line = refused_start(models_dir=tmp_path, api_keys_file=path)
    assert "[shop], sha256: Expected the SHA-256" in line
    assert "a-key-by-mistake" not in line

    line = refused_start(models_dir=tmp_path, api_keys="shop:a-key-by-mistake")
    assert "SERVICE_API_KEYS: " in line
    assert "a-key-by-mistake" not in line
