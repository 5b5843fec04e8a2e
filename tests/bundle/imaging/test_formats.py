from __future__ import annotations

import struct

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bundle.errors import UnreadableImage
from bundle.imaging.decode import decode_image
from bundle.imaging.formats import quick_pixels
from tests.bundle.imaging.images import chunk, many_scans, photo, saved

TEXT = PngInfo()
TEXT.add_text("Comment", "a" * 1000, zip=True)
QUICK = {
    "jpeg": saved(photo(), "JPEG"),
    "grey jpeg": saved(photo().convert("L"), "JPEG"),
    "png": saved(photo(), "PNG"),
    "palette png": saved(photo().quantize(8), "PNG"),
    "lossy webp": saved(photo(), "WEBP"),
    "lossless webp": saved(photo(), "WEBP", lossless=True),
    "webp with frames": saved(photo(), "WEBP", save_all=True, append_images=[photo(seed=1)]),
}
OTHERS = {
    "png with text that can become much": saved(photo(), "PNG", pnginfo=TEXT),
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


@pytest.mark.parametrize("number", [1, 10, 90])
def test_a_progressive_jpeg_counts_once_for_each_scan(number: int) -> None:
    data = many_scans(number)
    pixels = quick_pixels(data)
    assert pixels == 256 * 256 * data.count(b"\xff\xda") >= 256 * 256 * number


def test_a_thumbnail_is_no_picture() -> None:
    thumbnail = b"Exif\0\0" + saved(photo(8, 9), "JPEG")
    assert quick_pixels(saved(photo(), "JPEG", exif=thumbnail)) == 45 * 67


def chunk_after(data: bytes, kind: bytes, content: bytes) -> bytes:
    """The PNG with a chunk more after its signature."""
    return data[:8] + chunk(kind, content) + data[8:]


TINY = struct.pack(">II", 1, 1)
FAKE_FRAME = b"\xff\xc0\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0"
PNG, JPEG = saved(photo(), "PNG"), saved(photo(), "JPEG", progressive=True)
LYING = {
    "a chunk before the header of a png": chunk_after(PNG, b"tEXt", TINY + b"a\0b"),
    # libjpeg takes no length after RSTn and TEM, and any number of FF before a marker; the fake is in a segment that it skips.
    "a marker without a length": JPEG[:2]
    + b"\xff\xd0\0\x04\0\0\xff\xe5\0\x0f"
    + FAKE_FRAME
    + JPEG[2:],
    "another one": JPEG[:2] + b"\xff\x01\0\x04\0\0\xff\xe5\0\x0f" + FAKE_FRAME + JPEG[2:],
    "fill bytes": JPEG[:2] + b"\xff" + JPEG[2:],
    "bytes between segments": JPEG[:2] + b"\0" + JPEG[2:],
    "a segment without room for its length": JPEG[:2] + b"\xff\xe5\0\0" + JPEG[2:],
}


@pytest.mark.parametrize("name", LYING)
def test_headers_that_could_be_read_in_another_way_are_not_believed(name: str) -> None:
    assert quick_pixels(LYING[name]) is None


@pytest.mark.parametrize("before", [("tEXt", TINY + b"a\0b"), ("IHDR", TINY + b"\x08\x02\0\0\0")])
def test_a_png_begins_with_its_only_header(before: tuple[str, bytes]) -> None:
    kind, content = before
    with pytest.raises(UnreadableImage, match="header"):
        decode_image(chunk_after(PNG, kind.encode(), content))


@pytest.mark.parametrize("name", OTHERS)
def test_of_others_nothing_is_said(name: str) -> None:
    assert quick_pixels(OTHERS[name]) is None


@pytest.mark.parametrize("name", QUICK)
def test_nor_of_one_that_ends_in_its_header(name: str) -> None:
    assert all(quick_pixels(QUICK[name][:size]) is None for size in range(20))


def test_a_picture_of_few_bytes_has_its_pixels() -> None:
    assert (
        quick_pixels(saved(Image.new("RGB", (12_000, 4_000)), "WEBP", lossless=True)) == 48_000_000
    )
