"""Classify in a real browser while the service, or the page itself, goes and comes back."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser import stack
from tests.browser.pages import answer, answered, choose, hand_over, photo
from tests.frontend.servers import free_url, serve_models, serve_page


def test_an_outage_keeps_the_picture_and_is_over_by_itself(
    chromium: Browser, both_root: Path, tmp_path: Path
) -> None:
    service = free_url()
    context = chromium.new_context()
    page = context.new_page()
    with serve_page(service, tmp_path) as url:
        page.goto(url)
        expect(answer(page)).to_have_text("The service is away")
        choose(page, "mine.jpg", photo())
        expect(page.get_by_alt_text("mine.jpg")).to_be_visible()
        expect(page.locator(".panel")).to_contain_text("Your picture is kept.")
        expect(page.locator(".panel")).not_to_contain_text("make")
        page.get_by_role("link", name="Status").click()
        # The elements of Classify stay until those of Status have come.
        expect(page.get_by_text("Your picture is kept.")).to_have_count(0)
        expect(page.get_by_text("The service is away")).to_be_visible()
        for view in ("Compare", "Classify"):
            page.get_by_role("link", name=view).click()
            expect(page.get_by_alt_text("mine.jpg")).to_be_visible()
            expect(page.locator(".panel")).to_contain_text("Your picture is kept.")

        with serve_models(both_root, tmp_path, url=service):
            answered(page)
            expect(page.get_by_alt_text("mine.jpg")).to_be_visible()

        page.get_by_role("button", name="The face of a tabby cat").click()
        expect(answer(page)).to_have_text("The service is away")
        expect(page.get_by_alt_text("The face of a tabby cat")).to_be_visible()
    context.close()


def test_a_restart_of_the_page_gets_the_picture_of_an_open_tab_again(
    chromium: Browser, served: stack.Stack, tmp_path: Path
) -> None:
    context = chromium.new_context()
    page = context.new_page()
    with serve_page(served.service, tmp_path) as url:
        page.goto(url)
        answered(page)
        choose(page, "mine.jpg", photo())
        expect(page.locator(".frame img[src^='data:'][alt='mine.jpg']")).to_be_visible()
    lost = page.get_by_text("Connection error")
    expect(lost).to_be_visible()
    with serve_page(served.service, tmp_path, url):
        expect(lost).to_have_count(0)
        page.get_by_role("link", name="Models").click()
        expect(page.locator(".scene")).to_have_count(0)
        page.get_by_role("link", name="Classify").click()
        # The page's own copy of it, not the browser's drawing: the new process has the file.
        expect(page.locator(".frame img[src^='data:'][alt='mine.jpg']")).to_be_visible()
        answered(page)

        hand_over(page, "drop", "next.jpg", photo(), "image/jpeg")
        expect(page.locator(".frame img[src^='data:'][alt='next.jpg']")).to_be_visible()
        answered(page)
    context.close()
