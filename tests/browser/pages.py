"""What the tests of the page do in a browser, and the faults that axe-core finds."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import axe_playwright_python
from PIL import Image
from playwright.sync_api import Locator, Page, expect

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# Until the last element is in its place, which may be after the first one is visible.
NOT_SIDEWAYS = "width => document.querySelector('[data-testid=stMain]').scrollWidth <= width"
TINY = ("tiny-one", "tiny-two")
# The shipped model among the tiny ones: it has a card, prediction sets, and is not sure at times.
EVALUATED = "cifar10-resnet20-pytorch"
# axe-core is under the MPL 2.0; the package brings it.
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"


def photo(kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (160, 120)) -> bytes:
    out = BytesIO()
    Image.effect_noise(size, 40).convert("RGB").convert(mode).save(out, kind)
    return out.getvalue()


def answer(page: Page) -> Locator:
    """The headline beside the picture."""
    return page.locator("[data-id=answer]")


def answered(page: Page) -> None:
    """Wait until there is an answer with bars."""
    expect(page.locator(".panel[aria-busy=false] .bars li").first).to_be_visible()


def choose(page: Page, name: str, data: bytes) -> None:
    """Choose a file, as by the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose …").click()
    chooser.value.set_files({"name": name, "mimeType": "image/x", "buffer": data})


def hand_over(page: Page, event: str, name: str, data: bytes, mime: str) -> None:
    """Drop a file on the page, or paste it: `event` is `drop` or `paste`."""
    page.evaluate(
        """([event, name, bytes, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(event === "drop"
                ? new DragEvent("drop", { ...options, dataTransfer: transfer })
                : new ClipboardEvent("paste", { ...options, clipboardData: transfer }));
        }""",
        [event, name, list(data), mime],
    )


def resize(page: Page, size: str) -> None:
    """Give the page one of `WIDTHS`."""
    width, height = WIDTHS[size]
    page.set_viewport_size({"width": width, "height": height})


def pick(page: Page, box: str, option: str) -> None:
    """Choose an option of a box of Streamlit."""
    page.get_by_role("combobox", name=box).click()
    page.get_by_role("option", name=option).click()


def switch(page: Page, view: str, path: str) -> None:
    """Open a view by its link; what is shown before its address is there is of the last one."""
    page.get_by_role("link", name=view).click()
    expect(page).to_have_url(re.compile(rf"//[^/]+/{path}(\?|$)"))


def faults(page: Page) -> list[str]:
    """Serious and critical faults that axe-core finds on the page, in light and in dark."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        dark = page.locator(":is(.corner, .scene, .many).dark")
        light = page.locator(":is(.corner, .scene, .many):not(.dark)")
        expect(light if scheme == "dark" else dark).to_have_count(0)
        violations: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
        found += [
            f"{scheme}, {each['id']}: {node['html'][:200]}"
            for each in violations
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
    return found
