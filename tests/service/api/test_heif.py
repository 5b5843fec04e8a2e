"""HEIC and AVIF over HTTP: decoded in decoders only, and harmless when they are broken."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.bundle.imaging.test_heif import KINDS, encoded, with_size
from tests.service.api.test_problems import assert_problem
from tests.service.conftest import Server
from tests.service.images import COLOURS, varied

MUTANTS = 600


def coloured(kind: str, label: str = "red") -> bytes:
    return encoded(kind, Image.new("RGB", (96, 80), COLOURS[label]))


def post(server: Server, data: bytes, kind: str = "application/octet-stream") -> httpx.Response:
    return server.client.post("/predict", content=data, headers={"content-type": kind})


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("HEIF", "image/heic"), ("HEIF", "image/heif"), ("AVIF", "image/avif")],
)
def test_each_is_classified_as_raw_body_and_in_forms(
    server: Server, kind: str, content_type: str
) -> None:
    raw = post(server, coloured(kind), content_type)
    form = server.predict(coloured(kind, "blue"))
    files = [("files", ("a", coloured(kind, label))) for label in COLOURS]
    batch = server.client.post("/predict/batch", files=files)

    assert raw.json()["predictions"][0]["label"] == "red"
    assert raw.json()["image"] == {
        "format": kind,
        "width": 96,
        "height": 80,
        "mode": "RGB",
        "operations": [],
    }
    assert form.json()["predictions"][0]["label"] == "blue"
    found = [result["predictions"][0]["label"] for result in batch.json()["results"]]
    assert found == [*COLOURS]


@pytest.mark.parametrize("kind", KINDS)
def test_the_problems_are_those_of_all_formats(server: Server, kind: str) -> None:
    data = encoded(kind, varied(64, 64))

    assert_problem(post(server, data[: len(data) // 2]), 422, "unreadable_image")
    assert_problem(post(server, with_size(data, 8_000, 8_000)), 413, "image_too_large")
    video = data.replace(b"heic", b"isom").replace(b"avif", b"isom")
    assert_problem(post(server, video), 415, "unsupported_image_type")


def test_only_decoders_load_the_library(server: Server) -> None:
    assert post(server, coloured("HEIF")).status_code == 200

    loaded = {
        ("service.decoding" in process.cmdline())
        for process in server.tree()
        if "libheif" in Path(f"/proc/{process.pid}/maps").read_text()
    }

    assert loaded == {True}


@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_mutated_files_give_problems_and_end_no_model(
    server: Server, kind: str
) -> None:
    generator = np.random.default_rng(len(kind))
    image = varied(40, 30)
    seeds = [
        encoded(kind, image),
        encoded(kind, image.convert("RGBA")),
        encoded(kind, image, varied(40, 30, seed=1)),
    ]
    workers = server.worker_pids()

    def mutate(number: int) -> bytes:
        data = bytearray(seeds[number % len(seeds)])
        if number % 10 == 0:
            return bytes(data[: int(generator.integers(12, len(data)))])
        for _ in range(int(generator.integers(1, 6))):
            # Half of them in the boxes, which stand first.
            size = len(data) if number % 2 else min(len(data), 500)
            at = int(generator.integers(12, size))
            match int(generator.integers(0, 3)):
                case 0:
                    data[at] = int(generator.integers(0, 256))
                case 1:
                    del data[at : at + int(generator.integers(1, 10))]
                case _:
                    data[at:at] = generator.bytes(int(generator.integers(1, 10)))
        return bytes(data)

    mutants = [mutate(number) for number in range(MUTANTS)]
    with ThreadPoolExecutor(4) as pool:
        statuses = {
            response.status_code for response in pool.map(lambda d: post(server, d), mutants)
        }

    assert {200, 422} <= statuses <= {200, 413, 415, 422}
    assert server.worker_pids() == workers
    assert post(server, coloured(kind)).status_code == 200
