"""Our service, started and measured in the same way as the peers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial

import psutil
import requests

from benchmarks.models import ROOT, Model, alone
from benchmarks.peers.running import LINES_SHOWN, NotRunning, cpu_s, free_port, memory

POLL_S = 0.02
QUEUE_SIZE = 256  # images that wait for the model; the default of the service


class Service:
    """A service that is ready."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, start_s: float) -> None:
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}/predict"
        self.start_s = start_s  # from the start of the process to the first response
        self.process = psutil.Process(process.pid)

    def memory(self) -> int:
        """Memory of all its processes, in bytes (PSS: shared pages divided among processes)."""
        return memory(self._all())

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""
        return cpu_s(self._all())

    def running(self, module: str) -> list[psutil.Process]:
        """Its processes that run a module."""
        found = []
        for process in self.process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if module in process.cmdline():
                    found.append(process)
        return found

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextlib.contextmanager
def serving(
    model: Model,
    runtime: str,
    deadline_s: float = 120,
    cores: frozenset[int] | None = None,
    *,
    port: int | None = None,
    shipped: bool = False,
    environment: Mapping[str, str] | None = None,
    key: str | None = None,
    **settings: str,
) -> Iterator[Service]:
    """Serve `model` until the block ends.

    Args:
        model: what requests are answered with.
        runtime: a value of SERVICE_RUNTIME.
        deadline_s: for the first response.
        cores: that the service may use; None: all.
        port: to listen on; None: a free one.
        shipped: whether the service has all shipped models, or this one alone.
        environment: more variables.
        key: of requests; None: they need none.
        settings: more settings, by their names in lower case.

    Raises:
        NotRunning: it exits, or does not respond within `deadline_s` seconds.
    """
    port = port or free_port()
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")
    }
    variables = inherited | {
        "SERVICE_PORT": str(port),
        "SERVICE_MODELS_DIR": str(model.repository if shipped else alone(model)),
        "SERVICE_DEFAULT_MODEL": model.name,
        "SERVICE_RUNTIME": runtime,
        "SERVICE_QUEUE_SIZE": str(QUEUE_SIZE),
        **{f"SERVICE_{name.upper()}": value for name, value in settings.items()},
        **(environment or {}),
    }
    image = model.images[0].read_bytes()
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=partial(os.sched_setaffinity, 0, cores) if cores else None,
        )
        try:
            while not _responds(port, image, key):
                if process.poll() is not None or time.perf_counter() > started + deadline_s:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").splitlines()[-LINES_SHOWN:]
                    raise NotRunning("The service does not respond:\n" + "\n".join(lines))
                time.sleep(POLL_S)
            yield Service(process, port, time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait()


def _responds(port: int, image: bytes, key: str | None) -> bool:
    """Whether all models are loaded and an image is classified."""
    try:
        if requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code != 200:
            return False
        url = f"http://127.0.0.1:{port}/predict"
        headers = {"Content-Type": "image/jpeg"} | ({"X-API-Key": key} if key else {})
        return requests.post(url, image, headers=headers, timeout=60).status_code == 200
    except requests.RequestException:
        return False
