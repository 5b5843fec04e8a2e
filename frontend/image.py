"""Words for how the service read an image."""

from __future__ import annotations

from frontend.responses import ImageRead
from frontend.words import Words

_ORIENTATION = "exif_orientation_"


def stored_as(size: int, read: ImageRead, words: Words) -> str:
    """Format, size and mode as stored; `size` is in bytes."""
    pixels = words("{width} by {height} pixels", width=read.width, height=read.height)
    return f"{read.format} · {pixels} · {read.mode} · {words.file_size(size)}"


def operation_text(operation: str, words: Words) -> str:
    """One decoding step on the way to upright RGB pixels, in words."""
    if operation.startswith(_ORIENTATION):
        return words("turned upright")
    return {
        "bilevel_to_rgb": words("black and white spread over three channels"),
        "cmyk_to_rgb": words("CMYK converted to RGB"),
        "alpha_over_white": words("transparent parts laid over white"),
        "16_bit_to_8_bit": words("16 bits per channel reduced to 8"),
        "grey_to_rgb": words("grey spread over three channels"),
        "palette_to_rgb": words("palette resolved to RGB"),
        "decoded_at_1_2": words("decoded at half its size"),
        "decoded_at_1_4": words("decoded at a quarter of its size"),
        "decoded_at_1_8": words("decoded at an eighth of its size"),
    }.get(operation, operation.replace("_", " "))
