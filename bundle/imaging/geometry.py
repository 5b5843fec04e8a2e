"""Decoded image to model input: the resize and crop that training, evaluation and serving share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt
from PIL import Image

from bundle.format.manifest import Input, ShorterSide

if TYPE_CHECKING:
    from bundle.imaging.decode import ImageInfo

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# How far a filter reaches, in pixels of the smaller of both images (Pillow, Resample.c).
_SUPPORT = {
    Image.Resampling.NEAREST: 0.5,
    Image.Resampling.BILINEAR: 1.0,
    Image.Resampling.BICUBIC: 2.0,
    Image.Resampling.LANCZOS: 3.0,
}


# What `bundle.imaging.decode` says of EXIF orientations that exchange width and height.
_ON_ITS_SIDE = frozenset(f"exif_orientation_{value}" for value in range(5, 9))


class Seen(TypedDict):
    """The part of an image that became a model's input, in pixels of the upright image."""

    left: float
    top: float
    width: float
    height: float
    image_width: int  # of the upright image
    image_height: int
    input_width: int  # that the part is scaled to
    input_height: int
    crop: str  # the rule; whole: nothing is cut off


def seen(info: ImageInfo, input: Input) -> Seen:  # noqa: A002
    """What `read_input` keeps of an image: `prepare` and the EXIF orientation inverted.

    The filter of the resize reaches a little further. That a JPEG is decoded at a fraction of its
    size changes nothing.
    """
    width, height = info.width, info.height
    if not _ON_ITS_SIDE.isdisjoint(info.operations):
        width, height = height, width
    rows, columns = _resized(height, width, input)
    across, down = width / columns, height / rows
    return {
        "left": round((columns - input.crop.width) // 2 * across, 3),
        "top": round((rows - input.crop.height) // 2 * down, 3),
        "width": round(input.crop.width * across, 3),
        "height": round(input.crop.height * down, 3),
        "image_width": width,
        "image_height": height,
        "input_width": input.width,
        "input_height": input.height,
        "crop": "whole" if _is_whole(input) else input.crop.rule,
    }


def prepare(
    pixels: npt.NDArray[np.uint8],
    input: Input,  # noqa: A002
    extent: tuple[float, float] | None = None,
) -> npt.NDArray[np.uint8]:
    """Resize and crop an image to the input size of a model.

    Resampling is Pillow's, horizontally and then vertically, with filters that widen with the
    reduction (antialias). An image that has the size already passes through unchanged.

    Args:
        pixels: uint8 [H, W, 3].
        input: The geometry of the model.
        extent: Rows and columns that the image covers, where of the last ones only a part belongs
            to it, as in a JPEG decoded at a fraction of its size; None: all of `pixels`.

    Returns:
        uint8 [input.height, input.width, 3], contiguous; shares no memory with `pixels`.

    Raises:
        ValueError: `pixels` has another shape or dtype.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(
            f"Expected uint8 pixels [H, W, 3]. Received: {pixels.dtype} {list(pixels.shape)}"
        )
    rows, columns = extent or pixels.shape[:2]
    height, width = _resized(rows, columns, input)
    top = (height - input.crop.height) // 2
    left = (width - input.crop.width) // 2
    if (height, width) != pixels.shape[:2]:
        filter_ = _FILTERS[input.resize.interpolation]
        # Horizontally first, and then only what the crop keeps. Pillow does the same with all of
        # the image, except that from 13.0 on it may begin vertically, which rounds otherwise.
        kept = _rows(top, top + input.crop.height, rows / height, filter_)
        strip = Image.fromarray(np.ascontiguousarray(pixels[kept]), "RGB")
        strip = strip.resize((width, strip.height), filter_, box=(0, 0, columns, strip.height))
        strip = strip.crop((left, 0, left + input.crop.width, strip.height))
        canvas = Image.new("RGB", (input.crop.width, pixels.shape[0]))
        canvas.paste(strip, (0, kept.start))
        resized = canvas.resize((canvas.width, height), filter_, box=(0, 0, canvas.width, rows))
        pixels, left = np.asarray(resized), 0
    return pixels[top : top + input.crop.height, left : left + input.crop.width].copy(order="C")


def _is_whole(input: Input) -> bool:  # noqa: A002
    """Whether nothing is cut off."""
    resize = input.resize
    return not isinstance(resize, ShorterSide) and (resize.height, resize.width) == (
        input.height,
        input.width,
    )


def _rows(top: int, bottom: int, scale: float, filter_: Image.Resampling) -> slice:
    """The rows that the resized rows `top` to `bottom` are computed from, and a few more."""
    reach = _SUPPORT[filter_] * max(1.0, scale) + 1
    return slice(max(0, math.floor(top * scale - reach)), math.ceil(bottom * scale + reach))


def _resized(height: float, width: float, input: Input) -> tuple[int, int]:  # noqa: A002
    """(height, width) after the resize rule; the longer side rounds half up.

    Exact: the sides are whole numbers, or whole numbers divided by a power of two.
    """
    rule = input.resize
    if not isinstance(rule, ShorterSide):
        return rule.height, rule.width
    short = min(height, width)
    resized_height = (2 * height * rule.size + short) // (2 * short)
    resized_width = (2 * width * rule.size + short) // (2 * short)
    return int(resized_height), int(resized_width)
