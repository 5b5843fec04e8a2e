"""A cluster of two nodes and the service on one machine, over the same repository."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.service.conftest import Server, assert_ended, environment, free_port, serving
from tests.service.shipped import MODELS, ROOT

END_S = 60
MODEL = "cifar10-resnet20-pytorch"
ARGS = {
    "ingress_replicas": 2,
    "models": {MODEL: {"min_replicas": 2, "max_replicas": 2}},
    "others": {"models_per_replica": 1},
}
SETTINGS: dict[str, Any] = {"runtime_threads": 1, "watch_s": 0.5, "decode_workers": 1}


class OnRay:
    """The service on two nodes; `second` is the process that everything on the second one is of."""

    def __init__(self, repository: Path, folder: str) -> None:
        self.port = free_port()
        self._log = Path(folder, "log").open("w+")  # noqa: SIM115 - lives as long as the cluster
        options = {"port": self.port, "args": ARGS}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.deploy.ray.two_nodes", json.dumps(options)],
            cwd=ROOT,
            env={
                **environment(models_dir=repository, **SETTINGS),
                "PYTHONPATH": str(ROOT),
                # Ray's own files, among them the address of the last cluster that was started.
                "RAY_TMPDIR": folder,
                "RAY_AUTH_MODE": "disabled",
                "RAY_USAGE_STATS_ENABLED": "0",
                # Its processes are not nicer to others than the tests, and may take their time.
                "RAY_worker_niceness": "0",
                "RAY_enable_worker_prestart": "0",
                "RAY_prestart_worker_first_driver": "0",
                "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(END_S),
                "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": str(END_S),
                "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout is not None
        # The end of the process ends this, too.
        line = self.process.stdout.readline()
        assert line, self.log()
        self.second = psutil.Process(int(line))
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text()

    def close(self) -> None:
        self.client.close()
        processes = psutil.Process(self.process.pid).children(recursive=True)
        try:
            self.process.communicate(timeout=END_S)
        finally:
            self.process.kill()
            for process in processes:
                if process.is_running():
                    process.terminate()
            self._log.close()
        assert_ended(processes)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shipped model; tests add others."""
    root = tmp_path_factory.mktemp("ray-models")
    shutil.copytree(MODELS / MODEL, root / MODEL)
    (root / "default").write_text(f"{MODEL}\n")
    return root


@pytest.fixture(scope="session")
def on_ray(repository: Path) -> Iterator[OnRay]:
    with ExitStack() as stack:
        # The paths of its sockets have to be short.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-"))
        running = OnRay(repository, folder)
        stack.callback(running.close)
        yield running


@pytest.fixture(scope="session")
def alone(repository: Path) -> Iterator[Server]:
    with serving(models_dir=repository, **SETTINGS) as running:
        yield running
