"""The header X-Request-Timeout-Ms on the routes of all protocols."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.service.api.test_deadlines import HEADER, PNG, application
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server, serving
from tests.service.images import coloured
from tests.service.models.disturb import ask_and_stay, paused

B64 = base64.b64encode(coloured()).decode()
TENSOR = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [B64]}
BODIES = {
    "/v2/models/tiny-torch/infer": json.dumps({"inputs": [TENSOR]}).encode(),
    "/v2/models/tiny-torch/versions/1/infer": json.dumps({"inputs": [TENSOR]}).encode(),
    "/v1/models/tiny-torch:predict": json.dumps({"instances": [{"b64": B64}]}).encode(),
    "/": coloured(),
    "/models/tiny-torch": coloured(),
    "/invocations": coloured(),
    "/predictions/tiny-torch": coloured(),
}


@pytest.mark.parametrize("path", BODIES)
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(server: Server, path: str) -> None:
    response = server.client.post(path, headers={HEADER: "soon"}, content=BODIES[path])

    assert_problem(response, 422, "invalid_parameter")


@pytest.mark.anyio
async def test_a_request_that_cannot_meet_its_deadline_is_refused_at_the_door(
    quick_root: Path,
) -> None:
    async with application(quick_root) as (client, model):
        model.queue.pace.record(1, 10.0)
        with model.queue.admit(2):
            for path, body in BODIES.items():
                late = await client.post(path, headers={HEADER: "5000"} | PNG, content=body)

                assert_problem(late, 429, "deadline_unreachable")
                assert late.headers["retry-after"] == "15"
        for path, body in BODIES.items():
            in_time = await client.post(path, headers={HEADER: "60000"} | PNG, content=body)

            assert in_time.status_code == 200


def test_a_request_that_expires_in_the_queue_is_given_up_and_costs_no_forward_pass(
    quick_root: Path,
) -> None:
    with serving(models_dir=quick_root) as server:
        with paused(server):
            # One batch is taken, one is prefetched; what comes then waits.
            held = []
            for number in (1, 2):
                held.append(ask_and_stay(server))
                server.wait_in_flight(number)
            for path, body in BODIES.items():
                late = server.client.post(path, headers={HEADER: "100"} | PNG, content=body)
                assert_problem(late, 504, "deadline_exceeded")
            server.wait_queued(1)
        for connection in held:
            connection.close()

        assert server.predict(coloured()).status_code == 200
        assert server.metric("resnet_batch_images_sum") == 3
