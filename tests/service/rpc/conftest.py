"""A service that listens for gRPC too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Server, free_port


class GrpcServing(Server):
    """A running service with gRPC on a port of its own."""

    def __init__(self, **settings: Any) -> None:
        grpc_port = free_port()
        self.address = f"127.0.0.1:{grpc_port}"
        super().__init__(grpc_port=grpc_port, **settings)


@contextmanager
def serving_grpc(*, ready: bool = True, **settings: Any) -> Iterator[GrpcServing]:
    """A service with gRPC and these settings, stopped at the end."""
    server = GrpcServing(**settings)
    try:
        if ready:
            server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
        server.close()


@pytest.fixture(scope="session")
def grpc_server(both_root: Path) -> Iterator[GrpcServing]:
    """A service with both tiny models, for tests that do not change it."""
    with serving_grpc(models_dir=both_root) as running:
        yield running
