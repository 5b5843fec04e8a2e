"""The documentation of the service in a browser, which holds it to its policy."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Watched
from tests.browser.stack import Stack


def test_the_documentation_shows_the_routes_and_can_try_one(
    watched: Watched, served: Stack
) -> None:
    page = watched.page
    page.goto(f"{served.service}/docs")
    page.get_by_text("Is the process alive?").click()
    page.get_by_role("button", name="Try it out").click()

    page.get_by_role("button", name="Execute").click()

    expect(page.get_by_text('"status": "alive"').first).to_be_visible()
