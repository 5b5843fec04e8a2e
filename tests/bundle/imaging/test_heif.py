"""HEIC and AVIF: recognized by brand, limited by header, turned by their boxes, and only once."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from PIL import Image

from bundle.errors import ImageTooLarge, UnreadableImage, UnsupportedImageType
from bundle.imaging.decode import ImageLimits, decode_image, image_size
from bundle.imaging.formats import quick_pixels, sniff
from tests.bundle.imaging.images import photo, saved

KINDS = ("HEIF", "AVIF")
# Mean difference of a pixel that the lossy encoders leave in these noisy images.
LOSS = 8
# By EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def encoded(kind: str, image: Image.Image, *others: Image.Image, **options: Any) -> bytes:
    """A file with these frames, the first one primary."""
    if kind == "AVIF":
        frames = {"save_all": True, "append_images": others} if others else {}
        return saved(image, kind, quality=95, **frames, **options)
    file = BytesIO()
    heif = pillow_heif.from_pillow(image)
    for other in others:
        heif.add_from_pillow(other)
    heif.save(file, quality=95, primary_index=0, **options)
    return file.getvalue()


def with_exif(kind: str, image: Image.Image, orientation: int) -> bytes:
    """A file whose encoder has written both EXIF and the boxes for an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "AVIF":
        return encoded(kind, image, exif=exif)
    file = BytesIO()
    pillow_heif.encode(
        image.mode, image.size, image.tobytes(), file, exif=exif.tobytes(), quality=95
    )
    return file.getvalue()


def difference(pixels: npt.NDArray[np.uint8], image: Image.Image) -> float:
    return float(np.abs(pixels.astype(int) - np.asarray(image).astype(int)).mean())


def box(brands: bytes, major: bytes = b"mif1") -> bytes:
    return struct.pack(">I", 16 + len(brands)) + b"ftyp" + major + bytes(4) + brands + bytes(64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_each_is_decoded_in_each_mode(kind: str, mode: str) -> None:
    image = photo().convert(mode)

    decoded = decode_image(encoded(kind, image))

    assert (decoded.info.format, decoded.info.width, decoded.info.height) == (kind, 67, 45)
    assert decoded.pixels.shape == (45, 67, 3)
    assert difference(decoded.pixels, image.convert("RGB")) < LOSS


@pytest.mark.parametrize("kind", KINDS)
def test_transparency_is_laid_over_white(kind: str) -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))

    decoded = decode_image(encoded(kind, image))

    assert "alpha_over_white" in decoded.info.operations
    assert decoded.pixels.min() > 250


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_frames_the_first_one_counts(kind: str) -> None:
    image, other = photo(48, 64), photo(48, 64, seed=1)

    decoded = decode_image(encoded(kind, image, other))

    assert difference(decoded.pixels, image) < LOSS < difference(decoded.pixels, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_boxes_that_turn_an_image_are_applied_once(kind: str, orientation: int) -> None:
    data = with_exif(kind, photo(), orientation)
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    turn = TURNS.get(orientation)
    upright = photo() if turn is None else photo().transpose(turn)

    pixels = decode_image(data).pixels

    assert pixels.shape == (upright.height, upright.width, 3)
    assert difference(pixels, upright) < LOSS


@pytest.mark.parametrize("kind", KINDS)
def test_exif_alone_turns_nothing(kind: str) -> None:
    data = bytearray(with_exif(kind, photo(), 6))
    data[data.index(b"irot") + 4] = 0

    assert decode_image(bytes(data)).pixels.shape == (45, 67, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (ImageLimits(max_bytes=100), "bytes"),
        (ImageLimits(max_pixels=3000), "pixels"),
        (ImageLimits(max_side=66), "longer side"),
        (ImageLimits(max_aspect_ratio=1.4), "shorter side"),
    ],
    ids=["bytes", "pixels", "side", "aspect ratio"],
)
def test_the_limits_are_those_of_all_formats(kind: str, limits: ImageLimits, what: str) -> None:
    data = encoded(kind, photo())

    with pytest.raises(ImageTooLarge, match=what):
        decode_image(data, limits)


def with_size(data: bytes, width: int, height: int) -> bytes:
    """The file with another size in the boxes that state it."""
    before = b"ispe" + struct.pack(">III", 0, 64, 64)
    assert before in data
    return data.replace(before, b"ispe" + struct.pack(">III", 0, width, height))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stated_size_over_the_limits_is_refused_before_decoding(kind: str) -> None:
    data = with_size(encoded(kind, photo(64, 64)), 8_000, 8_000)

    with pytest.raises(ImageTooLarge, match="8000 x 8000"):
        decode_image(data)
    with pytest.raises(ImageTooLarge, match="8000 x 8000"):
        image_size(data)


def test_pixels_of_another_size_than_stated_are_refused_or_brought_to_it() -> None:
    heic, avif = (with_size(encoded(kind, photo(64, 64)), 16, 16) for kind in KINDS)

    with pytest.raises(UnreadableImage, match="size signaled in the file"):
        decode_image(heic)
    assert decode_image(avif).pixels.shape == (16, 16, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_unreadable(kind: str, share: float) -> None:
    data = encoded(kind, photo(200, 300))

    with pytest.raises(UnreadableImage, match=f"The {kind} file is truncated or corrupt"):
        decode_image(data[: int(len(data) * share)])


def test_the_brands_tell_the_formats_apart() -> None:
    assert sniff(box(b"heic", b"heic")) == sniff(box(b"mif1heic")) == "HEIF"
    assert sniff(box(b"avif", b"avif")) == sniff(box(b"miafavif")) == "AVIF"
    assert sniff(box(b"heic", b"avis")) == "AVIF", "the major brand comes first"
    # Videos, and a brand that is not in the box any more.
    for other in (box(b"isomavc1", b"isom"), box(b"qt  ", b"qt  "), box(b"miaf")[:20] + b"heic"):
        assert sniff(other) is None
        with pytest.raises(UnsupportedImageType, match="HEIC or AVIF"):
            decode_image(other)
    assert sniff(bytes(4) + b"ftyp") is None


@pytest.mark.parametrize("kind", KINDS)
def test_neither_is_quick_so_both_are_decoded_in_decoders_only(kind: str) -> None:
    assert quick_pixels(encoded(kind, photo())) is None
