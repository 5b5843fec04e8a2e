"""A small picture for the visitor's eyes. It never reaches a model: the service gets the file as it was chosen.

A browser shows no TIFF and a CMYK JPEG in odd colours, so the page shows a copy. The copy is made only after
the service has accepted the file, for then its limits (bytes, pixels, scans, time) hold here as well.
"""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_SIDE = 900  # pixels; twice the widest column of the page, for dense screens
MAX_PIXELS = 50_000_000


def preview(image: bytes) -> bytes | None:
    """Return an upright RGB copy as PNG or JPEG bytes, at most `MAX_SIDE` on the longer side.

    None where the page cannot draw the file; the answer of the service stands all the same.
    """
    try:
        with Image.open(BytesIO(image), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return None
            opened.draft("RGB", (MAX_SIDE, MAX_SIDE))
            upright = ImageOps.exif_transpose(opened)
            return _encoded(upright)
    except Exception:  # noqa: BLE001  Pillow's decoders raise ValueError, TypeError, SyntaxError, struct.error and more
        return None


def _encoded(picture: Image.Image) -> bytes:
    if picture.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion to 8 bits clips instead of scaling.
        picture = picture.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.new("RGBA", layer.size, "white")
        picture.alpha_composite(layer)
    picture = picture.convert("RGB")
    tiny = max(picture.size) <= 64
    if tiny:
        # A 32-pixel picture blown up by the browser is a blur; whole pixels are what the model sees.
        picture = picture.resize((picture.width * 8, picture.height * 8), Image.Resampling.NEAREST)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    out = BytesIO()
    if tiny:
        picture.save(out, "PNG")
    else:
        picture.save(out, "JPEG", quality=88)
    return out.getvalue()
