"""Bodies of the Open Inference Protocol that no well-behaved client sends."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import httpx
import pytest

from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server
from tests.service.images import coloured

PATH = "/v2/models/tiny-torch/infer"
HEADER = "Inference-Header-Content-Length"
FILE = coloured("green")
TEXT = base64.b64encode(FILE).decode()
PIXELS = [[[[0, 0, 255]] * 32] * 32]
FRAME = struct.pack("<I", len(FILE)) + FILE


def image(**changed: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": [TEXT], **changed}


def pixels(**changed: Any) -> dict[str, Any]:
    fields = {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": PIXELS}
    return {**fields, **changed}


def infer(server: Server, *inputs: dict[str, Any], **fields: Any) -> httpx.Response:
    return server.client.post(PATH, json={"inputs": inputs, **fields})


def infer_binary(
    server: Server, tensor: dict[str, Any], data: bytes, header: str | None = None
) -> httpx.Response:
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {HEADER: str(len(text)) if header is None else header}
    return server.client.post(PATH, content=text + data, headers=headers)


def described(size: int, **changed: Any) -> dict[str, Any]:
    """An image whose data is binary."""
    tensor = image(parameters={"binary_data_size": size}, **changed)
    return {name: value for name, value in tensor.items() if name != "data"}


def flat(values: list[Any]) -> list[int]:
    return [each for row in values[0] for column in row for each in column]


@pytest.mark.parametrize(
    "tensor",
    [
        image(),
        image(data=[f"data:image/png;base64,{TEXT}"]),
        image(shape=[1, 1], data=[[TEXT]]),
        image(shape=[1, 1]),
        pixels(),
        pixels(data=flat(PIXELS)),
        image(parameters={"content_type": "base64"}),  # of another server
    ],
    ids=["flat", "data URL", "nested", "column", "pixels", "flat pixels", "parameter"],
)
def test_json_data_is_flat_or_nested_as_the_shape_is(
    server: Server, tensor: dict[str, Any]
) -> None:
    response = infer(server, tensor, outputs=[{"name": "scores"}], id="7")

    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("tiny-torch", "1", "7")
    (scores,) = body["outputs"]
    assert (scores["name"], scores["datatype"], scores["shape"]) == ("scores", "FP32", [1, 3])
    assert scores["data"].index(max(scores["data"])) == (0 if tensor["name"] == "pixels" else 1)


def test_without_wanted_outputs_all_are_returned(server: Server) -> None:
    outputs = infer(server, image()).json()["outputs"]

    assert [each["name"] for each in outputs] == ["logits", "scores"]


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "no inputs": ("length 1", {"inputs": []}),
    "two inputs": ("length 1", {"inputs": [image(), pixels()]}),
    "another name": ("'input_1'", {"inputs": [image(name="input_1")]}),
    "another type": ("FP32", {"inputs": [pixels(datatype="FP32")]}),
    "no shape": (
        "missing required field `shape`",
        {"inputs": [{"name": "image", "datatype": "BYTES"}]},
    ),
    "negative shape": (">= 0", {"inputs": [image(shape=[-1])]}),
    "shape of nothing": ("BYTES []", {"inputs": [image(shape=[], data=[])]}),
    "huge shape": ("1 to 64 images", {"inputs": [image(shape=[10**18])]}),
    "more than stated": ("at most 1 strings", {"inputs": [image(data=[TEXT, TEXT])]}),
    "less than stated": ("length >= 2", {"inputs": [image(shape=[2])]}),
    "number for a file": ("Expected `str`, got `int`", {"inputs": [image(data=[1])]}),
    "no base64": ("not base64", {"inputs": [image(data=["%%"])]}),
    "text for a list": ("Expected `array`", {"inputs": [image(data=TEXT)]}),
    "no data": ("has no data", {"inputs": [image(data=None) | {"data": ...}]}),
    "pixel of 256": ("<= 255", {"inputs": [pixels(data=[256] * 3072)]}),
    "pixel of -1": (">= 0", {"inputs": [pixels(data=[-1] * 3072)]}),
    "nested pixel of 999": ("<= 255", {"inputs": [pixels(data=[[[[0, 0, 999]] * 32] * 32])]}),
    "nested pixel of -1": ("nested", {"inputs": [pixels(data=[[[[0, 0, -1]] * 32] * 32])]}),
    "nested text": ("nested", {"inputs": [pixels(data=[[[["0", 0, 0]] * 32] * 32])]}),
    "nested otherwise": ("nested", {"inputs": [pixels(data=[[[[0] * 32] * 32] * 3])]}),
    "pixel of 0.5": ("Expected `int`, got `float`", {"inputs": [pixels(data=[0.5] * 3072)]}),
    "ragged": ("nested", {"inputs": [pixels(data=[PIXELS[0][:31]])]}),
    "unknown output": ("no output", {"inputs": [image()], "outputs": [{"name": "softmax"}]}),
    "many outputs": ("<= 16", {"inputs": [image()], "outputs": [{"name": "scores"}] * 17}),
    "classes below 0": (
        ">= 0",
        {
            "inputs": [image()],
            "outputs": [{"name": "scores", "parameters": {"classification": -1}}],
        },
    ),
    "shared memory": (
        "shared memory",
        {"inputs": [image(parameters={"shared_memory_region": "x"})]},
    ),
    "binary size without a header": (
        "Expected 0 bytes",
        {"inputs": [image(parameters={"binary_data_size": 9})]},
    ),
    "number for an id": ("Expected `str | null`, got `int`", {"inputs": [image()], "id": 1}),
}


@pytest.mark.parametrize(("said", "document"), BAD.values(), ids=list(BAD))
def test_a_document_that_does_not_fit_is_malformed(
    server: Server, said: str, document: dict[str, Any]
) -> None:
    for tensor in document["inputs"]:
        if tensor.get("data") is ...:
            del tensor["data"]

    response = server.client.post(PATH, json=document)

    assert_problem(response, 400, "malformed_request")
    assert said in response.json()["error"]


def test_binary_data_follows_the_document(server: Server) -> None:
    response = infer_binary(server, described(len(FRAME)), FRAME)

    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("tensor", "data", "header"),
    [
        (described(len(FRAME)), FRAME[:-1], None),
        (described(len(FRAME) - 1), FRAME[:-1], None),
        (described(len(FRAME) + 1), FRAME + b"x", None),
        (described(len(FRAME)), FRAME + b"x", None),
        (described(2 * len(FRAME)), FRAME + FRAME, None),
        (described(3), b"\0\0\0", None),
        (described(8), b"\xff\xff\xff\xff1234", None),
        (described(0), b"", None),
        (image(), FRAME, None),
        (described(len(FRAME)), FRAME, "0"),
        (described(len(FRAME)), FRAME, "-1"),
        (described(len(FRAME)), FRAME, "99999999"),
        (described(len(FRAME)), FRAME, "9" * 5000),
        (described(len(FRAME)), FRAME, "ten"),
        (described(len(FRAME)), FRAME, "20"),
        (
            {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
            | {"parameters": {"binary_data_size": 5}},
            b"12345",
            None,
        ),
    ],
    ids=[
        *("cut", "cut as stated", "longer as stated", "longer", "two for one", "half a length"),
        *("length beyond the end", "empty", "both ways", "header 0", "header -1"),
        *("header beyond the end", "long header", "header text", "header within", "few pixels"),
    ],
)
def test_binary_data_that_does_not_fit_is_malformed(
    server: Server, tensor: dict[str, Any], data: bytes, header: str | None
) -> None:
    assert_problem(infer_binary(server, tensor, data, header), 400, "malformed_request")


def test_the_document_and_the_body_have_limits(server: Server) -> None:
    large = b" " * 27_000_000

    assert_problem(server.client.post(PATH, content=large), 413, "request_too_large")
    assert_problem(infer_binary(server, image(), bytes(128_000_000)), 413, "request_too_large")
