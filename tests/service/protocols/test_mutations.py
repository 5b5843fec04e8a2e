"""Inference requests with random changes: no server error, and no process ends.

`make test ARGS="tests/service/protocols/test_mutations.py --mutations 5000"` sends more of them.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.service.conftest import Server
from tests.service.protocols.mutations import mutated_bytes, mutated_document
from tests.service.protocols.test_inference_bodies import (
    FILE,
    FRAME,
    HEADER,
    PATH,
    described,
    image,
    pixels,
)

OUTPUTS = [{"name": "scores", "parameters": {"classification": 2}}, {"name": "logits"}]
DOCUMENTS = [
    {"inputs": [image()], "id": "a", "outputs": OUTPUTS},
    {"inputs": [pixels()], "parameters": {"binary_data_output": True}},
]
Request = tuple[bytes, dict[str, str]]


def json_values(generator: random.Random) -> Request:
    return json.dumps(mutated_document(generator, generator.choice(DOCUMENTS))).encode(), {}


def json_text(generator: random.Random) -> Request:
    text = json.dumps(generator.choice(DOCUMENTS)).encode()
    return mutated_bytes(generator, text, head=120), {}


def binary_values(generator: random.Random) -> Request:
    document = {"inputs": [described(len(FRAME))], "id": "a", "outputs": OUTPUTS}
    text = json.dumps(mutated_document(generator, document)).encode()
    return text + FRAME, {HEADER: str(len(text))}


def binary_text(generator: random.Random) -> Request:
    text = json.dumps({"inputs": [described(len(FRAME))], "id": "a"}).encode()
    length = len(text) + generator.choice([0, 0, 0, -1, 1, 40])
    return mutated_bytes(generator, text + FRAME, head=len(text) + 40), {HEADER: str(length)}


@pytest.mark.parametrize("form", [json_values, json_text, binary_values, binary_text])
def test_a_changed_request_is_answered_without_a_server_error(
    server: Server, pytestconfig: pytest.Config, form: Callable[[random.Random], Request]
) -> None:
    generator = random.Random(pytestconfig.getoption("mutation_seed"))
    workers = server.worker_pids()
    statuses: Counter[int] = Counter()

    for _ in range(pytestconfig.getoption("mutations")):
        body, headers = form(generator)
        response: httpx.Response = server.client.post(PATH, content=body, headers=headers)
        statuses[response.status_code] += 1
        assert response.status_code < 500, (body[:2000], response.text)
        assert response.status_code == 200 or response.json()["code"]

    assert statuses[400] > statuses.total() / 4
    assert server.worker_pids() == workers
    assert server.predict(FILE).status_code == 200
