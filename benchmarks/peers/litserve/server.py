"""LitServe: HTTP and model in separate processes, with LitServe's batching."""

# No `from __future__ import annotations`: LitServe parses the body by decode_request's annotation.

import signal
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body

from benchmarks.peers.work import Classifier, Labels, Options, Pixels, options


class Api(litserve.LitAPI):
    """The steps that LitServe calls in a model process."""

    def __init__(self, options: Options) -> None:
        super().__init__(max_batch_size=options.batch, batch_timeout=options.wait_ms / 1000)
        self._options = options

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the model."""
        self._classifier = Classifier(self._options)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> Pixels:
        """Decode the JPEG in the body."""
        return self._classifier.decode(request)

    def batch(self, inputs: list[Pixels]) -> Pixels:
        """Stack the images."""
        return np.stack(inputs)

    def predict(self, x: Pixels) -> list[Labels]:
        """One forward pass."""
        return self._classifier.classify(x)

    def unbatch(self, output: list[Labels]) -> list[Labels]:
        """The labels are separate already."""
        return output

    def encode_response(self, output: Labels):  # type: ignore[no-untyped-def]
        """Return JSON as it is; with a return annotation FastAPI would validate it again."""
        return output


if __name__ == "__main__":
    chosen = options()
    # LitServe stops its processes on Ctrl-C; SIGTERM would leave them behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = litserve.LitServer(Api(chosen), accelerator="cpu", workers_per_device=chosen.workers)
    server.run(
        host="127.0.0.1",
        port=chosen.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
