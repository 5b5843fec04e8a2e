"""JPEG decoding with libjpeg-turbo: Pillow's pixels without its copies, and scaled on request."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import simplejpeg

FACTORS = (8, 4, 2)
"""Reductions that libjpeg-turbo has fast inverse transforms for."""
GAP = 3
"""A reduced image keeps at least this many times the pixels needed on its shorter side, so that the
resize rule still reduces it, with antialiasing. With 2, as in Pillow's `Image.thumbnail`, a network
loses 0.9 points of accuracy, with 3 it loses 0.1 (`python -m benchmarks.decoders`)."""


def reduction(width: int, height: int, shorter_side: int | None, *, turned: bool = False) -> int:
    """The factor, 1, 2, 4 or 8, by which an image of `width` x `height` may be decoded smaller.

    Where it doesn't divide a side, the last row or column stands for less than the others. In an
    image that is `turned` it would become the first, so there it divides both.
    """
    if shorter_side is None:
        return 1
    enough = (f for f in FACTORS if min(width, height) >= f * GAP * shorter_side)
    return next((f for f in enough if not turned or width % f == height % f == 0), 1)


def decode(data: bytes, width: int, height: int, factor: int) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG file at 1/`factor` of its size.

    Returns:
        uint8 [height / factor, width / factor, 3] RGB, both sides rounded up. None where Pillow has
        to decide: a colour space other than YCbCr and grey, any warning of libjpeg-turbo (a
        truncated file, for one), and a size other than `width` x `height`.
    """
    rows, columns = -(-height // factor), -(-width // factor)
    try:
        found_height, found_width, colour, _ = simplejpeg.decode_jpeg_header(data, strict=True)
        if colour not in ("YCbCr", "Gray") or (found_height, found_width) != (height, width):
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=rows, min_width=columns, min_factor=1, strict=True
        )
    except ValueError:
        return None
    return pixels if pixels.shape == (rows, columns, 3) else None
