"""What the first bytes and the headers of a picture say, read from the bytes alone, before any decoder runs.

Nothing here allocates in proportion to the picture, and every loop over the file is either bounded by a
``MAX_...`` constant or done by ``bytes.find`` and ``re`` at the speed of C.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from bundle.errors import UnreadableImage
from bundle.imaging.gif import read_gif
from bundle.imaging.jpeg import absurd, read_jpeg, scanned_pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_BMP_RLE_BYTES = 4_000_000
"""Size of a run-length BMP; Pillow decodes those in Python, about 4 MB a second."""
MAX_PNG_CHUNKS = 50_000
"""Chunks of a PNG; 20 MB in the usual 8 kB chunks are 2,500."""
MAX_TIFF_VALUES = 200_000
"""Numbers in the first directory of a TIFF; four planes of 16,384 one-line strips need 131,072."""


@dataclass(frozen=True)
class Header:
    """Format (Pillow's name), size as stored in pixels; scans and place of the end marker (JPEG); frames (GIF)."""

    format: str
    width: int
    height: int
    scans: int = 1
    end: int = 0
    frames: int = 1


def sniff(data: bytes) -> str | None:
    """The format that the first bytes belong to, one of ``FORMATS``; None for any other."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    # "BM" alone is a weak mark, so the header size that follows must be one that BMP has.
    if data[:2] == b"BM" and data[14:18] in _BMP_HEADERS:
        return "BMP"
    return None


_BMP_HEADERS = {struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124)}


def read_header(data: bytes, format: str, max_scans: int, max_frames: int) -> Header:  # noqa: A002
    """Read the header of a picture whose ``format`` :func:`sniff` found.

    Counting the scans of a JPEG stops at ``max_scans + 1``, the frames of a GIF at ``max_frames + 1``. Raises :class:`UnreadableImage` when the header
    is cut off, or made of so many parts that reading it would be the attack.
    """
    try:
        if format == "JPEG":
            return Header("JPEG", *read_jpeg(data, max_scans))
        if format == "GIF":
            width, height, frames = read_gif(data, max_frames)
            return Header("GIF", width, height, frames=frames)
        return _READERS[format](data)
    except (struct.error, IndexError) as exc:
        raise UnreadableImage(
            f"The file ends inside its header. Send the whole file. Received: {len(data)} bytes of {format}"
        ) from exc


def quick_pixels(data: bytes) -> int | None:
    """How many pixels a decoder goes through for a picture, at most: those of a progressive JPEG in each scan.

    Found in microseconds, for some formats at 1 ns a byte; None: it takes longer to find out.
    """
    try:
        match sniff(data):
            case "JPEG":
                return scanned_pixels(data)
            case "PNG" if data.startswith(_PNG_HEADER, 8) and not any(
                kind in data for kind in _PNG_TEXT
            ):
                width, height = struct.unpack_from(">II", data, 16)
                return int(width * height)
            case "WEBP":
                header = _webp(data)
                return header.width * header.height
    except (struct.error, IndexError, UnreadableImage):
        pass  # the decoder says what is wrong with it
    return None


_PNG_HEADER = b"\0\0\0\rIHDR"
_PNG_TEXT = (b"zTXt", b"iTXt")  # some bytes of them can become a megabyte
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT")


def _png(data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    if not data.startswith(_PNG_HEADER, 8):
        raise UnreadableImage(f"A PNG file starts with its header, IHDR. Received: {data[8:16]!r}")
    position = 8
    chunks = 0
    view = memoryview(data)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        # Pillow does not compare the checksum of picture data, and shows what zeros in its place decode to.
        if (
            kind in _PNG_CRITICAL
            and zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]
        ):
            raise UnreadableImage(
                f"The PNG file is truncated or corrupt. Checksum of chunk: {kind!r}"
            )
        if kind == b"IHDR" and chunks:
            raise UnreadableImage("A PNG file has one header. Received: several chunks IHDR")
        if kind == b"IEND":
            break
        position = end + 4
        chunks += 1
        if chunks > MAX_PNG_CHUNKS:
            raise absurd("PNG", f"more than {MAX_PNG_CHUNKS} chunks")
    return Header("PNG", width, height)


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(_exactly(data, 24, 3), "little") + 1
        return Header("WEBP", width, int.from_bytes(_exactly(data, 27, 3), "little") + 1)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WEBP", (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    raise UnreadableImage(f"A WebP file starts with a picture chunk. Received: {kind!r}")


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
        (compression,) = struct.unpack_from("<I", data, 30)
        if compression in (1, 2) and len(data) > MAX_BMP_RLE_BYTES:
            raise absurd("BMP", f"{len(data)} bytes of run lengths")
    return Header("BMP", abs(width), abs(height))  # a negative height stores the rows from the top


_TIFF_TYPES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
}
_TIFF_BYTE_TYPES = (1, 2, 6, 7)
_WIDTH, _HEIGHT = 256, 257


def _tiff(data: bytes) -> Header:
    """Read the first directory. Pillow turns every number in it into a Python object, hence the bound."""
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    if big:
        (start,) = struct.unpack_from(order + "Q", data, 8)
        (entries,) = struct.unpack_from(order + "Q", data, start)
        start, step, inline, entry = start + 8, 20, 12, struct.Struct(order + "HHQ")
    else:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (entries,) = struct.unpack_from(order + "H", data, start)
        start, step, inline, entry = start + 2, 12, 8, struct.Struct(order + "HHI")
    size = {_WIDTH: 0, _HEIGHT: 0}
    values = 0
    if entries > 0xFFFF:
        raise absurd("TIFF", f"a directory of {entries} entries")
    for position in range(start, start + entries * step, step):
        tag, kind, count = entry.unpack_from(data, position)
        if kind in _TIFF_TYPES and kind not in _TIFF_BYTE_TYPES:
            values += count
        if tag in size and count == 1 and kind in (3, 4, 16):
            code = {3: "H", 4: "I", 16: "Q"}[kind]
            (size[tag],) = struct.unpack_from(order + code, data, position + inline)
    if values > MAX_TIFF_VALUES:
        raise absurd("TIFF", f"{values} numbers in its directory")
    return Header("TIFF", size[_WIDTH], size[_HEIGHT])


def _exactly(data: bytes, start: int, length: int) -> bytes:
    part = data[start : start + length]
    if len(part) != length:
        raise IndexError
    return part


_READERS: dict[str, Callable[[bytes], Header]] = {
    "PNG": _png,
    "WEBP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
}
