"""The picture that the visitor chose, and the words about how the service read it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from frontend.answers import ImageRead

_DONE = {
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
class Picture:
    """An encoded file as chosen, never decoded for a model here.

    Attributes:
        name: the file's or the sample's name.
        data: the file's bytes.
        shows: what it shows, in words; for an upload nobody knows, so the name stands in.
        ours: whether it ships with the page, and so can be drawn before the service has checked it.
    """

    name: str
    data: bytes
    shows: str
    ours: bool

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes: the same file, whatever its name."""
        return hashlib.sha256(self.data).hexdigest()


def size(count: int) -> str:
    """Write a number of bytes; kB and MB are powers of ten, as in the service's limits."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def facts(picture: Picture, image: ImageRead) -> str:
    """Format, size and mode as stored."""
    return f"{image.format} · {image.width} by {image.height} pixels · {image.mode} · {size(len(picture.data))}"


def done(operation: str) -> str:
    """One step that the service took to get to upright RGB pixels, in words."""
    if operation.startswith(_ORIENTATION):
        return f"turned upright (EXIF orientation {operation.removeprefix(_ORIENTATION)})"
    return _DONE.get(operation, operation.replace("_", " "))
