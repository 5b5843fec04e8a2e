from __future__ import annotations

import struct
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from PIL import Image

from bundle.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImageType
from bundle.imaging.decode import ImageLimits, decode_image
from tests.bundle.imaging.images import (
    bilevel_png,
    chunk,
    good_files,
    many_frames_tiff,
    many_scans,
    saved,
    zeros,
)

GOOD = good_files()


@pytest.mark.parametrize("name", GOOD)
def test_a_cut_file_is_an_error_or_the_whole_picture(name: str) -> None:
    file = GOOD[name]
    whole = decode_image(file).pixels
    cuts = {*range(0, len(file), max(1, len(file) // 150)), *range(len(file) - 24, len(file))}

    for cut in cuts:
        try:
            pixels = decode_image(file[:cut]).pixels
        except ImageError:
            continue
        assert np.array_equal(pixels, whole), f"cut at {cut} of {len(file)} gives another picture"


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


HOSTILE = {
    "900-megapixels": (lambda: bilevel_png(30_000, 30_000), ImageTooLarge),
    "80000000-x-1": (lambda: bilevel_png(80_000_000, 1), ImageTooLarge),
    "15000-scans": (many_scans, ImageTooLarge),
    "200-mb-ztxt": (
        lambda: bilevel_png(8, 8, chunk(b"zTXt", b"k\0\0" + zeros(200_000_000))),
        UnreadableImage,
    ),
    "200-mb-itxt-last": (
        lambda: bilevel_png(8, 8, after=chunk(b"iTXt", b"k\0\1\0\0\0" + zeros(200_000_000))),
        UnreadableImage,
    ),
    "200-mb-profile": (
        lambda: bilevel_png(8, 8, chunk(b"iCCP", b"k\0\0" + zeros(200_000_000))),
        UnreadableImage,
    ),
    "png-chunks": (lambda: bilevel_png(8, 8, chunk(b"prVt", b"") * 1_000_000), UnreadableImage),
    "jpeg-comments": (
        lambda: GOOD["jpeg"][:2] + b"\xff\xfe\0\2" * 4_000_000 + GOOD["jpeg"][2:],
        UnreadableImage,
    ),
    "jpeg-fill": (
        lambda: GOOD["jpeg"][:2] + b"\xff" * 10_000_000 + GOOD["jpeg"][2:],
        UnreadableImage,
    ),
    "tiff-strips": (
        lambda: (
            b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 273, 4, 4_000_000, 30) + bytes(16_000_000)
        ),
        UnreadableImage,
    ),
    "gif-screen": (
        lambda: b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(40),
        ImageTooLarge,
    ),
    "webp-canvas": (
        lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\0" * 2,
        ImageTooLarge,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bomb_is_refused_quickly_and_with_little_memory(name: str) -> None:
    make, error = HOSTILE[name]
    data = make()
    tracemalloc.start()
    started = time.process_time()

    with pytest.raises(error):
        decode_image(data)

    seconds, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2
    assert peak < 50_000_000


@pytest.mark.parametrize(("kind", "count"), [("GIF", 1000), ("TIFF", 5000), ("WEBP", 5000)])
def test_only_the_first_of_many_frames_is_read(kind: str, count: int) -> None:
    if kind == "TIFF":
        file = many_frames_tiff(count)
    else:
        frames = [Image.new("RGB", (16, 16), (i % 250, i // 250, 0)) for i in range(count)]
        options = {"lossless": True, "method": 0, "quality": 0} if kind == "WEBP" else {}
        file = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    started = time.process_time()

    decoded = decode_image(file)

    assert decoded.pixels.shape == (16, 16, 3)
    assert time.process_time() - started < 0.5


def test_frames_of_a_gif_are_counted_without_being_decoded() -> None:
    frames = [Image.new("RGB", (400, 300), (i, 0, 0)) for i in range(12)]
    file = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])

    assert decode_image(file, ImageLimits(max_gif_frames=12)).info.format == "GIF"
    with pytest.raises(ImageTooLarge, match="at most 11 GIF frames"):
        decode_image(file, ImageLimits(max_gif_frames=11))


def test_a_gif_of_endless_tiny_blocks_is_refused() -> None:
    file = saved(Image.new("P", (16, 16), 3), "GIF")
    frame_at = file.index(b",")
    comment = b"!\xfe" + b"\x01x" * 300_000 + b"\0"

    with pytest.raises(UnreadableImage, match="200000 blocks"):
        decode_image(file[:frame_at] + comment + file[frame_at:])


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


def test_2000_mutated_files_give_pixels_or_an_image_error() -> None:
    random = np.random.default_rng(20_261_123)
    names = sorted(GOOD)

    for _ in range(2000):
        data = bytearray(GOOD[names[random.integers(len(names))]])
        for _ in range(random.integers(1, 8)):
            start = int(
                random.integers(min(len(data), 400) if random.random() < 0.6 else len(data))
            )
            if random.random() < 0.8:
                data[start] = int(random.integers(256))
            else:
                del data[start : start + int(random.integers(1, 30))]
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
