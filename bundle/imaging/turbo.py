"""JPEG through libjpeg-turbo's own interface: Pillow's pixels to the bit, without its copies, and scaled on request."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import simplejpeg

FACTORS = (8, 4, 2)
"""Reductions that libjpeg-turbo has fast inverse transforms for."""
GAP = 3
"""A reduced picture keeps at least this many times the pixels that are needed on its shorter side, so that what is left
to the resize rule is still a reduction, with its antialiasing. With 2, as in Pillow's ``Image.thumbnail``, a network
loses 0.9 points of accuracy, with 3 it loses 0.1 (``python -m benchmarks.decoders``)."""


def reduction(width: int, height: int, shorter_side: int | None) -> int:
    """The factor, 1, 2, 4 or 8, by which a picture of ``width`` x ``height`` pixels may be decoded smaller.

    It divides both sides: a last row or column that stands for half a pixel would shift the picture.
    """
    if shorter_side is None:
        return 1
    enough = (f for f in FACTORS if min(width, height) // f >= GAP * shorter_side)
    return next((f for f in enough if width % f == height % f == 0), 1)


def decode(data: bytes, width: int, height: int, factor: int) -> npt.NDArray[np.uint8] | None:
    """uint8 [height / factor, width / factor, 3] RGB of a JPEG file; None where Pillow has to judge.

    That is what is neither YCbCr nor grey, what libjpeg-turbo so much as warns about (a truncated file, for one),
    and a size other than the expected one.
    """
    rows, columns = height // factor, width // factor
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
