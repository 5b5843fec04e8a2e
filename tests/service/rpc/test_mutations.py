"""Calls with random changes of their bytes: no server error, and no process ends."""

from __future__ import annotations

import random
from collections import Counter

import grpc
import pytest
from tritonclient.grpc import service_pb2

from tests.service.images import coloured
from tests.service.protocols.mutations import mutated_bytes
from tests.service.rpc.conftest import GrpcServing, infer_request

INFER = "/inference.GRPCInferenceService/ModelInfer"
PIXELS = {"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
MESSAGES = [
    infer_request(coloured(), coloured("blue")),
    service_pb2.ModelInferRequest(
        model_name="tiny-torch",
        id="a",
        inputs=[PIXELS],
        outputs=[{"name": "scores", "parameters": {"classification": {"int64_param": 2}}}],
        raw_input_contents=[bytes(3072)],
    ),
]


def test_a_changed_call_is_answered_without_a_server_error(
    grpc_server: GrpcServing, pytestconfig: pytest.Config
) -> None:
    generator = random.Random(pytestconfig.getoption("mutation_seed"))
    workers = grpc_server.worker_pids()
    statuses: Counter[str] = Counter()

    with grpc.insecure_channel(grpc_server.address) as channel:
        infer = channel.unary_unary(INFER)
        for _ in range(pytestconfig.getoption("mutations")):
            message = generator.choice(MESSAGES).SerializeToString()
            data = mutated_bytes(generator, message, head=100)
            status = infer.future(data, timeout=60).code().name
            statuses[status] += 1
            assert status in ("OK", "INVALID_ARGUMENT", "NOT_FOUND"), data[:2000]

        assert statuses["INVALID_ARGUMENT"] > statuses.total() / 4
        assert grpc_server.worker_pids() == workers
        assert infer(MESSAGES[0].SerializeToString(), timeout=60)
