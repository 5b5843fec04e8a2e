"""Uploaded bytes to RGB pixels: limits first, from the header, then one guarded call of the decoder.

Pillow decodes, and libjpeg-turbo by itself what it has no doubts about. The functions have no deadline of their own;
the service runs them in a process that it can kill.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from bundle.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedImageType
from bundle.format.manifest import Input, ShorterSide
from bundle.imaging import turbo
from bundle.imaging.colour import to_rgb
from bundle.imaging.geometry import prepare
from bundle.imaging.formats import Header, read_header, sniff
from bundle.imaging.jpeg import lacks_data

MAX_PIXELS = 178_956_970
"""Pillow's own bound (twice its warning level of a quarter gigabyte of RGB), which stays as it is."""
_ORIENTATION = 0x0112
_TURNED = range(2, 9)  # orientations other than upright


@dataclass(frozen=True)
class ImageLimits:
    """Bounds judged before decoding. Raises ``ValueError`` for a limit that is not above 0."""

    max_bytes: int = 20_000_000  # bytes of the file
    max_pixels: int = 50_000_000  # width x height; at most 178,956,970, the bound of Pillow
    max_side: int = 16_384  # pixels of the longer side
    max_aspect_ratio: float = 50.0  # longer side / shorter side
    max_jpeg_scans: int = 100  # a progressive camera picture has about 10
    max_gif_frames: int = 1000  # of which the first is classified

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{field.name} is a number above 0. Received: {value!r}")
        if self.max_pixels > MAX_PIXELS:
            raise ValueError(f"max_pixels is at most {MAX_PIXELS}. Received: {self.max_pixels}")


@dataclass(frozen=True)
class DecodedImage:
    """A decoded picture.

    ``pixels``: uint8 [H, W, 3] RGB, upright, contiguous. ``format``: JPEG, PNG, WEBP, GIF, BMP or TIFF.
    ``width``, ``height``, ``mode``: as stored in the file, before orientation and conversion (mode as Pillow
    names it). ``operations``: what was done to get from there to ``pixels``, in order, for example
    ``exif_orientation_6``, ``cmyk_to_rgb``, ``alpha_over_white``, ``16_bit_to_8_bit``, ``decoded_at_1_4`` (of its
    width and height).
    """

    pixels: npt.NDArray[np.uint8]
    format: str
    width: int
    height: int
    mode: str
    operations: list[str]


def read_input(data: bytes, input: Input, limits: ImageLimits = ImageLimits()) -> DecodedImage:  # noqa: A002
    """Decode a file and bring it to the geometry of a model: ``pixels`` is uint8 [input.height, input.width, 3].

    The one way from bytes to a model, in training, in evaluation, in the self-test and in service. A JPEG much
    larger than the model's input is decoded at 1/2, 1/4 or 1/8 of its size, which costs a fraction of the time.
    Raises as :func:`decode_image`.
    """
    resize = input.resize
    needed = resize.size if isinstance(resize, ShorterSide) else max(resize.height, resize.width)
    image = decode_image(data, limits, shorter_side=needed)
    try:
        return replace(image, pixels=prepare(image.pixels, input))
    except MemoryError as exc:
        raise _out_of_memory(image.format) from exc


def decode_image(
    data: bytes, limits: ImageLimits = ImageLimits(), shorter_side: int | None = None
) -> DecodedImage:
    """Decode the first frame of a JPEG, PNG, WebP, GIF, BMP or TIFF file.

    ``shorter_side``: what will be made of the picture has so many pixels on its shorter side, so that a JPEG may
    be decoded smaller than it is stored (:mod:`bundle.imaging.turbo`); None asks for all of it.
    Raises :class:`UnsupportedImageType` for other first bytes, :class:`ImageTooLarge` when the bytes or the
    header are over ``limits``, :class:`UnreadableImage` for a truncated or corrupt file. No warning of
    Pillow escapes. Safe for concurrent calls.
    """
    if len(data) > limits.max_bytes:
        raise _too_large("bytes", limits.max_bytes, len(data))
    kind = sniff(data)
    if kind is None:
        raise UnsupportedImageType(
            "The file is not a picture of a known type. Expected JPEG, PNG, WebP, GIF, BMP or TIFF. "
            + (
                f"Received: a file that starts with {data[:8]!r}"
                if data
                else "Received: an empty file"
            )
        )
    header = read_header(data, kind, limits.max_jpeg_scans, limits.max_gif_frames)
    _judge(header, limits)
    with _quiet_pillow():
        try:
            return _decode(data, header, limits, shorter_side)
        except ImageError:
            raise
        except Image.DecompressionBombError as exc:
            raise ImageTooLarge(
                f"The picture has too many pixels. {_send_smaller(limits)} Received: {exc}"
            ) from exc
        except MemoryError as exc:
            raise _out_of_memory(kind) from exc
        except (
            Exception
        ) as exc:  # Pillow raises OSError, ValueError, TypeError, SyntaxError, struct.error, ...
            text = " ".join(str(exc).split())[:200]
            raise UnreadableImage(
                f"The {kind} file is truncated or corrupt. Send a file that opens in an image viewer. "
                f"Received: {len(data)} bytes; the decoder says: {text or type(exc).__name__}"
            ) from exc


def _decode(
    data: bytes, header: Header, limits: ImageLimits, shorter_side: int | None
) -> DecodedImage:
    kind = header.format
    image: Image.Image = Image.open(BytesIO(data), formats=[kind])
    mode = image.mode
    # A TIFF turns itself upright while it loads, and announces the upright size before.
    turned_by_pillow = _tiff_orientation(image) if kind == "TIFF" else 1
    width, height = image.size if turned_by_pillow < 5 else image.size[::-1]
    _judge(Header(kind, width, height), limits)
    if kind == "JPEG" and mode in ("RGB", "L"):
        factor = turbo.reduction(width, height, shorter_side)
        pixels = turbo.decode(data, width, height, factor)
        if pixels is not None:
            return _described(pixels, image, factor)
    image.load()
    if kind == "JPEG" and lacks_data(data, header.end, image):
        raise ValueError("the picture data stops before the picture does")
    operations: list[str] = []
    orientation = turned_by_pillow if kind == "TIFF" else _exif_orientation(image)
    if orientation != 1:
        operations.append(f"exif_orientation_{orientation}")
    if mode == "CMYK" and kind == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG as inverted; only those that carry Adobe's marker are.
        image = Image.eval(image, lambda value: 255 - value)
    image, conversions = to_rgb(image, data[24] if kind == "PNG" else 8)
    pixels = _upright(np.array(image, dtype=np.uint8), 1 if kind == "TIFF" else orientation)
    return DecodedImage(pixels, kind, width, height, mode, operations + conversions)


def _described(pixels: npt.NDArray[np.uint8], image: Image.Image, factor: int) -> DecodedImage:
    """What libjpeg-turbo decoded at 1/``factor``, turned upright, with what the header ``image`` says of it."""
    orientation = _exif_orientation(image)
    steps = (
        (factor > 1, f"decoded_at_1_{factor}"),
        (orientation != 1, f"exif_orientation_{orientation}"),
        (image.mode == "L", "grey_to_rgb"),
    )
    return DecodedImage(
        _upright(pixels, orientation),
        "JPEG",
        *image.size,
        image.mode,
        [name for done, name in steps if done],
    )


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """``pixels`` [H, W, 3] turned by an EXIF orientation 1 to 8, contiguous."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels)


def _exif_orientation(image: Image.Image) -> int:
    """Orientation 1 to 8; 1 for a picture without EXIF and for EXIF that cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - whatever malformed EXIF makes Pillow raise, the pixels are good
        return 1
    return value if isinstance(value, int) and value in _TURNED else 1


def _tiff_orientation(image: Image.Image) -> int:
    value = getattr(image, "tag_v2", {}).get(_ORIENTATION, 1)
    return value if isinstance(value, int) and value in _TURNED else 1


def _judge(header: Header, limits: ImageLimits) -> None:
    """Raise for a size over the limits; sizes of 0 are left to the decoder, which refuses them."""
    width, height = header.width, header.height
    size = f"{width} x {height}"
    if width < 1 or height < 1:
        raise UnreadableImage(f"The {header.format} header states no size. Received: {size} pixels")
    if width * height > limits.max_pixels:
        raise _too_large("pixels", limits.max_pixels, f"{size} = {width * height}")
    if max(width, height) > limits.max_side:
        raise _too_large("pixels on the longer side", limits.max_side, size)
    if max(width, height) > limits.max_aspect_ratio * min(width, height):
        raise _too_large("times the shorter side on the longer side", limits.max_aspect_ratio, size)
    if header.scans > limits.max_jpeg_scans:
        raise _too_large("JPEG scans", limits.max_jpeg_scans, f"at least {header.scans}")
    if header.frames > limits.max_gif_frames:
        raise _too_large("GIF frames", limits.max_gif_frames, f"at least {header.frames}")


def _too_large(what: str, limit: float, found: object) -> ImageTooLarge:
    return ImageTooLarge(
        f"The picture is too large. Expected at most {limit:,} {what}; send a smaller picture. Received: {found}"
    )


def _out_of_memory(kind: str) -> UnreadableImage:
    return UnreadableImage(
        f"The {kind} picture needs more memory than there is. Send a smaller one."
    )


def _send_smaller(limits: ImageLimits) -> str:
    return f"Expected at most {limits.max_pixels:,}; send a smaller picture."


_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_filters: warnings.catch_warnings[None] | None = None


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignore the warnings that Pillow's modules raise, for as long as any thread is decoding.

    ``warnings.catch_warnings`` alone restores a wrong state when threads interleave, hence the count.
    """
    global _quiet_users, _quiet_filters
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.|bundle\.(image|colour)")
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0 and _quiet_filters is not None:
                _quiet_filters.__exit__(None, None, None)
                _quiet_filters = None
