from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.format.manifest import Input
from bundle.imaging.geometry import prepare


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
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
)
@settings(max_examples=60, deadline=None)
def test_any_image_becomes_the_input_size(
    height: int, width: int, size: int, extra: int, interpolation: str
) -> None:
    pixels = noise(height, width)
    before = pixels.copy()

    result = prepare(pixels, geometry(size, size=size + extra, interpolation=interpolation))

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
