"""The peers: the servers that do the same work, each tuned as its documentation says and as trials chose."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
BOUNDARY = "a-boundary-that-no-jpeg-has"


@dataclass(frozen=True)
class Peer:
    """One server, and how it is asked."""

    name: str  # of its folder
    title: str
    package: str  # whose version the lock pins
    tuning: str  # one sentence, for the page of results
    batch: int  # most images of one forward pass
    wait_ms: float  # longest wait for a batch to fill
    predict_path: str = "/predict"
    ready_path: str = "/ready"
    form_field: str | None = (
        None  # of the file in a multipart body; None: the body is the JPEG itself
    )
    variables: Mapping[str, str] = field(default_factory=dict)  # of its environment
    every_interface: bool = False  # it opens ports on all of them, whatever is set

    @property
    def folder(self) -> Path:
        """Where its server and its requirements are."""
        return FOLDER / self.name

    @property
    def lock(self) -> Path:
        """Every package of its environment."""
        return self.folder / "requirements.txt"

    @property
    def version(self) -> str:
        """The version that the lock pins."""
        return pinned(self.lock, self.package)

    def command(
        self, port: int, model: Path, labels: Path, threads: int, workers: int | None = None
    ) -> list[str]:
        """What is given to its Python. The workers, one per thread unless told, share the threads evenly.

        Neither split is best everywhere: fewer workers with more threads answer a lone request sooner and need less
        memory, so a comparison should measure both.
        """
        workers = workers or threads
        knobs = {
            "workers": workers,
            "threads": max(1, threads // workers),
            "batch": self.batch,
            "wait-ms": self.wait_ms,
        }
        files = {"port": port, "model": model.resolve(), "labels": labels.resolve()}
        return [
            str(self.folder / "server.py"),
            *(f"--{name}={value}" for name, value in (files | knobs).items()),
        ]

    def request(self, jpeg: bytes) -> tuple[dict[str, str], bytes]:
        """Headers and body of the question for one image."""
        if self.form_field is None:
            return {"Content-Type": "image/jpeg"}, jpeg
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{self.form_field}"; filename="image.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        )
        body = head.encode() + jpeg + f"\r\n--{BOUNDARY}--\r\n".encode()
        return {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body


def top5(body: bytes) -> list[dict[str, Any]]:
    """The classes of an answer, the best first. A batchable API of BentoML answers with a list of answers."""
    answer = json.loads(body)
    return answer[0] if isinstance(answer[0], list) else answer


def pinned(lock: Path, package: str) -> str:
    """The version of a package in a lock. Raises ValueError where it is not there."""
    found = re.search(rf"^{re.escape(package)}(?:\[.*\])?==(\S+)", lock.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"Expected {package} in the lock. Received: {lock}")
    return found[1]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name="fastapi",
            title="FastAPI",
            package="fastapi",
            tuning="One process with one thread per core in FastAPI's pool and one PyTorch thread each; no batches.",
            batch=1,
            wait_ms=0,
        ),
        Peer(
            name="litserve",
            title="LitServe",
            package="litserve",
            tuning="One model process per core with one PyTorch thread, batches of at most 8, batch_timeout 5 ms.",
            batch=8,
            wait_ms=5,
            ready_path="/health",
        ),
        Peer(
            name="mosec",
            title="Mosec",
            package="mosec",
            tuning="One worker per core with one PyTorch thread, batches of at most 8, max_wait_time 1 ms.",
            batch=8,
            wait_ms=1,
            predict_path="/inference",
            ready_path="/",
        ),
        Peer(
            name="bentoml",
            title="BentoML",
            package="bentoml",
            tuning=(
                "One worker per core with one PyTorch thread, adaptive batches of at most 8; "
                "the image is a file of a form, for a batchable API takes a list."
            ),
            batch=8,
            wait_ms=0,
            ready_path="/readyz",
            form_field="images",
            variables={"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Peer(
            name="ray",
            title="Ray Serve",
            package="ray",
            tuning="One replica per core with one PyTorch thread, batches of at most 8, batch_wait_timeout_s 0.01.",
            batch=8,
            wait_ms=10,
            ready_path="/-/healthz",
            # The second makes Ray prefer 127.0.0.1 for all its ports but one.
            variables={"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
            every_interface=True,
        ),
    )
}
