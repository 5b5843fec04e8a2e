"""A network that is large enough for several streams, served."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.acceleration import accelerate as acceleration
from bundle.acceleration import speed
from bundle.acceleration.accelerate import accelerate
from bundle.format.manifest import MANIFEST_FILE
from tests.bundles import LABELS, colour_picture, make_torch_bundle, png
from tests.service.conftest import serving

SIZE = 800  # of the input; a pass takes some milliseconds
WITHIN = 1e-3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one bundle, measured to be best in batches of 8."""
    root = tmp_path_factory.mktemp("streams")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acceleration, "cuda_devices", lambda: 0)
        patch.setattr(speed, "TURN_S", 0.0)
        patch.setattr(speed, "BATCHES", (1,))
        done = accelerate(make_torch_bundle(root, size=SIZE), root, calibration=None, test=None)
    record = json.loads((done.path / MANIFEST_FILE).read_text())
    for artifact in record["artifacts"]:
        artifact["speeds"][0]["batch_size"] = 8
    (done.path / MANIFEST_FILE).write_text(json.dumps(record))
    return root


def scores(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    found = {each["label"]: each["score"] for each in answer.json()["predictions"]}
    return np.array([found[label] for label in LABELS])


def test_answers_are_those_of_the_image_alone_also_when_the_process_dies(models: Path) -> None:
    pictures = [png(colour_picture(LABELS[n % 3], (90 + n, 100), seed=n)) for n in range(30)]
    with (
        serving(models_dir=models, runtime="openvino-fp32", runtime_threads=2) as server,
        ThreadPoolExecutor(len(pictures)) as pool,
    ):
        alone = [scores(server.predict(picture)) for picture in pictures]
        together = [scores(answer) for answer in pool.map(server.predict, pictures)]
        asked = [pool.submit(server.predict, picture) for picture in pictures]
        (worker,) = server.worker_pids().values()
        os.kill(worker, signal.SIGKILL)
        after_death = [scores(answer.result()) for answer in asked]
        log, metrics = server.log(), server.client.get("/metrics").text

    assert "in batches of up to 4" in log, "of the 8 each of two streams has its part"
    assert np.abs(np.subtract(alone, together)).max() < WITHIN
    assert np.abs(np.subtract(alone, after_death)).max() < WITHIN
    sizes = {
        float(line.partition('le="')[2].partition('"')[0]): float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith("resnet_batch_images_bucket{")
    }
    assert sizes[4.0] > sizes[1.0], "some went together"
