"""Split many images into batches that fit into one forward pass, for training and measuring."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

MAX_IMAGES = 250
MAX_PIXELS = 2**22
"""Of all images of a batch together."""


def in_batches(pixels: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Split uint8 [N, H, W, 3] into batches, smaller ones for large images, to bound the memory."""
    size = max(1, min(MAX_IMAGES, MAX_PIXELS // (pixels.shape[1] * pixels.shape[2])))
    for start in range(0, len(pixels), size):
        yield pixels[start : start + size]
