"""From a folder of images to an answer over HTTP: what a user does with the two packages together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.training.conftest import Whole


@pytest.fixture
def url(whole: Whole, tmp_path: Path) -> Iterator[str]:
    """The service over the repository that the training command wrote."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "SERVICE_MODELS_DIR": str(whole.root / "models"), "SERVICE_PORT": str(port)}
    log = tmp_path / "service.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def test_a_model_trained_on_a_folder_names_its_classes_over_http(url: str, colour_folder: Path) -> None:
    for label in ("blue", "green", "red"):
        image = colour_folder / "test" / label / "003.png"

        answer = httpx.post(f"{url}/predict?model=colours", files={"file": image.read_bytes()}, timeout=30)

        assert answer.status_code == 200, answer.text
        predictions = answer.json()["predictions"]
        assert [p["rank"] for p in predictions] == [1, 2, 3]
        assert predictions[0]["label"] == label
        assert sum(p["score"] for p in predictions) == pytest.approx(1, abs=1e-3)
