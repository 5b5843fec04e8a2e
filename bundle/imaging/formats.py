"""The six image formats: magic bytes, opening with Pillow, and a quick pixel count."""

from __future__ import annotations

import struct
from io import BytesIO

from PIL import Image

from bundle.errors import UnreadableImage
from bundle.imaging.jpeg import scanned_pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

_BMP_HEADERS = {struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124)}
_PNG_HEADER = b"\0\0\0\rIHDR"
# Text, of which a few bytes can inflate to a megabyte; a second header, which replaces the first.
_UNUSUAL_PNG_CHUNKS = (b"zTXt", b"iTXt", b"IHDR")


def sniff(data: bytes) -> str | None:
    """The format that the first bytes belong to, one of `FORMATS`; None for any other."""
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
    # Plain text can start with "BM" too, so the header size that follows must be one that BMP has.
    if data[:2] == b"BM" and data[14:18] in _BMP_HEADERS:
        return "BMP"
    return None


def open_image(data: bytes, kind: str) -> Image.Image:
    """Open a file of the format that `sniff` found: Pillow parses the header and decodes no pixel.

    Raises:
        UnreadableImage: A PNG does not start with its header.
        Exception: Pillow cannot parse the header; it raises many types.
    """
    if kind == "PNG" and not data.startswith(_PNG_HEADER, 8):
        raise UnreadableImage(f"A PNG file starts with its header, IHDR. Received: {data[8:16]!r}")
    return Image.open(BytesIO(data), formats=[kind])


def quick_pixels(data: bytes) -> int | None:
    """Pixels that decoding a file goes through, at most; None where that takes longer to find out.

    A progressive JPEG counts once for each scan. Takes microseconds, and for some formats 1 ns a
    byte. Never raises.
    """
    match sniff(data):
        case "JPEG":
            return scanned_pixels(data)
        case "PNG" if data.startswith(_PNG_HEADER, 8) and len(data) >= 24:
            if any(data.find(chunk, 16) >= 0 for chunk in _UNUSUAL_PNG_CHUNKS):
                return None
            return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
        case "WEBP" if size := webp_size(data):
            return size[0] * size[1]
    return None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that the header of a WebP file states; None for a header that is cut off.

    Pillow allocates the whole canvas when it opens a WebP file: limits need the size before that.
    """
    header = data[:30]
    if len(header) < 30:
        return None
    match header[12:16]:
        case b"VP8X":
            size = int.from_bytes(header[24:27], "little"), int.from_bytes(header[27:], "little")
            return size[0] + 1, size[1] + 1
        case b"VP8L":
            bits = int.from_bytes(header[21:25], "little")
            return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", header, 26)
            return width & 0x3FFF, height & 0x3FFF
    return None
