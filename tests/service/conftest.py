"""The service as a process on a free port, as `python -m service` runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

READY_TIMEOUT_S = 240

Running = TypeVar("Running", bound="Server")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests that are coroutines run on asyncio, as the service does."""
    return "asyncio"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**settings: Any) -> dict[str, str]:
    """This process's environment, with `models_dir=...` as SERVICE_MODELS_DIR and so on."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")
    }
    return {
        **inherited,
        **{f"SERVICE_{name.upper()}": str(value) for name, value in settings.items()},
    }


def assert_ended(processes: list[psutil.Process]) -> None:
    """They end; a zombie that only waits to be reaped has ended."""
    deadline = time.monotonic() + 60
    while alive := [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, f"processes are left behind: {alive}"
        time.sleep(0.1)


class Server:
    """A running service, started by the command `prefix` if there is one.

    With `trusted` its client trusts these certificates, and speaks HTTPS.
    """

    def __init__(
        self, prefix: Sequence[str] = (), trusted: ssl.SSLContext | None = None, **settings: Any
    ) -> None:
        self.port = free_port()
        self.url = f"{'https' if trusted else 'http'}://127.0.0.1:{self.port}"
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115 - lives as long as the server
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "service"],
            env=environment(port=self.port, **settings),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.client = httpx.Client(base_url=self.url, timeout=60, verify=trusted or True)

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def wait(
        self, condition: Callable[[], bool], what: str, timeout_s: float = READY_TIMEOUT_S
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            assert self.process.poll() is None, self.log()
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"not {what} after {timeout_s} s\n{self.log()}"
            time.sleep(0.05)

    def wait_ready(self) -> None:
        self.wait(lambda: self.client.get("/readyz").status_code == 200, "ready")

    def predict(self, data: bytes, **query: Any) -> httpx.Response:
        return self.client.post("/predict", params=query, files={"file": ("image", data)})

    def tree(self) -> list[psutil.Process]:
        """The service and all its processes."""
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def worker_pids(self) -> dict[str, int]:
        """Bundle folder → process that holds its model."""
        found = {}
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                command = process.cmdline()
                if "bundle.worker" in command:
                    found[json.loads(command[-1])["bundle"]] = process.pid
        return found

    def metric(self, name: str) -> float:
        """Sum over the models of a metric, by its name in the text of `/metrics`."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))

    def wait_queued(self, images: int) -> None:
        """Until this number of images is being decoded or waits for a forward pass."""
        self.wait(lambda: self.metric("resnet_queue_images") == images, f"{images} queued", 60)

    def wait_in_flight(self, images: int) -> None:
        """Until this number of images has been sent to the models, from the start on."""
        self.wait(lambda: self.metric("resnet_batch_images_sum") == images, f"{images} sent", 60)

    def wait_closed(self) -> None:
        """Until it accepts no more connections."""

        def closed() -> bool:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                return True
            return False

        self.wait(closed, "closed", 60)

    def wait_logged(self, text: str) -> None:
        self.wait(lambda: text in self.log(), f"logged: {text}", 120)

    def memory(self) -> int:
        """Proportional set size of all processes, in bytes: shared pages count once."""
        total = 0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total

    def stop(self) -> int:
        """Stop it by SIGTERM and return its exit code; no process may be left."""
        processes = self.tree() if self.process.poll() is None else []
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert_ended(processes)
        return code

    def close(self) -> None:
        self.client.close()
        self._log.close()


def refused_start(**settings: Any) -> str:
    """The line on standard error of a service that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    return line


@contextmanager
def stopped_at_the_end(server: Running, *, ready: bool) -> Iterator[Running]:
    """A service that has been started."""
    try:
        if ready:
            server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
        server.close()


@contextmanager
def serving(
    *,
    ready: bool = True,
    prefix: Sequence[str] = (),
    trusted: ssl.SSLContext | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """A service with these settings, stopped at the end."""
    with stopped_at_the_end(Server(prefix, trusted, **settings), ready=ready) as server:
        yield server


@pytest.fixture(scope="session")
def server(both_root: Path) -> Iterator[Server]:
    """A service with both tiny models, for tests that do not change it."""
    with serving(models_dir=both_root) as running:
        yield running


@pytest.fixture(scope="session")
def caching_server(quick_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a response cache and its own repository, which tests may change."""
    root = shutil.copytree(quick_root, tmp_path_factory.mktemp("caching") / "models")
    with serving(models_dir=root, runtime_threads=1, cache_mb=1) as running:
        yield running
