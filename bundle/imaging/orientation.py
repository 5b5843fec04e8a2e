"""EXIF orientation: read it from an opened image, and turn pixels upright."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

_ORIENTATION = 0x0112
# Orientations other than upright.
_TURNED = range(2, 9)


def upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """`pixels` [H, W, 3] turned by an EXIF orientation 1 to 8, contiguous."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels)


def exif_orientation(image: Image.Image) -> int:
    """Orientation 1 to 8; 1 for an image without EXIF and for EXIF that cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - malformed EXIF can raise anything; the pixels are good
        return 1
    return value if isinstance(value, int) and value in _TURNED else 1


def tiff_orientation(image: Image.Image) -> int:
    """Orientation 1 to 8 of an opened TIFF, from its own tag."""
    value = getattr(image, "tag_v2", {}).get(_ORIENTATION, 1)
    return value if isinstance(value, int) and value in _TURNED else 1
