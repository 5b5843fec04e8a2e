"""Hugging Face's own client, and SageMaker's paths, which answer the same."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server
from tests.service.images import COLOURS, coloured

PATHS = pytest.mark.parametrize("path", ["", "/", "/models/tiny-torch", "/invocations"])


@PATHS
@pytest.mark.parametrize("label", COLOURS)
def test_the_client_classifies_bytes(server: Server, path: str, label: str) -> None:
    found = InferenceClient(model=server.url + path).image_classification(coloured(label))

    best = server.predict(coloured(label)).json()["predictions"]
    assert [each.label for each in found] == [each["label"] for each in best]
    assert [each.score for each in found] == pytest.approx([each["score"] for each in best])


def test_the_client_classifies_files_and_pictures_of_pillow(server: Server, tmp_path: Path) -> None:
    client = InferenceClient(model=f"{server.url}/models/tiny-keras/versions/1")
    file = tmp_path / "photo.jpg"
    file.write_bytes(coloured("green", kind="JPEG"))

    assert client.image_classification(file)[0].label == "green"
    assert client.image_classification(str(file))[0].label == "green"


def test_the_client_chooses_how_many_classes_and_which_function(server: Server) -> None:
    client = InferenceClient(model=server.url)
    photo = coloured("red")

    def scores(**options: Any) -> dict[str, float]:
        found = client.image_classification(photo, **options)
        return {each.label: each.score for each in found}

    assert list(scores(top_k=1)) == ["red"]
    assert scores(function_to_apply="softmax") == pytest.approx(scores(), abs=1e-6)
    logits = scores(function_to_apply="none")
    assert scores(function_to_apply="sigmoid") == pytest.approx(
        {label: 1 / (1 + np.exp(-logit)) for label, logit in logits.items()}, abs=1e-6
    )


@pytest.mark.parametrize(
    ("path", "photo", "status", "said"),
    [
        ("/models/nobody", coloured(), 404, "no model of this name"),
        ("/models/tiny-torch/versions/9", coloured(), 404, "Expected one of: 1"),
        ("", b"text", 415, "Received"),
        ("", coloured()[:-40], 422, "image"),
    ],
    ids=["model", "version", "no image", "cut image"],
)
def test_the_client_is_told_what_is_wrong(
    server: Server, path: str, photo: bytes, status: int, said: str
) -> None:
    with pytest.raises(HfHubHTTPError, match=said) as caught:
        InferenceClient(model=server.url + path).image_classification(photo)

    assert caught.value.response.status_code == status


@PATHS
@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "missing required field `inputs`"),
        ({"inputs": "%%"}, "'inputs' is not base64"),
        ({"inputs": "", "parameters": {}}, "'inputs' is empty"),
        ({"image": "aaaa"}, "unknown field `image`"),
        ({"inputs": "aaaa", "parameters": {"top_k": 0}}, ">= 1"),
        ({"inputs": "aaaa", "parameters": {"topk": 1}}, "unknown field `topk`"),
        ({"inputs": "aaaa", "parameters": {"function_to_apply": "relu"}}, "relu"),
    ],
    ids=["nothing", "no base64", "empty", "image", "top_k", "parameter", "function"],
)
def test_other_json_is_malformed(
    server: Server, path: str, document: dict[str, Any], said: str
) -> None:
    response = server.client.post(path or "/", json=document)

    assert_problem(response, 400, "malformed_request")
    assert said in response.json()["detail"]


def test_sagemaker_pings_and_invokes_with_its_own_content_type(server: Server) -> None:
    text = base64.b64encode(coloured("blue")).decode()

    assert server.client.get("/ping").json() == {"status": "Healthy"}
    for options in (
        {"content": coloured("blue"), "headers": {"content-type": "application/x-image"}},
        {"json": {"inputs": text}},
    ):
        best = server.client.post("/invocations", **options).json()[0]
        assert best["label"] == "blue"
