"""Mosec: HTTP and batching in Rust, one Python process per worker."""

from __future__ import annotations

import os

from mosec import Server, Worker

from benchmarks.peers.work import Classifier, Labels, options


class Model(Worker):
    """The model of one worker process."""

    def __init__(self) -> None:
        super().__init__()
        self._classifier = Classifier(options())

    def deserialize(self, data: bytes) -> bytes:
        """The body is the JPEG itself."""
        return data

    def forward(self, data: list[bytes]) -> list[Labels]:
        """One batch."""
        return self._classifier.predict(data)


if __name__ == "__main__":
    chosen = options()
    # Mosec reads --port from the command line and the rest from the environment.
    os.environ |= {
        "MOSEC_ADDRESS": "127.0.0.1",
        "MOSEC_TIMEOUT": "60000",
        "MOSEC_LOG_LEVEL": "warning",
    }
    server = Server()
    server.append_worker(
        Model,
        num=chosen.workers,
        max_batch_size=chosen.batch,
        max_wait_time=round(chosen.wait_ms),
        timeout=60,
    )
    server.run()
