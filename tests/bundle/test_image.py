from __future__ import annotations

import struct
import threading
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from bundle.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImageType
from bundle.image import ImageLimits, decode_image
from tests.bundle.pictures import (
    bilevel_png,
    chunk,
    good_files,
    many_frames_tiff,
    many_scans,
    photo,
    saved,
    zeros,
)

GOOD = good_files()
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
LOSSLESS = {
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}


@pytest.mark.parametrize("name", GOOD)
def test_every_format_decodes_to_its_picture(name: str) -> None:
    decoded = decode_image(GOOD[name])

    error = np.abs(decoded.pixels.astype(int) - np.asarray(photo())).mean()
    assert decoded.pixels.shape == (45, 67, 3)
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.width, decoded.height) == (67, 45)
    assert decoded.format == name.split("-")[0].upper()
    assert error < (130 if "bilevel" in name or "group4" in name else 60 if "grey" in name else 16)


def test_same_pixels_in_lossless_formats_give_identical_arrays() -> None:
    files = [saved(photo(), kind, **options) for kind, options in LOSSLESS.items()]

    for file in files:
        assert np.array_equal(decode_image(file).pixels, np.asarray(photo()))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = photo()
    stored = upright.transpose(TRANSPOSE[orientation]) if orientation > 1 else upright

    decoded = decode_image(saved(stored, kind, exif=exif, **LOSSLESS[kind]))

    assert np.array_equal(decoded.pixels, np.asarray(upright))
    assert (decoded.width, decoded.height) == stored.size
    assert decoded.operations == ([f"exif_orientation_{orientation}"] if orientation > 1 else [])


def test_exif_orientation_is_applied_to_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    decoded = decode_image(saved(photo().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95))

    assert np.abs(decoded.pixels.astype(int) - np.asarray(photo())).mean() < 8


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0nonsense",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12",
        b"Exif\0\0",
    ],
    ids=["no-header", "offset-outside", "cut-directory", "empty"],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_malformed_exif_does_not_fail_a_good_picture(kind: str, exif: bytes) -> None:
    assert decode_image(saved(photo(), kind, exif=exif)).pixels.shape == (45, 67, 3)


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (2, 2), (200, 0, 0, 0))
    clear.putpixel((0, 0), (200, 0, 0, 255))

    for kind in ("PNG", "WEBP", "TIFF"):
        decoded = decode_image(saved(clear, kind, **LOSSLESS[kind]))

        assert decoded.pixels.reshape(-1, 3).tolist() == [[200, 0, 0]] + [[255, 255, 255]] * 3
        assert decoded.operations == ["alpha_over_white"]


def test_transparent_palette_entry_and_grey_alpha_become_white() -> None:
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    grey = Image.new("LA", (1, 1), (7, 0))

    for kind in ("PNG", "GIF"):
        assert decode_image(saved(palette, kind, transparency=1)).pixels.tolist() == [
            [[10, 20, 30], [255, 255, 255]]
        ]
    assert decode_image(saved(palette, "PNG", transparency=b"\xff\x00")).pixels[0, 1].tolist() == [255] * 3
    assert decode_image(saved(grey, "PNG")).pixels.tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_grey_value_is_found_in_every_bit_depth(bits: int) -> None:
    top = (1 << bits) - 1
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, bits, 0, 0, 0, 0))
    row = b"\0" + (struct.pack(">H", top) if bits == 16 else bytes([top << (8 - bits)]))
    data = chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")

    for key, expected in ((0, 255), (top, 255)):
        file = b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", struct.pack(">H", key)) + data
        decoded = decode_image(file)
        assert decoded.pixels[0, 0].tolist() == [expected] * 3
        assert "alpha_over_white" in decoded.operations


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = Image.fromarray(np.array([[0, 257, 32_896, 65_535]], dtype=np.uint16))

    for kind in ("PNG", "TIFF"):
        decoded = decode_image(saved(ramp, kind))
        assert decoded.pixels[0, :, 0].tolist() == [0, 1, 128, 255]
        assert decoded.operations == ["16_bit_to_8_bit", "grey_to_rgb"]


def test_16_bit_colour_keeps_its_high_byte() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    row = zlib.compress(b"\0" + struct.pack(">HHH", 65_535, 32_896, 255))

    decoded = decode_image(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", row) + chunk(b"IEND", b""))

    assert decoded.pixels.tolist() == [[[255, 128, 0]]]
    assert decoded.operations == ["16_bit_to_8_bit"]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
    ],
    ids=["unit", "bytes", "stretched"],
)
def test_float_tiff_becomes_8_bit(samples: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([samples], dtype=np.float32))

    decoded = decode_image(saved(image, "TIFF"))

    assert decoded.pixels[0, :, 0].tolist() == expected


def test_float_tiff_with_nan_is_unreadable() -> None:
    image = Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32))

    with pytest.raises(UnreadableImage, match="NaN"):
        decode_image(saved(image, "TIFF"))


def test_cmyk_jpeg_has_the_right_colours_with_and_without_adobes_mark() -> None:
    file = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    start = file.index(b"\xff\xee")
    length = int.from_bytes(file[start + 2 : start + 4], "big")
    inverted = saved(Image.new("CMYK", (16, 16), (255, 0, 0, 255)), "JPEG", quality=95)
    unmarked = inverted[:start] + inverted[start + 2 + length :]

    for data in (file, unmarked):
        red, green, blue = decode_image(data).pixels[8, 8].tolist()
        assert red > 240
        assert max(green, blue) < 15


def test_lab_and_ycbcr_tiff_become_rgb() -> None:
    lab_profile, rgb_profile = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    flat = Image.new("RGB", (4, 4), (30, 160, 90))
    lab = ImageCms.profileToProfile(flat, rgb_profile, lab_profile, outputMode="LAB")
    assert lab is not None

    for image in (lab, flat.convert("YCbCr")):
        decoded = decode_image(saved(image, "TIFF"))
        assert np.abs(decoded.pixels[0, 0].astype(int) - (30, 160, 90)).max() < 8


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
    "jpeg-fill": (lambda: GOOD["jpeg"][:2] + b"\xff" * 10_000_000 + GOOD["jpeg"][2:], UnreadableImage),
    "tiff-strips": (
        lambda: b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 273, 4, 4_000_000, 30) + bytes(16_000_000),
        UnreadableImage,
    ),
    "gif-screen": (lambda: b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(40), ImageTooLarge),
    "webp-canvas": (lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\0" * 2, ImageTooLarge),
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


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_only_the_first_of_5000_frames_is_read(kind: str) -> None:
    if kind == "TIFF":
        file = many_frames_tiff()
    else:
        frames = [Image.new("RGB", (16, 16), (i % 250, i // 250, 0)) for i in range(5000)]
        options = {"lossless": True, "method": 0, "quality": 0} if kind == "WEBP" else {}
        file = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    started = time.process_time()

    decoded = decode_image(file)

    assert decoded.pixels.shape == (16, 16, 3)
    assert time.process_time() - started < 0.5


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
    exact = ImageLimits(max_bytes=len(file), max_pixels=67 * 45, max_side=67, max_aspect_ratio=67 / 45)
    assert decode_image(file, exact).width == 67


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
            start = int(random.integers(min(len(data), 400) if random.random() < 0.6 else len(data)))
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
