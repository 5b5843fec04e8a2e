"""LitServe: HTTP and model in processes of their own, and its own batches."""

# No `from __future__ import annotations`: LitServe reads how a body is parsed from the annotation of decode_request.

import signal
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body

from benchmarks.peers.work import Answer, Classifier, Options, Pixels, options


class Api(litserve.LitAPI):
    """The steps that LitServe calls in a model's process."""

    def __init__(self, options: Options) -> None:
        super().__init__(max_batch_size=options.batch, batch_timeout=options.wait_ms / 1000)
        self._options = options

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the model."""
        self._classifier = Classifier(self._options)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> Pixels:
        """The body is the JPEG itself."""
        return self._classifier.decode(request)

    def batch(self, inputs: list[Pixels]) -> Pixels:
        """Images to one array."""
        return np.stack(inputs)

    def predict(self, x: Pixels) -> list[Answer]:
        """One forward pass."""
        return self._classifier.classify(x)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """They are apart already."""
        return output

    def encode_response(self, output: Answer):
        """JSON as it is; with an annotation, FastAPI would validate it once more."""
        return output


if __name__ == "__main__":
    chosen = options()
    # LitServe ends its processes after Ctrl-C; SIGTERM would leave them behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = litserve.LitServer(Api(chosen), accelerator="cpu", workers_per_device=chosen.workers)
    server.run(
        host="127.0.0.1",
        port=chosen.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
