"""The real service and the real page on free loopback ports, and Chromium to look at them."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
START_S = 150.0
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
INSTALL = "apt-get update && apt-get install -y chromium"


@dataclass(frozen=True)
class Stack:
    """Two running servers.

    Attributes:
        page: URL of the page.
        service: URL of the service.
    """

    page: str
    service: str


def shipped_models() -> Path | None:
    """The repository that ships with the project, once it holds the two models that the page compares."""
    root = ROOT / "models"
    return root if len(list(root.glob("*/*/manifest.json"))) >= 2 else None


def chromium() -> str | None:
    """Path of Debian's Chromium, or None where it is not installed."""
    return shutil.which("chromium")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium that talks to nobody but the page."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        yield started
        started.close()


@contextmanager
def running(models: Path, logs: Path) -> Iterator[Stack]:
    """Serve `models` and the page until the block ends; what both print goes to `logs`.

    Raises:
        RuntimeError: with the end of the log, when a server ends or does not answer in time.
    """
    service, page = (f"http://127.0.0.1:{port}" for port in _free_ports(2))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (
        _process(
            [sys.executable, "-m", "service"],
            {**environment, "SERVICE_MODELS_DIR": str(models), "SERVICE_PORT": service.rsplit(":", 1)[1]},
            logs / "service.log",
            f"{service}/readyz",
        ),
        page_server(service, page, logs),
    ):
        yield Stack(page=page, service=service)


@contextmanager
def page_server(service: str, page: str, logs: Path) -> Iterator[None]:
    """The page at the URL `page`, asking the URL `service`, which need not exist."""
    command = [sys.executable, "-m", "streamlit", "run", "frontend/app.py"]
    with _process(
        [*command, "--server.port", page.rsplit(":", 1)[1]],
        {**os.environ, "PYTHONUNBUFFERED": "1", "SERVICE_URL": service},
        logs / "page.log",
        f"{page}/_stcore/health",
    ):
        yield


def free_url() -> str:
    """A loopback URL that nothing listens on now."""
    return f"http://127.0.0.1:{_free_ports(1)[0]}"


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in held]
    for server in held:
        server.close()
    return ports


@contextmanager
def _process(command: list[str], environment: dict[str, str], log: Path, answers: str) -> Iterator[None]:
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
    # A proxy named in the environment is for the internet, not for this machine's own servers.
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
    raise RuntimeError(f"{url} does not answer. The log ends:\n{log.read_text(errors='replace')[-4000:]}")
