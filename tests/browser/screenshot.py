"""Take the screenshots of the page for the README.

    python -m tests.browser.screenshot     writes docs/images/page.png and docs/images/compare.png

Serves the shipped models, or tiny ones if there are none.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import stack
from tests.frontend.servers import ROOT

IMAGES = ROOT / "docs" / "images"
WIDTH = 1280
WAIT = 90_000  # ms


def main() -> None:
    """Start the stack and save both views."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        logs = Path(folder)
        with stack.running(ROOT / "models", logs) as served, stack.browser() as browser:
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
            page.goto(served.page)
            expect(page.get_by_text("All models of the service")).to_be_visible(timeout=WAIT)
            page.get_by_role("button", name="Coffee", exact=True).click()
            _save(page, "One model", IMAGES / "page.png")
            _save(page, "Compare models", IMAGES / "compare.png")


def _save(page: Page, tab: str, path: Path) -> None:
    page.get_by_role("tab", name=tab).click()
    expect(page.get_by_text("coffee.jpg", exact=True)).to_be_visible(timeout=WAIT)
    expect(page.locator("[data-testid=stVegaLiteChart]:visible path").first).to_be_visible(
        timeout=WAIT
    )
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=WAIT)
    page.mouse.move(2, 2)
    # Streamlit scrolls inside the page, so the window grows to the height of the content.
    end = page.get_by_text("All models of the service").bounding_box()
    assert end is not None
    scrolled = page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop")
    page.set_viewport_size({"width": WIDTH, "height": int(end["y"] + scrolled + 70)})
    # Not a test: the charts redraw after the resize, and a moment is enough for a screenshot.
    page.wait_for_timeout(1500)
    page.screenshot(path=path)
    # A palette of 256 colours is a third of the size and looks the same.
    with Image.open(path) as image:
        palette = image.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    palette.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    main()
