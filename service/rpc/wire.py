"""Checks of an encoded message before it is decoded.

An empty message within a message is 2 bytes, and about 100 when it is decoded: 100 MB of them would
take gigabytes, and the event loop for seconds. A valid request has few fields.

Source: the encoding of Protocol Buffers, protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service.api.json_body import max_json_bytes
from service.errors import MalformedRequest, RequestTooLarge
from service.settings import Settings

# Names, shapes and parameters, in addition to the images.
MAX_FIELDS = 1_000
# Numbers of 64 bits have at most this many bytes of 7.
MAX_VARINT = 10
RAW = "raw_input_contents"


def check(data: bytes, descriptor: Any, settings: Settings) -> None:
    """Check the size of an encoded message once it is decoded.

    Args:
        data: The message.
        descriptor: Of its class.
        settings: The limits.

    Raises:
        MalformedRequest: it has more fields than any valid one, or can't be read.
        RequestTooLarge: what is not `raw_input_contents` is larger than a body of JSON may be.
    """
    most, largest = MAX_FIELDS + settings.batch_files, max_json_bytes(settings.max_image_bytes)
    fields = raw = 0
    parts = [(memoryview(data), descriptor)]
    while parts:
        view, kind = parts.pop()
        for number, content in _fields(view):
            fields += 1
            if fields > most:
                raise _malformed(f"at most {most} fields", "more")
            field = kind.fields_by_number.get(number)
            if field is not None and field.message_type is not None:
                parts.append((content, field.message_type))
            elif field is not None and field.name == RAW:
                raw += len(content)
    if len(data) - raw > largest:
        raise RequestTooLarge(
            f"The message is too large. Expected at most {largest} bytes in addition to {RAW}; "
            f"send the images there. Received: {len(data) - raw}"
        )


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field.

    Raises:
        MalformedRequest: there is something else.
    """
    position = 0
    while position < len(view):
        tag, position = _varint(view, position)
        match tag & 7:
            case 0:
                _, end = _varint(view, position)
            case 1:
                end = position + 8
            case 2:
                size, position = _varint(view, position)
                end = position + size
            case 5:
                end = position + 4
            case other:
                raise _malformed("wire types 0, 1, 2 and 5", str(other))
        if end > len(view):
            raise _malformed("complete fields", f"{len(view) - position} of {end - position} bytes")
        yield tag >> 3, view[position:end]
        position = end


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """A number, and the position after it."""
    value = 0
    for index, byte in enumerate(view[position : position + MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise _malformed("complete numbers", "one without an end")


def _malformed(expected: str, received: str) -> MalformedRequest:
    return MalformedRequest(
        f"The message can't be read as Protocol Buffers. Expected {expected}. Received: {received}"
    )
