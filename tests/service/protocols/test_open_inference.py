"""The Open Inference Protocol over HTTP, by Triton's own client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from tests.bundles import colour_picture
from tests.service.conftest import Server
from tests.service.images import COLOURS, coloured, encode, varied

LABELS = list(COLOURS)  # blue, green, red: in the order of the tiny models too
MODELS = pytest.mark.parametrize("model", ["tiny-torch", "tiny-keras"])
WAYS = pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])


@pytest.fixture(scope="module")
def triton(server: Server) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(server.url.removeprefix("http://"), network_timeout=60)
    yield client
    client.close()


def pixel_input(pixels: npt.NDArray[np.uint8], binary: bool = True) -> InferInput:
    tensor = InferInput("pixels", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    return tensor


def image_input(files: list[bytes], binary: bool = True, rank: int = 1) -> InferInput:
    elements: list[Any] = files if binary else [base64.b64encode(file).decode() for file in files]
    tensor = InferInput("image", [len(files), 1][:rank], "BYTES")
    tensor.set_data_from_numpy(
        np.array(elements, dtype=object).reshape([len(files), 1][:rank]), binary_data=binary
    )
    return tensor


def output(name: str, binary: bool = True, classes: int = 0) -> InferRequestedOutput:
    return InferRequestedOutput(name, binary_data=binary, class_count=classes)


def expected(server: Server, file: bytes, model: str) -> npt.NDArray[np.float64]:
    """The scores of POST /predict, by class."""
    best = server.predict(file, model=model, top_k=3).json()["predictions"]
    return np.array([each["score"] for each in sorted(best, key=lambda each: each["index"])])


def test_the_server_and_its_models_are_live_and_ready(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("tiny-torch")
    assert triton.is_model_ready("tiny-torch", "1")
    assert not triton.is_model_ready("tiny-torch", "2")
    assert not triton.is_model_ready("nobody")


def test_metadata_names_inputs_and_outputs(triton: InferenceServerClient) -> None:
    server, model = triton.get_server_metadata(), triton.get_model_metadata("tiny-keras", "1")

    assert server["name"] == "resnet-service"
    assert "binary_tensor_data" in server["extensions"]
    assert model == {
        "name": "tiny-keras",
        "versions": ["1"],
        "platform": "tensorflow_savedmodel",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, 32, 32, 3]},
        ],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }


def test_the_configuration_agrees_with_the_metadata(triton: InferenceServerClient) -> None:
    config = triton.get_model_config("tiny-torch")
    metadata = triton.get_model_metadata("tiny-torch")

    assert config["max_batch_size"] == 64
    for kind in ("input", "output"):
        assert [(each["name"], each["dims"]) for each in config[kind]] == [
            (each["name"], each["shape"][1:]) for each in metadata[f"{kind}s"]
        ]


@MODELS
@WAYS
def test_image_files_get_the_scores_of_predict(
    server: Server, triton: InferenceServerClient, model: str, binary: bool
) -> None:
    files = [encode(varied(seed=1), "JPEG"), coloured("green"), coloured("blue", (2000, 1500))]

    result = triton.infer(
        model,
        [image_input(files, binary)],
        outputs=[output("scores", binary), output("logits", binary)],
    )

    scores, logits = result.as_numpy("scores"), result.as_numpy("logits")
    assert scores.shape == logits.shape == (3, 3)
    assert np.abs(scores.sum(axis=1) - 1).max() < 1e-6
    for file, row in zip(files, scores, strict=True):
        assert np.abs(row - expected(server, file, model)).max() < 1e-3
    softmax = np.exp(logits / 1.5) / np.exp(logits / 1.5).sum(axis=1, keepdims=True)
    assert np.abs(softmax - scores).max() < 1e-5


@MODELS
@WAYS
def test_pixels_get_the_scores_of_the_same_picture_as_a_file(
    server: Server, triton: InferenceServerClient, model: str, binary: bool
) -> None:
    pictures = np.stack([colour_picture(label, (32, 32)) for label in LABELS])

    by_pixels = triton.infer(model, [pixel_input(pictures, binary)]).as_numpy("scores")

    assert by_pixels.argmax(axis=1).tolist() == [0, 1, 2]
    for picture, row in zip(pictures, by_pixels, strict=True):
        file = encode(Image.fromarray(picture))
        assert np.abs(row - expected(server, file, model)).max() < 1e-4


@WAYS
def test_a_column_of_images_is_accepted_as_a_row_is(
    triton: InferenceServerClient, binary: bool
) -> None:
    files = [coloured(label) for label in LABELS]

    result = triton.infer("tiny-torch", [image_input(files, binary, rank=2)])

    assert result.as_numpy("scores").argmax(axis=1).tolist() == [0, 1, 2]


@WAYS
def test_classification_returns_score_index_and_label(
    triton: InferenceServerClient, binary: bool
) -> None:
    files = [coloured("red"), coloured("blue")]

    result = triton.infer(
        "tiny-torch",
        [image_input(files)],
        outputs=[output("scores", binary, classes=2), output("logits", classes=9)],
    )

    scores, logits = result.as_numpy("scores"), result.as_numpy("logits")
    assert scores.shape == (2, 2)
    assert logits.shape == (2, 3)  # there are no nine classes
    best = [(each.decode() if binary else each).split(":") for each in scores[:, 0]]
    assert [each[1:] for each in best] == [["2", "red"], ["0", "blue"]]
    assert 0.5 < float(best[0][0]) <= 1


def test_the_response_names_model_version_and_the_id_of_the_request(
    triton: InferenceServerClient,
) -> None:
    response: InferResult = triton.infer(
        "tiny-keras", [image_input([coloured()])], model_version="1", request_id="order 66"
    )

    body = response.get_response()
    assert (body["model_name"], body["model_version"], body["id"]) == (
        "tiny-keras",
        "1",
        "order 66",
    )


def test_statistics_count_what_was_done(triton: InferenceServerClient) -> None:
    def counts() -> tuple[int, int]:
        (stats,) = triton.get_inference_statistics("tiny-torch", "1")["model_stats"]
        return stats["inference_count"], stats["inference_stats"]["success"]["count"]

    images, requests = counts()
    triton.infer("tiny-torch", [image_input([coloured(), coloured("blue")])])

    assert counts() == (images + 2, requests + 1)
    names = {each["name"] for each in triton.get_inference_statistics()["model_stats"]}
    assert names == {"tiny-torch", "tiny-keras"}


def test_requests_are_counted_by_route(server: Server, triton: InferenceServerClient) -> None:
    triton.infer("tiny-torch", [image_input([coloured()])], model_version="1")

    route = "/v2/models/{name}/versions/{version}/infer"
    labels = f'method="POST",route="{route}",status="200"'
    assert f"http_requests_total{{{labels}}}" in server.client.get("/metrics").text


def test_asynchronous_requests_are_answered_each_with_its_own_result(server: Server) -> None:
    with InferenceServerClient(server.url.removeprefix("http://"), concurrency=8) as client:
        wanted = [LABELS[number % 3] for number in range(48)]
        waiting = [
            client.async_infer("tiny-torch", [image_input([coloured(label)])]) for label in wanted
        ]
        found = [each.get_result().as_numpy("scores")[0].argmax() for each in waiting]

    assert [LABELS[index] for index in found] == wanted


@pytest.mark.parametrize(
    ("model", "version", "tensor", "status", "said"),
    [
        ("nobody", "", image_input([coloured()]), "404", "no model of this name"),
        ("tiny-torch", "7", image_input([coloured()]), "404", "Expected one of: 1"),
        ("tiny-torch", "new", image_input([coloured()]), "422", "whole number"),
        ("tiny-torch", "", image_input([b"text"]), "415", "Received"),
        ("tiny-torch", "", image_input([coloured()[:-40]]), "422", "image"),
        ("tiny-torch", "", image_input([coloured(), b""]), "415", "Image 2 of 2"),
        ("tiny-torch", "", image_input([coloured()] * 65), "400", "1 to 64 images"),
        ("tiny-torch", "", pixel_input(np.zeros((1, 3, 3, 3), np.uint8)), "400", "[N, 32, 32, 3]"),
        ("tiny-torch", "", pixel_input(np.zeros((0, 32, 32, 3), np.uint8)), "400", "1 to 64"),
    ],
    ids=[
        *("model", "version", "version text", "no image", "cut image", "one of two", "too many"),
        *("another size", "none"),
    ],
)
def test_an_error_has_its_status_and_says_why(
    triton: InferenceServerClient,
    model: str,
    version: str,
    tensor: InferInput,
    status: str,
    said: str,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        triton.infer(model, [tensor], model_version=version)

    assert caught.value.status() == status
    assert said in caught.value.message()


def test_compressed_requests_are_refused_and_compressed_responses_not_sent(
    triton: InferenceServerClient,
) -> None:
    inputs = [image_input([coloured("red")])]

    with pytest.raises(InferenceServerException, match="compressed"):
        triton.infer("tiny-torch", inputs, request_compression_algorithm="gzip")
    result = triton.infer("tiny-torch", inputs, response_compression_algorithm="gzip")

    assert result.as_numpy("scores").argmax() == 2
