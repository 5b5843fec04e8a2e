"""Images with random changes: each gets an answer, no server error, and no process of a model ends.

`make test ARGS="tests/service/decoding/test_mutated_images.py --mutations 5000"` sends more.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.service.conftest import Server
from tests.service.images import encode, varied
from tests.service.protocols.mutations import mutated_bytes

HEAD = 400  # bytes: headers, tables and the first of the pixels
# Two of each kind where what decodes them differs: in the model's process or before it.
IMAGES = {
    "jpeg": encode(varied(), "JPEG"),
    "progressive": encode(varied(), "JPEG", progressive=True),
    "png": encode(varied()),
    "palette": encode(varied().convert("P")),
    "webp": encode(varied(), "WEBP"),
    "lossless": encode(varied(), "WEBP", lossless=True),
    "gif": encode(varied(), "GIF"),
    "bmp": encode(varied(), "BMP"),
    "tiff": encode(varied(), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_changed_image_is_answered_without_a_server_error(
    server: Server, pytestconfig: pytest.Config, kind: str
) -> None:
    generator = random.Random(pytestconfig.getoption("mutation_seed"))
    workers = server.worker_pids()
    statuses: Counter[int] = Counter()

    for _ in range(pytestconfig.getoption("mutations")):
        body = mutated_bytes(generator, IMAGES[kind], HEAD)
        response = server.client.post("/predict", content=body)
        statuses[response.status_code] += 1
        assert response.status_code < 500, (body.hex(), response.text)
        assert response.status_code == 200 or response.json()["code"]

    assert len(statuses) > 1, "some can be read, and some can't"
    assert server.worker_pids() == workers
    assert server.client.post("/predict", content=IMAGES[kind]).status_code == 200
