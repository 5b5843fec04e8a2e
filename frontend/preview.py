"""A small copy of the image for display; the models get the original file.

Browsers do not show TIFF, and show a CMYK JPEG in wrong colours. The copy is made only after the
service has accepted the file, so its limits (bytes, pixels, scans, time) hold here as well.
"""

from __future__ import annotations

from io import BytesIO

import pi_heif
from PIL import Image, ImageOps

# Pillow reads AVIF itself and HEIC with this plugin.
pi_heif.register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
MAX_SIDE = 960  # pixels; twice the width of the frame, for dense screens
MAX_PIXELS = 50_000_000


def preview(data: bytes, max_pixels: int = MAX_PIXELS, side: int = MAX_SIDE) -> bytes | None:
    """Return an upright RGB copy as PNG or JPEG bytes, at most `side` on the longer side.

    None if the file cannot be drawn here or has more than `max_pixels`.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as opened:
            if opened.width * opened.height > max_pixels:
                return None
            opened.draft("RGB", (side, side))
            upright = ImageOps.exif_transpose(opened)
            return _encoded(upright, side)
    # Pillow's decoders raise ValueError, TypeError, SyntaxError, struct.error and more.
    except Exception:  # noqa: BLE001
        return None


def _encoded(image: Image.Image, side: int) -> bytes:
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion to 8 bits clips instead of scaling.
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    image = image.convert("RGB")
    tiny = max(image.size) <= 64
    if tiny:
        # A browser blurs an enlarged 32-pixel image; whole pixels show what the model sees.
        image = image.resize((image.width * 8, image.height * 8), Image.Resampling.NEAREST)
    image.thumbnail((side, side))
    out = BytesIO()
    if tiny:
        image.save(out, "PNG")
    else:
        image.save(out, "JPEG", quality=88)
    return out.getvalue()
