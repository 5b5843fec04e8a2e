"""One stack and one browser for all tests of this folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect

from tests.browser import stack
from tests.browser.pages import EVALUATED, TINY, resize
from tests.bundles import make_torch_bundle
from tests.service.shipped import MODELS

# The default of 5 s is too short on busy cores.
expect.set_options(timeout=90_000)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Chromium; without it the tests are skipped, or fail with REQUIRE_BROWSER=1."""
    if stack.chromium() is None:
        reason = f"Chromium is not installed. As root: {stack.INSTALL}"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with stack.browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two tiny models and one that was evaluated."""
    root = tmp_path_factory.mktemp("models")
    for name in TINY:
        make_torch_bundle(root, name)
    shutil.copytree(MODELS / EVALUATED, root / EVALUATED)
    (root / "default").write_text(f"{TINY[0]}\n")
    return root


@pytest.fixture(scope="package")
def served(
    chromium: Browser,  # noqa: ARG001 - without a browser nothing is started
    models: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[stack.Stack]:
    """The service with these models, and the page."""
    with stack.running(models, tmp_path_factory.mktemp("logs")) as started:
        yield started


@pytest.fixture(scope="package")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """What the tests share of the browser: its cache, so that it reads the scripts once."""
    with chromium.new_context(permissions=["camera"]) as context:
        context.set_default_timeout(60_000)
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page of desktop size, in light."""
    page = context.new_page()
    page.emulate_media(color_scheme="light")
    resize(page, "desktop")
    yield page
    page.close()


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
def watched(page: Page) -> Iterator[Watched]:
    """The page; the test fails if it recorded a complaint."""
    seen = Watched(page)
    yield seen
    assert seen.complaints == []
