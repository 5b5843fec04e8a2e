from __future__ import annotations

import struct
import threading
import tracemalloc
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from bundle.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImageType
from bundle.imaging.decode import ImageLimits, decode_image
from tests.bundle.imaging.images import (
    bilevel_png,
    chunk,
    good_files,
    many_scans,
    saved,
    zeros,
)

GOOD = good_files()


def tags_that_share_data(count: int = 200, size: int = 1_000_000) -> bytes:
    """A TIFF of `count` tags, each of which has the same `size` bytes as its value."""
    entries = [struct.pack("<HHII", 1000 + tag, 7, size, 8) for tag in range(count)]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + b"".join(entries) + bytes(size)


@pytest.mark.parametrize("name", GOOD)
def test_a_cut_file_is_an_error_or_the_whole_image(name: str) -> None:
    file = GOOD[name]
    whole = decode_image(file).pixels
    cuts = {*range(0, len(file), max(1, len(file) // 150)), *range(len(file) - 24, len(file))}

    for cut in cuts:
        try:
            pixels = decode_image(file[:cut]).pixels
        except ImageError:
            continue
        assert np.array_equal(pixels, whole), f"cut at {cut} of {len(file)} gives another image"


@pytest.mark.parametrize("name", ["jpeg", "jpeg-restart", "jpeg-grey", "jpeg-cmyk"])
def test_a_cut_jpeg_scan_is_an_error_even_with_an_end_marker(name: str) -> None:
    file = GOOD[name]
    start = file.index(b"\xff\xda") + 14

    for cut in range(start, len(file) - 40, 7):
        with pytest.raises(UnreadableImage):
            decode_image(file[:cut] + b"\xff\xd9")


def test_a_grey_jpeg_is_not_taken_for_a_cut_one() -> None:
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 1}):
        file = saved(Image.new("RGB", (40, 40), (128, 128, 128)), "JPEG", **options)
        assert np.ptp(decode_image(file).pixels) == 0


def test_zeros_in_png_data_are_an_error() -> None:
    file = GOOD["png"]

    with pytest.raises(UnreadableImage):
        decode_image(file[:2000] + bytes(len(file) - 2012) + file[-12:])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"%PDF-1.7",
        b"<svg xmlns=''/>",
        b"BMW and other cars",
        b"\0\0\x01\0",
        b"8BPS\0\1",
        b"RIFF....WAVE",
    ],
    ids=["empty", "pdf", "svg", "bm-text", "ico", "psd", "wav"],
)
def test_other_files_are_of_an_unsupported_type(data: bytes) -> None:
    with pytest.raises(UnsupportedImageType):
        decode_image(data)


@pytest.mark.parametrize("mark", ["jpeg", "png", "gif", "bmp", "webp", "tiff"])
def test_the_first_bytes_alone_are_unreadable(mark: str) -> None:
    with pytest.raises(UnreadableImage):
        decode_image(GOOD[mark][:20])


HOSTILE: dict[str, tuple[Callable[[], bytes], type[ImageError]]] = {
    "900-megapixels": (lambda: bilevel_png(30_000, 30_000), ImageTooLarge),
    "80000000-x-1": (lambda: bilevel_png(80_000_000, 1), ImageTooLarge),
    "15000-scans": (many_scans, ImageTooLarge),
    "60-mb-ztxt": (
        lambda: bilevel_png(8, 8, chunk(b"zTXt", b"k\0\0" + zeros(60_000_000))),
        UnreadableImage,
    ),
    "60-mb-itxt-last": (
        lambda: bilevel_png(8, 8, after=chunk(b"iTXt", b"k\0\1\0\0\0" + zeros(60_000_000))),
        UnreadableImage,
    ),
    "60-mb-profile": (
        lambda: bilevel_png(8, 8, chunk(b"iCCP", b"k\0\0" + zeros(60_000_000))),
        UnreadableImage,
    ),
    "jpeg-comments": (
        lambda: GOOD["jpeg"][:2] + b"\xff\xfe\0\2" * 4_000_000 + GOOD["jpeg"][2:],
        UnreadableImage,
    ),
    "jpeg-fill": (
        lambda: GOOD["jpeg"][:2] + b"\xff" * 10_000_000 + GOOD["jpeg"][2:],
        UnreadableImage,
    ),
    "16-byte-tiff": (
        lambda: b"II+\0" + struct.pack("<HHQ", 8, 0, 2**63),
        UnreadableImage,
    ),
    "tiff-of-many-tags": (
        lambda: b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**63) + bytes(100_000),
        UnreadableImage,
    ),
    "tiff-tags-that-share-data": (tags_that_share_data, UnreadableImage),
    "gif-frame": (
        lambda: (
            b"GIF89a\x0a\0\x0a\0\0\0\0,"
            + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0)
            + b"\x08\0;"
        ),
        ImageTooLarge,
    ),
    "webp-canvas": (
        lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\0" * 2,
        ImageTooLarge,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_little_memory(name: str) -> None:
    make, error = HOSTILE[name]
    data = make()
    tracemalloc.start()

    with pytest.raises(error):
        decode_image(data)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


def test_an_animated_gif_gives_its_first_frame_and_the_others_are_not_read() -> None:
    file = GOOD["gif"]
    corrupt_frame = b"," + b"\xff" * 50

    animated = file[:-1] + corrupt_frame * 2000 + b";"

    assert np.array_equal(decode_image(animated).pixels, decode_image(file).pixels)


def test_a_tiff_gives_its_first_frame_and_the_others_are_not_read() -> None:
    file = bytearray(GOOD["tiff"])
    (directory,) = struct.unpack_from("<I", file, 4)
    (entries,) = struct.unpack_from("<H", file, directory)
    struct.pack_into("<I", file, directory + 2 + 12 * entries, len(file) + 1000)

    assert np.array_equal(decode_image(bytes(file)).pixels, decode_image(GOOD["tiff"]).pixels)


def test_each_limit_is_held_and_named() -> None:
    file = GOOD["png"]  # 67 x 45
    for limits, text in (
        (ImageLimits(max_bytes=len(file) - 1), "bytes"),
        (ImageLimits(max_pixels=67 * 45 - 1), "67 x 45"),
        (ImageLimits(max_side=66), "longer side"),
        (ImageLimits(max_aspect_ratio=1.4), "shorter side"),
    ):
        with pytest.raises(ImageTooLarge, match=text):
            decode_image(file, limits)
    exact = ImageLimits(
        max_bytes=len(file), max_pixels=67 * 45, max_side=67, max_aspect_ratio=67 / 45
    )
    assert decode_image(file, exact).info.width == 67


def test_scans_in_an_embedded_thumbnail_do_not_count() -> None:
    file = GOOD["jpeg"]
    comment = b"\xff\xda" * 500

    data = file[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + file[2:]

    assert np.array_equal(decode_image(data).pixels, decode_image(file).pixels)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_is_a_number_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match="max_aspect_ratio"):
        ImageLimits(max_aspect_ratio=value)


def test_mutated_files_give_pixels_or_an_image_error() -> None:
    random = np.random.default_rng(20_261_123)
    names = sorted(GOOD)
    extremes = [0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]

    for _ in range(2000):
        data = bytearray(GOOD[names[random.integers(len(names))]])
        for _ in range(random.integers(1, 8)):
            header_only = random.random() < 0.6
            at = int(random.integers(min(len(data), 400) if header_only else len(data)))
            match int(random.integers(4)):
                case 0:
                    data[at] = int(random.integers(256))
                case 1:
                    del data[at : at + int(random.integers(1, 30))]
                case 2:
                    data[at:at] = random.bytes(int(random.integers(1, 30)))
                case _:
                    extreme = extremes[random.integers(len(extremes))]
                    size = int(random.choice([2, 4, 8]))
                    data[at : at + size] = (extreme % 256**size).to_bytes(size, "little")
        try:
            pixels = decode_image(bytes(data)).pixels
        except ImageError:
            continue  # anything else ends the test
        assert pixels.ndim == 3
        assert pixels.dtype == np.uint8


def test_threads_that_decode_together_leave_the_warning_filters_as_they_were() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=decode_image, args=[GOOD["jpeg"]]) for _ in range(16)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(warnings.filters) == before
