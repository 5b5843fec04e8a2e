"""The page in a real browser, against the real service.

SCREENSHOT=page.png pytest tests/browser      saves a screenshot of the end of the first test
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import requests
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect

from tests.browser import stack
from tests.browser.conftest import Watched
from tests.frontend.servers import free_url, serve_page

BARS = "[data-testid=stVegaLiteChart] path[aria-roledescription=bar]"


def photo(kind: str = "JPEG", mode: str = "RGB") -> bytes:
    out = BytesIO()
    Image.effect_noise((160, 120), 40).convert("RGB").convert(mode).save(out, kind)
    return out.getvalue()


def drop(page: Page, name: str, data: bytes, mime: str) -> None:
    file: FilePayload = {"name": name, "mimeType": mime, "buffer": data}
    page.get_by_test_id("stFileUploaderDropzone").drop({"files": [file]})


def ready(page: Page) -> None:
    expect(page.get_by_text("All models of the service")).to_be_visible()


def classes(served: stack.Stack) -> int:
    models = requests.get(f"{served.service}/models", timeout=60).json()["models"]
    return min(5, *(int(model["classes"]) for model in models))


def test_a_dropped_photo_gets_labelled_bars(watched: Watched, served: stack.Stack) -> None:
    page, count = watched.page, classes(served)
    page.goto(served.page)
    ready(page)

    drop(page, "photo.jpg", photo(), "image/jpeg")

    expect(page.get_by_alt_text("Uploaded picture photo.jpg")).to_be_visible()
    expect(page.get_by_text("JPEG · 160 by 120 pixels")).to_be_visible()
    expect(page.locator(BARS)).to_have_count(count)
    texts = [page.locator(BARS).nth(bar).get_attribute("aria-label") or "" for bar in range(count)]
    assert all("Label: " in label and "%" in label for label in texts), texts
    page.get_by_text("As a table").click()
    expect(page.get_by_role("row")).to_have_count(count + 1)
    if path := os.environ.get("SCREENSHOT"):
        page.screenshot(path=Path(path), full_page=True)


def test_two_models_are_compared_side_by_side(watched: Watched, served: stack.Stack) -> None:
    page, count = watched.page, classes(served)
    page.goto(served.page)
    ready(page)

    page.get_by_role("tab", name="Compare models").click()

    expect(page.get_by_text("Same first label")).to_be_visible()
    expect(page.locator("[data-testid=stVegaLiteChart]:visible")).to_have_count(2)
    expect(page.locator(f"{BARS}:visible")).to_have_count(2 * count)
    expect(page.get_by_text("ms inference").or_(page.get_by_text("s inference"))).to_have_count(2)


def test_a_sample_and_another_model_are_chosen_with_the_keyboard(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(served.page)
    ready(page)

    page.get_by_role("button", name="Cat", exact=True).press("Enter")
    expect(page.get_by_text("turned upright (EXIF orientation 6)")).to_be_visible()
    page.get_by_role("combobox", name="Model").press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")

    expect(page.get_by_text("Keras / TensorFlow ·").first).to_be_visible()


def test_bad_files_are_explained(watched: Watched, served: stack.Stack) -> None:
    page = watched.page
    page.goto(served.page)
    ready(page)
    bad = {
        "unsupported_image_type": b"%PDF-1.7 not an image at all",
        "unreadable_image": photo()[:900],
    }

    for code, data in bad.items():
        drop(page, f"{code}.png", data, "image/png")

        expect(page.get_by_role("alert").filter(has_text=code)).to_be_visible()
        expect(
            page.get_by_text("It is shown here once the service has accepted it")
        ).to_be_visible()
        expect(page.get_by_text("Traceback")).to_have_count(0)


def test_formats_that_browsers_do_not_show_are_shown_as_a_copy(
    watched: Watched, served: stack.Stack
) -> None:
    page = watched.page
    page.goto(served.page)
    ready(page)

    for kind, mode in (("TIFF", "RGB"), ("JPEG", "CMYK")):
        name = f"odd.{kind.lower()}"
        drop(page, name, photo(kind, mode), f"image/{kind.lower()}")

        shown = page.get_by_alt_text(f"Uploaded picture {name}")
        expect(shown).to_be_visible()
        expect(page.get_by_text(f"{kind} · 160 by 120 pixels")).to_be_visible()
        assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 160


def test_a_file_over_the_limit_is_refused_before_it_is_sent(
    watched: Watched, served: stack.Stack, tmp_path: Path
) -> None:
    page = watched.page
    page.goto(served.page)
    ready(page)
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(photo() + bytes(22_000_000))

    page.locator("input[type=file]").set_input_files(huge)

    expect(page.get_by_text("must be 20.0MB or smaller")).to_be_visible()


def test_a_phone_needs_no_sideways_scrolling(chromium: Browser, served: stack.Stack) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto(served.page)
    ready(page)

    for tab in ("One model", "Compare models"):
        page.get_by_role("tab", name=tab).click()
        expect(page.locator("[data-testid=stVegaLiteChart]:visible").first).to_be_visible()
        assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390
    context.close()


def test_without_a_service_the_page_says_what_to_do(watched: Watched, tmp_path: Path) -> None:
    service = free_url()
    with serve_page(service, tmp_path) as url:
        watched.page.goto(url)

        alert = watched.page.get_by_role("alert")
        expect(alert).to_contain_text("The service is away")
        expect(alert).to_contain_text(service)
        expect(alert).to_contain_text("make serve")
        watched.page.goto("about:blank")
