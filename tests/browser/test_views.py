"""Compare, Many pictures, Models and Status in a real browser, and what holds for every view."""

from __future__ import annotations

import re
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from tests.browser import stack
from tests.browser.conftest import Watched
from tests.browser.pages import (
    EVALUATED,
    NOT_SIDEWAYS,
    WIDTHS,
    answer,
    answered,
    choose,
    faults,
    hand_over,
    resize,
    switch,
)
from tests.bundles import colour_picture, png

VIEWS = {
    "": ".panel[aria-busy=false]",
    f"?model={EVALUATED}&sample=galaxies": ".panel[aria-busy=false] .unsure",
    "compare": ".panel[aria-busy=false] table",
    "many": ".drop button",
    f"models?model={EVALUATED}&version=1": "[data-testid=stVegaLiteChart] svg",
    "status": "h1",
}


def test_two_models_are_compared_in_one_table(watched: Watched, served: stack.Stack) -> None:
    page = watched.page
    page.goto(f"{served.page}/compare")

    table = page.get_by_role("table")
    expect(table.get_by_role("columnheader")).to_have_count(2)
    hand_over(page, "drop", "green.png", png(colour_picture("green")), "image/png")
    expect(answer(page)).to_have_text("Both say green")
    expect(page.get_by_alt_text("green.png")).to_be_visible()


def test_the_picture_of_one_view_is_that_of_the_others(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(f"{served.page}/compare?sample=coffee")
    expect(page.get_by_role("table")).to_be_visible()

    switch(page, "Classify", "")

    expect(page.get_by_alt_text("A cup of coffee")).to_be_visible()


def test_sixty_files_are_answered_filtered_and_downloaded(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(f"{served.page}/many")
    files: list[FilePayload] = [
        {"name": f"{n}.png", "mimeType": "image/png", "buffer": tile(n)} for n in range(59)
    ]
    files.append({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"not a picture"})

    page.locator("input[type=file]").first.set_input_files(files)

    expect(page.get_by_role("heading", name=re.compile("60 pictures"))).to_be_visible()
    expect(page.locator(".tile")).to_have_count(48)
    page.get_by_text("refused 1", exact=True).click()
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator(".tile")).to_contain_text("not a picture")
    expect(page.locator(".tile .path")).to_have_text("notes.txt")
    expect(page.locator(".tile")).to_have_attribute("title", re.compile("^notes.txt\nThis is not"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert len(download.value.path().read_text().splitlines()) == 61
    page.get_by_text("all 60", exact=True).click()
    expect(page.locator(".tile")).to_have_count(48)
    page.locator(".tile").first.click()
    expect(page.get_by_alt_text("0.png")).to_be_visible()


def tile(number: int) -> bytes:
    out = BytesIO()
    Image.new("RGB", (40, 40), (number, 255 - number, 80)).save(out, "PNG")
    return out.getvalue()


def test_folders_that_are_named_like_labels_give_an_accuracy(
    watched: Watched, served: stack.Stack, tmp_path: Path
) -> None:
    for label, shown in (("red", "red"), ("green", "green"), ("blue", "green")):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(png(colour_picture(shown)))
    page = watched.page
    page.goto(f"{served.page}/many")

    page.locator("input[type=file]").nth(1).set_input_files(tmp_path)

    expect(page.get_by_text("66.7 % right")).to_be_visible()
    page.get_by_text("wrong 1", exact=True).click()
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator(".tile")).to_contain_text("folder: blue")


def test_models_and_status_say_what_the_service_tells(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(f"{served.page}/models")
    expect(page.get_by_role("heading", level=1, name="tiny-one v1")).to_be_visible()

    switch(page, "Status", "status")

    expect(page.get_by_text("The service is ready: it answers.")).to_be_visible()
    expect(page.get_by_text("Pictures answered")).to_be_visible()
    page.goto(f"{served.page}/models?model={EVALUATED}&version=1&lang=de")
    expect(page.get_by_text("Es kennt 10 Klassen und antwortet mit einer davon")).to_be_visible()


@pytest.mark.parametrize("size", list(WIDTHS))
def test_no_view_scrolls_sideways_or_has_a_serious_fault(
    page: Page, served: stack.Stack, size: str
) -> None:
    resize(page, size)
    found = {}

    for path, sign in VIEWS.items():
        page.goto(f"{served.page}/{path}")
        expect(page.locator(sign).first).to_be_visible()
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
        page.wait_for_function(NOT_SIDEWAYS, arg=WIDTHS[size][0])
        levels = page.locator("h1, h2, h3").evaluate_all("all => all.map(h => +h.tagName[1])")
        assert levels[0] == 1, path
        assert all(b - a <= 1 for a, b in pairwise(levels)), path
        found[path] = faults(page)
    page.goto(served.page)
    answered(page)
    page.get_by_role("button", name="Use it from code").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    found["code"] = faults(page)
    page.keyboard.press("Escape")
    choose(page, "bad.png", b"%PDF-1.7 not an image at all")
    expect(page.locator(".frame .refusal")).to_be_visible()
    found["refused"] = faults(page)

    assert not any(found.values()), found
