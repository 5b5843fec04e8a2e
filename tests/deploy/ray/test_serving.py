"""The service on two nodes of Ray answers as on one machine, and outlives a node."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import psutil
import pytest

from bundle.format.manifest import MANIFEST_FILE
from tests.deploy.ray.conftest import MODEL, OnRay
from tests.service.conftest import Server
from tests.service.shipped import MODELS, SAMPLES

DEADLINE_S = 240
LOOKS = 8
CLIENTS = 4
GOLDEN = sorted((MODELS / MODEL / "1/golden").glob("*.jpg"))
PHOTOS = sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp"))


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not {what}"
        time.sleep(0.1)


def answer(client: httpx.Client, path: str, **request: Any) -> dict[str, Any]:
    """A response without what differs between two of the same request: times and ids."""
    response = client.post(path, **request)
    body: dict[str, Any] = response.json()
    for name in ("timing_ms", "request_id", "instance", "id"):
        body.pop(name, None)
    return {"status": response.status_code, "media_type": response.headers["content-type"], **body}


def put(repository: Path, name: str, version: int) -> None:
    """Add a bundle that differs from the shipped one in its record."""
    staged = shutil.copytree(MODELS / MODEL / "1", repository / name / f".new-{version}")
    record = json.loads((staged / MANIFEST_FILE).read_text())
    (staged / MANIFEST_FILE).write_text(json.dumps(record | {"name": name, "version": version}))
    staged.rename(repository / name / str(version))


def serves(service: OnRay | Server, name: str, version: int) -> bool:
    """Whether it does, in every web process; a new connection may find each."""
    wanted = {"name": name, "version": version, "state": "ready"}
    looks = [httpx.get(f"{service.client.base_url}/models").json() for _ in range(LOOKS)]
    return all(any(wanted.items() <= model.items() for model in look["models"]) for look in looks)


class Load:
    """Clients that send one image after another, each once more if it fails, until the end."""

    def __init__(self, on_ray: OnRay) -> None:
        self._url = f"http://127.0.0.1:{on_ray.port}/predict"
        self._image = PHOTOS[0].read_bytes()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        self.answered, self.retried = 0, 0
        self.failed: list[str] = []
        self.versions: set[int] = set()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def until(self, answered: int) -> None:
        until(lambda: self.answered >= answered or bool(self.failed), f"{answered} answers")

    def _send(self) -> None:
        while not self._ended.is_set():
            first = self._post()
            response = first if isinstance(first, dict) else self._post()
            if isinstance(response, dict):
                self.answered += 1
                self.versions.add(response["model"]["version"])
                self.retried += response is not first
            else:
                self.failed.append(f"{first}, then {response}")

    def _post(self) -> dict[str, Any] | str:
        try:
            response = httpx.post(self._url, files={"file": ("image", self._image)}, timeout=60)
        except httpx.TransportError as exc:
            return repr(exc)
        return response.json() if response.status_code == 200 else response.text


@pytest.mark.parametrize("path", ["/predict", "/explain", "/embed"])
def test_photos_get_the_same_answer_to_the_last_digit(
    path: str, on_ray: OnRay, alone: Server
) -> None:
    files = [*GOLDEN, *PHOTOS]
    for file in files:
        request = {"files": {"file": ("image", file.read_bytes())}}

        assert answer(on_ray.client, path, **request) == answer(alone.client, path, **request)

    assert len(files) > 10


def test_a_tensor_of_the_open_inference_protocol_gets_the_same_scores(
    on_ray: OnRay, alone: Server
) -> None:
    pixels = (np.arange(32 * 32 * 3) % 251).tolist()
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": pixels}
    path = f"/v2/models/{MODEL}/infer"

    found = answer(on_ray.client, path, json={"inputs": [tensor]})

    assert found["status"] == 200, found
    assert found == answer(alone.client, path, json={"inputs": [tensor]})


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/predict", {"files": {"file": ("report.pdf", b"%PDF-1.7")}}),
        ("/predict", {"files": {"file": ("cut.jpg", GOLDEN[0].read_bytes()[:700])}}),
        ("/predict?model=missing", {"files": {"file": ("a.jpg", GOLDEN[0].read_bytes())}}),
        ("/v2/models/missing/infer", {"json": {"inputs": []}}),
    ],
    ids=["no image", "damaged", "unknown model", "unknown model of the protocol"],
)
def test_a_refusal_is_the_same_problem(
    path: str, request_: dict[str, Any], on_ray: OnRay, alone: Server
) -> None:
    found = answer(on_ray.client, path, **request_)

    assert found["status"] >= 400
    assert found == answer(alone.client, path, **request_)


def test_models_that_appear_later_share_replicas_that_hold_one_at_a_time(
    repository: Path, on_ray: OnRay, alone: Server
) -> None:
    names = ("later", "later-still")
    for name in names:
        put(repository, name, 1)
    for name in names:
        until(lambda name=name: serves(on_ray, name, 1), f"{name} serves")  # type: ignore[misc]
        until(lambda name=name: serves(alone, name, 1), f"{name} serves alone")  # type: ignore[misc]

    for name in (*names, *names):
        request = {"files": {"file": ("image", PHOTOS[0].read_bytes())}, "params": {"model": name}}

        found = answer(on_ray.client, "/predict", **request)

        assert found["status"] == 200, found
        assert found == answer(alone.client, "/predict", **request)


def test_a_new_version_takes_over_without_a_failed_request(repository: Path, on_ray: OnRay) -> None:
    with Load(on_ray) as load:
        load.until(20)
        put(repository, MODEL, 2)
        until(lambda: serves(on_ray, MODEL, 2), "version 2 serves")
        load.until(load.answered + 20)

    assert not load.failed
    assert load.versions == {1, 2}


def test_a_node_that_is_killed_loses_no_request_after_one_retry(on_ray: OnRay) -> None:
    with Load(on_ray) as load:
        load.until(20)
        for process in [on_ray.second, *on_ray.second.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        load.until(load.answered + 100)

    assert not load.failed
