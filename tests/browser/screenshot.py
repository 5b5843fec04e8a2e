"""Take the screenshots of the page for the README and the documentation.

    python -m tests.browser.screenshot     writes docs/images/page*.png, one or more of each view

Serves the models of this checkout, or those of the folder given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from frontend.samples import FOLDER, SAMPLES
from tests.browser import stack
from tests.browser.pages import WIDTHS, answered
from tests.frontend.servers import ROOT

IMAGES = ROOT / "docs" / "images"
WAIT = 90_000  # ms


def main() -> None:
    """Start the stack and save each view."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=WAIT)
    models = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "models"
    with TemporaryDirectory() as folder:
        logs = Path(folder)
        with stack.running(models, logs) as served, stack.browser() as browser:
            for name, (path, size, scheme, act) in SHOTS.items():
                page = _page(browser, size, scheme)
                page.goto(f"{served.page}/{path}")
                act(page)
                _save(page, IMAGES / f"{name}.png")
                page.close()


def _page(browser: Browser, size: str, scheme: str) -> Page:
    width, height = WIDTHS[size]
    return browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-GB",
        device_scale_factor=2 if size == "phone" else 1,
    )


def _looked(page: Page) -> None:
    answered(page)
    where = page.get_by_role("radio", name="Where it looked")
    if where.count():
        where.click()
        expect(page.locator(".light")).to_be_visible()


def _compared(page: Page) -> None:
    expect(page.locator(".panel[aria-busy=false]")).to_be_visible()


def _many(page: Page) -> None:
    files = [FOLDER / sample.file for sample in SAMPLES]
    page.locator("input[type=file]").first.set_input_files(files)
    expect(page.get_by_role("heading", name=f"{len(files)} pictures")).to_be_visible()


def _titled(page: Page) -> None:
    expect(page.locator("h1").last).to_be_visible()


SHOTS: dict[str, tuple[str, str, str, Callable[[Page], None]]] = {
    "page": ("?sample=coffee", "desktop", "light", answered),
    "page-looked": ("?sample=cat", "desktop", "dark", _looked),
    "page-unsure": ("?sample=galaxies", "desktop", "light", answered),
    "page-phone": ("?sample=cat", "phone", "light", answered),
    "page-compare": ("compare?sample=cat", "desktop", "light", _compared),
    "page-many": ("many", "desktop", "light", _many),
    "page-models": ("models", "desktop", "light", _titled),
    "page-status": ("status", "desktop", "dark", _titled),
}


def _save(page: Page, path: Path) -> None:
    expect(page.get_by_test_id("stStatusWidget")).to_have_count(0, timeout=WAIT)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=WAIT)
    page.mouse.move(2, 2)
    # Not a test: fonts and transitions settle in a moment.
    page.wait_for_timeout(1500)
    page.screenshot(path=path)
    # A palette of 256 colours is a third of the size and looks the same.
    with Image.open(path) as image:
        palette = image.convert("RGB").quantize(
            256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG
        )
    palette.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    main()
