"""The eight image formats: magic bytes, opening with Pillow, and a quick pixel count."""

from __future__ import annotations

import struct
from io import BytesIO

from PIL import Image

from bundle.errors import UnreadableImage
from bundle.imaging.jpeg import scanned_pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")
NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF"
SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".heic", ".heif", ".hif", ".avif"),
}
"""Of files that folders are searched for; what a file is, its first bytes say."""

_BMP_HEADERS = {struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124)}
# Brands in the first box of an ISO media file (ISO/IEC 23008-12, 10; AV1 Image File Format, 6).
_BRANDS = {
    "AVIF": {b"avif", b"avis"},
    "HEIF": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"},
}
# Bytes of that box that are looked at.
_MAX_BRANDS = 256
_PNG_HEADER = b"\0\0\0\rIHDR"
# A PNG that is quick to read has few chunks, of kinds without compressed data other than the
# pixels and one colour profile: each of those can inflate from some bytes to a megabyte.
_QUICK_PNG_CHUNKS = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP sBIT bKGD pHYs tIME eXIf tEXt".split()
)
_MAX_PNG_CHUNKS = 100
_ONCE = (b"IHDR", b"iCCP", b"eXIf")
# Lossless WebP may state a Huffman code for every few pixels, which takes memory and time.
_MAX_LOSSLESS_WEBP = 32 * 2**10


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
    return _sniff_brand(data) if data[4:8] == b"ftyp" else None


def _sniff_brand(data: bytes) -> str | None:
    """The format of an ISO media file by its brands, the major one first; a video has others."""
    box = data[: min(int.from_bytes(data[:4], "big"), _MAX_BRANDS)]
    brands = [box[8:12], *(box[start : start + 4] for start in range(16, len(box), 4))]
    found = (kind for brand in brands for kind, ours in _BRANDS.items() if brand in ours)
    return next(found, None)


def open_image(data: bytes, kind: str) -> Image.Image:
    """Open a file of the format that `sniff` found: Pillow parses the header and decodes no pixel.

    Raises:
        UnreadableImage: A PNG does not start with its header.
        Exception: Pillow cannot parse the header; it raises many types.
    """
    if kind == "PNG" and not data.startswith(_PNG_HEADER, 8):
        raise UnreadableImage(f"A PNG file starts with its header, IHDR. Received: {data[8:16]!r}")
    # On one thread, as each decoder is one of many; imported here, because of the processes of the
    # service only decoders need them.
    if kind == "HEIF":
        import pi_heif  # noqa: PLC0415

        pi_heif.options.DECODE_THREADS = 1
        pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = False
        pi_heif.options.AUX_IMAGES = False
        heif: Image.Image = pi_heif.HeifImageFile(BytesIO(data))
        return heif
    if kind == "AVIF":
        from PIL import AvifImagePlugin  # noqa: PLC0415

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return Image.open(BytesIO(data), formats=[kind])


def quick_pixels(data: bytes) -> int | None:
    """Pixels that decoding a file goes through, at most; None where that takes longer to find out.

    A progressive JPEG counts once for each scan. Takes microseconds, and for some formats 1 ns a
    byte. Never raises.
    """
    match sniff(data):
        case "JPEG":
            return scanned_pixels(data)
        case "PNG" if data.startswith(_PNG_HEADER, 8) and _has_quick_chunks(data):
            return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
        case "WEBP" if size := webp_size(data):
            lossy = data[12:16] == b"VP8 "
            return size[0] * size[1] if lossy or len(data) <= _MAX_LOSSLESS_WEBP else None
    return None


def _has_quick_chunks(data: bytes) -> bool:
    position, kinds = 8, list[bytes]()
    while position + 8 <= len(data) and len(kinds) <= _MAX_PNG_CHUNKS:
        kinds.append(data[position + 4 : position + 8])
        if kinds[-1] == b"IEND":
            break
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return (
        len(data) >= 24
        and len(kinds) <= _MAX_PNG_CHUNKS
        and _QUICK_PNG_CHUNKS.issuperset(kinds)
        and all(kinds.count(kind) <= 1 for kind in _ONCE)
    )


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
