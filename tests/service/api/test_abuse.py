"""Uploads made to hurt: refused in time, in little memory, with the service answering meanwhile."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from tests.service.conftest import Server
from tests.service.images import BOMBS, coloured, encode, varied

# A process of its own, for a thread would wait for those that send the bombs.
WATCHER = """
import http.client, sys, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
while True:
    started = time.perf_counter()
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    print(answer.status, time.perf_counter() - started, flush=True)
    time.sleep(0.005)
"""


@contextmanager
def watched(server: Server) -> Iterator[list[float]]:
    """Fills the list with the delays of /healthz, in seconds."""
    command = [sys.executable, "-c", WATCHER, str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        delays: list[float] = []
        try:
            yield delays
            time.sleep(0.1)
        finally:
            process.kill()
            lines = [
                line.split() for line in process.stdout.read().splitlines() if line.count(" ") == 1
            ]
    assert {status for status, _ in lines} == {"200"}
    delays += [float(delay) for _, delay in lines]


@pytest.mark.parametrize("name", BOMBS)
def test_eight_bombs_at_once_are_refused_and_the_service_answers_meanwhile(
    server: Server, name: str
) -> None:
    bomb = BOMBS[name]()
    server.predict(coloured())
    before = server.memory()
    peak, stop = [before], threading.Event()

    def measure() -> None:
        while not stop.wait(0.05):
            peak.append(server.memory())

    measuring = threading.Thread(target=measure)
    measuring.start()
    with watched(server) as delays, ThreadPoolExecutor(8) as pool:
        started = time.monotonic()
        answers = list(pool.map(server.predict, [bomb] * 8))
        elapsed = time.monotonic() - started
    stop.set()
    measuring.join()

    assert {answer.status_code for answer in answers} <= {413, 422}, answers[0].text
    assert elapsed < 10
    assert max(peak) - before < 500e6
    # Nine of ten: on two busy cores some wait for a core, which is not the service's affair.
    assert np.quantile(delays, 0.9) < 0.1, sorted(delays)[-5:]
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


def test_two_thousand_mutated_images_get_200_or_4xx_and_no_process_dies(server: Server) -> None:
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
