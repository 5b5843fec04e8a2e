"""Classify in a real browser, against the real service.

SCREENSHOT=page.png pytest tests/browser      saves a screenshot of the end of the first test
"""

from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path

import pillow_heif
import pytest
import requests
from PIL import Image
from playwright.sync_api import Page, expect

from frontend.samples import SAMPLES
from tests.browser import stack
from tests.browser.conftest import Watched
from tests.browser.pages import (
    EVALUATED,
    NOT_SIDEWAYS,
    SCHEMES,
    WIDTHS,
    answer,
    answered,
    choose,
    hand_over,
    photo,
    pick,
    resize,
)

# Place of the left edge, name, and whether it is fixed, of what has the focus of the keyboard.
FOCUSED = """async () => {
    // The scroll towards it is done with the next frame.
    for (const _ of [1, 2]) await new Promise((resolve) => requestAnimationFrame(resolve));
    let found = document.activeElement;
    while (found.shadowRoot?.activeElement) found = found.shadowRoot.activeElement;
    const box = found.getBoundingClientRect();
    return [box.x + Math.min(8, box.width / 2), box.y + box.height / 2,
        (found.getAttribute("aria-label") ?? found.textContent).slice(0, 40),
        Boolean(found.closest(".tools"))];
}"""


def classes(served: stack.Stack) -> int:
    models = requests.get(f"{served.service}/models", timeout=60).json()["models"]
    return min(5, *(int(model["classes"]) for model in models))


def test_a_chosen_photo_is_drawn_and_answered_with_bars(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(served.page)
    answered(page)

    choose(page, "photo.jpg", photo())

    expect(page.get_by_alt_text("photo.jpg")).to_be_visible()
    answered(page)
    expect(page.locator(".bars li")).to_have_count(classes(served))
    page.locator("summary").click()
    expect(page.locator("details")).to_contain_text("JPEG · 160 by 120 pixels")
    # The link has no picture of the visitor.
    expect(page).not_to_have_url(re.compile("sample"))
    if path := os.environ.get("SCREENSHOT"):
        page.screenshot(path=Path(path), full_page=True)


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_may_be_dropped_or_pasted_anywhere(
    watched: Watched, served: stack.Stack, way: str
) -> None:
    page = watched.page
    page.goto(served.page)
    answered(page)

    hand_over(page, way, f"{way}.png", photo("PNG"), "image/png")

    expect(page.get_by_alt_text(f"{way}.png")).to_be_visible()
    answered(page)


def test_the_camera_gives_a_picture(page: Page, served: stack.Stack) -> None:
    page.goto(served.page)
    answered(page)

    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take the picture").click()

    expect(page.get_by_alt_text("photo.jpg")).to_be_visible()
    answered(page)


def test_a_sample_and_a_model_are_in_a_link_that_restores_them(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(served.page)
    answered(page)
    page.get_by_role("button", name="A rocket on its launch pad").press("Enter")
    expect(page.get_by_alt_text("A rocket on its launch pad at dusk")).to_be_visible()
    pick(page, "Model", "tiny-two v1")
    expect(page.locator("summary")).to_contain_text("tiny-two")
    link = page.url
    title = answer(page).inner_text()

    page.goto("about:blank")
    page.goto(link)

    expect(page.get_by_alt_text("A rocket on its launch pad at dusk")).to_be_visible()
    expect(page.locator("summary")).to_contain_text("tiny-two")
    assert answer(page).inner_text() == title


def test_a_set_of_labels_is_in_the_answer_the_link_and_the_code(
    watched: Watched, served: stack.Stack
) -> None:
    page, sample = watched.page, SAMPLES[0]
    asked = {"model": EVALUATED, "coverage": "0.99"}
    response = requests.post(
        f"{served.service}/predict", params=asked, data=sample.read(), timeout=60
    )
    labels = [each["label"] for each in response.json()["prediction_set"]["labels"]]
    page.goto(served.page)
    answered(page)
    # The tiny models have none.
    expect(page.get_by_role("combobox", name="Set of labels")).to_have_count(0)

    pick(page, "Model", f"{EVALUATED} v1")
    pick(page, "Set of labels", "99 %")

    said = page.locator(".meaning").last
    expect(said).to_have_text(re.compile(f"^In 99 % of the cases .*: {', '.join(labels)}[.] For"))
    page.get_by_role("button", name="Use it from code").click()
    expect(page.get_by_role("dialog")).to_contain_text("coverage=0.99")
    page.goto(f"{page.url}&lang=de")
    expect(said).to_have_text(re.compile(f"^In 99 % der Fälle .*: {', '.join(labels)}[.] Bei"))


def test_a_refused_file_clears_the_answer_and_says_why_where_the_picture_would_be(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(served.page)
    answered(page)
    bad = {
        "unsupported_image_type": b"%PDF-1.7 not an image at all",
        "unreadable_image": photo()[:900],
        "malformed_request": b"",
        "No code, as it is not sent": photo() + bytes(21_000_000),
    }

    for code, data in bad.items():
        choose(page, "bad.png", data)

        expect(page.locator(".frame .refusal")).to_be_visible()
        if "_" in code:
            expect(page.locator(".frame .refusal")).to_contain_text(code)
        expect(page.locator(".bars")).to_have_count(0)
        expect(page.locator(".stage")).to_have_count(0)
        page.get_by_role("button", name="The face of a tabby cat").click()
        answered(page)


def heic() -> bytes:
    out = BytesIO()
    pillow_heif.from_pillow(Image.effect_noise((160, 120), 40).convert("RGB")).save(out)
    return out.getvalue()


def test_kinds_that_browsers_do_not_show_are_drawn_as_a_copy(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(served.page)
    answered(page)
    kinds = {
        "odd.tiff": photo("TIFF"),
        "cmyk.jpg": photo("JPEG", "CMYK"),
        "phone.heic": heic(),
        "large.jpg": photo(size=(4000, 3000)),
    }

    for name, data in kinds.items():
        choose(page, name, data)

        shown = page.get_by_alt_text(name)
        expect(shown).to_be_visible()
        answered(page)
        assert shown.evaluate("image => image.naturalWidth") >= 160


def test_a_phones_first_screen_has_picture_answer_and_bars(page: Page, served: stack.Stack) -> None:
    width, height = WIDTHS["phone"]
    resize(page, "phone")
    page.goto(served.page)
    answered(page)

    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for place in (page.locator(".frame img"), answer(page), page.locator(".bars")):
            box = place.bounding_box()
            assert box is not None
            assert box["y"] >= 0
            # The bar of buttons at the bottom covers nothing of it.
            assert box["y"] + box["height"] <= height - 60
        page.wait_for_function(NOT_SIDEWAYS, arg=width)


def test_the_answer_is_reached_within_eight_stops_of_the_keyboard(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(served.page)
    answered(page)

    for _ in range(8):
        page.keyboard.press("Tab")
        if page.get_by_role("link", name="Skip to the answer").evaluate(
            "link => link.getRootNode().activeElement === link"
        ):
            break
    page.keyboard.press("Enter")

    assert answer(page).evaluate("title => title.getRootNode().activeElement === title")


def test_the_answer_is_announced(watched: Watched, served: stack.Stack) -> None:
    page = watched.page
    page.goto(served.page)
    answered(page)

    status = page.locator(".scene [role=status]")
    assert answer(page).inner_text() in status.inner_text()
    assert "%" in status.inner_text()


def test_code_can_be_copied_and_the_language_changed(watched: Watched, served: stack.Stack) -> None:
    page = watched.page
    page.goto(served.page)
    answered(page)

    page.get_by_role("button", name="Use it from code").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"{served.service}/predict")
    page.keyboard.press("Escape")
    page.get_by_label("Language").select_option("de")

    expect(page.get_by_role("button", name="Wählen …")).to_be_visible()
    expect(page).to_have_url(re.compile("lang=de"))


def test_the_keyboard_on_a_phone_stops_only_at_what_is_in_sight(
    page: Page, served: stack.Stack
) -> None:
    width, height = WIDTHS["phone"]
    resize(page, "phone")
    page.goto(served.page)
    answered(page)
    hidden = []

    for _ in range(24):
        page.keyboard.press("Tab")
        x, y, name, fixed = page.evaluate(FOCUSED)
        # The bar of buttons is 65 pixels high; its own buttons are the ones that are fixed.
        if not (0 <= x <= width and 0 <= y <= (height if fixed else height - 65)):
            hidden.append((name, x, y))

    assert hidden == []
