"""The peers: servers that do the same work, each tuned by its documentation and by trials."""

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
    """One server: how it is started and how an image is sent to it."""

    name: str  # that of its folder
    title: str
    package: str  # its version is pinned in the lock
    tuning: str  # one sentence for the results
    batch: int  # maximum batch size
    wait_ms: float  # maximum wait for a batch to fill
    predict_path: str = "/predict"
    ready_path: str = "/ready"
    form_field: str | None = None  # for a multipart body; None: the body is the JPEG
    variables: Mapping[str, str] = field(default_factory=dict)  # environment variables
    every_interface: bool = False  # it opens ports on all interfaces, whatever is set
    runs_ir: bool = False  # measured with our OpenVINO IR, too

    @property
    def folder(self) -> Path:
        """The folder of its server and its requirements."""
        return FOLDER / self.name

    @property
    def lock(self) -> Path:
        """The lock of its environment."""
        return self.folder / "requirements.txt"

    @property
    def version(self) -> str:
        """The pinned version."""
        return pinned(self.lock, self.package)

    def command(
        self, port: int, model: Path, labels: Path, threads: int, workers: int | None = None
    ) -> list[str]:
        """Arguments for the Python of its environment; the workers share the threads evenly.

        Neither split is best everywhere: fewer workers with more threads have a lower latency with
        one connection and need less memory, so a comparison should measure both.

        Args:
            workers: None: one per thread.
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
        """Headers and body of the request for one image."""
        if self.form_field is None:
            return {"Content-Type": "image/jpeg"}, jpeg
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{self.form_field}"; '
            'filename="image.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        )
        body = head.encode() + jpeg + f"\r\n--{BOUNDARY}--\r\n".encode()
        return {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body


def top5(body: bytes) -> list[dict[str, Any]]:
    """The labels of a response, best first; BentoML's batchable API returns a list of lists."""
    labels: list[Any] = json.loads(body)
    return labels[0] if isinstance(labels[0], list) else labels


def pinned(lock: Path, package: str) -> str:
    """The version of a package in a lock.

    Raises:
        ValueError: the lock lacks the package.
    """
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
            tuning=(
                "One process with one thread per core in FastAPI's pool and one PyTorch thread "
                "each; no batches."
            ),
            batch=1,
            wait_ms=0,
        ),
        Peer(
            name="litserve",
            title="LitServe",
            package="litserve",
            tuning=(
                "One model process per core with one thread, batches of at most 8, "
                "batch_timeout 5 ms."
            ),
            batch=8,
            wait_ms=5,
            ready_path="/health",
            runs_ir=True,
        ),
        Peer(
            name="mosec",
            title="Mosec",
            package="mosec",
            tuning=(
                "One worker per core with one thread, or one worker with all threads; batches of "
                "at most 8, max_wait_time 1 ms."
            ),
            batch=8,
            wait_ms=1,
            runs_ir=True,
            predict_path="/inference",
            ready_path="/",
        ),
        Peer(
            name="bentoml",
            title="BentoML",
            package="bentoml",
            tuning=(
                "One worker per core with one thread, adaptive batches of at most 8; "
                "the image is a form file, because a batchable API takes a list."
            ),
            batch=8,
            wait_ms=0,
            ready_path="/readyz",
            form_field="images",
            variables={"BENTOML_DO_NOT_TRACK": "True"},
            runs_ir=True,
        ),
        Peer(
            name="ray",
            title="Ray Serve",
            package="ray",
            tuning=(
                "One replica per core with one PyTorch thread, batches of at most 8, "
                "batch_wait_timeout_s 0.01."
            ),
            batch=8,
            wait_ms=10,
            ready_path="/-/healthz",
            # With the second variable Ray uses 127.0.0.1 for all its ports but one.
            variables={"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
            every_interface=True,
        ),
    )
}
