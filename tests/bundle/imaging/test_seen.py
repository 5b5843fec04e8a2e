"""The part of an image that a model sees, by pictures whose colours are their coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bundle.format.manifest import Input
from bundle.imaging.decode import ImageInfo, read_input
from bundle.imaging.geometry import Seen, prepare, seen
from tests.bundle.imaging.images import saved
from tests.bundle.imaging.test_decode import TRANSPOSE
from tests.bundle.imaging.test_geometry import geometry

Array = np.ndarray[Any, np.dtype[Any]]


def coordinates(width: int, height: int) -> Array:
    """uint8 [H, W, 3]: red is the column and green the row of a pixel, as fractions of 255."""
    columns = (np.arange(width) + 0.5) / width * 255
    rows = (np.arange(height) + 0.5) / height * 255
    red, green = np.meshgrid(columns, rows)
    return np.stack([red, green, np.full_like(red, 128)], 2).round().astype(np.uint8)


def check(pixels: Array, part: Seen, within: float) -> None:
    """Each pixel of the input has the colour of its place in the image."""
    width, height = part["image_width"], part["image_height"]
    across = (np.arange(part["input_width"]) + 0.5) / part["input_width"]
    columns = part["left"] + across * part["width"]
    down = (np.arange(part["input_height"]) + 0.5) / part["input_height"]
    rows = part["top"] + down * part["height"]
    inner = slice(2, -2)  # at the edges of the image the filter has nothing beyond it
    assert np.abs(pixels[inner, inner, 0] - (columns / width * 255)[None, inner]).max() < within
    assert np.abs(pixels[inner, inner, 1] - (rows / height * 255)[inner, None]).max() < within


@given(
    width=st.integers(40, 250),
    height=st.integers(40, 250),
    size=st.integers(8, 32),
    extra=st.integers(0, 12),
)
@settings(max_examples=100, deadline=None)
def test_it_is_the_part_that_prepare_keeps(width: int, height: int, size: int, extra: int) -> None:
    input_ = geometry(size, size=size + extra)

    part = seen(ImageInfo("PNG", width, height, "RGB", []), input_)

    # The resize rounds to whole pixels, and colours to whole numbers.
    check(prepare(coordinates(width, height), input_), part, 2 + 255 / min(width, height) / 2)
    assert 0 <= part["left"] <= part["left"] + part["width"] <= width + 1e-3
    assert 0 <= part["top"] <= part["top"] + part["height"] <= height + 1e-3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_it_is_of_the_upright_image_at_full_size(kind: str, orientation: int) -> None:
    upright = Image.fromarray(coordinates(1600, 1200))
    stored = upright.transpose(TRANSPOSE[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    input_ = geometry(48, size=64)
    data = saved(stored, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))

    found = read_input(data, input_)
    part = seen(found.info, input_)

    assert ("decoded_at_1_4" in found.info.operations) == (kind == "JPEG")
    assert (part["image_width"], part["image_height"]) == (1600, 1200)
    check(found.pixels, part, 4)


def test_a_stretched_image_is_seen_as_a_whole() -> None:
    record = geometry(8).model_dump()
    record["resize"] = {"rule": "stretch", "height": 8, "width": 8, "interpolation": "nearest"}

    assert seen(ImageInfo("PNG", 40, 10, "RGB", []), Input.model_validate(record)) == {
        "left": 0,
        "top": 0,
        "width": 40,
        "height": 10,
        "image_width": 40,
        "image_height": 10,
        "input_width": 8,
        "input_height": 8,
        "crop": "whole",
    }


def test_a_size_that_is_upright_already_is_not_exchanged() -> None:
    info = ImageInfo("HEIF", 40, 30, "RGB", ["decoded_at_1_2", "exif_orientation_3"])

    assert seen(info, geometry(8))["image_width"] == 40
