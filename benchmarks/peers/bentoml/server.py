"""BentoML: one service with a batchable API, in one process per worker.

A batchable API takes a list and returns a list. The body can't be a list, so the image is a file in
a form.
"""

# No `from __future__ import annotations`: BentoML reads the types from the annotations.

import os
import sys

import bentoml
import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from benchmarks.peers.work import Classifier, Labels, Options, options

if __name__ == "__main__":
    # `bentoml serve` imports this file in each worker, with the options as BentoML's arguments.
    OPTIONS = options()
    arguments = [f"--arg={name}={value}" for name, value in vars(OPTIONS).items()]
    address = ["--host=127.0.0.1", f"--port={OPTIONS.port}"]
    service = "benchmarks.peers.bentoml.server:Model"
    command = [sys.executable, "-m", "bentoml", "serve", service, *address, *arguments]
    os.execv(command[0], command)  # noqa: S606 - no shell on purpose

OPTIONS = TypeAdapter(Options).validate_python(vars(bentoml.use_arguments()))


@bentoml.service(
    workers=OPTIONS.workers,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Model:
    """The model of one worker process."""

    def __init__(self) -> None:
        self._classifier = Classifier(OPTIONS)

    @bentoml.api(batchable=True, max_batch_size=OPTIONS.batch, max_latency_ms=60_000)
    def predict(self, images: list[Image.Image]) -> list[Labels]:
        """One batch; BentoML has opened the images, Pillow decodes them on first use."""
        pixels = np.stack([self._classifier.prepare(image) for image in images])
        return self._classifier.classify(pixels)
