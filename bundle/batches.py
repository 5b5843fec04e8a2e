"""Many images in parts, each small enough for one forward pass of a measurement."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

MOST_IMAGES = 250
MAX_PIXELS = 2**22  # of all images of a part together


def in_batches(pixels: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Parts of uint8 [N, H, W, 3] that a network can answer at once: of large images fewer, for the sake of memory."""
    size = max(1, min(MOST_IMAGES, MAX_PIXELS // (pixels.shape[1] * pixels.shape[2])))
    for start in range(0, len(pixels), size):
        yield pixels[start : start + size]
