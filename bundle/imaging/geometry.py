"""Decoded image to model input: the resize and crop that training, evaluation and serving share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from bundle.format.manifest import Input, ShorterSide

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def prepare(pixels: npt.NDArray[np.uint8], input: Input) -> npt.NDArray[np.uint8]:  # noqa: A002
    """Resize and crop an image to the input size of a model.

    Resampling is Pillow's, whose filters widen with the reduction (antialias). An image that has
    the size already passes through unchanged.

    Args:
        pixels: uint8 [H, W, 3].
        input: The geometry of the model.

    Returns:
        uint8 [input.height, input.width, 3], contiguous; shares no memory with `pixels`.

    Raises:
        ValueError: `pixels` has another shape or dtype.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(
            f"Expected uint8 pixels [H, W, 3]. Received: {pixels.dtype} {list(pixels.shape)}"
        )
    height, width = _resized(pixels.shape[0], pixels.shape[1], input)
    if (height, width) != pixels.shape[:2]:
        image = Image.fromarray(np.ascontiguousarray(pixels), "RGB")
        pixels = np.asarray(image.resize((width, height), _FILTERS[input.resize.interpolation]))
    top = (height - input.crop.height) // 2
    left = (width - input.crop.width) // 2
    return pixels[top : top + input.crop.height, left : left + input.crop.width].copy(order="C")


def _resized(height: int, width: int, input: Input) -> tuple[int, int]:  # noqa: A002
    """(height, width) after the resize rule; the longer side rounds half up, in integers."""
    rule = input.resize
    if not isinstance(rule, ShorterSide):
        return rule.height, rule.width
    short = min(height, width)
    resized_height = (2 * height * rule.size + short) // (2 * short)
    resized_width = (2 * width * rule.size + short) // (2 * short)
    return resized_height, resized_width
