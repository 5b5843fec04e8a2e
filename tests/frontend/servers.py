"""The service and the page as real processes on free loopback ports."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_S = 280.0  # two frameworks load at the same time, perhaps on busy cores


@contextmanager
def serve_models(models: Path, logs: Path, url: str | None = None) -> Iterator[str]:
    """Run the service with the repository `models`, at a free URL or at `url`, which it yields.

    Raises:
        RuntimeError: it exits or is not ready in time; with the end of the log.
    """
    url = url or free_url()
    with serve(
        [sys.executable, "-m", "service"],
        {
            "SERVICE_LOAD_TIMEOUT_S": "270",
            "SERVICE_MODELS_DIR": str(models),
            "SERVICE_PORT": url.rsplit(":", 1)[1],
        },
        logs / "service.log",
        f"{url}/readyz",
    ):
        yield url


@contextmanager
def serve_page(service: str, logs: Path, url: str | None = None) -> Iterator[str]:
    """Run the page for the service at `service`, which need not exist, at a free URL or at `url`.

    It yields the page's URL.

    Raises:
        RuntimeError: as `serve_models`.
    """
    url = url or free_url()
    with serve(
        [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "frontend/app.py",
            "--server.port",
            url.rsplit(":", 1)[1],
        ],
        {"SERVICE_URL": service},
        logs / "page.log",
        f"{url}/_stcore/health",
    ):
        yield url


def free_url() -> str:
    """A loopback URL on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def serve(
    command: list[str], environment: dict[str, str], log: Path, answers: str
) -> Iterator[None]:
    """Run `command` until the block ends; it begins when the URL `answers` does.

    Raises:
        RuntimeError: as `serve_models`.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, answers, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    # A proxy in the environment is for the internet, not for loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with opener.open(url, timeout=5):
                return
        except (urllib.error.URLError, http.client.HTTPException, OSError) as exc:
            if isinstance(exc, urllib.error.HTTPError):
                exc.close()
            time.sleep(0.25)
    raise RuntimeError(
        f"{url} does not respond. The log ends:\n{log.read_text(errors='replace')[-4000:]}"
    )
