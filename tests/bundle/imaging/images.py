"""Image files, good and hostile, for the tests of the decoder."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image


def photo(height: int = 45, width: int = 67, seed: int = 0) -> Image.Image:
    """A smooth random colour image with a little noise."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(
        np.clip(smooth + random.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
    )


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """`image` as the bytes of a file."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(count: int) -> bytes:
    """`count` zero bytes, compressed piece by piece."""
    pack = zlib.compressobj(9)
    parts = [
        pack.compress(bytes(min(1 << 20, count - start))) for start in range(0, count, 1 << 20)
    ]
    return b"".join([*parts, pack.flush()])


def bilevel_png(width: int, height: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """A black 1-bit PNG; `before` and `after` are chunks around its data."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = chunk(b"IDAT", zeros(((width + 7) // 8 + 1) * height))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + data + after + chunk(b"IEND", b"")
    )


def many_scans(count: int = 15_000) -> bytes:
    """A progressive JPEG whose last scan is repeated `count` times: legal, and slow to decode."""
    data = saved(photo(256, 256), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def good_files() -> dict[str, bytes]:
    """The same image in every format, and in the variants that different code decodes."""
    image = photo()
    grey, turned = image.convert("L"), image.transpose(Image.Transpose.ROTATE_180)
    frames: dict[str, Any] = {"save_all": True, "append_images": [turned] * 3}
    return {
        "jpeg": saved(image, "JPEG"),
        "jpeg-progressive": saved(image, "JPEG", progressive=True),
        "jpeg-restart": saved(image, "JPEG", restart_marker_blocks=2),
        "jpeg-grey": saved(grey, "JPEG"),
        "jpeg-cmyk": saved(image.convert("CMYK"), "JPEG"),
        "png": saved(image, "PNG"),
        "png-palette": saved(image.quantize(64), "PNG"),
        "png-bilevel": saved(image.convert("1"), "PNG"),
        "png-animated": saved(image, "PNG", **frames),
        "gif": saved(image, "GIF"),
        "gif-animated": saved(image, "GIF", **frames),
        "bmp": saved(image, "BMP"),
        "bmp-grey": saved(grey, "BMP"),
        "webp": saved(image, "WEBP"),
        "webp-lossless": saved(image, "WEBP", lossless=True),
        "webp-animated": saved(image, "WEBP", **frames),
        "tiff": saved(image, "TIFF"),
        "tiff-big": saved(image, "TIFF", big_tiff=True),
        "tiff-lzw": saved(image, "TIFF", compression="tiff_lzw"),
        "tiff-deflate-strips": saved(image, "TIFF", compression="tiff_deflate", strip_size=2000),
        "tiff-jpeg": saved(image, "TIFF", compression="jpeg"),
        "tiff-group4": saved(image.convert("1"), "TIFF", compression="group4"),
        "tiff-frames": saved(image, "TIFF", **frames),
    }
