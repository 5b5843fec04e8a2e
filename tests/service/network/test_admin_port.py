"""A service with an admin port: what each port serves, and the end of both."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.routing import BaseRoute

from service.api.responses import PROVENANCE
from service.app import create_app, public_app
from service.settings import Settings
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, free_port, refused_start, serving
from tests.service.images import coloured
from tests.service.models.disturb import paused

KEY = "a-key-of-an-operator"
OPERATORS = ("/metrics", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css")


@contextmanager
def two_ports(models_dir: Path, **settings: Any) -> Iterator[tuple[Server, httpx.Client]]:
    """A service, and a client of its admin port; the server's own client has the public one."""
    admin_port = free_port()
    with (
        serving(models_dir=models_dir, admin_port=admin_port, admin_key=KEY, **settings) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{admin_port}", timeout=60) as admin,
    ):
        yield server, admin


def paths(app: FastAPI) -> set[str]:
    """Of each route; of a whole router, what is known of it."""

    def path(route: BaseRoute) -> str:
        return getattr(route, "path", None) or type(route).__name__

    return {path(route) for route in app.routes}


def test_every_route_is_on_both_ports_or_for_operators(tmp_path: Path) -> None:
    app = create_app(Settings(models_dir=tmp_path, admin_key=SecretStr(KEY)))

    assert paths(app) - paths(public_app(app)) == {
        *("/metrics", "/docs", "/openapi.json", "/static-offline-docs"),
        # of /v2/repository
        "_IncludedRouter",
    }
    assert paths(public_app(app)) <= paths(app)


def test_each_port_serves_what_it_should_and_both_end_without_losing_a_request(
    quick_root: Path,
) -> None:
    # One service for all of this: its start takes longer than the rest.
    with two_ports(quick_root) as (server, admin):
        public = server.client
        key = {"Authorization": f"Bearer {KEY}"}
        for path in OPERATORS:
            assert_problem(public.get(path), 404, "not_found")
            assert admin.get(path).status_code == 200
        assert_problem(public.post("/v2/repository/index", headers=key), 404, "not_found")
        assert admin.post("/v2/repository/index", headers=key).status_code == 200
        assert public.get("/").status_code == 405
        assert admin.get("/").headers["location"] == "/docs"
        for client in (public, admin):
            for path in ("/healthz", "/readyz", "/v2/health/ready", "/ping", "/models"):
                assert client.get(path).status_code == 200
        assert "SERVICE_ADMIN_PORT" in public.get("/nothing").json()["detail"]

        records = [client.get("/models/tiny-torch").json() for client in (public, admin)]
        assert {name for name, value in records[1].items() if records[0][name] != value} == {
            name for name in PROVENANCE if records[1][name] is not None
        }
        assert records[0]["labels"]
        assert [records[0][name] for name in PROVENANCE] == [None] * len(PROVENANCE)

        assert_headers(public, admin)

        with paused_and_asked(server, admin) as answers:
            server.process.send_signal(signal.SIGTERM)
            server.wait_closed()
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{admin.base_url}/healthz")
        assert [answer.result().status_code for answer in answers] == [200, 200]
        assert server.process.wait(60) == 0


def test_without_a_key_no_path_of_the_public_port_is_told_from_another(
    quick_root: Path,
) -> None:
    pair = f"shop:{hashlib.sha256(b'secret').hexdigest()}"
    with two_ports(quick_root, api_keys=pair) as (server, admin):
        for path in ("/nothing", "/predict", *OPERATORS):
            assert_problem(server.client.get(path), 401, "unauthorized")
        assert admin.get("/docs").status_code == 200


@contextmanager
def paused_and_asked(server: Server, admin: httpx.Client) -> Iterator[list[Future[httpx.Response]]]:
    """A request in flight on each port until the block ends; yields their responses to come."""

    def ask(client: httpx.Client) -> httpx.Response:
        return client.post("/predict", content=coloured())

    with ThreadPoolExecutor(2) as pool, paused(server):
        answers = [pool.submit(ask, client) for client in (server.client, admin)]
        sent = re.compile(r"^resnet_batch_images_sum\{.*\} 2\.0$", re.MULTILINE)
        server.wait(lambda: sent.search(admin.get("/metrics").text) is not None, "in flight", 60)
        yield answers


def assert_headers(public: httpx.Client, admin: httpx.Client) -> None:
    """Every response has the security headers; the documentation has a policy of its own too."""
    responses = [
        public.get("/healthz"),
        public.post("/predict", content=b"no image"),
        public.get("/nothing"),
        # The protocol refuses it, without the application.
        public.get("/healthz", headers={"x-long": "x" * 500_000}),
        admin.get("/static-offline-docs/swagger-ui.css"),
        admin.get("/docs"),
    ]
    assert [response.status_code for response in responses] == [200, 415, 404, 400, 200, 200]
    for response in responses:
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "strict-transport-security" not in response.headers
    policy = responses[-1].headers.get_list("content-security-policy")
    assert len(policy) == 2
    assert "default-src 'none'" in policy[1]


def test_one_port_cannot_be_both(tmp_path: Path) -> None:
    port = free_port()

    line = refused_start(models_dir=tmp_path, port=port, admin_port=port)

    assert "SERVICE_ADMIN_PORT: the public port can't be the admin port" in line
    assert str(port) in line
