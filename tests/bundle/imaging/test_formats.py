from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    "png with compressed text": saved(photo(), "PNG", pnginfo=TEXT),
    "gif": saved(photo().quantize(8), "GIF"),
    "tiff": saved(photo(), "TIFF"),
    "bmp": saved(photo(), "BMP"),
    "text": b"no image",
    "nothing": b"",
    "webp of something": b"RIFF....WEBPabcd" + bytes(30),
    "jpeg without a frame": b"\xff\xd8\xff\xda\0\x02" + bytes(30),
    "jpeg of endless segments": b"\xff\xd8" + b"\xff\xe0\0\2" * 1000,
}


@pytest.mark.parametrize("name", QUICK)
def test_the_pixels_of_usual_images_are_known_from_their_headers(name: str) -> None:
    assert quick_pixels(QUICK[name]) == 45 * 67


@pytest.mark.parametrize("number", [1, 10, 90])
def test_a_progressive_jpeg_counts_once_for_each_scan(number: int) -> None:
    data = many_scans(number)
    pixels = quick_pixels(data)
    assert pixels == 256 * 256 * data.count(b"\xff\xda") >= 256 * 256 * number


def test_a_thumbnail_does_not_count() -> None:
    thumbnail = b"Exif\0\0" + saved(photo(8, 9), "JPEG")
    assert quick_pixels(saved(photo(), "JPEG", exif=thumbnail)) == 45 * 67


def chunk_after(data: bytes, kind: bytes, content: bytes) -> bytes:
    """The PNG with one more chunk after its signature."""
    return data[:8] + chunk(kind, content) + data[8:]


TINY = struct.pack(">II", 1, 1)
FAKE = b"\0\x04\0\0\xff\xe5\0\x0f\xff\xc0\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0"
PNG, JPEG = saved(photo(), "PNG"), saved(photo(), "JPEG", progressive=True)
AMBIGUOUS = {
    "a chunk before the header of a png": chunk_after(PNG, b"tEXt", TINY + b"a\0b"),
    "a second header of a png": chunk_after(PNG, b"IHDR", TINY + b"\x08\x02\0\0\0"),
    # libjpeg reads no length after RSTn and TEM, and allows any number of FF before a marker; the
    # fake frame is in a segment that it skips.
    "a marker without a length": JPEG[:2] + b"\xff\xd0" + FAKE + JPEG[2:],
    "another one": JPEG[:2] + b"\xff\x01" + FAKE + JPEG[2:],
    "fill bytes": JPEG[:2] + b"\xff" + JPEG[2:],
    "bytes between segments": JPEG[:2] + b"\0" + JPEG[2:],
    "a segment without room for its length": JPEG[:2] + b"\xff\xe5\0\0" + JPEG[2:],
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_header_that_can_be_read_in_two_ways_gives_no_number(name: str) -> None:
    assert quick_pixels(AMBIGUOUS[name]) is None


def test_a_png_that_does_not_start_with_its_header_is_unreadable() -> None:
    with pytest.raises(UnreadableImage, match="starts with its header"):
        decode_image(chunk_after(PNG, b"tEXt", TINY + b"a\0b"))


@given(st.sampled_from([b"", *(file[:16] for file in QUICK.values())]), st.binary(max_size=200))
def test_hostile_bytes_give_a_number_or_none(start: bytes, rest: bytes) -> None:
    assert (quick_pixels(start + rest) or 0) >= 0


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_give_no_number(name: str) -> None:
    assert quick_pixels(OTHERS[name]) is None


@pytest.mark.parametrize("name", QUICK)
def test_a_file_that_ends_inside_its_header_gives_no_number(name: str) -> None:
    assert all(quick_pixels(QUICK[name][:size]) is None for size in range(20))


def test_a_file_of_few_bytes_can_have_many_pixels() -> None:
    assert (
        quick_pixels(saved(Image.new("RGB", (12_000, 4_000)), "WEBP", lossless=True)) == 48_000_000
    )
