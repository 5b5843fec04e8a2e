"""The image that the visitor chose, and the words for how the service read it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from frontend.responses import ImageRead

_OPERATIONS = {
    "bilevel_to_rgb": "black and white spread over three channels",
    "cmyk_to_rgb": "CMYK converted to RGB",
    "alpha_over_white": "transparent parts laid over white",
    "16_bit_to_8_bit": "16 bits per channel reduced to 8",
    "grey_to_rgb": "grey spread over three channels",
    "palette_to_rgb": "palette resolved to RGB",
    "decoded_at_1_2": "decoded at half its size",
    "decoded_at_1_4": "decoded at a quarter of its size",
    "decoded_at_1_8": "decoded at an eighth of its size",
}
_ORIENTATION = "exif_orientation_"


@dataclass(frozen=True)
class InputImage:
    """An encoded file, sent to the service as it is.

    Attributes:
        name: the file's or the sample's name.
        data: the file's bytes.
        alt: what it shows, in words; for an upload, its name.
        is_sample: it ships with the page, so it can be drawn before the service has checked it.
    """

    name: str
    data: bytes
    alt: str
    is_sample: bool

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def file_size(count: int) -> str:
    """Format a number of bytes; kB and MB are powers of ten, as in the service's limits."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def stored_as(image: InputImage, read: ImageRead) -> str:
    """Format, size and mode as stored."""
    pixels = f"{read.width} by {read.height} pixels"
    return f"{read.format} · {pixels} · {read.mode} · {file_size(len(image.data))}"


def operation_text(operation: str) -> str:
    """One decoding step on the way to upright RGB pixels, in words."""
    if operation.startswith(_ORIENTATION):
        return f"turned upright (EXIF orientation {operation.removeprefix(_ORIENTATION)})"
    return _OPERATIONS.get(operation, operation.replace("_", " "))
