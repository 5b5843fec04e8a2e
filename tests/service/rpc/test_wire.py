"""Messages that are small, and would be large when they are decoded."""

from __future__ import annotations

from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from service.errors import MalformedRequest, RequestTooLarge, ServiceError
from service.rpc.wire import check
from service.settings import Settings
from tests.service.images import coloured
from tests.service.rpc.conftest import infer_request

INFER = service_pb2.ModelInferRequest.DESCRIPTOR
SETTINGS = Settings(max_image_bytes=30_000)  # 105,536 bytes of JSON


def number(value: int) -> bytes:
    """A number as the encoding has it."""
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def field(tag: int, content: bytes) -> bytes:
    return number(tag << 3 | 2) + number(len(content)) + content


def test_what_clients_send_passes() -> None:
    parameters = {f"key-{each}": {"int64_param": each} for each in range(50)}
    raw = service_pb2.ModelInferRequest(
        model_name="a", parameters=parameters, raw_input_contents=[bytes(1_000_000)]
    )
    for message in (infer_request(*[coloured()] * 64), raw, service_pb2.ModelInferRequest()):
        check(message.SerializeToString(), INFER, SETTINGS)


def test_all_wire_types_are_read() -> None:
    fixed = number(100 << 3 | 1) + bytes(8) + number(101 << 3 | 5) + bytes(4)

    check(fixed + number(102 << 3) + number(2**63), INFER, SETTINGS)


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (field(5, b"") * 2000, MalformedRequest, "1064 fields"),
        (field(7, b"") * 2000, MalformedRequest, "1064 fields"),
        (field(5, field(5, field(8, b"") * 2000)), MalformedRequest, "1064 fields"),
        (field(5, field(4, b"") * 2000), MalformedRequest, "1064 fields"),
        (field(5, field(3, b"\1" * 200_000)), RequestTooLarge, "105536 bytes"),
        (field(1, b"tiny-torch")[:-1], MalformedRequest, "9 of 10 bytes"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", MalformedRequest, "complete fields"),
        (b"\xff" * 11, MalformedRequest, "one without an end"),
        (b"\x0b", MalformedRequest, "wire types"),
    ],
    ids=[
        *("inputs", "raw contents", "files", "parameters", "shape", "cut", "length", "number"),
        "group",
    ],
)
def test_what_would_take_much_memory_or_cannot_be_read_is_refused(
    data: bytes, kind: type[ServiceError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        check(data, INFER, SETTINGS)


def test_the_limits_hold_for_every_message() -> None:
    load: Any = service_pb2.RepositoryModelLoadRequest.DESCRIPTOR

    with pytest.raises(MalformedRequest, match="1064 fields"):
        check(field(3, b"") * 2000, load, SETTINGS)
