"""Images for requests: ordinary ones, and decompression bombs."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 40, 210), "green": (40, 190, 60), "red": (220, 40, 30)}


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def coloured(label: str = "red", size: tuple[int, int] = (48, 40), kind: str = "PNG") -> bytes:
    """An image that the tiny models classify as `label`."""
    return encode(Image.new("RGB", size, COLOURS[label]), kind)


def varied(width: int = 60, height: int = 44, seed: int = 0) -> Image.Image:
    """Smooth random colours: every resize and rotation differs."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IEND", b"")


def _zeros(count: int) -> bytes:
    """`count` zero bytes as zlib data, in constant memory."""
    packer = zlib.compressobj(9)
    block = bytes(1_000_000)
    parts = [packer.compress(block) for _ in range(count // len(block))]
    return b"".join([*parts, packer.compress(bytes(count % len(block))), packer.flush()])


def huge_png() -> bytes:
    """900 megapixels of one bit: about 110 KB."""
    return _png(30_000, 30_000, _chunk(b"IDAT", _zeros(30_000 * (1 + 30_000 // 8))))


def long_png() -> bytes:
    """80,000,000 x 1 pixels."""
    return _png(80_000_000, 1, _chunk(b"IDAT", _zeros(1 + 10_000_000)))


def text_png() -> bytes:
    """A small image with 200 MB of text in a compressed chunk."""
    pixels = _chunk(b"IDAT", zlib.compress(bytes(2 * 8)))
    return _png(8, 8, _chunk(b"zTXt", b"Comment\0\0" + _zeros(200_000_000)), pixels)


def scans_jpeg(scans: int = 15_000) -> bytes:
    """A progressive JPEG whose last scan is repeated; each one is a pass over the whole image."""
    data = encode(Image.new("L", (2000, 2000), 90), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


BOMBS = {
    "900 megapixels": huge_png,
    "80,000,000 x 1": long_png,
    "200 MB of text": text_png,
    "15,000 scans": scans_jpeg,
}
