"""The Open Inference Protocol over gRPC, by Triton's own clients."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.bundles import colour_picture
from tests.service.images import COLOURS, coloured, encode, varied
from tests.service.rpc.conftest import GrpcServing

LABELS = list(COLOURS)
SERVICE = "/inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def client(grpc_server: GrpcServing) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(grpc_server.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def over_http(grpc_server: GrpcServing) -> Iterator[triton_http.InferenceServerClient]:
    address = grpc_server.url.removeprefix("http://")
    with triton_http.InferenceServerClient(address, network_timeout=60) as opened:
        yield opened


@pytest.fixture
def stub(grpc_server: GrpcServing) -> Iterator[Any]:
    with grpc.insecure_channel(grpc_server.address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor(kind: Any, name: str, values: npt.NDArray[Any]) -> Any:
    """An input of the client of this kind."""
    made = kind.InferInput(name, list(values.shape), "BYTES" if name == "image" else "UINT8")
    made.set_data_from_numpy(values)
    return made


def files(*images: bytes) -> npt.NDArray[Any]:
    return np.array(images, dtype=object)


def test_the_server_and_its_models_are_live_and_ready(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny-torch")
    assert client.is_model_ready("tiny-torch", "1")
    with pytest.raises(InferenceServerException) as caught:
        client.is_model_ready("nobody")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_descriptions_are_those_of_http(
    client: triton.InferenceServerClient,
    over_http: triton_http.InferenceServerClient,
) -> None:
    model = "tiny-torch"

    def plain(found: Any) -> Any:
        """int64 is text in the JSON of protobuf."""
        if isinstance(found, dict):
            return {name: plain(value) for name, value in found.items()}
        if isinstance(found, list):
            return [plain(each) for each in found]
        return int(found) if isinstance(found, str) and found.lstrip("-").isdigit() else found

    # Counts of 0 are left out of the JSON of a message.
    client.infer(model, [tensor(triton, "image", files(coloured()))])

    assert client.get_server_metadata(as_json=True) == over_http.get_server_metadata()
    by_grpc = client.get_model_metadata(model, as_json=True)
    assert plain(by_grpc) == plain(over_http.get_model_metadata(model))
    config = client.get_model_config(model, "1", as_json=True)["config"]
    wanted = plain(over_http.get_model_config(model))
    # The default of the message, which its JSON leaves out.
    assert wanted["input"][0].pop("format") == "FORMAT_NONE"
    assert plain(config) == wanted
    statistics = client.get_inference_statistics(model, as_json=True)
    assert plain(statistics) == plain(over_http.get_inference_statistics(model))
    assert client.get_inference_statistics(as_json=True) == statistics


def test_images_and_pixels_get_the_outputs_of_http(
    client: triton.InferenceServerClient,
    over_http: triton_http.InferenceServerClient,
) -> None:
    model = "tiny-torch"
    images = files(encode(varied(seed=1), "JPEG"), coloured("green", (2000, 1500)))
    pixels = np.stack([colour_picture(label, (32, 32)) for label in LABELS])

    for name, values in (("image", images), ("image", images[:, None]), ("pixels", pixels)):
        result = client.infer(model, [tensor(triton, name, values)])
        wanted = over_http.infer(model, [tensor(triton_http, name, values)])
        for output in ("logits", "scores"):
            given = result.as_numpy(output)
            assert given.dtype == np.float32
            assert given.shape == (len(values), 3)
            assert np.abs(given - wanted.as_numpy(output)).max() < 1e-5


def test_the_contents_of_an_input_are_data_too(stub: Any) -> None:
    images = [coloured(label) for label in LABELS]
    pixels = np.stack([colour_picture(label, (32, 32)) for label in LABELS])
    kind = service_pb2.ModelInferRequest.InferInputTensor

    for made in (
        kind(name="image", datatype="BYTES", shape=[3], contents={"bytes_contents": images}),
        kind(
            name="pixels",
            datatype="UINT8",
            shape=pixels.shape,
            contents={"uint_contents": pixels.ravel().tolist()},
        ),
    ):
        request = service_pb2.ModelInferRequest(model_name="tiny-torch", inputs=[made])
        answer = stub.ModelInfer(request, timeout=60)

        assert [each.name for each in answer.outputs] == ["logits", "scores"]
        scores = np.frombuffer(answer.raw_output_contents[1], "<f4").reshape(3, 3)
        assert scores.argmax(axis=1).tolist() == [0, 1, 2]


def test_classification_returns_score_index_and_label(client: triton.InferenceServerClient) -> None:
    result = client.infer(
        "tiny-torch",
        [tensor(triton, "image", files(coloured("red"), coloured("blue")))],
        outputs=[
            triton.InferRequestedOutput("scores", class_count=2),
            triton.InferRequestedOutput("logits", class_count=9),
        ],
    )

    scores, logits = result.as_numpy("scores"), result.as_numpy("logits")
    assert scores.shape == (2, 2)
    assert logits.shape == (2, 3)  # there are no nine classes
    assert [each.decode().split(":")[1:] for each in scores[:, 0]] == [["2", "red"], ["0", "blue"]]


def test_the_response_names_model_version_id_and_request_id(
    client: triton.InferenceServerClient, stub: Any, grpc_server: GrpcServing
) -> None:
    given = tensor(triton, "image", files(coloured()))
    body = client.infer("tiny-torch", [given], model_version="1", request_id="order 66")
    named = body.get_response()
    assert (named.model_name, named.model_version, named.id) == ("tiny-torch", "1", "order 66")

    metadata = [("x-request-id", "call-66")]
    _, call = stub.ServerMetadata.with_call(service_pb2.ServerMetadataRequest(), metadata=metadata)
    assert dict(call.trailing_metadata())["x-request-id"] == "call-66"
    grpc_server.wait_logged(f"GRPC {SERVICE}/ServerMetadata 200")
    assert "call-66" in grpc_server.log()


def test_an_empty_name_is_the_default_model(stub: Any) -> None:
    answer = stub.ModelMetadata(service_pb2.ModelMetadataRequest())

    assert answer.name == "tiny-torch"


def test_many_calls_at_once_are_answered_each_with_its_own_result(grpc_server: GrpcServing) -> None:
    wanted = [LABELS[number % 3] for number in range(48)]

    async def ask() -> list[Any]:
        async with triton_aio.InferenceServerClient(grpc_server.address) as client:
            assert await client.is_server_ready()
            return await asyncio.gather(
                *(
                    client.infer("tiny-torch", [tensor(triton_aio, "image", files(coloured(each)))])
                    for each in wanted
                )
            )

    results = asyncio.run(ask())

    assert [LABELS[each.as_numpy("scores").argmax()] for each in results] == wanted


def test_calls_are_counted_with_those_of_http(
    grpc_server: GrpcServing, client: triton.InferenceServerClient
) -> None:
    client.infer("tiny-torch", [tensor(triton, "image", files(coloured()))])
    with pytest.raises(InferenceServerException):
        client.infer("nobody", [tensor(triton, "image", files(coloured()))])

    text = grpc_server.client.get("/metrics").text
    for status in ("200", "404"):
        labels = f'method="GRPC",route="{SERVICE}/ModelInfer",status="{status}"'
        assert f"http_requests_total{{{labels}}}" in text


def test_a_base64_file_is_no_image_here(client: triton.InferenceServerClient) -> None:
    encoded = base64.b64encode(coloured())

    with pytest.raises(InferenceServerException, match="Received") as caught:
        client.infer("tiny-torch", [tensor(triton, "image", files(encoded))])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
