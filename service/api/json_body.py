"""JSON request bodies: typed, bounded, and images in base64.

A document is decoded straight into its type, on the event loop: `msgspec` stops at the first value
that does not fit and skips unknown ones, so a hostile document takes no more memory than its size.
"""

from __future__ import annotations

import binascii
from typing import TypeVar

import msgspec

from service.errors import MalformedRequest

JSON = "application/json"
# Bytes of keys and small values, in addition to the images.
JSON_OVERHEAD = 65_536

T = TypeVar("T")


class ImageDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /predict as JSON: `{"image": "<base64>"}`."""

    image: str


def max_json_bytes(max_image_bytes: int) -> int:
    """The longest JSON body, in bytes: an image of the largest size in base64."""
    return 4 * -(-max_image_bytes // 3) + JSON_OVERHEAD


def decode_json(data: bytes | bytearray | memoryview, kind: type[T], expected: str) -> T:
    """A JSON document of this type.

    Args:
        data: The document.
        kind: A type that `msgspec` knows.
        expected: What to send, for the error.

    Raises:
        MalformedRequest: It is not JSON, or not of the type.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedRequest(
            f"The JSON body can't be read. Expected {expected}. "
            f"Received: {len(data)} bytes: {str(exc)[:300]}"
        ) from exc


def check_strings(data: bytes, most: int, expected: str) -> None:
    """Refuse a document of too many strings or objects before they take memory.

    Args:
        data: The document.
        most: Strings, keys included.
        expected: What to send, for the error.

    Raises:
        MalformedRequest: There are more.
    """
    found = max(data.count(b'"') // 2, data.count(b"{"))
    if found > most:
        raise MalformedRequest(
            f"The JSON body can't be read. Expected {expected}, of at most {most} strings. "
            f"Received: {found}"
        )


def from_base64(text: str, where: str) -> bytes:
    """The bytes of a base64 string (RFC 4648, 4), or of a `data:` URL with one (RFC 2397).

    Args:
        text: The string; line breaks and missing padding are accepted.
        where: Its place in the request, for the error.

    Raises:
        MalformedRequest: It is not base64, or empty.
    """
    encoded = text
    if text.startswith("data:"):
        head, comma, encoded = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise MalformedRequest(
                f"{where} is a data: URL without base64. Expected data:image/jpeg;base64,... "
                f"Received: {text[:40]!r}"
            )
    try:
        encoded = "".join(encoded.split()).rstrip("=")
        data = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True)
    except ValueError as exc:  # binascii.Error, or a character that is not ASCII
        raise MalformedRequest(
            f"{where} is not base64. Expected an image file in base64 (RFC 4648). "
            f"Received: {text[:40]!r}: {exc}"
        ) from exc
    if not data:
        raise MalformedRequest(f"{where} is empty. Expected an image file in base64.")
    return data
