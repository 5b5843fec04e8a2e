"""Image files to RGB pixels: check the limits against the header, then decode inside one guard.

Pillow decodes, except that libjpeg-turbo decodes plain JPEGs directly. The functions have no
deadline of their own; the service runs them in a process that it can kill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from bundle.errors import ImageTooLarge, UnreadableImage, UnsupportedImageType
from bundle.format.manifest import Input, ShorterSide
from bundle.imaging import turbo
from bundle.imaging.colour import to_rgb
from bundle.imaging.formats import NAMES, open_image, sniff, webp_size
from bundle.imaging.geometry import prepare
from bundle.imaging.guard import image_errors, out_of_memory
from bundle.imaging.jpeg import lacks_data, read_jpeg
from bundle.imaging.orientation import exif_orientation, tiff_orientation, upright

MAX_PIXELS = 178_956_970
"""Pillow's own limit, which stays in force: twice its warning level, a quarter gigabyte of RGB."""


@dataclass(frozen=True)
class ImageLimits:
    """Limits checked before decoding.

    Attributes:
        max_bytes: Bytes of the file.
        max_pixels: Width x height; at most 178,956,970, the limit of Pillow.
        max_side: Pixels of the longer side.
        max_aspect_ratio: Longer side / shorter side.
        max_jpeg_scans: Scans of a JPEG; a progressive one from a camera has about 10.

    Raises:
        ValueError: A limit is not above 0, or `max_pixels` is above that of Pillow.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    max_aspect_ratio: float = 50.0
    max_jpeg_scans: int = 100

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{field.name} is a number above 0. Received: {value!r}")
        if self.max_pixels > MAX_PIXELS:
            raise ValueError(f"max_pixels is at most {MAX_PIXELS}. Received: {self.max_pixels}")


@pydantic_dataclass(config=ConfigDict(strict=True, extra="forbid"), frozen=True, slots=True)
class ImageInfo:
    """The image as it is stored in the file, and how it was decoded."""

    format: Annotated[str, Field(examples=["JPEG"])]
    width: Annotated[int, Field(description="In pixels, as stored; of HEIC, upright.")]
    height: Annotated[int, Field(description="In pixels, as stored; of HEIC, upright.")]
    mode: Annotated[
        str, Field(description="Colour mode as stored, in Pillow's terms.", examples=["RGB"])
    ]
    operations: Annotated[
        list[str],
        Field(
            description="What was done to it before the resize.", examples=[["exif_orientation_6"]]
        ),
    ]


@dataclass(frozen=True)
class DecodedImage:
    """Decoded pixels, uint8 [H, W, 3] RGB, upright and contiguous, and where they come from.

    The operations of `info` are in order, for example `exif_orientation_6`, `cmyk_to_rgb`,
    `alpha_over_white`, `16_bit_to_8_bit`, `decoded_at_1_4` (of its width and height).
    """

    pixels: npt.NDArray[np.uint8]
    info: ImageInfo
    extent: tuple[float, float] | None = None  # see `prepare`


def read_input(data: bytes, input: Input, limits: ImageLimits = ImageLimits()) -> DecodedImage:  # noqa: A002
    """Decode a file and bring it to the geometry of a model.

    Training, evaluation, the self-test and the service all preprocess with this function. A JPEG
    much larger than the model's input is decoded at 1/2, 1/4 or 1/8 of its size, which costs a
    fraction of the time.

    Returns:
        The image, with `pixels` uint8 [input.height, input.width, 3].

    Raises:
        ImageError: As `decode_image`.
    """
    resize = input.resize
    needed = resize.size if isinstance(resize, ShorterSide) else max(resize.height, resize.width)
    image = decode_image(data, limits, shorter_side=needed)
    try:
        return replace(image, pixels=prepare(image.pixels, input, image.extent), extent=None)
    except MemoryError as exc:
        raise out_of_memory(image.info.format) from exc


def decode_image(
    data: bytes, limits: ImageLimits = ImageLimits(), shorter_side: int | None = None
) -> DecodedImage:
    """Decode the first frame of a file of one of `formats.FORMATS`, of HEIC the primary image.

    No other exception and no warning of Pillow escapes. Safe for concurrent calls.

    Args:
        data: The file.
        limits: Checked before decoding.
        shorter_side: Pixels that the caller needs on the shorter side, so that a JPEG may be
            decoded at a fraction of its size (see `bundle.imaging.turbo`); None decodes in full.

    Raises:
        UnsupportedImageType: The first bytes belong to no supported format.
        ImageTooLarge: The file or its header is over `limits`.
        UnreadableImage: The file is truncated or corrupt.
    """
    kind = _supported_type(data, limits)
    with image_errors(kind, len(data), limits.max_pixels):
        return _decode(data, kind, limits, shorter_side)


def image_size(data: bytes, limits: ImageLimits = ImageLimits()) -> tuple[int, int]:
    """Width and height in pixels, from the header alone. Raises as `decode_image`."""
    kind = _supported_type(data, limits)
    with image_errors(kind, len(data), limits.max_pixels):
        image, _ = _open(data, kind, limits)
        return image.size


def _supported_type(data: bytes, limits: ImageLimits) -> str:
    if len(data) > limits.max_bytes:
        raise _too_large("bytes", limits.max_bytes, len(data))
    kind = sniff(data)
    if kind is None:
        found = f"a file that starts with {data[:8]!r}" if data else "an empty file"
        raise UnsupportedImageType(
            f"The file is not an image of a supported type. Expected {NAMES}. Received: {found}"
        )
    return kind


def _open(data: bytes, kind: str, limits: ImageLimits) -> tuple[Image.Image, int]:
    """The image, opened and within the limits, and for a JPEG the offset of its end marker."""
    end = 0
    if kind == "JPEG":
        header = read_jpeg(data, limits.max_jpeg_scans)
        _check_size(kind, header.width, header.height, limits)
        if header.scans > limits.max_jpeg_scans:
            raise _too_large("JPEG scans", limits.max_jpeg_scans, f"at least {header.scans}")
        end = header.end
    elif kind == "WEBP" and (size := webp_size(data)):
        _check_size(kind, *size, limits)
    image = open_image(data, kind)
    _check_size(kind, *image.size, limits)
    return image, end


def _decode(data: bytes, kind: str, limits: ImageLimits, shorter_side: int | None) -> DecodedImage:
    image, end = _open(data, kind, limits)
    mode = image.mode
    # Pillow turns a TIFF upright while it loads, and states the upright size before.
    turned_by_pillow = tiff_orientation(image) if kind == "TIFF" else 1
    width, height = image.size if turned_by_pillow < 5 else image.size[::-1]
    if kind == "JPEG" and mode in ("RGB", "L"):
        turn = exif_orientation(image)
        factor = turbo.reduction(width, height, shorter_side, turned=turn != 1)
        pixels = turbo.decode(data, width, height, factor)
        if pixels is not None:
            return _described(pixels, image, factor, turn)
    if kind == "PNG":
        # Loading ignores the checksums of pixel data. `verify` checks them, and closes the image.
        image.verify()
        image = open_image(data, kind)
    image.load()
    if kind == "JPEG" and lacks_data(data, end, image):
        raise ValueError("the last scan stops early")
    operations: list[str] = []
    # libheif has turned a HEIC file by its boxes, beside which EXIF does not count; Pillow has put
    # what the boxes of an AVIF file say into its EXIF.
    orientation = 1 if kind == "HEIF" else exif_orientation(image)
    if kind == "TIFF":
        orientation = turned_by_pillow
    if orientation != 1:
        operations.append(f"exif_orientation_{orientation}")
    if mode == "CMYK" and kind == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG as inverted; only those that carry Adobe's marker are.
        image = Image.eval(image, lambda value: 255 - value)
    image, conversions = to_rgb(image, data[24] if kind == "PNG" else 8)
    pixels = upright(np.array(image, dtype=np.uint8), 1 if kind == "TIFF" else orientation)
    return DecodedImage(pixels, ImageInfo(kind, width, height, mode, operations + conversions))


def _described(
    pixels: npt.NDArray[np.uint8], image: Image.Image, factor: int, orientation: int
) -> DecodedImage:
    """The result for `pixels` that libjpeg-turbo decoded at 1/`factor`; `image` has the header."""
    steps = (
        (factor > 1, f"decoded_at_1_{factor}"),
        (orientation != 1, f"exif_orientation_{orientation}"),
        (image.mode == "L", "grey_to_rgb"),
    )
    info = ImageInfo("JPEG", *image.size, image.mode, [name for done, name in steps if done])
    extent = (image.height / factor, image.width / factor) if orientation == 1 else None
    return DecodedImage(upright(pixels, orientation), info, extent)


def _check_size(kind: str, width: int, height: int, limits: ImageLimits) -> None:
    size = f"{width} x {height}"
    if width < 1 or height < 1:
        raise UnreadableImage(f"The {kind} header states no size. Received: {size} pixels")
    if width * height > limits.max_pixels:
        raise _too_large("pixels", limits.max_pixels, f"{size} = {width * height}")
    if max(width, height) > limits.max_side:
        raise _too_large("pixels on the longer side", limits.max_side, size)
    if max(width, height) > limits.max_aspect_ratio * min(width, height):
        raise _too_large("times the shorter side on the longer side", limits.max_aspect_ratio, size)


def _too_large(what: str, limit: float, found: object) -> ImageTooLarge:
    return ImageTooLarge(
        f"The image is too large. Expected at most {limit:,} {what}; send a smaller image. "
        f"Received: {found}"
    )
