"""What the tests of the page do in a browser, and the faults that axe-core finds."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Locator, Page, expect

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


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


def faults(page: Page, axe: Path) -> list[str]:
    """Serious and critical faults that axe-core finds on the page."""
    page.evaluate(axe.read_text())
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
