"""One stack and one browser for all tests of this folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from tests.browser import stack
from tests.browser.pages import EVALUATED
from tests.service.shipped import MODELS

# The default of 5 s is too short on busy cores.
expect.set_options(timeout=90_000)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium; without it the tests are skipped, or fail with REQUIRE_BROWSER=1."""
    if stack.chromium() is None:
        reason = f"Chromium is not installed. As root: {stack.INSTALL}"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with stack.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(
    chromium: Browser,  # noqa: ARG001 - without a browser nothing is started
    both_root: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[stack.Stack]:
    """The service with two tiny models and one that was evaluated, and the page."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(both_root, root, dirs_exist_ok=True)
    shutil.copytree(MODELS / EVALUATED, root / EVALUATED)
    with stack.running(root, tmp_path_factory.mktemp("logs")) as started:
        yield started


class Watched:
    """A page of the browser that records errors, warnings and requests to other hosts."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        # Streamlit looks for its server below the address of a view first, and then at the root.
        expected = "/_stcore/" in message.location["url"] and "404" in message.text
        if message.type in ("error", "warning") and not expected:
            self.complaints.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        # The page has to work without the internet.
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            self.complaints.append(f"request to another host: {request.url}")


@pytest.fixture
def watched(chromium: Browser) -> Iterator[Watched]:
    """A desktop-sized page; the test fails if it recorded a complaint."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(60_000)
    seen = Watched(context.new_page())
    yield seen
    context.close()
    assert seen.complaints == []
