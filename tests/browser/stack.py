"""Chromium, and the stack under test: the real service and the real page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.frontend.servers import serve_models, serve_page

CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A moving test picture in place of a camera, without a question to the visitor.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
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


@contextmanager
def running(models: Path, logs: Path) -> Iterator[Stack]:
    """Serve `models` and the page until the block ends; their output goes to `logs`.

    Raises:
        RuntimeError: one of them does not start.
    """
    with serve_models(models, logs) as service, serve_page(service, logs) as page:
        yield Stack(page=page, service=service)


def chromium() -> str | None:
    """Path of Debian's Chromium, or None where it is not installed."""
    return shutil.which("chromium")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium without background requests."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS)
        )
        yield started
        started.close()
