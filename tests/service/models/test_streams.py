"""A network that is large enough for several streams, served."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from tests.bundles import colour_picture, make_quick_bundle, png
from tests.service.conftest import serving
from tests.service.models.disturb import paused
from tests.tiny_networks import LABELS

# A side of the input, in pixels; a pass takes some milliseconds.
SIZE = 800
WITHIN = 1e-3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one bundle, measured to be best in batches of 8."""
    root = tmp_path_factory.mktemp("streams")
    make_quick_bundle(root, size=SIZE, batch_size=8)
    return root


def scores(response: httpx.Response) -> npt.NDArray[np.float64]:
    assert response.status_code == 200, response.text
    found = {each["label"]: each["score"] for each in response.json()["predictions"]}
    return np.array([found[label] for label in LABELS])


def test_scores_are_those_of_the_image_alone_also_when_the_process_dies(models: Path) -> None:
    images = [png(colour_picture(LABELS[n % 3], (90 + n, 100), seed=n)) for n in range(30)]
    with (
        serving(models_dir=models, runtime="openvino-fp32", runtime_threads=2) as server,
        ThreadPoolExecutor(len(images)) as pool,
    ):
        alone = [scores(server.predict(image)) for image in images]
        assert server.metric("resnet_batch_images_count") == len(images)
        # Up to three batches are sent to the process while it hangs; full ones follow.
        with paused(server):
            responses = [pool.submit(server.predict, image) for image in images]
            server.wait(lambda: server.metric("resnet_queue_images") > len(images) / 2, "queued")
        together = [scores(response.result()) for response in responses]
        batches = server.metric("resnet_batch_images_count") - len(images)
        with paused(server) as worker:
            responses = [pool.submit(server.predict, image) for image in images]
            server.wait(lambda: server.metric("resnet_queue_images") > len(images) / 2, "queued")
            os.kill(worker, signal.SIGKILL)
        after_death = [scores(response.result()) for response in responses]
        log = server.log()

    assert "in batches of up to 4" in log, "two streams share the measured batch size of 8"
    assert batches < len(images), "some ran together"
    assert np.abs(np.subtract(alone, together)).max() < WITHIN
    assert np.abs(np.subtract(alone, after_death)).max() < WITHIN
