from __future__ import annotations

import pytest
from PIL import Image

from bundle.headers import quick_pixels
from tests.bundle.pictures import photo, saved

THUMBNAIL = b"Exif\0\0" + saved(photo(8, 9), "JPEG")
QUICK = {
    "jpeg": saved(photo(), "JPEG"),
    "jpeg with a thumbnail": saved(photo(), "JPEG", exif=THUMBNAIL),
    "grey jpeg": saved(photo().convert("L"), "JPEG"),
    "png": saved(photo(), "PNG"),
    "palette png": saved(photo().quantize(8), "PNG"),
    "lossy webp": saved(photo(), "WEBP"),
    "lossless webp": saved(photo(), "WEBP", lossless=True),
    "webp with frames": saved(photo(), "WEBP", save_all=True, append_images=[photo(seed=1)]),
}
OTHERS = {
    "progressive jpeg": saved(photo(), "JPEG", progressive=True),
    "gif": saved(photo().quantize(8), "GIF"),
    "tiff": saved(photo(), "TIFF"),
    "bmp": saved(photo(), "BMP"),
    "text": b"no picture",
    "nothing": b"",
    "webp of something": b"RIFF....WEBPabcd" + bytes(30),
    "jpeg without a picture": b"\xff\xd8\xff\xda\0\x02" + bytes(30),
    "jpeg of endless segments": b"\xff\xd8" + b"\xff\xe0\0\2" * 1000,
}


@pytest.mark.parametrize("name", QUICK)
def test_the_pixels_of_usual_pictures_are_known_from_their_headers(name: str) -> None:
    assert quick_pixels(QUICK[name]) == 45 * 67


@pytest.mark.parametrize("name", OTHERS)
def test_of_others_nothing_is_said(name: str) -> None:
    assert quick_pixels(OTHERS[name]) is None


@pytest.mark.parametrize("name", QUICK)
def test_nor_of_one_that_ends_in_its_header(name: str) -> None:
    assert all(quick_pixels(QUICK[name][:size]) is None for size in range(20))


def test_a_picture_of_few_bytes_has_its_pixels() -> None:
    assert quick_pixels(saved(Image.new("RGB", (12_000, 4_000)), "WEBP", lossless=True)) == 48_000_000
