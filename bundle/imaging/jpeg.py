"""The marker structure of a JPEG file, and whether its last scan is all there."""

from __future__ import annotations

import re
import struct
from io import BytesIO

import numpy as np
from PIL import Image

from bundle.errors import UnreadableImage

MAX_SEGMENTS = 10_000
"""Marker segments besides scans; a camera writes fewer than 100."""
MAX_STRAY_BYTES = 65_536
"""Bytes between the segments of the header; Pillow reads them one by one in Python."""

# Of several FF in a row the last one counts. The pattern starts with a plain byte, which `re` finds with memchr.
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2  # frames: baseline or extended; of many scans
# What comes before a frame, each with its length.
_USUAL_SEGMENTS = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
_FEW_SEGMENTS = 32  # of these; cameras write about ten
_SOS, _EOI, _SOI, _TEM = 0xDA, 0xD9, 0xD8, 0x01
_BAND = 256  # rows
_NOISE = bytes(i * 73 % 251 for i in range(1, 257))  # anything without 0xFF
# With restart intervals libjpeg skips to the next restart marker, so each of the eight leads to some noise.
_OTHER_DATA = _NOISE + b"".join(bytes([0xFF, 0xD0 + number]) + _NOISE for number in range(8))


def absurd(format: str, what: str) -> UnreadableImage:  # noqa: A002
    """The error for a file of more parts than any picture needs."""
    return UnreadableImage(
        f"The {format} file is built to be slow, not to be looked at. Received: {what}"
    )


def read_jpeg(data: bytes, max_scans: int) -> tuple[int, int, int, int]:
    """Width, height, number of scans (counted to ``max_scans + 1`` at most), and the place of the end marker.

    Walks the markers as libjpeg does: by length outside scans, by search inside them (FF00 and RSTn are data).
    Several frame headers are an error to libjpeg; the largest is reported, so that none can hide another.
    Raises :class:`UnreadableImage` for a file without an end marker or made to be slow, ``struct.error`` for
    one that ends inside a frame header.
    """
    width = height = scans = segments = stray = 0
    position = 2
    while match := _NEXT_MARKER.search(data, position):
        marker = match.group()[-1]
        if not scans:
            stray += match.end() - position - 2
        position = match.end()
        if marker == _EOI:
            return width, height, scans, position - 2
        stated = int.from_bytes(data[position : position + 2], "big")
        length = 0 if marker in (_SOI, _TEM) else max(2, stated)
        if marker in _FRAME_MARKERS:
            frame_height, frame_width = struct.unpack_from(">HH", data, position + 3)
            width, height = max(width, frame_width), max(height, frame_height)
        if marker == _SOS:
            scans += 1
            if scans > max_scans:
                return width, height, scans, 0
        else:
            segments += 1
        if segments > MAX_SEGMENTS:
            raise absurd("JPEG", f"more than {MAX_SEGMENTS} segments")
        if stray > MAX_STRAY_BYTES:
            raise absurd("JPEG", f"more than {MAX_STRAY_BYTES} bytes between segments")
        position += length
    raise UnreadableImage(
        f"The JPEG file is truncated: it has no end marker. Send the whole file. Received: {len(data)} bytes"
    )


def scanned_pixels(data: bytes) -> int | None:
    """Pixels of a JPEG, times its scans at most if it is progressive; None: it begins in an unusual way.

    Anything in which libjpeg could see another header than this does is unusual. Raises ``struct.error`` for one that ends before.
    """
    position = 2
    for _ in range(_FEW_SEGMENTS):
        start, marker, length = struct.unpack_from(">BBH", data, position)
        if start != 0xFF or length < 2:
            return None
        if marker in _SEQUENTIAL or marker == _PROGRESSIVE:
            height, width = struct.unpack_from(">HH", data, position + 5)
            # To count takes longer than all else here, and scans of the other kind are few, or cost little each.
            return int(
                height * width * (data.count(bytes([0xFF, _SOS])) if marker == _PROGRESSIVE else 1)
            )
        if marker not in _USUAL_SEGMENTS:
            return None
        position += 2 + length
    return None


def lacks_data(data: bytes, end: int, image: Image.Image) -> bool:
    """Whether the decoded picture ``image`` is partly made up because its last scan stops early.

    Where data runs out before the end marker at ``end``, libjpeg goes on with middle grey and only warns,
    and Pillow does not pass the warning on. So a picture whose last pixel is about middle grey is decoded
    again with other bytes before the end marker: a whole picture does not look at them, a cut one changes.
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
    """Whether all pixels are equal, compared in bands so that no third copy of the picture exists."""
    bands = [
        (0, top, one.width, min(top + _BAND, one.height)) for top in range(0, one.height, _BAND)
    ]
    return all(
        np.array_equal(np.asarray(one.crop(band)), np.asarray(other.crop(band))) for band in bands
    )
