"""JPEG markers: size, scan count (`decode.py` holds it to the limit), and truncation."""

from __future__ import annotations

import re
import struct
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from bundle.errors import UnreadableImage

MAX_SEGMENTS = 10_000
"""Marker segments other than scans; a camera writes fewer than 100."""
MAX_STRAY_BYTES = 65_536
"""Bytes between the segments of the header; Pillow reads them one by one in Python."""

# Of several FF in a row the last one counts. `re` finds the plain first byte with memchr.
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
# Frame markers: baseline and extended sequential, progressive.
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
# Segments that come before a frame, each with its length.
_USUAL_SEGMENTS = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
# Cameras write about ten.
_MAX_USUAL_SEGMENTS = 32
_SOS, _EOI, _SOI, _TEM = 0xDA, 0xD9, 0xD8, 0x01
# Rows compared at a time.
_BAND = 256
# Anything without 0xFF.
_NOISE = bytes(i * 73 % 251 for i in range(1, 257))
# With restart intervals libjpeg skips to the next restart marker, hence noise after all eight.
_OTHER_DATA = _NOISE + b"".join(bytes([0xFF, 0xD0 + number]) + _NOISE for number in range(8))


class JpegHeader(NamedTuple):
    """Width and height in pixels, number of scans, and offset of the end marker."""

    width: int
    height: int
    scans: int
    end: int


def read_jpeg(data: bytes, max_scans: int) -> JpegHeader:
    """Walk the markers of a JPEG file as libjpeg does.

    Outside scans it goes by length, inside them by search (FF00 and RSTn are data). Several frame
    headers are an error to libjpeg; the largest is reported, so that none can hide another.

    Counting stops at `max_scans + 1` scans, before the end marker is found.

    Raises:
        UnreadableImage: The file has no end marker, or is built to be slow.
        struct.error: The file ends inside a frame header.
    """
    width = height = scans = segments = stray = 0
    position = 2
    while match := _NEXT_MARKER.search(data, position):
        marker = match.group()[-1]
        if not scans:
            stray += match.end() - position - 2
        position = match.end()
        if marker == _EOI:
            return JpegHeader(width, height, scans, position - 2)
        stated = int.from_bytes(data[position : position + 2], "big")
        length = 0 if marker in (_SOI, _TEM) else max(2, stated)
        if marker in _FRAME_MARKERS:
            frame_height, frame_width = struct.unpack_from(">HH", data, position + 3)
            width, height = max(width, frame_width), max(height, frame_height)
        if marker == _SOS:
            scans += 1
            if scans > max_scans:
                return JpegHeader(width, height, scans, 0)
        else:
            segments += 1
        if segments > MAX_SEGMENTS:
            raise _built_to_be_slow(f"more than {MAX_SEGMENTS} segments")
        if stray > MAX_STRAY_BYTES:
            raise _built_to_be_slow(f"more than {MAX_STRAY_BYTES} bytes between segments")
        position += length
    raise UnreadableImage(
        "The JPEG file is truncated: it has no end marker. Send the whole file. "
        f"Received: {len(data)} bytes"
    )


def _built_to_be_slow(found: str) -> UnreadableImage:
    return UnreadableImage(
        "The JPEG file is built to be slow to decode. Save it as a baseline JPEG. "
        f"Received: {found}"
    )


def scanned_pixels(data: bytes) -> int | None:
    """Pixels of a JPEG, times its scans at most if it is progressive; None for an unusual header.

    Unusual is whatever libjpeg could read as another header than this function does, and a file
    that ends before its frame header. Never raises.
    """
    position = 2
    for _ in range(_MAX_USUAL_SEGMENTS):
        # Marker, length, and of a frame header precision, height and width.
        segment = data[position : position + 9]
        if len(segment) < 9:
            return None
        start, marker, length, height, width = struct.unpack(">BBHxHH", segment)
        if start != 0xFF or length < 2:
            return None
        if marker in _SEQUENTIAL:
            return int(height * width)
        if marker == _PROGRESSIVE:
            # Counting costs more than all else here. Sequential scans are few, or cost little each.
            return int(height * width) * data.count(bytes([0xFF, _SOS]))
        if marker not in _USUAL_SEGMENTS:
            return None
        position += 2 + length
    return None


def lacks_data(data: bytes, end: int, image: Image.Image) -> bool:
    """Whether part of the decoded `image` is made up because its last scan stops early.

    Where data runs out before the end marker at offset `end`, libjpeg continues with middle grey
    and only warns, and Pillow drops the warning. An image whose last pixel is about middle grey is
    therefore decoded again with other bytes before the end marker: a complete scan ignores them, a
    truncated one changes.
    """
    corner = image.getpixel((image.width - 1, image.height - 1))
    if image.mode == "RGB" and isinstance(corner, tuple):
        if abs(0.299 * corner[0] + 0.587 * corner[1] + 0.114 * corner[2] - 128) > 3:
            return False
    elif image.mode == "L" and isinstance(corner, (int, float)) and abs(corner - 128) > 3:
        return False
    with Image.open(BytesIO(data[:end] + _OTHER_DATA + data[end:]), formats=["JPEG"]) as again:
        again.load()
        return not _same(image, again)


def _same(one: Image.Image, other: Image.Image) -> bool:
    """Whether all pixels are equal, compared in bands so that no third copy of the image exists."""
    bands = [
        (0, top, one.width, min(top + _BAND, one.height)) for top in range(0, one.height, _BAND)
    ]
    return all(
        np.array_equal(np.asarray(one.crop(band)), np.asarray(other.crop(band))) for band in bands
    )
