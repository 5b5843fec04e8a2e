"""A service that listens for gRPC too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from tests.service.conftest import Server, free_port, stopped_at_the_end

KEY = "a-key-of-24-characters--"


class GrpcServing(Server):
    """A running service with gRPC on a port of its own."""

    def __init__(self, **settings: Any) -> None:
        grpc_port = free_port()
        self.address = f"127.0.0.1:{grpc_port}"
        super().__init__(grpc_port=grpc_port, **settings)


def infer_request(*images: bytes, model: str = "tiny-torch") -> Any:
    """The request to classify these files."""
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)]}
    return service_pb2.ModelInferRequest(
        model_name=model, inputs=[{**tensor, "contents": {"bytes_contents": images}}]
    )


@contextmanager
def serving_grpc(*, ready: bool = True, **settings: Any) -> Iterator[GrpcServing]:
    """A service with gRPC and these settings, stopped at the end."""
    with stopped_at_the_end(GrpcServing(**settings), ready=ready) as server:
        yield server


@pytest.fixture(scope="session")
def grpc_server(quick_root: Path) -> Iterator[GrpcServing]:
    """A service with `tiny-torch`, a key and low limits, for tests that leave it as it is."""
    limits: dict[str, Any] = {"max_request_bytes": 1_000_000, "request_timeout_s": 10}
    with serving_grpc(models_dir=quick_root, admin_key=KEY, **limits) as running:
        yield running
