"""The service over the bundles of this repository."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
SAMPLES = ROOT / "frontend/samples"
TEXT = (
    "The quick brown fox jumps over the lazy dog. Each line of this page is text, and no line of "
    "it shows a thing that a network for photographs has learnt."
)


def page_of_text() -> bytes:
    """A page of black text on white, as PNG."""
    page = Image.new("RGB", (600, 800), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(18)
    for line in range(26):
        draw.text((30, 20 + 29 * line), TEXT[line * 2 : line * 2 + 60], "black", font)
    file = BytesIO()
    page.save(file, "PNG")
    return file.getvalue()
