"""libjpeg-turbo gives the pixels of Pillow, smaller on request, and refuses the same files."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from bundle.format.manifest import Input
from bundle.imaging import turbo
from bundle.imaging.decode import decode_image, read_input
from bundle.imaging.geometry import prepare
from tests.bundle.imaging.images import photo, saved
from tests.bundles import input_record

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "restart markers": {"restart_marker_blocks": 3},
    "quality 20": {"quality": 20},
}


def pillow(data: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_those_of_pillow(mode: str, options: dict[str, object]) -> None:
    options = {} if mode == "L" and "subsampling" in options else options
    data = saved(photo(123, 211).convert(mode), "JPEG", **options)

    fast = turbo.decode(data, 211, 123, 1)

    assert fast is not None
    assert np.array_equal(fast, pillow(data))
    assert np.array_equal(decode_image(data).pixels, fast)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_upright_as_pillow_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(24, 40), "JPEG", exif=exif)

    image = decode_image(data)

    assert np.array_equal(
        image.pixels, np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))))
    )
    assert image.pixels.flags.c_contiguous
    assert image.info.operations == ([f"exif_orientation_{orientation}"] if orientation > 1 else [])


def test_what_libjpeg_warns_about_and_other_colours_are_left_to_pillow() -> None:
    whole = saved(photo(123, 211), "JPEG")
    cut = whole[: len(whole) // 2] + b"\xff\xd9"
    cmyk = saved(photo(123, 211).convert("CMYK"), "JPEG")
    rgb = saved(photo(123, 211), "JPEG", keep_rgb=True)

    assert turbo.decode(whole, 211, 123, 1) is not None
    assert turbo.decode(whole, 210, 123, 1) is None
    assert [turbo.decode(data, 211, 123, 1) for data in (cut, cmyk, rgb)] == [None, None, None]
    assert np.array_equal(decode_image(rgb).pixels, pillow(rgb))


@pytest.mark.parametrize(
    ("size", "needed", "factor"),
    [
        ((4000, 3000), 256, 2),
        ((8000, 6000), 256, 4),
        ((4000, 3000), 32, 8),
        ((500, 375), 224, 1),
        ((1024, 1024), 256, 1),
        ((1600, 1600), 256, 2),
        ((9000, 64), 32, 1),
        ((4001, 3000), 256, 2),
        ((500, 375), 32, 2),
        ((767, 1024), 128, 1),
    ],
)
def test_a_reduced_image_keeps_three_times_the_needed_pixels(
    size: tuple[int, int], needed: int, factor: int
) -> None:
    assert turbo.reduction(*size, needed) == factor
    assert turbo.reduction(*size, None) == 1


@pytest.mark.parametrize(
    ("size", "factor"), [((4000, 3000), 8), ((4004, 3000), 4), ((4001, 3000), 1)]
)
def test_an_image_that_has_to_be_turned_keeps_whole_pixels(
    size: tuple[int, int], factor: int
) -> None:
    assert turbo.reduction(*size, 32, turned=True) == factor


@pytest.mark.parametrize(
    ("size", "orientation"),
    [
        *((size, turn) for size in ((800, 1072), (1028, 804)) for turn in (1, 6, 7)),
        ((801, 1073), 1),
        ((1030, 803), 1),
    ],
    ids=str,
)
def test_a_large_jpeg_is_decoded_smaller_and_gives_almost_the_same_input(
    size: tuple[int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(*size), "JPEG", exif=exif, quality=95)
    geometry = Input.model_validate(input_record(64))

    image = read_input(data, geometry)

    whole = decode_image(data)
    full = prepare(whole.pixels, geometry)
    assert image.info.operations[0] == "decoded_at_1_4"
    assert (
        (image.info.width, image.info.height) == (whole.info.width, whole.info.height) == size[::-1]
    )
    assert image.pixels.shape == full.shape == (64, 64, 3)
    assert np.abs(image.pixels.astype(int) - full).mean() < 1
    assert np.abs(image.pixels.astype(int) - full).max() < 12


def test_a_small_jpeg_and_other_formats_are_decoded_in_full() -> None:
    geometry = Input.model_validate(input_record(64))

    for data in (saved(photo(254, 300), "JPEG"), saved(photo(600, 804), "PNG")):
        image = read_input(data, geometry)

        assert image.info.operations == []
        assert np.array_equal(image.pixels, prepare(decode_image(data).pixels, geometry))
