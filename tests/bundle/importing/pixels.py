"""Random pixels, and normalisations in numpy that share no code with the import."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def pixels(size: int) -> npt.NDArray[np.uint8]:
    """Three images, uint8 [3, size, size, 3], each of another brightness."""
    noise = np.random.default_rng(7).integers(0, 120, (3, size, size, 3))
    brighter = noise + np.array([0, 60, 130])[:, None, None, None]
    found: npt.NDArray[np.uint8] = brighter.astype(np.uint8)
    return found


def scaled(
    values: npt.NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]
) -> npt.NDArray[np.float32]:
    """(values / 255 - mean) / std."""
    found: npt.NDArray[np.float32] = (values / 255 - np.array(mean)) / np.array(std)
    return found.astype(np.float32)
