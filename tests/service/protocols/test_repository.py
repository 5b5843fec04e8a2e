"""The routes that load and unload models."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, refused_start, serving
from tests.service.images import coloured
from tests.service.repository.test_refusals import flip_a_byte

KEY = "a-key-of-24-characters--"
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def administered(
    quick_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(quick_root, root, dirs_exist_ok=True)
    with serving(models_dir=root, admin_key=KEY, watch_s=0, runtime_threads=1) as server:
        yield server, root


def post(server: Server, path: str, headers: dict[str, str] = BEARER) -> httpx.Response:
    return server.client.post(f"/v2/repository/{path}", headers=headers)


def index(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = post(server, "index").json()
    return found


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unauthorized"),
        ({"Authorization": "Bearer wrong"}, "unknown_key"),
        ({"X-API-Key": "\xe9"}, "unknown_key"),
        ({"Authorization": f"Basic {KEY}"}, "unauthorized"),
    ],
    ids=["none", "another", "not ASCII", "another scheme"],
)
@pytest.mark.parametrize("path", ["index", "models/tiny-torch/load", "models/tiny-torch/unload"])
def test_the_routes_need_the_key(
    administered: tuple[Server, Path], path: str, headers: dict[str, bytes], code: str
) -> None:
    server, _ = administered
    # httpx sends ASCII only.
    response = requests.post(f"{server.url}/v2/repository/{path}", headers=headers, timeout=60)

    assert response.status_code == 401
    assert response.json()["code"] == code
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert KEY not in response.text
    assert server.predict(coloured()).status_code == 200


def test_a_model_is_unloaded_and_loaded_with_its_memory(administered: tuple[Server, Path]) -> None:
    server, _ = administered
    entry = {"name": "tiny-torch", "version": "1", "state": "READY", "reason": ""}
    assert index(server) == [entry]
    for headers in (BEARER, {"X-API-Key": KEY}):
        assert post(server, "models/tiny-torch/unload", headers).json() == {}
        assert server.worker_pids() == {}
        unloaded = {"name": "tiny-torch", "version": "", "state": "UNAVAILABLE"}
        assert index(server) == [unloaded | {"reason": "unloaded"}]
        assert server.client.get("/models").json()["unloaded"] == ["tiny-torch"]
        for model in ("tiny-torch", None):
            refused = server.predict(coloured(), **({"model": model} if model else {}))
            assert_problem(refused, 503, "model_unavailable")
            assert "POST /v2/repository/models/tiny-torch/load" in refused.json()["detail"]
        assert_problem(server.client.get("/readyz"), 503, "not_ready")
        assert post(server, "models/tiny-torch/unload", headers).json() == {}

        assert post(server, "models/tiny-torch/load", headers).json() == {}
        assert index(server) == [entry]
        assert server.predict(coloured()).status_code == 200
        assert server.client.get("/readyz").status_code == 200


def test_loading_says_what_is_wrong_with_a_bundle(administered: tuple[Server, Path]) -> None:
    server, root = administered
    bundle = root / "tiny-torch" / "2"
    shutil.copytree(root / "tiny-torch" / "1", bundle)
    flip_a_byte(bundle)
    try:
        response = post(server, "models/tiny-torch/load")
        listed = {each["version"]: each for each in index(server)}
    finally:
        shutil.rmtree(bundle)

    assert_problem(response, 503, "model_refused")
    assert "manifest_invalid" in response.json()["detail"]
    assert listed["1"]["state"] == "READY"
    assert listed["2"]["state"] == "UNAVAILABLE"
    assert listed["2"]["reason"]
    assert server.predict(coloured()).json()["model"]["version"] == 1


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_model_that_does_not_exist_is_named(administered: tuple[Server, Path], verb: str) -> None:
    response = post(administered[0], f"models/unknown/{verb}")

    assert_problem(response, 404, "unknown_model")
    assert "one of: tiny-torch" in response.json()["detail"]


def test_without_a_key_there_are_no_such_routes(server: Server) -> None:
    assert_problem(post(server, "index"), 404, "not_found")


def test_a_short_key_stops_the_start_and_is_not_shown() -> None:
    line = refused_start(admin_key="secret")

    assert "SERVICE_ADMIN_KEY" in line
    assert "16" in line
    assert "secret" not in line
