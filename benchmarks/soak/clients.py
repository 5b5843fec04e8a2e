"""The clients of a soak run, and what they have seen."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests

from benchmarks.ours import Service
from benchmarks.soak.repository import NETWORKS, SOAKED


class Soak:
    """What the clients have seen, and whether they go on."""

    def __init__(self, service: Service, images: list[bytes], key: str, grpc_port: int) -> None:
        self.service = service
        self.grpc_address = f"127.0.0.1:{grpc_port}"
        # Of all clients; it changes during the run.
        self.key = key
        self.url = service.url
        self.images = images
        # By network and image: the best label, and its score.
        self.expected: dict[tuple[str, int], tuple[str, float]] = {}
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self.interval_s = 0.0

    def ask(self, session: requests.Session, number: int) -> dict[str, Any] | None:
        """Classify an image; None, and a note of what was wrong, unless that succeeds."""
        response = session.post(self.url, self.images[number], headers=self.headers, timeout=120)
        self.seen[str(response.status_code)] += 1
        if response.status_code == 200:
            found: dict[str, Any] = response.json()
            return found
        if response.status_code != 429:
            self.wrong.append(f"{response.status_code}: {response.text[:300]}")
        return None

    @property
    def headers(self) -> dict[str, str]:
        """Of a request."""
        return {"Content-Type": "image/jpeg", "X-API-Key": self.key}

    def learn(self) -> None:
        """Note what the version that serves now answers."""
        with requests.Session() as session:
            for number in range(len(self.images)):
                found = self.ask(session, number)
                assert found is not None, self.wrong  # noqa: S101 - nothing happens yet
                best = found["predictions"][0]
                network = NETWORKS[found["model"]["version"] % 2]
                self.expected[network, number] = best["label"], best["score"]

    def good_client(self, seed: int) -> int:
        """Ask until the end, and compare each answer; returns their number."""
        draw = np.random.default_rng(seed)
        answered = 0
        with requests.Session() as session:
            due = time.monotonic()
            while not self.stop.is_set():
                due = max(due + self.interval_s, time.monotonic() - 1)
                time.sleep(max(0.0, due - time.monotonic()))
                number = int(draw.integers(len(self.images)))
                try:
                    found = self.ask(session, number)
                except requests.RequestException as exc:
                    self.wrong.append(f"lost: {exc!r}")
                    continue
                if found is not None:
                    answered += 1
                    best = found["predictions"][0]
                    version = found["model"]["version"]
                    self.compare(version, number, best["label"], best["score"])
        return answered

    def compare(self, version: int, number: int, label: str, score: float) -> None:
        """Compare an answer with what that version answered while nothing happened."""
        expected, usual = self.expected[NETWORKS[version % 2], number]
        # Batches of another size round otherwise.
        if label != expected or abs(score - usual) > 0.01:
            self.wrong.append(
                f"image {number}, version {version}: {label} {score} in place of {expected} {usual}"
            )

    def bad_client(self) -> None:
        """Send what has to be refused, and check that it is."""
        header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
        chunks = {b"IHDR": header, b"IDAT": zlib.compress(bytes(1000)), b"IEND": b""}
        bomb = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks.items())
        bodies = {
            "text": (b"not an image", 415),
            "half": (self.images[0][: len(self.images[0]) // 2], 422),
            "bomb": (bomb, 413),
            "huge": (b"\xff\xd8\xff" + bytes(21_000_000), 413),
        }
        with requests.Session() as session:
            while not self.stop.is_set():
                for name, (body, expected) in bodies.items():
                    try:
                        response = session.post(self.url, body, headers=self.headers, timeout=120)
                    except requests.ConnectionError:
                        self.seen["reset while sending too much"] += 1
                        continue
                    self.seen[f"{name}: {response.status_code}"] += 1
                    if response.status_code not in (expected, 429):
                        self.wrong.append(f"{name}: {response.status_code} {response.text[:200]}")
                self.stop.wait(0.5)

    def deaf_client(self) -> None:
        """Send requests and never read a response."""
        url = urlsplit(self.url)
        while not self.stop.is_set():
            head = (
                f"POST /predict HTTP/1.1\r\nHost: a\r\nX-API-Key: {self.key}\r\n"
                f"Content-Length: {len(self.images[0])}\r\n\r\n"
            )
            with (
                socket.create_connection((url.hostname, url.port)) as connection,
                contextlib.suppress(OSError),
            ):
                connection.settimeout(2)
                for _ in range(200):
                    connection.sendall(head.encode() + self.images[0])
            self.stop.wait(1)

    def state(self, version: int) -> str | None:
        """The state of a version of the soaked model, as the service lists it."""
        url = self.url.replace("/predict", "/models")
        listed = requests.get(url, headers=self.headers, timeout=60).json()["models"]
        states = {each["version"]: each["state"] for each in listed if each["name"] == SOAKED}
        found: str | None = states.get(version)
        return found

    def processes(self) -> int:
        """The processes of models."""
        return len(self.service.running("bundle.worker"))

    def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
        """Wait until the condition holds; returns whether it does in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
