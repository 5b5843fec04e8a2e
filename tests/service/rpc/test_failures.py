"""What fails over gRPC: with which status and code, and what it leaves behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from service.api.problems import PROBLEMS
from service.rpc import statuses
from tests.service.conftest import environment, free_port, refused_start
from tests.service.images import coloured
from tests.service.rpc.conftest import KEY, GrpcServing, infer_request

RED = coloured("red")
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def stub(grpc_server: GrpcServing) -> Iterator[Any]:
    with grpc.insecure_channel(grpc_server.address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def failed(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[str, str, str]:
    """Status, code and text of a call that fails."""
    options.setdefault("timeout", 60)
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    error: Any = caught.value
    trailers = dict(error.trailing_metadata() or ())
    assert trailers.get("x-request-id") or "problem-code" not in trailers
    return error.code().name, trailers.get("problem-code", ""), error.details()


def infer_input(**fields: Any) -> Any:
    kind = service_pb2.ModelInferRequest.InferInputTensor
    return kind(**{"name": "image", "datatype": "BYTES", "shape": [1], **fields})


PIXELS = {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
DATA = {"bytes_contents": [RED]}


def wrong_input(**fields: Any) -> dict[str, Any]:
    return {"inputs": [infer_input(**fields)]}


def wrong_output(name: str, **parameters: Any) -> dict[str, Any]:
    return {"outputs": [{"name": name, "parameters": parameters}]}


# What replaces fields of a valid request, and what the text has.
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "length 1": ("malformed_request", {"inputs": []}),
    "of length 1": ("malformed_request", {"inputs": [infer_input(), infer_input()]}),
    "0 elements": ("malformed_request", wrong_input()),
    "2 elements and contents": ("malformed_request", {"raw_input_contents": [b""] * 2}),
    "1 elements and contents": ("malformed_request", {"raw_input_contents": [b"abc"]}),
    "2 elements of bytes_contents": (
        "malformed_request",
        wrong_input(shape=[2], contents=DATA),
    ),
    ">= 0": ("malformed_request", wrong_input(shape=[-1], contents=DATA)),
    "<= 8": ("malformed_request", wrong_input(shape=[1] * 9, contents=DATA)),
    "[N, 32, 32, 3]": ("malformed_request", wrong_input(name="picture", contents=DATA)),
    "1 to 64 images": ("malformed_request", wrong_input(shape=[65], contents=DATA)),
    "0 to 255": (
        "malformed_request",
        wrong_input(**PIXELS, contents={"uint_contents": [256] * 3072}),
    ),
    "3072 elements of uint_contents": (
        "malformed_request",
        wrong_input(**PIXELS, contents={"int_contents": [1] * 3072}),
    ),
    "shared memory": (
        "malformed_request",
        wrong_input(parameters={"shared_memory_region": {"string_param": "mine"}}),
    ),
    "'heat'": ("malformed_request", wrong_output("heat")),
    "<= 16": ("malformed_request", {"outputs": [{"name": "logits"}] * 17}),
    "`int`": ("malformed_request", wrong_output("logits", classification={"string_param": "two"})),
    "JPEG": ("unsupported_image_type", wrong_input(contents={"bytes_contents": [b"text"]})),
    "image": ("unreadable_image", wrong_input(contents={"bytes_contents": [RED[:-40]]})),
    "whole number": ("invalid_parameter", {"model_version": "new"}),
    "Expected one of: tiny-torch": ("unknown_model", {"model_name": "nobody"}),
    "Expected one of: 1": ("unknown_version", {"model_version": "7"}),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_request_that_is_wrong_has_its_status_and_code(stub: Any, said: str) -> None:
    code, fields = WRONG[said]
    valid = {"model_name": "tiny-torch", "inputs": [infer_input(contents=DATA)]}

    found = failed(stub.ModelInfer, service_pb2.ModelInferRequest(**valid | fields))

    unknown = code.startswith("unknown_")
    assert found[:2] == ("NOT_FOUND" if unknown else "INVALID_ARGUMENT", code)
    assert said in found[2]


def test_bytes_that_are_no_message_are_refused(grpc_server: GrpcServing) -> None:
    with grpc.insecure_channel(grpc_server.address) as channel:
        found = failed(channel.unary_unary(INFER), b"\xff\xff\xff")

    assert found[:2] == ("INVALID_ARGUMENT", "malformed_request")


def test_a_message_that_is_too_large_is_not_read(grpc_server: GrpcServing, stub: Any) -> None:
    status, _, text = failed(stub.ModelInfer, infer_request(bytes(1_100_000)))

    assert status == "RESOURCE_EXHAUSTED"
    assert "larger than max" in text
    assert stub.ModelInfer(infer_request(RED)).model_name == "tiny-torch"
    labels = f'method="GRPC",route="{INFER}",status="413"'
    assert f"http_requests_total{{{labels}}}" in grpc_server.client.get("/metrics").text


def test_a_message_that_does_not_arrive_is_not_awaited(grpc_server: GrpcServing) -> None:
    def never() -> Iterator[bytes]:
        # Longer than the service waits; the call ends before.
        ended.wait(60)
        yield b""

    ended = threading.Event()
    with grpc.insecure_channel(grpc_server.address) as channel:
        found = failed(channel.stream_unary(INFER), never())
        ended.set()

    assert found[:2] == ("DEADLINE_EXCEEDED", "request_timeout")


def test_every_problem_has_a_status_of_its_kind() -> None:
    names = {error.code: statuses.status(error("")).name for error in PROBLEMS}

    assert names["queue_full"] == names["deadline_unreachable"] == "RESOURCE_EXHAUSTED"
    assert names["draining"] == names["model_refused"] == "UNAVAILABLE"
    assert names["unknown_model"] == "NOT_FOUND"
    assert names["unauthorized"] == "UNAUTHENTICATED"
    assert names["deadline_exceeded"] == "DEADLINE_EXCEEDED"
    assert names["internal_error"] == names["runtime_unavailable"] == "INTERNAL"
    assert names["unreadable_image"] == names["image_too_large"] == "INVALID_ARGUMENT"
    assert "OK" not in names.values()


def test_the_repository_needs_the_key(stub: Any) -> None:
    index, load = service_pb2.RepositoryIndexRequest, service_pb2.RepositoryModelLoadRequest
    metadata = [("authorization", f"Bearer {KEY}")]

    wrong = [("authorization", "Bearer wrong")]
    for key, code in (([], "unauthorized"), (wrong, "unknown_key")):
        found = failed(stub.RepositoryIndex, index(), metadata=key)
        assert found[:2] == ("UNAUTHENTICATED", code)
    (entry,) = stub.RepositoryIndex(index(), metadata=metadata).models
    assert (entry.name, entry.version, entry.state) == ("tiny-torch", "1", "READY")
    found = failed(stub.RepositoryModelLoad, load(model_name="nobody"), metadata=metadata)
    assert found[:2] == ("NOT_FOUND", "unknown_model")
    found = failed(stub.RepositoryModelLoad, load(model_name="../x"), metadata=metadata)
    assert found[:2] == ("INVALID_ARGUMENT", "invalid_parameter")

    stub.RepositoryModelUnload(
        service_pb2.RepositoryModelUnloadRequest(model_name="tiny-torch"), metadata=metadata
    )
    (entry,) = stub.RepositoryIndex(index(), metadata=metadata).models
    assert (entry.name, entry.state, entry.reason) == ("tiny-torch", "UNAVAILABLE", "unloaded")
    assert not stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    stub.RepositoryModelLoad(load(model_name="tiny-torch"), metadata=metadata)
    assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready


def test_the_libraries_and_the_port_are_checked_at_the_start(quick_root: Path) -> None:
    program = "import sys; sys.modules['grpc'] = None; from service.server import main; main()"
    port = free_port()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(models_dir=quick_root, grpc_port=port),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("The service can't start: SERVICE_GRPC_PORT: gRPC needs libraries")
    assert "[service,grpc]" in line

    same = refused_start(models_dir=quick_root, port=port, grpc_port=port)
    assert "SERVICE_GRPC_PORT" in same
    ports = {"port": free_port(), "admin_port": port, "grpc_port": port}
    same = refused_start(models_dir=quick_root, **ports)
    assert "SERVICE_GRPC_PORT: gRPC can't have a port of HTTP" in same
    with socket.create_server(("127.0.0.1", port)):
        taken = refused_start(models_dir=quick_root, port=free_port(), grpc_port=port)
    assert "SERVICE_HOST, SERVICE_GRPC_PORT" in taken
