from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from bundle.errors import UnreadableImage
from bundle.imaging.decode import decode_image
from tests.bundle.imaging.images import (
    chunk,
    good_files,
    photo,
    saved,
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
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}


@pytest.mark.parametrize("name", GOOD)
def test_every_format_decodes_to_its_image(name: str) -> None:
    decoded = decode_image(GOOD[name])

    error = np.abs(decoded.pixels.astype(int) - np.asarray(photo())).mean()
    assert decoded.pixels.shape == (45, 67, 3)
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.info.width, decoded.info.height) == (67, 45)
    assert decoded.info.format == name.split("-")[0].upper()
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
    assert (decoded.info.width, decoded.info.height) == stored.size
    assert decoded.info.operations == (
        [f"exif_orientation_{orientation}"] if orientation > 1 else []
    )


def test_exif_orientation_is_applied_to_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    decoded = decode_image(
        saved(photo().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    )

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
def test_malformed_exif_does_not_fail_a_good_image(kind: str, exif: bytes) -> None:
    assert decode_image(saved(photo(), kind, exif=exif)).pixels.shape == (45, 67, 3)


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (2, 2), (200, 0, 0, 0))
    clear.putpixel((0, 0), (200, 0, 0, 255))

    for kind in ("PNG", "WEBP", "TIFF"):
        decoded = decode_image(saved(clear, kind, **LOSSLESS[kind]))

        assert decoded.pixels.reshape(-1, 3).tolist() == [[200, 0, 0]] + [[255, 255, 255]] * 3
        assert decoded.info.operations == ["alpha_over_white"]


def test_transparent_palette_entry_and_grey_alpha_become_white() -> None:
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    grey = Image.new("LA", (1, 1), (7, 0))

    for kind in ("PNG", "GIF"):
        assert decode_image(saved(palette, kind, transparency=1)).pixels.tolist() == [
            [[10, 20, 30], [255, 255, 255]]
        ]
    assert (
        decode_image(saved(palette, "PNG", transparency=b"\xff\x00")).pixels[0, 1].tolist()
        == [255] * 3
    )
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
        assert "alpha_over_white" in decoded.info.operations


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = Image.fromarray(np.array([[0, 257, 32_896, 65_535]], dtype=np.uint16))

    for kind in ("PNG", "TIFF"):
        decoded = decode_image(saved(ramp, kind))
        assert decoded.pixels[0, :, 0].tolist() == [0, 1, 128, 255]
        assert decoded.info.operations == ["16_bit_to_8_bit", "grey_to_rgb"]


def test_16_bit_colour_keeps_its_high_byte() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    row = zlib.compress(b"\0" + struct.pack(">HHH", 65_535, 32_896, 255))

    decoded = decode_image(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", row) + chunk(b"IEND", b"")
    )

    assert decoded.pixels.tolist() == [[[255, 128, 0]]]
    assert decoded.info.operations == ["16_bit_to_8_bit"]


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
