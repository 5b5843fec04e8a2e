"""Deadlines, clients that leave, and the end of the service."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import free_port
from tests.service.images import coloured
from tests.service.models.disturb import paused
from tests.service.rpc.conftest import infer_request, serving_grpc
from tests.service.tasks import until

INFER = "/inference.GRPCInferenceService/ModelInfer"
RED = infer_request(coloured("red"))


async def refused(call: Any) -> tuple[str, dict[str, str]]:
    """Status and trailers of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, dict(caught.value.trailing_metadata())


@pytest.mark.anyio
async def test_a_call_that_cannot_meet_its_deadline_is_refused_at_the_door(
    quick_root: Path,
) -> None:
    port = free_port()
    limits: dict[str, Any] = {"queue_size": 4, "inference_timeout_s": 3600}
    app = create_app(Settings(models_dir=quick_root, grpc_port=port, **limits))
    async with (
        app.router.lifespan_context(app),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        (model,) = app.state.registry.all()
        await until(lambda: model.state == "ready")
        model.queue.pace.record(1, 400.0)

        with model.queue.admit(2):
            late = await refused(stub.ModelInfer(RED, timeout=600))
        with model.queue.admit(4):
            full = await refused(stub.ModelInfer(RED))

        assert late[0] == full[0] == "RESOURCE_EXHAUSTED"
        assert late[1]["problem-code"] == "deadline_unreachable"
        assert full[1]["problem-code"] == "queue_full"
        assert late[1]["retry-after"] == "60"
        assert late[1]["grpc-retry-pushback-ms"] == "60000"
        answer = await stub.ModelInfer(RED, timeout=600)
        assert answer.model_name == "tiny-torch"
        assert not model.queue.is_used
        # There is no key.
        index = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest())
        assert (await refused(index))[0] == "UNIMPLEMENTED"


def test_calls_that_are_late_or_cancelled_free_their_places_and_cost_no_forward_pass(
    quick_root: Path,
) -> None:
    with (
        serving_grpc(models_dir=quick_root) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with paused(server):
            # One batch is taken, one is prefetched; what comes then waits.
            held = []
            for number in (1, 2):
                held.append(stub.ModelInfer.future(RED))
                server.wait_in_flight(number)
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(RED, timeout=0.5)
            error: Any = caught.value
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            server.wait_queued(1)
            left = stub.ModelInfer.future(RED)
            left.cancel()
            server.wait(lambda: counted(server.client.get("/metrics").text, "499"), "counted")
            server.wait_queued(1)
        assert [each.result(60).model_name for each in held] == ["tiny-torch"] * 2
        assert stub.ModelInfer(RED, timeout=60).model_name == "tiny-torch"

        assert server.metric("resnet_batch_images_sum") == 3
        assert counted(server.client.get("/metrics").text, "504")


def counted(metrics: str, status: str) -> bool:
    return f'http_requests_total{{method="GRPC",route="{INFER}",status="{status}"}}' in metrics


def test_no_accepted_call_is_lost_at_the_end(quick_root: Path) -> None:
    with (
        serving_grpc(models_dir=quick_root, drain_delay_s=1) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def draining() -> bool:
            return not stub.ServerReady(service_pb2.ServerReadyRequest()).ready

        with paused(server):
            held = [stub.ModelInfer.future(RED) for _ in range(3)]
            server.wait(lambda: server.metric("resnet_batch_images_sum") > 0, "in flight")
            server.process.send_signal(signal.SIGTERM)
            # The delay: it serves, and says that it will not for long.
            server.wait(draining, "draining")
            server.wait_closed()
        assert [each.result(60).model_name for each in held] == ["tiny-torch"] * 3
        assert server.process.wait(60) == 0
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(RED, timeout=60)
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.UNAVAILABLE


def test_calls_that_take_longer_than_the_service_waits_are_told_so(quick_root: Path) -> None:
    with (
        serving_grpc(models_dir=quick_root, drain_timeout_s=1) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with paused(server):
            held = stub.ModelInfer.future(RED)
            server.wait_in_flight(1)
            server.process.send_signal(signal.SIGTERM)
            error: Any = held.exception(60)

        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert dict(error.trailing_metadata())["problem-code"] == "draining"
        assert server.process.wait(60) == 0
