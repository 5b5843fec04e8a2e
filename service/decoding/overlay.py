"""A heat map over its picture, as a PNG file; drawn by a decoder, which has the hostile pixels."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from bundle.format.manifest import Input
from bundle.imaging.decode import ImageLimits, decode_image, image_size
from bundle.imaging.geometry import Seen, seen
from bundle.imaging.guard import out_of_memory

# Pixels of the longer side; a smaller picture keeps its size.
MAX_SIDE = 1024
# Viridis (S. van der Walt and N. Smith, 2015): its lightness grows evenly, so that it is read with
# every kind of colour vision, and in grey.
COLOURS = (
    *("440154", "48186a", "472d7b", "424086", "3b528b", "33638d", "2c728e", "26828e", "21918c"),
    *("1f9f88", "27ad81", "3dbc74", "5cc863", "81d34d", "aadc32", "d5e21a", "fde725"),
)
# The opacity of the colours where the map is 0 and where it is 1: the picture is seen everywhere,
# and best where nothing speaks for the class.
OPACITY = 0.25, 0.65
# What the model has not seen keeps this part of its brightness.
DIMMED = 0.35
# Of zlib: photos get hardly smaller above it.
COMPRESSION = 3


def draw(
    data: bytes, geometry: Input, heatmap: npt.NDArray[np.float32], limits: ImageLimits
) -> npt.NDArray[np.uint8]:
    """Draw a heat map over the upright picture of a file.

    Args:
        data: The image file.
        geometry: Of the model's input.
        heatmap: float32 [h, w] in [0, 1], of what the model has seen.
        limits: Of the file.

    Returns:
        The bytes of a PNG file, uint8.

    Raises:
        ImageError: As `decode_image`.
    """
    width, height = image_size(data, limits)
    needed = -(-MAX_SIDE * min(width, height) // max(width, height))
    decoded = decode_image(data, limits, shorter_side=needed)
    part = seen(decoded.info, geometry)
    try:
        scale = min(1.0, MAX_SIDE / max(part["image_width"], part["image_height"]))
        size = (
            max(1, round(scale * part["image_width"])),
            max(1, round(scale * part["image_height"])),
        )
        picture = Image.fromarray(decoded.pixels, "RGB").convert("L")
        grey = np.asarray(picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
        file = BytesIO()
        drawn = Image.fromarray(_coloured(grey, heatmap, part), "RGB")
        drawn.save(file, "PNG", compress_level=COMPRESSION)
    except MemoryError as exc:
        raise out_of_memory(decoded.info.format) from exc
    return np.frombuffer(file.getvalue(), np.uint8)


def _coloured(
    grey: npt.NDArray[np.uint8], heatmap: npt.NDArray[np.float32], part: Seen
) -> npt.NDArray[np.uint8]:
    """The colours over a grey picture uint8 [H, W], dimmed where the model has seen nothing."""
    across = (np.arange(grey.shape[1]) + 0.5) / grey.shape[1] * part["image_width"]
    down = (np.arange(grey.shape[0]) + 0.5) / grey.shape[0] * part["image_height"]
    across, down = (across - part["left"]) / part["width"], (down - part["top"]) / part["height"]
    columns, rows = np.flatnonzero(abs(across - 0.5) <= 0.5), np.flatnonzero(abs(down - 0.5) <= 0.5)
    heat = (
        _between(down[rows], heatmap.shape[0])
        @ heatmap
        @ _between(across[columns], heatmap.shape[1]).T
    )
    table = np.array([list(bytes.fromhex(colour)) for colour in COLOURS], np.float32)
    levels = np.linspace(0, 1, len(COLOURS))
    opacity = np.interp(heat, (0, 1), OPACITY)
    inside = grey[np.ix_(rows, columns)]
    blended = [
        (1 - opacity) * inside + opacity * np.interp(heat, levels, table[:, channel])
        for channel in range(3)
    ]
    found = np.repeat((DIMMED * grey)[..., None], 3, axis=2)
    found[np.ix_(rows, columns)] = np.stack(blended, axis=2)
    pixels: npt.NDArray[np.uint8] = found.round().astype(np.uint8)
    return pixels


def _between(places: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float32]:
    """The weights [places, count] of a bilinear interpolation between the centres of `count` cells.

    Args:
        places: In [0, 1]; beyond the outer centres the outer cells hold.
        count: Cells.
    """
    at = np.clip(places * count - 0.5, 0, count - 1)
    weights: npt.NDArray[np.float32] = np.maximum(
        0, 1 - np.abs(at[:, None] - np.arange(count))
    ).astype(np.float32)
    return weights
