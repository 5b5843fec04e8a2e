from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bundle.format.manifest import Input
from bundle.imaging.geometry import prepare

FILTERS = ["nearest", "bilinear", "bicubic", "lanczos"]


def geometry(side: int, **resize: Any) -> Input:
    crop = {"rule": "center", "height": side, "width": side}
    resize = {"rule": "shorter_side", "size": side, "interpolation": "bilinear"} | resize
    fixed = {"color_mode": "RGB", "dtype": "uint8", "layout": "NHWC"}
    return Input.model_validate(
        {"height": side, "width": side, "resize": resize, "crop": crop, **fixed}
    )


def noise(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.integers(1, 40),
    extra=st.integers(0, 9),
    interpolation=st.sampled_from(FILTERS),
)
@settings(max_examples=100, deadline=None)
def test_any_image_becomes_the_middle_of_what_pillow_resizes(
    height: int, width: int, size: int, extra: int, interpolation: str
) -> None:
    pixels = noise(height, width)
    before = pixels.copy()

    result = prepare(pixels, geometry(size, size=size + extra, interpolation=interpolation))

    short = min(height, width)
    whole = [(2 * side * (size + extra) + short) // (2 * short) for side in (width, height)]
    left, top = ((side - size) // 2 for side in whole)
    filter_ = Image.Resampling[interpolation.upper()]
    resized = Image.fromarray(pixels).resize((whole[0], height), filter_).resize(whole, filter_)
    expected = np.asarray(resized)[top : top + size, left : left + size]
    assert np.array_equal(result, expected)
    assert result.shape == (size, size, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, pixels)
    assert np.array_equal(pixels, before)


def test_an_image_of_the_right_size_passes_unchanged() -> None:
    assert np.array_equal(prepare(noise(32, 32), geometry(32)), noise(32, 32))


def test_the_crop_is_the_middle() -> None:
    assert np.array_equal(prepare(noise(32, 50), geometry(32)), noise(32, 50)[:, 9:41])


def test_a_prepared_image_passes_a_second_time_unchanged() -> None:
    once = prepare(noise(77, 40), geometry(24))

    assert np.array_equal(prepare(once, geometry(24)), once)


def test_reduction_averages_instead_of_skipping() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255

    result = prepare(stripes, geometry(8))

    assert abs(result.astype(int) - 128).max() < 16


def test_of_the_last_row_and_column_a_part_may_belong_to_the_image() -> None:
    ramp = np.repeat(np.add.outer(np.arange(60), 3 * np.arange(60)), 3).reshape(60, 60, 3)

    result = prepare(ramp.astype(np.uint8), geometry(8), (59.5, 59.5))

    centres = (np.arange(8) + 0.5) * 59.5 / 8 - 0.5
    expected = np.add.outer(centres, 3 * centres)
    # At the edges the filter has nothing beyond the image. Two passes round. With 60 rows and
    # columns the last of the others would be 1.6 larger.
    assert np.abs(result[1:7, 1:7, 0] - expected[1:7, 1:7]).max() < 1


def test_stretch_gives_up_the_aspect_ratio() -> None:
    pixels = np.zeros((10, 40, 3), dtype=np.uint8)
    pixels[:, 20:] = 200
    stretch = Input.model_validate(
        geometry(8).model_dump()
        | {"resize": {"rule": "stretch", "height": 8, "width": 8, "interpolation": "nearest"}}
    )

    result = prepare(pixels, stretch)

    assert result[0, :, 0].tolist() == [0] * 4 + [200] * 4


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=["float", "grey", "rgba", "empty"],
)
def test_other_arrays_are_refused(pixels: Any) -> None:
    with pytest.raises(ValueError, match="Expected uint8"):
        prepare(pixels, geometry(4))
