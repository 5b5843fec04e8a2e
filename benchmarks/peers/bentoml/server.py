"""BentoML: one service with a batchable API, in one process for each worker.

A batchable API takes a list and answers with a list. It can't be the body itself, so a picture comes as a form's file.
"""

# No `from __future__ import annotations`: BentoML reads the types of request and answer from the annotations.

import os
import sys

import bentoml
import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from benchmarks.peers.work import Answer, Classifier, Options, options

if __name__ == "__main__":
    # `bentoml serve` imports this file again in each worker, which finds the options as BentoML's arguments.
    OPTIONS = options()
    arguments = [f"--arg={name}={value}" for name, value in vars(OPTIONS).items()]
    address = ["--host=127.0.0.1", f"--port={OPTIONS.port}"]
    service = "benchmarks.peers.bentoml.server:Model"
    os.execv(
        sys.executable, [sys.executable, "-m", "bentoml", "serve", service, *address, *arguments]
    )

OPTIONS = TypeAdapter(Options).validate_python(vars(bentoml.use_arguments()))


@bentoml.service(
    workers=OPTIONS.workers,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Model:
    """A worker's process."""

    def __init__(self) -> None:
        self._classifier = Classifier(OPTIONS)

    @bentoml.api(batchable=True, max_batch_size=OPTIONS.batch, max_latency_ms=60_000)
    def predict(self, images: list[Image.Image]) -> list[Answer]:
        """One batch. BentoML has opened the pictures; decoding is left to the first use."""
        return self._classifier.classify(
            np.stack([self._classifier.prepare(image) for image in images])
        )
