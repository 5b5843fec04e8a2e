"""Classify in a real browser while the service, or the page itself, goes and comes back."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import FilePayload, Page, expect

from tests.browser import stack
from tests.browser.pages import (
    WIDTHS,
    answer,
    answered,
    choose,
    faults,
    hand_over,
    photo,
    resize,
    switch,
)
from tests.frontend.servers import free_url, serve_models, serve_page


def test_an_outage_keeps_the_picture_and_is_over_by_itself(
    page: Page, models: Path, tmp_path: Path
) -> None:
    service = free_url()
    with serve_page(service, tmp_path) as url:
        page.goto(url)
        expect(answer(page)).to_have_text("The service is away")
        choose(page, "mine.jpg", photo())
        expect(page.get_by_alt_text("mine.jpg")).to_be_visible()
        expect(page.locator(".panel")).to_contain_text("Your picture is kept.")
        expect(page.locator(".panel")).not_to_contain_text("make")
        found = {"classify": faults_at_both_widths(page)}
        switch(page, "Status", "status")
        expect(page.get_by_test_id("stAlert")).to_contain_text("The service is away")
        expect(page.get_by_text("Your picture is kept.")).to_have_count(0)
        found["status"] = faults_at_both_widths(page)
        for view, path in (("Compare", "compare"), ("Classify", "")):
            switch(page, view, path)
            expect(page.get_by_alt_text("mine.jpg")).to_be_visible()
            expect(page.locator(".panel")).to_contain_text("Your picture is kept.")

        with serve_models(models, tmp_path, url=service):
            answered(page)
            expect(page.get_by_alt_text("mine.jpg")).to_be_visible()

        page.get_by_role("button", name="The face of a tabby cat").click()
        expect(answer(page)).to_have_text("The service is away")
        expect(page.get_by_alt_text("The face of a tabby cat")).to_be_visible()
    assert not any(found.values()), found


def faults_at_both_widths(page: Page) -> list[str]:
    found = []
    for size in reversed(WIDTHS):
        resize(page, size)
        found += faults(page)
    return found


def test_a_restart_of_the_page_gets_the_pictures_of_an_open_tab(
    page: Page, served: stack.Stack, tmp_path: Path
) -> None:
    lost = page.get_by_role("dialog", name="Connection error")
    with serve_page(served.service, tmp_path) as url:
        page.goto(url)
        answered(page)
        choose(page, "mine.jpg", photo())
        kept(page, "mine.jpg")
        switch(page, "Many pictures", "many")
        expect(page.locator(".drop button").first).to_be_enabled()
    expect(lost).to_be_visible()
    # Both are brought in while nothing listens, and sent when something does.
    files: list[FilePayload] = [
        {"name": name, "mimeType": "image/jpeg", "buffer": photo()} for name in ("1.jpg", "2.jpg")
    ]
    page.locator("input[type=file]").first.set_input_files(files)
    with serve_page(served.service, tmp_path, url):
        expect(page.get_by_role("heading", name="2 pictures")).to_be_visible()
        switch(page, "Classify", "")
        kept(page, "mine.jpg")
        hand_over(page, "drop", "next.jpg", photo(), "image/jpeg")
        kept(page, "next.jpg")
    expect(lost).to_be_visible()
    hand_over(page, "drop", "last.jpg", photo(), "image/jpeg")
    with serve_page(served.service, tmp_path, url):
        kept(page, "last.jpg")


def kept(page: Page, name: str) -> None:
    """Wait for the page's own copy, not the browser's drawing: the process has the file."""
    expect(page.locator(f".frame img[src^='data:'][alt='{name}']")).to_be_visible()
    answered(page)
