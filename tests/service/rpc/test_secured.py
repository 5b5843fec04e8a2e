"""gRPC with TLS and with traces, by Triton's own client."""

from __future__ import annotations

import ssl
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tritonclient.utils import InferenceServerException

from tests.service.images import COLOURS, coloured
from tests.service.monitoring.collector import attributes, collecting
from tests.service.network.pairs import AUTHORITY, normalised, pair, trust
from tests.service.rpc.conftest import GrpcServing, serving_grpc

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INFER = "inference.GRPCInferenceService/ModelInfer"


def best(client: triton.InferenceServerClient, **headers: str) -> str:
    """The best label of a red image."""
    tensor = triton.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([coloured()], dtype=object))
    wanted = triton.InferRequestedOutput("scores", class_count=1)
    found = client.infer("tiny-torch", [tensor], outputs=[wanted], headers=headers)
    label: str = found.as_numpy("scores")[0, 0].decode().split(":")[2]
    return label


def served(server: GrpcServing) -> str:
    """The certificate that a new connection of gRPC gets, as PEM."""
    host, _, port = server.address.partition(":")
    return normalised(ssl.get_server_certificate((host, int(port))))


def test_the_certificate_of_https_is_that_of_grpc_and_is_read_again(
    quick_root: Path, tmp_path: Path
) -> None:
    files, authority = pair(tmp_path), tmp_path / "ca.crt"
    first = files.write()
    AUTHORITY.cert_pem.write_to_path(authority)
    with serving_grpc(
        models_dir=quick_root, trusted=trust(), watch_s=0.05, **files.settings
    ) as server:
        secured = {"ssl": True, "root_certificates": str(authority)}
        with triton.InferenceServerClient(server.address, **secured) as client:
            assert best(client) in COLOURS
            assert served(server) == first

            renewed = files.write(days=60)
            server.wait(lambda: served(server) == renewed, "served", 60)
            assert best(client) in COLOURS

        with (
            triton.InferenceServerClient(server.address) as plain,
            pytest.raises(InferenceServerException, match="UNAVAILABLE"),
        ):
            best(plain)
        assert "with TLS" in server.log()


def test_a_call_is_part_of_the_trace_of_its_client(quick_root: Path) -> None:
    with (
        collecting() as collector,
        serving_grpc(prefix=collector.prefix, models_dir=quick_root) as server,
        triton.InferenceServerClient(server.address) as client,
    ):
        best(client, traceparent=f"00-{TRACE}-{PARENT}-01")
        server.wait(lambda: bool(collector.named(INFER)), "traced", 60)
        (span,) = collector.named(INFER)
        server.wait(lambda: "infer" in collector.children(span), "complete", 60)

        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert span.kind == Span.SPAN_KIND_SERVER
        found = attributes(span)
        assert found.pop("resnet.request_id") in server.log()
        assert found == {
            "rpc.system": "grpc",
            "rpc.service": "inference.GRPCInferenceService",
            "rpc.method": "ModelInfer",
            "resnet.model": "tiny-torch",
            "resnet.version": 1,
        }
        assert client.is_server_live()
        assert best(client) in COLOURS
        server.wait(lambda: len(collector.named(INFER)) == 2, "traced", 60)
        assert not collector.named(INFER.replace("ModelInfer", "ServerLive"))
