"""Synthetic photos in the sizes that cameras and the web have, for there are no real ones to ship."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> bytes:
    """A JPEG of quality 90 with structure at every scale, as photos have."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128.0)
    side = 4
    while side < max(width, height):
        coarse = random.normal(0, 90 / side**0.5, (side * height // width + 1, side, 3))
        layers = [
            Image.fromarray(coarse[..., channel].astype(np.float32)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
            for channel in range(3)
        ]
        pixels += np.stack([np.asarray(layer) for layer in layers], axis=-1)
        side *= 2
    content = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
    return content.getvalue()
