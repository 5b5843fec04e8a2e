"""Our service, started and watched as the peers are."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import psutil
import requests

from benchmarks.models import ROOT, Model
from benchmarks.peers.running import LINES_SHOWN, NotRunning, cpu_s, free_port, memory

PAUSE_S = 0.02


class Service:
    """A service that is ready."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, start_s: float) -> None:
        self.url = f"http://127.0.0.1:{port}/predict"
        self.start_s = start_s  # from the start of the process to the first answer
        self.process = psutil.Process(process.pid)

    def memory(self) -> int:
        """Bytes in use by all its processes, with shared pages shared out (PSS)."""
        return memory(self._all())

    def cpu_s(self) -> float:
        """Processor time of all its processes so far."""
        return cpu_s(self._all())

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextlib.contextmanager
def serving(model: Model, runtime: str, deadline_s: float = 120) -> Iterator[Service]:
    """Serve ``model`` with the artifact that ``runtime`` names, as SERVICE_RUNTIME does, and end it."""
    port = free_port()
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")
    } | {
        "SERVICE_PORT": str(port),
        "SERVICE_MODELS_DIR": str(model.repository),
        "SERVICE_DEFAULT_MODEL": model.name,
        "SERVICE_RUNTIME": runtime,
    }
    picture = model.pictures[0].read_bytes()
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while not _answers(port, picture):
                if process.poll() is not None or time.perf_counter() > started + deadline_s:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").splitlines()[-LINES_SHOWN:]
                    raise NotRunning("The service does not answer:\n" + "\n".join(lines))
                time.sleep(PAUSE_S)
            yield Service(process, port, time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait()


def _answers(port: int, picture: bytes) -> bool:
    """Whether all is loaded, and an image is classified."""
    try:
        if requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code != 200:
            return False
        url, headers = f"http://127.0.0.1:{port}/predict", {"Content-Type": "image/jpeg"}
        return requests.post(url, picture, headers=headers, timeout=60).status_code == 200
    except requests.RequestException:
        return False
