from __future__ import annotations

from io import BytesIO

import pillow_heif
import pytest
from PIL import Image

from frontend.preview import MAX_SIDE, preview


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def shown(data: bytes) -> Image.Image:
    copy = preview(data)
    assert copy is not None
    return Image.open(BytesIO(copy))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_each_format_becomes_one_that_a_browser_shows(kind: str) -> None:
    copy = shown(encoded(Image.new("RGB", (300, 200), "teal"), kind))

    assert copy.format in ("JPEG", "PNG")
    assert copy.size == (300, 200)


def test_heic_becomes_one_too() -> None:
    out = BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (300, 200), "teal")).save(out)

    assert shown(out.getvalue()).size == (300, 200)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_each_mode_becomes_rgb(mode: str) -> None:
    assert shown(encoded(Image.new(mode, (100, 80)), "TIFF")).mode == "RGB"


def test_16_bit_grey_keeps_its_middle() -> None:
    copy = shown(encoded(Image.new("I;16", (100, 100), 32768), "PNG"))

    assert copy.getpixel((50, 50)) == (127, 127, 127)


def test_transparent_parts_lie_over_white() -> None:
    copy = shown(encoded(Image.new("RGBA", (100, 100), (255, 0, 0, 0)), "PNG"))

    assert copy.getpixel((5, 5)) == (255, 255, 255)


def test_an_image_on_its_side_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    assert shown(encoded(Image.new("RGB", (300, 200)), "JPEG", exif=exif)).size == (200, 300)


def test_a_large_image_is_reduced_and_a_tiny_one_enlarged_in_whole_pixels() -> None:
    assert max(shown(encoded(Image.new("RGB", (4000, 1000)), "JPEG")).size) == MAX_SIDE
    assert shown(encoded(Image.new("RGB", (32, 32)), "PNG")).size == (256, 256)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        encoded(Image.effect_noise((300, 300), 9), "JPEG")[:400],
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
    ],
    ids=["empty", "text", "truncated", "unsupported-format"],
)
def test_what_cannot_be_drawn_is_none_and_not_an_error(data: bytes) -> None:
    assert preview(data) is None


def test_an_image_of_too_many_pixels_is_not_decoded() -> None:
    data = encoded(Image.new("RGB", (11, 10)), "PNG")

    assert preview(data, max_pixels=109) is None
    assert preview(data, max_pixels=110) is not None
