"""Mosec: HTTP and batches in Rust, one Python process for each worker."""

from __future__ import annotations

import os

from mosec import Server, Worker

from benchmarks.peers.work import Answer, Classifier, options


class Model(Worker):
    """A worker's process."""

    def __init__(self) -> None:
        super().__init__()
        self._classifier = Classifier(options())

    def deserialize(self, data: bytes) -> bytes:
        """The body is the JPEG itself."""
        return data

    def forward(self, data: list[bytes]) -> list[Answer]:
        """One batch."""
        return self._classifier.answers(data)


if __name__ == "__main__":
    chosen = options()
    # Mosec reads --port from the command line too, and the rest from the environment.
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
