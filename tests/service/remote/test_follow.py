"""A real service whose models lie elsewhere."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.service.conftest import Server, refused_start, serving
from tests.service.images import coloured
from tests.service.remote.conftest import Origin
from tests.service.remote.s3 import KEY, SECRET, bucket_of_moto
from tests.service.remote.web import Web, serve


def models(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/models").json()
    return found


def states(server: Server) -> dict[int, str]:
    return {model["version"]: model["state"] for model in models(server)["models"]}


def following(web: Web, cache: Path) -> Callable[..., Any]:
    return functools.partial(
        serving, models_dir=web.url, models_cache=cache, models_refresh_s=0.2, runtime_threads=1
    )


def test_a_version_that_appears_serves_and_what_fails_takes_nothing_away(
    origin: Origin, web: Web, tmp_path: Path
) -> None:
    origin.put(1)
    with following(web, tmp_path / "cache")(watch_s=0.2) as server:
        assert server.predict(coloured()).json()["model"]["version"] == 1
        assert models(server)["repository_error"] is None

        origin.put(2)
        server.wait(lambda: states(server) == {2: "ready"}, "replaced", 60)
        assert server.predict(coloured()).json()["model"]["version"] == 2

        (origin.put(3) / "model.pt").write_bytes(b"?")
        server.wait(lambda: "integrity_failed" in str(models(server)), "refused", 60)
        index = (origin.root / "index.json").read_text()
        (origin.root / "index.json").write_text("[]")
        server.wait(lambda: "no model any more" in str(models(server)), "empty", 60)
        assert server.predict(coloured()).json()["model"]["version"] == 2
        error = models(server)["repository_error"]
        assert web.url in error
        assert str(tmp_path) not in error
        assert server.log().count("no model any more") == 1

        # Its manifest is the same, so it is not fetched again at once; another version is.
        (origin.root / "index.json").write_text(index)
        origin.put(4)
        server.wait(lambda: states(server) == {4: "ready"}, "repaired", 60)
        server.wait(lambda: models(server)["repository_error"] is None, "without error", 60)


def test_without_the_network_the_copy_serves_and_says_so(origin: Origin, tmp_path: Path) -> None:
    origin.put(1)
    with serve(origin.root) as web:
        started = following(web, tmp_path / "cache")
        with started(models_refresh_s=0) as server:
            assert server.predict(coloured()).status_code == 200

    with started() as server:
        assert server.predict(coloured()).json()["model"]["version"] == 1
        server.wait_logged("can't be looked at")
        assert "UTC serves" in models(server)["repository_error"]


def test_without_the_network_and_a_copy_readiness_says_what_is_missing(
    origin: Origin, tmp_path: Path
) -> None:
    with serve(origin.root) as web:
        started = following(web, tmp_path / "cache")
    with started(ready=False, models_refresh_s=0) as server:
        server.wait_logged("can't be looked at")
        response = server.client.get("/readyz")
        assert response.status_code == 503
        assert "being fetched from http" in response.json()["detail"]
        assert "no copy" in response.json()["detail"]

        server.process.send_signal(signal.SIGHUP)
        server.wait(lambda: server.client.get("/healthz").status_code == 200, "alive", 60)


def test_credentials_of_a_store_reach_neither_models_nor_decoders_nor_the_log(
    origin: Origin, tmp_path: Path
) -> None:
    origin.put(1)
    with bucket_of_moto() as bucket:
        bucket.upload(origin.root)
        for name, value in bucket.variables.items():
            os.environ[name] = value
        try:
            with serving(
                models_dir=bucket.address, models_cache=tmp_path, models_refresh_s=0
            ) as server:
                assert server.predict(coloured()).status_code == 200
                children = server.tree()[1:]
                modules = {each for child in children for each in child.cmdline()}
                assert {"bundle.worker", "service.decoding"} <= modules
                variables = [psutil.Process(child.pid).environ() for child in children]
                bucket.delete("")
                server.process.send_signal(signal.SIGHUP)
                server.wait_logged("can't be looked at")
                log = server.log()
        finally:
            for name in bucket.variables:
                del os.environ[name]

    assert not [name for each in variables for name in each if name.startswith("AWS_")]
    assert KEY not in log
    assert SECRET not in log


def test_addresses_that_can_not_be_used_stop_the_start() -> None:
    hidden = "hidden-from-everybody"
    for address in (
        f"https://user:{hidden}@models.example/prod",
        f"https://models.example/prod?signature={hidden}",
    ):
        line = refused_start(models_dir=address)
        assert "SERVICE_MODELS_DIR" in line
        assert "credentials" in line
        assert hidden not in line
    assert "begins with one of s3://" in refused_start(models_dir="ftp://models.example/prod")
    assert "https://, or SERVICE_SIGNERS" in refused_start(models_dir="http://models.example/prod")
    line = refused_start(models_dir="s3://models/prod", models_cache="/proc/models")
    assert "SERVICE_MODELS_CACHE" in line
