"""Uploads made to do harm: refused in little memory, while the service keeps responding."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.service.conftest import Server
from tests.service.images import BOMBS, coloured, encode, varied


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_undecoded_while_the_service_keeps_responding(
    server: Server, name: str
) -> None:
    bomb = BOMBS[name]()
    server.predict(coloured())
    before = peak = server.memory()

    with ThreadPoolExecutor(8) as pool:
        uploads = [pool.submit(server.predict, bomb) for _ in range(8)]
        while not all(upload.done() for upload in uploads):
            # Decoding one of these in the event loop would exceed the timeout of the client.
            assert server.client.get("/healthz").status_code == 200
            peak = max(peak, server.memory())
    refusals = {
        (response.status_code, response.json()["code"])
        for response in (upload.result() for upload in uploads)
    }

    # A decoder that gives up would be another code, decode_timeout.
    unreadable = name == "200 MB of text"
    assert refusals == {(422, "unreadable_image") if unreadable else (413, "image_too_large")}
    assert peak - before < 500e6
    assert server.predict(coloured()).status_code == 200


def test_a_tiff_of_16_bytes_is_refused_and_ends_no_decoder(server: Server) -> None:
    def decoder_pids() -> set[int]:
        return {process.pid for process in server.tree() if "service.decoding" in process.cmdline()}

    assert server.predict(coloured()).status_code == 200
    before = decoder_pids()

    response = server.predict(b"II+\0" + struct.pack("<HHQ", 8, 0, 2**63))

    assert response.status_code == 422
    assert response.json()["code"] == "unreadable_image"
    assert server.predict(coloured()).status_code == 200
    assert decoder_pids() == before


def test_two_thousand_mutated_images_end_no_process(server: Server) -> None:
    generator = np.random.default_rng(20_16)
    image = varied(40, 30)
    seeds = [
        encode(image, "JPEG"),
        encode(image, "JPEG", progressive=True),
        encode(image, "PNG"),
        encode(image.convert("P"), "PNG"),
        encode(image, "WEBP"),
        encode(image, "GIF"),
        encode(image, "BMP"),
        encode(image, "TIFF"),
        encode(image, "TIFF", compression="tiff_lzw"),
        encode(image.convert("CMYK"), "JPEG"),
    ]
    workers = server.worker_pids()

    def mutate(number: int) -> bytes:
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(int(generator.integers(1, 8))):
            at = int(generator.integers(0, len(data)))
            match int(generator.integers(0, 3)):
                case 0:
                    data[at] = int(generator.integers(0, 256))
                case 1:
                    del data[at : at + int(generator.integers(1, 30))]
                case _:
                    data[at:at] = generator.bytes(int(generator.integers(1, 30)))
        return bytes(data)

    mutants = [mutate(number) for number in range(2000)]

    def send(part: list[bytes]) -> list[int]:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            headers = {"content-type": "application/octet-stream"}
            return [
                client.post("/predict", content=data or b"x", headers=headers).status_code
                for data in part
            ]

    with ThreadPoolExecutor(4) as pool:
        statuses = [s for part in pool.map(send, [mutants[i::4] for i in range(4)]) for s in part]

    assert set(statuses) <= {200, 413, 415, 422}, sorted(set(statuses))
    assert 200 in statuses
    assert 422 in statuses
    assert server.worker_pids() == workers
