"""TensorFlow Serving, Vertex AI and TorchServe: the requests of their documentation."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import requests

from tests.bundles import colour_picture
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import COLOURS, coloured

LABELS = list(COLOURS)
MODEL = "/v1/models/tiny-torch"
B64 = {label: {"b64": base64.b64encode(coloured(label)).decode()} for label in COLOURS}
PICTURES = {label: colour_picture(label, (32, 32)).tolist() for label in COLOURS}


def predict(server: Server, body: Any, path: str = MODEL) -> httpx.Response:
    return server.client.post(f"{path}:predict", json=body)


def best(rows: list[list[float]]) -> list[str]:
    assert np.abs(np.sum(rows, axis=1) - 1).max() < 1e-6
    return [LABELS[int(np.argmax(row))] for row in rows]


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1", "/v1/models/tiny-keras"])
@pytest.mark.parametrize(
    "instances",
    [
        [B64["red"], B64["blue"]],
        [{"image_bytes": B64["red"]}, {"image_bytes": B64["blue"]}],
        [PICTURES["red"], PICTURES["blue"]],
    ],
    ids=["files", "named files", "pixels"],
)
def test_a_row_for_each_instance(server: Server, path: str, instances: list[Any]) -> None:
    body = {"signature_name": "serving_default", "instances": instances}
    response = predict(server, body, path)

    assert response.status_code == 200, response.text
    assert list(response.json()) == ["predictions"]
    assert best(response.json()["predictions"]) == ["red", "blue"]


@pytest.mark.parametrize(
    "inputs",
    [
        [B64["green"]],
        B64["green"],
        {"image": [B64["green"]]},
        {"image": B64["green"]},
        [PICTURES["green"]],
        {"pixels": [PICTURES["green"]]},
    ],
    ids=["list", "one", "named list", "named one", "pixels", "named pixels"],
)
def test_inputs_by_column(server: Server, inputs: Any) -> None:
    response = predict(server, {"inputs": inputs})

    assert response.status_code == 200, response.text
    assert best(response.json()["outputs"]) == ["green"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "Expected `object`, got `array`"),
        ({}, "Received: neither"),
        ({"instances": [B64["red"]], "inputs": [B64["red"]]}, "Received: both"),
        ({"instances": []}, "1 to 64 images"),
        ({"instances": [B64["red"]] * 65}, "1 to 64 images"),
        ({"instances": [B64["red"]] * 200}, "at most 193 strings"),
        ({"instances": [{}]}, "an object with nothing"),
        ({"instances": [{"b64": "%%"}]}, "Image 1 is not base64"),
        ({"instances": [{"url": "http://127.0.0.1/"}]}, "an object with url"),
        ({"instances": [{**B64["red"], "key": "1"}]}, "an object with b64, key"),
        ({"instances": [1, 2, 3]}, "got `int`"),
        ({"instances": [[[[1, 2, 3]]]]}, "1 to 64 images"),
        ({"instances": [[PICTURES["red"]]]}, "does not fit the shape [1, 32, 32, 3]"),
        ({"instances": np.full((1, 32, 32, 3), 0.5).tolist()}, "whole numbers from 0 to 255"),
        ({"inputs": {"a": [B64["red"]], "b": [B64["red"]]}}, "Expected one input"),
        ({"inputs": "text"}, "Expected `array`"),
    ],
    ids=[
        *("array", "nothing", "both", "none", "too many", "far too many", "empty", "no base64"),
        *("URL", "two keys", "numbers", "small", "nested deeper", "floats", "two inputs", "text"),
    ],
)
def test_other_bodies_are_malformed(server: Server, body: Any, said: str) -> None:
    response = predict(server, body)

    assert_problem(response, 400, "malformed_request")
    assert said in response.json()["error"]


def test_one_bad_image_fails_the_request_and_is_named(server: Server) -> None:
    bad = {"b64": base64.b64encode(coloured()[:-40]).decode()}
    response = predict(server, {"instances": [B64["red"], bad]})

    assert_problem(response, 422, "unreadable_image")
    assert response.json()["detail"].startswith("Image 2 of 2: ")


def test_the_status_of_a_model(server: Server) -> None:
    for path in (MODEL, f"{MODEL}/versions/1"):
        assert server.client.get(path).json() == {
            "model_version_status": [
                {
                    "version": "1",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        }
    assert_problem(server.client.get("/v1/models/nobody"), 404, "unknown_model")
    assert_problem(server.client.get(f"{MODEL}/versions/2"), 404, "unknown_version")
    assert_problem(server.client.get(f"{MODEL}/versions/new"), 422, "invalid_parameter")
    assert_problem(server.client.post(MODEL), 405, "method_not_allowed")


@pytest.mark.parametrize("path", ["tiny-torch", "tiny-keras/1"])
def test_torchserve_takes_bodies_and_forms(server: Server, path: str) -> None:
    url, photo = f"{server.url}/predictions/{path}", coloured("green")
    responses = [
        requests.post(url, data=photo, timeout=60),
        requests.put(url, data=photo, timeout=60),  # as curl -T does
        requests.post(url, files={"data": photo}, timeout=60),
    ]

    for response in responses:
        scores = response.json()
        assert next(iter(scores)) == "green"
        assert set(scores) == set(LABELS)
        assert sum(scores.values()) == pytest.approx(1)


def test_torchserve_refuses_what_it_does_not_have(server: Server) -> None:
    post, photo = server.client.post, coloured()

    assert_problem(post("/predictions/nobody", content=photo), 404, "unknown_model")
    assert_problem(post("/predictions/tiny-torch/x", content=photo), 422, "invalid_parameter")
    files = {"file": photo}
    assert_problem(post("/predictions/tiny-torch", files=files), 400, "malformed_request")


def test_a_service_without_models_is_live_and_not_ready(tmp_path: Path) -> None:
    with serving(ready=False, models_dir=tmp_path) as server:
        server.wait(lambda: server.client.get("/v2/health/live").status_code == 200, "live")

        for path in ("/ping", "/v2/health/ready"):
            assert_problem(server.client.get(path), 503, "not_ready")
        assert_problem(server.client.post("/", content=coloured()), 404, "unknown_model")


def test_a_refused_model_says_so_in_every_protocol(quick_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(quick_root, tmp_path / "models")
    (root / "tiny-torch" / "1" / "model.pt").write_bytes(b"changed")

    with serving(ready=False, models_dir=root) as server:
        server.wait(lambda: "refused" in server.client.get("/models").text, "refused")

        (version,) = server.client.get(MODEL).json()["model_version_status"]
        assert version["state"] == "END"
        assert "model.pt" in version["status"]["error_message"]
        for path in ("/v2/models/tiny-torch", "/v2/models/tiny-torch/ready"):
            assert_problem(server.client.get(path), 503, "model_refused")
        for path in (f"{MODEL}:predict", "/v2/models/tiny-torch/infer", "/models/tiny-torch"):
            assert_problem(server.client.post(path, content=coloured()), 503, "model_refused")


def test_images_of_all_protocols_share_the_cache(caching_server: Server) -> None:
    photo = coloured("blue", (51, 37))
    first = caching_server.predict(photo).json()["predictions"][0]

    def lookups() -> dict[str, str]:
        text = caching_server.client.get("/metrics").text
        return dict(re.findall(r'^resnet_cache_lookups_total\{result="(\w+)"\} (.*)$', text, re.M))

    before = lookups()
    found = caching_server.client.post("/models/tiny-torch", content=photo).json()[0]

    assert found == {"label": "blue", "score": first["score"]}
    assert float(lookups()["hit"]) == float(before["hit"]) + 1
    assert lookups()["miss"] == before["miss"]
